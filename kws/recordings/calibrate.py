"""Thresholds for a wanted number of false accepts per hour, found on audio without keywords.

Each keyword is first looked at alone: how often it fires falsely at each of many thresholds, and,
where recordings with keywords are given, how many of its words it misses. A false accept more or
less is then given to the keyword that gains most words by it: all ways of sharing the allowance
among the keywords are compared by dynamic programming, as in the multiple-choice knapsack problem.
Without such recordings the allowance is shared evenly; and where the audio is also too short to
show the wanted rate (fewer than three false accepts would come in it), thresholds are only raised
from the model's own, never lowered: that little fires in a few minutes is no reason to lower one.

Thresholds that do equally well on the recordings form an interval; its middle is taken, since its
ends lie as close as possible to a false accept on one side and to a missed word on the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kws.confidence import poisson_interval
from kws.data.label_file import SpokenWord
from kws.decide import DecisionConfig
from kws.errors import KwsError
from kws.model_file import ModelCard
from kws.recordings.curve import match_all
from kws.recordings.hear import Heard
from kws.recordings.matching import Matches, match_events
from kws.recordings.replay import Replay
from kws.wording import counted, duration, two_digits

LOWEST = 0.2
"""No threshold is set below this, however little fires falsely."""
_HIGHEST = 0.999
_SETTINGS = 240
_MOST_ALLOWED = 5000
_DIGITS = 4
"""Thresholds are chosen among numbers with so many decimals: what is stored is what was counted."""
_ENOUGH = 3
"""Audio can show a rate if so many false accepts come in it at that rate, or more.

That tells the rate from its half or its double; and where none came the rate is lower, with 95 %
confidence ("rule of three").
"""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Thresholds, and what they come to on the recordings they were chosen on."""

    wanted_per_hour: float
    """False accepts per hour that were asked for."""
    before: Mapping[str, float]
    """For each keyword the threshold that the model had."""
    decision: DecisionConfig
    """The new settings."""
    negatives: Matches
    """What the new thresholds do on the audio without keywords."""
    positives: Matches | None
    """And on the recordings with keywords, if there were any."""
    notes: tuple[str, ...]
    """What else a reader should know: what so much audio can show, and what it cannot."""

    def provenance(self) -> dict[str, float]:
        """Return what a model file says of where its thresholds come from."""
        return {
            "wanted_false_accepts_per_hour": self.wanted_per_hour,
            "hours": self.negatives.hours,
            "false_accepts": len(self.negatives.false_accepts),
        }

    def to_json(self) -> dict[str, Any]:
        """Return everything as a dictionary that `json` can write."""
        n = self.negatives
        limits = poisson_interval(len(n.false_accepts))
        return {
            "wanted_false_accepts_per_hour": self.wanted_per_hour,
            "thresholds": dict(self.decision.thresholds),
            "thresholds_before": dict(self.before),
            "smoothing_ms": self.decision.smoothing_ms,
            "refractory_ms": self.decision.refractory_ms,
            "release": self.decision.release,
            "negatives": {
                "hours": n.hours,
                "false_accepts": len(n.false_accepts),
                "false_accepts_per_hour": n.false_accepts_per_hour,
                "false_accepts_per_hour_interval_95": [limit / n.hours for limit in limits],
                "per_keyword": {k: v["false_accepts"] for k, v in n.per_keyword().items()},
            },
            "positives": None if self.positives is None else self.positives.to_json(),
            "notes": list(self.notes),
        }


