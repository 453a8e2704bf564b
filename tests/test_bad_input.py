"""What users do wrong, at the command line as they do it: one line each, and nothing half-written.

The rooms' own tests go through the kinds of every fault; here each stands once, as a whole command.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_model import STORED, tiny_tflite, write_tiny

from kws.audio.files import write_wav
from kws.cli import run as kws

RECIPE = """
[data]
words = ["yes", "no"]
[model]
conv_filters = [8, 8]
lstm_units = 8
[training]
epochs = 200
batch_size = 16
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_tiny(tmp_path / "model.tflite"))


@pytest.fixture
def speech(real_speech: Path) -> bytes:
    """A real clip of "yes" as WAV."""
    return sorted((real_speech / "speech_commands/yes").glob("*.wav"))[0].read_bytes()


def wav(
    samples: bytes, *, bits: int, channels: int = 1, rate: int = 16000, coding: int = 1
) -> bytes:
    """Write a WAV by hand, so that the reader is not tested against its own writer."""
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", coding, channels, rate, rate * block, block, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(samples))
    return b"RIFF" + struct.pack("<I", len(body) + len(samples)) + body + samples


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The complaint: the only line on stderr that is one."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("kws: ")]
    assert len(lines) == 1, lines
    return lines[0]


FAULTY_SOUNDS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut-off WAV": (lambda speech: speech[: len(speech) // 2], "cut off"),
    "text named .wav": (lambda _: b"this is no sound\n" * 10, "text"),
    "empty file": (lambda _: b"", "empty"),
    "NaN in floats": (
        lambda _: wav(np.array([0.1, np.nan] * 800, "<f4").tobytes(), bits=32, coding=3),
        "not numbers. Received: nan",
    ),
    "rate of 0 Hz": (lambda _: wav(b"\0\0" * 800, bits=16, rate=0), "rate"),
}


@pytest.mark.parametrize("fault", FAULTY_SOUNDS)
def test_a_faulty_sound_file_is_named_with_what_is_wrong(
    fault: str, speech: bytes, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, word = FAULTY_SOUNDS[fault]
    path = tmp_path / "sound.wav"
    path.write_bytes(make(speech))
    assert kws(["run", "--model", model, str(path)]) == 1
    complaint = one_line(capsys)
    assert str(path) in complaint
    assert word in complaint


def test_other_rates_widths_and_channels_and_silence_just_work(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("soxr")
    rng = np.random.default_rng(0)
    noise = rng.integers(-3000, 3000, 44100)
    sounds = {
        "44100.wav": wav(noise.astype("<i2").tobytes(), bits=16, rate=44100),
        "8000.wav": wav(noise[:8000].astype("<i2").tobytes(), bits=16, rate=8000),
        "stereo.wav": wav(noise[:32000].astype("<i2").tobytes(), bits=16, channels=2),
        "8bit.wav": wav((128 + noise[:16000] // 256).astype(np.uint8).tobytes(), bits=8),
        "24bit.wav": wav(
            b"".join(int(v * 256).to_bytes(3, "little", signed=True) for v in noise[:16000]),
            bits=24,
        ),
        "silence.wav": wav(bytes(32000), bits=16),
    }
    for name, content in sounds.items():
        (tmp_path / name).write_bytes(content)
    assert kws(["run", "--model", model, *(str(tmp_path / name) for name in sounds)]) == 0
    assert "6 files, 6.0 s of audio" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no model at all", "not a .tflite"),
        (tiny_tflite(form="stream", int8=True), "no kws model card"),
        ((STORED / "stream_int8.tflite").read_bytes()[:-3000], ""),
    ],
    ids=["text", "foreign .tflite", "cut-off model"],
)
def test_a_model_that_cannot_be_used_is_refused_by_name(
    content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    assert kws(["info", str(path)]) == 1
    complaint = one_line(capsys)
    assert str(path) in complaint
    assert words in complaint


def test_an_empty_folder_and_a_word_with_two_clips_are_refused_before_any_training(
    speech: bytes, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, data, out = tmp_path / "r.toml", tmp_path / "data", tmp_path / "run"
    recipe.write_text(RECIPE)
    data.mkdir()
    assert kws(["evaluate", model, str(data)]) == 1
    assert str(data) in one_line(capsys)
    command = ["train", str(recipe), "--data", str(data), "--out", str(out)]
    assert kws(command) == 1
    assert "no label folders" in one_line(capsys)
    for word, n in (("yes", 20), ("no", 2)):
        (data / word).mkdir()
        for i in range(n):
            (data / word / f"speaker{i}_nohash_0.wav").write_bytes(speech)
    assert kws(command) == 1
    assert "no has 2" in one_line(capsys)
    assert not out.exists()


def test_a_missing_runtime_names_the_package_to_install(model: str, tmp_path: Path) -> None:
    # A package of the same name that cannot be imported stands for one that is not installed.
    for name in ("ai_edge_litert", "tflite_runtime", "tensorflow"):
        (tmp_path / f"{name}.py").write_text("raise ImportError(name=__name__)")
    write_wav(tmp_path / "sound.wav", np.zeros(16000, np.int16), 16000)
    done = subprocess.run(
        [sys.executable, "-m", "kws", "run", "--model", model, str(tmp_path / "sound.wav")],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "ai-edge-litert" in done.stderr


def test_a_full_disk_ends_in_one_line_and_leaves_nothing(
    real_speech: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    target = tmp_path / "part"
    command = ["data", "part", str(real_speech / "speech_commands"), "--to", str(target)]
    assert kws([*command, "--silence", "3"]) == 1
    assert "disk is full" in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as on Unix")
def test_ctrl_c_in_training_keeps_whole_epochs_and_export_leaves_no_file(
    real_speech: Path, tmp_path: Path
) -> None:
    recipe, run = tmp_path / "r.toml", tmp_path / "run"
    recipe.write_text(RECIPE)
    training = ["train", str(recipe), "--data", str(real_speech / "speech_commands")]
    said = interrupted([*training, "--out", str(run)], after="epoch 2/200")
    assert "epochs are kept" in said[-2]
    assert said[-1] == "kws: interrupted"
    assert not [p for p in run.iterdir() if p.name.startswith(".")]
    said = interrupted(
        ["export", str(run), "-o", str(tmp_path / "m.tflite")], after="converting", wait_s=0.5
    )
    assert said[-1] == "kws: interrupted"
    assert not [p.name for p in tmp_path.iterdir() if p.name not in ("r.toml", "run")]


def test_ctrl_c_inside_an_exec_of_text_ends_with_status_130_too(tmp_path: Path) -> None:
    (tmp_path / "as_module.py").write_text(
        "from kws import cli\ncli.app = lambda **_: exec('raise KeyboardInterrupt')\ncli.main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "as_module"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (130, "kws: interrupted\n")


def interrupted(arguments: list[str], *, after: str, wait_s: float = 0.0) -> list[str]:
    """Run a command, press Ctrl-C once it has printed `after`, and return its stderr's lines."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kws", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line.rstrip("\n"))
        if after in line:
            time.sleep(wait_s)
            process.send_signal(signal.SIGINT)
            break
    lines += process.stderr.read().splitlines()
    assert process.wait(60) == 130, lines
    assert not any("Traceback" in line for line in lines)
    return lines
