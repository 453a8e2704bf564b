"""A picture of misses over false accepts per hour (DET curve)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kws.errors import KwsError
from kws.report.style import BLUE, GREY, INK, ORANGE, VERMILLION, grid, picture, title
from kws.wording import counted, duration

if TYPE_CHECKING:
    from kws.recordings.curve import Curve

_KEYWORD_LINES = [
    (colour, dashes)
    for dashes in ("-", (0, (4, 2)), (0, (1, 1)))
    for colour in (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9")
]
"""One for each keyword; if there are more keywords, those missed most are drawn."""


def plot_trade_off(curves: Mapping[str, Curve], name: str, path: str | Path) -> None:
    """Draw misses over false accepts per hour, in bold for all keywords and a line for each.

    A keyword's line is over its own false accepts. The scale is logarithmic, down to 0.1. The
    shaded part is below one false accept in all of the audio.

    Args:
        curves: from `kws.recordings.curve.trace_curves`.
        name: of the model.
        path: .png, .pdf or .svg; written whole or not at all.

    Raises:
        KwsError: matplotlib is missing, an unknown suffix, or no word was spoken.
    """
    whole = curves["all"]
    if not whole.own.words:
        raise KwsError(
            "No word is spoken in these recordings, so there are no misses to draw. Add one that "
            "has keywords"
        )
    hours, words = whole.own.hours, whole.own.words
    lowest = min(0.1, 0.5 / hours)
    with picture(path, (8.4, 4.8)) as figure:
        axes = figure.add_subplot()
        single = [curve for curve in curves.values() if curve.name != "all" and curve.own.words]
        shown = _most_missed(single) if len(single) > 1 else []
        left_out = len(single) > len(_KEYWORD_LINES)
        highest = 0.0
        for curve, (colour, dashes) in zip(shown, _KEYWORD_LINES, strict=False):
            x, y = _frontier(curve, lowest)
            highest = max(highest, float(y[0]))
            axes.step(
                x, y, where="post", color=colour, linestyle=dashes, linewidth=1.1, label=curve.name
            )
        x, y = _frontier(whole, lowest)
        highest = max(highest, float(y[0]))
        axes.step(x, y, where="post", color=INK, linewidth=2.2, label="all")
        own = whole.own
        if own.false_reject_rate is not None:
            axes.plot(
                max(own.false_accepts_per_hour, lowest), 100 * own.false_reject_rate, "o",
                color=VERMILLION, markersize=7, markeredgecolor="white", zorder=5, clip_on=False,
                label="thresholds in the file",
            )  # fmt: skip
        axes.axvspan(lowest, 1 / hours, color="#F4F4F4", linewidth=0, zorder=0)
        axes.axvline(1 / hours, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        most = max(30.0, 1.5 * own.false_accepts_per_hour)
        axes.set_xlim(lowest, most)
        axes.set_ylim(0, max(10.0, 1.05 * highest))
        ticks = [t for t in (0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if lowest <= t <= most]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        grid(axes)
        of_what = "; of a keyword, its own" if shown else ""
        axes.set_xlabel(f"false accepts per hour{of_what}")
        axes.set_ylabel("words missed or taken for another, %")
        figure.legend(loc="outside right upper", fontsize=8.5)
        title(
            figure,
            name,
            f"{counted(words, 'word')} in {duration(hours * 3600)} "
            "(shaded: less than one false accept)"
            + (f"; the {len(shown)} of {len(single)} keywords missed most" if left_out else ""),
        )


def _most_missed(curves: Sequence[Curve]) -> list[Curve]:
    """Return the curves that are drawn, in the order given."""
    order = sorted(curves, key=lambda curve: -(curve.own.false_reject_rate or 0.0))
    chosen = {curve.name for curve in order[: len(_KEYWORD_LINES)]}
    return [curve for curve in curves if curve.name in chosen]


def _frontier(
    curve: Curve, lowest: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return false accepts per hour, rising, and the fewest misses (in %) that each allows."""
    points = sorted(
        (max(p.false_accepts_per_hour, lowest), 100.0 * (p.false_reject_rate or 0.0))
        for p in curve.points
    )
    x = np.array([rate for rate, _ in points])
    y = np.minimum.accumulate([missed for _, missed in points])
    return x, y