def calibrate(
    card: ModelCard,
    negatives: Sequence[Heard],
    per_hour: float,
    *,
    positives: Sequence[tuple[Heard, Sequence[SpokenWord]]] = (),
    decision: DecisionConfig | None = None,
    lowest: float = LOWEST,
) -> Calibration:
    """Choose a threshold for each keyword.

    Args:
        card: the model.
        negatives: what it answered to audio in which no keyword is spoken.
        per_hour: false accepts that are wanted in an hour, all keywords together.
        positives: what it answered to recordings with keywords, and the words in them. Only
            misses are counted on them. Without any, and with audio too short to show `per_hour`,
            no threshold is set below the card's.
        decision: settings other than the thresholds, in place of the card's.
        lowest: no threshold below this.

    Raises:
        KwsError: no audio, or numbers that make no sense.
    """
    check_wanted(per_hour, lowest)
    if not negatives:
        raise KwsError("Thresholds are chosen on audio without keywords. Received: none")
    settings = decision or card.decision
    quiet = [Replay(card, heard, settings) for heard in negatives]
    spoken = [(Replay(card, heard, settings), list(words)) for heard, words in positives]
    hours = math.fsum(replay.seconds for replay in quiet) / 3600
    allowed = min(math.floor(per_hour * hours + 1e-9), _MOST_ALLOWED)
    before = card.decision.thresholds
    only_raised = not spoken and per_hour * hours < _ENOUGH
    least = {word: max(lowest, before[word]) if only_raised else lowest for word in card.keywords}
    grids = {word: _grid(threshold) for word, threshold in least.items()}

    false = {word: _false_accepts(quiet, word, grid) for word, grid in grids.items()}
    missed = {word: _missed(spoken, word, grid) for word, grid in grids.items()} if spoken else {}
    chosen = _shared(false, missed, allowed) if missed else _even(false, allowed)

    # Alone and together are nearly the same: an event silences others for the refractory time.
    silent: list[tuple[Replay, Sequence[SpokenWord]]] = [(replay, ()) for replay in quiet]
    while True:
        thresholds = {word: float(grid[chosen[word]]) for word, grid in grids.items()}
        result = match_all(silent, thresholds)
        raised = {word: min(chosen[word] + 1, len(grid) - 1) for word, grid in grids.items()}
        if len(result.false_accepts) <= allowed or raised == chosen:
            break
        chosen = raised
    return Calibration(
        wanted_per_hour=per_hour,
        before=dict(before),
        decision=replace(settings, thresholds=thresholds),
        negatives=result,
        positives=match_all(spoken, thresholds) if spoken else None,
        notes=tuple(_notes(result, per_hour, allowed, spoken, card, only_raised=only_raised)),
    )


def check_wanted(per_hour: float, lowest: float = LOWEST) -> None:
    """Make sure, before long listening, that `calibrate` can work with these numbers.

    Raises:
        KwsError: one of them makes no sense.
    """
    if not 0 <= per_hour < math.inf:
        raise KwsError(f"False accepts per hour must be 0 or more. Received: {per_hour}")
    if not 0 < lowest <= _HIGHEST:
        raise KwsError(
            f"The lowest threshold must be above 0 and at most {_HIGHEST}. Received: {lowest}"
        )


def _grid(lowest: float) -> npt.NDArray[np.float64]:
    """Return thresholds to try, rising from the lowest, evenly spread in log odds [settings]."""
    if lowest >= _HIGHEST:
        return np.array([lowest])
    first, last = (math.log(t / (1 - t)) for t in (lowest, _HIGHEST))
    grid = np.round(1 / (1 + np.exp(-np.linspace(first, last, _SETTINGS))), _DIGITS)
    return np.unique([lowest, *grid[grid > lowest]])


