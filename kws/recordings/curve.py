"""Misses over false accepts: the detection error trade-off (DET), for all keywords and for each.

A. Martin et al., "The DET curve in assessment of detection task performance" (Eurospeech 1997),
with false accepts per hour in place of their share, as continuous audio has no number of trials.
All thresholds are shifted by the same amount in log odds, so that a keyword with a higher threshold
than the others keeps its distance; the model's own thresholds are a point of the curve.

A keyword's misses are its spoken words that were not reported as such; its false accepts are its
events that match no word. (If another keyword was spoken there, the event is a substitution of that
word, as in `kws.recordings.matching`.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kws.data.label_file import SpokenWord
from kws.recordings.matching import Matches, join_matches, match_events
from kws.recordings.replay import Replay

RATES = (10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1)
"""False accepts per hour in tables."""
_POINTS = 160
_LOWEST, _HIGHEST = 0.05, 0.998
_CLAMP = 1e-6


@dataclass(frozen=True, kw_only=True)
class Point:
    """The result of one setting of the thresholds."""

    shift: float
    """How far all thresholds were shifted, in log odds; 0 is the model's own setting."""
    thresholds: Mapping[str, float]
    """Thresholds of the curve's keywords."""
    words: int
    """Number of words spoken."""
    rejected: int
    """How many of these were missed or taken for another."""
    false_accepts: int
    """Events that match no word."""
    hours: float
    """Length of the audio, in hours."""

    @property
    def false_accepts_per_hour(self) -> float:
        """False accepts over hours."""
        return self.false_accepts / self.hours

    @property
    def false_reject_rate(self) -> float | None:
        """Share of the words that were missed or taken for another; None without words."""
        return self.rejected / self.words if self.words else None

    @property
    def command_error_rate(self) -> float | None:
        """Rejected words and false accepts over words, as in `Matches`; None without words."""
        return (self.rejected + self.false_accepts) / self.words if self.words else None

    def to_json(self) -> dict[str, Any]:
        """Return the point as a dictionary that `json` can write."""
        return {
            "thresholds": dict(self.thresholds),
            "rejected": self.rejected,
            "false_reject_rate": self.false_reject_rate,
            "false_accepts": self.false_accepts,
            "false_accepts_per_hour": self.false_accepts_per_hour,
        }


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Misses and false accepts as the thresholds rise."""

    name: str
    """The keyword, or ``all``."""
    points: tuple[Point, ...]
    """From low thresholds to high ones."""
    own: Point
    """The point of the model's own thresholds."""

    def best(self, per_hour: float) -> Point | None:
        """Return the point with the fewest misses and at most `per_hour` false accepts per hour.

        Of equal ones, that with the fewest false accepts, then the highest thresholds. None if
        every setting has more.
        """
        within = [p for p in self.points if p.false_accepts <= per_hour * p.hours + 1e-9]
        return min(within, key=lambda p: (p.rejected, p.false_accepts, -p.shift), default=None)

    def fewest_errors(self) -> Point:
        """Return a point with the fewest words rejected and false accepts, counted together.

        It is the middle of the longest row of such points, as one end is next to a false accept and
        the other next to a rejected word; of equally long rows that with the highest thresholds.
        """
        errors = [point.rejected + point.false_accepts for point in self.points]
        fewest, start, best = min(errors), 0, range(0)
        for at, count in enumerate([*errors, fewest + 1]):
            if count > fewest:
                if at - start >= len(best):
                    best = range(start, at)
                start = at + 1
        return self.points[best[len(best) // 2]]

    def resolution(self) -> float:
        """Return the rate per hour that a single false accept is in audio of this length."""
        return 1.0 / self.own.hours

    def to_json(self, *, points: bool = True) -> dict[str, Any]:
        """Return the curve as a dictionary that `json` can write, with or without its points."""
        at = {f"{rate:g}": self.best(rate) for rate in RATES}
        return {
            "words": self.own.words,
            "own": self.own.to_json(),
            "fewest_errors": self.fewest_errors().to_json(),
            "at_false_accepts_per_hour": {
                rate: None if point is None else point.to_json() for rate, point in at.items()
            },
            **({"points": [point.to_json() for point in self.points]} if points else {}),
        }


def trace_curves(
    recordings: Sequence[tuple[Replay, Sequence[SpokenWord]]],
    thresholds: Mapping[str, float],
    *,
    points: int = _POINTS,
) -> dict[str, Curve]:
    """Count misses and false accepts with many sets of thresholds.

    Args:
        recordings: posteriors and spoken words of each. They count together.
        thresholds: the model's own, one for each keyword.
        points: number of settings, evenly spaced in log odds, such that each keyword's threshold
            goes from low to high.

    Returns:
        The curve of ``all``, then one for each keyword; a keyword named ``all`` is put in quotes.
    """
    names = {word: repr(word) if word == "all" else word for word in thresholds}
    own_odds = [_log_odds(threshold) for threshold in thresholds.values()]
    low, high = _log_odds(_LOWEST) - max(own_odds), _log_odds(_HIGHEST) - min(own_odds)
    shifts = sorted({0.0, *np.linspace(low, high, points).tolist()})
    found: dict[str, list[Point]] = {"all": [], **{name: [] for name in names.values()}}
    own: dict[str, Point] = {}
    for shift in shifts:
        moved = shifted(thresholds, shift) if shift else dict(thresholds)
        matches = match_all(recordings, moved)
        each = matches.per_keyword()
        here = {
            "all": Point(
                shift=shift,
                thresholds=moved,
                words=matches.words,
                rejected=matches.words - len(matches.hits),
                false_accepts=len(matches.false_accepts),
                hours=matches.hours,
            )
        }
        for keyword, name in names.items():
            counts = each.get(keyword, {"words": 0, "hits": 0, "false_accepts": 0})
            here[name] = Point(
                shift=shift,
                thresholds={keyword: moved[keyword]},
                words=counts["words"],
                rejected=counts["words"] - counts["hits"],
                false_accepts=counts["false_accepts"],
                hours=matches.hours,
            )
        for name, point in here.items():
            found[name].append(point)
        if not shift:
            own = here
    return {
        name: Curve(name=name, points=tuple(points_of), own=own[name])
        for name, points_of in found.items()
    }


def match_all(
    recordings: Sequence[tuple[Replay, Sequence[SpokenWord]]], thresholds: Mapping[str, float]
) -> Matches:
    """Match the events that these thresholds give with the spoken words, over all recordings."""
    return join_matches(
        match_events(truth, replay.events(thresholds), duration_s=replay.seconds)
        for replay, truth in recordings
    )


def shifted(thresholds: Mapping[str, float], shift: float) -> dict[str, float]:
    """Return the thresholds shifted in log odds, up if `shift` is above 0; they stay in 0 to 1.

    They have four decimals, as they may be stored in a model file.
    """
    return {
        keyword: max(1e-4, round(1.0 / (1.0 + math.exp(-(_log_odds(threshold) + shift))), 4))
        for keyword, threshold in thresholds.items()
    }


def _log_odds(share: float) -> float:
    # The log odds of 1 are infinite.
    share = min(max(share, _CLAMP), 1.0 - _CLAMP)
    return math.log(share / (1.0 - share))
