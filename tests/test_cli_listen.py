from __future__ import annotations

import _thread
import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import sounds
import tiny_model
from fake_sounddevice import FakeInput, install

from kws.cli import main, run
from kws.cli.listen import _Commands
from kws.decide import DecisionConfig, Event
from kws.spotter import Spotter

SHELL = pytest.mark.skipif(sys.platform == "win32", reason="commands in sh")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained network that takes noise for words, often."""
    decision = DecisionConfig(
        thresholds={"yes": 0.45, "no": 0.45}, smoothing_ms=80, refractory_ms=400, release=0.95
    )
    path = tmp_path_factory.mktemp("listen") / "tiny.tflite"
    return str(tiny_model.write_tiny(path, decision=decision))


@pytest.fixture(scope="module")
def babble() -> np.ndarray:
    return sounds.babble()


def expected(model: str, pcm: np.ndarray) -> list[dict[str, object]]:
    """What the spotter says about the sound."""
    return [
        {"time_s": round(e.time_s, 3), "keyword": e.keyword, "score": round(e.score, 4)}
        for e in Spotter(model).feed(pcm)
    ]


def parsed(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def listen(*arguments: str) -> None:
    """Run the command until the device goes away, by when it has heard everything."""
    assert run(["listen", *arguments]) == 1


def test_events_are_those_of_the_spotter(monkeypatch, capsys, model, babble):
    install(monkeypatch, FakeInput(name="Desk mic", audio=babble, end="aborted"))
    listen("--model", model, "--json")
    out, err = capsys.readouterr()
    assert parsed(out) == expected(model, babble) != []
    lines = err.splitlines()
    assert lines[0].startswith("listening to 'Desk mic' at 16 kHz for: yes, no")
    assert "\r" not in err  # No meter where there is no terminal.


def test_ctrl_c_ends_it_well_with_a_summary(monkeypatch, capsys, model, babble):
    module = install(monkeypatch, FakeInput(name="Mic", audio=babble, end="ctrl-c"))
    assert run(["listen", "--model", model, "--json"]) == 0
    out, err = capsys.readouterr()
    heard = parsed(out)
    summary = err.splitlines()[-1]
    assert re.match(rf"listened [0-9.]+ s, {len(heard)} events? \(", summary)
    assert f"yes {sum(e['keyword'] == 'yes' for e in heard)}" in summary
    assert "0 overflows, 0.0 s dropped" in summary
    assert module.opened[0].closed


def test_sigterm_ends_it_well_too(monkeypatch, capsys, model, babble):
    install(monkeypatch, FakeInput(name="Mic", audio=babble))
    start = time.monotonic()
    timers = [
        threading.Timer(after_s, _thread.interrupt_main, (number,))
        for after_s, number in ((2.0, signal.SIGTERM), (15.0, signal.SIGINT))
    ]
    for timer in timers:
        timer.start()
    assert run(["listen", "--model", model]) == 0
    assert time.monotonic() - start < 12
    timers[1].cancel()
    assert capsys.readouterr().err.splitlines()[-1].startswith("listened ")


def test_without_a_stderr_it_listens_all_the_same(monkeypatch, capsys, model, babble):
    install(monkeypatch, FakeInput(name="Mic", audio=babble, end="aborted"))
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(SystemExit):
        main(["listen", "--model", model, "--json"])
    assert parsed(capsys.readouterr().out) == expected(model, babble)


def test_plain_output_is_one_line_for_an_event(monkeypatch, capsys, model, babble):
    install(monkeypatch, FakeInput(name="Mic", audio=babble, end="aborted"))
    listen("-m", model)
    first = expected(model, babble)[0]
    words = capsys.readouterr().out.splitlines()[0].split()
    assert words == [f"{first['time_s']:.2f}", "s", first["keyword"], f"{first['score']:.2f}"]


def test_a_microphone_at_48_khz_hears_the_same_words(monkeypatch, capsys, model, babble):
    soxr = pytest.importorskip("soxr")
    fast = soxr.resample(babble, 16000, 48000)
    install(monkeypatch, FakeInput(name="Mic", audio=fast, rates=(48000,), end="aborted"))
    listen("-m", model, "--json")
    out, err = capsys.readouterr()
    assert "at 48 kHz" in err
    # The band is cut a little below 8 kHz, so scores move and borderline events may come or go.
    heard, wanted = parsed(out), expected(model, babble)
    close = [
        any(h["keyword"] == w["keyword"] and abs(h["time_s"] - w["time_s"]) < 0.1 for h in heard)
        for w in wanted
    ]
    assert sum(close) >= 0.7 * len(wanted)


def test_the_threshold_replaces_the_models_own(monkeypatch, capsys, model, babble):
    install(monkeypatch, FakeInput(name="Mic", audio=babble, end="aborted"))
    listen("-m", model, "--threshold", "1")
    out, err = capsys.readouterr()
    assert out == ""
    assert "0 events" in err
    assert run(["listen", "-m", model, "--threshold", "1.5"]) == 2


def test_the_meter_stays_on_stderr_and_off_the_lines_of_events(monkeypatch, capsys, model, babble):
    install(monkeypatch, FakeInput(name="Mic", audio=babble, end="aborted", speed=8))
    listen("-m", model, "--json", "--meter")
    out, err = capsys.readouterr()
    assert parsed(out) == expected(model, babble)
    assert "dBFS" in err
    assert "###" in err


@SHELL
def test_each_event_runs_the_command_with_what_was_heard_in_its_environment(
    monkeypatch, capsys, model, babble, tmp_path
):
    install(monkeypatch, FakeInput(name="Mic", audio=babble, end="aborted", speed=8))
    log = tmp_path / "a file.txt"
    monkeypatch.setenv("LOG", str(log))
    command = 'echo "$KWS_TIME_S $KWS_KEYWORD $KWS_SCORE" >> "$LOG"'
    listen("-m", model, "--json", "--exec", command)
    heard = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    lines = [f"{e['time_s']:.3f} {e['keyword']} {e['score']:.4f}" for e in heard]
    assert sorted(log.read_text().splitlines()) == sorted(lines)


@SHELL
def test_a_slow_command_does_not_hold_up_the_audio(monkeypatch, capsys, model, babble):
    install(monkeypatch, FakeInput(name="Mic", audio=babble, end="aborted"))
    start = time.monotonic()
    listen("-m", model, "--json", "--exec", "sleep 8")
    assert time.monotonic() - start < 6
    out, err = capsys.readouterr()
    assert parsed(out) == expected(model, babble)
    assert "0.0 s dropped" in err
    assert "still running" in err


@SHELL
def test_what_the_command_prints_stays_out_of_the_events_and_its_failure_is_one_line(
    monkeypatch, capfd, model, babble
):
    install(monkeypatch, FakeInput(name="Mic", audio=babble, end="aborted"))
    listen("-m", model, "--json", "--exec", "echo from the command; exit 3")
    out, err = capfd.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    assert err.count("from the command") == len(events) > 0
    failures = [line for line in err.splitlines() if "failed with status 3" in line]
    assert len(failures) == len(events)
    assert f"kws: the command for '{events[0]['keyword']}' failed with status 3" in failures


def ended(command: str) -> list[str]:
    """What is said of a command that one event starts."""
    said: list[str] = []
    commands = _Commands(command, said.append)
    commands.start(Event(keyword="yes", score=1.0, time_s=1.0))
    commands.finish()
    return said


@SHELL
def test_ctrl_c_does_not_reach_the_commands(monkeypatch, tmp_path):
    monkeypatch.setenv("LOG", str(tmp_path / "group"))
    assert ended('ps -o pgid= -p $$ > "$LOG"') == []
    assert int((tmp_path / "group").read_text()) != os.getpgrp()


@SHELL
def test_a_command_that_a_signal_ended_is_no_failure_with_a_negative_status():
    assert ended("kill -9 $$") == ["kws: the command for 'yes' was killed by signal 9 (Killed)"]


@SHELL
def test_a_command_that_takes_longer_is_left_alone():
    assert ended("sleep 3") == ["kws: 1 command is still running"]


@pytest.mark.parametrize(
    ("device", "says"),
    [
        (FakeInput(name="Muted", audio=np.zeros(4 * 16000, np.int16)), "digital silence"),
        (
            FakeInput(
                name="Far",
                audio=np.rint(np.random.default_rng(0).normal(0, 6, 8 * 16000)).astype(np.int16),
            ),
            "very quiet input, at most -74 dBFS",
        ),
        (
            FakeInput(
                name="Loud", audio=np.tile(np.array([32767] * 9 + [-32768] * 9, np.int16), 4000)
            ),
            "clipping",
        ),
    ],
)
def test_an_input_from_which_no_word_can_come_is_said_in_one_line(
    monkeypatch, capsys, model, device, says
):
    device.end = "aborted"
    install(monkeypatch, device)
    listen("-m", model)
    complaints = [x for x in capsys.readouterr().err.splitlines() if x.startswith("kws: ")]
    assert len([line for line in complaints if says in line]) == 1


def test_lost_audio_is_reported_when_it_happens_and_in_the_summary(
    monkeypatch, capsys, model, babble
):
    install(
        monkeypatch,
        FakeInput(name="Mic", audio=babble, overflow_blocks=(10, 60), end="aborted"),
    )
    listen("-m", model)
    lines = capsys.readouterr().err.splitlines()
    assert sum("the device lost audio" in line for line in lines) == 2
    assert "2 overflows" in lines[-2]


def test_a_microphone_that_is_pulled_out_fails_after_the_summary(
    monkeypatch, capsys, model, babble
):
    install(monkeypatch, FakeInput(name="USB", audio=babble, end="aborted"))
    assert run(["listen", "-m", model]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2].startswith("listened 4.0 s")
    assert lines[-1].startswith("kws: The microphone has stopped.")


def test_devices_are_listed_for_people_and_for_machines(monkeypatch, capsys):
    install(
        monkeypatch,
        FakeInput(name="Webcam"),
        FakeInput(name="USB", rates=(44100,), channels=(1,)),
        default=2,
    )
    assert run(["listen", "--list-devices"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "    1  Webcam  (ALSA, 2 channels, 16 kHz)",
        "*   2  USB  (ALSA, 1 channel, 44.1 kHz)",
    ]
    assert run(["listen", "--list-devices", "--json"]) == 0
    assert [d["name"] for d in json.loads(capsys.readouterr().out)] == ["Webcam", "USB"]


def test_what_is_missing_is_said_in_one_line(monkeypatch, capsys, model, tmp_path):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert run(["listen", "-m", model]) == 1
    assert "kws[listen]" in capsys.readouterr().err
    assert run(["listen", "-m", str(Path(tmp_path) / "none.tflite")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
