"""The verdict on a trained network: what is counted, what is advised, and what is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_model

from kws.audio.files import write_wav
from kws.cli import run as kws
from kws.confidence import poisson_interval
from kws.data.label_file import read_truth
from kws.data.scan import scan
from kws.data.split import split_of
from kws.data.streams.long_stream import Built, LaidItem
from kws.decide import DecisionConfig, Event
from kws.errors import KwsError
from kws.model_file import load_model
from kws.recipe import load_recipe
from kws.recordings.matching import Matches, match_events
from kws.recordings.posteriors import RecordingPosteriors
from kws.recordings.replay import Replay
from kws.verdict.advice import (
    KeywordMeasurements,
    Rates,
    SpeechMeasurements,
    advise,
    advise_word,
)

pytest.importorskip("keras")
pytest.importorskip("tensorflow")

from kws.verdict import judge as judging
from kws.verdict import streams
from kws.verdict.judge import (
    StreamRun,
    clip_scores,
    close_share,
    enough_hours,
    false_accepts,
    judge,
    missed_shares,
    near_miss_share,
    what_enlarges,
)
from kws.verdict.other_speech import OtherSpeech, count_speech
from kws.verdict.streams import Sources, plan_streams

RATE = 16000

# ---- advice

FINE = KeywordMeasurements(
    keyword="computer",
    recordings=200,
    speakers=60,
    held_out=40,
    generated=300,
    missed=0.01,
    missed_trained=0.0,
    near_misses=0.02,
)


UNLEARNT = {"recordings": 0, "held_out": 0, "missed": 0.9, "more_generated": "kws data synth …"}


def advice(**changes: Any) -> str:
    return "\n".join(advise_word(dataclasses.replace(FINE, **changes)))


def test_a_word_that_does_well_needs_no_advice() -> None:
    assert advice() == ""


@pytest.mark.parametrize(
    ("what", "shown", "not_shown"),
    [
        (
            "generated voices only",
            {"recordings": 0, "held_out": 0},
            {"recordings": 1, "held_out": 1},
        ),
        ("no figure for new", {"recordings": 20, "held_out": 0}, {"recordings": 20, "held_out": 2}),
        ("more often", {"recordings": 49, "missed": 0.05}, {"recordings": 49, "missed": 0.049}),
        ("more often", {"recordings": 49, "missed": 0.05}, {"recordings": 50, "missed": 0.05}),
        (
            "in 12 % of new recordings, but in 2 %",
            {"missed": 0.12, "missed_trained": 0.02},
            {"missed": 0.11, "missed_trained": 0.02},
        ),
        (
            "training recordings: listen",
            {"missed": 0.08, "missed_trained": 0.05},
            {"missed": 0.08, "missed_trained": 0.04},
        ),
        (
            "mostly just below the threshold",
            {"missed": 0.3, "missed_trained": 0.3, "close_trained": 0.51},
            {"missed": 0.3, "missed_trained": 0.3, "close_trained": 0.5},
        ),
        # New voices are the greater lack there.
        (
            "training recordings: listen",
            {"missed": 0.3, "missed_trained": 0.16},
            {"missed": 0.3, "missed_trained": 0.14},
        ),
        (
            "when it is quiet (20 %) than when it is loud (10 %)",
            {"missed": 0.15, "missed_soft": 0.2, "missed_loud": 0.1},
            {"missed": 0.15, "missed_soft": 0.2, "missed_loud": 0.11},
        ),
        (
            "in noise (12 %) than with less noise (2 %)",
            {"missed": 0.07, "missed_noisy": 0.12, "missed_clear": 0.02},
            {"missed": 0.07, "missed_noisy": 0.11, "missed_clear": 0.02},
        ),
        ("10 % of the near-misses", {"near_misses": 0.1}, {"near_misses": 0.09}),
        ("near-misses", {"near_misses": 0.1}, {"near_misses": None}),
        (
            "missed in 10 % of generated clips, too: train longer",
            {"recordings": 0, "held_out": 0, "missed": 0.1},
            {"recordings": 0, "held_out": 0, "missed": 0.09},
        ),
        # New voices are the greater lack, and known ones tell more.
        (
            "of generated clips",
            {"recordings": 0, "held_out": 0, "missed": 0.9},
            {"recordings": 20, "held_out": 0, "missed": 0.9},
        ),
        (
            "([training] epochs, now 3), and on more than 999 clips: kws data synth",
            {**UNLEARNT, "epochs": 3, "generated": 999},
            {**UNLEARNT, "epochs": 3, "generated": 1000},
        ),
    ],
)
def test_each_advice_appears_where_it_should_and_nowhere_else(
    what: str, shown: dict[str, Any], not_shown: dict[str, Any]
) -> None:
    assert what in advice(**shown)
    assert what not in advice(**not_shown)


def test_what_was_measured_on_generated_voices_is_not_held_against_recordings() -> None:
    """Missed generated voices beside known recordings say nothing about new people."""
    said = advise_word(
        dataclasses.replace(FINE, recordings=20, held_out=0, missed=0.7, missed_trained=0.0)
    )
    assert len(said) == 1
    assert said[0].startswith("record 'computer' some more, by other people: its 20 recordings")
    assert "its 1 recording was" in advice(recordings=1, held_out=0)


def test_what_was_not_learnt_from_generated_clips_is_said_before_recordings_are_asked_for() -> None:
    said = advise_word(dataclasses.replace(FINE, recordings=0, held_out=0, missed=0.97))
    assert ["train longer" in said[0], "record 'computer'" in said[1]] == [True, True]


def test_a_larger_network_is_advised_only_where_training_starts_from_none() -> None:
    unlearnt = {"missed": 0.3, "missed_trained": 0.3}
    own = load_recipe("own_words")
    assert what_enlarges(own) == ""
    assert advice(**unlearnt, larger="").endswith("train longer ([training] epochs)")
    training = dataclasses.replace(own.training, start="")
    size = what_enlarges(dataclasses.replace(own, training=training))
    assert size in own.model.sizes
    assert f"or use a larger network ([model] {size})" in advice(**unlearnt, larger=size)


def test_few_recordings_of_one_speaker_are_named_as_such() -> None:
    assert "training had 1 recording by 1 speaker" in advice(
        recordings=1, speakers=1, missed=0.1, missed_trained=None
    )


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"least_per_hour": 0.51}, "more false accepts than wanted"),
        ({"least_per_hour": 0.5}, None),
        ({"missed": 0.3, "missed_at": [(1.0, 0.16), (2.0, 0.15), (5.0, 0.1)]}, "at 2 per hour"),
        ({"missed": 0.3, "missed_at": [(1.0, 0.16)]}, None),
        ({"missed": 0.04, "missed_at": [(1.0, 0.0)]}, None),
        # Not both at once.
        ({"least_per_hour": 1.0, "missed": 0.3, "missed_at": [(1.0, 0.0)]}, "more false accepts"),
    ],
)
def test_advice_on_rates_appears_where_it_should(changes: dict[str, Any], what: str | None) -> None:
    rates = dataclasses.replace(Rates(wanted_per_hour=0.5, least_per_hour=0, missed=0), **changes)
    said = advise([FINE], rates)
    assert len(said) == (what is not None)
    assert what is None or what in said[0]


REPEATED = SpeechMeasurements(
    seconds=60, times=2, generated=True, fetch="kws data fetch words", more="kws data synth words"
)


@pytest.mark.parametrize(
    ("changes", "there", "not_there"),
    [
        ({}, ["only 1:00 min of different speech, all of it generated", "fetch", "synth"], []),
        ({"generated": False}, ["only 1:00 min"], ["all of it"]),
        ({"fetch": "", "more": ""}, ["recordings of people"], ["fetch", "generated speech"]),
        ({"language_known": False}, ["speech (with -l and its language, if not English): kws"], []),
        ({"times": 1.9}, [], ["false accepts"]),
    ],
)
def test_speech_that_was_repeated_calls_for_more_of_it_and_not_for_longer_streams(
    changes: dict[str, Any], there: list[str], not_there: list[str]
) -> None:
    speech = dataclasses.replace(REPEATED, **changes)
    rates = Rates(wanted_per_hour=0.5, least_per_hour=0, missed=0, speech=speech)
    said = "\n".join(advise([FINE], rates))
    assert all(what in said for what in there)
    assert not any(what in said for what in [*not_there, "--hours"])


def test_what_was_not_even_learnt_is_said_before_more_recordings_are_asked_for() -> None:
    said = advise_word(dataclasses.replace(FINE, recordings=20, missed=0.6, missed_trained=0.5))
    assert ["training recordings: listen" in said[0], "more often" in said[1]] == [True, True]


def test_the_word_that_is_missed_most_comes_first_and_what_concerns_all_last() -> None:
    words = [
        dataclasses.replace(FINE, keyword="a", recordings=20, missed=0.1),
        dataclasses.replace(FINE, keyword="b", recordings=20, missed=0.6, missed_trained=0.5),
        dataclasses.replace(FINE, keyword="c", recordings=20, held_out=0, missed=None),
    ]
    said = advise(words, Rates(wanted_per_hour=0.5, least_per_hour=2.0, missed=0.3))
    assert [
        next(w for w in ("'a'", "'b'", "'c'", "false accepts") if w in line) for line in said
    ] == ["'c'", "'b'", "'b'", "'a'", "false accepts"]


# ---- what is counted, on streams made by hand


def item(text: str, start_s: float, path: str, kind: str = "keyword", **options: Any) -> LaidItem:
    where = Path(path) if path else None
    return LaidItem(
        kind=kind, start_s=start_s, end_s=start_s + 0.5, text=text, path=where, **options
    )


def event(keyword: str, time_s: float, score: float = 0.9) -> Event:
    return Event(keyword=keyword, time_s=time_s, score=score)


def stream(items: list[LaidItem], events: list[Event]) -> tuple[Built, Matches]:
    built = Built(seconds=60.0, words={}, items=tuple(items))
    return built, match_events(built.truth, events, duration_s=60.0)


def replay_of(column: dict[float, float], word: str = "yes") -> Replay:
    """Answers to a minute of audio: 0 but for the scores of `word` at some times."""
    card = tiny_model.card(
        form="stream", decision=DecisionConfig(thresholds={"yes": 0.5, "no": 0.5}, smoothing_ms=0)
    )
    heard = RecordingPosteriors(audio="", seconds=60.0, posteriors=np.zeros((1400, 4), np.float32))
    times = heard.step_times_s(card)
    for at, score in column.items():
        heard.posteriors[int(np.abs(times - at).argmin()), card.labels.index(word)] = score
    return Replay(card, heard)


def test_a_peak_is_the_largest_score_of_one_word_between_two_times() -> None:
    replay = replay_of({2.0: 0.3, 3.0: 0.75, 5.0: 1.0})
    assert replay.peak("yes", 1.5, 3.5) == 0.75
    assert replay.peak("yes", 1.5, 2.5) == pytest.approx(0.3)
    assert replay.peak("yes", 5.5, 9.0) == 0.0
    assert replay.peak("no", 0.0, 60.0) == 0.0
    assert replay.peak("yes", 59.99, 70.0) == 0.0


def test_each_recording_is_scored_over_all_times_that_it_was_laid_the_worst_first() -> None:
    built, matches = stream(
        [
            item("yes", 2, "mine/yes/a.wav"),
            item("yes", 6, "mine/yes/b.wav"),
            item("yes", 10, "mine/yes/a.wav"),
            item("yes", 14, "theirs/yes/a.wav"),
            item("yes", 18, "mine/yes/c.wav"),
            item("dog", 22, "mine/dog/a.wav", kind="other"),
        ],
        [event("yes", 2.8), event("no", 6.2), event("yes", 14.4), event("yes", 22.4)],
    )
    found = clip_scores(built, matches, replay_of({2.8: 0.75, 6.9: 0.25, 7.2: 1.0}))
    assert [(one.clip, one.missed, one.laid, one.best) for one in found] == [
        ("mine/yes/c.wav", 1, 1, 0.0),
        ("mine/yes/b.wav", 1, 1, 0.25),
        ("mine/yes/a.wav", 1, 2, 0.75),
        ("theirs/yes/a.wav", 0, 1, 0.0),
    ]


def test_misses_close_to_the_threshold_are_counted_apart() -> None:
    words = [item("yes", at, f"{at}.wav") for at in (2, 6, 10)]
    built, matches = stream(words, [event("yes", 2.2)])
    run = StreamRun(built=built, matches=matches, replay=replay_of({2.2: 0.6, 6.2: 0.4, 10.2: 0.3}))
    assert close_share("yes", run, 0.5) == 0.5
    assert close_share("yes", run, 0.6) == 0.0
    assert close_share("no", run, 0.5) == 0.0


def test_a_false_accept_names_what_was_said_last_the_highest_score_first() -> None:
    built, matches = stream(
        [
            item("dog", 2.0, "dog/a.wav", kind="other"),
            item("", 2.6, "anna/talk.wav", kind="sentence"),
            item("", 10.0, "", kind="noise"),
        ],
        [event("yes", 2.4, 0.6), event("yes", 2.9, 0.7), event("no", 10.2, 0.8)],
    )
    found = [(one.keyword, one.score, one.during) for one in false_accepts(built, matches)]
    assert found == [("no", 0.8, ""), ("yes", 0.7, "anna/talk.wav"), ("yes", 0.6, "dog/a.wav")]


def test_shares_of_a_word_are_over_that_word_alone_and_split_at_its_own_medians() -> None:
    levels, ratios = [-40, -30, -20, -10], [5, 20, 15, 10]
    items = [
        item("yes", 4 * i, f"yes/{i}.wav", level_dbfs=level, snr_db=snr)
        for i, (level, snr) in enumerate(zip(levels, ratios, strict=True))
    ]
    items.append(item("no", 20, "no/0.wav", level_dbfs=-90, snr_db=-9))
    built, matches = stream(items, [event("yes", 8.2), event("yes", 12.2), event("yes", 20.2)])
    assert missed_shares("yes", built, matches) == {
        "missed": 0.5,
        "missed_soft": 1.0,
        "missed_loud": 0.0,
        "missed_noisy": 0.5,  # 5 missed, 10 heard
        "missed_clear": 0.5,
    }
    assert missed_shares("no", built, matches)["missed"] == 1.0
    assert missed_shares("dog", built, matches) == {}


def test_near_misses_count_for_the_word_that_they_set_off() -> None:
    words = ["not_yes", "not_yes", "not_no", "not_no", "sheep"]
    _, matches = stream(
        [item(word, 4 * i, f"{word}/{i}.wav") for i, word in enumerate(words)],
        [event("yes", 0.2), event("no", 4.2), event("yes", 8.2), event("yes", 40.0)],
    )
    assert near_miss_share("yes", matches) == 0.5
    assert near_miss_share("no", matches) == 0.0
    assert near_miss_share("near", matches) == 0.0  # a word like any other
    assert near_miss_share("yes", stream([], [])[1]) is None


# ---- how much other speech there is

TALK = {
    "talk/anna/1.wav": (0, 10, 20),
    "talk/anna/2.wav": (30, 40, 50),
    "talk/espeak-zac/1.wav": (5, 15, 25),
}
"""Sentences of half a second, and when they come."""


def laid(times: dict[str, tuple[int, ...]], kind: str = "sentence") -> list[LaidItem]:
    return [item("", at, path, kind) for path, starts in times.items() for at in starts]


def talk_in(items: list[LaidItem]) -> OtherSpeech:
    sources = Sources(
        keywords=("yes",), recorded=(), generated=(), speech=(Path("talk"),), more_to=Path("mine")
    )
    return count_speech(Built(seconds=60.0, words={}, items=tuple(items)), sources.speaker)


def test_other_speech_is_counted_once_however_often_it_was_laid() -> None:
    words = {"data/dog/ada_nohash_0.wav": (35,), "data/cat/ada_nohash_1.wav": (36,)}
    found = talk_in([*laid(TALK), *laid(words, "other"), item("", 45, "", "noise")])
    assert (found.seconds, found.times, found.repeated) == (2.5, 11 / 5, True)
    assert found.sentences.speakers == {"anna", "espeak-zac"}
    assert found.describe(21600) == (
        "the 6:00 h repeat only 2 s of different speech, at other levels and in other noise: "
        "3 sentences by 1 speaker and 1 generated voice, each laid about 3 times, "
        "2 single words by 1 speaker, each laid once"
    )
    assert talk_in(laid(words, "other")).describe(60).startswith("1 s of that is speech: 2 single")
    sentences = found.to_json()["sentences"]
    assert (sentences["recordings"], sentences["laid"], sentences["seconds"]) == (3, 9, 1.5)
    assert (sentences["people"], sentences["generated_voices"]) == (1, 1)


def test_speech_is_generated_if_no_person_speaks_in_any_of_it() -> None:
    made = {"talk/espeak-zac/1.wav": (1,)}
    assert talk_in(laid(made)).generated
    assert not talk_in([*laid(made), *laid({"data/dog/ada.wav": (5,)}, "other")]).generated
    assert not talk_in([]).generated


def test_false_accepts_in_one_recording_count_as_one_and_repeats_do_not_narrow_the_interval() -> (
    None
):
    once = talk_in(laid({f"talk/anna/{n}.wav": (n,) for n in range(50)}))
    often = talk_in(laid({"talk/anna/1.wav": tuple(range(50))}))
    assert once.interval(["a", "b", "c"], 6.0) == tuple(n / 6 for n in poisson_interval(3))
    # None in 50 times the same: as if its length were all.
    assert often.interval([], 6.0) == pytest.approx((0, poisson_interval(0)[1] * 50 / 6))
    (low, high), (lower, higher) = (often.interval(x, 6.0) for x in (["a", "b"], ["a", "a"]))
    assert lower < low < 2 / 6 < high < higher
    assert lower == pytest.approx(2 * poisson_interval(1)[0] / 6)
    # Without repeats every one counts, those in noise alone as well.
    assert once.interval(["", "", "", "a", "a"], 6.0) == tuple(n / 6 for n in poisson_interval(5))


def test_a_few_words_that_are_repeated_do_not_make_many_sentences_little_speech() -> None:
    sentences = laid({f"talk/anna/{n}.wav": (n,) for n in range(400)})
    few = laid({"data/dog/ada_nohash_0.wav": tuple(range(500, 600))}, "other")
    found = talk_in([*sentences, *few])
    assert not found.repeated
    narrow, wide = (talk.interval(["a"], 6.0)[1] for talk in (talk_in(sentences), found))
    assert narrow < wide < 1.5 * narrow


@pytest.fixture
def spoken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    """Two French words of which generated clips and near-misses are there."""
    pytest.importorskip("espeakng_loader")
    pytest.importorskip("soxr")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(streams, "FEWEST_NEAR_MISSES", 3)
    words = ["hey computer=ordinateur", "lumière"]
    options = ["--to", "words/made", "--near-misses", "3", "-l", "fr", "--seed", "5"]
    assert kws(["data", "synth", *words, "--count", "2", *options]) == 0
    return Sources(
        keywords=("hey computer", "lumière"),
        recorded=(),
        generated=(scan("words/made", cached=False),),
        speech=(),
        more_to=Path("words/recordings"),
    )


def advised(sources: Sources, word: str) -> str:
    command, known = sources.more_near_misses(word)
    line = advice(keyword=word, near_misses=0.2, more_near_misses=command, language_known=known)
    assert line.endswith(f": {command}")
    return line


def test_the_advised_command_adds_near_misses_and_changes_nothing_that_is_there(
    spoken: Sources,
) -> None:
    made = Path("words/made")

    def words() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in made.rglob("*.wav") if "not_" not in p.parent.name}

    def near_misses() -> set[str]:
        return {row for p in made.rglob("texts.tsv") for row in p.read_text().splitlines()[1:]}

    next((made / "hey computer").iterdir()).unlink()  # somebody heard that it is not the word
    words_before, near_before = words(), near_misses()
    line = advised(spoken, "hey computer")
    assert "if not English" not in line
    command = shlex.split(line[line.index("kws data") :])
    assert command[3:5] == ["hey computer=ordinateur", "lumière"]
    assert kws(command[1:]) == 0
    assert words() == words_before
    assert near_misses() > near_before
    counts = scan(made, cached=False).counts()
    assert counts == {"hey computer": 1, "lumière": 2, "not_hey computer": 6, "not_lumière": 6}
    assert len({p.stat().st_size for p in made.rglob("*.wav")}) == 1


def test_the_advised_command_adds_clips_of_a_word_as_long_as_those_there(
    spoken: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "FEW_GENERATED", 3)
    command, known = spoken.more_clips("hey computer")
    assert known
    assert kws(shlex.split(command)[1:]) == 0
    counts = scan("words/made", cached=False).counts()
    assert (counts["hey computer"], counts["lumière"]) == (4, 2)
    assert len({p.stat().st_size for p in Path("words/made").rglob("*.wav")}) == 1
    assert spoken.more_clips("sheep") == ("", True)


def test_the_advised_command_adds_speech_to_the_generated_speech_that_is_there(
    spoken: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LEAST_SPEECH_MIN", 1)
    assert spoken.more_speech() == ("", True)
    avoided = ["hey computer=ordinateur", "lumière"]
    made = ["data", "synth", *avoided, "--speech", "0.1", "--to", "talk", "-l", "fr", "--seed", "5"]
    assert kws(made) == 0
    before = {path: path.read_bytes() for path in Path("talk").rglob("*.wav")}
    command, known = dataclasses.replace(spoken, speech=(Path("talk"),)).more_speech()
    assert known
    assert shlex.split(command) == ["kws", *made[:5], "1", *made[6:]]
    assert kws(shlex.split(command)[1:]) == 0
    after = {path: path.read_bytes() for path in Path("talk").rglob("*.wav")}
    assert after.items() > before.items()


def test_a_language_that_nobody_noted_is_left_to_the_user(spoken: Sources) -> None:
    Path("words/made/spoken.tsv").unlink()
    line = advised(spoken, "lumière")
    assert "(with -l and its language, if not English): kws data synth 'lumière' " in line
    command = shlex.split(line[line.index("kws data") :])
    assert kws([*command[1:], "-l", "fr"]) == 0
    assert scan("words/made", cached=False).counts()["not_lumière"] >= 6


def test_the_default_length_shows_the_wanted_rate_within_limits() -> None:
    assert [enough_hours(rate) for rate in (10, 3, 1, 0.5, 0.01, 0)] == [1, 1, 3, 6, 6, 6]


# ---- what is laid into the streams


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (3000 * rng.standard_normal(round(seconds * RATE))).clip(-30000, 30000).astype(np.int16)


def speaker_in(part: str, taken: int = 0) -> str:
    names = (f"s{i}" for i in range(1000))
    return [name for name in names if split_of(name) == part][taken]


Make = Callable[..., Sources]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes sources of clips given as ``<folder>/<label>: (part, part …)``."""

    def sources(
        clips: dict[str, tuple[str, ...]],
        *,
        background_s: float = 0.0,
        sentences: tuple[str, ...] = (),
        transcripts: bool = True,
        words: str = '["yes", "no"]',
    ) -> Sources:
        root = tmp_path / "data"
        for place, parts in clips.items():
            for i, part in enumerate(parts):
                write_wav(root / place / f"{speaker_in(part, i)}_nohash_0.wav", noise(1, i), RATE)
        # Ten speakers, so that it is they who are split.
        folders = sorted({place.split("/")[0] for place in clips})
        for name in folders:
            for i in range(10):
                path = root / name / "zebra" / f"{speaker_in('training', i)}_nohash_0.wav"
                write_wav(path, noise(1, i), RATE)
        if background_s:
            write_wav(root / "real" / "_background_noise_" / "n.wav", noise(background_s), RATE)
        for part in sentences:
            write_wav(root / "talk" / speaker_in(part) / "1.wav", noise(2), RATE)
        if sentences and transcripts:
            lines = [f"{speaker_in(part)}/1\tgood morning" for part in sentences]
            table = "utterance\ttranscript\n" + "\n".join(lines) + "\n"
            (root / "talk" / "transcripts.tsv").write_text(table)
        recorded = [name for name in folders if name != "made"]
        recipe = tmp_path / "r.toml"
        recipe.write_text(
            f"[data]\nwords = {words}\nclips = {json.dumps(recorded)}\n"
            f"generated = {json.dumps([name for name in folders if name == 'made'])}\n"
            'speech = ["talk"]\n'
        )
        return Sources.find(load_recipe(recipe), root, said.append)

    said: list[str] = []
    sources.said = said  # type: ignore[attr-defined]
    return sources


