"""The picture of the leaderboard: accuracy over size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kws.errors import require
from kws.report.style import BLUE, ORANGE, PALE, grid, picture, title

_MARKER = 6
"""Width of a point, in 1/72 inch."""
_BESIDE = (
    *((6, 0, "left"), (5, 4, "left"), (5, -10, "left")),
    *((-6, 0, "right"), (-5, 4, "right"), (-5, -10, "right")),
    *((0, 7, "center"), (0, -13, "center")),
)
"""Possible places of a name: offset from its point in 1/72 inch, and the side at that offset."""


def plot_sizes(points: Sequence[tuple[str, float, float, bool]], path: str | Path) -> None:
    """Draw accuracy over size, a point for each model; the best for its size are joined.

    Args:
        points: name, size in kB, accuracy in %, whether it streams.
        path: .png, .pdf or .svg; written whole or not at all.

    Raises:
        KwsError: matplotlib is missing, or an unknown suffix.
    """
    with picture(path, (8.4, 4.8)) as figure:
        axes = figure.add_subplot()
        front: list[tuple[float, float]] = []
        for _, size, accuracy, _ in sorted(points, key=lambda p: (p[1], -p[2])):
            if not front or accuracy > front[-1][1]:
                front.append((size, accuracy))
        axes.plot(*zip(*front, strict=True), color=PALE, linewidth=1.2, zorder=1)
        for streams, colour, label in ((True, BLUE, "streams"), (False, ORANGE, "whole clips")):
            chosen = [p for p in points if p[3] == streams]
            if chosen:
                axes.plot(
                    [p[1] for p in chosen], [p[2] for p in chosen], "o", color=colour,
                    markersize=_MARKER, label=label, zorder=2,
                )  # fmt: skip
        notes = [
            axes.annotate(name, (size, accuracy), xytext=(0, 0), textcoords="offset points", size=8)
            for name, size, accuracy, _ in sorted(points, key=lambda p: -p[2])
        ]
        axes.margins(x=0.12, y=0.1)
        axes.set_xlabel("int8 file, kB")
        axes.set_ylabel("accuracy on validation clips, %")
        grid(axes)
        figure.legend(loc="outside right upper", fontsize=8.5)
        title(figure, "leaderboard", f"{len(points)} models, int8")
        figure.draw_without_rendering()  # this computes where the points are on the page
        _place_beside(notes, axes.transData.transform([point[1:3] for point in points]))


def _place_beside(notes: Sequence[Any], points: Iterable[tuple[float, float]]) -> None:
    """Put each note beside its point, where it covers no point and no earlier note.

    Args:
        notes: annotations with an offset in points of 1/72 inch.
        points: places of all points, in pixels.
    """
    boxes = require("matplotlib.transforms", extra="plot").Bbox
    width = (_MARKER + 1) * notes[0].figure.dpi / 72  # with its edge
    taken = [boxes.from_bounds(x - width / 2, y - width / 2, width, width) for x, y in points]
    for note in notes:
        for dx, dy, side in _BESIDE:
            note.set(position=(dx, dy), ha=side, va="center" if dy == 0 else "baseline")
            box = note.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)
