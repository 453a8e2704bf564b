"""Real factors as integers: a multiplier in Q31 and a power of two."""

from __future__ import annotations

import math


def quantise_multiplier(real: float) -> tuple[int, int]:
    """Return (multiplier in Q31, shift) with real ≈ multiplier * 2^(shift - 31).

    As in TFLite's QuantizeMultiplier: rounded half up, and zero below 2^-32.
    """
    if real == 0:
        return 0, 0
    mantissa, shift = math.frexp(real)
    multiplier = math.floor(mantissa * 2.0**31 + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = 1 << 30, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def multiply_quantised(x: int, multiplier: int, shift: int) -> int:
    """Return x * multiplier * 2^(shift - 31), rounded twice: halves up, then away from zero."""
    product = (x << max(shift, 0)) * multiplier
    high = (product + (1 << 30)) >> 31
    right = max(-shift, 0)
    if right == 0:
        return high
    return (high + (1 << (right - 1)) - (high < 0)) >> right
