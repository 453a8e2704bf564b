"""The decision settings of a model as integers, for the C library."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from firmware_export.c_source import c_array
from kws.decide import DecisionLimits, decision_limits
from kws.errors import KwsError
from kws.model_file import ModelCard

MOST_STEPS = 2000
"""Smoothing window and refractory time together, in steps of the network."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Decision settings as integers; keywords in the order of the labels."""

    labels: tuple[int, ...]
    """Index of each keyword in the model's labels."""
    window_steps: int
    """Posteriors in the moving sum."""
    refractory_steps: int
    """Steps after an event in which nothing fires."""
    fire_from: tuple[int, ...]
    """For each keyword the lowest sum of posteriors (in 1/256) at which it fires."""
    release_below: tuple[int, ...]
    """For each keyword the sum below which it can fire again."""


def decision(card: ModelCard) -> Decision:
    """Return the decision settings of a model as integers.

    Posteriors are q/256, so ``256 * limit`` is compared with integers, and rounding it up changes
    no comparison (`kws.decide.DecisionLimits`).

    Raises:
        KwsError: no keywords, or times too long for the library's memory.
    """
    if not card.keywords:
        raise KwsError(
            f"The model {card.name!r} has no keywords, so there is nothing to listen for. "
            f"Received: labels {', '.join(card.labels)}"
        )
    keywords = sorted(card.keywords, key=card.labels.index)
    limits: DecisionLimits = decision_limits(card.decision, keywords, card.step_ms)
    steps = limits.window_steps + limits.refractory_steps
    if steps > MOST_STEPS:
        raise KwsError(
            f"In firmware, smoothing and refractory time together are at most {MOST_STEPS} steps. "
            f"Received: {steps} of {card.step_ms:g} ms, from smoothing_ms "
            f"{card.decision.smoothing_ms:g} and refractory_ms {card.decision.refractory_ms:g}. "
            "Use shorter times"
        )
    return Decision(
        labels=tuple(card.labels.index(keyword) for keyword in keywords),
        window_steps=limits.window_steps,
        refractory_steps=limits.refractory_steps,
        fire_from=tuple(math.ceil(256 * limit) for limit in limits.fire),
        release_below=tuple(math.ceil(256 * limit) for limit in limits.release),
    )


def decision_arrays(decided: Decision) -> str:
    """Return the C definitions of the limits."""
    arrays = (
        ("kws_keyword_label", np.uint16, decided.labels, "Label of each keyword [keyword]"),
        (
            "kws_fire_from",
            np.uint32,
            decided.fire_from,
            "Lowest sum of posteriors at which it fires, 1/256 [keyword]",
        ),
        (
            "kws_release_below",
            np.uint32,
            decided.release_below,
            "Sum below which it can fire again, 1/256 [keyword]",
        ),
    )
    return "\n\n".join(
        c_array(name, np.array(values, dtype), static=False, comment=comment)
        for name, dtype, values, comment in arrays
    )
