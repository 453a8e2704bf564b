"""`kws benchmark`: its figures are those of the process it measures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import tiny_model

from kws.benchmark.speed import run_benchmark
from kws.cli import run as kws
from kws.errors import KwsError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.write_tiny(tmp_path_factory.mktemp("benchmark") / "tiny.tflite")


def test_the_figures_are_plausible_and_hold_together(model: Path) -> None:
    result = run_benchmark(model, seconds=4, runs=2)
    assert result.file_bytes == model.stat().st_size
    assert 0 < result.load_s < result.ready_s
    assert 0 < result.import_s < result.ready_s
    assert list(result.times_real_time) == ["20", "100", "1000"]
    # The parts add up to the whole, apart from noise in short measurements on a busy computer.
    step_us = result.front_end_us + result.network_us + result.decision_us
    assert 1000 * result.step_ms / step_us == pytest.approx(
        result.times_real_time["1000"], rel=0.75
    )


def test_a_runner_process_is_quick_and_small(model: Path) -> None:
    """Generous limits, for other work may share the computer; `kws benchmark` has the figures."""
    result = run_benchmark(model, seconds=4, runs=3)
    assert result.ready_s < 2.0
    assert result.times_real_time["1000"] > 50
    if result.resident_bytes is not None and sys.platform == "linux":
        assert 10e6 < result.resident_bytes < 80e6


def test_longer_audio_is_no_memory_that_hearing_it_takes(model: Path) -> None:
    short, long = (run_benchmark(model, seconds=s, runs=1).resident_bytes for s in (2, 300))
    if short is None or long is None:
        pytest.skip("the memory of a process is unknown here")
    assert long - short < 5e6  # the audio would be 10 MB


def test_json_has_the_fields_of_the_result(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kws(["benchmark", str(model), "--json", "--seconds", "2", "--runs", "1"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["model"] == str(model)
    assert facts["step_ms"] == 40.0
    assert facts["runtime"].split()[0] in ("ai-edge-litert", "tflite-runtime", "tensorflow")


def test_the_readable_form_names_what_was_measured(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kws(["benchmark", str(model), "--seconds", "2", "--runs", "1"]) == 0
    output = capsys.readouterr().out
    for word in ("ready in", "memory", "times real time", "front end", "network", "decision"):
        assert word in output


def test_a_model_in_clip_form_is_one_line(tmp_path: Path) -> None:
    path = tiny_model.write_tiny(tmp_path / "clip.tflite", form="clip")
    with pytest.raises(KwsError, match="takes whole clips") as caught:
        run_benchmark(path, seconds=1, runs=1)
    assert "\n" not in str(caught.value)
