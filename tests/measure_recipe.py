"""Accuracy of networks on the material that recipes are judged by, as a table; run by hand.

    python tests/measure_recipe.py DATA RUN [RUN ...]

DATA holds ``speech_commands/``; a RUN is a folder written by `kws train`, with the labels of
`commands_en`. The networks are those of training, in float32. Columns, all in %:

- validation: right answers on the official validation clips and 260 cuts of background; then on
  the ten words, other words and background separately;
- unheard: rejected clips of the words that `commands_en` leaves out of training, by all speakers;
- elsewhere: validation clips as they might sound elsewhere, twice each: half of them in a simulated
  room, with another speed and microphone, held-out noise 5 to 25 dB below the speech, at -40 to -15
  dBFS; then only the ten words, and the unheard words.

None of it is by a speaker of the testing part.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.data.arrays import load_good_clips
from kws.data.clips import NOISE_FOLDER
from kws.data.noise_recordings import read_held_out
from kws.data.scan import scan
from kws.data.synthesis.rooms import Rooms
from kws.labels import SILENCE, UNKNOWN
from kws.recipe import TrainingRecipe, load_recipe
from kws.train.dataset import load_training_data
from kws.train.trained import load_run

COLUMNS = (
    *("run", "parameters", "validation", "words", "others", "silence", "unheard"),
    *("elsewhere", "words", "unheard"),
)


@dataclass(frozen=True, kw_only=True)
class Clips:
    """Clips with their labels."""

    pcm: NDArray[np.int16]
    """[n, samples]."""
    labels: NDArray[np.int32]
    """[n]."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """All clips that the networks are measured on."""

    validation: Clips
    unheard: Clips
    elsewhere: Clips
    unheard_elsewhere: Clips


def gather(recipe: TrainingRecipe, data: Path) -> Material:
    """Load the clips and make their versions for elsewhere."""
    loaded = load_training_data(recipe, data).validation
    validation = Clips(pcm=np.asarray(loaded.pcm), labels=loaded.labels)
    index = scan(data / "speech_commands").select(words=recipe.data.unheard)
    pcm, _, _ = load_good_clips(index.root, index.paths, recipe.clip_samples)
    unknown = recipe.labels.index_of(UNKNOWN)
    unheard = Clips(pcm=np.asarray(pcm), labels=np.full(len(pcm), unknown, np.int32))
    spoken = validation.labels != recipe.labels.index_of(SILENCE)
    away = Elsewhere(data)
    return Material(
        validation=validation,
        unheard=unheard,
        elsewhere=Clips(
            pcm=np.stack([away.hear(clip) for _ in range(2) for clip in validation.pcm[spoken]]),
            labels=np.tile(validation.labels[spoken], 2),
        ),
        unheard_elsewhere=Clips(
            pcm=np.stack([away.hear(clip) for clip in unheard.pcm]), labels=unheard.labels
        ),
    )


class Elsewhere:
    """Another room, speaker, microphone, noise and level for each clip; always the same ones."""

    def __init__(self, data: Path) -> None:
        recordings = sorted((data / "speech_commands" / NOISE_FOLDER).glob("*.wav"))
        self.noise = np.concatenate(read_held_out(recordings)).astype(np.float64)
        self.rng = np.random.default_rng(5)
        self.rooms = Rooms(share=0.5, count=60, seed=991)

    def hear(self, clip: NDArray[np.int16]) -> NDArray[np.int16]:
        """int16 [samples] → the same."""
        n, rng = len(clip), self.rng
        sound = self.rooms.record(clip, rng)[:n]
        speed = np.exp(rng.uniform(-0.12, 0.12))
        at = (np.arange(n) - n / 2) * speed + n / 2 + rng.uniform(-1200, 1200)
        sound = np.interp(at, np.arange(n), sound, left=0, right=0)
        sound = self._microphone(sound)
        start = int(rng.integers(len(self.noise) - n))
        noise = self.noise[start : start + n]
        sound = sound + noise * (_rms(sound) / _rms(noise) * _gain(-rng.uniform(5, 25)))
        sound *= 32768 * _gain(rng.uniform(-40, -15)) / _rms(sound)
        return np.clip(np.rint(sound), -32768, 32767).astype(np.int16)

    def _microphone(self, sound: NDArray[np.float64]) -> NDArray[np.float64]:
        """Apply a smooth response over the mel scale, and for half of the clips less bass."""
        spectrum = np.fft.rfft(sound)
        hz = np.linspace(0, 8000, len(spectrum))
        mel = np.log1p(hz / 700) / np.log1p(8000 / 700)
        curves = [self.rng.normal(0, 4) * np.cos(np.pi * k * mel) for k in range(1, 5)]
        response_db = np.sum(curves, axis=0)
        if self.rng.random() < 0.5:
            corner_hz = self.rng.uniform(100, 400)
            response_db -= 12 * np.log2(np.maximum(1, corner_hz / np.maximum(hz, 20)))
        return np.fft.irfft(spectrum * _gain(response_db), len(sound))


def _rms(sound: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(sound**2))) + 1e-9


def _gain(decibels: Any) -> Any:
    return 10 ** (decibels / 20)


def measure(folder: str, recipe: TrainingRecipe, material: Material) -> list[str]:
    """Return a row of the table."""
    import keras

    from kws.train.validation import posteriors_of
    from kws.train.weights import load_network_weights

    run = load_run(folder)
    network = run.recipe.build_network(keras)
    load_network_weights(network, run.weights)

    def right(clips: Clips) -> NDArray[np.bool_]:
        return posteriors_of(network, run.features(clips.pcm)).argmax(axis=1) == clips.labels

    unknown, silence = (recipe.labels.index_of(label) for label in (UNKNOWN, SILENCE))
    labels, validation = material.validation.labels, right(material.validation)
    words = ~np.isin(labels, [unknown, silence])
    elsewhere = right(material.elsewhere)
    figures = [
        validation,
        *(validation[which] for which in (words, labels == unknown, labels == silence)),
        right(material.unheard),
        *(elsewhere, elsewhere[material.elsewhere.labels != unknown]),
        right(material.unheard_elsewhere),
    ]
    return [
        Path(folder).name,
        f"{network.count_params():,}",
        *(f"{100 * figure.mean():.1f}" for figure in figures),
    ]


def main(data: str, *runs: str) -> None:
    """Print the table."""
    recipe = load_recipe("commands_en")
    material = gather(recipe, Path(data))
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---|" + "---:|" * (len(COLUMNS) - 1))
    for run in runs:
        print("| " + " | ".join(measure(run, recipe, material)) + " |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit((__doc__ or "").split("\n\n")[1].strip())
    main(*sys.argv[1:])
