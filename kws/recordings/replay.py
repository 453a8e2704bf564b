"""The decision of `kws.decide` over stored posteriors, fast, for many sets of thresholds.

`Decider` is the definition; this gives the same events. The moving sums do not depend on
thresholds: they are computed once, and for each set of thresholds only the steps at which a keyword
may fire or be released are looked at.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from kws.decide import DecisionConfig, Event, decision_limits, moving_sums
from kws.errors import KwsError
from kws.model_file import ModelCard
from kws.recordings.posteriors import RecordingPosteriors


class Replay:
    """One recording's posteriors, for decisions with many sets of thresholds.

    Example::

        replay = Replay(card, recording)
        for threshold in (0.6, 0.7, 0.8):
            events = replay.events(dict.fromkeys(card.keywords, threshold))
    """

    def __init__(
        self,
        card: ModelCard,
        recording: RecordingPosteriors,
        decision: DecisionConfig | None = None,
        *,
        counted: Callable[[list[Event]], list[Event]] | None = None,
    ) -> None:
        """Compute the moving sums.

        Args:
            card: the model.
            recording: its posteriors.
            decision: in place of the card's own.
            counted: returns those of its events that count; by default all do.

        Raises:
            KwsError: posteriors of another model.
        """
        posteriors = np.asarray(recording.posteriors)
        if posteriors.ndim != 2 or posteriors.shape[1] != len(card.labels):
            raise KwsError(
                f"Need posteriors of {len(card.labels)} labels. "
                f"Received: an array of shape {posteriors.shape}"
            )
        self.recording = recording
        """The recording."""
        self.seconds = recording.seconds
        """Its length, in s."""
        self._decision = decision or card.decision
        self._card = card
        self._counted = counted
        self._times = recording.step_times_s(card)
        # Label order decides between equal sums.
        self._keywords = tuple(label for label in card.labels if label in card.keywords)
        columns = [card.labels.index(keyword) for keyword in self._keywords]
        limits = decision_limits(self._decision, card.keywords, card.step_ms)
        self._window = limits.window_steps
        self._sums = moving_sums(posteriors[:, columns].astype(np.float64), self._window)

    def peaks(self) -> dict[str, float]:
        """Return the largest smoothed posterior of each keyword, 0 to 1."""
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
        """Return the events that `Decider` reports, of which those count that were asked for.

        Args:
            thresholds: one for each keyword; by default those of the decision.
            only: of this keyword alone, as if the others never fired.

        Raises:
            KwsError: thresholds that do not match the keywords.
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
        # For each keyword, where its list is still ahead, and the step since which it is armed.
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
                return found if self._counted is None else self._counted(found)
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
