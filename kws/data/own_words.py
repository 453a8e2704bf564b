"""Recordings of words of one's own, put into the layout that training reads."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.audio.files import SAMPLE_RATE_HZ, Pcm, read_audio, write_wav
from kws.errors import KwsError

SHORTEST_S = 0.2
"""No word is shorter; such a file is a slip of the recording button."""

SILENT_PEAK = 33
"""A recording that never leaves ±33 of 32,768 (-60 dBFS) around its mean holds no word."""

_CLIP_NAME = re.compile(r"(?P<speaker>.+)_nohash_(?P<number>\d{1,6})")
_SPEAKER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_FORBIDDEN = frozenset('/\\:*?"<>|')


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What `add_recording` did with one file."""

    source: Path
    """The file that was given."""
    clip: Path
    """The clip in the data set."""
    length_s: float
    """Its length in seconds."""
    already: bool
    """The same clip was there before, and nothing was written."""


def check_word(word: str) -> str:
    """Return `word` if it can be the name of a label folder.

    Raises:
        KwsError: it is empty, would lead elsewhere, or is kept for special folders.
    """

    def refuse(why: str) -> KwsError:
        return KwsError(f"This cannot be the name of a word: {why}. Received: {word!r}")

    if not word.strip():
        raise refuse("it is empty")
    if word != word.strip():
        raise refuse("it begins or ends with a space")
    if _FORBIDDEN & set(word):
        raise refuse('none of / \\ : * ? " < > | may be in it')
    if not word.isprintable():
        raise refuse("it has control characters")
    if word.startswith("_"):
        raise refuse("names with a leading '_' are kept for _silence_, _unknown_ and noise")
    if word.startswith(".") or word.endswith("."):
        raise refuse("it begins or ends with a dot")
    if len(word.encode()) > 64:
        raise refuse("it is longer than 64 bytes")
    return word


def check_speaker(speaker: str) -> str:
    """Return `speaker` if it can stand at the front of a clip's name.

    Raises:
        KwsError: it has other characters, or the mark that ends a speaker's name.
    """
    if not _SPEAKER.fullmatch(speaker) or "_nohash_" in speaker:
        raise KwsError(
            "A speaker's name is up to 64 letters (a-z), digits, '_', '.' and '-', beginning with "
            f"a letter or digit, without '_nohash_'. Received: {speaker!r}"
        )
    return speaker


def add_recording(
    word: str,
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    speaker: str | None = None,
) -> Recording:
    """Copy a recording of `word` to ``folder/<word>/<speaker>_nohash_<n>.wav``, 16 kHz mono 16 bit.

    The speaker decides in which part (training, validation, testing) a clip lands. Without
    `speaker` it is taken from a name that has this form already; else it is the first eight digits
    of the SHA-256 of the file, so the same recording always gets the same name. Nothing is ever
    overwritten: the number counts up until the name is free, or the clip there is the same.

    Args:
        word: the label.
        source: the recording, in any format that `read_audio` reads.
        folder: the data set; made if need be.
        speaker: who says it.

    Raises:
        KwsError: a bad word or speaker; the file cannot be read, is shorter than `SHORTEST_S`
            or silent.
    """
    check_word(word)
    path = Path(source)
    if path.is_dir():
        raise KwsError(f"A recording must be a file. Received: {path}, a folder. Try {path}/*.wav")
    pcm = read_audio(path)
    _check_recording(path, pcm)
    named = _CLIP_NAME.fullmatch(path.stem)
    number = 0
    if speaker is not None:
        check_speaker(speaker)
    elif named is not None and _SPEAKER.fullmatch(named["speaker"]):
        speaker, number = named["speaker"], int(named["number"])
    else:
        speaker = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    while True:
        clip = Path(folder) / word / f"{speaker}_nohash_{number}.wav"
        already = clip.exists()
        if not already:
            write_wav(clip, pcm, SAMPLE_RATE_HZ)
        if not already or _same(clip, pcm):
            return Recording(
                source=path, clip=clip, length_s=len(pcm) / SAMPLE_RATE_HZ, already=already
            )
        number += 1


def _check_recording(path: Path, pcm: Pcm) -> None:
    length_s = len(pcm) / SAMPLE_RATE_HZ
    if length_s < SHORTEST_S:
        raise KwsError(
            f"{path} is too short for a word: expected at least {SHORTEST_S} s. "
            f"Received: {length_s:.3f} s. Record it again"
        )
    around_mean = pcm - np.round(pcm.mean())
    peak = float(np.abs(around_mean).max())
    if peak < SILENT_PEAK:
        level = f"{20 * np.log10(peak / 32768):.0f} dBFS" if peak else "nothing but silence"
        raise KwsError(
            f"{path} is silent: expected a peak above -60 dBFS. Received: {level}. "
            "Check the microphone and record it again"
        )


def _same(clip: Path, pcm: Pcm) -> bool:
    try:
        return bool(np.array_equal(read_audio(clip), pcm))
    except KwsError:  # somebody's broken file: leave it alone
        return False
