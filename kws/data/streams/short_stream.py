"""Place words into continuous audio as a listening device hears it, with a label for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kws.data.label_file import SpokenWord


def lay_stream(
    words: Sequence[tuple[str | None, NDArray[np.int16]]],
    noise: NDArray[np.int16],
    *,
    gap_s: tuple[float, float] = (0.7, 2.0),
    snr_db: tuple[float, float] = (10.0, 20.0),
    level_dbfs: tuple[float, float] = (-32.0, -20.0),
    sample_rate_hz: int = 16000,
    seed: int = 0,
) -> tuple[NDArray[np.int16], list[SpokenWord]]:
    """Place recordings one after the other into background noise.

    Each recording gets its own level (RMS). The noise runs throughout, and its level follows
    slowly, so that each word has its own signal-to-noise ratio.

    Args:
        words: (keyword, int16 [n]) each; keyword None for speech that must not be detected.
        noise: int16 [m], looped.
        gap_s: shortest and longest pause before a word, in seconds.
        snr_db: range of signal-to-noise ratios, in dB.
        level_dbfs: range of the words' levels, RMS in dB relative to full scale.
        sample_rate_hz: sample rate of everything.
        seed: of the random generator.

    Returns:
        int16 [total] and the keywords with their times.
    """
    rng = np.random.default_rng(seed)
    starts, at = [], 0
    for _, pcm in words:
        at += round(rng.uniform(*gap_s) * sample_rate_hz)
        starts.append(at)
        at += len(pcm)
    total = at + round(gap_s[1] * sample_rate_hz)

    speech = np.zeros(total, np.float32)
    noise_db = np.empty(len(words))
    truth = []
    for i, ((keyword, pcm), start) in enumerate(zip(words, starts, strict=True)):
        level = rng.uniform(*level_dbfs)
        noise_db[i] = level - rng.uniform(*snr_db)
        samples = pcm.astype(np.float32) / 32768
        speech[start : start + len(pcm)] = samples * _gain(samples, level)
        if keyword is not None:
            end = (start + len(pcm)) / sample_rate_hz
            truth.append(SpokenWord(start_s=start / sample_rate_hz, end_s=end, keyword=keyword))
    background = np.resize(noise, total).astype(np.float32) / 32768
    background *= _gain(background, 0.0)
    centres = [start + len(pcm) / 2 for (_, pcm), start in zip(words, starts, strict=True)]
    background *= 10 ** (np.interp(np.arange(total), centres, noise_db).astype(np.float32) / 20)
    mixed = np.rint((speech + background) * 32768)
    return np.clip(mixed, -32768, 32767).astype(np.int16), truth


def _gain(samples: NDArray[np.floating], level_dbfs: float) -> float:
    """Return the factor that brings `samples` to an RMS of `level_dbfs`."""
    rms = float(np.sqrt(np.mean(samples**2)))
    return float(10 ** (level_dbfs / 20) / max(rms, 1e-6))
