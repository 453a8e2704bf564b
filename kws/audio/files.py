"""Sound files in, int16 samples out.

WAV is read by `wav`, other formats by `compressed`; other rates are converted by soxr (in the extra
``audio``). The format is detected from a file's content, not its name.

Wider or floating-point samples become int16 like this: channels are averaged, the rate is
converted, and the result (full scale = ±1) is multiplied by 32768, rounded (half to even) and
clipped to −32768…32767. 16-bit mono at the right rate passes unchanged.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from kws.audio.compressed import soundfile_blocks
from kws.audio.samples import SAMPLE_RATE_HZ, Pcm, check_pcm, check_rate, scaled_int16
from kws.audio.wav import read_header, readable, wav_blocks, wav_header
from kws.errors import KwsError, require
from kws.system.files import atomic_write


def read_audio(path: str | os.PathLike[str], sample_rate_hz: int = SAMPLE_RATE_HZ) -> Pcm:
    """Read a whole sound file as mono.

    Args:
        path: WAV (8, 16, 24, 32 bit, float 32 or 64, any channels), FLAC, OGG, Opus, MP3, AIFF.
        sample_rate_hz: rate of the result; a file of another rate is converted.

    Returns:
        int16 [n], n >= 1.

    Raises:
        KwsError: any problem with the file, in one line that names it.

    Example::

        pcm = read_audio("yes.wav")          # int16 [16000]
    """
    blocks = list(_converted(Path(path), sample_rate_hz))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def iter_audio(
    path: str | os.PathLike[str],
    chunk_samples: int = SAMPLE_RATE_HZ,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
) -> Iterator[Pcm]:
    """Read a sound file of any length in blocks; joined, they equal `read_audio`.

    Memory stays at a few megabytes. A problem at the beginning of a file is raised at the first
    block, one further on (NaN, a broken FLAC frame) when it is reached.

    Args:
        path: as for `read_audio`.
        chunk_samples: samples in each block; the last may be shorter.
        sample_rate_hz: as for `read_audio`.

    Yields:
        int16 [chunk_samples].

    Raises:
        KwsError: as for `read_audio`, or `chunk_samples` is less than 1.
    """
    if chunk_samples < 1:
        raise KwsError(f"A block needs at least 1 sample. Received: {chunk_samples}. Use 1 or more")
    waiting: list[Pcm] = []
    held = 0
    for block in _converted(Path(path), sample_rate_hz):
        waiting.append(block)
        held += len(block)
        if held >= chunk_samples:
            joined = np.concatenate(waiting)
            whole = held - held % chunk_samples
            for start in range(0, whole, chunk_samples):
                yield joined[start : start + chunk_samples]
            waiting = [joined[whole:].copy()]
            held -= whole
    if held:
        yield np.concatenate(waiting)


def audio_seconds(path: str | os.PathLike[str]) -> float | None:
    """Return the length of a sound file in s, from its header; None if that does not state it.

    For estimates only: nothing is raised; problems with a file are reported when it is read.
    """
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(16)
            if head[:4] in (b"RIFF", b"RF64", b"BW64"):
                wave = read_header(Path(path), file, size)
                return wave.frames / wave.coding.rate_hz
            if not _for_soundfile(head):
                return None
            file.seek(0)
            info = require("soundfile", extra="audio").info(file)
            return float(info.frames / info.samplerate)
    except Exception:
        # A decoder may raise anything on a broken file.
        return None


def write_wav(
    path: str | os.PathLike[str], pcm: npt.NDArray[Any], sample_rate_hz: int = SAMPLE_RATE_HZ
) -> None:
    """Write mono 16-bit samples as a WAV file, completely or not at all.

    Args:
        path: the file; parent folders are created.
        pcm: int16 [n], n >= 1.
        sample_rate_hz: its rate.

    Raises:
        KwsError: not int16 of shape [n], no samples, more than 4 GB, or an invalid rate.
    """
    check_pcm(pcm)
    check_rate(Path(path), sample_rate_hz)
    header = wav_header(len(pcm), sample_rate_hz)
    with atomic_write(path) as file:
        file.write(header)
        file.write(np.ascontiguousarray(pcm, "<i2").data)


def _converted(path: Path, sample_rate_hz: int) -> Iterator[Pcm]:
    """Yield int16 blocks at the given rate, at least one and none of them empty."""
    check_rate(path, sample_rate_hz)
    empty = True
    try:
        for block in _at_rate(path, sample_rate_hz):
            if len(block):
                empty = False
                yield block
    except FileNotFoundError as error:
        raise KwsError(f"{path} does not exist. Received: no such file. Check the path") from error
    except OSError as error:
        # From reading only; other errors are raised with their own messages further down.
        hint = (
            "Give a file" if error.errno == errno.EISDIR else "Check the path and its permissions"
        )
        reason = "a folder" if error.errno == errno.EISDIR else error.strerror or str(error)
        raise KwsError(f"{path} cannot be read. Received: {reason}. {hint}") from error
    if empty:
        raise KwsError(f"{path} contains no sound. Received: 0 samples. Record it again")


def _at_rate(path: Path, wanted_hz: int) -> Iterator[Pcm]:
    with path.open("rb") as file:
        rate_hz, blocks = _decoded(path, file)
        if rate_hz == wanted_hz:
            for block in blocks:
                yield block if block.dtype == np.int16 else scaled_int16(block)
            return
        try:
            soxr = require("soxr", extra="audio")
        except KwsError as error:
            raise KwsError(f"{path} has {rate_hz} Hz, not {wanted_hz} Hz. {error}") from error
        # float32 keeps 24 bits, more than the result needs.
        converter = soxr.ResampleStream(rate_hz, wanted_hz, 1, dtype="float32", quality="HQ")
        for block in blocks:
            scale = 1 / 32768 if block.dtype == np.int16 else 1.0
            yield scaled_int16(converter.resample_chunk((block * scale).astype(np.float32)))
        yield scaled_int16(converter.resample_chunk(np.empty(0, np.float32), last=True))


def _decoded(path: Path, file: IO[bytes]) -> tuple[int, Iterator[npt.NDArray[Any]]]:
    """Return the rate and mono blocks, int16 or float64 with full scale ±1, not yet resampled."""
    info = os.fstat(file.fileno())
    if not stat.S_ISREG(info.st_mode):
        raise KwsError(
            f"{path} is not a file. Received: a device or pipe. Give a file; raw samples "
            "can be piped to stdin"
        )
    if info.st_size == 0:
        raise KwsError(f"{path} is empty. Received: 0 bytes. Record or copy it again")
    head = file.read(16)
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and b"WAVE".startswith(head[8:12]):
        wave = read_header(path, file, info.st_size)
        return wave.coding.rate_hz, wav_blocks(path, file, wave)
    if _for_soundfile(head):
        return soundfile_blocks(path, file, info.st_size)
    raise KwsError(f"{path} is not a sound file. Received: {_looks_like(head)}")


def _for_soundfile(head: bytes) -> bool:
    if head[:4] in (b"fLaC", b"OggS", b"RIFX") or head[:3] == b"ID3":
        return True
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return True
    # MPEG audio frame: eleven set bits, a version that is not reserved, layer III.
    return len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[1] & 0x18 != 0x08


def _looks_like(head: bytes) -> str:
    convert = "Convert it to WAV, for example: ffmpeg -i IN -ac 1 -ar 16000 OUT.wav"
    if head[4:8] == b"ftyp":
        return f"MP4 or M4A. {convert}"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return f"WebM or Matroska. {convert}"
    if head[:4] == b"RIFF":
        return f"a RIFF file of type {readable(head[8:12])}. {convert}"
    formats = "Give a WAV, FLAC, OGG, Opus, MP3 or AIFF file"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return f"text that begins with {readable(head)}. {formats}"
    return (
        f"bytes that begin with {head[:8].hex(' ')}. {formats}; raw samples can be piped to stdin"
    )