ALL = ("training", "validation", "testing")


def planned(sources: Sources, folder: Path, **options: Any) -> dict[str, streams.Stream]:
    folder.mkdir(exist_ok=True)
    arguments = {"hours": 0.1, "seed": 1, "say": lambda _: None, **options}
    return plan_streams(sources, folder, **arguments)


def test_known_data_sets_that_the_recipe_names_and_lacks_can_be_fetched(tmp_path: Path) -> None:
    write_wav(tmp_path / "mine" / "yes" / "ada_nohash_0.wav", noise(1), RATE)
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        '[data]\nwords = ["yes"]\nclips = ["mine", "speech_commands_v0.02", "unknown_set"]\n'
    )
    found = Sources.find(load_recipe(recipe), tmp_path, lambda _: None)
    assert found.to_fetch == ("speech_commands_v0.02",)


def test_only_clips_that_were_not_trained_on_are_measured_and_each_part_has_its_stream(
    make: Make, tmp_path: Path
) -> None:
    sources = make(
        {"real/yes": ALL, "real/no": ALL, "real/dog": ALL, "made/yes": ALL, "made/not_yes": ALL},
        background_s=30,
        sentences=ALL,
    )
    found = planned(sources, tmp_path / "s")
    assert list(found) == list(streams.STREAMS)

    def speakers(paths: tuple[Path, ...]) -> set[str]:
        return {path.name.split("_")[0] for path in paths}

    words = found["words"].material.words
    assert {path.parent.parent.name for paths in words.values() for path in paths} == {"real"}
    assert speakers(words["yes"]) == {speaker_in("validation", 1), speaker_in("testing", 2)}
    assert speakers(found["trained"].material.words["no"]) == {speaker_in("training")}
    for name, part in (("choose", "validation"), ("check", "testing")):
        material = found[name].material
        assert {p.parent.name for p in material.sentences} == {speaker_in(part)}
        assert {p.parent.name for p in material.others} == {"dog"}
        assert len(material.others) == 1
        assert found[name].plan.words_per_hour == 0
    assert list(found["near"].material.words) == ["not_yes"]
    assert len({one.plan.seed for one in found.values()}) == 5