def _false_accepts(
    quiet: Sequence[Replay], word: str, grid: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Count the keyword's events at each threshold [settings]."""
    counts = np.zeros(len(grid), np.int64)
    for replay in quiet:
        peak = replay.peaks()[word]
        for i, threshold in enumerate(grid):
            if threshold > peak:
                break
            counts[i] += len(replay.events(replay.all_at(threshold), only=word))
    return counts


def _missed(
    spoken: Sequence[tuple[Replay, Sequence[SpokenWord]]], word: str, grid: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Count the keyword's words without an event of it, at each threshold [settings]."""
    counts = np.zeros(len(grid), np.int64)
    for replay, words in spoken:
        ours = [one for one in words if one.keyword == word]
        if not ours:
            continue
        for i, threshold in enumerate(grid):
            events = replay.events(replay.all_at(threshold), only=word)
            matches = match_events(ours, events, duration_s=replay.seconds)
            counts[i] += len(ours) - len(matches.hits)
    return counts


def _shared(
    false: Mapping[str, npt.NDArray[np.int64]],
    missed: Mapping[str, npt.NDArray[np.int64]],
    allowed: int,
) -> dict[str, int]:
    """Return for each keyword the position in the grid with which fewest words are missed.

    At most `allowed` false accepts in all, if the grid has such settings.
    """
    words = list(false)
    options: list[list[tuple[int, int, int]]] = []  # (false accepts, missed, position)
    for word in words:
        found: list[tuple[int, int, int]] = []
        for count in sorted(set(false[word].tolist())):
            at = np.flatnonzero(false[word] == count)
            fewest = missed[word][at].min()
            if not found or fewest < found[-1][1]:
                best = at[missed[word][at] == fewest]
                found.append((int(count), int(fewest), int(best[len(best) // 2])))
        options.append(found)
    # What the strictest settings cost at least is beyond choice.
    room = max(allowed, sum(option[0][0] for option in options))
    # fewest[b]: misses of the keywords so far with at most b false accepts.
    fewest = np.zeros(room + 1)
    choices = []
    for option in options:
        best = np.full(room + 1, np.inf)
        choice = np.zeros(room + 1, np.int64)
        for i, (count, misses, _) in enumerate(option):
            if count > room:
                continue
            total = np.full(room + 1, np.inf)
            total[count:] = fewest[: room + 1 - count] + misses
            better = total < best
            best[better], choice[better] = total[better], i
        fewest = best
        choices.append(choice)
    left = room
    chosen = {}
    for word, option, choice in reversed(list(zip(words, options, choices, strict=True))):
        count, _, position = option[int(choice[left])]
        chosen[word] = position
        left -= count
    return chosen


def _even(false: Mapping[str, npt.NDArray[np.int64]], allowed: int) -> dict[str, int]:
    """Return for each keyword the lowest setting with at most its share of false accepts.

    What does not divide goes to the keywords that would need to be lowered least for one more.
    """
    share = allowed // len(false)
    chosen = {word: _first(counts <= share) for word, counts in false.items()}
    left = allowed - sum(int(false[word][at]) for word, at in chosen.items())
    one_more = {
        word: _first(counts <= false[word][chosen[word]] + 1)
        for word, counts in false.items()
        if chosen[word] > 0
    }
    for word, at in sorted(one_more.items(), key=lambda item: (-item[1], item[0])):
        cost = int(false[word][at] - false[word][chosen[word]])
        if 0 < cost <= left:
            chosen[word] = at
            left -= cost
    return chosen


def _first(good: npt.NDArray[np.bool_]) -> int:
    """Return the first position from which on all are good; the last where none is."""
    bad = np.flatnonzero(~good)
    return 0 if not len(bad) else min(int(bad[-1]) + 1, len(good) - 1)


def _notes(
    result: Matches,
    per_hour: float,
    allowed: int,
    spoken: Sequence[tuple[Replay, Sequence[SpokenWord]]],
    card: ModelCard,
    *,
    only_raised: bool,
) -> list[str]:
    notes = []
    n, hours = len(result.false_accepts), result.hours
    if n > allowed:
        notes.append(
            f"even the highest thresholds leave {counted(n, 'false accept')}, more than the "
            f"{allowed:,} allowed: this model needs more training on such audio"
        )
    heard, most = duration(result.duration_s), two_digits(poisson_interval(n)[1] / hours)
    enough = duration(3600 * _ENOUGH / per_hour) if per_hour else ""
    if not per_hour:
        notes.append(
            "no recording is long enough to show that a model never fires falsely: after "
            f"{counted(n, 'false accept')} in {heard} it may still be up to {most} an hour (95 %); "
            "the longer the audio, the less"
        )
    elif per_hour * hours < _ENOUGH:
        notes.append(
            f"{heard} cannot show {per_hour:g} false accepts an hour: one is "
            f"{two_digits(1 / hours)} an hour, and after {n:,} it may still be up to {most} "
            f"(95 %); {enough} would tell more"
        )
    if only_raised:
        notes.append(
            "thresholds were only raised, never lowered, as such audio alone cannot show that "
            f"a lower one is good enough; {f'{enough} of it or ' if enough else ''}recordings with "
            "keywords (--positives) would allow it"
        )
    if spoken:
        said = {word.keyword for _, words in spoken for word in words}
        unsaid = [word for word in card.keywords if word not in said]
        if unsaid:
            notes.append(
                f"never spoken in the recordings with keywords: {', '.join(unsaid)}; these got "
                "thresholds without any false accept"
            )
    return notes
