"""Synthesised sentences without the keywords, as examples of "something else".

They are stored like recordings of people: ``<speaker>/<recording>.wav`` and ``transcripts.tsv``
(`kws.data.speech_windows.cut_speech`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kws.audio.samples import SAMPLE_RATE_HZ
from kws.data.forbidden import Forbidden
from kws.data.synthesis.espeak import Voice
from kws.data.synthesis.near_misses import Phrase, too_alike
from kws.data.synthesis.nonsense import nonsense_word
from kws.data.synthesis.phonemes import sounds_of
from kws.data.synthesis.rooms import Rooms
from kws.data.synthesis.spoken_clips import Cast, PlannedClip, labelled_texts, write_sentences
from kws.data.synthesis.synth import check_sayable, transcribe
from kws.data.synthesis.voices import random_utterance
from kws.data.transcripts import TRANSCRIPTS, read_transcripts
from kws.errors import KwsError
from kws.system.files import atomic_write

SENTENCE_S = (3.0, 8.0)
"""Shortest and longest sentence."""

_WANTED_S = (4.0, 6.2)
"""Planned length of sentences; voices differ in their real speed."""
_SOUNDS_PER_S_AND_WPM = 0.063
"""Phonemes per second for each word per minute of espeak-ng's speed."""
_COMMA_SHARE = 0.15
_TRIES = 200
_AT_A_TIME = 400
"""Sentences planned before they are spoken."""


def synthesise_speech(
    out_dir: str | os.PathLike[str],
    minutes: float,
    *,
    text: str | os.PathLike[str] | None = None,
    avoid: Sequence[str] = (),
    languages: str | Sequence[str] = "en",
    seed: int = 0,
    rooms: Rooms | None = None,
    workers: int | None = None,
    on_speech: Callable[[float], None] | None = None,
) -> list[Path]:
    """Write ``<out_dir>/<speaker>/<n>.wav``, sentences of 3 to 8 s, and ``transcripts.tsv``.

    Without `text`, they consist of nonsense words, spelt and pronounced by the rules of the
    language. Pitch, speed, pauses, level and room vary between sentences. Rows of the table about
    other recordings are kept.

    Args:
        out_dir: created if missing.
        minutes: length to write; the last sentence may exceed it.
        text: a UTF-8 file whose lines are spoken instead, in random order, repeated as needed.
        avoid: words that are never spoken, nor anything that sounds like them, as for
            `kws.data.synthesis.spoken_words.synthesise`.
        languages: as for `kws.data.synthesis.voices.voices`.
        seed: another seed gives other sentences.
        rooms: as for `kws.data.synthesis.spoken_clips.write_clips`.
        workers: as for `kws.data.synthesis.synth.render`.
        on_speech: called with the length of each written recording, in s.

    Returns:
        The recordings.

    Raises:
        KwsError: `minutes` is out of range; the language's script is not known; the text cannot be
            read, or each of its lines contains a word to avoid; or as
            `kws.data.synthesis.spoken_words.synthesise`.
    """
    if not 0 < minutes <= 6000:
        raise KwsError(f"The minutes must be above 0 and at most 6000. Received: {minutes}")
    root = Path(out_dir)
    targets = list(labelled_texts(avoid).values()) if avoid else []
    cast = Cast(languages, seed, whispers=True)
    reader = None if text is None else _read_aloud(Path(text), cast, seed, targets)
    paths: list[Path] = []
    spoken: dict[str, str] = {}
    seconds, planned = 0.0, 0

    def note(clip: PlannedClip, samples: int) -> None:
        nonlocal seconds
        seconds += samples / SAMPLE_RATE_HZ
        spoken[clip.path.relative_to(root).with_suffix("").as_posix()] = clip.utterance.text
        if on_speech is not None:
            on_speech(samples / SAMPLE_RATE_HZ)

    try:
        while seconds < 60 * minutes:
            # Rather too few than too many: their length is known only once they are spoken.
            missing = (60 * minutes - seconds) / (SENTENCE_S[1] - 1)
            more = max(1, min(_AT_A_TIME, int(missing)))
            plan = [
                _sentence(root, number, cast, seed, reader, targets)
                for number in range(planned, planned + more)
            ]
            planned += more
            paths += write_sentences(plan, SENTENCE_S, rooms=rooms, workers=workers, on_clip=note)
    finally:
        if spoken:
            _note(root / TRANSCRIPTS, spoken)
    return paths