def test_generated_clips_stand_in_for_a_word_without_held_out_recordings(
    make: Make, tmp_path: Path
) -> None:
    sources = make(
        {"real/yes": ALL, "real/no": ("training",), "made/no": ALL, "real/dog": ALL},
        background_s=30,
    )
    found = planned(sources, tmp_path / "s")
    words = found["words"].material.words
    assert {p.parent.parent.name for p in words["yes"]} == {"real"}
    assert {p.parent.parent.name for p in words["no"]} == {"made"}
    assert "near" not in found
    assert set(found["trained"].material.words) == {"yes", "no"}


def test_a_word_of_which_nothing_was_held_out_is_left_out_and_recordings_of_one_are_enough(
    make: Make, tmp_path: Path
) -> None:
    sources = make({"real/yes": ("training", "testing"), "made/no": ("training",)} | {
        "real/dog": ALL}, background_s=30)  # fmt: skip
    found = planned(sources, tmp_path / "s")
    assert set(found["words"].material.words) == {"yes"}
    assert set(found["trained"].material.words) == {"yes"}


def test_without_any_recording_other_speech_comes_from_sentences_and_noise_is_made(
    make: Make, tmp_path: Path
) -> None:
    said: list[str] = []
    sources = make({"made/yes": ALL, "made/no": ALL}, sentences=("validation",))
    found = planned(sources, tmp_path / "s", say=said.append)
    assert list(found) == ["words", "choose"]
    assert "pink noise" in said[0]
    (pink,) = found["words"].material.noise
    power = np.abs(np.fft.rfft(pink.astype(float))) ** 2
    # Pink: as much in each octave.
    octaves = [power[n : 2 * n].sum() for n in (6000, 12000, 24000, 48000)]
    assert max(octaves) < 1.3 * min(octaves)


