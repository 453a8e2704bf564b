"""Speech from espeak-ng: clips of any word in many voices, for a first model or for tests.

Generated voices are no substitute for people. They share one synthesiser's idea of every sound, so
a model trained on them alone looks better on more of them than it will on anybody real.

The library and its voices come as a wheel (`espeakng-loader`, extra ``synth``) and are called
through ctypes; no program and no system package is needed. espeak-ng is C code with global state.
One object owns it in each process, calls are serialised, and work is spread over processes.

The synthesiser remembers one thing from one utterance to the next: where in its table of pitch
flutter it stopped. `speak` therefore varies by a hair from call to call, as a person does. `render`
and `synthesise` speak in fresh processes, in portions that depend on the list alone, and repeat
exactly on any number of cores.

Source of the calls and their constants: espeak-ng 1.52, ``speak_lib.h``.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import json
import math
import os
import queue
import re
import struct
import subprocess
import sys
import tempfile
import threading
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from kws.audio.files import SAMPLE_RATE_HZ, write_wav
from kws.data.own_words import check_word
from kws.data.phoneme_tables import Types, read_tables, table_of, unknown_in
from kws.data.rooms import Rooms
from kws.errors import KwsError, require
from kws.processes import start_worker, usable_cores

# Numbers of speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_PHONEMES = 0x100
_IPA = 2
# Stands between the phonemes of a transcription; no phoneme has it in its name.
_BREAK = "\x01"
_RATE, _VOLUME, _PITCH, _RANGE, _WORD_GAP = 1, 2, 3, 4, 7
# Several variants clip at the default volume of 100; every clip gets its own level afterwards.
_QUIET_VOLUME = 50
# Faster than this, espeak-ng drops sounds instead of shortening them.
_FASTEST_WPM = 320
# espeak-ng keeps the folder of its data in a buffer of 160 bytes and appends names to it.
_LONGEST_DATA_PATH = 120
_FADE_SAMPLES = SAMPLE_RATE_HZ // 50
_SHORTEST_S, _LONGEST_S = 0.2, 60.0
# Of a clip that is as long as its word needs.
_MARGIN_S = 0.1
# Before and after a sentence, together, in samples.
_AROUND_SENTENCE = SAMPLE_RATE_HZ * 3 // 10
# So many utterances of a word are spoken to find the length of clips.
_MEASURED = 24
# Pitch, its range and words a minute, each from, to (exclusive), as voices and people vary usually
# and at most: the monotone and the lively, who takes time and who is in a hurry.
_USUAL = ((25, 76), (25, 86), (115, 211))
_VARIED = ((15, 90), (5, 100), (100, 241))
# Fresh processes speak this many utterances each: few enough to spread, enough to pay the start.
_PORTION = 200
_WORKER = "from kws.data.synth import _serve; _serve()"

# Variants that are effects (robots, whispers, a choir in a hall) and not somebody's voice.
_EFFECTS = re.compile(
    r"^(demonic|marco|unirobot|anikarobot|announcer|fast|robosoft\d*|tweaky|whisperf?)$"
)
# People do whisper, now and then.
_WHISPERS = frozenset({"whisper", "whisperf"})
# en-Shaw reads the Shavian alphabet only.
_OTHER_SCRIPTS = frozenset({"en-shaw"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Voice:
    """One way to speak: an accent and a throat."""

    language: str
    """espeak-ng's code of the language or accent, for example ``"en-gb-scotland"``."""
    variant: str
    """File name of the variant (the throat), for example ``"f2"``; empty for the plain voice."""
    identifier: str
    """espeak-ng's own path of the language, for example ``"gmw/en-GB-scotland"``."""

    @property
    def name(self) -> str:
        """``"en-gb-scotland+f2"``, as `speak` takes it."""
        return f"{self.language}+{self.variant}" if self.variant else self.language

    @property
    def speaker(self) -> str:
        """Who speaks, for file names. Only the throat counts: accents of one throat are one person,
        so that a split by speaker never hears the same formants on both sides.
        """
        return "espeak-" + re.sub(r"[^a-z0-9]+", "-", self.variant.lower() or "plain")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Utterance:
    """What to say and how."""

    text: str
    """Text in the voice's language; ``[[h@l'oU]]`` is read as espeak-ng phonemes."""
    voice: Voice
    """Who says it."""
    pitch: int = 50
    """Base pitch, 0–99; 50 is the voice's own."""
    pitch_range: int = 50
    """How far the pitch moves, 0–99; 0 is monotone."""
    rate_wpm: int = 165
    """Speed in words a minute, 80–320."""
    word_gap_ms: int = 0
    """Pause between words, beyond what the speed gives, 0–500 ms."""
    longest_samples: int | None = None
    """Speak faster where needed to stay within this many samples at 16 kHz; `None`: no limit."""


