"""Clips of your own words: recordings cut to the word and stored in the layout of data sets."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.audio.files import read_audio, write_wav
from kws.audio.level import level_dbfs
from kws.audio.samples import SAMPLE_RATE_HZ, Pcm
from kws.audio.wav import wav_header
from kws.data.recording.find_words import (
    LONGEST_S,
    Utterance,
    alike,
    cut_around,
    strongest,
    utterance_at,
)
from kws.data.recording.levels import level_fault
from kws.data.split import hash_key, speaker_of, training_speaker
from kws.errors import KwsError
from kws.labels import UNKNOWN

SHORTEST_S = 0.2
"""Shortest recording of a word; a shorter one was made by accident."""

SILENT_PEAK = 33
"""A recording that stays within ±33 of 32,768 (-60 dBFS) around its mean is silent."""

LONGEST_OTHER_S = 60.0
"""Longest recording of other speech; `kws mine` finds what matters in longer ones."""
OTHER_CLIPS_S = (1.0, 4.0)
"""Other speech is cut to clips of each of these lengths, overlapping by half. Training takes the
loudest part of a longer clip, which may not be what fooled a model, hence short clips; a network
for phrases needs the whole of it, hence long ones, as long as the longest from `kws.keep`."""
_PAUSE_DB = 25.0
"""A clip this much quieter than the loudest of its recording holds a pause."""

_CLIP_NAME = re.compile(r"(?P<speaker>.+)_nohash_(?P<number>\d{1,6})")
_SPEAKER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_FORBIDDEN = frozenset('/\\:*?"<>|')


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A piece of a recording that becomes a clip."""

    start: int
    """Its first sample."""
    end: int
    """The sample after its last."""
    word: Utterance | None
    """The word in it; None if none was looked for."""


@dataclass(frozen=True, kw_only=True)
class AddedClip:
    """What became of one piece of a recording."""

    path: Path
    """The clip in the data set."""
    speaker: str
    """The speaker of the recording; an existing clip may be named after another one."""
    before: Path | None
    """The former path of an existing clip with the same samples; None if the clip was written."""
    cut: Cut
    """Its part of the recording."""
    level_dbfs: float
    """RMS of its word's loudest syllable, or of the clip if no word was looked for."""
    fault: str | None
    """What is wrong with the level of the word, as from `level_fault`; other speech may have any
    level."""


class WordFolder:
    """The clips of a word in a data set, found by content instead of by name."""

    def __init__(
        self, folder: str | os.PathLike[str], label: str, *, dry_run: bool = False
    ) -> None:
        """List the existing clips; each is read at most once, if its size matches.

        Args:
            folder: the data set.
            label: the word, as `check_word` allows it, or ``_unknown_``.
            dry_run: write and rename nothing; planned clips count as existing.

        Raises:
            KwsError: a bad label.
        """
        self.label = label if label == UNKNOWN else check_word(label)
        self.path = Path(folder) / label
        self.dry_run = dry_run
        self._planned: set[Path] = set()
        self._unread: dict[int, list[Path]] = {}
        self._read: dict[bytes, list[Path]] = {}
        for path in sorted(self.path.iterdir()) if self.path.is_dir() else []:
            if path.suffix.lower() == ".wav" and not path.name.startswith(".") and path.is_file():
                self._unread.setdefault(path.stat().st_size, []).append(path)

    def holding(self, pcm: Pcm) -> list[Path]:
        """Return the clips that hold exactly these samples, int16 [n], written by `write_wav`."""
        content = _wav(pcm)
        for path in self._unread.pop(len(content), []):
            with contextlib.suppress(OSError):  # an unreadable file is left alone
                self._same_as(path.read_bytes()).append(path)
        return list(self._same_as(content))

    def add(self, pcm: Pcm, speaker: str, first: int = 0) -> Path:
        """Write a clip under the first free number from `first` on."""
        path = self._free(speaker, first)
        if self.dry_run:
            self._planned.add(path)
        else:
            write_wav(path, pcm, SAMPLE_RATE_HZ)
        self._same_as(_wav(pcm)).append(path)
        return path

    def rename(self, clip: Path, pcm: Pcm, speaker: str, first: int = 0) -> Path:
        """Rename a clip that holds `pcm` to another speaker, with a number chosen as by `add`."""
        path = self._free(speaker, first)
        if self.dry_run:
            self._planned.add(path)
        else:
            clip.rename(path)
        same = self._same_as(_wav(pcm))
        same[same.index(clip)] = path
        return path

    def _free(self, speaker: str, first: int) -> Path:
        for number in itertools.count(first):
            path = self.path / f"{speaker}_nohash_{number}.wav"
            if path not in self._planned and not path.exists():
                break
        return path

    def _same_as(self, content: bytes) -> list[Path]:
        return self._read.setdefault(hashlib.sha256(content).digest(), [])