@pytest.mark.parametrize("seconds", [0.5, 4.0])
def test_noise_that_is_too_short_to_hold_some_back_is_replaced(
    seconds: float, make: Make, tmp_path: Path
) -> None:
    sources = make({"real/yes": ALL, "real/no": ALL, "real/dog": ALL}, background_s=seconds)
    (sound,) = planned(sources, tmp_path / "s")["words"].material.noise
    assert len(sound) == 60 * RATE


def test_speech_of_the_testing_part_alone_chooses_thresholds(make: Make, tmp_path: Path) -> None:
    clips = {"real/yes": ALL, "real/no": ALL}
    found = planned(make(clips, sentences=("training", "testing")), tmp_path / "s")
    assert "check" not in found
    (path,) = found["choose"].material.sentences
    assert path.parent.name == speaker_in("testing")


def test_speech_without_transcripts_is_left_out_since_a_word_may_be_in_it(make: Make) -> None:
    sources = make({"real/yes": ALL, "real/no": ALL}, sentences=ALL, transcripts=False)
    assert sources.speech == ()
    assert "without transcripts.tsv" in make.said[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("clips", "complaint"),
    [
        ({"real/yes": ALL, "real/no": ALL}, "There is no other speech to measure"),
        ({"real/yes": ("training",), "real/dog": ALL}, "No clip of a keyword was held out"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    clips: dict[str, tuple[str, ...]], complaint: str, make: Make, tmp_path: Path
) -> None:
    sources = make(clips)
    assert not sources.can_be_measured()
    with pytest.raises(KwsError, match=complaint):
        planned(sources, tmp_path / "s")


@pytest.mark.parametrize("others", [{"real/dog": ALL}, {}])
def test_keywords_and_other_speech_that_were_held_out_can_be_measured(
    others: dict[str, tuple[str, ...]], make: Make
) -> None:
    clips = {"real/yes": ALL, "real/no": ALL, **others}
    assert make(clips, sentences=() if others else ALL).can_be_measured()


def test_streams_that_do_not_fit_on_the_disk_are_refused_before_they_are_built(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = make({"real/yes": ALL, "real/no": ALL, "real/dog": ALL}, background_s=30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e9))
    with pytest.raises(KwsError, match=r"need 2\.4 GB in .*1\.0 GB free. Set TMPDIR"):
        planned(sources, tmp_path / "s", hours=10.0)
    assert planned(sources, tmp_path / "s", hours=1.0)


@pytest.mark.parametrize(
    ("clips", "times", "words"),
    [
        ([1], 3, 100),  # at least so many
        ([50], 3, 150),
        ([398], 3, 400),  # not three times each
        ([4000], 3, 400),
        ([40, 7], 3, 240),  # each word as often
        ([200] * 10, 3, 1200),
    ],
)
def test_clips_are_laid_several_times_within_limits(
    clips: list[int], times: int, words: int
) -> None:
    named = {f"w{i}": tuple(Path(f"{n}") for n in range(many)) for i, many in enumerate(clips)}
    assert streams._word_hours(named, times) * streams.WORDS_PER_HOUR == pytest.approx(words)


# ---- all of it, on a tiny network and real speech

# Epochs enough that the network reports something, which the tests on streams compare.
CHANGES = """
[data]
words = ["yes", "no"]
generated = ["generated"]
[training]
epochs = 12
learning_rate = 1e-2
warmup_epochs = 0.2
"""


@dataclasses.dataclass(frozen=True)
class Case:
    run: Path
    data: Path
    streams: Path
    model: Path
    found: judging.Verdict


@contextlib.contextmanager
def small_streams() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "LEAST_WORDS", 10)
        patch.setattr(streams, "MOST_WORDS", 40)
        patch.setattr(streams, "MOST_NEAR_MISSES", 10)
        yield patch


@pytest.fixture(scope="module")
def case(tiny_recipe: Path, real_speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A run of a few epochs, and its verdict, with the streams kept."""
    pytest.importorskip("tf_keras")
    root = tmp_path_factory.mktemp("verdict")
    data = root / "data"
    data.mkdir()
    speakers = sorted(path.name for path in (real_speech / "sentences").iterdir() if path.is_dir())
    of_part = ([name for name in speakers if split_of(name) == part] for part in ALL)
    two_of_each = [name for names in of_part for name in names[:2]]
    for name, few in (
        ("speech_commands", ("yes", "no", "up", "go", "off", "validation_list.txt")),
        ("sentences", (*two_of_each, "transcripts.tsv")),
    ):
        for one in few:
            source = real_speech / name / one
            copy = shutil.copytree if source.is_dir() else shutil.copy
            (data / name).mkdir(exist_ok=True)
            copy(source, data / name / one)
    noise = real_speech / "speech_commands" / "_background_noise_"
    (data / "speech_commands" / "_background_noise_").symlink_to(noise)
    for source, label in (("yes", "yes"), ("nine", "not_no")):
        shutil.copytree(real_speech / "speech_commands" / source, data / "generated" / label)
    (data / "tiny.toml").write_text(f"base = {json.dumps(str(tiny_recipe))}\n{CHANGES}")
    assert kws(["train", str(data / "tiny.toml"), "--out", str(root / "run")]) == 0
    kept = root / "streams"
    kept.mkdir()
    with small_streams() as patch:
        keep = SimpleNamespace(TemporaryDirectory=lambda **_: contextlib.nullcontext(str(kept)))
        patch.setattr(judging, "tempfile", keep)
        found = judge(root / "run", root / "out" / "tiny.tflite", hours=0.05, per_hour=100)
    return Case(root / "run", data, kept, root / "out" / "tiny.tflite", found)


@pytest.fixture
def quick(case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Small streams in a temporary folder of their own, and no conversion a second time."""
    from kws.export.report import ExportReport

    content = (case.streams / "model.tflite").read_bytes()
    report = object.__new__(ExportReport)
    object.__setattr__(report, "card", load_model(case.streams / "model.tflite"))
    monkeypatch.setattr(judging, "convert_run", lambda *_, **__: (report, content))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "tensorflow"))
    with small_streams():
        yield temporary


