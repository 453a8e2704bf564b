"""The leaderboard, on untrained runs: its figures are those of files and cards."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_zoo import write_recipe

from kws.benchmark.leaderboard import Entry, measure_runs, table
from kws.cli import run as kws
from kws.errors import KwsError
from kws.model_file import load_model, read_card, write_card
from kws.recipe import load_recipe, to_toml

keras = pytest.importorskip("keras")
pytest.importorskip("tf_keras")
pytest.importorskip("matplotlib")


def untrained_run(folder: Path, architecture: str, seed: int = 1) -> Path:
    """What `kws train` leaves behind, with the weights that a network begins with."""
    from kws.train.trainer import feature_statistics
    from kws.train.weights import network_weights

    run = folder / (architecture if seed == 1 else f"{architecture}_{seed}")
    run.mkdir()
    recipe = load_recipe(write_recipe(folder, architecture))
    recipe = dataclasses.replace(recipe, seed=seed)
    (run / "recipe.toml").write_text(to_toml(recipe))
    rng = np.random.default_rng(1)
    pcm = rng.normal(0, rng.uniform(10, 3000, (24, 1)), (24, 16000)).astype(np.int16)
    mean, std = feature_statistics(pcm, recipe)
    (run / "features.json").write_text(json.dumps({"mean": mean.tolist(), "std": std.tolist()}))
    keras.utils.set_random_seed(seed)
    np.savez(run / "best.npz", **network_weights(recipe.build_network(keras)))
    np.savez(run / "calibration.npz", pcm=pcm[:16])
    np.savez(run / "validation.npz", pcm=pcm[16:], labels=np.arange(8) % 5)
    (run / "metrics.json").write_text(json.dumps({"val_accuracy": 0.2}))
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [untrained_run(folder, name) for name in ("conv_lstm", "ds_cnn", "bilstm")]


@pytest.fixture(scope="module")
def entries(runs: list[Path]) -> dict[str, Entry]:
    return {entry.architecture: entry for entry in measure_runs(runs)}


def test_figures_are_those_of_the_files_that_the_runs_hold_now(
    runs: list[Path], entries: dict[str, Entry]
) -> None:
    for run in runs:
        entry, card = entries[run.name], load_model(run / "model.tflite")
        assert entry.file_bytes == (run / "model.tflite").stat().st_size
        assert entry.streams == (card.form == "stream") == (run.name == "conv_lstm")
        assert (entry.clips, entry.labels) == (8, 5)
        assert entry.parameters == card.provenance["parameters"]
        assert entry.ms_per_second > 0


def test_work_and_memory_of_depthwise_layers_and_attention_are_as_by_hand(
    entries: dict[str, Entry],
) -> None:
    # ds_cnn: 25 x 7 positions after the stride; 10 x 4 and 3 x 3 kernels, 8 channels.
    positions = 25 * 7
    work = positions * (10 * 4 * 8 + 2 * (3 * 3 * 8 + 8 * 8)) + 8 * 5
    assert entries["ds_cnn"].macs_per_second == work
    # bilstm: convolutions to 45 and 21 steps, two LSTMs, then query, scores, sum and two layers.
    lstms = 2 * 21 * 4 * 8 * (8 + 8)
    attention = 16 * 16 + 2 * 21 * 16 + 16 * 8 + 8 * 5
    convolutions = 45 * 5 * 13 * 8 + 21 * 5 * 8 * 8
    assert entries["bilstm"].macs_per_second == convolutions + lstms + attention


def test_tensors_alive_together_are_counted_as_by_hand(runs: list[Path], entries: dict) -> None:
    from kws.export.graph import Graph, live_bytes

    content = (runs[1] / "model.tflite").read_bytes()
    # Between two layers of 8 channels: what one reads and what it writes, 25 x 7 positions each.
    assert live_bytes(Graph(content)) == 2 * 25 * 7 * 8
    pytest.importorskip("tflite_micro")
    assert entries["ds_cnn"].ram_by == "TFLM"
    assert 2 * 25 * 7 * 8 < entries["ds_cnn"].ram_bytes < 40_000


def test_the_command_writes_table_json_and_picture_and_exports_nothing_twice(
    runs: list[Path], entries: dict[str, Entry], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [(run / "model.tflite").stat().st_mtime_ns for run in runs]
    board = tmp_path / "board.md"
    assert kws(["benchmark", "--zoo", *map(str, runs), "-o", str(board), "--json"]) == 0
    assert [(run / "model.tflite").stat().st_mtime_ns for run in runs] == before
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "board.json").read_text())
    assert {row["name"] for row in printed} == set(entries)
    assert (tmp_path / "board.png").read_bytes().startswith(b"\x89PNG")
    rows = [line for line in board.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(runs)
    assert len({line.count("|") for line in rows}) == 1


def test_the_best_comes_first_and_of_two_alike_the_smaller(
    runs: list[Path], entries: dict[str, Entry]
) -> None:
    order = [(-e.int8_accuracy, e.file_bytes) for e in measure_runs(runs)]
    assert order == sorted(order)


def test_runs_that_differ_in_their_seed_alone_are_one_line_with_mean_and_extremes(
    entries: dict[str, Entry], tmp_path: Path
) -> None:
    runs = [untrained_run(tmp_path, "lstm", seed) for seed in (1, 2)]
    longer = untrained_run(tmp_path, "lstm", 3)
    recipe = load_recipe(longer / "recipe.toml")
    training = dataclasses.replace(recipe.training, epochs=recipe.training.epochs + 1)
    (longer / "recipe.toml").write_text(to_toml(dataclasses.replace(recipe, training=training)))
    two, one = sorted(measure_runs([*runs, longer]), key=lambda entry: -entry.seeds)
    assert (two.seeds, one.seeds) == (2, 1) and one.epochs == two.epochs + 1
    each = [load_model(run / "model.tflite").provenance["agreement"]["forms"] for run in runs]
    int8 = [forms[-1]["accuracy"] for forms in each]
    assert len(set(int8)) > 1
    assert two.int8_accuracy == pytest.approx(np.mean(int8))
    assert two.int8_extremes == (min(int8), max(int8))
    assert two.float_accuracy == pytest.approx(np.mean([f[0]["accuracy"] for f in each]))
    two = dataclasses.replace(
        two, epochs=40, teachers=2, int8_accuracy=0.9512, int8_extremes=(0.95, 0.9527)
    )
    line = table([two])[2]
    assert "| 40 epochs, 2 teachers, 2 seeds |" in line
    assert "| 95.12 (95.00 to 95.27) |" in line


def test_a_run_is_no_second_seed_of_itself_or_of_one_with_other_recordings(
    runs: list[Path], entries: dict[str, Entry], tmp_path: Path
) -> None:
    """Recordings are not in the recipe: more of them make another run of the same one."""
    run, name = runs[0], entries["conv_lstm"].name
    again, more = (Path(shutil.copytree(run, tmp_path / to)) for to in ("again", "more"))
    arrays = np.load(more / "validation.npz")
    np.savez(more / "validation.npz", **{key: np.concatenate(2 * [arrays[key]]) for key in arrays})
    found = measure_runs([run, run.parent / ".." / run.parent.name / run.name, again, more])
    assert [entry.seeds for entry in found] == [1, 1, 1]
    assert sorted((entry.name, entry.clips) for entry in found) == [
        *((name, 8), (f"{name} (again)", 8), (f"{name} (more)", 16))
    ]


def test_a_file_that_is_not_the_whole_int8_export_is_exported_anew(
    runs: list[Path], entries: dict[str, Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(runs[0], tmp_path / "run"))
    path = run / "model.tflite"
    whole = path.read_bytes()
    card = read_card(whole)
    facts = dict(card.provenance)
    fewer = {**facts, "agreement": {**facts["agreement"], "clips": 3}}  # --clips 3
    for other in (
        dataclasses.replace(card, provenance={**facts, "calibration_clips": 0}),  # --float
        dataclasses.replace(card, form="clip"),
        dataclasses.replace(card, provenance=fewer),
        None,
    ):
        path.write_bytes(b"damaged" if other is None else write_card(whole, other))
        exported = []

        def export(run: Path, output: Path, **_: object) -> SimpleNamespace:
            exported.append(run)  # noqa: B023
            output.write_bytes(whole)
            return SimpleNamespace(card=card)

        monkeypatch.setattr("kws.export.run.export_run", export)
        (found,) = measure_runs([run])
        assert exported == [run]
        assert found.int8_accuracy == entries["conv_lstm"].int8_accuracy


def test_memory_that_no_interpreter_measured_is_marked(entries: dict[str, Entry]) -> None:
    guessed = Entry(**{**vars(entries["ds_cnn"]), "ram_by": "graph"})
    lines = table([guessed])
    assert "*" in lines[2] and "* the largest total size" in lines[-1]
    assert "*" not in "".join(table([Entry(**{**vars(guessed), "ram_by": "TFLM"})]))


def test_an_unfinished_run_is_refused_before_anything_is_done(
    runs: list[Path], tmp_path: Path
) -> None:
    run = untrained_run(tmp_path, "lstm")
    (run / "metrics.json").unlink()
    with pytest.raises(KwsError, match="not finished"):
        measure_runs([*runs, run])
    assert not (run / "model.tflite").exists()


@pytest.mark.parametrize(
    "arguments", [["--zoo", "a", "--soak", "1"], ["--zoo", "a", "-o", "b.txt"], ["a", "b"]]
)
def test_what_does_not_go_together_is_bad_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert kws(["benchmark", *arguments]) == 2
