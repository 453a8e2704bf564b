"""What all readers of sound files share: samples, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.errors import KwsError

SAMPLE_RATE_HZ = 16000
"""What everything downstream of here works with."""

BLOCK_VALUES = 1 << 18
"""Values (frames x channels) that are decoded at a time, which bounds the memory."""

_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ = 1000, 768_000

_LOUDEST = 256.0
"""Floats are meant to stay within ±1; a peak 48 dB above that means they are scaled otherwise."""

Pcm = npt.NDArray[np.int16]
"""Mono samples [n]."""


def to_int16(samples: npt.NDArray[Any]) -> Pcm:
    """Turn floats, full scale ±1, into int16: times 32768, rounded half to even, clipped."""
    return np.clip(np.rint(np.multiply(samples, 32768.0)), -32768, 32767).astype(np.int16)


def check_rate(path: Path, rate_hz: int) -> None:
    """Refuse a sample rate that no sound has; `path` is where it was read."""
    if not _LOWEST_RATE_HZ <= rate_hz <= _HIGHEST_RATE_HZ:
        raise KwsError(
            f"{path}: that is no sample rate. Received: {rate_hz} Hz. Use {_LOWEST_RATE_HZ} to "
            f"{_HIGHEST_RATE_HZ} Hz"
        )


def check_floats(path: Path, values: npt.NDArray[Any], first: int, rate_hz: int) -> None:
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