def voices(
    languages: str | Sequence[str] = "en", *, effects: bool = False, whispers: bool = False
) -> list[Voice]:
    """The voices for some languages: every accent with every variant, in a fixed order.

    Args:
        languages: codes such as ``"de"``, ``"en"`` (all English accents) or ``["en-us", "en-gb"]``.
        effects: include whispers, robots and the like.
        whispers: include whispers.

    Raises:
        KwsError: no voice for a language, or espeak-ng is missing.

    Example:
        >>> [voice.name for voice in voices("en-us")][:2]
        ['en-us', 'en-us+Alex']
    """
    engine = _engine()
    variants = ["", *engine.variants]
    if not effects:
        variants = [
            name
            for name in variants
            if not _EFFECTS.match(name.lower()) or (whispers and name.lower() in _WHISPERS)
        ]
    found: dict[str, str] = {}
    for wanted in [languages] if isinstance(languages, str) else languages:
        code = wanted.strip().lower()
        matches = {
            codes[0]: identifier
            for identifier, codes in engine.languages.items()
            if code in codes or codes[0].startswith(code + "-")
        }
        if len(matches) > 1:
            matches = {key: value for key, value in matches.items() if key not in _OTHER_SCRIPTS}
        if not code or not matches:
            codes = {codes[0].split("-")[0] for codes in engine.languages.values()}
            known = ", ".join(sorted(codes))
            raise KwsError(
                f"No voice speaks the language. Received: {wanted!r}. Choose one of: {known}"
            )
        found.update(matches)
    return [
        Voice(language=language, variant=variant, identifier=identifier)
        for language, identifier in sorted(found.items())
        for variant in variants
    ]


def find_voice(name: str) -> Voice:
    """The voice called ``"en-us"`` or ``"en-us+f2"``.

    Raises:
        KwsError: no such language or variant.
    """
    language, _, variant = name.partition("+")
    candidates = voices(language, effects=True)
    # "en" alone means several accents; take the exact code where there is one.
    exact = [v for v in candidates if v.language == language.strip().lower()] or candidates
    for voice in exact:
        if voice.variant.lower() == variant.strip().lower():
            return voice
    known = ", ".join(v.variant for v in exact[1:] if v.language == exact[0].language)
    raise KwsError(f"No such variant of the voice. Received: {name!r}. Choose one of: {known}")


def languages() -> list[str]:
    """The codes of all languages and accents, sorted."""
    return sorted(codes[0] for codes in _engine().languages.values())


def phoneme_types(voice: Voice) -> Types:
    """Mnemonic → type (espeak-ng's ``phoneme.h``) of all phonemes of the voice's language."""
    return _engine().phoneme_types(voice)


def check_phonemes(text: str, voice: Voice) -> None:
    """Refuse ``[[phonemes]]`` that the voice's language does not have.

    espeak-ng passes over them without a word.

    Raises:
        KwsError: names where they begin.
    """
    for phonemes in re.findall(r"\[\[(.*?)\]\]", text):
        if rest := unknown_in(phonemes, phoneme_types(voice)):
            raise KwsError(
                f"{voice.language} has no phoneme at {rest!r}. Received: {text!r}. "
                f"Choose another one, or its --language"
            )


def transcribe(text: str, voice: Voice, *, ipa: bool = False) -> list[list[str]]:
    """The phonemes of each word of a text, as espeak-ng's mnemonics or in letters of the IPA.

    Stress stands before a phoneme (``"'u:"``). A language that leaves a word to another one's
    rules says so: ``"(en)"``.

    Raises:
        KwsError: no such voice.
    """
    return _engine().transcribe(text, voice, ipa=ipa)


