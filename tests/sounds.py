"""Sounds for tests of what takes any sound."""

from __future__ import annotations

import numpy as np

RNG = np.random.default_rng(2)


def hiss(n: int, rms: float = 1000) -> np.ndarray:
    """White noise, int16 [n], never the same twice."""
    return np.rint(RNG.normal(0, rms, n)).clip(-32768, 32767).astype(np.int16)
