"""Confidence intervals of a proportion and of a count."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
    return weighted_interval([1.0] * count, 1.0, confidence)


def weighted_interval(
    weights: Sequence[float], largest: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the confidence interval of an expected sum of weights, of which some were observed.

    The gamma interval (M. P. Fay and E. J. Feuer, "Confidence intervals for directly standardized
    rates", Statistics in Medicine 16, 1997): things with a weight occur independently. If all
    weights are 1, it is Garwood's.

    Args:
        weights: of the things that occurred, all above 0.
        largest: the largest weight that another one may have, above 0.
        confidence: between 0 and 1.
    """
    tail = (1.0 - confidence) / 2
    low = _gamma_quantile(weights, tail) if weights else 0.0
    return low, _gamma_quantile([*weights, max([largest, *weights])], 1.0 - tail)


def _gamma_quantile(weights: Sequence[float], probability: float) -> float:
    """Return a quantile of the gamma distribution with the sum of the weights as its mean.

    Its variance is the sum of their squares.
    """
    total, squares = math.fsum(weights), math.fsum(w * w for w in weights)
    shape = total * total / squares
    highest = shape + 10.0 * math.sqrt(shape + 1.0) + 20.0
    # The distribution function is the sum of x ** k * exp(-x) / gamma(k + 1) over k = shape,
    # shape + 1 …
    k = shape + np.arange(round(2 * highest) + 100)
    logs_of_gamma = math.lgamma(shape + 1.0) + np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])

    low, high = 1e-12, highest
    for _ in range(100):
        x = (low + high) / 2
        if np.exp(k * math.log(x) - x - logs_of_gamma).sum() < probability:
            low = x
        else:
            high = x
    return (low + high) / 2 * squares / total