def speak(
    text: str,
    voice: Voice | str = "en-us",
    *,
    pitch: int = 50,
    pitch_range: int = 50,
    rate_wpm: int = 165,
    longest_samples: int | None = None,
) -> NDArray[np.int16]:
    """Speak a text in this process.

    Args:
        text: see `Utterance`, as for the other arguments.
        voice: a `Voice`, or a name such as ``"en-us+m3"``.

    Returns:
        int16 [n] at 16 kHz, mono, without the silence before and after, peak as the voice has it.

    Raises:
        KwsError: nothing in the text can be said, a setting is out of range, the text does not fit
            into `longest_samples`, or espeak-ng is missing.
    """
    utterance = Utterance(
        text=text,
        voice=find_voice(voice) if isinstance(voice, str) else voice,
        pitch=pitch,
        pitch_range=pitch_range,
        rate_wpm=rate_wpm,
        longest_samples=longest_samples,
    )
    return _speak(utterance)


def render(
    utterances: Sequence[Utterance],
    *,
    workers: int | None = None,
    on_clip: Callable[[], None] | None = None,
) -> list[NDArray[np.int16]]:
    """Speak many utterances on several cores; the same list gives the same samples every time.

    Args:
        utterances: what to say.
        workers: processes at a time; `None` takes one for each core. Does not change the samples.
        on_clip: called after each utterance, from the caller's thread.

    Returns:
        One int16 [n] array at 16 kHz for each utterance, in their order, as `speak` gives them.

    Raises:
        KwsError: as `speak`; the first fault ends the work.
    """
    spoken: dict[int, NDArray[np.int16]] = {}
    for index, pcm in _render_each(utterances, workers):
        spoken[index] = pcm
        if on_clip is not None:
            on_clip()
    return [spoken[index] for index in range(len(utterances))]


def random_utterance(
    text: str,
    pool: Sequence[Voice],
    rng: np.random.Generator,
    *,
    varied: bool = False,
    longest_samples: int | None = None,
) -> Utterance:
    """Draw a voice of `pool`, a pitch, its range and a speed, all within what people do.

    With `varied` they go as far as people ever do, and words have pauses between them, mostly
    short ones. Then lengths, not speeds, are equally likely: a word said by itself is more often
    slow than fast, and of "computer" it was the slow ones that were missed.
    """
    pitch, pitch_range, (slowest, fastest) = _VARIED if varied else _USUAL

    def draw_rate() -> float:
        if varied:
            return 1 / float(rng.uniform(1 / fastest, 1 / slowest))
        return float(rng.integers(slowest, fastest))

    voice, height = pool[int(rng.integers(len(pool)))], int(rng.integers(*pitch))
    return Utterance(
        text=text,
        voice=voice,
        pitch=height,
        # Below zero Hz, where a wide range leads a deep voice, espeak-ng crashes.
        pitch_range=min(int(rng.integers(*pitch_range)), 2 * height + 25),
        rate_wpm=int(draw_rate()),
        word_gap_ms=min(250, int(rng.exponential(40))) if varied else 0,
        longest_samples=longest_samples,
    )


