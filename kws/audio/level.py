"""Levels of samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt


def rms(samples: npt.NDArray[Any]) -> float:
    """Return the root mean square of samples of any shape, in their own unit.

    Args:
        samples: int16 or float, not empty; squares are summed in float64.
    """
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def level_dbfs(block: npt.NDArray[np.int16]) -> float:
    """Return the RMS of a block after removing its mean, in dB relative to full scale (32768).

    Cheap microphones have a constant offset, which is inaudible.

    Args:
        block: int16 [n].

    Returns:
        dBFS, at most 0; ``-inf`` for an empty or a constant block.

    Example:
        >>> round(level_dbfs(np.array([16384, -16384], np.int16)), 1)
        -6.0
    """
    if not len(block):
        return -math.inf
    deviation = float(block.std(dtype=np.float64))
    return 20 * math.log10(deviation / 32768) if deviation > 0 else -math.inf
