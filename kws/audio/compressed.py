"""FLAC, OGG (Vorbis, Opus), MP3 and AIFF, decoded by soundfile (in the extra ``audio``)."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy.typing as npt

from kws.audio.mpeg import Mp3Length, mp3_length
from kws.audio.samples import BLOCK_VALUES, check_floats, check_rate
from kws.errors import KwsError, require

_OPEN_ENDED = frozenset({0, 0xFFFFFFFF, 0x7FFFFFFF})
"""Sizes in a big-endian header that mean "length not known yet"."""
_TRIMMED_SAMPLES = 2 * 4095 + 1152
"""More than a decoder removes from an MP3 file: delay and padding, 12 bits each, and a header's
frame."""


def soundfile_blocks(
    path: Path, file: IO[bytes], size: int
) -> tuple[int, Iterator[npt.NDArray[Any]]]:
    """Return the rate and mono blocks, int16 or float64 with full scale ±1."""
    try:
        soundfile = require("soundfile", extra="audio")
    except KwsError as error:
        raise KwsError(f"{path} is not a WAV file: {error}") from error
    file.seek(0)
    head = file.read(8)
    if head[:4] == b"OggS" and _ogg_is_cut(file, size):
        raise _cut_off(path, "its last page promises more bytes than there are", f"{size:,} bytes")
    promised = int.from_bytes(head[4:8], "big")
    # The padding byte of the last chunk may be missing.
    if head[:4] in (b"FORM", b"RIFX") and size + 1 < 8 + promised and promised not in _OPEN_ENDED:
        raise _cut_off(path, f"its header promises {8 + promised:,} bytes", f"{size:,}")
    file.seek(0)
    try:
        # The open file, not the path: the format is detected from the content alone.
        sound = soundfile.SoundFile(file)
    except (soundfile.SoundFileError, TypeError) as error:
        raise _undecodable(path, error) from error
    length = _mp3_length(path, file, sound) if sound.format == "MP3" else None
    check_rate(path, sound.samplerate)
    counted = sound.format == "FLAC" or (length is not None and length.counted)
    return sound.samplerate, _from_soundfile(path, sound, soundfile, counted)


def _from_soundfile(
    path: Path, sound: Any, soundfile: Any, counted: bool
) -> Iterator[npt.NDArray[Any]]:
    """Yield the blocks; `counted` is whether the header states the number of samples."""
    # 16-bit FLAC and AIFF are exact as int16; lossy formats decode to floats.
    exact = sound.channels == 1 and sound.subtype == "PCM_16"
    most = max(1, BLOCK_VALUES // sound.channels)
    first = 0
    with sound:
        while True:
            try:
                block = sound.read(most, dtype="int16" if exact else "float64", always_2d=True)
            except (soundfile.SoundFileError, TypeError) as error:
                raise _undecodable(path, error) from error
            if not len(block):
                break
            if not exact:
                check_floats(path, block, first, sound.samplerate)
            first += len(block)
            yield block[:, 0] if exact else block.mean(axis=1)
    # libsndfile stops silently at the end of a file that is shorter than its header says.
    if counted and first < sound.frames < 2**62:
        raise _cut_off(path, f"its header promises {sound.frames:,} samples", f"{first:,}")


def _mp3_length(path: Path, file: IO[bytes], sound: Any) -> Mp3Length | None:
    """Refuse a file of which a decoder would silently return only a part."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        length = mp3_length(content)
    if length is not None and length.cut_off:
        raise _cut_off(path, "its last frame is incomplete", f"{length.samples:,} samples")
    # With the header of the first of two joined files, or none, so that the length is an estimate,
    # decoding ends early.
    if length is not None and length.samples > sound.frames + _TRIMMED_SAMPLES:
        raise KwsError(
            f"{path} would not be read to its end: its header is missing or describes only a "
            f"part. Received: {length.samples:,} samples, of which {sound.frames:,} would be read. "
            "Convert it to WAV, for example: ffmpeg -i IN OUT.wav"
        )
    return length


def _cut_off(path: Path, why: str, received: str) -> KwsError:
    return KwsError(f"{path} is cut off: {why}. Received: {received}. Copy or record it again")


def _undecodable(path: Path, error: Exception) -> KwsError:
    reason = str(getattr(error, "error_string", "") or error).rstrip(". ")
    return KwsError(f"{path} cannot be decoded. Received: {reason}. Convert or record it again")


def _ogg_is_cut(file: IO[bytes], size: int) -> bool:
    """Whether the last page of an Ogg file (RFC 3533, section 6) reaches beyond its end."""
    start = max(0, size - 65_307)  # the largest page
    file.seek(start)
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0 or page + 27 > len(tail):
        return True
    segments = tail[page + 26]
    table = tail[page + 27 : page + 27 + segments]
    return len(table) < segments or page + 27 + segments + sum(table) > len(tail)
