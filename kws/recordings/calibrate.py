"""Thresholds for an allowed number of false accepts per hour, chosen on audio without keywords.

For each keyword alone, the false accepts are counted at each of many thresholds, and also the
missed words if there are recordings with keywords. The allowed false accepts are then divided among
the keywords so that the fewest words are missed: dynamic programming compares all divisions, as in
the multiple-choice knapsack problem. Without recordings with keywords they are divided evenly. If
the audio is then also too short to show the rate (it would have fewer than three false accepts),
thresholds are only raised from the model's own, never lowered: few false accepts in a few minutes
are no reason to lower a threshold.

Thresholds that do equally well on the recordings form an interval. Its middle is chosen, as one end
is next to a false accept and the other next to a missed word.
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
from kws.recordings.matching import Matches, match_events
from kws.recordings.posteriors import RecordingPosteriors
from kws.recordings.replay import Replay
from kws.wording import counted, duration, two_digits

LOWEST = 0.2
"""The lowest threshold, however few the false accepts."""
_HIGHEST = 0.999
_SETTINGS = 240
_MOST_ALLOWED = 5000
_DIGITS = 4
"""Decimals of the thresholds that are tried, so that the stored one is exactly the one tried."""
_ENOUGH = 3
"""Audio can show a rate if it would have at least this many false accepts at that rate.

This tells the rate from its half or its double; and if there are none, the rate is lower with 95 %
confidence ("rule of three").
"""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Thresholds, and their results on the recordings they were chosen on."""

    wanted_per_hour: float
    """False accepts per hour that were asked for."""
    before: Mapping[str, float]
    """The model's previous threshold of each keyword."""
    decision: DecisionConfig
    """The new settings."""
    negatives: Matches
    """Results of the new thresholds on the audio without keywords."""
    positives: Matches | None
    """Results on the recordings with keywords, if there are any."""
    notes: tuple[str, ...]
    """Remarks on what this amount of audio can show."""

    def provenance(self) -> dict[str, float]:
        """Return the origin of the thresholds, for the model card."""
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
    negatives: Sequence[RecordingPosteriors],
    per_hour: float,
    *,
    positives: Sequence[tuple[RecordingPosteriors, Sequence[SpokenWord]]] = (),
    decision: DecisionConfig | None = None,
    lowest: float = LOWEST,
    repeated: bool = False,
) -> Calibration:
    """Choose a threshold for each keyword.

    Args:
        card: the model.
        negatives: its posteriors for audio in which no keyword is spoken.
        per_hour: false accepts allowed per hour, all keywords together.
        positives: its posteriors for recordings with keywords, and the words in them. Only misses
            are counted on them. Without any, and with audio too short to show `per_hour`, no
            threshold is set below the card's.
        decision: settings other than the thresholds, in place of the card's.
        lowest: the lowest threshold allowed.
        repeated: whether the audio has recordings more than once. No note is then about what its
            length can show, since that depends on how many there are.

    Raises:
        KwsError: no audio, or invalid numbers.
    """
    check_wanted(per_hour, lowest)
    if not negatives:
        raise KwsError("Need audio without keywords to choose thresholds on. Received: none")
    settings = decision or card.decision
    quiet = [Replay(card, recording, settings) for recording in negatives]
    spoken = [(Replay(card, recording, settings), list(words)) for recording, words in positives]
    hours = math.fsum(replay.seconds for replay in quiet) / 3600
    allowed = min(math.floor(per_hour * hours + 1e-9), _MOST_ALLOWED)
    before = card.decision.thresholds
    only_raised = not spoken and per_hour * hours < _ENOUGH
    least = {word: max(lowest, before[word]) if only_raised else lowest for word in card.keywords}
    grids = {word: _grid(threshold) for word, threshold in least.items()}

    false = {word: _false_accepts(quiet, word, grid) for word, grid in grids.items()}
    missed = {word: _missed(spoken, word, grid) for word, grid in grids.items()} if spoken else {}
    chosen = _shared(false, missed, allowed) if missed else _even(false, allowed)

    # Together, keywords fire slightly less often: no other can fire in the refractory time.
    silent: list[tuple[Replay, Sequence[SpokenWord]]] = [(replay, ()) for replay in quiet]
    while True:
        thresholds = {word: float(grid[chosen[word]]) for word, grid in grids.items()}
        result = match_all(silent, thresholds)
        raised = {word: min(chosen[word] + 1, len(grid) - 1) for word, grid in grids.items()}
        if len(result.false_accepts) <= allowed or raised == chosen:
            break
        chosen = raised
    notes = _notes(
        result, per_hour, allowed, spoken, card, only_raised=only_raised, repeated=repeated
    )
    return Calibration(
        wanted_per_hour=per_hour,
        before=dict(before),
        decision=replace(settings, thresholds=thresholds),
        negatives=result,
        positives=match_all(spoken, thresholds) if spoken else None,
        notes=tuple(notes),
    )


def check_wanted(per_hour: float, lowest: float = LOWEST) -> None:
    """Check the numbers for `calibrate` before long work.

    Raises:
        KwsError: one of them is invalid.
    """
    if not 0 <= per_hour < math.inf:
        raise KwsError(f"False accepts per hour must be 0 or more. Received: {per_hour}")
    if not 0 < lowest <= _HIGHEST:
        raise KwsError(
            f"The lowest threshold must be above 0 and at most {_HIGHEST}. Received: {lowest}"
        )


def _grid(lowest: float) -> npt.NDArray[np.float64]:
    """Return the thresholds to try, rising from `lowest`, evenly spaced in log odds [settings]."""
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
    """Return each keyword's position in its grid such that the fewest words are missed in all.

    With at most `allowed` false accepts in all, if the grids have such settings.
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
    # Even the strictest settings may have more false accepts than allowed.
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
    """Return each keyword's lowest setting with at most its even share of false accepts.

    The remainder goes to the keywords whose thresholds need to be lowered least for one more.
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
    """Return the first position from which on all are good; the last position if none is."""
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
    repeated: bool,
) -> list[str]:
    notes = []
    n, hours = len(result.false_accepts), result.hours
    if n > allowed:
        notes.append(
            f"even the highest thresholds give {counted(n, 'false accept')}, more than the "
            f"{allowed:,} allowed: train the model on more audio like this"
        )
    length, most = duration(result.duration_s), two_digits(poisson_interval(n)[1] / hours)
    enough = duration(3600 * _ENOUGH / per_hour) if per_hour else ""
    if not per_hour and not repeated:
        notes.append(
            "no audio is long enough to verify 0 false accepts per hour: with "
            f"{counted(n, 'false accept')} in {length}, the rate may be up to {most} per hour "
            "(95 %); longer audio lowers this limit"
        )
    elif per_hour * hours < _ENOUGH and not repeated:
        notes.append(
            f"{length} is too short to verify {per_hour:g} false accepts per hour: a single one is "
            f"{two_digits(1 / hours)} per hour, and with {n:,} the rate may be up to {most} "
            f"(95 %); use {enough} or more"
        )
    if only_raised:
        notes.append(
            "thresholds were only raised, as this audio alone cannot show that lower ones are good "
            f"enough; to lower them, add {f'audio up to {enough} or ' if enough else ''}recordings "
            "with keywords (--positives)"
        )
    if spoken:
        said = {word.keyword for _, words in spoken for word in words}
        unsaid = [word for word in card.keywords if word not in said]
        if unsaid:
            notes.append(
                f"never spoken in the recordings with keywords: {', '.join(unsaid)}; their "
                "thresholds give no false accept"
            )
    return notes