def synthesise(
    words: Sequence[str] | Mapping[str, str],
    out_dir: str | os.PathLike[str],
    *,
    clips_per_word: int = 100,
    languages: str | Sequence[str] = "en",
    seed: int = 0,
    clip_seconds: float | None = None,
    varied: bool = False,
    rooms: Rooms | None = None,
    workers: int | None = None,
    on_clip: Callable[[], None] | None = None,
) -> list[Path]:
    """Write clips of words, ``<out_dir>/<word>/<speaker>_nohash_<n>.wav``, in many voices.

    Every word is said by the same voices, each clip at its own pitch, speed and level, the word at
    a random place in the clip, digital silence around it. What is written depends on the arguments
    alone (not on `workers`). Clips of an earlier call with the same name are replaced; recordings
    of people have other names.

    Args:
        words: what to say; a mapping gives label → text (``{"hello": "[[h@l'oU]]"}``), so does
            ``"hello=[[h@l'oU]]"`` in a sequence.
        out_dir: folder of the label folders; made where missing.
        clips_per_word: how many clips of each.
        languages: as for `voices`; accents are drawn from all of them.
        seed: other voices, pitches, speeds, places and levels for another seed.
        clip_seconds: as for `write_clips`.
        varied: let pitch and speed go further, words have pauses between them, and a few whisper.
        rooms: as for `write_clips`.
        workers: as for `render`.
        on_clip: called after each clip, from the caller's thread.

    Returns:
        The files, word by word.

    Raises:
        KwsError: as `speak`, or two words with one label, or a label that cannot be a folder.
    """
    clips = plan_words(
        words, out_dir, clips_per_word, languages=languages, seed=seed, varied=varied
    )
    return write_clips(
        clips,
        clip_seconds=clip_seconds,
        rooms=rooms,
        workers=workers,
        on_clip=None if on_clip is None else lambda _: on_clip(),
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PlannedClip:
    """A clip to be spoken and written."""

    path: Path
    """Where it goes."""
    utterance: Utterance
    """What is said and how."""
    rng: np.random.Generator
    """Decides where in the clip the word lies, and how loud it is."""


def plan_words(
    words: Sequence[str] | Mapping[str, str],
    out_dir: str | os.PathLike[str],
    clips_per_word: int,
    *,
    languages: str | Sequence[str] = "en",
    seed: int = 0,
    varied: bool = False,
) -> list[PlannedClip]:
    """The clips that `synthesise` writes; the arguments and faults are its own."""
    texts = labelled_texts(words)
    if clips_per_word < 1:
        raise KwsError(f"At least one clip of a word is needed. Received: {clips_per_word}")
    cast = Cast(languages, seed, whispers=varied)
    plan = []
    for label, text in texts.items():
        check_sayable(text, english=cast.english)
        for clip in range(clips_per_word):
            # A generator for each clip: its sound does not depend on how many others there are.
            rng = np.random.default_rng([seed, zlib.crc32(label.encode()), clip])
            name, accents = cast.turn(clip)
            utterance = random_utterance(text, accents, rng, varied=varied)
            check_phonemes(text, utterance.voice)
            plan.append(
                PlannedClip(path=Path(out_dir) / label / name, utterance=utterance, rng=rng)
            )
    return plan


class Cast:
    """Speakers who take turns.

    Args:
        languages: as for `voices`.
        seed: decides about their order.
        whispers: whether some of them whisper.
    """

    def __init__(
        self, languages: str | Sequence[str], seed: int, *, whispers: bool = False
    ) -> None:
        pool = voices(languages, whispers=whispers)
        self.english = all(voice.language.startswith("en") for voice in pool)
        """Whether nobody speaks another language."""
        self._speakers = sorted({voice.speaker for voice in pool})
        np.random.default_rng(seed).shuffle(self._speakers)
        self._accents = {
            name: [voice for voice in pool if voice.speaker == name] for name in self._speakers
        }

    def turn(self, number: int) -> tuple[str, list[Voice]]:
        """The file name of a clip and the voices of whoever speaks it, in all accents."""
        speaker = self._speakers[number % len(self._speakers)]
        return f"{speaker}_nohash_{number // len(self._speakers)}.wav", self._accents[speaker]


def write_clips(
    clips: Sequence[PlannedClip],
    *,
    clip_seconds: float | None = None,
    rooms: Rooms | None = None,
    workers: int | None = None,
    on_clip: Callable[[PlannedClip], None] | None = None,
) -> list[Path]:
    """Speak clips and write them, all of one length.

    Args:
        clips: what to write.
        clip_seconds: their length; words that are longer are spoken faster. `None`: as long as
            the longest needs, and a second at least.
        rooms: where they are recorded; `None`: nowhere, without reverberation. Reverberation may
            be cut off at the end of a clip.
        workers: as for `render`.
        on_clip: called with each clip that was written, from the caller's thread.

    Raises:
        KwsError: as `speak`.
    """
    if clip_seconds is None:
        clip_seconds = needed_seconds(clips, workers=workers)
    elif not _SHORTEST_S <= clip_seconds <= _LONGEST_S:
        raise KwsError(
            f"A clip lasts {_SHORTEST_S} to {_LONGEST_S} seconds. Received: {clip_seconds}"
        )
    clip_samples = round(clip_seconds * SAMPLE_RATE_HZ)
    fitting = [dataclasses.replace(clip.utterance, longest_samples=clip_samples) for clip in clips]
    for index, pcm in _render_each(fitting, workers):
        clip = clips[index]
        sound = pcm if rooms is None else rooms.record(pcm, clip.rng)
        write_wav(clip.path, _place(sound, len(pcm), clip_samples, clip.rng), SAMPLE_RATE_HZ)
        if on_clip is not None:
            on_clip(clip)
    return [clip.path for clip in clips]


def write_sentences(
    clips: Sequence[PlannedClip],
    seconds: tuple[float, float],
    *,
    rooms: Rooms | None = None,
    workers: int | None = None,
    on_clip: Callable[[PlannedClip, int], None] | None = None,
) -> list[Path]:
    """Speak clips and write them as long as each is, with a short silence before and after.

    Args:
        clips: what to write.
        seconds: least and greatest length. Shorter ones are not written; longer ones are spoken
            faster.
        rooms: as for `write_clips`.
        workers: as for `render`.
        on_clip: called with each clip that was written and its samples, from the caller's thread.

    Returns:
        The files that were written.

    Raises:
        KwsError: as `speak`.
    """
    shortest, longest = (round(s * SAMPLE_RATE_HZ) for s in seconds)
    fitting = [
        dataclasses.replace(clip.utterance, longest_samples=longest - _AROUND_SENTENCE)
        for clip in clips
    ]
    written = {}
    for index, pcm in _render_each(fitting, workers):
        clip = clips[index]
        sound = pcm if rooms is None else rooms.record(pcm, clip.rng)
        n = min(longest, len(sound) + _AROUND_SENTENCE)
        if n < shortest:
            continue
        write_wav(clip.path, _place(sound, len(pcm), n, clip.rng), SAMPLE_RATE_HZ)
        written[index] = clip.path
        if on_clip is not None:
            on_clip(clip, n)
    return [written[index] for index in sorted(written)]


def needed_seconds(clips: Sequence[PlannedClip], *, workers: int | None = None) -> float:
    """A length of clips that holds the longest utterances: a second at least, in tenths.

    Only those of each label that take the longest by their text and speed are spoken for it. What
    happens to be longer still is spoken a little faster later on.

    Raises:
        KwsError: as `speak`, or a text takes more than a minute.
    """
    by_label: dict[Path, list[Utterance]] = {}
    for clip in clips:
        by_label.setdefault(clip.path.parent, []).append(clip.utterance)
    slowest: list[Utterance] = []
    for utterances in by_label.values():
        utterances.sort(key=lambda said: -len(said.text) / said.rate_wpm)
        slowest += utterances[:_MEASURED]
    longest = max((len(pcm) for pcm in render(slowest, workers=workers)), default=0)
    tenths = math.ceil(10 * (longest / SAMPLE_RATE_HZ + _MARGIN_S) - 1e-9)
    if tenths > 10 * _LONGEST_S:
        raise KwsError(
            f"A clip lasts at most {_LONGEST_S} seconds. Received: a text of {tenths / 10:g} s. "
            f"Choose a shorter one"
        )
    return max(10, tenths) / 10


def labelled_texts(words: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Label → text for words as the user writes them: ``"yes"``, ``"hello=[[h@l'oU]]"``.

    Raises:
        KwsError: no words, a label twice, or one that cannot be the name of a folder.
    """
    if isinstance(words, Mapping):
        pairs = list(words.items())
    else:
        pairs = []
        for word in [words] if isinstance(words, str) else words:
            name, equals, text = word.partition("=")
            if word.lstrip().startswith("[["):
                raise KwsError(
                    f"Phonemes need a label. Received: {word!r}. Write it as NAME={word.strip()}"
                )
            pairs.append((name, text) if equals else (word, word))
    if not pairs:
        raise KwsError("There is no word to say. Received: an empty list. Give at least one")
    texts: dict[str, str] = {}
    for name, text in pairs:
        label = check_word(name.strip())
        if label in texts:
            raise KwsError(f"A label is there twice. Received: {label!r}")
        texts[label] = text.strip()
    return texts


def _place(
    sound: NDArray[np.int16] | NDArray[np.float64],
    spoken: int,
    clip_samples: int,
    rng: np.random.Generator,
) -> NDArray[np.int16]:
    """Put an utterance at a random place and level into a clip of digital silence.

    Of `sound` the first `spoken` samples must be in the clip. What follows is reverberation; where
    there is no room for all of it, it is faded out at the clip's end.
    """
    latest = clip_samples - len(sound)
    if latest < 0:
        latest = (clip_samples - spoken) // 2
    start = int(rng.integers(latest + 1))
    peak = 32767 * 10 ** (rng.uniform(-18, -1) / 20)
    heard = sound[: clip_samples - start].astype(np.float64)
    if len(heard) < len(sound):
        fade = min(len(heard) - spoken, _FADE_SAMPLES)
        heard[len(heard) - fade :] *= np.linspace(1, 0, fade)
    clip = np.zeros(clip_samples, np.int16)
    clip[start : start + len(heard)] = np.rint(heard * (peak / np.abs(heard).max()))
    return clip


def check_sayable(text: str, *, english: bool) -> None:
    """Refuse what espeak-ng would leave out or spell by the names of its characters."""
    if re.search(r"\[\[.*\S.*\]\]", text):
        return
    letters = [character for character in text if character.isalnum()]
    if not letters:
        raise KwsError(f"There is nothing to say. Received: {text!r}. Give a word with letters")
    foreign = [c for c in letters if c.isalpha() and "LATIN" not in unicodedata.name(c, "")]
    if english and foreign:
        raise KwsError(
            f"An English voice can only spell this word. Received: {text!r}. "
            f"Choose its language (--language)"
        )


def _speak(utterance: Utterance) -> NDArray[np.int16]:
    """`speak`, for an utterance."""
    for value, low, high, name in (
        (utterance.pitch, 0, 99, "pitch"),
        (utterance.pitch_range, 0, 99, "pitch_range"),
        (utterance.rate_wpm, 80, _FASTEST_WPM, "rate_wpm"),
        (utterance.word_gap_ms, 0, 500, "word_gap_ms"),
    ):
        if not low <= value <= high:
            raise KwsError(f"{name} must be within {low} to {high}. Received: {value}")
    check_sayable(utterance.text, english=utterance.voice.language.startswith("en"))
    check_phonemes(utterance.text, utterance.voice)
    limit = utterance.longest_samples
    rate_wpm = utterance.rate_wpm
    while True:
        pcm = _trim(_engine().speak(dataclasses.replace(utterance, rate_wpm=rate_wpm)))
        if not len(pcm):
            raise KwsError(
                f"The voice {utterance.voice.name} says nothing for this text. "
                f"Received: {utterance.text!r}. Check the spelling or the language"
            )
        if limit is None or len(pcm) <= limit:
            return pcm
        if rate_wpm == _FASTEST_WPM:
            raise KwsError(
                f"The word takes {len(pcm) / SAMPLE_RATE_HZ:.1f} s even when spoken fast, longer "
                f"than a clip of {limit / SAMPLE_RATE_HZ:g} s. Received: {utterance.text!r}. "
                f"Choose a shorter one or longer clips"
            )
        rate_wpm = min(_FASTEST_WPM, int(rate_wpm * max(1.05, 1.02 * len(pcm) / limit)) + 1)


def _trim(pcm: NDArray[np.int16]) -> NDArray[np.int16]:
    """Cut the silence (50 dB below the peak) at both ends but for 10 ms; empty if all is silent."""
    level = np.abs(pcm.astype(np.int32))
    peak = int(level.max(initial=0))
    if peak < 30:
        return pcm[:0]
    loud = np.flatnonzero(level > peak / 316)
    margin = SAMPLE_RATE_HZ // 100
    return pcm[max(0, loud[0] - margin) : loud[-1] + 1 + margin]


class _VoiceStruct(ctypes.Structure):
    """``espeak_VOICE``."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class _Engine:
    """The owner of the C library in this process."""

    def __init__(self) -> None:
        loader = require("espeakng_loader", extra="synth")
        self._resampler = require("soxr", extra="synth")
        self._lock = threading.Lock()
        self._blocks: list[NDArray[np.int16]] = []
        try:
            folder = Path(loader.get_data_path())
            self._library = ctypes.CDLL(loader.get_library_path())
        except (OSError, RuntimeError) as error:
            raise KwsError(
                f"espeak-ng cannot be loaded. Received: {error}. "
                f"Install it again with: pip install --force-reinstall espeakng-loader"
            ) from error
        if not (folder / "phontab").is_file():
            raise KwsError(
                f"espeak-ng's data are incomplete. Received: {folder} without phontab. "
                f"Install them again with: pip install --force-reinstall espeakng-loader"
            )
        self.folder = folder
        self._types: dict[str, Types] = {}
        self._has_spoken = False
        self._shortcut: tempfile.TemporaryDirectory[str] | None = None
        if len(os.fsencode(folder)) > _LONGEST_DATA_PATH:
            folder = self._shorten(folder)
        library = self._library
        library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_VoiceStruct))
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        library.espeak_TextToPhonemes.argtypes = [
            *(ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int),
        ]
        library.espeak_Synth.argtypes = [
            *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
            *(ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
        ]
        self._rate_hz = library.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, 0, os.fsencode(folder), _INITIALIZE_DONT_EXIT
        )
        if self._rate_hz <= 0:
            raise KwsError(f"espeak-ng does not start. Received: status {self._rate_hz}")
        # The C side keeps the pointer, so this object must live as long as the engine.
        self._callback = _Callback(self._collect)
        library.espeak_SetSynthCallback(self._callback)
        self.languages = self._list_languages()
        self.variants = sorted(path.name for path in (folder / "voices" / "!v").iterdir())

    def _shorten(self, folder: Path) -> Path:
        """A short name for a folder that is too deep for espeak-ng's buffer."""
        try:
            self._shortcut = tempfile.TemporaryDirectory(prefix="kws-")
            link = Path(self._shortcut.name) / "data"
            link.symlink_to(folder, target_is_directory=True)
        except OSError as error:
            raise KwsError(
                f"espeak-ng cannot read its data from so deep a folder. Received: {folder}. "
                f"Use an environment with a shorter path"
            ) from error
        return link

    def _list_languages(self) -> dict[str, list[str]]:
        """Identifier → its language codes, the main one first."""
        found: dict[str, list[str]] = {}
        listed = self._library.espeak_ListVoices(None)
        index = 0
        while listed[index]:
            voice = listed[index].contents
            index += 1
            codes = []
            # A list of (priority byte, text, zero byte), ended by a zero priority.
            address = voice.languages
            while ctypes.string_at(address, 1) != b"\0":
                code = ctypes.string_at(address + 1)
                codes.append(code.decode().lower())
                address += len(code) + 2
            identifier = voice.identifier.decode()
            if codes and not identifier.startswith("mb/"):
                found[identifier] = codes
        return found

    def _collect(self, samples: Any, count: int, _events: Any) -> int:
        if count > 0 and samples:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def transcribe(self, text: str, voice: Voice, *, ipa: bool) -> list[list[str]]:
        """`transcribe`."""
        self._check(voice)
        content = ctypes.create_string_buffer(text.encode())
        at = ctypes.c_void_p(ctypes.addressof(content))
        mode = (ord(_BREAK) << 8) | (_IPA if ipa else 0)
        clauses = []
        with self._lock:
            status = self._library.espeak_SetVoiceByName(voice.identifier.encode())
            # Whether [[…]] means phonemes is what the last call of espeak_Synth said.
            if not self._has_spoken:
                status = status or self._library.espeak_Synth(
                    b" ", 2, 0, 0, 0, _CHARS_UTF8 | _PHONEMES, None, None
                )
                self._has_spoken = True
            if status:
                raise KwsError(
                    f"espeak-ng failed on {text!r} with the voice {voice.name}. "
                    f"Received: status {status}"
                )
            while at.value:
                clause = self._library.espeak_TextToPhonemes(ctypes.byref(at), _CHARS_UTF8, mode)
                clauses.append(clause.decode())
        return [word.split(_BREAK) for clause in clauses for word in clause.split()]

    @functools.cached_property
    def _tables(self) -> dict[str, Types]:
        return read_tables(self.folder)

    def phoneme_types(self, voice: Voice) -> Types:
        """`phoneme_types`."""
        if voice.identifier not in self._types:
            names = table_of(self.folder, voice.identifier, voice.language)
            self._types[voice.identifier] = next(
                self._tables[name] for name in names if name in self._tables
            )
        return self._types[voice.identifier]

    def _check(self, voice: Voice) -> None:
        # espeak-ng takes an unknown variant for the plain voice without a word.
        if voice.identifier not in self.languages or (
            voice.variant and voice.variant not in self.variants
        ):
            raise KwsError(f"espeak-ng has no such voice. Received: {voice.name!r}")

    def speak(self, utterance: Utterance) -> NDArray[np.int16]:
        """int16 [n] at 16 kHz, with the synthesiser's silence around it."""
        voice = utterance.voice
        name = f"{voice.identifier}+{voice.variant}" if voice.variant else voice.identifier
        self._check(voice)
        text = utterance.text.encode()
        with self._lock:
            self._blocks.clear()
            status = self._library.espeak_SetVoiceByName(name.encode())
            for parameter, value in (
                (_RATE, utterance.rate_wpm),
                (_VOLUME, _QUIET_VOLUME),
                (_PITCH, utterance.pitch),
                (_RANGE, utterance.pitch_range),
                (_WORD_GAP, utterance.word_gap_ms // 10),
            ):
                status = status or self._library.espeak_SetParameter(parameter, value, 0)
            # Breath and the Klatt voices' noise come from this generator.
            with contextlib.suppress(AttributeError):
                self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
            status = status or self._library.espeak_Synth(
                text, len(text) + 1, 0, 0, 0, _CHARS_UTF8 | _PHONEMES, None, None
            )
            status = status or self._library.espeak_Synchronize()
            if status:
                raise KwsError(
                    f"espeak-ng failed on {utterance.text!r} with the voice {voice.name}. "
                    f"Received: status {status}"
                )
            pcm = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.int16)
        if not len(pcm):
            return pcm
        resampled = self._resampler.resample(pcm.astype(np.float32), self._rate_hz, SAMPLE_RATE_HZ)
        return np.clip(np.rint(resampled), -32768, 32767).astype(np.int16)


