"""The picture of the leaderboard: accuracy over size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kws.report.style import BLUE, ORANGE, PALE, grid, picture, title


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
                    markersize=6, label=label, zorder=2,
                )  # fmt: skip
        for name, size, accuracy, _ in points:
            axes.annotate(
                name, (size, accuracy), xytext=(5, 4), textcoords="offset points", fontsize=8
            )
        axes.margins(x=0.12, y=0.1)
        axes.set_xlabel("int8 file, kB")
        axes.set_ylabel("accuracy on validation clips, %")
        grid(axes)
        figure.legend(loc="outside right upper", fontsize=8.5)
        title(figure, "leaderboard", f"{len(points)} models, int8")
