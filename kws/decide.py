"""From posteriors to events: smoothing, a threshold for each keyword, one event per spoken word.

The rule is small enough to be the same in integer C. Per step and keyword, with `n` the number of
steps in the smoothing window and `sum` the sum of the last `n` posteriors (steps before the
start of the stream count as 0):

1. a keyword whose `sum` is below its release limit becomes *armed* (all start armed);
2. of the armed keywords whose `sum` has reached their firing limit, the one with the largest
   `sum` (of equal ones, the first in label order) fires and is no longer armed, unless any keyword
   fired less than the refractory time ago.

The moving mean and the suppression time are those of Sainath & Parada, "Convolutional Neural
Networks for Small-footprint Keyword Spotting" (2015), and of TFLM's micro_speech; the release
level is that of a Schmitt trigger, so that a word of any length is one event.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError

SMOOTHING_MS = 160.0
REFRACTORY_MS = 500.0
RELEASE = 0.5
THRESHOLD = 0.8


@dataclass(frozen=True, kw_only=True)
class Event:
    """A keyword was spoken."""

    keyword: str
    """Which one, spelt as in the model's labels."""
    score: float
    """Its smoothed posterior when it fired, 0 to 1."""
    time_s: float
    """When it fired: the end of the audio processed so far, in s from the start of the stream."""


@dataclass(frozen=True, kw_only=True)
class DecisionConfig:
    """How posteriors become events. Stored in the model file."""

    thresholds: Mapping[str, float]
    """For each keyword the smoothed posterior, above 0 and up to 1, at which it fires."""
    smoothing_ms: float = SMOOTHING_MS
    """Length of the moving mean over posteriors, in ms; 0 means no smoothing."""
    refractory_ms: float = REFRACTORY_MS
    """Time after an event in which nothing fires, in ms."""
    release: float = RELEASE
    """A keyword can fire again once it has fallen below this share of its threshold (0 to 1)."""
    after_wake: Mapping[str, float] = field(default_factory=dict)
    """Thresholds where keywords count only just after a wake word (`kws.after_wake`), which may be
    lower; without one here a keyword keeps its own."""

    def __post_init__(self) -> None:
        for keyword, threshold in (*self.thresholds.items(), *self.after_wake.items()):
            if not 0.0 < threshold <= 1.0:
                raise KwsError(
                    f"The threshold of {keyword!r} must be above 0 and at most 1. "
                    f"Received: {threshold}"
                )
        strangers = [keyword for keyword in self.after_wake if keyword not in self.thresholds]
        if strangers:
            raise KwsError(
                f"after_wake has a threshold for {strangers[0]!r}, which is not a keyword. "
                f"Keywords: {', '.join(self.thresholds) or 'none'}"
            )
        for what, value in (
            ("smoothing_ms", self.smoothing_ms),
            ("refractory_ms", self.refractory_ms),
        ):
            if not 0.0 <= value <= 60_000.0:
                raise KwsError(f"{what} must be between 0 and 60000 ms. Received: {value}")
        if not 0.0 <= self.release <= 1.0:
            raise KwsError(f"release must be between 0 and 1. Received: {self.release}")

    def with_thresholds(self, wanted: float | Mapping[str, float] | None) -> DecisionConfig:
        """Return these settings with other thresholds.

        Args:
            wanted: for some keywords, or one number for all; None to change none.

        Raises:
            KwsError: an unknown keyword, or a threshold that is no number or out of range.
        """
        if wanted is None:
            return self
        each = wanted if isinstance(wanted, Mapping) else dict.fromkeys(self.thresholds, wanted)
        for keyword in each:
            if keyword not in self.thresholds:
                raise KwsError(
                    f"A threshold was given for {keyword!r}, which is not a keyword of this "
                    f"model. Its keywords: {', '.join(self.thresholds)}"
                )
        try:
            changed = {keyword: float(threshold) for keyword, threshold in each.items()}
        except (TypeError, ValueError) as error:
            raise KwsError(
                "Thresholds are one number for all keywords, or a number for each. Received: "
                f"{' '.join(repr(wanted).split())[:60]}. Pass for example 0.8 or {{'yes': 0.8}}"
            ) from error
        return replace(self, thresholds={**self.thresholds, **changed})

    @property
    def is_after_wake_word(self) -> bool:
        """Whether the thresholds are those for after a wake word, and not for keywords alone."""
        return bool(self.after_wake) and self.after_wake_word() == self

    def after_wake_word(self, wanted: float | Mapping[str, float] | None = None) -> DecisionConfig:
        """Return the settings for keywords that count only just after a wake word.

        Args:
            wanted: thresholds in place of those in `after_wake`, as for `with_thresholds`.

        Raises:
            KwsError: as `with_thresholds`.
        """
        return self.with_thresholds(self.after_wake if wanted is None else wanted)


@dataclass(frozen=True, kw_only=True)
class DecisionLimits:
    """A `DecisionConfig` in steps and sums, as `Decider` and the firmware use it."""

    window_steps: int
    """Posteriors in the moving mean."""
    refractory_steps: int
    """Steps after an event in which nothing fires."""
    fire: tuple[float, ...]
    """For each keyword the sum of posteriors over the window at which it fires.

    int8 posteriors are q/256 with q in 0…255, so their sums are exact; integer code decides the
    same with ``sum_q >= ceil(256 * fire)`` and ``sum_q < ceil(256 * release)``.
    """
    release: tuple[float, ...]
    """For each keyword the sum below which it can fire again."""


