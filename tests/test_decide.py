"""The decision rule, against hand-computed cases and an integer version of itself."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.decide import Decider, DecisionConfig, Event, decision_limits
from kws.errors import KwsError

LABELS = ["_silence_", "yes", "_unknown_", "no"]
KEYWORDS = ["yes", "no"]
STEP_MS = 40.0


def decider(
    smoothing_ms: float = 0.0,
    refractory_ms: float = 0.0,
    yes: float = 0.8,
    no: float = 0.8,
    release: float = 0.5,
) -> Decider:
    config = DecisionConfig(
        thresholds={"yes": yes, "no": no},
        smoothing_ms=smoothing_ms,
        refractory_ms=refractory_ms,
        release=release,
    )
    return Decider(config, LABELS, KEYWORDS, STEP_MS)


def listen(d: Decider, yes: list[float], no: list[float] | None = None) -> list[tuple[int, str]]:
    """Feed a posterior of "yes" (and "no") for each step; return (step, keyword) of the events."""
    found = []
    for k, (y, n) in enumerate(zip(yes, no or [0.0] * len(yes), strict=True)):
        event = d.step([1.0 - y - n, y, 0.0, n], time_s=0.04 * k)
        if event:
            assert event.time_s == 0.04 * k
            found.append((k, event.keyword))
    return found


def test_a_keyword_fires_at_the_step_at_which_it_reaches_its_threshold() -> None:
    assert listen(decider(), [0.0, 0.79, 0.8, 0.9]) == [(2, "yes")]


def test_thresholds_are_those_of_the_keyword() -> None:
    d = decider(yes=0.9, no=0.3)
    assert listen(d, [0.6, 0.6, 0.6], [0.1, 0.29, 0.3]) == [(2, "no")]


def test_the_score_is_the_mean_over_the_window() -> None:
    d = decider(smoothing_ms=120)  # 3 steps
    assert d.step([0, 0.75, 0, 0], 0.1) is None  # mean 0.25: steps before the start count as 0
    assert d.step([0, 0.75, 0, 0], 0.2) is None  # mean 0.5
    assert d.step([0, 1.0, 0, 0], 0.3) == Event(keyword="yes", score=2.5 / 3, time_s=0.3)


def test_the_oldest_posterior_leaves_the_window() -> None:
    # Means of 2: 0.5 · 0.75 · 0.5 · 0.25 · 0.9. With 0.9 remembered forever it would fire earlier.
    assert listen(decider(smoothing_ms=80), [1.0, 0.5, 0.5, 0.0, 0.9, 0.9]) == [(5, "yes")]


def test_one_long_word_is_one_event() -> None:
    assert listen(decider(), [0.9] * 100) == [(0, "yes")]


def test_wobbling_around_the_threshold_is_one_event() -> None:
    assert listen(decider(), [0.9, 0.7, 0.9, 0.45, 0.9]) == [(0, "yes")]


def test_after_falling_below_the_release_level_it_fires_again() -> None:
    # Release is 0.5 of the threshold 0.8: 0.41 is not below 0.4, 0.39 is.
    assert listen(decider(), [0.9, 0.41, 0.9, 0.39, 0.9]) == [(0, "yes"), (4, "yes")]


def test_at_the_release_level_itself_it_is_not_released() -> None:
    d = decider(yes=0.5, release=0.5)
    assert listen(d, [0.5, 0.25, 0.5, 0.2499, 0.5]) == [(0, "yes"), (4, "yes")]


def test_another_keyword_may_follow_while_the_first_is_not_yet_released() -> None:
    d = decider(yes=0.6, no=0.6)
    assert listen(d, [0.6, 0.4, 0.4], [0.0, 0.0, 0.6]) == [(0, "yes"), (2, "no")]


def test_nothing_fires_in_the_refractory_time() -> None:
    # 100 ms round up to 3 steps: steps 1 to 3 are silent for both, step 4 is free again.
    d = decider(refractory_ms=100)
    assert listen(d, [0.9, 0, 0, 0, 0], [0, 0.9, 0, 0.9, 0.9]) == [(0, "yes"), (4, "no")]


def test_a_release_within_the_refractory_time_counts() -> None:
    assert listen(decider(refractory_ms=80), [0.9, 0, 0.9, 0.9]) == [(0, "yes"), (3, "yes")]


def test_of_two_ready_keywords_the_larger_sum_fires_and_the_first_label_when_equal() -> None:
    assert listen(decider(yes=0.3, no=0.3), [0.4], [0.5]) == [(0, "no")]
    assert listen(decider(yes=0.3, no=0.3), [0.4], [0.4]) == [(0, "yes")]
    swapped = Decider(
        DecisionConfig(thresholds={"no": 0.3, "yes": 0.3}, smoothing_ms=0),
        LABELS,
        ["no", "yes"],
        STEP_MS,
    )
    assert listen(swapped, [0.4], [0.4]) == [(0, "yes")]


def test_silence_and_unknown_never_fire() -> None:
    d = decider()
    assert all(d.step([1, 0, 0, 0], k) is None for k in range(20))
    assert all(d.step([0, 0, 1, 0], k) is None for k in range(20))


def test_reset_forgets_window_arming_and_refractory_time() -> None:
    d = decider(smoothing_ms=80, refractory_ms=1000)
    first = listen(d, [0.9, 0.9, 0.9])
    d.reset()
    assert listen(d, [0.9, 0.9, 0.9]) == first == [(1, "yes")]


def test_limits_are_whole_steps_and_sums() -> None:
    limits = decision_limits(
        DecisionConfig(thresholds={"yes": 0.75}, smoothing_ms=140, refractory_ms=500), ["yes"], 40
    )
    assert (limits.window_steps, limits.refractory_steps) == (4, 13)
    assert limits.fire == (3.0,)
    assert limits.release == (1.5,)


def test_a_wake_word_with_one_label_works() -> None:
    d = Decider(DecisionConfig(thresholds={"hey": 0.5}, smoothing_ms=0), ["hey"], ["hey"], STEP_MS)
    assert d.step([0.4], 0.0) is None
    assert d.step([0.5], 0.1) == Event(keyword="hey", score=0.5, time_s=0.1)


def integer_decider(
    rows: list[list[int]], window: int, refractory: int, fire: list[float], release: list[float]
) -> list[tuple[int, int]]:
    """The rule as integer C has it: int8 posteriors plus 128, sums, limits in 1/256."""
    limits = [math.ceil(Fraction(x) * 256) for x in fire]
    releases = [math.ceil(Fraction(x) * 256) for x in release]
    history = [[0, 0] for _ in range(window)]
    armed, quiet, events = [True, True], 0, []
    for k, row in enumerate(rows):
        history = [*history[1:], row]
        sums = [sum(h[j] for h in history) for j in range(2)]
        for j in range(2):
            if sums[j] < releases[j]:
                armed[j] = True
        if quiet:
            quiet -= 1
            continue
        best = -1
        for j in range(2):
            if armed[j] and sums[j] >= limits[j] and (best < 0 or sums[j] > sums[best]):
                best = j
        if best >= 0:
            armed[best], quiet = False, refractory
            events.append((k, best))
    return events


@given(
    rows=st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=60),
    smoothing=st.integers(0, 6),
    refractory=st.integers(0, 6),
    thresholds=st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 1.0)),
    release=st.floats(0.0, 1.0),
)
@settings(max_examples=300, deadline=None)
def test_integer_arithmetic_decides_the_same(
    rows: list[tuple[int, int]],
    smoothing: int,
    refractory: int,
    thresholds: tuple[float, float],
    release: float,
) -> None:
    d = decider(smoothing * STEP_MS, refractory * STEP_MS, *thresholds, release)
    found = []
    for k, (y, n) in enumerate(rows):
        event = d.step(np.array([0, y / 256, 0, n / 256], np.float32), 0.0)
        if event:
            found.append((k, KEYWORDS.index(event.keyword)))
    expected = integer_decider(
        [list(row) for row in rows],
        d.limits.window_steps,
        d.limits.refractory_steps,
        list(d.limits.fire),
        list(d.limits.release),
    )
    assert found == expected


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"thresholds": {"yes": 0.0}}, "'yes' must be above 0"),
        ({"thresholds": {"yes": math.nan}}, "'yes' must be above 0"),
        ({"thresholds": {"yes": 90}}, "at most 1.*Received: 90"),
        ({"thresholds": {}, "smoothing_ms": -1}, "smoothing_ms must be between 0 and 60000"),
        ({"thresholds": {}, "refractory_ms": math.inf}, "refractory_ms must be between"),
        ({"thresholds": {}, "release": 2}, "release must be between 0 and 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, complaint: str) -> None:
    with pytest.raises(KwsError, match=complaint):
        DecisionConfig(**settings)


def test_thresholds_and_keywords_must_match() -> None:
    with pytest.raises(KwsError, match="'no' has no threshold"):
        Decider(DecisionConfig(thresholds={"yes": 0.5}), LABELS, KEYWORDS, STEP_MS)
    with pytest.raises(KwsError, match="'nope', which is not a keyword"):
        Decider(DecisionConfig(thresholds={"nope": 0.5}), LABELS, [], STEP_MS)
    with pytest.raises(KwsError, match="'maybe' is not among the labels"):
        Decider(DecisionConfig(thresholds={"maybe": 0.5}), LABELS, ["maybe"], STEP_MS)


def test_posteriors_of_another_number_are_refused() -> None:
    with pytest.raises(KwsError, match=r"each of 4 labels.*shape \(3,\)"):
        decider().step([0.1, 0.2, 0.7], 0.0)
