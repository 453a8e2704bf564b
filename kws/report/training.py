"""The curves of a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kws.errors import KwsError
from kws.report.style import BLUE, GREY, INK, ORANGE, grid, picture


def plot_curves(
    history: Mapping[str, Sequence[float]], path: str | Path, *, best_epoch: int | None = None
) -> None:
    """Draw loss, accuracy and learning rate of a training run over its epochs.

    Args:
        history: lists of the same length, one entry per epoch, under ``loss``, ``accuracy``,
            ``val_loss``, ``val_accuracy`` and ``learning_rate``; missing ones are left out.
        path: .png, .pdf or .svg; written whole or not at all.
        best_epoch: the epoch to mark, from 1.

    Raises:
        KwsError: matplotlib is missing, an unknown suffix, or nothing to draw.
    """
    panels = [name for name in ("loss", "accuracy", "learning_rate") if history.get(name)]
    if not panels:
        raise KwsError(f"No curves to draw. Received: {', '.join(history) or 'an empty history'}")
    best = None if best_epoch is None else best_epoch - 1
    heights = [1.0 if name == "learning_rate" else 2.0 for name in panels]
    with picture(path, (7.5, 1.4 * sum(heights) + 0.8)) as figure:
        rows = figure.subplots(len(panels), 1, sharex=True, height_ratios=heights, squeeze=False)
        for axes, name in zip(rows[:, 0], panels, strict=True):
            _curve_panel(axes, name, history, best)
        last = rows[-1, 0]
        epochs = len(history[panels[0]])
        last.set_xlabel("epoch")
        last.set_xlim(1 if epochs > 1 else 0.5, max(epochs, 1.5))
        if epochs < 8:
            last.set_xticks(range(1, epochs + 1))


def _curve_panel(
    axes: Any, name: str, history: Mapping[str, Sequence[float]], best: int | None
) -> None:
    validation = history.get(f"val_{name}")
    values = np.asarray(history[name], float)
    epochs = np.arange(1, len(values) + 1)
    scale = 100.0 if name == "accuracy" else 1.0
    marker = "o" if len(values) < 3 else None
    if name == "learning_rate":
        axes.plot(epochs, values, color=INK, linewidth=1.2, marker=marker)
        axes.set_ylabel("learning rate")
        axes.set_ylim(bottom=0.0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    else:
        axes.plot(
            epochs, values * scale, color=ORANGE, linewidth=1.5, linestyle="--", marker=marker,
            label="training",
        )  # fmt: skip
        axes.set_ylabel("accuracy, %" if name == "accuracy" else "loss")
        if validation:
            curve = np.asarray(validation, float) * scale
            label = "validation, mean over labels" if name == "accuracy" else "validation"
            axes.plot(epochs, curve, color=BLUE, linewidth=1.8, marker=marker, label=label)
            if best is not None and name == "accuracy":
                axes.plot(epochs[best], curve[best], "o", color=BLUE, markersize=6, clip_on=False)
                axes.set_title(f"best: {curve[best]:.2f} % in epoch {best + 1}", size=9.5)
        if name == "accuracy":
            axes.set_ylim(top=100.0)
        if name == "accuracy" and len(values) >= 20:
            # Leaves out the steep beginning, to show the differences between good epochs.
            everything = np.concatenate([values, np.asarray(validation or values, float)]) * scale
            axes.set_ylim(bottom=min(99.0, math.floor(np.percentile(everything, 10))))
        axes.legend(loc="lower right" if name == "accuracy" else "upper right")
    if best is not None:
        axes.axvline(best + 1, color=GREY, linewidth=0.8, linestyle=":")
    grid(axes, "y")
