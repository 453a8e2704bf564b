"""The streams that a verdict measures on: their contents, and where the recordings are."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kws.audio.files import audio_seconds, write_wav
from kws.audio.samples import SAMPLE_RATE_HZ, Pcm
from kws.data.clips import ClipIndex, audio_in
from kws.data.fetch.catalog import dataset_names
from kws.data.noise import coloured_noise
from kws.data.noise_recordings import read_noise, split_noise
from kws.data.scan import scan
from kws.data.split import (
    SPLITS,
    SYNTHESISER,
    TESTING,
    TRAINING,
    VALIDATION,
    recording_speaker,
    speaker_of,
)
from kws.data.streams.long_stream import Built, StreamPlan, build_stream
from kws.data.streams.material import (
    Material,
    find_sentences,
    gather,
    other_clips,
)
from kws.data.synthesis.spoken_record import Spoken, read_spoken
from kws.data.transcripts import TRANSCRIPTS
from kws.errors import KwsError
from kws.labels import SILENCE, folded
from kws.recipe import TrainingRecipe
from kws.train.folders import (
    find_clips,
    find_folder,
    first_folder,
    folders_of_other_kinds,
)
from kws.verdict.advice import FEW_GENERATED

WORDS, TRAINED, CHOOSE, CHECK, NEAR = "words", "trained", "choose", "check", "near"
STREAMS = {
    WORDS: "words that were not trained on",
    TRAINED: "words that were trained on",
    CHOOSE: "other speech, to choose thresholds with",
    CHECK: "other speech, to count false accepts in",
    NEAR: "near-misses",
}
"""The streams and their contents. All but the first and the third may be missing."""
HELD_OUT = (VALIDATION, TESTING)
WORDS_PER_HOUR = 400.0
LEAST_WORDS = 100
"""How often each word is laid at least, its recordings equally often."""
LEAST_TIMES = 3
"""How often each recording that was not trained on is laid at least …"""
MOST_OF_A_WORD = 400
"""… up to this total for a word …"""
MOST_WORDS = 1200
"""… and this total for all words together."""
MOST_NEAR_MISSES = 200
FEWEST_NEAR_MISSES = 1000
"""Advice is to generate twice as many near-misses as there are, and at least this many."""
LEAST_SPEECH_MIN, MOST_SPEECH_MIN = 240, 6000
"""Limits of the running speech that advice is to generate; a tenth of it is measured on."""
PINK_NOISE_S = 60.0
"""Length of the noise that is generated if the data has none."""
_BYTES = 2
"""Bytes per sample."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """A recipe's recordings, and which of them can be used for measuring."""

    keywords: tuple[str, ...]
    """The keywords."""
    recorded: tuple[ClipIndex, ...]
    """Folders of clips spoken by people."""
    generated: tuple[ClipIndex, ...]
    """Folders of generated clips."""
    speech: tuple[Path, ...]
    """Folders of running speech with transcripts."""
    more_to: Path
    """The folder for more recordings."""
    to_fetch: tuple[str, ...] = ()
    """Known data sets that the recipe names and that are not there."""

    @classmethod
    def find(
        cls, recipe: TrainingRecipe, data_dir: Path | None, say: Callable[[str], None]
    ) -> Sources:
        """Find the recipe's folders as training does; `say` is called with remarks for the user.

        Raises:
            KwsError: a folder of clips is missing.
        """
        recorded, generated = find_clips(recipe, data_dir, say=say)
        found = [find_folder(name, data_dir) for name in recipe.data.speech]
        speech = [folder for folder in found if folder is not None]
        for folder in speech:
            if not (folder / TRANSCRIPTS).is_file():
                say(f"{folder} is left out: without {TRANSCRIPTS}, it may contain keywords")
        no_words = folders_of_other_kinds(recipe)
        return cls(
            keywords=recipe.labels.keywords,
            recorded=tuple(scan(folder).without(no_words) for folder in recorded),
            generated=tuple(scan(folder) for folder in generated),
            speech=tuple(folder for folder in speech if (folder / TRANSCRIPTS).is_file()),
            more_to=as_typed(first_folder(recipe, data_dir)),
            to_fetch=tuple(
                name
                for name in (*recipe.data.folders, *recipe.data.speech)
                if name in dataset_names() and find_folder(name, data_dir) is None
            ),
        )

    def clips(self, word: str, parts: Collection[str], *, generated: bool) -> tuple[Path, ...]:
        """Return the recorded or generated clips of a word in some parts."""
        return tuple(
            index.root / path
            for index in (self.generated if generated else self.recorded)
            for part in SPLITS
            if part in parts
            for path in index.select(split=part, words=[word]).paths
        )

    def held_out(self) -> dict[str, tuple[Path, ...]]:
        """Return the recordings of each word that were not trained on, or else generated clips.

        Words without such clips are left out.
        """
        found = {
            word: self.clips(word, HELD_OUT, generated=False)
            or self.clips(word, HELD_OUT, generated=True)
            for word in self.keywords
        }
        return {word: clips for word, clips in found.items() if clips}

    def trained(self) -> dict[str, tuple[Path, ...]]:
        """Return the recordings of each word that were trained on; leave out words without any."""
        found = {word: self.clips(word, [TRAINING], generated=False) for word in self.keywords}
        return {word: clips for word, clips in found.items() if clips}

    def near_misses(self) -> dict[str, tuple[Path, ...]]:
        """Return generated clips of other words, in voices that were not trained on."""
        taken = {SILENCE, *map(folded, self.keywords)}
        labels = {label for index in self.generated for label in index.labels}
        found = {
            label: self.clips(label, HELD_OUT, generated=True)
            for label in sorted(labels)
            if folded(label) not in taken
        }
        return {label: clips for label, clips in found.items() if clips}

    def more_near_misses(self, word: str) -> tuple[str, bool]:
        """Return the command that generates twice as many near-misses of a word as there are.

        It includes the other keywords that were generated in the same way, since a near-miss of one
        must not be another. There must be a folder of generated clips.

        Returns:
            The shell command, and whether it includes the language (older generated clips have no
            record of it).
        """
        label = f"not_{word}"
        index = max(self.generated, key=lambda one: (label in one.labels, word in one.labels))
        notes = read_spoken(index.root)
        how = notes.get(word)
        words = [word]
        if how is not None:
            alike = {w for w, other in notes.items() if replace(other, text=how.text) == how}
            words += [w for w in self.keywords if w != word and w in alike]
        counts = index.counts()
        most = max(counts.get(f"not_{w}", 0) for w in words)
        options = (
            *("--count", "0"),  # no clips of the words themselves, and no deleted ones again
            *("--near-misses", str(max(FEWEST_NEAR_MISSES, 2 * most))),
        )
        return _synth(index.root, words, notes, options)

    def more_clips(self, word: str) -> tuple[str, bool]:
        """Return the command that generates twice as many clips of a word as there are.

        Returns:
            As `more_near_misses`; nothing if no clip of it was generated.
        """
        index = next((one for one in self.generated if word in one.labels), None)
        if index is None:
            return "", True
        count = max(FEW_GENERATED, 2 * index.counts()[word])
        return _synth(index.root, [word], read_spoken(index.root), ("--count", str(count)))

    def more_speech(self) -> tuple[str, bool]:
        """Return the command that generates four times as much running speech as there is.

        Returns:
            As `more_near_misses`; nothing if the recipe's folders have no generated speech.
        """
        for folder in self.speech:
            paths = audio_in(folder)
            if not paths or not self.speaker(paths[0]).startswith(SYNTHESISER):
                continue
            minutes = sum(audio_seconds(path) or 0.0 for path in paths) / 60
            much = min(max(LEAST_SPEECH_MIN, round(4 * minutes)), MOST_SPEECH_MIN)
            notes = {
                word: how for one in self.generated for word, how in read_spoken(one.root).items()
            }
            return _synth(folder, self.keywords, notes, ("--speech", str(much)))
        return "", True

    def speaker(self, path: Path) -> str:
        """Return the speaker of a recording: by its folder in running speech, else by its name."""
        for folder in self.speech:
            if path.is_relative_to(folder):
                return recording_speaker(path.relative_to(folder).as_posix())
        return speaker_of(path.name)

    def other_speech(self, part: str, noise: Path | None) -> Material:
        """Return all speech of one part without the keywords, and noise.

        Args:
            part: ``"validation"`` or ``"testing"``.
            noise: a folder of noise to use instead of that beside the clips.
        """
        material = gather(
            self.recorded,
            self.keywords,
            commands=False,
            parts=[part],
            noise=noise,
        )
        return replace(material, sentences=self.sentences([part]))

    def sentences(self, parts: Collection[str]) -> tuple[Path, ...]:
        """Return the running speech of some parts that contains no keyword."""
        return tuple(
            path
            for folder in self.speech
            for path in find_sentences(folder, self.keywords, parts=parts)
        )

    def can_be_measured(self) -> bool:
        """Whether `plan_streams` finds keywords and other speech that were not trained on."""
        return bool(self.held_out()) and bool(
            other_clips(self.recorded, self.keywords, parts=HELD_OUT) or self.sentences(HELD_OUT)
        )


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A stream to build."""

    material: Material
    """Its recordings."""
    plan: StreamPlan
    """Length, rates and seed."""


def plan_streams(
    sources: Sources, folder: Path, *, hours: float, seed: int, say: Callable[[str], None]
) -> dict[str, Stream]:
    """Choose the contents of each stream of `STREAMS`.

    Args:
        sources: the recordings.
        folder: for generated noise, if there is none.
        hours: length of each of the streams without words; recordings are repeated as needed.
        seed: of the streams.
        say: called with remarks for the user.

    Raises:
        KwsError: no clip of any word was held out, there is no other speech, or the disk has too
            little space.
    """
    words = sources.held_out()
    if not words:
        raise KwsError(
            "No clip of a keyword was held out of training, so nothing can be measured. Received: "
            f"{', '.join(sources.keywords)}. Add clips of other speakers and train again"
        )
    noise = None
    if not any(_is_noise(pcm) for pcm in _noise(sources)):
        say("there is no _background_noise_ of at least 1 s: using pink noise")
        noise = folder / "noise"
        write_wav(noise / "pink.wav", _pink_noise(seed), SAMPLE_RATE_HZ)
    choose, check = (sources.other_speech(part, noise) for part in HELD_OUT)
    if not _speaks(choose):
        # Speakers of the testing part are better than none.
        choose, check = check, choose
    if not _speaks(choose):
        raise KwsError(
            "There is no other speech to measure false accepts on: apart from the keywords, the "
            "recipe's folders contain nothing by speakers that were not trained on. Add folders of "
            "other words to [data] clips, or of running speech to [data] speech"
        )
    trained, near = sources.trained(), sources.near_misses()
    planned = {WORDS: (replace(choose, words=words), _word_hours(words, LEAST_TIMES))}
    if trained:
        planned[TRAINED] = (replace(choose, words=trained), _word_hours(trained, 1))
    planned[CHOOSE] = (choose, hours)
    if _speaks(check):
        planned[CHECK] = (check, hours)
    if near:
        many = min(MOST_NEAR_MISSES, sum(map(len, near.values())))
        planned[NEAR] = (replace(choose, words=near), many / WORDS_PER_HOUR)
    streams = {
        name: Stream(
            material=material, plan=_plan(material, length, seed + list(STREAMS).index(name))
        )
        for name, (material, length) in planned.items()
    }
    _check_room(streams, folder)
    return streams


def build_streams(
    streams: Mapping[str, Stream], folder: Path, say: Callable[[str], None]
) -> dict[str, Built]:
    """Write each stream as ``<name>.wav``."""
    built = {}
    for name, stream in streams.items():
        say(f"building {60 * stream.plan.hours:.0f} minutes of {STREAMS[name]}")
        built[name] = build_stream(
            stream.material,
            stream.plan,
            folder / f"{name}.wav",
            folder / f"{name}.tsv",
            progress=True,
        )
    return built


def _speaks(material: Material) -> bool:
    return bool(material.sentences or material.others)


def _noise(sources: Sources) -> list[Pcm]:
    """Return the noise that came with the clips and was not trained on."""
    recordings = [pcm for index in sources.recorded for pcm in read_noise(index)]
    return split_noise(recordings)[1]


def _is_noise(pcm: Pcm) -> bool:
    return len(pcm) >= SAMPLE_RATE_HZ and bool(pcm.any())


def _word_hours(words: Mapping[str, tuple[Path, ...]], times: int) -> float:
    """Return the length of a stream with every clip `times` times, within the limits, in h."""
    most = max(len(paths) for paths in words.values())
    of_a_word = max(LEAST_WORDS, min(most * times, MOST_OF_A_WORD))
    return min(len(words) * of_a_word, MOST_WORDS) / WORDS_PER_HOUR


def _plan(material: Material, hours: float, seed: int) -> StreamPlan:
    return StreamPlan(
        hours=hours,
        words_per_hour=WORDS_PER_HOUR if material.words else 0.0,
        others_per_hour=StreamPlan.others_per_hour if material.others else 0.0,
        speech=StreamPlan.speech if material.sentences else 0.0,
        seed=seed,
    )


def _check_room(streams: Mapping[str, Stream], folder: Path) -> None:
    needed = _BYTES * sum(stream.plan.samples for stream in streams.values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise KwsError(
            f"The streams need {needed / 1e9:.1f} GB in {folder.parent}. Received: "
            f"{free / 1e9:.1f} GB free. Set TMPDIR to a folder with more space, or give fewer "
            "--hours"
        )


def _pink_noise(seed: int) -> Pcm:
    """Noise whose power falls with frequency, as that of most rooms: int16 [n]."""
    n = round(PINK_NOISE_S * SAMPLE_RATE_HZ)
    rng = np.random.default_rng(seed)
    return (16000 * coloured_noise(n, 0.5, rng, lowest_hz=1 / PINK_NOISE_S)).astype(np.int16)


def _synth(
    root: Path, words: Sequence[str], notes: Mapping[str, Spoken], options: Sequence[str]
) -> tuple[str, bool]:
    """Return a command that speaks as before, and whether it includes the language.

    Args:
        root: the folder to add to.
        words: what to say, or with --speech to avoid; the first one's languages are used.
        notes: how words were spoken before.
        options: what to make.
    """
    said = [f"{w}={notes[w].text}" if w in notes and notes[w].text != w else w for w in words]
    command = ["kws", "data", "synth", *said, *options, "--to", str(as_typed(root))]
    how = notes.get(words[0])
    if how is not None:
        command += [part for code in how.languages for part in ("-l", code)]
        if "--speech" not in options:
            # As long as the words, or clips could be told apart by their length.
            command += ["--seconds", f"{how.seconds:g}"]
        command += ["--seed", str(how.seed)] if how.seed else []
    return shlex.join(command), how is not None


def as_typed(path: Path) -> Path:
    """Return a path as a user would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