def check_word(word: str) -> str:
    """Return `word` if it can be the name of a label folder.

    Raises:
        KwsError: it is empty, leads to another folder, or is reserved for special folders.
    """

    def refuse(why: str) -> KwsError:
        return KwsError(f"This cannot be the name of a word: {why}. Received: {word!r}")

    if not word.strip():
        raise refuse("it is empty")
    if word != word.strip():
        raise refuse("it begins or ends with a space")
    if _FORBIDDEN & set(word):
        raise refuse('it contains one of / \\ : * ? " < > |')
    if not word.isprintable():
        raise refuse("it has control characters")
    if word.startswith("_"):
        raise refuse("names with a leading '_' are reserved for _silence_, _unknown_ and noise")
    if word.startswith(".") or word.endswith("."):
        raise refuse("it begins or ends with a dot")
    if len(word.encode()) > 64:
        raise refuse("it is longer than 64 bytes")
    return word


def check_speaker(speaker: str) -> str:
    """Return `speaker` if it can be the first part of a clip's name.

    Raises:
        KwsError: it has other characters, or the marker that ends a speaker's name.
    """
    if not _SPEAKER.fullmatch(speaker) or "_nohash_" in speaker:
        raise KwsError(
            "A speaker's name is up to 64 letters (a-z), digits, '_', '.' and '-', begins with a "
            f"letter or digit and does not contain '_nohash_'. Received: {speaker!r}"
        )
    return speaker


def speaker_id(name: str) -> str:
    """Return eight hexadecimal digits for a person, the same for all spellings of a name.

    Only the digits are written to disk. They keep a person's clips in one part of the split.

    Raises:
        KwsError: the name is empty.
    """
    plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    if not plain:
        raise KwsError(f"A speaker needs a name. Received: {name!r}. Give one with --speaker")
    return hash_key(plain).hex()[:8]


def open_recording(path: str | os.PathLike[str]) -> Pcm:
    """Read a recording in any format that `read_audio` reads; int16 [n] at 16 kHz.

    Raises:
        KwsError: it cannot be read, is shorter than `SHORTEST_S` or silent.
    """
    path = Path(path)
    if path.is_dir():
        raise KwsError(f"A recording must be a file. Received: the folder {path}. Try {path}/*.wav")
    pcm = read_audio(path)
    _check_recording(path, pcm)
    return pcm


def uncut(pcm: Pcm) -> list[Cut]:
    """Take a whole recording."""
    return [Cut(start=0, end=len(pcm), word=None)]


def cut_words(
    path: str | os.PathLike[str],
    pcm: Pcm,
    utterances: Sequence[Utterance],
    *,
    several: bool = False,
    times_s: Sequence[float] | None = None,
    longest_s: float = LONGEST_S,
    again: str = "kws data add WORD FILE",
) -> list[Cut]:
    """Cut the word from a recording: the utterance with the most energy.

    Args:
        path: the recording, for messages.
        pcm: its samples.
        utterances: what `find_utterances` found in it.
        several: cut all utterances that are alike in length and level.
        times_s: cut the utterances at these times instead, each the end of the audio after which
            a model was surest of the word.
        longest_s: length of the longest word; in running speech at most this much is cut.
        again: a command to which options can be added, for messages.

    Raises:
        KwsError: no word stands out, or the sound that does is too long for one.
    """
    if times_s is not None:
        at = [utterance_at(pcm, utterances, time_s, longest_s=longest_s) for time_s in times_s]
        words = list(dict.fromkeys(word for word in at if word is not None))
    elif several:
        words = alike([one for one in utterances if one.length_s <= longest_s])
    else:
        words = [strongest(utterances)] if utterances else []
    if not words and times_s is None and utterances:
        words = [strongest(utterances)]
    if not words:
        raise KwsError(
            f"{path} contains no word that stands out of its background by 10 dB. Received: "
            f"{len(pcm) / SAMPLE_RATE_HZ:.1f} s at {level_dbfs(pcm):.0f} dBFS. Record it again in "
            f"a quieter place, or take the whole file: {again} --whole"
        )
    for word in words:
        if word.length_s > longest_s:
            raise KwsError(
                f"{path} contains no single word, but {word.length_s:.1f} s of continuous speech "
                f"from {word.start_s:.1f} s on. Received: {len(pcm) / SAMPLE_RATE_HZ:.1f} s. Say "
                f"the word with pauses around it, or use {again} with --model MODEL, which knows "
                "it, or with --longest S, for longer words"
            )
    cuts = []
    for word in words:
        start, end = cut_around(word.start, word.end, len(pcm))
        cuts.append(Cut(start=start, end=end, word=word))
    return cuts


