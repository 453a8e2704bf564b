"""A picture of the clips cut out of recordings of your own words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.audio.samples import SAMPLE_RATE_HZ
from kws.data.recording.find_words import Utterance, levels_dbfs
from kws.data.recording.word_clips import Cut
from kws.errors import require
from kws.report.style import BLUE, ORANGE, PALE, VERMILLION, legend_below, picture, title

_STRETCHES = {
    "clip": {"color": PALE, "alpha": 0.5, "lw": 0},
    "word": {"color": ORANGE, "alpha": 0.45, "lw": 0},
    "found, not taken": {"color": VERMILLION, "lw": 0},
}
"""How `plot_cuts` marks parts of a recording."""

MOST_CUT_RECORDINGS = 24
"""`plot_cuts` draws at most this many recordings."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CutRecording:
    """A recording and the clips cut out of it, for `plot_cuts`."""

    name: str
    """Its name in the picture."""
    pcm: npt.NDArray[np.int16]
    """Its samples at 16 kHz [n]."""
    found: Sequence[Utterance]
    """All utterances found in it."""
    cuts: Sequence[Cut]
    """The clips."""


def plot_cuts(recordings: Sequence[CutRecording], path: str | Path) -> None:
    """Draw recordings below each other: level, clips, the words in them, and unused utterances.

    Args:
        recordings: the first `MOST_CUT_RECORDINGS` are drawn.
        path: .png, .pdf or .svg; written whole or not at all.

    Raises:
        KwsError: matplotlib is missing, or an unknown suffix.
    """
    shown = recordings[:MOST_CUT_RECORDINGS]
    columns = 1 if len(shown) < 6 else 2
    rows = -(-len(shown) // columns)
    with picture(path, (6.0 * columns + 1.0, 1.25 * rows + 1.0)) as figure:
        panels = figure.subplots(rows, columns, squeeze=False)
        for panel in panels.flat[len(shown) :]:
            panel.set_axis_off()
        for panel, one in zip(panels.flat, shown, strict=False):
            _cut_panel(panel, one)
        more = len(recordings) - len(shown)
        title(
            figure,
            "Clips cut out of recordings",
            "level in dBFS over time in s"
            + (f"   ({more} more recordings are not drawn)" if more else ""),
        )
        lines = require("matplotlib.lines", extra="plot")
        patches = require("matplotlib.patches", extra="plot")
        entries = {"level": lines.Line2D([], [], color=BLUE, lw=0.8)}
        entries |= {name: patches.Patch(**style) for name, style in _STRETCHES.items()}
        legend_below(figure, entries)


def _cut_panel(axes: Any, one: CutRecording) -> None:
    level = levels_dbfs(one.pcm)
    # No more points than the picture resolves, each a maximum.
    width = max(1, len(level) // 2000)
    kept = len(level) // width * width
    level = level[:kept].reshape(-1, width).max(axis=1)
    seconds = len(one.pcm) / SAMPLE_RATE_HZ
    words = [cut.word for cut in one.cuts]
    clip, word, not_taken = _STRETCHES.values()
    for cut in one.cuts:
        axes.axvspan(cut.start / SAMPLE_RATE_HZ, cut.end / SAMPLE_RATE_HZ, **clip)
        if cut.word is not None:
            axes.axvspan(cut.word.start_s, cut.word.end_s, **word)
    for other in one.found:
        if other not in words:
            axes.axvspan(other.start_s, other.end_s, ymax=0.12, **not_taken)
    axes.plot((np.arange(len(level)) + 0.5) * width / 100, level, color=BLUE, lw=0.8)
    axes.set_xlim(0, seconds)
    axes.set_ylim(-78, 0)
    axes.set_title(one.name, size=7.5, pad=2)
    axes.tick_params(labelsize=6.5, length=2)
