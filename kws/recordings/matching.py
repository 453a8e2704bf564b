"""Matching of spoken words with the events of a model.

The rule is that of MLPerf Tiny's streaming wake-word task: an event matches a word if it comes
between the word's start and half a second after its end. Each event matches at most one word, and
each word one event:

- **hit**: a word whose own keyword was reported in its window;
- **substitution**: a word without a hit, in whose window another keyword was reported;
- **miss**: a word with neither;
- **false accept**: every other event, including a second report of the same word.

So ``hits + substitutions + misses`` is the number of words, and
``hits + substitutions + false accepts`` the number of events.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from kws.confidence import poisson_interval
from kws.data.label_file import SpokenWord
from kws.decide import Event
from kws.errors import KwsError

TOLERANCE_S = 0.5
"""An event may come this long after the word's end and still match it."""

# Times are read from text and computed from samples: tolerance for rounding.
_EPSILON_S = 1e-6

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Spoken words of a stream, matched with its events."""

    duration_s: float
    """Length of the audio, in seconds."""
    hits: tuple[tuple[SpokenWord, Event], ...]
    """Detected words, each with its event, by the word's start."""
    substitutions: tuple[tuple[SpokenWord, Event], ...]
    """Words for which another keyword was reported, each with that event, by the word's start."""
    misses: tuple[SpokenWord, ...]
    """Words without an event in their window, by start."""
    false_accepts: tuple[Event, ...]
    """Events that match no word, by time."""

    @property
    def spoken(self) -> tuple[SpokenWord, ...]:
        """All words, by start."""
        words = [word for word, _ in self.hits + self.substitutions] + list(self.misses)
        return tuple(sorted(words, key=lambda word: (word.start_s, word.end_s, word.keyword)))

    @property
    def reported(self) -> tuple[Event, ...]:
        """All events, by time."""
        events = [event for _, event in self.hits + self.substitutions] + list(self.false_accepts)
        return tuple(sorted(events, key=lambda event: (event.time_s, event.keyword)))

    @property
    def hours(self) -> float:
        """Length of the audio, in hours."""
        return self.duration_s / 3600.0

    @property
    def words(self) -> int:
        """Number of spoken words."""
        return len(self.hits) + len(self.substitutions) + len(self.misses)

    @property
    def events(self) -> int:
        """Number of events."""
        return len(self.hits) + len(self.substitutions) + len(self.false_accepts)

    @property
    def false_accepts_per_hour(self) -> float:
        """False accepts over hours of audio."""
        return len(self.false_accepts) / self.hours

    @property
    def false_reject_rate(self) -> float | None:
        """Share of the words that were missed or taken for another; None without words."""
        if not self.words:
            return None
        return (len(self.misses) + len(self.substitutions)) / self.words

    @property
    def command_error_rate(self) -> float | None:
        """(Substitutions + misses + false accepts) / words, as in word error rate; may exceed 1.

        None without words.
        """
        if not self.words:
            return None
        wrong = len(self.substitutions) + len(self.misses) + len(self.false_accepts)
        return wrong / self.words

    @property
    def latencies_s(self) -> tuple[float, ...]:
        """For each hit the event's time minus the word's end, in s; below 0 if it came earlier."""
        return tuple(event.time_s - word.end_s for word, event in self.hits)

    def latency_ms(self, percentile: float) -> float | None:
        """Return a percentile (0 to 100) of the latencies of hits, in ms; None without a hit."""
        if not self.hits:
            return None
        return float(np.percentile(self.latencies_s, percentile)) * 1000.0

    def to_json(self) -> dict[str, Any]:
        """Return counts and rates as a dictionary that `json` can write; None if undefined."""
        return {
            "hours": self.hours,
            "words": self.words,
            "events": self.events,
            "hits": len(self.hits),
            "misses": len(self.misses),
            "substitutions": len(self.substitutions),
            "false_accepts": len(self.false_accepts),
            "false_accepts_per_hour": self.false_accepts_per_hour,
            "false_accepts_per_hour_interval_95": [
                bound / self.hours for bound in poisson_interval(len(self.false_accepts))
            ],
            "false_reject_rate": self.false_reject_rate,
            "command_error_rate": self.command_error_rate,
            "latency_ms": {
                "median": _rounded(self.latency_ms(50)),
                "p95": _rounded(self.latency_ms(95)),
            },
            "per_keyword": self.per_keyword(),
        }

    def per_keyword(self) -> dict[str, dict[str, int]]:
        """Return the counts for each keyword that was spoken or reported, in alphabetical order.

        Substitutions count for the word that was spoken, false accepts for the one reported.
        """
        parts = {
            "hits": Counter(word.keyword for word, _ in self.hits),
            "misses": Counter(word.keyword for word in self.misses),
            "substitutions": Counter(word.keyword for word, _ in self.substitutions),
            "false_accepts": Counter(event.keyword for event in self.false_accepts),
        }
        reported = {event.keyword for _, event in self.substitutions}
        keywords = sorted(reported.union(*parts.values()))
        return {
            keyword: {
                "words": sum(parts[part][keyword] for part in ("hits", "misses", "substitutions")),
                **{part: count[keyword] for part, count in parts.items()},
            }
            for keyword in keywords
        }


