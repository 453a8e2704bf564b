"""How loud a sound is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def rms(samples: npt.NDArray[Any]) -> float:
    """Return the root of the mean square of samples of any shape, in their own unit.

    Args:
        samples: int16 or float, not empty; squares are summed in float64.
    """
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
