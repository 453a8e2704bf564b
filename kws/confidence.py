"""Confidence intervals of a proportion and of a count."""

from __future__ import annotations

import math

import numpy as np

from kws.errors import KwsError


def wilson_interval(correct: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the confidence interval of a proportion (E. B. Wilson, JASA 22, 1927).

    Unlike the normal approximation, it stays within 0 and 1 and is valid for proportions near them.

    Args:
        correct: number of successes.
        total: number of trials, above 0.
        z: quantile of the normal distribution; the default gives 95 %.

    Raises:
        KwsError: not 0 <= correct <= total, or total is 0.
    """
    if not 0 <= correct <= total or total == 0:
        raise KwsError(f"Not a proportion. Received: {correct} of {total}")
    p = correct / total
    centre = p + z * z / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    # Rounding would miss the exact bounds 0 and 1.
    low = 0.0 if correct == 0 else (centre - half) / scale
    high = 1.0 if correct == total else (centre + half) / scale
    return low, high


def poisson_interval(count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the confidence interval of the expected number of events, given `count`.

    The exact interval (F. Garwood, "Fiducial limits for the Poisson distribution", 1936): with no
    false accept in three hours, up to 3.7 may be expected in that time. Divide by the hours for a
    rate.

    Args:
        count: number of events.
        confidence: between 0 and 1.
    """
    tail = (1.0 - confidence) / 2
    factors = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    numbers = np.arange(count + 1)

    def at_most(n: int, mean: float) -> float:
        """Return the probability of at most n events if `mean` are expected."""
        if n < 0:
            return 0.0
        logs = numbers[: n + 1] * math.log(mean) - mean - factors[: n + 1]
        return float(np.exp(logs).sum())

    def solve(n: int, wanted: float) -> float:
        low, high = 1e-12, count + 10.0 * math.sqrt(count + 1.0) + 20.0
        for _ in range(100):
            middle = (low + high) / 2
            if at_most(n, middle) > wanted:
                low = middle
            else:
                high = middle
        return (low + high) / 2

    lowest = solve(count - 1, 1.0 - tail) if count else 0.0
    return lowest, solve(count, tail)
