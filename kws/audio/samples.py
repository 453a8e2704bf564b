"""Samples: their type, conversion to int16, and the checks that all readers share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.errors import KwsError

SAMPLE_RATE_HZ = 16000
"""The rate that everything downstream works with."""

BLOCK_VALUES = 1 << 18
"""Values (frames x channels) decoded at a time, which bounds memory."""

_LOWEST_RATE_HZ, _HIGHEST_RATE_HZ = 1000, 768_000

_LOUDEST = 256.0
"""Floats of a file should stay within ±1; a peak 48 dB above that means another scaling."""

_LOUDEST_CHUNK = 8.0
"""The same for a piece of any length: even the noise of a quiet room exceeds this as 16 bits."""

_OTHER_SCALE = (
    "If the samples have the scale of 16 bits, use "
    "samples.round().clip(-32768, 32767).astype('int16'); if another, divide by it first"
)

Pcm = npt.NDArray[np.int16]
"""Mono samples [n]."""


def to_int16(samples: npt.ArrayLike) -> Pcm:
    """Turn floats, full scale ±1, into int16: times 32768, rounded half to even, clipped.

    Args:
        samples: floats of any shape. Peaks slightly above 1 are clipped.

    Raises:
        KwsError: no floats, NaN or infinity, or a peak so far above 1 that it means another scale.
    """
    samples = np.asarray(samples)
    if samples.dtype.kind != "f":
        raise KwsError(
            f"to_int16 takes floats in -1…1. Received: {samples.dtype}. int16 needs no conversion; "
            "for 32-bit integers use (samples >> 16).astype('int16')"
        )
    # Two comparisons without a copy; both are false for NaN.
    lowest, highest = samples.min(initial=0.0), samples.max(initial=0.0)
    if not (lowest >= -_LOUDEST_CHUNK and highest <= _LOUDEST_CHUNK):
        if not np.isfinite(samples).all():
            raise KwsError(
                "Audio must not contain NaN or infinity. Received: "
                f"{np.count_nonzero(~np.isfinite(samples))} of {samples.size} samples. Check their "
                "source"
            )
        raise KwsError(
            f"to_int16 takes floats in -1…1. Received: a peak of {max(-lowest, highest):.6g}. "
            f"{_OTHER_SCALE}"
        )
    # float16 cannot represent 32767.
    return scaled_int16(samples.astype(np.promote_types(samples.dtype, np.float32), copy=False))


def scaled_int16(samples: npt.NDArray[Any]) -> Pcm:
    """Convert as `to_int16`, but without checks: float32 or float64 that a reader has checked."""
    return np.clip(np.rint(np.multiply(samples, 32768.0)), -32768, 32767).astype(np.int16)


def check_pcm(samples: Any, shape: str = "[n]") -> npt.NDArray[np.int16]:
    """Return samples if they are int16 of this shape; nothing is converted.

    Args:
        samples: what a caller passed as audio.
        shape: ``"[n]"``, ``"[n, samples]"``, or ``"[..., n]"`` for one dimension or more.

    Raises:
        KwsError: another type or shape; says how to convert it.
    """
    try:
        samples = np.asarray(samples)
    except ValueError as error:
        raise KwsError(f"Audio must be a NumPy array of int16. Received: {error}") from error
    kind = samples.dtype.kind
    fits = samples.ndim if "..." in shape else samples.ndim == shape.count(",") + 1
    if samples.dtype == np.int16 and fits:
        return samples
    if kind == "f":
        hint = "Convert samples in -1…1 with kws.audio.samples.to_int16"
        if not np.isfinite(samples).all():
            hint = f"They contain NaN or infinity, so check their source first. {hint}"
        elif np.abs(samples).max(initial=0.0) > _LOUDEST_CHUNK:
            hint = f"Their peak is {np.abs(samples).max():.6g}, far above 1. {_OTHER_SCALE}"
    elif kind == "S" or samples.dtype == np.uint8:
        hint = "For the raw bytes of 16-bit samples pass np.frombuffer(data, '<i2')"
    elif kind not in "iu":
        hint = "Pass a NumPy array of int16, for example from kws.audio.files.read_audio"
    elif samples.dtype != np.int16:
        hint = "Scale to 16 bits (32-bit samples: samples >> 16) and convert with .astype('int16')"
    elif samples.ndim == 2:
        hint = "For one channel of [n, channels] audio pass samples[:, 0]"
    else:
        hint = f"Pass an array of shape {shape}"
    raise KwsError(
        f"Audio must be 16-bit samples, int16 of shape {shape}. Received: {samples.dtype} of shape "
        f"{samples.shape}. {hint}"
    )


def check_rate(path: Path, rate_hz: int) -> None:
    """Refuse an implausible sample rate; `path` is the file that states it."""
    if not _LOWEST_RATE_HZ <= rate_hz <= _HIGHEST_RATE_HZ:
        raise KwsError(
            f"{path}: not a valid sample rate. Received: {rate_hz} Hz. Use {_LOWEST_RATE_HZ} to "
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
            f"{path} contains floats that are not scaled to -1...1. Received: {value:.6g} at "
            f"second {second:.3f}. Divide by the full scale (32768 for 16 bits) before saving"
        )
    raise KwsError(
        f"{path} contains samples that are not numbers. Received: {value} at second {second:.3f}. "
        "Repair or record it again"
    )