def _sentence(
    root: Path,
    number: int,
    cast: Cast,
    seed: int,
    reader: Iterator[str] | None,
    targets: Sequence[str],
) -> PlannedClip:
    rng = np.random.default_rng([seed, zlib.crc32(b"speech"), number])
    name, accents = cast.turn(number)
    drawn = random_utterance("", accents, rng, varied=True)
    voice = replace(drawn.voice, variant="")
    wanted = round(rng.uniform(*_WANTED_S) * _SOUNDS_PER_S_AND_WPM * drawn.rate_wpm)
    for _ in range(_TRIES):
        if reader is None:
            said = _nonsense(voice, wanted, targets, rng)
        else:
            said = _read(reader, voice, wanted)
        if not _holds(said, voice, targets):
            break
    else:
        raise KwsError(
            f"No sentence without {', '.join(targets)} or a similar-sounding word. Received: "
            f"{_TRIES} sentences with it in {voice.language}. Give another text, or a longer word"
        )
    speaker, _, count = name.removesuffix(".wav").partition("_nohash_")
    return PlannedClip(
        path=root / speaker / f"{int(count):04d}.wav",
        utterance=replace(drawn, text=said),
        rng=rng,
    )


def _nonsense(voice: Voice, wanted: int, targets: Sequence[str], rng: np.random.Generator) -> str:
    words: list[str] = []
    sounds = 0
    while sounds < wanted:
        word = nonsense_word(voice, rng)
        # Neighbouring words may also sound like a keyword together.
        if _holds(" ".join([*words[-2:], word]), voice, targets):
            continue
        sounds += _count(word, voice)
        words.append(word + ("," if rng.random() < _COMMA_SHARE else ""))
    return " ".join(words).rstrip(",")


def _read(reader: Iterator[str], voice: Voice, wanted: int) -> str:
    words: list[str] = []
    sounds = 0
    while sounds < wanted:
        words.append(next(reader))
        sounds += _count(words[-1], voice)
    return " ".join(words)


def _read_aloud(path: Path, cast: Cast, seed: int, targets: Sequence[str]) -> Iterator[str]:
    """Yield the words of a text endlessly, its lines in a new order each time.

    Lines that spell out a target are left out, or a short text would contain it in every sentence.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not UTF-8 text: {error}"
        raise KwsError(f"The text {path} cannot be read. Received: {reason}") from error
    # Brackets would be read as phonemes.
    lines = [re.sub(r"[\[\]\t]", " ", line).split() for line in content.splitlines()]
    lines = [line for line in lines if any(c.isalnum() for word in line for c in word)]
    if not lines:
        raise KwsError(f"The text {path} contains no words. Received: no line with a letter")
    spelled = _spelled(targets)
    lines = [line for line in lines if not spelled.among(" ".join(line))]
    if not lines:
        raise KwsError(
            f"No line of the text is free of {', '.join(targets)}. Received: {path}. Give a longer "
            f"text"
        )
    for line in lines:
        check_sayable(" ".join(line), english=cast.english)

    def words() -> Iterator[str]:
        rng = np.random.default_rng([seed, zlib.crc32(b"text")])
        while True:
            for at in rng.permutation(len(lines)):
                yield from lines[at]

    return words()


@functools.lru_cache(maxsize=65536)
def _count(text: str, voice: Voice) -> int:
    """Return the phonemes in a text, at least 1, so that a text of dashes ends."""
    return max(1, sum(map(len, transcribe(text, voice))))


def _spelled(targets: Sequence[str]) -> Forbidden:
    """Return a matcher for the targets that are spellings, not phonemes (``[[h@l'oU]]``)."""
    return Forbidden(target for target in targets if "[[" not in target)


def _holds(text: str, voice: Voice, targets: Sequence[str]) -> bool:
    """Whether a text contains one of the targets or something that sounds like it."""
    if _spelled(targets).among(text):
        return True
    phrases = [phrase for target in targets if (phrase := _target(target, voice)) is not None]
    # A text that is read by another language's rules is only checked by its spelling.
    with contextlib.suppress(KwsError):
        said = tuple(sounds_of(text, voice))
        return any(too_alike(said, phrase, voice) for phrase in phrases)
    return False


@functools.lru_cache(maxsize=1024)
def _target(text: str, voice: Voice) -> Phrase | None:
    try:
        return tuple(sounds_of(text, voice))
    except KwsError:
        return None


def _note(table: Path, spoken: dict[str, str]) -> None:
    rows = (read_transcripts(table) if table.is_file() else {}) | spoken
    with atomic_write(table, "w") as file:
        file.write("utterance\ttranscript\n")
        file.writelines(f"{name}\t{rows[name]}\n" for name in sorted(rows))
