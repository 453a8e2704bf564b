"""Matching events with words: cases worked out by hand, and rules that hold for any stream."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.data.label_file import SpokenWord, read_truth
from kws.decide import Event
from kws.errors import KwsError
from kws.recordings.matching import Matches, match_events


def word(start_s: float, end_s: float, keyword: str = "yes") -> SpokenWord:
    return SpokenWord(start_s=start_s, end_s=end_s, keyword=keyword)


def event(time_s: float, keyword: str = "yes") -> Event:
    return Event(keyword=keyword, score=0.9, time_s=time_s)


def counts(matches: Matches) -> tuple[int, int, int, int]:
    """Hits, substitutions, misses, false accepts."""
    return (
        len(matches.hits),
        len(matches.substitutions),
        len(matches.misses),
        len(matches.false_accepts),
    )


@pytest.mark.parametrize(
    ("time_s", "hit"),
    [(0.99, False), (1.0, True), (1.5, True), (1.6, True), (2.1, True), (2.11, False)],
)
def test_the_window_is_from_the_words_start_to_half_a_second_after_its_end(
    time_s: float, hit: bool
) -> None:
    matches = match_events([word(1.0, 1.6)], [event(time_s)], duration_s=10)
    assert counts(matches) == ((1, 0, 0, 0) if hit else (0, 0, 1, 1))


def test_an_event_at_the_very_end_of_the_window_is_not_lost_to_rounding() -> None:
    words = [word(0.1, 0.1 + 0.2)]
    assert counts(match_events(words, [event(0.8 + 1e-9)], duration_s=1))[0] == 1


def test_another_keyword_in_the_window_is_a_substitution_and_outside_a_false_accept() -> None:
    matches = match_events([word(1.0, 1.5)], [event(1.6, "no"), event(4.0, "no")], duration_s=10)
    assert counts(matches) == (0, 1, 0, 1)
    assert matches.substitutions[0][1].time_s == 1.6
    assert matches.false_accepts[0].time_s == 4.0


def test_a_word_that_was_heard_and_also_taken_for_another_is_a_hit_and_a_false_accept() -> None:
    matches = match_events([word(1.0, 1.5)], [event(1.2, "no"), event(1.6)], duration_s=10)
    assert counts(matches) == (1, 0, 0, 1)
    assert matches.false_accepts[0].keyword == "no"


def test_a_word_reported_twice_is_one_hit_and_one_false_accept() -> None:
    matches = match_events([word(1.0, 1.5)], [event(1.4), event(1.9)], duration_s=10)
    assert counts(matches) == (1, 0, 0, 1)
    assert matches.hits[0][1].time_s == 1.4


def test_one_event_serves_only_one_of_two_words_spoken_in_quick_succession() -> None:
    matches = match_events([word(1.0, 1.4), word(1.5, 1.9)], [event(1.7)], duration_s=10)
    assert counts(matches) == (1, 0, 1, 0)
    assert matches.hits[0][0].start_s == 1.0


def test_overlapping_windows_are_shared_out_so_that_both_words_are_hits() -> None:
    # The first event fits both words, the second only the later one.
    words = [word(1.0, 1.4), word(1.5, 1.9)]
    assert counts(match_events(words, [event(1.8), event(2.3)], duration_s=10)) == (2, 0, 0, 0)


def test_the_right_word_gets_its_event_even_if_another_word_is_closer_to_its_end() -> None:
    words = [word(1.0, 1.3, "no"), word(1.4, 1.8, "yes")]
    matches = match_events(words, [event(1.7, "yes")], duration_s=10)
    assert counts(matches) == (1, 0, 1, 0)
    assert matches.misses[0].keyword == "no"


def test_figures_of_a_half_hour_worked_out_by_hand() -> None:
    words = [
        word(10.0, 10.5),  # heard 0.1 s after its end
        word(20.0, 20.5),  # heard 0.2 s after its end
        word(30.0, 30.5, "no"),  # heard 0.4 s after its end
        word(40.0, 40.5, "no"),  # taken for yes
        word(50.0, 50.5),  # missed
    ]
    events = [
        event(10.6), event(20.7), event(30.9, "no"), event(40.7), event(900.0), event(1000.0, "up"),
    ]  # fmt: skip
    result = match_events(words, events, duration_s=1800).to_json()
    # The exact limits for two are 0.2422 and 7.2247.
    interval = result.pop("false_accepts_per_hour_interval_95")
    assert interval == pytest.approx([0.4844, 14.4494], abs=1e-3)
    assert result == {
        "hours": 0.5,
        "words": 5,
        "events": 6,
        "hits": 3,
        "misses": 1,
        "substitutions": 1,
        "false_accepts": 2,
        "false_accepts_per_hour": 4.0,
        "false_reject_rate": 0.4,
        "command_error_rate": 0.8,
        # Percentiles between the sorted 100, 200, 400 ms: position 0.95 * 2 = 1.9.
        "latency_ms": {"median": 200.0, "p95": 380.0},
        "per_keyword": {
            "no": {"words": 2, "hits": 1, "misses": 0, "substitutions": 1, "false_accepts": 0},
            "up": {"words": 0, "hits": 0, "misses": 0, "substitutions": 0, "false_accepts": 1},
            "yes": {"words": 3, "hits": 2, "misses": 1, "substitutions": 0, "false_accepts": 1},
        },
    }


def test_a_stream_without_words_has_false_accepts_per_hour_but_no_reject_rate() -> None:
    result = match_events([], [event(5.0)], duration_s=7200).to_json()
    assert result["false_accepts_per_hour"] == 0.5
    assert result["false_reject_rate"] is None
    assert result["command_error_rate"] is None
    assert result["latency_ms"] == {"median": None, "p95": None}
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("duration_s", [0.0, -1.0, float("nan")])
def test_a_stream_of_no_length_is_refused(duration_s: float) -> None:
    with pytest.raises(KwsError, match="longer than 0"):
        match_events([], [], duration_s=duration_s)


times = st.integers(0, 40).map(lambda tenths: tenths / 10)
keywords = st.sampled_from(["yes", "no"])
words_strategy = st.lists(
    st.builds(
        lambda start, length, keyword: word(start, start + length, keyword),
        times,
        st.sampled_from([0.1, 0.4, 1.0]),
        keywords,
    ),
    max_size=4,
)
events_strategy = st.lists(st.builds(event, times, keywords), max_size=4)


@given(words_strategy, events_strategy)
def test_every_word_and_every_event_is_counted_exactly_once(
    words: list[SpokenWord], events: list[Event]
) -> None:
    matches = match_events(words, events, duration_s=10)
    hits, substitutions, misses, false_accepts = counts(matches)
    assert hits + substitutions + misses == len(words) == matches.words
    assert hits + substitutions + false_accepts == len(events) == matches.events
    pairs = matches.hits + matches.substitutions

    def key(item: SpokenWord | Event) -> str:
        return repr(item)

    assert sorted([w for w, _ in pairs] + list(matches.misses), key=key) == sorted(words, key=key)
    assert sorted([e for _, e in pairs] + list(matches.false_accepts), key=key) == sorted(
        events, key=key
    )
    for w, e in pairs:
        assert w.start_s - 1e-6 <= e.time_s <= w.end_s + 0.5 + 1e-6
    assert all(w.keyword == e.keyword for w, e in matches.hits)
    assert all(w.keyword != e.keyword for w, e in matches.substitutions)


@given(words_strategy, events_strategy)
def test_no_other_pairing_has_more_hits(words: list[SpokenWord], events: list[Event]) -> None:
    def fits(w: SpokenWord, e: Event) -> bool:
        inside = w.start_s - 1e-6 <= e.time_s <= w.end_s + 0.5 + 1e-6
        return w.keyword == e.keyword and inside

    # Try every way to hand the events out to the words (None: no event).
    slots = events + [None] * len(words)
    best = max(
        sum(e is not None and fits(w, e) for w, e in zip(words, choice, strict=True))
        for choice in itertools.permutations(slots, len(words))
    )
    assert len(match_events(words, events, duration_s=10).hits) == best


@given(words_strategy, events_strategy, st.randoms())
def test_the_order_in_which_words_and_events_come_does_not_matter(
    words: list[SpokenWord], events: list[Event], random: object
) -> None:
    before = match_events(words, events, duration_s=10)
    random.shuffle(words)  # type: ignore[attr-defined]
    random.shuffle(events)  # type: ignore[attr-defined]
    assert match_events(words, events, duration_s=10) == before


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "labels.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_label_file_is_read_by_its_column_names_and_sorted(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "\ufeffkeyword\tstart_s\tspeaker\tend_s\r\nno\t3\tanna\t3.5\r\n\r\nyes\t1.25\tben\t2\r\n",
    )
    assert read_truth(path) == [word(1.25, 2.0), word(3.0, 3.5, "no")]


def test_a_label_file_with_only_a_header_says_that_no_keyword_is_spoken(tmp_path: Path) -> None:
    assert read_truth(written(tmp_path, "start_s\tend_s\tkeyword\n")) == []


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "is empty"),
        ("1.0\t2.0\tyes\n", "line 1: the header lacks start_s, end_s, keyword"),
        ("start_s,end_s,keyword\n", "line 1: the header lacks"),
        ("start_s\tend_s\tkeyword\n1.0\t1,5\tyes\n", "line 2: end_s must be seconds"),
        ("start_s\tend_s\tkeyword\n\n1.0\n", "line 3: end_s must be seconds.*'nothing'"),
        ("start_s\tend_s\tkeyword\nnan\t1.5\tyes\n", "line 2: start_s must be seconds"),
        ("start_s\tend_s\tkeyword\n-1\t1.5\tyes\n", "line 2: start_s must be seconds"),
        ("start_s\tend_s\tkeyword\n1\tinf\tyes\n", "line 2: end_s must be seconds"),
        ("start_s\tend_s\tkeyword\n2\t1.5\tyes\n", "line 2: end_s must be after start_s"),
        ("start_s\tend_s\tkeyword\n1\t1.5\t \n", "line 2: the keyword is missing"),
        (b"RIFF\xff\xfe\x00", "is not UTF-8 text"),
    ],
)
def test_a_bad_label_file_is_refused_in_one_line_that_names_the_place(
    tmp_path: Path, content: str | bytes, complaint: str
) -> None:
    with pytest.raises(KwsError, match=complaint) as caught:
        read_truth(written(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_missing_label_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match=r"nothing\.tsv: No such file"):
        read_truth(tmp_path / "nothing.tsv")