@functools.cache
def _engine() -> _Engine:
    return _Engine()


def _render_each(
    utterances: Sequence[Utterance], workers: int | None
) -> Iterator[tuple[int, NDArray[np.int16]]]:
    """Speak portions of the list in fresh processes; yield (index, samples) as they come."""
    _engine()  # A missing package is said once, here.
    if workers is None:
        workers = usable_cores()
    starts = range(0, len(utterances), _PORTION)
    # Bounded, so that speakers wait for a slow disk instead of filling the memory.
    spoken: queue.Queue[tuple[int, NDArray[np.int16]] | BaseException | None] = queue.Queue(256)
    running: set[subprocess.Popen[bytes]] = set()
    stopped = threading.Event()

    def hand_over(item: tuple[int, NDArray[np.int16]] | BaseException | None) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                spoken.put(item, timeout=0.1)
                return

    def portion(start: int) -> None:
        if stopped.is_set():
            return
        process = None
        try:
            process = start_worker(_WORKER)
            running.add(process)
            for index, pcm in enumerate(_ask(process, utterances[start : start + _PORTION])):
                hand_over((start + index, pcm))
        except BaseException as error:
            hand_over(error)
        finally:
            if process is not None:
                running.discard(process)
                process.kill()
                process.wait()
            hand_over(None)

    pool = ThreadPoolExecutor(max(1, min(workers, len(starts))))
    try:
        for start in starts:
            pool.submit(portion, start)
        finished = 0
        while finished < len(starts):
            try:
                # A timeout, because Windows cannot interrupt an endless wait.
                item = spoken.get(timeout=0.5)
            except queue.Empty:
                continue
            if item is None:
                finished += 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        stopped.set()
        for process in list(running):
            process.kill()
        pool.shutdown(wait=True, cancel_futures=True)


