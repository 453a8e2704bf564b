"""Sound files in, int16 samples out.

WAV is read here, with NumPy alone and strictly: a file that is not what its header says is
refused with one line. FLAC, OGG (Vorbis, Opus), MP3 and AIFF are decoded by soundfile, other rates
are converted by soxr (both in the extra ``audio``). What a file is, is decided by its content, not
by its name.

From wider or floating samples to int16: channels are averaged, then the rate is converted, then
the result (full scale = ±1) is multiplied by 32768, rounded (half to even) and clipped to
−32768…32767. 16-bit mono at the wanted rate passes unchanged.

The format of WAV: Microsoft/IBM, "Multimedia Programming Interface and Data Specifications 1.0";
the extensible format: Microsoft, "Multiple Channel Audio Data and WAVE Files"; RF64: EBU Tech 3306.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from kws.errors import KwsError, require
from kws.files import atomic_write

SAMPLE_RATE_HZ = 16000
"""What everything downstream of here works with."""

MOST_WAV_SAMPLES = (0xFFFFFFFF - 36) // 2
"""The sizes in a WAV header are 32-bit numbers of bytes."""

_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ = 1000, 768_000
_MOST_CHANNELS = 256
_BLOCK_VALUES = 1 << 18
"""Values (frames x channels) that are decoded at a time, which bounds the memory."""

_LOUDEST = 256.0
"""Floats are meant to stay within ±1; a peak 48 dB above that means they are scaled otherwise."""

_OPEN_ENDED = frozenset({0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FFFF000})
"""Sizes that programs write when they do not know the length yet: to the end of the file.
In this order: Python and GStreamer, ffmpeg, arecord (twice), sox."""

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

Pcm = npt.NDArray[np.int16]


@dataclass(frozen=True, kw_only=True)
class _Coding:
    """How the samples of a WAV file are coded."""

    rate_hz: int
    """Frames for each second."""
    channels: int
    """Values in a frame."""
    width: int
    """Bytes for one value: 1 (unsigned), 2, 3 or 4; as floats 4 or 8."""
    is_float: bool
    """IEEE floating point, else integers."""

    @property
    def frame_bytes(self) -> int:
        """Bytes for one frame."""
        return self.channels * self.width


@dataclass(frozen=True, kw_only=True)
class _Wave:
    """Where the samples of a WAV file are."""

    coding: _Coding
    """How they are coded."""
    start: int
    """Position of the first in the file."""
    frames: int
    """Number of frames."""


def read_audio(path: str | os.PathLike[str], sample_rate_hz: int = SAMPLE_RATE_HZ) -> Pcm:
    """Read a whole sound file as mono.

    Args:
        path: WAV (8, 16, 24, 32 bit, float 32 or 64, any channels), FLAC, OGG, Opus, MP3, AIFF.
        sample_rate_hz: rate of the result; a file of another rate is converted.

    Returns:
        int16 [n], n >= 1.

    Raises:
        KwsError: anything that is wrong with the file, in one line that names it.

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

    The memory stays at a few megabytes. What is wrong with the beginning of a file is raised at
    the first block, what is wrong further on (NaN, a broken FLAC frame) when it is reached.

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
        raise KwsError(f"A block needs samples. Received: {chunk_samples}. Use 1 or more")
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
    """Return how long a sound file lasts, in s, from its header; None where that does not say.

    For estimates only: nothing is raised, what is wrong with a file is said when it is read.
    """
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(16)
            if head[:4] in (b"RIFF", b"RF64", b"BW64"):
                wave = _wave_header(Path(path), file, size)
                return wave.frames / wave.coding.rate_hz
            if not _for_soundfile(head):
                return None
            file.seek(0)
            info = require("soundfile", extra="audio").info(file)
            return float(info.frames / info.samplerate)
    except Exception:
        # Whatever a decoder makes of a broken file.
        return None


def write_wav(
    path: str | os.PathLike[str], pcm: npt.NDArray[Any], sample_rate_hz: int = SAMPLE_RATE_HZ
) -> None:
    """Write mono 16-bit samples as a WAV file, all of it or nothing.

    Args:
        path: the file; parent folders are made.
        pcm: int16 [n], n >= 1.
        sample_rate_hz: its rate.

    Raises:
        KwsError: not int16, not one-dimensional, nothing, more than 4 GB, or a silly rate.
    """
    if pcm.dtype != np.int16 or pcm.ndim != 1:
        hint = "use kws.audio.files.to_int16" if pcm.dtype.kind == "f" else "give mono int16"
        raise KwsError(
            f"Only mono int16 samples can be written. Received: {pcm.dtype} of shape {pcm.shape}; "
            f"{hint}"
        )
    _check_rate(Path(path), sample_rate_hz)
    header = wav_header(len(pcm), sample_rate_hz)
    with atomic_write(path) as file:
        file.write(header)
        file.write(np.ascontiguousarray(pcm, "<i2").data)


