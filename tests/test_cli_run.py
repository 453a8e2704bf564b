"""`kws run` and `kws info` as a user or a script meets them."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_model
from numpy.typing import NDArray
from sounds import gusts

from kws import cli
from kws.audio.files import write_wav
from kws.cli import run as kws
from kws.decide import DecisionConfig
from kws.model_file import load_model
from kws.spotter import Spotter

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and sh")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    decision = DecisionConfig(
        thresholds={"yes": 0.45, "no": 0.45}, smoothing_ms=80, refractory_ms=80, release=0.9
    )
    return tiny_model.write_tiny(tmp_path_factory.mktemp("run") / "tiny.tflite", decision=decision)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("sounds")
    names = [str(folder / name) for name in ("a.wav", "b.wav")]
    for seed, name in enumerate(names):
        write_wav(name, gusts(12, seed))
    return names


def expected(model: Path, pcm: NDArray[np.int16]) -> list[tuple[float, str, float]]:
    return [(e.time_s, e.keyword, e.score) for e in Spotter(model).feed(pcm)]


def test_events_are_json_lines_with_the_fields_of_the_contract(
    model: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert kws(["run", "--model", str(model), "--json", files[0]]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) >= 2
    assert all(list(line) == ["file", "time_s", "keyword", "score"] for line in lines)
    assert {line["file"] for line in lines} == {files[0]}
    found = [(line["time_s"], line["keyword"], line["score"]) for line in lines]
    for got, want in zip(found, expected(model, gusts(12, 0)), strict=True):
        assert got == (pytest.approx(want[0], abs=6e-4), want[1], pytest.approx(want[2], abs=6e-5))


def test_every_file_is_heard_as_if_it_were_alone(
    model: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    alone = []
    for name in files:
        kws(["run", "-m", str(model), name])
        alone.append(capsys.readouterr().out)
    assert all(alone)
    assert kws(["run", "-m", str(model), *files]) == 0
    assert capsys.readouterr().out == "".join(alone)


def test_the_readable_form_names_file_time_keyword_and_score(
    model: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    kws(["run", "-m", str(model), files[0]])
    output = capsys.readouterr()
    time_s, keyword, score = expected(model, gusts(12, 0))[0]
    assert output.out.splitlines()[0] == f"{files[0]}  {time_s:.2f} s  {keyword}  {score:.2f}"
    assert "1 file, 12.0 s of audio" in output.err


def test_a_bad_file_is_one_line_and_the_others_still_run(
    model: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "text.wav"
    bad.write_text("not a sound\n")
    missing = tmp_path / "missing.wav"
    assert kws(["run", "-m", str(model), str(bad), files[0], str(missing), files[1]]) == 1
    output = capsys.readouterr()
    complaints = [line for line in output.err.splitlines() if line.startswith("kws: ")]
    assert len(complaints) == 2
    assert "text.wav" in complaints[0]
    assert "missing.wav" in complaints[1]
    assert {line.split("  ")[0] for line in output.out.splitlines()} == set(files)
    assert "2 not readable" in output.err


def test_a_threshold_replaces_the_models_own(
    model: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert kws(["run", "-m", str(model), "--threshold", "1.0", files[0]]) == 0
    assert capsys.readouterr().out == ""
    assert kws(["run", "-m", str(model), "--threshold", "80", files[0]]) == 2
    assert "at most 1" in capsys.readouterr().err


def test_no_file_is_bad_usage(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kws(["run", "-m", str(model)]) == 2
    assert "FILE" in capsys.readouterr().err


def test_an_unknown_model_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert kws(["run", "-m", "no_such_model", "a.wav"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no_such_model" in error


def spawn(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", "from kws.cli import main; main()", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_raw_samples_on_stdin_give_the_events_of_the_file(model: Path, files: list[str]) -> None:
    pcm = gusts(12, 0)
    out, err = spawn("run", "-m", model, "--json", "-").communicate(pcm.tobytes())
    found = [(line["file"], line["keyword"]) for line in map(json.loads, out.splitlines())]
    assert found == [("-", keyword) for _, keyword, _ in expected(model, pcm)]
    assert b"12.0 s of audio" in err


def test_events_are_printed_while_the_pipe_is_still_open(model: Path) -> None:
    pcm = gusts(12, 0)
    first_event_s = expected(model, pcm)[0][0]
    process = spawn("run", "-m", model, "-")
    assert process.stdin is not None
    assert process.stdout is not None
    # A tenth of a second more than the event needs, and the pipe stays open.
    process.stdin.write(pcm[: int((first_event_s + 0.1) * 16_000)].tobytes())
    process.stdin.flush()
    os.set_blocking(process.stdout.fileno(), False)
    line, deadline = None, time.monotonic() + 20
    while not line and time.monotonic() < deadline:
        line = process.stdout.read()
        time.sleep(0.02)
    still_running = process.poll() is None
    process.communicate()
    assert line is not None
    assert line.startswith(b"-  ")
    assert still_running


def test_a_source_that_gives_nothing_is_an_error(model: Path) -> None:
    process = spawn("run", "-m", model, "--json", "-")
    out, err = process.communicate(b"")
    assert (process.returncode, out) == (1, b"")
    assert err.startswith(b"kws: The stream contains no sound. ") and err.count(b"\n") == 1


@POSIX
def test_a_closed_stdin_is_an_empty_one(model: Path) -> None:
    command = [sys.executable, "-m", "kws", "run", "-m", str(model), "-"]
    ended = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *command], capture_output=True)
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert ended.stderr.startswith(b"kws: The stream contains no sound. ")
    assert ended.stderr.count(b"\n") == 1


@pytest.mark.parametrize("terminal", [True, False])
def test_only_a_terminal_is_told_that_samples_are_awaited(
    terminal: bool,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = io.BytesIO(gusts(1).tobytes())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: terminal, buffer=stream))
    assert kws(["run", "-m", str(model), "-"]) == 0
    told = "kws: waiting for raw samples on stdin (16-bit, 16 kHz, one channel)"
    assert (capsys.readouterr().err.splitlines()[0] == told) is terminal


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_live_pipe_that_is_interrupted_keeps_its_last_clip_and_says_what_it_was(
    number: signal.Signals, model: Path, tmp_path: Path
) -> None:
    pcm = gusts(12, 0)
    first_event_s = expected(model, pcm)[0][0]
    process = spawn("run", "-m", model, "--keep", tmp_path / "kept", "-")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(pcm[: int((first_event_s + 0.1) * 16_000)].tobytes())
    process.stdin.flush()
    assert process.stdout.readline().startswith(b"-  ")
    process.send_signal(number)
    assert process.wait(20) == 128 + number
    assert process.stderr is not None
    lines = process.stderr.read().decode().splitlines()
    process.communicate()
    assert lines[0].startswith("1 file, ") and lines[0].endswith("s of audio, 1 event")
    assert lines[1:] == [f"kept 1 event in {tmp_path / 'kept'}", "kws: interrupted"]
    assert len(list((tmp_path / "kept").rglob("*.wav"))) == 1


def test_a_reader_that_goes_away_ends_it_quietly(model: Path, files: list[str]) -> None:
    process = spawn("run", "-m", model, *files * 5)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    _, err = process.communicate()
    assert b"Traceback" not in err
    assert b"Exception" not in err


def test_what_the_terminal_cannot_show_is_shown_as_codes(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "kws", "new", "été", "-w", "при", "-l", "ru", "--yes"]
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True)
    out, err = ended.stdout.decode("latin-1"), ended.stderr.decode("latin-1")
    assert ended.returncode == 0, err
    assert r"\u043f\u0440\u0438.tflite" in out and "wrote été/recipe.toml" in err


def test_ctrl_c_while_the_command_line_is_imported_is_one_line() -> None:
    code = (
        "import sys\nclass Pressed:\n    def find_spec(self, name, *_):\n"
        "        if name == 'typer':\n            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Pressed())\nfrom kws.__main__ import main\nmain()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "kws: interrupted\n")


# SIGTERM


@POSIX
@pytest.mark.parametrize("ctrl_c", ["default_int_handler", "SIG_IGN"])
def test_sigterm_interrupts_as_ctrl_c_does_with_a_status_of_its_own(ctrl_c: str) -> None:
    code = (
        f"import signal\nsignal.signal(signal.SIGINT, signal.{ctrl_c})\nfrom kws import cli\n"
        "cli.app = lambda **_: signal.raise_signal(signal.SIGTERM)\nstatus = cli.run([])\n"
        "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\nraise SystemExit(status)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (143, "kws: interrupted\n")


@POSIX
@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal to itself")
def test_ctrl_c_that_python_drops_in_a_destructor_ends_the_command_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Pressed:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def command(**_: object) -> int:
        Pressed()
        for _ in range(500):
            time.sleep(0.01)
        return 0

    before = sys.unraisablehook
    monkeypatch.setattr("kws.cli.app", command)
    assert kws([]) == 130
    assert capsys.readouterr().err == "kws: interrupted\n"
    assert sys.unraisablehook is before


def test_who_handles_sigterm_already_goes_on_doing_so(monkeypatch: pytest.MonkeyPatch) -> None:
    came = []
    monkeypatch.setattr(cli, "app", lambda **_: signal.raise_signal(signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        assert kws([]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [signal.SIGTERM]


# kws info


def test_info_prints_the_card_for_machines(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kws(["info", str(model), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["card"] == json.loads(load_model(model).to_json())
    assert facts["file_bytes"] == model.stat().st_size
    assert facts["input"]["shape"] == [1, 5, 13]
    assert facts["output"] == {
        "type": "int8",
        "shape": [1, 1, 4],
        "scale": 1 / 256,
        "zero_point": -128,
    }


def test_info_is_readable(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kws(["info", str(model)]) == 0
    output = capsys.readouterr().out
    for fact in (
        "tiny",
        "CC0-1.0",
        "yes, no (each from 0.45)",
        "40 ms",
        "112 ms",
        "int8 [1, 5, 13]",
        "seed",
    ):
        assert fact in output


def test_info_names_different_thresholds_and_those_for_after_a_wake_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = DecisionConfig(thresholds={"yes": 0.5, "no": 0.625}, after_wake={"no": 0.25})
    path = tiny_model.write_tiny(tmp_path / "m.tflite", decision=decision)
    assert kws(["info", str(path)]) == 0
    lines = [line.split("  ", 1) for line in capsys.readouterr().out.splitlines()]
    shown = {name: text.strip() for name, text in lines}
    assert shown["keywords"] == "yes (from 0.50), no (from 0.62)"
    assert shown["after a wake word"] == "yes (from 0.50), no (from 0.25)"


def test_info_prints_nothing_that_moves_the_cursor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_model.write_tiny(
        tmp_path / "evil.tflite", provenance={"note\x1b[2J": "a\x1b[31m\nb", "n": ["\x07"]}
    )
    assert kws(["info", str(path)]) == 0
    assert all(c == "\n" or c.isprintable() for c in capsys.readouterr().out)


def test_info_on_a_plain_tflite_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plain.tflite"
    path.write_bytes(tiny_model.tiny_tflite(form="stream", int8=True))
    assert kws(["info", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "plain.tflite" in error
    assert "kws export" in error