def _ask(
    process: subprocess.Popen[bytes], utterances: Sequence[Utterance]
) -> Iterator[NDArray[np.int16]]:
    """Give a worker its portion and read the answers: a count and samples, or a fault."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # A worker that died is seen below.
        process.stdin.write(json.dumps([dataclasses.asdict(u) for u in utterances]).encode())
        process.stdin.close()
    for utterance in utterances:
        header = process.stdout.read(4)
        size = struct.unpack("<i", header)[0] if len(header) == 4 else 0
        body = process.stdout.read(abs(size))
        if not body or len(body) < abs(size):
            raise KwsError(
                f"espeak-ng died while speaking. Received: exit status {process.wait()} "
                f"at {utterance.text!r} with the voice {utterance.voice.name}"
            )
        if size < 0:
            raise KwsError(body.decode())
        yield np.frombuffer(body, "<i2").astype(np.int16)


def _serve() -> None:
    """The worker's side of `_ask`."""
    answers: IO[bytes] = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Whatever the C library prints must not end up among the answers.
    for fields in json.load(sys.stdin):
        fields["voice"] = Voice(**fields["voice"])
        try:
            body = _speak(Utterance(**fields)).astype("<i2").tobytes()
            size = len(body)
        except KwsError as error:
            body = str(error).encode()
            size = -len(body)
        try:
            answers.write(struct.pack("<i", size) + body)
            answers.flush()
        except BrokenPipeError:
            os._exit(1)  # The parent has gone.