def match_events(
    truth: Iterable[SpokenWord],
    events: Iterable[Event],
    *,
    duration_s: float,
    tolerance_s: float = TOLERANCE_S,
) -> Matches:
    """Match the events of a stream with the words spoken in it.

    As many words as possible become hits; of the rest, as many as possible become substitutions.
    If windows overlap, an event goes to the word whose window closes first.

    Args:
        truth: the keywords spoken, in any order.
        events: the events reported, in any order.
        duration_s: length of the audio, in seconds.
        tolerance_s: how long after a word's end an event still matches it, in seconds.

    Raises:
        KwsError: no audio, or a negative tolerance.
    """
    if not duration_s > 0:
        raise KwsError(f"A stream must last longer than 0 s. Received: {duration_s} s")
    if not tolerance_s >= 0:
        raise KwsError(f"The tolerance must be 0 s or more. Received: {tolerance_s} s")
    words = sorted(truth, key=lambda word: (word.start_s, word.end_s, word.keyword))
    reported = sorted(events, key=lambda event: (event.time_s, event.keyword))

    hits: list[tuple[int, int]] = []
    for keyword in {word.keyword for word in words}:
        hits += _pair(
            [i for i, word in enumerate(words) if word.keyword == keyword],
            [j for j, event in enumerate(reported) if event.keyword == keyword],
            words,
            reported,
            tolerance_s,
        )
    # The hits are as many as possible, so the rest can only pair with another keyword.
    substitutions = _pair(
        _without(range(len(words)), {i for i, _ in hits}),
        _without(range(len(reported)), {j for _, j in hits}),
        words,
        reported,
        tolerance_s,
    )
    matched = hits + substitutions
    return Matches(
        duration_s=duration_s,
        hits=tuple((words[i], reported[j]) for i, j in sorted(hits)),
        substitutions=tuple((words[i], reported[j]) for i, j in sorted(substitutions)),
        misses=tuple(words[i] for i in _without(range(len(words)), {i for i, _ in matched})),
        false_accepts=tuple(
            reported[j] for j in _without(range(len(reported)), {j for _, j in matched})
        ),
    )


def join_matches(parts: Iterable[Matches]) -> Matches:
    """Count several recordings together; times still count from the start of each recording.

    Raises:
        KwsError: no recording.
    """
    parts = list(parts)
    if not parts:
        raise KwsError("Need at least one recording. Received: none")
    return Matches(
        duration_s=math.fsum(part.duration_s for part in parts),
        hits=tuple(pair for part in parts for pair in part.hits),
        substitutions=tuple(pair for part in parts for pair in part.substitutions),
        misses=tuple(word for part in parts for word in part.misses),
        false_accepts=tuple(event for part in parts for event in part.false_accepts),
    )


def _pair(
    word_numbers: Sequence[int],
    event_numbers: Sequence[int],
    words: Sequence[SpokenWord],
    events: Sequence[Event],
    tolerance_s: float,
) -> list[tuple[int, int]]:
    """Pair as many words and events as possible; both lists by time.

    Each event in turn goes to the open window that closes first, which is optimal for points
    and intervals (F. Glover, "Maximum matching in a convex bipartite graph", 1967).
    """
    pairs = []
    open_windows: list[tuple[float, int]] = []  # (time at which it closes, word)
    waiting = iter(word_numbers)
    word = next(waiting, None)
    for event in event_numbers:
        time_s = events[event].time_s
        while word is not None and words[word].start_s <= time_s + _EPSILON_S:
            heapq.heappush(open_windows, (words[word].end_s + tolerance_s, word))
            word = next(waiting, None)
        while open_windows and open_windows[0][0] < time_s - _EPSILON_S:
            heapq.heappop(open_windows)
        if open_windows:
            pairs.append((heapq.heappop(open_windows)[1], event))
    return pairs


def _without(items: Iterable[_T], taken: Collection[_T]) -> list[_T]:
    return [item for item in items if item not in taken]


def _rounded(milliseconds: float | None) -> float | None:
    # Events are 20 to 40 ms apart; digits beyond a tenth of a millisecond are noise.
    return None if milliseconds is None else round(milliseconds, 1)
