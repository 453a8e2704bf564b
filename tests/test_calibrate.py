"""Thresholds by false accepts, against every other choice and on audio whose answers are known."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.audio.files import read_audio, write_wav
from kws.cli import run
from kws.decide import DecisionConfig
from kws.errors import KwsError
from kws.matching import SpokenWord, match_events
from kws.model_file import ModelCard, load_model
from kws.network import Network
from kws.recordings.calibrate import calibrate
from kws.recordings.hear import Heard
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


def answers(peaks: list[tuple[float, str, float]], seconds: float) -> Heard:
    """Posteriors that are zero but for single steps: (time, keyword, posterior)."""
    posteriors = np.zeros((round(seconds / STEP_S), 4), np.float32)
    for time_s, keyword, value in peaks:
        posteriors[round(time_s / STEP_S), tiny_model.LABELS.index(keyword)] = value
    return Heard(audio="x", seconds=seconds, posteriors=posteriors)


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
    result = calibrate(card_with(), [NEGATIVE], per_hour)
    assert yes[0] <= result.decision.thresholds["yes"] <= yes[1]
    assert no[0] <= result.decision.thresholds["no"] <= no[1]
    assert len(result.negatives.false_accepts) == min(per_hour, 6)
    assert result.positives is None


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
    assert "1:00 h cannot show 0.1 false accepts an hour: one is 1 an hour" in few.notes[0]
    assert "0 seen mean up to 3.7 (95 %); 30:00 h would tell more" in few.notes[0]
    assert calibrate(card_with(), [NEGATIVE], 4).notes == ()
    never = calibrate(card_with(), [NEGATIVE], 4, positives=[(POSITIVE, SAID[:4])])
    assert never.notes == (
        "never spoken in the recordings with keywords: no; these got thresholds without any "
        "false accept",
    )


def test_a_network_that_cannot_be_kept_quiet_is_said_to_need_training() -> None:
    always = answers([(t, "yes", 1.0) for t in range(5, 50, 5)], 3600)
    result = calibrate(card_with(), [always], 2)
    assert result.decision.thresholds["yes"] == 0.999
    assert "leave 9 false accepts, where 2 are allowed" in result.notes[0]


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
    stored = load_model("new.tflite").provenance["calibration"]
    assert stored["negatives"]["false_accepts"] == facts["negatives"]["false_accepts"]
    features = np.random.default_rng(0).normal(size=(60, 13)).astype(np.float32)
    old, new = (Network(name).run(features) for name in ("m.tflite", "new.tflite"))
    np.testing.assert_array_equal(old, new)
    assert (here / "m.tflite").read_bytes() == before

    assert run([*command, *wanted, *labelled]) == 0
    shown = capsys.readouterr().out
    assert "keyword" in shown and "threshold" in shown and "missed" in shown
    assert "wanted 180" in shown


def test_a_model_may_be_calibrated_in_place_and_other_settings_given(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--smoothing", "120", "--refractory", "400", "--release", "0.7"]
    assert run(["calibrate", "m.tflite", "quiet.wav", "-o", "m.tflite", *settings]) == 0
    decision = load_model("m.tflite").decision
    assert (decision.smoothing_ms, decision.refractory_ms, decision.release) == (120, 400, 0.7)
    assert "cannot show 0.5 false accepts an hour" in capsys.readouterr().err
    assert Spotter("m.tflite").feed(read_audio("quiet.wav")) == []


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
