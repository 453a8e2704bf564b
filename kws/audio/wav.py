"""WAV files, read strictly and with NumPy alone: a file that contradicts its header is refused.

The format: Microsoft/IBM, "Multimedia Programming Interface and Data Specifications 1.0"; the
extensible format: Microsoft, "Multiple Channel Audio Data and WAVE Files"; RF64: EBU Tech 3306.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from kws.audio.samples import BLOCK_VALUES, SAMPLE_RATE_HZ, check_floats, check_rate
from kws.errors import KwsError

MOST_WAV_SAMPLES = (0xFFFFFFFF - 36) // 2
"""The sizes in a WAV header are 32-bit numbers of bytes."""

_MOST_CHANNELS = 256

_OPEN_ENDED = frozenset({0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FFFF000})
"""Sizes that programs write before they know the length; the samples reach to the end of the file.
Written by, in this order: Python and GStreamer, ffmpeg, arecord (two values), sox."""

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_CODECS = {
    0x02: "Microsoft ADPCM",
    0x06: "A-law",
    0x07: "mu-law",
    0x11: "IMA ADPCM",
    0x31: "GSM 6.10",
    0x50: "MPEG audio",
    0x55: "MP3",
    0xFF: "AAC",
    0x161: "WMA",
}


@dataclass(frozen=True, kw_only=True)
class Coding:
    """How the samples of a WAV file are coded."""

    rate_hz: int
    """Frames per second."""
    channels: int
    """Values in a frame."""
    width: int
    """Bytes per value: 1 (unsigned), 2, 3 or 4; 4 or 8 for floats."""
    is_float: bool
    """Whether values are IEEE floating point; otherwise integers."""

    @property
    def frame_bytes(self) -> int:
        """Bytes per frame."""
        return self.channels * self.width


@dataclass(frozen=True, kw_only=True)
class Wave:
    """The location of the samples in a WAV file."""

    coding: Coding
    """How they are coded."""
    start: int
    """Position of the first sample in the file."""
    frames: int
    """Number of frames."""


def wav_header(n_samples: int, sample_rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """Return the header of a WAV file of mono int16, 44 bytes.

    Args:
        n_samples: number of samples that follow, 1 or more.
        sample_rate_hz: their rate.

    Raises:
        KwsError: no samples, or more than 4 GB.
    """
    if not 1 <= n_samples <= MOST_WAV_SAMPLES:
        raise KwsError(f"A WAV file holds 1 to {MOST_WAV_SAMPLES:,} samples. Received: {n_samples}")
    size = 2 * n_samples
    fmt = struct.pack("<HHIIHH", _PCM, 1, sample_rate_hz, 2 * sample_rate_hz, 2, 16)
    start = struct.pack("<4sI4s4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16)
    return start + fmt + struct.pack("<4sI", b"data", size)


def read_header(path: Path, file: IO[bytes], size: int) -> Wave:
    """Read the chunks of a file of `size` bytes up to the samples."""

    def damaged(what: str, received: str) -> KwsError:
        return KwsError(f"{path}: {what}. Received: {received}. Record or convert it again")

    file.seek(12)
    coding: Coding | None = None
    large_size = None
    while True:
        head = file.read(8)
        if len(head) < 8:
            missing = "no samples (data chunk)" if coding else "no format (fmt chunk)"
            raise damaged("the WAV file is cut off in its header", f"{missing} in {size} bytes")
        name, length = struct.unpack("<4sI", head)
        start = file.tell()
        if name == b"data":
            break
        if start + length > size:
            raise damaged(
                "the WAV file is cut off in its header",
                f"a chunk {readable(name)} of {length:,} bytes with {size - start:,} left",
            )
        if name == b"ds64" and length >= 24:
            large_size = struct.unpack("<QQQ", file.read(24))[1]
        elif name == b"fmt ":
            coding = _read_coding(path, file.read(min(length, 40)))
        file.seek(start + length + length % 2)
    if coding is None:
        raise damaged("the WAV header gives no format before the samples", "no fmt chunk")

    available = size - start
    if length == 0xFFFFFFFF and large_size is not None:
        length = large_size
    elif length in _OPEN_ENDED and available != length:
        length = 0 if length == 0 and _only_chunks(file, start, size) else available
    if length > available:
        raise KwsError(
            f"{path} is cut off: its header promises {length:,} bytes of samples. Received: "
            f"{available:,}. Copy or record it again"
        )
    return Wave(coding=coding, start=start, frames=length // coding.frame_bytes)


def _only_chunks(file: IO[bytes], start: int, size: int) -> bool:
    """Whether other chunks follow an empty data chunk, not samples of unknown length."""
    while start + 8 <= size:
        file.seek(start)
        name, length = struct.unpack("<4sI", file.read(8))
        if not all(32 <= byte < 127 for byte in name):
            return False
        start += 8 + length + length % 2
    return start in (size, size + 1)


def _read_coding(path: Path, fmt: bytes) -> Coding:
    """Read the fmt chunk."""
    if len(fmt) < 16:
        raise KwsError(
            f"{path}: the format in the WAV header is too short. Received: {len(fmt)} bytes, "
            "not 16. Record or convert it again"
        )
    code, channels, rate_hz, _, frame_bytes, bits = struct.unpack("<HHIIHH", fmt[:16])
    if code == _EXTENSIBLE:
        if len(fmt) < 40 or fmt[26:40] != _GUID_TAIL:
            raise _unsupported(path, "an extensible format without a known subformat")
        code = struct.unpack("<H", fmt[24:26])[0]
    if code not in (_PCM, _FLOAT):
        raise _unsupported(path, _CODECS.get(code, f"codec 0x{code:04x}"))
    check_rate(path, rate_hz)
    if not 1 <= channels <= _MOST_CHANNELS:
        raise KwsError(
            f"{path}: not a valid number of channels. Received: {channels}. "
            f"Use 1 to {_MOST_CHANNELS}"
        )
    is_float = code == _FLOAT
    if bits not in ((32, 64) if is_float else (8, 16, 24, 32)):
        raise _unsupported(path, f"{bits}-bit {'floats' if is_float else 'integers'}")
    if frame_bytes != channels * bits // 8:
        raise KwsError(
            f"{path}: the WAV header contradicts itself. Received: {channels} channels of {bits} "
            f"bits in frames of {frame_bytes} bytes. Record or convert it again"
        )
    return Coding(rate_hz=rate_hz, channels=channels, width=bits // 8, is_float=is_float)


def _unsupported(path: Path, received: str) -> KwsError:
    return KwsError(
        f"{path}: this WAV coding is not supported. Received: {received}. Convert it to "
        "16-bit PCM, for example: ffmpeg -i IN -c:a pcm_s16le OUT.wav"
    )


def wav_blocks(path: Path, file: IO[bytes], wave: Wave) -> Iterator[npt.NDArray[Any]]:
    """Yield mono blocks: int16 unchanged, others as float64 with full scale ±1."""
    file.seek(wave.start)
    coding = wave.coding
    most = max(1, BLOCK_VALUES // coding.channels)
    for first in range(0, wave.frames, most):
        n = min(most, wave.frames - first)
        content = np.empty(n * coding.frame_bytes, np.uint8)
        got = file.readinto(content.data)  # type: ignore[attr-defined]
        if got < len(content):
            raise KwsError(
                f"{path} became shorter while it was being read. Received: "
                f"{first + got // coding.frame_bytes:,} of {wave.frames:,} samples. Read it again"
            )
        if coding.width == 2 and coding.channels == 1:
            yield content.view("<i2").astype(np.int16, copy=False)
            continue
        values = _values(content, coding).reshape(n, coding.channels)
        if coding.is_float:
            check_floats(path, values, first, coding.rate_hz)
        yield values.mean(axis=1)


def _values(content: npt.NDArray[np.uint8], coding: Coding) -> npt.NDArray[np.float64]:
    """Return the values as floats, full scale ±1."""
    if coding.is_float:
        return content.view(f"<f{coding.width}").astype(np.float64)
    if coding.width == 1:
        return (content - np.float64(128)) / 128
    if coding.width == 3:
        padded = np.zeros((len(content) // 3, 4), np.uint8)
        padded[:, 1:] = content.reshape(-1, 3)
        return padded.view("<i4")[:, 0] / np.float64(2**31)
    return content.view(f"<i{coding.width}") / np.float64(2 ** (8 * coding.width - 1))


def readable(content: bytes) -> str:
    """Return bytes of a header as printable text for a message."""
    return repr(content.decode("latin-1"))
