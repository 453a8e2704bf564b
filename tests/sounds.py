"""Sounds for tests of what takes any sound."""

from __future__ import annotations

import numpy as np

from kws.spotter import TAIL_SAMPLES

RNG = np.random.default_rng(2)


def hiss(n: int, rms: float = 1000) -> np.ndarray:
    """White noise, int16 [n], never the same twice."""
    return np.rint(RNG.normal(0, rms, n)).clip(-32768, 32767).astype(np.int16)


def babble() -> np.ndarray:
    """Four seconds of noise whose colour and level change, int16 at 16 kHz, always the same."""
    rng = np.random.default_rng(5)
    pieces = []
    for _ in range(20):
        white = rng.normal(0, 1, 3200)
        smooth = np.convolve(white, np.ones(rng.integers(1, 30)), mode="same")
        pieces.append(smooth / smooth.std() * rng.uniform(200, 5000))
    return np.clip(np.concatenate(pieces), -32768, 32767).astype(np.int16)


def with_tail(pcm: np.ndarray) -> np.ndarray:
    """A recording and the silence that whoever hears it to its end feeds behind it: int16."""
    return np.concatenate([pcm, np.zeros(TAIL_SAMPLES, np.int16)])