def test_the_model_file_has_the_thresholds_that_were_chosen_and_says_how(case: Case) -> None:
    card = load_model(case.model)
    assert dict(card.decision.thresholds) == dict(case.found.thresholds)
    assert card.provenance["calibration"]["wanted_false_accepts_per_hour"] == 100
    assert card.provenance["calibration"]["hours"] == pytest.approx(0.05)
    assert len(case.found.calibration.negatives.false_accepts) <= 5
    assert not (case.run / "agreement.json").exists()
    assert [path.name for path in case.model.parent.iterdir()] == ["tiny.tflite"]


@pytest.mark.parametrize("name", ["words", "check", "choose"])
def test_the_figures_are_those_of_kws_evaluate_on_the_same_audio(case: Case, name: str) -> None:
    from kws.evaluate.streams import evaluate_streams

    found = case.found
    assert found.words.hits and found.other.false_accepts
    ours = {
        "words": found.words, "check": found.other, "choose": found.calibration.negatives
    }[name]  # fmt: skip
    truth = read_truth(case.streams / f"{name}.tsv")
    (theirs,) = evaluate_streams(case.model, [(case.streams / f"{name}.wav", truth)]).recordings
    assert [e.time_s for e in theirs.matches.reported] == [e.time_s for e in ours.reported]
    assert len(theirs.matches.false_accepts) == len(ours.false_accepts)
    assert theirs.matches.false_reject_rate == ours.false_reject_rate


