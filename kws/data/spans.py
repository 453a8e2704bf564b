"""The position of the word in a clip, by energy, for training targets and the labels of streams.

A clip is assumed to hold one word, louder than its surroundings. The level is measured in frames of
20 ms every 10 ms. The word is the stretch around the peak that exceeds a threshold between the
quiet parts and the peak, short gaps (such as the closure before a final "t" or "p") included. If
nothing stands out, because a clip is noisy or full, the word may extend to both ends.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FRAME_MS = 20
HOP_MS = 10
QUIET_PERCENTILE = 10.0
"""The background level is the one that this percentage of a clip's frames stays below."""
RISE = 0.3
"""Position of the threshold between the levels of the background (0) and the peak (1), in dB."""
DEEPEST_DB = 32.0
"""Furthest that the threshold may lie below the peak."""
LONGEST_GAP_MS = 120
"""A shorter gap is part of the word."""


def word_spans(
    clips: npt.NDArray[np.int16], *, sample_rate_hz: int = 16000
) -> npt.NDArray[np.int32]:
    """Find the word in each clip.

    Args:
        clips: int16 [n, samples], at least one frame (20 ms) long.
        sample_rate_hz: of the clips.

    Returns:
        int32 [n, 2]: the word's first sample and the one after its last. In a clip of constant
        level, digital silence included, the word reaches from end to end.
    """
    frame, hop = (sample_rate_hz * ms // 1000 for ms in (FRAME_MS, HOP_MS))
    spans = np.empty((len(clips), 2), np.int32)
    for i, clip in enumerate(clips):
        sums = np.concatenate([[0.0], np.cumsum(np.square(clip, dtype=np.float64))])
        starts = np.arange(0, len(clip) - frame + 1, hop)
        # Quantisation noise as a floor, so that zeros have a level.
        level_db = 10 * np.log10((sums[starts + frame] - sums[starts]) / frame + 1)
        first, last = _loud_frames(level_db, LONGEST_GAP_MS // HOP_MS)
        # The level of a frame is that of its middle.
        start = 0 if first == 0 else starts[first] + (frame - hop) // 2
        end = len(clip) if last == len(starts) - 1 else starts[last] + (frame + hop) // 2
        spans[i] = start, end
    return spans


def _loud_frames(level_db: npt.NDArray[np.float64], longest_gap: int) -> tuple[int, int]:
    """Return the first and last frame of the loud stretch around the peak."""
    peak, quiet = level_db.max(), np.percentile(level_db, QUIET_PERCENTILE)
    threshold = max(quiet + RISE * (peak - quiet), peak - DEEPEST_DB)
    loud = np.flatnonzero(level_db >= threshold)
    at = int(np.searchsorted(loud, level_db.argmax()))
    breaks = np.flatnonzero(np.diff(loud) > longest_gap + 1)
    piece = int(np.searchsorted(breaks, at))
    first = loud[breaks[piece - 1] + 1] if piece else loud[0]
    last = loud[breaks[piece]] if piece < len(breaks) else loud[-1]
    return int(first), int(last)
