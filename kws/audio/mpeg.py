"""The length of an MP3 file according to its frames.

A decoder plays what is left of a truncated file, and stops early if a wrong or missing header makes
it expect the end. The frames are reliable: each begins with a header that gives its length.

Sources: ISO/IEC 11172-3 and 13818-3, layer III; MPEG 2.5 and the header "Xing" or "Info" (a first
frame without sound that counts the others) as LAME writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

_MPEG_1, _MPEG_2, _MPEG_2_5 = 3, 2, 0
_RATES_HZ = {
    _MPEG_1: (44100, 48000, 32000),
    _MPEG_2: (22050, 24000, 16000),
    _MPEG_2_5: (11025, 12000, 8000),
}
_KBIT_S = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBIT_S_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
"""By a header's four bits, for MPEG 1 and the other versions; 0 stands for an unspecified rate."""


@dataclass(frozen=True, kw_only=True)
class Mp3Length:
    """How much sound the consecutive frames from the beginning of a file hold."""

    samples: int
    """Samples of each channel in whole frames; a decoder removes the encoder's padding."""
    cut_off: bool
    """Whether the file ends in the middle of a frame."""
    counted: bool
    """Whether its header states the number of frames."""


def mp3_length(content: bytes | mmap) -> Mp3Length | None:
    """Follow the frames of a whole MP3 file; None if no frame is found at its beginning."""
    start = 0
    while content[start : start + 3] == b"ID3":  # tags, their length in four times seven bits
        a, b, c, d = content[start + 6 : start + 10].ljust(4, b"\0")
        start += 10 + (a << 21 | b << 14 | c << 7 | d)
    samples = 0
    at = start
    for length, frame_samples in _frames(content, start):
        at += length
        if at > len(content):
            break
        samples += frame_samples
    if not samples:
        return None
    first = content[start : start + 64].ljust(64, b"\0")
    tag = max(first.find(name, 0, 42) for name in (b"Xing", b"Info"))  # after at most 38 bytes
    torn_header = 0 < len(content) - at < 4 and first.startswith(content[at : at + 2])
    return Mp3Length(
        samples=samples,
        cut_off=at > len(content) or torn_header,
        counted=tag > 0 and bool(first[tag + 7] & 1),
    )


def _frames(content: bytes | mmap, at: int) -> Iterator[tuple[int, int]]:
    """Yield bytes and samples of each frame; the last may extend beyond the file."""
    first = content[at : at + 4]
    while True:
        head = content[at : at + 4]
        # Eleven set bits, layer III; version and rate as in the first frame.
        alike = len(head) == 4 and head[0] == 0xFF and head[1] & 0xFE == first[1] & 0xFE
        if not alike or head[1] & 0xE6 != 0xE2 or head[2] & 0x0C != first[2] & 0x0C:
            return
        version = head[1] >> 3 & 3
        rate, bitrate = head[2] >> 2 & 3, head[2] >> 4
        if version not in _RATES_HZ or rate == 3 or not 1 <= bitrate <= 14:
            return
        rate_hz = _RATES_HZ[version][rate]
        kbit_s = (_KBIT_S if version == _MPEG_1 else _KBIT_S_2)[bitrate]
        samples = 1152 if version == _MPEG_1 else 576
        length = samples // 8 * kbit_s * 1000 // rate_hz + (head[2] >> 1 & 1)
        yield length, samples
        at += length