def test_the_verdict_adds_up(case: Case) -> None:
    found = case.found
    assert sum(one.laid for one in found.clips) == found.words.words
    assert sum(one.missed for one in found.clips) == found.words.words - len(found.words.hits)
    assert {Path(one.clip).parent.parent.name for one in found.clips} == {"speech_commands"}
    assert all(Path(one.clip).is_file() for one in found.clips)
    assert len(found.false_accepts) == len(found.other.false_accepts)
    assert found.curves["all"].own.hours == pytest.approx(found.words.hours + 0.1)
    yes, no = found.per_keyword
    assert (yes.recordings, yes.held_out, yes.generated) == (12, 12, 12)
    assert (no.recordings, no.generated) == (12, 0)
    assert yes.missed_trained is not None
    assert no.near_misses is not None


def test_lines_say_what_was_measured_on_what(case: Case) -> None:
    lines = "\n".join(case.found.lines(worst=2))
    for what in (
        f"{case.model}: thresholds yes ",
        "words from 24 clips that were not trained on",
        "for comparison, in training recordings: ",
        "in 3:00 min of other speech",
        "thresholds were chosen on 3:00 min of other speakers (",
        "min of that is speech: ",
        "training had 12 recordings by ",
    ):
        assert what in lines
    assert lines.count("best score") <= 2
    of_one = dataclasses.replace(case.found, same_speech=True, clips=case.found.clips[:1])
    lines = "\n".join(of_one.lines())
    assert "from 1 clip that was not trained on" in lines
    assert "few recordings, so a rough figure" in lines
    assert "thresholds were chosen on this same speech" in lines
    assert "generated" not in lines
    generated, unmeasured = (
        dataclasses.replace(one, held_out=0, missed=missed)
        for one, missed in zip(case.found.per_keyword, (0.5, None), strict=True)
    )
    lines = "\n".join(dataclasses.replace(of_one, per_keyword=(generated, unmeasured)).lines())
    assert "generated voices, for lack of recordings: yes;" in lines
    assert "not measured: no;" in lines


