"""The files of the verification program, as specified in boards/board_verify.c."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError

_HEAD = struct.Struct("<4s5I")
_EVENT = struct.Struct("<HHQ")


@dataclass(frozen=True, kw_only=True)
class FirmwareEvent:
    """An event as the C library reports it."""

    keyword: int
    """Index into the model's labels."""
    score_q15: int
    """Mean posterior over the smoothing window in Q15, rounded down."""
    time_samples: int
    """End of the audio behind it, in samples since the beginning."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipTrace:
    """Every value computed for one clip."""

    mfcc_q16: NDArray[np.int32]
    """Features, times 65536 [frames, n_mfcc]."""
    inputs: NDArray[np.int8]
    """Features as input of the network [frames, n_mfcc]."""
    posteriors: NDArray[np.int8]
    """Outputs of the network [steps, labels]."""
    events: tuple[FirmwareEvent, ...]
    """Keywords detected."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """Output of one run of the program."""

    frame_length: int
    """Samples in a frame, as compiled."""
    hop_length: int
    """Samples from one frame to the next."""
    state_bytes: int
    """sizeof(kws_state)."""
    clips: tuple[ClipTrace, ...]
    """One for each clip, in order."""


def pack_clips(clips: Sequence[NDArray[np.int16]]) -> bytes:
    """Return clips int16 [samples] as the program reads them."""
    parts = [struct.pack("<4sI", b"KWSI", len(clips))]
    for pcm in clips:
        parts += [struct.pack("<I", len(pcm)), pcm.astype("<i2").tobytes()]
    return b"".join(parts)


def unpack_records(content: bytes) -> Records:
    """Read the program's output.

    Raises:
        KwsError: it is cut off or not such a file.
    """
    try:
        magic, frame_length, hop_length, n_mfcc, labels, state_bytes = _HEAD.unpack_from(content)
        if magic != b"KWSO":
            raise KwsError(
                f"Not output of the verification program. Received: {magic!r} at its start"
            )
        clips = _clips(content, n_mfcc, labels)
    except (struct.error, IndexError) as error:
        raise KwsError(
            f"The output of the verification program is cut off. Received: {len(content)} bytes"
        ) from error
    return Records(
        frame_length=frame_length, hop_length=hop_length, state_bytes=state_bytes, clips=clips
    )


def _clips(content: bytes, n_mfcc: int, labels: int) -> tuple[ClipTrace, ...]:
    sizes = {b"C": 0, b"F": 5 * n_mfcc, b"P": labels, b"E": _EVENT.size, b"Z": 0}
    found: list[tuple[bytearray, bytearray, bytearray, list[FirmwareEvent]]] = []
    at = _HEAD.size
    while (letter := content[at : at + 1]) != b"Z":
        size = sizes.get(letter, len(content))
        body = content[at + 1 : at + 1 + size]
        if len(body) < size:
            raise IndexError("a record is cut off, or its letter unknown")
        at += 1 + size
        if letter == b"C":
            found.append((bytearray(), bytearray(), bytearray(), []))
            continue
        mfcc, inputs, posteriors, events = found[-1]
        if letter == b"F":
            mfcc += body[: 4 * n_mfcc]
            inputs += body[4 * n_mfcc :]
        elif letter == b"P":
            posteriors += body
        else:
            keyword, score_q15, time_samples = _EVENT.unpack(body)
            events.append(
                FirmwareEvent(keyword=keyword, score_q15=score_q15, time_samples=time_samples)
            )
    return tuple(
        ClipTrace(
            mfcc_q16=np.frombuffer(mfcc, "<i4").reshape(-1, n_mfcc),
            inputs=np.frombuffer(inputs, np.int8).reshape(-1, n_mfcc),
            posteriors=np.frombuffer(posteriors, np.int8).reshape(-1, labels),
            events=tuple(events),
        )
        for mfcc, inputs, posteriors, events in found
    )
