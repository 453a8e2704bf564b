"""The soak test hears the same audio in two ways and would notice if they differed."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_model

import kws.benchmark.soak as soaking
from kws.audio.files import write_wav
from kws.benchmark.soak import Interval, Soak, made_up, replayed, soak
from kws.cli import run
from kws.decide import DecisionConfig
from kws.errors import KwsError
from kws.spotter import Spotter

RATE = 16000
HOURS = 0.006


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    eager = DecisionConfig(
        thresholds={"yes": 0.3, "no": 0.3}, smoothing_ms=80, refractory_ms=200, release=0.9
    )
    path = tmp_path_factory.mktemp("model") / "m.tflite"
    return str(tiny_model.write_tiny(path, decision=eager))


def seconds(audio: object, n: float) -> np.ndarray:
    parts, held = [], 0
    for piece in audio:  # type: ignore[attr-defined]
        parts.append(piece)
        held += len(piece)
        if held >= n * RATE:
            return np.concatenate(parts)[: round(n * RATE)]
    raise AssertionError("endless audio ended")


def test_events_are_those_of_a_spotter_in_whatever_chunks(model: str) -> None:
    result = soak(model, HOURS)
    expected = Spotter(model).feed(seconds(made_up(0), HOURS * 3600))
    assert result.events == len(expected) > 5
    assert result.same_events == (True,) * 4
    assert [one.hours for one in result.intervals] == pytest.approx([0.0015, 0.003, 0.0045, 0.006])
    assert all(one.times_real_time > 1 for one in result.intervals + result.other_intervals)
    borders = [one.hours * 3600 for one in result.intervals]
    counts = np.histogram([e.time_s for e in expected], [0, *borders])[0]
    # An event at a border is completed by the next interval's first sample.
    assert np.abs(counts - [one.events for one in result.intervals]).max() <= 1


def test_other_events_in_other_chunks_are_noticed(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The process with chunks of any length hears other audio.
    other = "import sys; sys.argv[5] = '7' if sys.argv[1] == 'any' else '0'; "
    monkeypatch.setattr(soaking, "_WORKER", other + soaking._WORKER)
    assert not all(soak(model, HOURS).same_events)
    assert run(["benchmark", model, "--soak", str(HOURS)]) == 1
    captured = capsys.readouterr()
    assert "not the same" in captured.out
    assert "Other chunk sizes gave other events" in captured.err.splitlines()[-1]


def test_recordings_are_played_over_and_over_but_never_the_same(model: str, tmp_path: Path) -> None:
    pcm = seconds(made_up(3), 2.0)
    write_wav(tmp_path / "a.wav", pcm, RATE)
    heard = seconds(replayed([str(tmp_path / "a.wav")], 0), 6.0)
    rounds = heard.reshape(3, -1)
    for one, other in itertools.combinations(rounds, 2):
        assert not np.array_equal(one, other)
        # It is still the recording, apart from level and noise.
        assert np.corrcoef(one, pcm)[0, 1] > 0.9
    result = soak(model, HOURS, recordings=[tmp_path / "a.wav"])
    assert result.same_events == (True,) * 4


def test_made_up_audio_is_the_same_for_a_seed_and_has_sound_and_pauses() -> None:
    a, b, c = (seconds(made_up(seed), 20) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    level = np.sqrt(np.mean(np.square(a.reshape(-1, 1600), dtype=np.float64), axis=1))
    assert np.percentile(level, 90) > 10 * np.percentile(level, 10)
    assert np.mean(np.abs(a) == 32767) < 1e-3


def interval(megabytes: float | None) -> Interval:
    held = None if megabytes is None else round(megabytes * 1e6)
    return Interval(hours=1.0, events=3, times_real_time=400.0, resident_bytes=held)


@pytest.mark.parametrize(("megabytes", "status"), [((70, 71), 0), ((70, 90), 1), ((None, None), 0)])
def test_memory_that_grows_is_a_failure(
    megabytes: tuple[float | None, float | None],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flat = (interval(70), interval(70))
    result = Soak(
        model="m",
        hours=2.0,
        intervals=flat,
        other_intervals=(interval(megabytes[0]), interval(megabytes[1])),
        same_events=(True, True),
    )
    if megabytes[0] is None:
        result = replace(result, intervals=result.other_intervals)
    monkeypatch.setattr(soaking, "soak", lambda *_, **__: result)
    assert run(["benchmark", "m", "--soak", "2"]) == status
    captured = capsys.readouterr()
    assert "6 events, the same" in captured.out
    assert ("Memory grew by 20.0 MB" in captured.err) == bool(status)
    assert run(["benchmark", "m", "--soak", "2", "--json"]) == status
    assert json.loads(capsys.readouterr().out)["events"] == 6


def test_a_process_that_dies_ends_the_work_in_one_line(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soaking, "_WORKER", "import os; os._exit(7)")
    with pytest.raises(KwsError, match=r"died.*exit status 7") as caught:
        soak(model, HOURS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["--soak", "0"], 1, "0.001 to 100,000 hours. Received: 0"),
        (["--soak", "nan"], 1, "0.001 to 100,000 hours"),
        (["--soak", "1", "--audio", "none.wav"], 1, "none.wav does not exist"),
        (["--audio", "none.wav"], 2, "--audio needs --soak"),
    ],
)
def test_each_wrong_use_ends_in_one_line(
    arguments: list[str],
    status: int,
    complaint: str,
    model: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["benchmark", model, *arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert complaint in captured.err
    assert len(captured.err.splitlines()) == 1


def test_a_model_in_clip_form_is_refused(tmp_path: Path) -> None:
    path = tiny_model.write_tiny(tmp_path / "clip.tflite", form="clip")
    with pytest.raises(KwsError, match="stream form"):
        soak(path, HOURS)
