"""Levels of a recorded word, and whether they are good enough to learn from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kws.audio.samples import SAMPLE_RATE_HZ, Pcm

# Levels are measured in steps of 10 ms.
_FRAME = SAMPLE_RATE_HZ // 100
# Loudest 30 ms of speech at arm's length: -35 to -15 dBFS. Below this the gain is too low.
_QUIET_DBFS = -42.0
_CLIPPED_SAMPLES = 8


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Levels within a recording, in dB relative to full scale; ``-inf`` for digital silence."""

    loudest_dbfs: float
    """RMS of the loudest 30 ms."""
    noise_dbfs: float
    """RMS of the quietest tenth."""


def measure_levels(pcm: Pcm) -> Levels:
    """Measure a recording.

    Args:
        pcm: int16 [n] at 16 kHz, at least 30 ms.
    """
    frames = len(pcm) // _FRAME
    samples = pcm[: frames * _FRAME].astype(np.float64)
    samples -= samples.mean()
    power = (samples.reshape(frames, _FRAME) ** 2).mean(axis=1)
    # Averaged over three frames: shorter than a syllable, longer than a click.
    power = np.convolve(power, np.ones(3) / 3, mode="same")
    return Levels(
        loudest_dbfs=_dbfs(float(power.max())), noise_dbfs=_dbfs(float(np.quantile(power, 0.1)))
    )


def level_fault(pcm: Pcm) -> str | None:
    """Return what is wrong with the level of a word, and advice for its speaker; None if nothing.

    Args:
        pcm: as for `measure_levels`.
    """
    # A limiter's flat tops are as bad, but cannot be detected this simply.
    clipped = int(np.count_nonzero((pcm >= 32766) | (pcm <= -32767)))
    if clipped >= _CLIPPED_SAMPLES:
        return "clipped: speak more softly, move away or turn down the input level"
    loudest_dbfs = measure_levels(pcm).loudest_dbfs
    if loudest_dbfs < _QUIET_DBFS:
        return f"too quiet ({loudest_dbfs:.0f} dBFS): come closer or turn up the input level"
    return None


def _dbfs(power: float) -> float:
    return 10 * math.log10(power / 32768**2) if power > 0 else -math.inf
