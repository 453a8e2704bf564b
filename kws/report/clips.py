"""Pictures of an evaluation on clips: the confusion matrix, and accuracy in noise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kws.errors import KwsError
from kws.report.style import BLUE, GREY, INK, grid, picture, title

if TYPE_CHECKING:
    from kws.evaluate.clips import Evaluation


def plot_confusion(evaluation: Evaluation, path: str | Path) -> None:
    """Draw the confusion matrix of an evaluation.

    Rows are the right labels, columns the answers; the colour is the share of the row, the number
    counts clips. Recall is at the end of each row, precision below each column.

    Args:
        evaluation: the result to draw.
        path: .png, .pdf or .svg; written whole or not at all.

    Raises:
        KwsError: matplotlib is missing, or an unknown suffix.
    """
    counts = np.array(evaluation.confusion)
    labels = evaluation.labels
    n = len(labels)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    per_label = evaluation.per_label()
    cell = 0.52 if n <= 14 else 0.36
    size = 8.5 if n <= 14 else 6.5
    low, high = (100 * bound for bound in evaluation.interval)

    with picture(path, (max(4.8, cell * (n + 2) + 1.6), max(3.6, cell * (n + 1) + 2.2))) as figure:
        axes = figure.add_subplot()
        # Right in blue, wrong in orange; the square root shows one clip in a hundred.
        right = np.eye(n, dtype=bool)
        depth = np.sqrt(shares)
        axes.imshow(np.ma.masked_where(~right, depth), cmap="Blues", vmin=0.0, vmax=1.15)
        axes.imshow(
            np.ma.masked_where(right | (counts == 0), depth), cmap="Oranges", vmin=0.0, vmax=0.8
        )
        axes.set_xticks(range(n), labels, rotation=45, ha="left", rotation_mode="anchor")
        axes.set_yticks(range(n), labels)
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelsize=size + 0.5)
        axes.set_xlabel("detected", labelpad=8)
        axes.xaxis.set_label_position("top")
        axes.set_ylabel("said")
        for i, j in zip(*np.nonzero(counts), strict=True):
            colour = "white" if depth[i, j] > (0.65 if i == j else 0.5) else INK
            axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", size=size, color=colour)
        for i, label in enumerate(labels):
            recall, precision = per_label[label]["recall"], per_label[label]["precision"]
            axes.text(n - 0.35, i, _percent(recall), ha="left", va="center", size=size)
            axes.text(i, n - 0.1, _percent(precision), ha="center", va="center", size=size)
        axes.text(n - 0.35, -0.75, "recall, %", ha="left", va="center", size=size, color=GREY)
        axes.text(-0.62, n - 0.1, "precision, %", ha="right", va="center", size=size, color=GREY)
        for side in axes.spines.values():
            side.set_visible(False)
        axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#E4E4E4", linewidth=0.6)
        axes.tick_params(which="minor", length=0)
        title(
            figure,
            Path(evaluation.model).name,
            f"{100 * evaluation.accuracy:.1f} % of {evaluation.clips:,} clips right "
            f"(95 % interval {low:.1f} to {high:.1f} %)",
        )


def plot_in_noise(evaluation: Evaluation, path: str | Path) -> None:
    """Draw accuracy over the ratio of speech to noise, with its 95 % confidence interval.

    Noise increases to the right. The accuracy without noise is at the left, beside the scale, and
    continues as a dashed line.

    Args:
        evaluation: the result to draw, with `in_noise`.
        path: .png, .pdf or .svg; written whole or not at all.

    Raises:
        KwsError: matplotlib is missing, an unknown suffix, or no results in noise.
    """
    noisy = evaluation.in_noise
    if not noisy:
        raise KwsError("There are no results in noise. Received: clean clips. Use --noise NOISE")
    ratios = [float(one.snr_db or 0.0) for one in noisy]
    # As far from the first ratio as the ratios are from each other.
    step = float(np.median(-np.diff(ratios))) if len(ratios) > 1 else 10.0
    clean_at = ratios[0] + step
    low, high = (100 * np.array([one.interval[end] for one in noisy]) for end in (0, 1))
    middle = 100 * np.array([one.accuracy for one in noisy])
    clean, (clean_low, clean_high) = 100 * evaluation.accuracy, 100 * np.array(evaluation.interval)
    with picture(path, (6.4, 4.2)) as figure:
        axes = figure.add_subplot()
        axes.axhline(clean, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        axes.fill_between(ratios, low, high, color=BLUE, alpha=0.18, linewidth=0)
        axes.plot(ratios, middle, "o-", color=BLUE, linewidth=1.8, markersize=5)
        if len(ratios) == 1:
            axes.vlines(ratios, low, high, color=BLUE, alpha=0.35, linewidth=6)
        axes.vlines(clean_at, clean_low, clean_high, color=INK, alpha=0.35, linewidth=6)
        axes.plot(clean_at, clean, "s", color=INK, markersize=5)
        shown = zip([clean_at, *ratios], [clean, *middle], [clean_low, *low], strict=True)
        for x, value, below in shown:
            axes.annotate(
                f"{value:.1f}", (x, below), xytext=(0, -12), textcoords="offset points",
                ha="center", size=8,
            )  # fmt: skip
        axes.set_xlim(clean_at + step / 2, ratios[-1] - step / 2)
        axes.set_xticks([clean_at, *ratios], ["clean", *(f"{ratio:g}" for ratio in ratios)])
        # Leaves room for the numbers below the lowest band.
        axes.set_ylim(max(0.0, 10 * math.floor((min(low.min(), clean_low) - 2) / 10)), 100.0)
        axes.yaxis.get_major_locator().set_params(steps=[1, 2, 5, 10])
        axes.set_xlabel("speech to noise over the clip, dB")
        axes.set_ylabel("accuracy, %")
        grid(axes, "y")
        title(
            figure,
            Path(evaluation.model).name,
            f"{evaluation.clips:,} clips in noise (shaded: 95 % interval)",
        )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"