def decision_limits(
    config: DecisionConfig, keywords: Sequence[str], step_ms: float
) -> DecisionLimits:
    """Express `config` for steps of `step_ms` milliseconds.

    The window is the nearest whole number of steps (at least 1); the refractory time is rounded up.

    Raises:
        KwsError: a keyword has no threshold, or a threshold belongs to no keyword.
    """
    for keyword in keywords:
        if keyword not in config.thresholds:
            raise KwsError(
                f"The keyword {keyword!r} has no threshold. "
                f"Received thresholds for: {', '.join(config.thresholds) or 'none'}"
            )
    unknown = [keyword for keyword in config.thresholds if keyword not in keywords]
    if unknown:
        raise KwsError(
            f"There is a threshold for {unknown[0]!r}, which is not a keyword of this model. "
            f"Keywords: {', '.join(keywords)}"
        )
    window = max(1, math.floor(config.smoothing_ms / step_ms + 0.5))
    fire = tuple(float(config.thresholds[keyword]) * window for keyword in keywords)
    return DecisionLimits(
        window_steps=window,
        refractory_steps=math.ceil(config.refractory_ms / step_ms),
        fire=fire,
        release=tuple(config.release * limit for limit in fire),
    )


def moving_sums(posteriors: NDArray[np.float64], window_steps: int) -> NDArray[np.float64]:
    """Return the sum of the last `window_steps` rows at each step, bit for bit as in `Decider`.

    `Decider` keeps the rows in a ring buffer and adds from its first place on; a float model's
    sums are rounded, so the order of adding matters.

    Args:
        posteriors: [steps, columns]; rows before the first count as 0.
        window_steps: rows in the window.
    """
    padded = np.concatenate([np.zeros((window_steps, posteriors.shape[1])), posteriors])
    steps = np.arange(len(posteriors))
    sums = np.zeros_like(posteriors)
    for place in range(window_steps):
        # The latest step up to this one that was stored in this place of the ring.
        latest = steps - (steps - place) % window_steps
        sums += padded[latest + window_steps]
    return sums


class Decider:
    """Turns one stream of posteriors into events.

    Example:
        >>> config = DecisionConfig(thresholds={"yes": 0.8}, smoothing_ms=0)
        >>> decider = Decider(config, labels=["_silence_", "yes"], keywords=["yes"], step_ms=40)
        >>> decider.step([0.1, 0.9], time_s=0.25)
        Event(keyword='yes', score=0.9, time_s=0.25)
    """

    def __init__(
        self,
        config: DecisionConfig,
        labels: Sequence[str],
        keywords: Sequence[str],
        step_ms: float,
    ) -> None:
        """Prepare for posteriors in the order of `labels`, one set every `step_ms` milliseconds.

        Raises:
            KwsError: a keyword is not a label, or thresholds and keywords do not match.
        """
        missing = [keyword for keyword in keywords if keyword not in labels]
        if missing:
            raise KwsError(
                f"The keyword {missing[0]!r} is not among the labels. "
                f"Received labels: {', '.join(labels)}"
            )
        self.config = config
        self.keywords = tuple(keywords)
        self.limits = decision_limits(config, keywords, step_ms)
        self._n_labels = len(labels)
        # Label order decides between equal sums, so columns are kept in that order.
        self._columns = np.array([list(labels).index(k) for k in keywords], np.intp)
        self._fire = np.array(self.limits.fire)
        self._release = np.array(self.limits.release)
        self._order = np.argsort(self._columns, kind="stable")
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        # window [window_steps, keywords], the oldest row is overwritten next
        self._window = np.zeros((self.limits.window_steps, len(self.keywords)), np.float64)
        self._next = 0
        self._armed = np.ones(len(self.keywords), bool)
        self._quiet_steps = 0

    def step(
        self, posteriors: Sequence[float] | NDArray[np.floating], time_s: float
    ) -> Event | None:
        """Process the next posteriors [n_labels] and return the event they complete, if any.

        Args:
            posteriors: one value in 0…1 for each label.
            time_s: end of the audio behind these posteriors; becomes the event's time.

        Raises:
            KwsError: not exactly one posterior for each label.
        """
        values = np.asarray(posteriors, np.float64)
        if values.shape != (self._n_labels,):
            raise KwsError(
                f"Need one posterior for each of {self._n_labels} labels. "
                f"Received: an array of shape {values.shape}"
            )
        self._window[self._next] = values[self._columns]
        self._next = (self._next + 1) % len(self._window)
        sums = self._window.sum(axis=0)  # [keywords]

        self._armed |= sums < self._release
        if self._quiet_steps:
            self._quiet_steps -= 1
            return None
        ready = self._armed & (sums >= self._fire)
        if not ready.any():
            return None
        candidates = self._order[ready[self._order]]
        winner = int(candidates[np.argmax(sums[candidates])])
        self._armed[winner] = False
        self._quiet_steps = self.limits.refractory_steps
        return Event(
            keyword=self.keywords[winner],
            score=float(sums[winner]) / len(self._window),
            time_s=float(time_s),
        )
