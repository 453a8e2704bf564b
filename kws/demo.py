"""The whole chain on generated speech: data → training → int8 file → events in a stream.

Nothing is downloaded. The stream is spoken by synthesiser voices that were not trained on, so the
figure at the end is for new voices, though not for real ones.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.audio.files import write_wav
from kws.data.label_file import write_labels
from kws.data.noise import coloured_noise
from kws.data.split import split_of
from kws.data.streams.short_stream import lay_stream
from kws.data.synthesis.spoken_words import synthesise
from kws.data.synthesis.synth import render
from kws.data.synthesis.voices import random_utterance, voices
from kws.recipe import TrainingRecipe, load_recipe
from kws.recordings.matching import Matches, match_events
from kws.system.progress import Progress
from kws.wording import duration

SAMPLE_RATE_HZ = 16000
SECONDS_PER_WORD = 1.85
"""Mean length of a word and the pause before it."""
OTHER_WORDS = (
    "water", "seven", "house", "music", "table", "under", "yesterday", "story", "banana", "hello",
    "window", "garden", "paper", "monkey", "river", "yellow", "open", "coffee",
)  # fmt: skip
"""Everyday words that must not be taken for a keyword."""


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """The result of the demo."""

    matches: Matches
    """Words spoken and events, matched."""
    model: Path
    """The int8 file."""
    seconds: float
    """Time for everything, in s."""

    @property
    def detected_share(self) -> float:
        """Share of the spoken keywords that were detected."""
        return len(self.matches.hits) / max(1, self.matches.words)


def run_demo(folder: Path, *, seed: int = 1, minutes: float = 3.0) -> DemoResult:
    """Run the whole chain and leave everything in `folder`.

    Args:
        folder: for data, run, model, stream and pictures; made if necessary.
        seed: of everything random.
        minutes: approximate length of the stream.

    Raises:
        KwsError: a package is missing, or any step fails.
    """
    from kws.export.run import export_run
    from kws.report.timeline import plot_timeline
    from kws.spotter import Spotter
    from kws.train.run import run_training

    started = time.monotonic()
    recipe = load_recipe("demo")
    keywords = recipe.labels.keywords

    _say(started, f"1/5  synthesising {', '.join(keywords)} and other words in many voices")
    # A folder for each seed: clips of other seeds have other names and would add up.
    data = folder / f"data-seed{seed}"
    speak_clips(recipe, data, seed)
    _say(started, f"2/5  training {recipe.model.architecture} for {recipe.training.epochs} epochs")
    result = run_training(recipe, data, folder / "run")
    _say(
        started,
        f"     {100 * result.val_accuracy:.1f} % right on new voices, mean over the labels",
    )
    _say(started, "3/5  exporting one streaming int8 file")
    model = folder / "demo.tflite"
    report = export_run(folder / "run", model)
    _say(started, f"     {report.summary}")
    _say(started, f"4/5  synthesising a stream of about {minutes:g} minutes")
    stream, truth = speak_stream(keywords, minutes, seed + 1)
    write_wav(folder / "stream.wav", stream, SAMPLE_RATE_HZ)
    write_labels(folder / "stream.tsv", truth)

    _say(started, "5/5  listening")
    spotter = Spotter(model)
    before = time.monotonic()
    # Chunks as a sound card delivers them; their size makes no difference.
    events, posteriors = [], []
    for i in range(0, len(stream), 1600):
        events += spotter.feed(stream[i : i + 1600])
        posteriors.append(spotter.posteriors)
    speed = len(stream) / SAMPLE_RATE_HZ / (time.monotonic() - before)
    matches = match_events(truth, events, duration_s=len(stream) / SAMPLE_RATE_HZ)
    plot_timeline(
        stream,
        np.concatenate(posteriors),
        spotter.card,
        folder / "timeline.png",
        truth=truth,
        events=events,
        start_s=0.0,
        end_s=20.0,
    )
    _say(started, f"     {speed:,.0f} times faster than real time")
    return DemoResult(matches=matches, model=model, seconds=time.monotonic() - started)


def speak_clips(recipe: TrainingRecipe, folder: Path, seed: int) -> None:
    """Write the training data: <folder>/<word>/*.wav and three kinds of background noise."""
    keywords = recipe.labels.keywords
    counts = {True: 600, False: 120}
    total = counts[True] * len(keywords) + counts[False] * len(OTHER_WORDS)
    with Progress(total, "speaking", unit="clips") as progress:
        for words, is_keyword in ((keywords, True), (OTHER_WORDS, False)):
            synthesise(
                words,
                folder,
                clips_per_word=counts[is_keyword],
                seed=seed,
                clip_seconds=recipe.data.clip_ms / 1000,
                on_clip=progress.advance,
            )
    rng = np.random.default_rng(seed)
    for name, slope in (("white", 0.0), ("pink", 0.5), ("rumble", 1.0)):
        path = folder / "_background_noise_" / f"{name}.wav"
        write_wav(path, _noise(30, slope, rng), SAMPLE_RATE_HZ)


def speak_stream(
    keywords: tuple[str, ...], minutes: float, seed: int
) -> tuple[NDArray[np.int16], list]:
    """Synthesise keywords and other words, half and half, in voices that were not trained on."""
    rng = np.random.default_rng(seed)
    pool = [voice for voice in voices("en") if split_of(f"{voice.speaker}_nohash_0") != "training"]
    n = round(minutes * 60 / SECONDS_PER_WORD)
    said = [(keywords[i // 2 % len(keywords)] if i % 2 == 0 else None) for i in rng.permutation(n)]
    texts = [word or OTHER_WORDS[int(rng.integers(len(OTHER_WORDS)))] for word in said]
    clips = render([random_utterance(text, pool, rng) for text in texts])
    noise = _noise(60, 0.5, rng)
    return lay_stream(list(zip(said, clips, strict=True)), noise, seed=seed)


def _noise(seconds: int, slope: float, rng: np.random.Generator) -> NDArray[np.int16]:
    return np.rint(20000 * coloured_noise(seconds * SAMPLE_RATE_HZ, slope, rng)).astype(np.int16)


def table(matches: Matches) -> str:
    """Return a table of words and events, a line for each keyword."""
    lines = [f"{'keyword':<10}{'said':>6}{'detected':>10}{'missed':>8}{'wrong':>7}{'false':>7}"]
    for word, n in matches.per_keyword().items():
        counts = (n["words"], n["hits"], n["misses"], n["substitutions"], n["false_accepts"])
        lines.append(
            f"{word:<10}{counts[0]:>6}{counts[1]:>10}{counts[2]:>8}{counts[3]:>7}{counts[4]:>7}"
        )
    return "\n".join(lines)


def _say(started: float, message: str) -> None:
    print(f"[{duration(time.monotonic() - started):>8}] {message}", file=sys.stderr, flush=True)
