"""Folders of generated clips: planning, the cast of speakers, and writing.

Every clip has its own random generator, so its sound does not depend on how many others there are,
nor on the number of cores.
"""

from __future__ import annotations

import dataclasses
import math
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.audio.files import write_wav
from kws.audio.samples import SAMPLE_RATE_HZ
from kws.data.recording.word_clips import check_word
from kws.data.synthesis.espeak import Utterance, Voice
from kws.data.synthesis.rooms import Rooms
from kws.data.synthesis.synth import check_phonemes, check_sayable, render, render_each
from kws.data.synthesis.voices import random_utterance, voices
from kws.errors import KwsError
from kws.labels import folded

_FADE_SAMPLES = SAMPLE_RATE_HZ // 50
_SHORTEST_S, _LONGEST_S = 0.2, 60.0
# Margin of a clip that is as long as its word needs.
_MARGIN_S = 0.1
# Before and after a sentence, together, in samples.
_AROUND_SENTENCE = SAMPLE_RATE_HZ * 3 // 10
# Utterances of a word that are spoken to find the length of clips.
_MEASURED = 24


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PlannedClip:
    """A clip to be spoken and written."""

    path: Path
    """Where it goes."""
    utterance: Utterance
    """The text and how it is spoken."""
    rng: np.random.Generator
    """Decides the position and level of the word."""


def plan_words(
    words: Sequence[str] | Mapping[str, str],
    out_dir: str | os.PathLike[str],
    clips_per_word: int,
    *,
    languages: str | Sequence[str] = "en",
    seed: int = 0,
    varied: bool = False,
) -> list[PlannedClip]:
    """Plan ``<out_dir>/<label>/<speaker>_nohash_<n>.wav``, all words by the same speakers.

    Args:
        words: as for `labelled_texts`; a mapping gives label → text.
        out_dir: folder of the label folders.
        clips_per_word: number of clips of each.
        languages: as for `kws.data.synthesis.voices.voices`; accents are drawn from all of them.
        seed: another seed gives other voices, pitches, speeds, positions and levels.
        varied: wider ranges of pitch and speed, pauses between words, and some whispering.

    Raises:
        KwsError: as `labelled_texts` and `Cast`; less than one clip; or a text cannot be said.
    """
    texts = labelled_texts(words)
    if clips_per_word < 1:
        raise KwsError(f"A word needs at least one clip. Received: {clips_per_word}")
    cast = Cast(languages, seed, whispers=varied)
    plan = []
    for label, text in texts.items():
        check_sayable(text, english=cast.english)
        for clip in range(clips_per_word):
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
        languages: as for `kws.data.synthesis.voices.voices`.
        seed: decides their order.
        whispers: whether some of them whisper.

    Raises:
        KwsError: as `kws.data.synthesis.voices.voices`.
    """

    def __init__(
        self, languages: str | Sequence[str], seed: int, *, whispers: bool = False
    ) -> None:
        pool = voices(languages, whispers=whispers)
        self.english = any(voice.language.startswith("en") for voice in pool)
        """Whether some of the voices speak English."""
        self._speakers = sorted({voice.speaker for voice in pool})
        np.random.default_rng(seed).shuffle(self._speakers)
        self._accents = {
            name: [voice for voice in pool if voice.speaker == name] for name in self._speakers
        }

    def turn(self, number: int) -> tuple[str, list[Voice]]:
        """Return the file name of a clip and the voices of its speaker, in all accents."""
        speaker = self._speakers[number % len(self._speakers)]
        return f"{speaker}_nohash_{number // len(self._speakers)}.wav", self._accents[speaker]


def write_clips(
    clips: Sequence[PlannedClip],
    clip_seconds: float,
    *,
    rooms: Rooms | None = None,
    workers: int | None = None,
    on_clip: Callable[[PlannedClip], None] | None = None,
) -> list[Path]:
    """Speak clips and write them, all of the same length.

    Args:
        clips: the clips to write.
        clip_seconds: their length; longer words are spoken faster.
        rooms: simulated rooms; `None`: no reverberation. Reverberation may be cut off at the end
            of a clip.
        workers: as for `kws.data.synthesis.synth.render`.
        on_clip: called with each written clip, from the caller's thread.

    Raises:
        KwsError: as `kws.data.synthesis.synth.speak`, or an invalid length.
    """
    if not _SHORTEST_S <= clip_seconds <= _LONGEST_S:
        raise KwsError(
            f"A clip must last {_SHORTEST_S} to {_LONGEST_S} seconds. Received: {clip_seconds}"
        )
    clip_samples = round(clip_seconds * SAMPLE_RATE_HZ)
    fitting = [dataclasses.replace(clip.utterance, longest_samples=clip_samples) for clip in clips]
    for index, pcm in render_each(fitting, workers):
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
    """Speak clips and write each at its own length, with a short silence before and after.

    Args:
        clips: the clips to write.
        seconds: shortest and longest. Shorter ones are not written; longer ones are spoken faster.
        rooms: as for `write_clips`.
        workers: as for `kws.data.synthesis.synth.render`.
        on_clip: called with each written clip and its number of samples, from the caller's thread.

    Returns:
        The files that were written.

    Raises:
        KwsError: as `kws.data.synthesis.synth.speak`.
    """
    shortest, longest = (round(s * SAMPLE_RATE_HZ) for s in seconds)
    fitting = [
        dataclasses.replace(clip.utterance, longest_samples=longest - _AROUND_SENTENCE)
        for clip in clips
    ]
    written = {}
    for index, pcm in render_each(fitting, workers):
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
    """Return a clip length that holds the longest utterances: at least 1 s, in steps of 0.1 s.

    Only the utterances of each label that take longest by their text and speed are spoken to find
    it. Any that turn out to be longer are spoken a little faster later.

    Raises:
        KwsError: as `kws.data.synthesis.synth.speak`, or a text takes more than a minute.
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
            f"A clip must last at most {_LONGEST_S} seconds. Received: a text of "
            f"{tenths / 10:g} s. Choose a shorter one"
        )
    return max(10, tenths) / 10


def labelled_texts(words: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Return label → text for words in user notation: ``"yes"``, ``"hello=[[h@l'oU]]"``.

    Raises:
        KwsError: no words, a duplicate label (in any case), or one that cannot name a folder.
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
        if folded(label) in map(folded, texts):
            raise KwsError(f"Duplicate label. Received: {label!r} twice. Give each word once")
        texts[label] = text.strip()
    return texts


def _place(
    sound: NDArray[np.int16] | NDArray[np.float64],
    spoken: int,
    clip_samples: int,
    rng: np.random.Generator,
) -> NDArray[np.int16]:
    """Put an utterance at a random position and level into a clip of digital silence.

    The first `spoken` samples of `sound` must be in the clip. The rest is reverberation, which is
    faded out at the clip's end if it does not fit.
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
