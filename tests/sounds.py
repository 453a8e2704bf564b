"""Sounds for tests of what takes any sound."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kws.spotter import TAIL_SAMPLES

RNG = np.random.default_rng(2)


def hiss(n: int, rms: float = 1000) -> np.ndarray:
    """White noise, int16 [n], never the same twice."""
    return np.rint(RNG.normal(0, rms, n)).clip(-32768, 32767).astype(np.int16)


def gusts(seconds: float, seed: int = 0) -> NDArray[np.int16]:
    """Noise of changing loudness and colour, on which untrained networks fire now and then."""
    rng = np.random.default_rng(seed)
    pieces = []
    for _ in range(max(1, round(seconds * 5))):
        white = rng.standard_normal(3200 + 64)
        width = rng.integers(1, 64)
        smooth = np.convolve(white, np.ones(width) / np.sqrt(width), "valid")[:3200]
        pieces.append(smooth * 10 ** rng.uniform(0, 3.5))
    return np.concatenate(pieces).clip(-32768, 32767).astype(np.int16)


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
