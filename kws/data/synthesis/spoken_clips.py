"""Folders of generated clips: which are planned, who takes turns to speak, how they are written.

Every clip has a generator of its own, so what it sounds like does not depend on how many others
there are, nor on how many cores speak them.
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
# Of a clip that is as long as its word needs.
_MARGIN_S = 0.1
# Before and after a sentence, together, in samples.
_AROUND_SENTENCE = SAMPLE_RATE_HZ * 3 // 10
# So many utterances of a word are spoken to find the length of clips.
_MEASURED = 24


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
    """Plan ``<out_dir>/<label>/<speaker>_nohash_<n>.wav``: every word by the same speakers.

    Args:
        words: as for `labelled_texts`; a mapping gives label → text.
        out_dir: folder of the label folders.
        clips_per_word: how many clips of each.
        languages: as for `kws.data.synthesis.voices.voices`; accents are drawn from all of them.
        seed: other voices, pitches, speeds, places and levels for another seed.
        varied: let pitch and speed go further, words have pauses between them, and a few whisper.

    Raises:
        KwsError: as `labelled_texts` and `Cast`; no clips are wanted; or a text cannot be said.
    """
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
        languages: as for `kws.data.synthesis.voices.voices`.
        seed: decides about their order.
        whispers: whether some of them whisper.

    Raises:
        KwsError: as `kws.data.synthesis.voices.voices`.
    """

    def __init__(
        self, languages: str | Sequence[str], seed: int, *, whispers: bool = False
    ) -> None:
        pool = voices(languages, whispers=whispers)
        self.english = any(voice.language.startswith("en") for voice in pool)
        """Whether somebody may speak English."""
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
    clip_seconds: float,
    *,
    rooms: Rooms | None = None,
    workers: int | None = None,
    on_clip: Callable[[PlannedClip], None] | None = None,
) -> list[Path]:
    """Speak clips and write them, all of one length.

    Args:
        clips: what to write.
        clip_seconds: their length; words that are longer are spoken faster.
        rooms: where they are recorded; `None`: nowhere, without reverberation. Reverberation may
            be cut off at the end of a clip.
        workers: as for `kws.data.synthesis.synth.render`.
        on_clip: called with each clip that was written, from the caller's thread.

    Raises:
        KwsError: as `kws.data.synthesis.synth.speak`, or a length that clips cannot have.
    """
    if not _SHORTEST_S <= clip_seconds <= _LONGEST_S:
        raise KwsError(
            f"A clip lasts {_SHORTEST_S} to {_LONGEST_S} seconds. Received: {clip_seconds}"
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
    """Speak clips and write them as long as each is, with a short silence before and after.

    Args:
        clips: what to write.
        seconds: least and greatest length. Shorter ones are not written; longer ones are spoken
            faster.
        rooms: as for `write_clips`.
        workers: as for `kws.data.synthesis.synth.render`.
        on_clip: called with each clip that was written and its samples, from the caller's thread.

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
    """A length of clips that holds the longest utterances: a second at least, in tenths.

    Only those of each label that take the longest by their text and speed are spoken for it. What
    happens to be longer still is spoken a little faster later on.

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
            f"A clip lasts at most {_LONGEST_S} seconds. Received: a text of {tenths / 10:g} s. "
            f"Choose a shorter one"
        )
    return max(10, tenths) / 10


def labelled_texts(words: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Label → text for words as the user writes them: ``"yes"``, ``"hello=[[h@l'oU]]"``.

    Raises:
        KwsError: no words, a label twice (in any case), or one that cannot be the name of a folder.
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
            raise KwsError(f"A label is there twice. Received: {label!r}. Give each word once")
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