def test_speech_that_was_repeated_is_said_and_widens_the_interval_in_text_and_json(
    case: Case,
) -> None:
    few = talk_in(laid({"talk/espeak-zac/1.wav": tuple(range(50))}))
    repeated = dataclasses.replace(case.found, other_speech=few, chosen_on=few)
    lines = "\n".join(repeated.lines())
    for what in (
        ", counting each recording once); allowed",
        "the 3:00 min repeat only 0 s of different speech, at other levels and in other noise: "
        "1 sentence by 1 generated voice, each laid about 50 times",
        "all of this speech was generated; real speech may give quite different results",
        ", 0 s of it different) and on the words above",
    ):
        assert what in lines
    before, after = case.found.to_json(), repeated.to_json()
    assert after["different_other_speech"]["generated"]
    for of in (lambda x: x["other_speech"], lambda x: x["calibration"]["negatives"]):
        low, high = of(before)["false_accepts_per_hour_interval_95"]
        _, higher = of(after)["false_accepts_per_hour_interval_95"]
        assert low < high < higher


@pytest.mark.parametrize(("hours", "repeats"), [("0.01", False), ("0.3", True)])
def test_longer_audio_is_asked_for_only_where_it_would_not_repeat_the_same_speech(
    hours: str, repeats: bool, case: Case, quick: Path, tmp_path: Path, capsys: Any
) -> None:
    command = ["verdict", str(case.run), "-o", str(tmp_path / "m.tflite")]
    assert kws([*command, "--hours", hours, "--false-accepts-per-hour", "5"]) == 0
    printed = capsys.readouterr().out
    assert ("repeat only" in printed, "too short to verify" in printed) == (repeats, not repeats)
    assert ("false accepts were counted in only" in printed) is repeats


