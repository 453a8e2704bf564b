"""Where in a clip the word is, by energy: training targets and the truth of streams rest on it.

A clip is taken to hold one word, louder than what surrounds it. Its level is measured in frames of
20 ms every 10 ms; what exceeds a threshold between the quiet parts and the peak, and lies in one
piece with the peak but for short gaps (the closure before a final "t" or "p"), is the word. In a
clip where nothing stands out, because it is noisy or full, the word may reach to both ends.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FRAME_MS = 20
HOP_MS = 10
QUIET_PERCENTILE = 10.0
"""The level that this share of a clip's frames stays below is that of its background, in %."""
RISE = 0.3
"""The threshold lies so far on the way from the background's level (0) to the peak's (1), in dB."""
DEEPEST_DB = 32.0
"""But never further below the peak than this."""
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
        int32 [n, 2]: the word's first sample and the one after its last. A clip of equal level
        throughout, digital silence too, is one word from end to end.
    """
    frame, hop = (sample_rate_hz * ms // 1000 for ms in (FRAME_MS, HOP_MS))
    spans = np.empty((len(clips), 2), np.int32)
    for i, clip in enumerate(clips):
        sums = np.concatenate([[0.0], np.cumsum(np.square(clip, dtype=np.float64))])
        starts = np.arange(0, len(clip) - frame + 1, hop)
        # One step of the converter as a floor, so that zeros have a level.
        level_db = 10 * np.log10((sums[starts + frame] - sums[starts]) / frame + 1)
        first, last = _loud_frames(level_db, LONGEST_GAP_MS // HOP_MS)
        # A frame that is loud shows a word by its middle.
        start = 0 if first == 0 else starts[first] + (frame - hop) // 2
        end = len(clip) if last == len(starts) - 1 else starts[last] + (frame + hop) // 2
        spans[i] = start, end
    return spans


def _loud_frames(level_db: npt.NDArray[np.float64], longest_gap: int) -> tuple[int, int]:
    """Return the first and last frame of the loud piece that holds the peak."""
    peak, quiet = level_db.max(), np.percentile(level_db, QUIET_PERCENTILE)
    threshold = max(quiet + RISE * (peak - quiet), peak - DEEPEST_DB)
    loud = np.flatnonzero(level_db >= threshold)
    at = int(np.searchsorted(loud, level_db.argmax()))
    breaks = np.flatnonzero(np.diff(loud) > longest_gap + 1)
    piece = int(np.searchsorted(breaks, at))
    first = loud[breaks[piece - 1] + 1] if piece else loud[0]
    last = loud[breaks[piece]] if piece < len(breaks) else loud[-1]
    return int(first), int(last)
