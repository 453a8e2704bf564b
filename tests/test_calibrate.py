"""Thresholds by false accepts, against every other choice and on audio whose answers are known."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.audio.files import read_audio, write_wav
from kws.cli import run
from kws.data.label_file import SpokenWord
from kws.decide import DecisionConfig
from kws.errors import KwsError
from kws.model_file import ModelCard, load_model
from kws.network import Network
from kws.recordings.calibrate import calibrate
from kws.recordings.matching import match_events
from kws.recordings.posteriors import RecordingPosteriors
from kws.recordings.replay import Replay
from kws.spotter import Spotter

RATE = 16000
STEP_S = 0.04


def card_with(thresholds: float = 0.8, **changes: float) -> ModelCard:
    config = DecisionConfig(
        thresholds={"yes": thresholds, "no": thresholds},
        **{"smoothing_ms": 0.0, "refractory_ms": 200.0, **changes},
    )
    return tiny_model.card(form="stream", decision=config)


def answers(peaks: list[tuple[float, str, float]], seconds: float) -> RecordingPosteriors:
    """Posteriors that are zero but for single steps: (time, keyword, posterior)."""
    posteriors = np.zeros((round(seconds / STEP_S), 4), np.float32)
    for time_s, keyword, value in peaks:
        posteriors[round(time_s / STEP_S), tiny_model.LABELS.index(keyword)] = value
    return RecordingPosteriors(audio="x", seconds=seconds, posteriors=posteriors)


# An hour in which "yes" nearly fires four times and "no" twice.
NEGATIVE = answers(
    [
        *((10, "yes", 0.9), (20, "yes", 0.7), (30, "yes", 0.6), (40, "yes", 0.5)),
        *((50, "no", 0.65), (60, "no", 0.4)),
    ],
    3600,
)


def said(times: list[tuple[float, str]]) -> list[SpokenWord]:
    return [SpokenWord(start_s=t - 0.5, end_s=t, keyword=word) for t, word in times]


# Words of "yes" are always clear; half of "no" lie below its loudest false accept.
POSITIVE = answers(
    [(t, "yes", 0.95) for t in (5, 15, 25, 35)]
    + [(t, "no", p) for t, p in ((45, 0.8), (55, 0.6), (65, 0.55), (75, 0.5))],
    100,
)
SAID = said([(t, "yes") for t in (5, 15, 25, 35)] + [(t, "no") for t in (45, 55, 65, 75)])


@pytest.mark.parametrize(
    ("per_hour", "yes", "no", "missed"),
    [
        # Nothing false at all: "yes" between 0.9 and 0.95, "no" between 0.65 and 0.8.
        (0, (0.9, 0.95), (0.65, 0.8), 3),
        # One: lowering "no" below 0.5 but above 0.4 wins three words, lowering "yes" none.
        (1, (0.9, 0.95), (0.4, 0.5), 0),
        # More: nothing is left to win, so no more is spent.
        (4, (0.9, 0.95), (0.4, 0.5), 0),
    ],
)
def test_false_accepts_go_to_the_keyword_that_wins_most_words(
    per_hour: float, yes: tuple[float, float], no: tuple[float, float], missed: int
) -> None:
    result = calibrate(card_with(), [NEGATIVE], per_hour, positives=[(POSITIVE, SAID)])
    thresholds = result.decision.thresholds
    assert yes[0] < thresholds["yes"] <= yes[1]
    assert no[0] < thresholds["no"] <= no[1]
    assert result.positives is not None
    assert len(result.positives.misses) == missed
    assert len(result.negatives.false_accepts) <= per_hour
    assert result.before == {"yes": 0.8, "no": 0.8}


def test_of_settings_that_do_equally_well_the_middle_is_taken() -> None:
    result = calibrate(card_with(), [NEGATIVE], 0, positives=[(POSITIVE, SAID)])
    # The middle in log odds: of 0.9 and 0.95, and of 0.65 and 0.8.
    assert result.decision.thresholds == pytest.approx({"yes": 0.929, "no": 0.732}, abs=0.006)


@pytest.mark.parametrize(
    ("per_hour", "yes", "no"),
    [
        (0, (0.9, 0.91), (0.65, 0.67)),
        # One each: the highest false peak of both may fire.
        (2, (0.7, 0.72), (0.4, 0.42)),
        # One: for "yes" the least has to be given up to have one more.
        (1, (0.7, 0.72), (0.65, 0.67)),
        (100, (0.2, 0.2), (0.2, 0.2)),
    ],
)
def test_without_words_the_allowance_is_shared_evenly(
    per_hour: float, yes: tuple[float, float], no: tuple[float, float]
) -> None:
    # Of a model with low thresholds, since an hour is too short to lower any by.
    result = calibrate(card_with(0.1), [NEGATIVE], per_hour)
    assert yes[0] <= result.decision.thresholds["yes"] <= yes[1]
    assert no[0] <= result.decision.thresholds["no"] <= no[1]
    assert len(result.negatives.false_accepts) == min(per_hour, 6)
    assert result.positives is None


@pytest.mark.parametrize("own", [0.8, 0.85004, 0.9995, 1.0])
@pytest.mark.parametrize("per_hour", [0, 0.5, 2.9])
def test_without_words_audio_too_short_to_show_the_rate_only_raises_thresholds(
    per_hour: float, own: float
) -> None:
    result = calibrate(card_with(own), [NEGATIVE], per_hour)
    thresholds = result.decision.thresholds
    # "yes" reaches 0.9; two false accepts of it alone are within the last of the rates.
    assert thresholds["yes"] == own if own > 0.9 or per_hour > 2 else 0.9 < thresholds["yes"] < 0.91
    assert thresholds["no"] == own
    assert "only raised" in result.notes[-1]


def test_where_a_keyword_keeps_its_threshold_the_others_may_use_its_share() -> None:
    card = card_with()
    mixed = DecisionConfig(
        thresholds={"yes": 0.3, "no": 0.9}, smoothing_ms=0, refractory_ms=200, release=0.8
    )
    result = calibrate(replace(card, decision=mixed), [NEGATIVE], 2)
    thresholds = result.decision.thresholds
    assert 0.6 < thresholds["yes"] < 0.7 and thresholds["no"] == 0.9
    assert len(result.negatives.false_accepts) == 2


@pytest.mark.parametrize(("hours", "positives"), [(3, []), (1, [(POSITIVE, SAID)])])
def test_enough_audio_or_words_lower_thresholds_as_well(
    hours: int, positives: list[tuple[RecordingPosteriors, list[SpokenWord]]]
) -> None:
    result = calibrate(card_with(), [NEGATIVE] * hours, 1, positives=positives)
    assert result.decision.thresholds["no"] < 0.8
    assert not any("only raised" in note for note in result.notes)


def test_a_threshold_lies_above_the_peak_that_it_must_not_report_however_close() -> None:
    """As stored, to its last digit: for all answers that an int8 network can give."""
    for q in range(52, 256):
        loud = answers([(10, "yes", q / 256), (20, "no", q / 256)], 3600)
        result = calibrate(card_with(0.1), [loud], 0)
        assert not result.negatives.false_accepts
        assert all(t > q / 256 for t in result.decision.thresholds.values())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), allowed=st.integers(0, 8))
def test_no_other_thresholds_within_the_allowance_miss_fewer_words(seed: int, allowed: int) -> None:
    rng = np.random.default_rng(seed)
    card = card_with(smoothing_ms=0)
    times = 2.0 + 2.0 * np.arange(20)
    words = [str(rng.choice(["yes", "no"])) for _ in times]
    levels = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    false = answers([(t, w, rng.choice(levels)) for t, w in zip(times, words, strict=True)], 3600)
    true = answers(
        [(t, w, rng.choice(levels) + 0.05) for t, w in zip(times, words, strict=True)], 60
    )
    truth = said(list(zip(times.tolist(), words, strict=True)))
    result = calibrate(card, [false], allowed, positives=[(true, truth)])
    assert len(result.negatives.false_accepts) <= allowed
    assert result.positives is not None
    silent, spoken = Replay(card, false), Replay(card, true)
    for yes, no in itertools.product([level + 0.02 for level in (0.2, *levels)], repeat=2):
        thresholds = {"yes": yes, "no": no}
        if len(silent.events(thresholds)) <= allowed:
            hits = match_events(truth, spoken.events(thresholds), duration_s=60).hits
            assert len(hits) <= len(result.positives.hits)


def test_what_the_audio_cannot_show_is_said() -> None:
    few = calibrate(card_with(), [NEGATIVE], 0.1)
    assert "1:00 h is too short to verify 0.1 false accepts per hour" in few.notes[0]
    assert "with 0 the rate may be up to 3.7 (95 %); use 30:00 h or more" in few.notes[0]
    assert "add audio up to 30:00 h or recordings with keywords (--positives)" in few.notes[1]
    none = calibrate(card_with(), [NEGATIVE], 0)
    assert none.notes[0].startswith("no audio is long enough to verify 0 false accepts")
    assert "with 0 false accepts in 1:00 h, the rate may be up to 3.7 per hour" in none.notes[0]
    assert calibrate(card_with(), [NEGATIVE], 4).notes == ()
    # A repeated hour is not an hour, and a longer one would not help.
    for rate in (0.1, 0):
        notes = calibrate(card_with(), [NEGATIVE], rate, repeated=True).notes
        assert not any("too short" in note or "long enough" in note for note in notes)
    never = calibrate(card_with(), [NEGATIVE], 4, positives=[(POSITIVE, SAID[:4])])
    assert never.notes == (
        "never spoken in the recordings with keywords: no; their thresholds give no false accept",
    )


def test_a_network_that_cannot_be_kept_quiet_is_said_to_need_training() -> None:
    always = answers([(t, "yes", 1.0) for t in range(5, 50, 5)], 3600)
    result = calibrate(card_with(), [always], 2)
    assert result.decision.thresholds["yes"] == 0.999
    assert "give 9 false accepts, more than the 2 allowed" in result.notes[0]


@pytest.mark.parametrize(
    ("per_hour", "lowest", "complaint"),
    [(-1.0, 0.2, "0 or more. Received: -1"), (float("nan"), 0.2, "nan"), (1.0, 0.0, "above 0")],
)
def test_numbers_that_make_no_sense_are_refused(
    per_hour: float, lowest: float, complaint: str
) -> None:
    with pytest.raises(KwsError, match=complaint):
        calibrate(card_with(), [NEGATIVE], per_hour, lowest=lowest)


# ---- the command


def sound(seed: int, seconds: int) -> np.ndarray:
    """Noise that has another colour and level each second."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(seconds):
        noise = np.convolve(rng.standard_normal(RATE), rng.standard_normal(8), "same")
        parts.append(
            noise * np.interp(np.arange(RATE), range(0, RATE, 2000), rng.uniform(50, 4000, 8))
        )
    return np.clip(np.concatenate(parts), -32768, 32767).astype(np.int16)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an eager model, audio without keywords, and a labelled recording."""
    monkeypatch.chdir(tmp_path)
    eager = DecisionConfig(
        thresholds={"yes": 0.3, "no": 0.3}, smoothing_ms=80, refractory_ms=200, release=0.9
    )
    tiny_model.write_tiny(tmp_path / "m.tflite", decision=eager)
    write_wav(tmp_path / "quiet.wav", sound(1, 60), RATE)
    write_wav(tmp_path / "day.wav", sound(2, 30), RATE)
    rows = ["start_s\tend_s\tkeyword"]
    for event in Spotter("m.tflite").feed(sound(2, 30)):
        rows.append(f"{max(0.0, event.time_s - 0.5)}\t{event.time_s}\t{event.keyword}")
    (tmp_path / "day.tsv").write_text("\n".join(rows))
    return tmp_path


def test_the_written_model_fires_as_often_as_wanted_and_answers_as_before(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pcm = sound(1, 60)
    assert len(Spotter("m.tflite").feed(pcm)) > 5
    before = (here / "m.tflite").read_bytes()
    command = ["calibrate", "m.tflite", "quiet.wav", "-o", "new.tflite"]
    wanted = ["--false-accepts-per-hour", "180"]  # three in this minute
    labelled = ["--positives", "day.wav", "--labels", "day.tsv"]
    assert run([*command, *wanted, *labelled, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    spotter = Spotter("new.tflite")
    assert dict(spotter.card.decision.thresholds) == facts["thresholds"]
    assert len(spotter.feed(pcm)) == facts["negatives"]["false_accepts"] <= 3
    assert load_model("new.tflite").provenance["calibration"] == {
        "wanted_false_accepts_per_hour": 180,
        "hours": facts["negatives"]["hours"],
        "false_accepts": facts["negatives"]["false_accepts"],
    }
    features = np.random.default_rng(0).normal(size=(60, 13)).astype(np.float32)
    old, new = (Network(name).run(features) for name in ("m.tflite", "new.tflite"))
    np.testing.assert_array_equal(old, new)
    assert (here / "m.tflite").read_bytes() == before

    assert run([*command, *wanted, *labelled]) == 0
    shown = capsys.readouterr().out
    assert "keyword" in shown and "threshold" in shown and "missed" in shown
    assert "allowed 180" in shown


def test_a_model_may_be_calibrated_in_place_and_other_settings_given(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--smoothing", "120", "--refractory", "400", "--release", "0.7"]
    assert run(["calibrate", "m.tflite", "quiet.wav", "-o", "m.tflite", *settings]) == 0
    decision = load_model("m.tflite").decision
    assert (decision.smoothing_ms, decision.refractory_ms, decision.release) == (120, 400, 0.7)
    assert "too short to verify 0.5 false accepts per hour" in capsys.readouterr().err
    assert Spotter("m.tflite").feed(read_audio("quiet.wav")) == []


def test_a_few_quiet_seconds_do_not_make_a_model_eager(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wav(here / "hush.wav", np.zeros(5 * RATE, np.int16), RATE)
    assert run(["calibrate", "m.tflite", "hush.wav", "-o", "new.tflite"]) == 0
    thresholds = load_model("new.tflite").decision.thresholds
    assert thresholds["yes"] == 0.3 and thresholds["no"] >= 0.3
    captured = capsys.readouterr()
    assert sum("only raised" in line for line in captured.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--lowest", "0"], "above 0 and at most 0.999. Received: 0"),
        (["--false-accepts-per-hour", "-1"], "must be 0 or more. Received: -1"),
        (["-o", "folder"], "must be a file. Received: folder, which is a folder"),
        (["-o", "quiet.wav/new.tflite"], "quiet.wav is a file"),
        (
            ["./day.wav", "--positives", "day.wav", "--labels", "day.tsv"],
            "Received: day.wav, which is also one of --positives",
        ),
    ],
)
def test_what_cannot_end_well_is_refused_before_anything_is_heard(
    arguments: list[str],
    complaint: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    heard: list[Sequence[Path]] = []
    run_recordings = "kws.recordings.truth.run_recordings"
    monkeypatch.setattr(run_recordings, lambda _, paths, **__: heard.append(paths))
    (here / "folder").mkdir()
    assert run(["calibrate", "m.tflite", "quiet.wav", "-o", "new.tflite", *arguments]) == 1
    assert complaint in capsys.readouterr().err
    assert heard == []


def test_the_folder_of_the_new_model_is_made(here: Path) -> None:
    assert run(["calibrate", "m.tflite", "quiet.wav", "-o", "new/er/m.tflite"]) == 0
    assert load_model("new/er/m.tflite").keywords == ("yes", "no")


def test_what_info_prints_of_a_models_origin_has_no_empty_entries(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    origin = {
        "calibration": {"wanted": 0.5, "nothing": "", "negatives": {"hours": 1.0}},
        "tables": {"inner": {"figure": 1}},
        "blank": "",
        "empty": {},
    }
    tiny_model.write_tiny(here / "m.tflite", provenance=origin)
    assert run(["info", "m.tflite"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["calibration", "wanted", "0.5"]
    assert not any(line.startswith(("tables", "blank", "empty")) for line in lines)


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["m.tflite", "quiet.wav", "--positives", "day.wav"], 2, "Received: 1 and 0"),
        (["m.tflite", "none.wav"], 1, "none.wav does not exist"),
        (["none.tflite", "quiet.wav"], 1, "none.tflite"),
        (["m.tflite", "quiet.wav", "--false-accepts-per-hour", "-1"], 1, "must be 0 or more"),
        (["m.tflite", "quiet.wav", "--release", "2"], 1, "release must be between 0 and 1"),
        (["m.tflite", "quiet.wav", "--lowest", "1"], 1, "lowest threshold"),
        (["m.tflite", "quiet.wav", "--positives", "day.wav", "--labels", "x"], 1, "label file x"),
    ],
)
def test_each_wrong_use_ends_in_one_line(
    arguments: list[str],
    status: int,
    complaint: str,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["calibrate", *arguments, "-o", "new.tflite"]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert complaint in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not (here / "new.tflite").exists()