def test_a_training_that_was_stopped_is_said_and_the_first_advice_finishes_it(
    case: Case, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from kws.train import loop

    say, run = loop._say, tmp_path / "run"

    def stop(message: str) -> None:
        say(message)
        if message.startswith("epoch 1/"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_say", stop)
        train = ["train", str(case.data / "tiny.toml"), "--out", str(run), "--epochs", "2"]
        assert kws(train) == 130
    command = ["verdict", str(run), "-o", str(tmp_path / "m.tflite"), "--hours", "0.01"]
    capsys.readouterr()
    assert kws(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("training was stopped after 1 of 2 epochs")
    (first,) = [line for line in lines if line.startswith("  1. ")]
    assert first.startswith("  1. finish the training, which was stopped after 1 of 2 epochs")
    assert kws(shlex.split(first[first.index("kws train") :])[1:]) == 0
    capsys.readouterr()
    assert kws([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["unfinished"] is None
    assert "finish the training" not in "\n".join(printed["advice"])


def test_the_command_prints_json_draws_and_says_the_same_with_the_same_seed(
    case: Case, quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["verdict", str(case.run), "--hours", "0.05", "--false-accepts-per-hour", "100"]
    out, det = tmp_path / "again.tflite", tmp_path / "det.png"
    assert kws([*command, "-o", str(out), "--det", str(det), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    expected = json.loads(json.dumps(case.found.to_json()))
    assert list(printed) == [
        *("model", "thresholds", "unfinished", "calibration", "words", "trained_words"),
        *("other_speech", "different_other_speech", "other_speech_chose_thresholds"),
        *("generated", "unmeasured", "curve", "clips"),
        *("false_accepts", "facts", "advice"),
    ]
    assert {**printed, "model": ""} == {**expected, "model": ""}
    assert load_model(out) == load_model(case.model)
    assert det.read_bytes().startswith(b"\x89PNG")
    assert not list(quick.iterdir())


@pytest.mark.parametrize("as_json", [False, True])
def test_a_picture_that_cannot_be_stored_does_not_cost_the_figures(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    found = SimpleNamespace(curves={}, lines=lambda worst: ["5 %"], to_json=lambda: {"misses": 5})
    monkeypatch.setattr(judging, "judge", lambda *_, **__: found)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "det.png")

    monkeypatch.setattr("kws.report.trade_off.plot_trade_off", full)
    command = ["verdict", str(tmp_path), "-o", "m.tflite", "--det", "det.png"]
    assert kws([*command, *(["--json"] if as_json else [])]) == 1
    captured = capsys.readouterr()
    assert captured.out == ('{"misses": 5}\n' if as_json else "5 %\n")
    assert "the disk is full" in captured.err


@pytest.mark.parametrize(
    ("error", "status", "complaint"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "x.wav"), 1, "the disk is full"),
    ],
)
def test_what_ends_it_while_it_listens_leaves_nothing_behind(
    error: BaseException, status: int, complaint: str, case: Case, quick: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def stop(*_: object, **__: object) -> None:
        assert list(quick.iterdir())
        raise error

    monkeypatch.setattr(judging, "run_recordings", stop)
    out = tmp_path / "out" / "m.tflite"
    before = sorted(case.run.iterdir())
    assert kws(["verdict", str(case.run), "-o", str(out), "--hours", "0.01"]) == status
    assert complaint in capsys.readouterr().err.splitlines()[-1]
    assert not list(quick.iterdir())
    assert not out.parent.exists()
    assert sorted(case.run.iterdir()) == before


def test_a_run_whose_data_moved_is_measured_with_data_and_older_runs_ask_for_it(
    case: Case, quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "m.tflite"
    shutil.copytree(case.run, run)
    made_with = json.loads((run / "environment.json").read_text())
    assert made_with["data"] == str(case.data)

    def complaint(data: object) -> str:
        (run / "environment.json").write_text(json.dumps({**made_with, "data": data}))
        assert kws(["verdict", str(run), "-o", str(out)]) == 1
        return capsys.readouterr().err.splitlines()[-1]

    gone = complaint(str(tmp_path / "gone"))
    assert f"{run} was trained on are gone" in gone and "--data DIR" in gone
    assert "--data" in complaint(None)
    assert "environment.json is damaged" in complaint(3)
    command = ["verdict", str(run), "-o", str(out), "--data", str(case.data)]
    assert kws([*command, "--hours", "0.01"]) == 0
    assert "misses: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "status", "complaint"),
    [
        (["--hours", "0"], 1, "more than 0 hours. Received: 0"),
        (["--hours", "-1"], 1, "more than 0 hours. Received: -1"),
        (["--hours", "40"], 1, "holds 37.3 hours"),
        (["--false-accepts-per-hour", "-1"], 2, "greater than or equal to 0"),
        (["--false-accepts-per-hour", "inf"], 1, "must be 0 or more. Received: inf"),
        (["--det", "curve.txt"], 1, "must end in .png, .pdf, .svg"),
        (["-o", "{folder}"], 1, "which is a folder"),
        (["--data", "{folder}/none"], 1, "must be a folder of recordings"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_built(
    options: list[str], status: int, complaint: str, case: Case, quick: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(judging, "build_streams", lambda *_: pytest.fail("was built"))
    command = ["verdict", str(case.run), "-o", str(tmp_path / "m.tflite")]
    assert kws(command + [one.format(folder=tmp_path) for one in options]) == status
    assert complaint in capsys.readouterr().err.splitlines()[-1]
    assert not list(quick.iterdir())


def test_a_folder_that_is_no_run_and_a_network_of_whole_clips_are_refused(
    case: Case, tmp_path: Path
) -> None:
    with pytest.raises(KwsError, match="No such run"):
        judge(tmp_path / "none", tmp_path / "m.tflite")
    with pytest.raises(KwsError, match=r"best\.npz is missing"):
        judge(tmp_path, tmp_path / "m.tflite")
    copy = tmp_path / "run"
    shutil.copytree(case.run, copy)
    text = (copy / "recipe.toml").read_text().split("[model]")[0]
    (copy / "recipe.toml").write_text(text + '[model]\narchitecture = "ds_cnn"\n')
    with pytest.raises(KwsError, match=r"ds_cnn cannot run on a stream.*kws evaluate"):
        judge(copy, tmp_path / "m.tflite")
