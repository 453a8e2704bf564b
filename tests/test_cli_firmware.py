"""`kws firmware` as a user or a script runs it."""

from __future__ import annotations

import errno
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_model import write_tiny

from kws.audio.files import write_wav
from kws.cli import run as kws
from kws.model_file import load_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny(tmp_path_factory.mktemp("model") / "model.tflite"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for i, word in enumerate(("yes", "no", "no")):
        (folder / word).mkdir(exist_ok=True)
        write_wav(folder / word / f"{i}.wav", rng.integers(-3000, 3000, 16000).astype(np.int16))
    return folder


def test_the_summary_says_what_it_costs_and_what_to_do_next(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my library"
    assert kws(["firmware", model, "-o", str(out)]) == 0
    shown, err = capsys.readouterr()
    assert err == ""
    files = [path for path in out.rglob("*") if path.is_file()]
    assert f"{out}: {len(files)} files" in shown
    for word in ("flash", "RAM", "work", "check", "next"):
        assert re.search(rf"^{word} ", shown, re.MULTILINE), word
    assert f"cmake -S '{out}' -B build" in shown and "ctest" in shown and "README.md" in shown


def test_json_is_one_object_with_the_sizes(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "library"
    assert kws(["firmware", model, "-o", str(out), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["folder"] == str(out)
    assert facts["state_bytes"] == sum(facts["state_parts"].values()) <= 12_000
    header = (out / "src" / "kws_config.h").read_text()
    assert f"KWS_STATE_BYTES {facts['state_bytes']} " in header
    assert facts["weights_bytes"] > 1000 and facts["tables_bytes"] > 1000
    manifest = json.loads((out / "kws_firmware.json").read_text())
    assert manifest["model_sha256"] == facts["model_sha256"]


def test_a_library_may_have_the_thresholds_for_after_a_wake_word(
    model: str, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = replace(load_model(model).decision, after_wake={"yes": 0.25})
    both = write_tiny(tmp_path / "both.tflite", decision=decision)
    for name, options in (("alone", []), ("after", ["--after-wake"])):
        assert kws(["firmware", str(both), "-o", str(tmp_path / name), *options]) == 0
    alone, after = ((tmp_path / name / "README.md").read_text() for name in ("alone", "after"))
    own = decision.thresholds
    assert f"from {own['yes']:.2f}" in alone and "from 0.25" not in alone
    assert "from 0.25" in after and f"from {own['no']:.2f}" in after
    if shutil.which("gcc"):
        verified = ["--after-wake", "--verify", str(clips), "--cores", "host"]
        assert kws(["firmware", str(both), "-o", str(tmp_path / "after"), *verified]) == 0
    capsys.readouterr()
    assert kws(["firmware", model, "-o", str(tmp_path / "no"), "--after-wake"]) == 1
    assert "has no thresholds for after a wake word" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_verifying_compares_measures_and_fills_the_readme(
    model: str, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    out = tmp_path / "library"
    command = ["firmware", model, "-o", str(out), "--verify", str(clips), "--cores", "host"]
    assert kws([*command, "--threshold", "0.4", "--clips", "2", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["verification"]["equal"] is True
    assert facts["verification"]["cores"][0]["clips"] == 2
    assert "this computer" in (out / "README.md").read_text()
    assert kws(command) == 0
    assert re.search(r"this computer +3 +\d+ +all [\d,]+ equal", capsys.readouterr().out)


def test_a_library_with_other_results_fails(
    model: str,
    clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    from firmware_export.detector import Detector
    from firmware_export.model_source import model_source

    def broken(detector: Detector) -> str:
        return re.sub(r"(conv_0_bias\[\d+\] = \{\s+)", r"\g<1>999 + ", model_source(detector))

    monkeypatch.setattr("firmware_export.files.model_source", broken)
    out = tmp_path / "library"
    assert kws(["firmware", model, "-o", str(out), "--verify", str(clips), "--cores", "host"]) == 1
    shown, err = capsys.readouterr()
    assert "first difference at" in shown
    assert err.splitlines()[-1].startswith(f"kws: {out} was written, but does not compute")


def test_the_form_for_tflm_follows_the_same_rules(
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The arena has tests of its own and takes seconds.
    monkeypatch.setattr("firmware_export.tflm.measure_arena", lambda _: (0, "not asked for"))
    out = tmp_path / "tflm"
    for _ in range(2):  # a folder of its own may be written again
        assert kws(["firmware", model, "-o", str(out), "--form", "tflm"]) == 0
    assert "for TensorFlow Lite Micro" in capsys.readouterr().out
    assert list(out.glob("*_model_data.cc")) and (out / "README.md").is_file()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    assert kws(["firmware", model, "-o", str(tmp_path / "home"), "--form", "tflm"]) == 1
    assert "did not write" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["missing_model", "-o", "new"], "neither a file nor a known name"),
        (["{clip}", "-o", "new"], "takes whole clips"),
        (["{float}", "-o", "new"], "computes in float32"),
        (["{text}", "-o", "new"], "not a .tflite"),
        (["{model}", "-o", "full"], "did not write"),
        (["{model}", "-o", "full/thesis.txt"], "is a file"),
    ],
)
def test_what_cannot_be_written_is_one_line_and_status_1(
    model: str,
    tmp_path: Path,
    arguments: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    (tmp_path / "text.tflite").write_text("no model at all, but long enough to be looked at")
    names = {
        "{model}": model,
        "{clip}": str(write_tiny(tmp_path / "clip.tflite", form="clip")),
        "{float}": str(write_tiny(tmp_path / "float.tflite", int8=False)),
        "{text}": "text.tflite",
    }
    before = sorted(tmp_path.rglob("*"))
    assert kws(["firmware", *(names.get(a, a) for a in arguments)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err and err.count("\n") == 1 and err.startswith("kws: ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--form", "rust"], "--form: unknown 'rust'"),
        (["--cores", "m4"], "--clips and --cores go with --verify"),
        (["--clips", "3"], "--clips and --cores go with --verify"),
        (["--form", "tflm", "--verify", "clips"], "go with --form library"),
        (["--form", "tflm", "--prefix", "kws_more"], "go with --form library"),
        (["--threshold", "2"], "It must be above 0"),
        (["--threshold", "0.5", "--after-wake"], "Give either --threshold or --after-wake."),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    model: str,
    tmp_path: Path,
    options: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert kws(["firmware", model, "-o", str(tmp_path / "new"), *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err and err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_an_unknown_core_is_refused_before_anything_is_written(
    model: str, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new"
    assert kws(["firmware", model, "-o", str(out), "--verify", str(clips), "--cores", "z80"]) == 1
    assert "Unknown core" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("wrong", [["--verify", "nope"], ["--stream", "nope.wav"]])
def test_wrong_input_for_the_comparison_writes_no_library(
    model: str,
    tmp_path: Path,
    wrong: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert kws(["firmware", model, "-o", "new", *wrong]) == 1
    assert "nope" in capsys.readouterr().err
    assert not Path("new").exists()


def test_figures_stay_in_the_readme_until_the_code_changes(
    model: str, clips: Path, tmp_path: Path
) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    out = tmp_path / "library"
    command = ["firmware", model, "-o", str(out)]
    assert kws([*command, "--verify", str(clips), "--cores", "host"]) == 0
    measured = (out / "README.md").read_text()
    assert "this computer" in measured
    assert kws(command) == 0
    assert (out / "README.md").read_text() == measured
    assert kws([*command, "--threshold", "0.4"]) == 0
    assert "Not measured yet" in (out / "README.md").read_text()


def test_a_library_for_after_a_wake_word_says_so(model: str, tmp_path: Path) -> None:
    card = load_model(model)
    decision = replace(card.decision, after_wake=dict.fromkeys(card.keywords, 0.25))
    both = write_tiny(tmp_path / "both.tflite", decision=decision)
    readmes = {}
    for name, options in (("alone", []), ("after", ["--after-wake"])):
        assert kws(["firmware", str(both), "-o", str(tmp_path / name), *options]) == 0
        readmes[name] = (tmp_path / name / "README.md").read_text()
        manifest = json.loads((tmp_path / name / "kws_firmware.json").read_text())
        assert set(manifest["thresholds"].values()) == (
            {0.25} if options else set(decision.thresholds.values())
        )
    warning = "there would be many false\nalarms alone"
    assert warning in readmes["after"] and warning not in readmes["alone"]


def test_the_form_for_tflm_may_have_the_thresholds_for_after_a_wake_word(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firmware_export.tflm.measure_arena", lambda _: (0, "not asked for"))
    decision = replace(load_model(model).decision, after_wake={"yes": 0.25})
    both = write_tiny(tmp_path / "both.tflite", decision=decision)
    window = 0
    for name, threshold, options in (
        ("alone", decision.thresholds["yes"], []),
        ("after", 0.25, ["--after-wake"]),
        ("given", 0.4, ["--threshold", "0.4"]),
    ):
        out = tmp_path / name
        assert kws(["firmware", str(both), "-o", str(out), "--form", "tflm", *options]) == 0
        (settings,) = out.glob("*_settings.h")
        text = settings.read_text()
        window = int(re.findall(r"kWindowSteps = (\d+)", text)[0])
        fire = re.findall(r"kFire\[kLabelCount\] = \{([^}]*)\}", text)[0].split(",")
        yes = load_model(both).labels.index("yes")
        assert float(fire[yes].strip().rstrip("f")) == pytest.approx(threshold * window, rel=1e-5)


def test_wrong_input_leaves_the_figures_of_a_library_that_is_there(
    model: str, clips: Path, tmp_path: Path
) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    command = ["firmware", model, "-o", str(tmp_path / "library")]
    assert kws([*command, "--verify", str(clips), "--cores", "host"]) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert kws([*command, "--threshold", "0.4", "--verify", str(tmp_path / "nope")]) == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_folder_that_cannot_be_exchanged_is_one_line_that_says_what_to_do(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def busy(self: Path, target: Path) -> Path:
        raise OSError(errno.EBUSY, "Device or resource busy")

    (out := tmp_path / "mounted").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", busy)
        assert kws(["firmware", model, "-o", str(out)]) == 1
    message = capsys.readouterr().err
    assert f"Give a new folder inside it, such as {out / 'library'}" in message
    assert message.count("\n") == 1 and list(tmp_path.iterdir()) == [out]
