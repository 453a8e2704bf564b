"""The decision of `kws.decide` over posteriors that are all there: again and again, fast.

`Decider` is the definition; this is the same rule with the waiting left out. Between events nothing
changes but sums of posteriors, which do not depend on thresholds: they are made once, and for each
set of thresholds the steps at which something can happen are looked up.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from kws.decide import DecisionConfig, Event, decision_limits
from kws.errors import KwsError
from kws.model_file import ModelCard
from kws.recordings.hear import Heard


class Replay:
    """One recording's posteriors, to be decided with many thresholds.

    Example::

        replay = Replay(card, heard)
        for threshold in (0.6, 0.7, 0.8):
            events = replay.events(dict.fromkeys(card.keywords, threshold))
    """

    def __init__(
        self, card: ModelCard, heard: Heard, decision: DecisionConfig | None = None
    ) -> None:
        """Sum the posteriors.

        Args:
            card: the model that answered.
            heard: its answers.
            decision: in place of the card's own.

        Raises:
            KwsError: posteriors of another model.
        """
        posteriors = np.asarray(heard.posteriors)
        if posteriors.ndim != 2 or posteriors.shape[1] != len(card.labels):
            raise KwsError(
                f"Need posteriors of {len(card.labels)} labels. "
                f"Received: an array of shape {posteriors.shape}"
            )
        self.seconds = heard.seconds
        """Length of the recording, in s."""
        self._decision = decision or card.decision
        self._card = card
        self._times = heard.step_times_s(card)
        # In label order, which decides between equal sums.
        self._keywords = tuple(label for label in card.labels if label in card.keywords)
        columns = [card.labels.index(keyword) for keyword in self._keywords]
        limits = decision_limits(self._decision, card.keywords, card.step_ms)
        self._window = limits.window_steps
        self._sums = _moving_sums(posteriors[:, columns].astype(np.float64), self._window)

    def peaks(self) -> dict[str, float]:
        """Return for each keyword the largest smoothed posterior of all, 0 to 1."""
        largest = self._sums.max(axis=0, initial=0.0) / self._window
        return dict(zip(self._keywords, largest.tolist(), strict=True))

    def peak(self, keyword: str, start_s: float, end_s: float) -> float:
        """Return a keyword's largest smoothed posterior between two times, 0 to 1."""
        first, last = np.searchsorted(self._times, (start_s, end_s))
        sums = self._sums[first:last, self._keywords.index(keyword)]
        return float(sums.max(initial=0.0)) / self._window

    def all_at(self, threshold: float) -> dict[str, float]:
        """Return the same threshold for all keywords."""
        return dict.fromkeys(self._keywords, float(threshold))

    def events(
        self, thresholds: Mapping[str, float] | None = None, *, only: str | None = None
    ) -> list[Event]:
        """Return what `Decider` reports.

        Args:
            thresholds: one for each keyword; by default those of the decision.
            only: pay attention to this keyword alone, as if the others were never fired.

        Raises:
            KwsError: thresholds that do not fit the keywords.
        """
        config = self._decision
        if thresholds is not None:
            config = replace(config, thresholds=dict(thresholds))
        limits = decision_limits(config, self._keywords, self._card.step_ms)
        quiet = limits.refractory_steps
        n = len(self._sums)
        # For each keyword the steps at which it may fire if armed.
        high: list[list[int]] = [
            np.flatnonzero(self._sums[:, k] >= limit).tolist()
            if only in (None, self._keywords[k])
            else []
            for k, limit in enumerate(limits.fire)
        ]
        waiting = [k for k, steps in enumerate(high) if steps]
        # The position in each list from which on it matters, and the step since which the keyword
        # is armed.
        position = [0] * len(high)
        armed_from = [0] * len(high)
        found: list[Event] = []
        free_from = 0
        while True:
            step, winner, best = n, -1, -1.0
            for k in waiting:
                steps, at = high[k], position[k]
                earliest = max(free_from, armed_from[k])
                if at < len(steps) and steps[at] < earliest:
                    at = bisect.bisect_left(steps, earliest, at)
                    position[k] = at
                if at < len(steps) and steps[at] <= step:
                    size = float(self._sums[steps[at], k])
                    if steps[at] < step or size > best:
                        step, winner, best = steps[at], k, size
            if winner < 0:
                return found
            found.append(
                Event(
                    keyword=self._keywords[winner],
                    score=best / self._window,
                    time_s=float(self._times[step]),
                )
            )
            free_from = step + quiet + 1
            armed_from[winner] = self._released(winner, step + 1, limits.release[winner])

    def _released(self, keyword: int, step: int, limit: float) -> int:
        """Return the first step from `step` on at which the sum is below the release limit."""
        length = 64
        while step < len(self._sums):
            below = self._sums[step : step + length, keyword] < limit
            if below.any():
                return step + int(below.argmax())
            step += length
            length *= 2
        return len(self._sums)


def decide_all(card: ModelCard, heard: Heard) -> list[Event]:
    """Return the events that a model reports in a recording, with its own decision settings."""
    return Replay(card, heard).events()


def _moving_sums(posteriors: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    """Sum the last `window` rows at each step, in the order in which `Decider` adds them.

    `Decider` keeps the rows in a ring and adds from its first place on; with the same order a
    float model's sums, which are rounded, are the same to the last bit.
    """
    n = len(posteriors)
    padded = np.concatenate([np.zeros((window, posteriors.shape[1])), posteriors])
    steps = np.arange(n)
    sums = np.zeros_like(posteriors)
    for place in range(window):
        # The latest step up to this one that was stored in this place of the ring.
        latest = steps - (steps - place) % window
        sums += padded[latest + window]
    return sums