def wav_header(n_samples: int, sample_rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """Return what stands before the samples in a WAV file of mono int16, 44 bytes.

    Args:
        n_samples: how many will follow, 1 or more.
        sample_rate_hz: their rate.

    Raises:
        KwsError: nothing, or more than 4 GB.
    """
    if not 1 <= n_samples <= MOST_WAV_SAMPLES:
        raise KwsError(f"A WAV file holds 1 to {MOST_WAV_SAMPLES:,} samples. Received: {n_samples}")
    size = 2 * n_samples
    fmt = struct.pack("<HHIIHH", _PCM, 1, sample_rate_hz, 2 * sample_rate_hz, 2, 16)
    start = struct.pack("<4sI4s4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16)
    return start + fmt + struct.pack("<4sI", b"data", size)


def to_int16(samples: npt.NDArray[Any]) -> Pcm:
    """Turn floats, full scale ±1, into int16: times 32768, rounded half to even, clipped."""
    return np.clip(np.rint(np.multiply(samples, 32768.0)), -32768, 32767).astype(np.int16)


def _check_rate(path: Path, rate_hz: int) -> None:
    if not _LOWEST_RATE_HZ <= rate_hz <= _HIGHEST_RATE_HZ:
        raise KwsError(
            f"{path}: that is no sample rate. Received: {rate_hz} Hz. Use {_LOWEST_RATE_HZ} to "
            f"{_HIGHEST_RATE_HZ} Hz"
        )


def _converted(path: Path, sample_rate_hz: int) -> Iterator[Pcm]:
    """Yield int16 blocks at the wanted rate, none of them empty, at least one."""
    _check_rate(path, sample_rate_hz)
    empty = True
    try:
        for block in _at_rate(path, sample_rate_hz):
            if len(block):
                empty = False
                yield block
    except FileNotFoundError as error:
        raise KwsError(f"{path} does not exist. Received: no such file. Check the path") from error
    except OSError as error:
        # The file is only read here; errors with names of their own are raised further in.
        hint = (
            "Give a file" if error.errno == errno.EISDIR else "Check the path and its permissions"
        )
        reason = "a folder" if error.errno == errno.EISDIR else error.strerror or str(error)
        raise KwsError(f"{path} cannot be read. Received: {reason}. {hint}") from error
    if empty:
        raise KwsError(f"{path} holds no sound. Received: 0 samples. Record it again")


def _at_rate(path: Path, wanted_hz: int) -> Iterator[Pcm]:
    with path.open("rb") as file:
        rate_hz, blocks = _decoded(path, file)
        if rate_hz == wanted_hz:
            for block in blocks:
                yield block if block.dtype == np.int16 else to_int16(block)
            return
        try:
            soxr = require("soxr", extra="audio")
        except KwsError as error:
            raise KwsError(f"{path} has {rate_hz} Hz, not {wanted_hz} Hz. {error}") from error
        # float32 keeps 24 bits, more than the result needs.
        converter = soxr.ResampleStream(rate_hz, wanted_hz, 1, dtype="float32", quality="HQ")
        for block in blocks:
            scale = 1 / 32768 if block.dtype == np.int16 else 1.0
            yield to_int16(converter.resample_chunk((block * scale).astype(np.float32)))
        yield to_int16(converter.resample_chunk(np.empty(0, np.float32), last=True))


def _decoded(path: Path, file: IO[bytes]) -> tuple[int, Iterator[npt.NDArray[Any]]]:
    """Return the rate and mono blocks, int16 or float64 with full scale ±1, not yet resampled."""
    info = os.fstat(file.fileno())
    if not stat.S_ISREG(info.st_mode):
        raise KwsError(
            f"{path} is not a file. Received: a device or pipe. Give a file; raw samples "
            "can come through stdin"
        )
    if info.st_size == 0:
        raise KwsError(f"{path} is empty. Received: 0 bytes. Record or copy it again")
    head = file.read(16)
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and b"WAVE".startswith(head[8:12]):
        wave = _wave_header(path, file, info.st_size)
        return wave.coding.rate_hz, _wave_blocks(path, file, wave)
    if _for_soundfile(head):
        return _soundfile_blocks(path, file, info.st_size)
    raise KwsError(f"{path} is no sound file. Received: {_looks_like(head)}")


def _for_soundfile(head: bytes) -> bool:
    if head[:4] in (b"fLaC", b"OggS", b"RIFX") or head[:3] == b"ID3":
        return True
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return True
    # MPEG audio frame: eleven set bits, then a version that is not reserved, layer III.
    return len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[1] & 0x18 != 0x08


def _looks_like(head: bytes) -> str:
    convert = "Convert it to WAV, for example: ffmpeg -i IN -ac 1 -ar 16000 OUT.wav"
    if head[4:8] == b"ftyp":
        return f"MP4 or M4A. {convert}"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return f"WebM or Matroska. {convert}"
    if head[:4] == b"RIFF":
        return f"a RIFF file of type {_readable(head[8:12])}. {convert}"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return f"text that begins with {_readable(head)}. Give a WAV, FLAC, OGG, Opus or MP3 file"
    return (
        f"bytes that begin with {head[:8].hex(' ')}. Give a WAV, FLAC, OGG, Opus or MP3 file; "
        "raw samples can come through stdin"
    )


def _readable(content: bytes) -> str:
    return repr(content.decode("latin-1"))


def _wave_header(path: Path, file: IO[bytes], size: int) -> _Wave:
    """Walk the chunks up to the samples."""

    def damaged(what: str, received: str) -> KwsError:
        return KwsError(f"{path}: {what}. Received: {received}. Record or convert it again")

    file.seek(12)
    coding: _Coding | None = None
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
                f"a chunk {_readable(name)} of {length:,} bytes with {size - start:,} left",
            )
        if name == b"ds64" and length >= 24:
            large_size = struct.unpack("<QQQ", file.read(24))[1]
        elif name == b"fmt ":
            coding = _wave_coding(path, file.read(min(length, 40)))
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
    return _Wave(coding=coding, start=start, frames=length // coding.frame_bytes)


def _only_chunks(file: IO[bytes], start: int, size: int) -> bool:
    """Whether what follows an empty data chunk is other chunks, not samples of unknown length."""
    while start + 8 <= size:
        file.seek(start)
        name, length = struct.unpack("<4sI", file.read(8))
        if not all(32 <= byte < 127 for byte in name):
            return False
        start += 8 + length + length % 2
    return start in (size, size + 1)


def _wave_coding(path: Path, fmt: bytes) -> _Coding:
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
    _check_rate(path, rate_hz)
    if not 1 <= channels <= _MOST_CHANNELS:
        raise KwsError(
            f"{path}: that is no number of channels. Received: {channels}. "
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
    return _Coding(rate_hz=rate_hz, channels=channels, width=bits // 8, is_float=is_float)


def _unsupported(path: Path, received: str) -> KwsError:
    return KwsError(
        f"{path}: this coding of a WAV file cannot be read. Received: {received}. Convert it to "
        "16-bit PCM, for example: ffmpeg -i IN -c:a pcm_s16le OUT.wav"
    )


def _wave_blocks(path: Path, file: IO[bytes], wave: _Wave) -> Iterator[npt.NDArray[Any]]:
    file.seek(wave.start)
    coding = wave.coding
    most = max(1, _BLOCK_VALUES // coding.channels)
    for first in range(0, wave.frames, most):
        n = min(most, wave.frames - first)
        content = np.empty(n * coding.frame_bytes, np.uint8)
        got = file.readinto(content.data)  # type: ignore[attr-defined]
        if got < len(content):
            raise KwsError(
                f"{path} is cut off: it became shorter while it was read. Received: "
                f"{first + got // coding.frame_bytes:,} of {wave.frames:,} samples. Read it again"
            )
        if coding.width == 2 and coding.channels == 1:
            yield content.view("<i2").astype(np.int16, copy=False)
            continue
        values = _values(content, coding).reshape(n, coding.channels)
        if coding.is_float:
            _check_floats(path, values, first, coding.rate_hz)
        yield values.mean(axis=1)


def _values(content: npt.NDArray[np.uint8], coding: _Coding) -> npt.NDArray[np.float64]:
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


def _check_floats(path: Path, values: npt.NDArray[Any], first: int, rate_hz: int) -> None:
    """Refuse NaN, infinities and floats that are not scaled to ±1. values: [frames, channels]."""
    good = np.abs(values) <= _LOUDEST  # false for NaN
    if good.all():
        return
    frame, channel = np.unravel_index(int(np.argmin(good)), good.shape)
    second = (first + int(frame)) / rate_hz
    value = values[frame, channel]
    if np.isfinite(value):
        raise KwsError(
            f"{path} holds floats that are not scaled to -1...1. Received: {value:.6g} at second "
            f"{second:.3f}. Divide by the full scale (32768 for 16 bits) before saving"
        )
    raise KwsError(
        f"{path} holds samples that are no numbers. Received: {value} at second {second:.3f}. "
        "Repair or record it again"
    )


def _soundfile_blocks(
    path: Path, file: IO[bytes], size: int
) -> tuple[int, Iterator[npt.NDArray[Any]]]:
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
    _check_rate(path, sound.samplerate)
    return sound.samplerate, _from_soundfile(path, sound, soundfile)


def _from_soundfile(path: Path, sound: Any, soundfile: Any) -> Iterator[npt.NDArray[Any]]:
    # 16-bit FLAC and AIFF are exact as int16; lossy formats decode to floats.
    exact = sound.channels == 1 and sound.subtype == "PCM_16"
    most = max(1, _BLOCK_VALUES // sound.channels)
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
                _check_floats(path, block, first, sound.samplerate)
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
