"""FLAC, OGG (Vorbis, Opus), MP3 and AIFF, decoded by soundfile (in the extra ``audio``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy.typing as npt

from kws.audio.samples import BLOCK_VALUES, check_floats, check_rate
from kws.errors import KwsError, require


def soundfile_blocks(
    path: Path, file: IO[bytes], size: int
) -> tuple[int, Iterator[npt.NDArray[Any]]]:
    """Return the rate and mono blocks, int16 or float64 with full scale ±1."""
    try:
        soundfile = require("soundfile", extra="audio")
    except KwsError as error:
        raise KwsError(f"{path} is no WAV file: {error}") from error
    file.seek(0)
    if file.read(4) == b"OggS" and _ogg_is_cut(file, size):
        raise KwsError(
            f"{path} is cut off: its last page promises more bytes than there are. Received: "
            f"{size:,} bytes. Copy or record it again"
        )
    file.seek(0)
    try:
        # The open file, not the path: what it is follows from its content alone.
        sound = soundfile.SoundFile(file)
    except (soundfile.SoundFileError, TypeError) as error:
        raise _undecodable(path, error) from error
    check_rate(path, sound.samplerate)
    return sound.samplerate, _from_soundfile(path, sound, soundfile)


def _from_soundfile(path: Path, sound: Any, soundfile: Any) -> Iterator[npt.NDArray[Any]]:
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
    # libsndfile stops quietly at the end of a FLAC file that is shorter than its header says.
    if sound.format == "FLAC" and first < sound.frames < 2**62:
        raise KwsError(
            f"{path} is cut off: its header promises {sound.frames:,} samples. Received: "
            f"{first:,}. Copy or record it again"
        )


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