def cut_other_speech(path: str | os.PathLike[str], pcm: Pcm) -> list[Cut]:
    """Cut a recording of other speech into clips of each of `OTHER_CLIPS_S`.

    Clips of one length overlap by half, and pauses are left out. A recording no longer than one of
    the lengths is taken whole, once.

    Raises:
        KwsError: the recording is longer than `LONGEST_OTHER_S`.
    """
    if len(pcm) > LONGEST_OTHER_S * SAMPLE_RATE_HZ:
        raise KwsError(
            f"{path} is too long to be added as other speech. Received: "
            f"{len(pcm) / SAMPLE_RATE_HZ:.0f} s, at most {LONGEST_OTHER_S:.0f} s. Use `kws mine` "
            "to extract a model's false alarms, or name a folder of running speech in a recipe's "
            "[data] speech"
        )
    cuts: list[Cut] = []
    for length in (round(s * SAMPLE_RATE_HZ) for s in OTHER_CLIPS_S):
        if len(pcm) <= length:
            return cuts + uncut(pcm)
        starts = [*range(0, len(pcm) - length, length // 2), len(pcm) - length]
        levels = [level_dbfs(pcm[start : start + length]) for start in starts]
        cuts += [
            Cut(start=start, end=start + length, word=None)
            for start, level in zip(starts, levels, strict=True)
            if level >= max(levels) - _PAUSE_DB
        ]
    return cuts


def add_cuts(
    clips: WordFolder,
    source: str | os.PathLike[str],
    pcm: Pcm,
    cuts: Sequence[Cut],
    *,
    speaker: str | None = None,
    rename: bool = False,
) -> list[AddedClip]:
    """Write ``<folder>/<label>/<speaker>_nohash_<n>.wav`` for each cut, 16 kHz mono 16 bit.

    The speaker decides the part (training, validation, testing) of a clip. Without `speaker` it is
    taken from a source name of this form, or is its `speaker_id` if it is not valid in all file
    systems ("Zoë", "John Smith"); otherwise it is the first eight digits of the SHA-256 of the
    file, so that a recording always gets the same name; clips of ``_unknown_`` are then all for
    training. Nothing is overwritten: the number counts up to a free name. Clips that exist under
    any speaker's name are not written again, or a model would be measured on what it was trained
    on.

    Args:
        clips: the word's clips in the data set.
        source: the file that the samples are from.
        pcm: its samples.
        cuts: the parts of them to write.
        speaker: the speaker's name.
        rename: give existing clips of this file the speaker's name if they have none.

    Raises:
        KwsError: a bad speaker.
    """
    named = _CLIP_NAME.fullmatch(Path(source).stem)
    unknown = _unknown_speaker(source, clips.label)
    first = 0
    if speaker is not None:
        check_speaker(speaker)
    elif named is not None and (name := named["speaker"]).strip():
        speaker = name if _SPEAKER.fullmatch(name) else speaker_id(name)
        first = int(named["number"])
    else:
        speaker = unknown
    added = []
    for cut in cuts:
        samples = pcm[cut.start : cut.end]
        there = clips.holding(samples)
        others = [clip for clip in there if speaker_of(clip.name) != speaker]
        # Of duplicates, name the one that may have to be deleted.
        before = next(iter(others or there), None)
        if before is None:
            path = clips.add(samples, speaker, first)
        elif rename and others == there and speaker_of(before.name) == unknown:
            path = clips.rename(before, samples, speaker, first)
        else:
            path = before
        level = cut.word.level_dbfs if cut.word else level_dbfs(samples)
        added.append(
            AddedClip(
                path=path,
                speaker=speaker,
                before=before,
                cut=cut,
                level_dbfs=level,
                fault=None if clips.label == UNKNOWN else level_fault(samples),
            )
        )
    return added


def _unknown_speaker(source: str | os.PathLike[str], label: str) -> str:
    """Return the name that stands for the unknown speaker of a recording."""
    digits = hashlib.sha256(Path(source).read_bytes()).hexdigest()[:8]
    return training_speaker(digits) if label == UNKNOWN else digits


def _check_recording(path: Path, pcm: Pcm) -> None:
    length_s = len(pcm) / SAMPLE_RATE_HZ
    if length_s < SHORTEST_S:
        raise KwsError(
            f"{path} is too short for a word: at least {SHORTEST_S} s are needed. "
            f"Received: {length_s:.3f} s. Record it again"
        )
    around_mean = pcm - np.round(pcm.mean())
    peak = float(np.abs(around_mean).max())
    if peak < SILENT_PEAK:
        level = f"{20 * np.log10(peak / 32768):.0f} dBFS" if peak else "only silence"
        raise KwsError(
            f"{path} is silent: a peak above -60 dBFS is needed. Received: {level}. "
            "Check the microphone and record it again"
        )


def _wav(pcm: Pcm) -> bytes:
    """Return what `write_wav` writes."""
    return wav_header(len(pcm), SAMPLE_RATE_HZ) + pcm.astype("<i2").tobytes()
