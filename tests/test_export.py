"""Export: the file is the network that was trained, in every form and on every runtime.

A small network is trained for a few seconds on real speech, so that ranges are those of a trained
network; its folder is written as by `kws train`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kws.audio.files import read_audio
from kws.cli import run as run_command
from kws.errors import KwsError
from kws.frontend import features_of
from kws.labels import UNKNOWN
from kws.model_file import load_model, read_card
from kws.network import Network
from kws.recipe import load_recipe

pytest.importorskip("tensorflow")
pytest.importorskip("tf_keras")

from kws.export.card import run_card
from kws.export.convert import convert_int8, windows
from kws.export.graph import LSTM, Graph, copy_quantisation, lstms, macs
from kws.export.report import ExportReport
from kws.export.run import export_run
from kws.export.runtimes import RUNTIMES, check_runtimes, default_runtimes
from kws.export.tf_keras_model import build_tf_keras, fold
from kws.system.native import heed_interrupts, quiet_stderr
from kws.train.trained import TrainedRun, calibration_clips, load_run, validation_set

RECIPE = """
name = "tiny"
license = "CC0-1.0"
seed = 7

[data]
words = ["yes", "no", "stop"]

[model]
architecture = "conv_lstm"
conv_filters = [16, 24]
conv_kernels = [5, 5]
conv_strides = [1, 2]
lstm_units = 32
dropout = 0.1
"""
FRAMES, STRIDE, CLIP_FRAMES, STEPS = 9, 2, 49, 21
OTHER_WORDS = ("happy", "left", "five")


@dataclass(frozen=True)
class Trained:
    """A run's folder and its network."""

    folder: Path
    network: Any  # Keras 3, with batch normalisation


def read_clips(root: Path, word: str) -> NDArray[np.int16]:
    clips = [read_audio(path)[:16000] for path in sorted((root / word).glob("*.wav"))]
    return np.array([np.pad(clip, (0, 16000 - len(clip))) for clip in clips])


@pytest.fixture(scope="module")
def trained(real_speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    import keras

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    (folder / "recipe.toml").write_text(RECIPE)
    recipe = load_recipe(folder / "recipe.toml")
    pcm, labels = [], []
    for word in (*recipe.labels.keywords, *OTHER_WORDS):
        clips = read_clips(real_speech / "speech_commands", word)
        label = recipe.labels.index_of(word if word in recipe.labels.keywords else UNKNOWN)
        pcm.append(clips)
        labels += [label] * len(clips)
    pcm.append(np.random.default_rng(1).normal(0, 30, (12, 16000)).astype(np.int16))
    labels += [recipe.labels.index_of("_silence_")] * 12
    every_pcm, every_label = np.concatenate(pcm), np.array(labels)
    held_out = np.arange(len(every_label)) % 4 == 0

    raw = features_of(every_pcm[~held_out], recipe.front_end)
    mean, std = raw.mean(axis=(0, 1)), raw.std(axis=(0, 1))
    keras.utils.set_random_seed(3)
    network = recipe.model.create().build(
        keras, n_features=13, n_labels=len(recipe.labels.labels), head="softmax"
    )
    network.compile(
        keras.optimizers.Adam(6e-3),
        # Only the last step of a context has a label.
        loss=lambda y, p: keras.losses.sparse_categorical_crossentropy(y[:, -1], p[:, -1]),
    )
    # Contexts of two clips, so that the state is carried over from one to the other.
    rng = np.random.default_rng(2)
    first = rng.permutation(np.repeat(np.flatnonzero(~held_out), 4))
    second = rng.permutation(first)
    joined = np.concatenate([every_pcm[first], every_pcm[second]], axis=1)
    x = ((features_of(joined, recipe.front_end) - mean) / std).astype(np.float32)
    network.fit(x, every_label[second][:, np.newaxis], batch_size=32, epochs=10, verbose=0)

    np.savez(
        folder / "best.npz",
        **{
            f"{layer.name}/{i}": np.asarray(w)
            for layer in network.layers
            for i, w in enumerate(layer.get_weights())
        },
    )
    (folder / "features.json").write_text(json.dumps({"mean": mean.tolist(), "std": std.tolist()}))
    (folder / "metrics.json").write_text(json.dumps({"val_accuracy": 0.5}))
    (folder / "environment.json").write_text(json.dumps({"folders": ["clips", "talk"]}))
    np.savez_compressed(folder / "calibration.npz", pcm=every_pcm[~held_out])
    np.savez_compressed(
        folder / "validation.npz", pcm=every_pcm[held_out], labels=every_label[held_out]
    )
    return Trained(folder, network)


@pytest.fixture(scope="module")
def run(trained: Trained) -> TrainedRun:
    return load_run(trained.folder)


@pytest.fixture(scope="module")
def features(run: TrainedRun) -> NDArray[np.float32]:
    """Normalised features of the validation clips [n, 49, 13]."""
    return run.features(validation_set(run)[0])


@pytest.fixture(scope="module")
def exported(
    trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, ExportReport]]:
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1700000000")
        yield {
            "stream": export_run(trained.folder, folder / "stream.tflite"),
            "clip": export_run(trained.folder, folder / "clip.tflite", form="clip"),
        }


@pytest.fixture
def copy(trained: Trained, tmp_path: Path) -> Path:
    """A run's folder that a test may damage."""
    ignore = shutil.ignore_patterns("agreement.json")
    return Path(shutil.copytree(trained.folder, tmp_path / "run", ignore=ignore))


def cell_states(run: TrainedRun, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """The float LSTM's cell state after each step, [steps, units], written out in NumPy.

    Held within ±10, as TFLite's operator for a Keras LSTM does.
    """
    weights = fold(run.weights)
    for name, stride in (("conv_0", 1), ("conv_1", 2)):
        kernel, bias = weights[name]
        view = np.lib.stride_tricks.sliding_window_view(x, len(kernel), axis=0)[::stride]
        x = np.maximum(0, np.einsum("tik,kio->to", view, kernel) + bias)
    kernel, recurrent, bias = (w.astype(np.float64) for w in weights["lstm"])
    h = c = np.zeros(len(recurrent))  # [units]
    states = []
    for row in x:
        i, f, g, o = np.split(row @ kernel + h @ recurrent + bias, 4)
        c = np.clip(sigmoid(f) * c + sigmoid(i) * np.tanh(g), -10, 10)
        h = sigmoid(o) * np.tanh(c)
        states.append(c)
    return np.array(states)


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


def test_folded_twin_equals_the_trained_network_with_batch_normalisation(
    trained: Trained, run: TrainedRun, features: NDArray[np.float32]
) -> None:
    expected = np.asarray(trained.network(features, training=False))
    received = np.asarray(build_tf_keras(run, frames=CLIP_FRAMES, batch_size=None)(features))
    assert received.shape == (len(features), STEPS, 5)
    assert np.ptp(expected) > 0.5  # it has learnt something, so the comparison is meaningful
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_stream_file_is_int8_with_one_fused_lstm_and_nothing_but_builtin_operators(
    exported: dict[str, ExportReport],
) -> None:
    graph = Graph(exported["stream"].path.read_bytes())
    names = [op.name for op in graph.operators]
    assert names.count(LSTM) == 1
    assert set(names) <= {LSTM, "CONV_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"}
    network = Network(exported["stream"].path)
    assert network.input_tensor["type"] == network.output_tensor["type"] == "int8"
    assert network.input_tensor["shape"] == [1, FRAMES, 13]
    assert network.output_tensor["shape"] == [1, 1, 5]
    states = [t for t in lstms(graph)[0].inputs if t >= 0 and graph.is_state(t)]
    assert [graph.shape(t) for t in states] == [(1, 32), (1, 32)]


def test_stream_file_equals_clip_file_within_one_step_of_int8_on_real_speech(
    exported: dict[str, ExportReport], run: TrainedRun
) -> None:
    stream, clip = (Network(exported[form].path) for form in ("stream", "clip"))
    clips = features_of(validation_set(run)[0], run.recipe.front_end)
    for raw in clips:
        ours, theirs = stream.run(raw), clip.run(raw)
        assert ours.shape == theirs.shape == (STEPS, 5)
        assert np.abs(ours - theirs).max() <= 1.001 / 256
    assert exported["stream"].agreement.stream_clip_lsb in (0, 1)


def test_state_is_kept_from_invoke_to_invoke_until_it_is_reset(
    exported: dict[str, ExportReport], run: TrainedRun
) -> None:
    network = Network(exported["stream"].path)
    raw = features_of(validation_set(run)[0][0], run.recipe.front_end)[12 : 12 + FRAMES]
    first, second = network.step(raw), network.step(raw)
    assert not np.array_equal(first, second)
    network.reset()
    np.testing.assert_array_equal(network.step(raw), first)
    np.testing.assert_array_equal(network.step(raw), second)


def test_int8_answers_as_keras_does(exported: dict[str, ExportReport]) -> None:
    agreement = exported["stream"].agreement
    keras, float_clip, clip, stream = agreement.forms
    assert agreement.steps == agreement.clips * STEPS
    assert keras.accuracy > 0.5
    assert float_clip.largest_difference < 1e-4
    assert stream.mean_difference < 0.01
    assert stream.answers_changed <= 1
    assert sum(agreement.changes.values()) == stream.answers_changed
    assert agreement.stream.seconds == agreement.clips
    assert agreement.stream.mean_difference < 0.01
    assert agreement.stream.answers_changed < 0.02
    assert abs(clip.accuracy - stream.accuracy) < 1e-9


def test_the_steps_of_the_input_are_as_fine_as_all_but_the_rarest_features_allow(
    run: TrainedRun, exported: dict[str, ExportReport]
) -> None:
    graph = Graph(exported["stream"].path.read_bytes())
    scale = graph.scales(graph.inputs[0])
    assert scale is not None
    features = run.features(calibration_clips(run).reshape(-1))
    least, greatest = np.quantile(features, [1e-4, 1 - 1e-4])
    assert 255 * float(scale[0]) == pytest.approx(greatest - least, rel=0.01)
    assert greatest - least < 0.97 * np.ptp(features)


def test_cell_state_has_room_for_a_whole_stream_and_not_much_more(
    run: TrainedRun, exported: dict[str, ExportReport]
) -> None:
    graph = Graph(exported["stream"].path.read_bytes())
    cell = next(t for t in lstms(graph)[0].inputs if t >= 0 and graph.name(t).endswith("qconst1"))
    scale = graph.scales(cell)
    assert scale is not None and graph.is_state(cell)
    room = 32768 * float(scale[0])
    reached = np.abs(cell_states(run, run.features(calibration_clips(run).reshape(-1)))).max()
    assert reached <= room <= 2.1 * reached


def test_lstm_whose_output_never_comes_near_zero_is_quantised_rightly(
    copy: Path, tmp_path: Path
) -> None:
    weights = dict(np.load(copy / "best.npz"))
    # Gates that let everything in and nothing out of memory: outputs stay between 0.2 and 0.9.
    # The converter then leaves zero out of the range of an internal value; without the correction
    # the differences are four times as large.
    bias = weights["lstm/2"]
    bias[:96], bias[96:] = 4, 0
    weights["lstm/0"][:, :96] *= 0.05
    weights["lstm/0"][:, 96:] *= 0.3
    weights["lstm/1"] *= 0.05
    np.savez(copy / "best.npz", **weights)
    stream = export_run(copy, tmp_path / "model.tflite").agreement.forms[-1]
    assert stream.mean_difference < 0.003
    assert stream.largest_difference < 0.015


def test_card_says_what_the_file_is_and_where_it_comes_from(
    exported: dict[str, ExportReport], run: TrainedRun
) -> None:
    card = load_model(exported["stream"].path)
    assert card == exported["stream"].card
    assert (card.name, card.license, card.form, card.head) == (
        "tiny",
        "CC0-1.0",
        "stream",
        "softmax",
    )
    assert card.labels == run.recipe.labels.labels
    assert card.keywords == ("yes", "no", "stop")
    assert (card.receptive_field_frames, card.stride_frames) == (FRAMES, STRIDE)
    assert card.clip_frames == CLIP_FRAMES
    assert set(card.decision.thresholds) == set(card.keywords)
    np.testing.assert_allclose(card.feature_mean, run.mean)
    np.testing.assert_allclose(card.feature_std, run.std)
    provenance = card.provenance
    assert provenance["date"] == "2023-11-14T22:13:20Z"
    assert (provenance["recipe"], provenance["seed"]) == ("tiny", 7)
    assert provenance["training"] == {"val_accuracy": 0.5}
    assert provenance["dataset"] == "clips, talk"
    assert provenance["agreement"]["clips"] == exported["stream"].agreement.clips
    assert load_model(exported["clip"].path).form == "clip"


def test_tensorflow_may_be_installed_as_another_package(
    run: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``tensorflow-cpu``: then there is no package ``tensorflow``."""
    import tensorflow

    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    card = run_card(run, form="stream", decision=None, provenance={})
    assert card.provenance["tensorflow_version"] == tensorflow.__version__


def test_same_run_gives_the_same_bytes_but_for_the_date(
    trained: Trained, exported: dict[str, ExportReport], tmp_path: Path
) -> None:
    again = export_run(trained.folder, tmp_path / "again.tflite")
    assert again.path.read_bytes() == exported["stream"].path.read_bytes()


def test_constants_are_aligned_to_words(
    exported: dict[str, ExportReport],
) -> None:
    for report in exported.values():
        graph = Graph(report.path.read_bytes())
        start = np.frombuffer(graph.content, np.uint8).__array_interface__["data"][0]
        constants = [
            data
            for op in graph.operators
            for t in op.inputs
            if t >= 0 and (data := graph.data(t)) is not None
        ]
        assert len(constants) > 15
        for data in constants:
            assert (data.__array_interface__["data"][0] - start) % 4 == 0


def test_work_is_counted_as_by_hand(exported: dict[str, ExportReport]) -> None:
    # conv_0: 5 positions, conv_1: 1, LSTM: 4 gates of 24 + 32 inputs, dense.
    step = 5 * 5 * 13 * 16 + 5 * 16 * 24 + 4 * 32 * (24 + 32) + 32 * 5
    report = exported["stream"]
    assert report.macs_per_invocation == step
    assert report.macs_per_second == 25 * step
    fresh = 2 * 5 * 13 * 16 + 5 * 16 * 24 + 4 * 32 * (24 + 32) + 32 * 5
    assert report.macs_per_second_least == 25 * fresh
    clip = Graph(exported["clip"].path.read_bytes())
    assert macs(clip) == step + 20 * fresh
    weights = 5 * 13 * 16 + 16 + 5 * 16 * 24 + 24 + 4 * 32 * (24 + 32 + 1) + 33 * 5
    assert report.parameters == weights


def test_tflm_gives_the_same_answers_and_tells_its_arena(
    exported: dict[str, ExportReport], features: NDArray[np.float32]
) -> None:
    pytest.importorskip("tflite_micro")
    content = exported["stream"].path.read_bytes()
    tensor = Network(exported["stream"].path).input_tensor
    steps = np.concatenate([windows(x, FRAMES, STRIDE)[:, 0] for x in features])
    prepared = np.clip(np.rint(steps / tensor["scale"] + tensor["zero_point"]), -128, 127)
    resets = np.arange(len(steps)) % (2 * STEPS) == 0
    report = check_runtimes(content, prepared.astype(np.int8), resets, ["tflm"])
    (check,) = report.checks
    assert not check.not_checked
    assert check.answers_changed < 0.005
    assert check.largest_difference <= 12
    assert 2_000 < check.arena_bytes < 20_000
    assert not report.disagreeing


def test_runtime_that_runs_the_network_wrongly_is_noticed(
    exported: dict[str, ExportReport],
) -> None:
    pytest.importorskip("tflite_micro")
    content = exported["stream"].path.read_bytes()
    rng = np.random.default_rng(0)
    inputs = rng.integers(-128, 128, (400, FRAMES, 13)).astype(np.int8)
    report = check_runtimes(content, inputs, np.zeros(400, bool), ["tflm"])
    wrong = replace(report.checks[0], answers_changed=0.3)
    assert replace(report, checks=(wrong,)).disagreeing == (wrong,)


def test_a_tie_that_falls_the_other_way_is_no_other_answer_but_a_clear_one_is() -> None:
    from kws.export.runtimes import _answers_changed

    expected = np.array([[20, 18, -128], [100, -100, -128], [100, -100, -128]], np.int8)
    received = np.array([[18, 20, -128], [98, -97, -128], [-100, 100, -128]], np.int8)
    assert _answers_changed(expected, received) == 0.5
    word = np.array([[3], [100]], np.int8)
    assert _answers_changed(word, np.array([[-3], [90]], np.int8)) == 0.0
    assert _answers_changed(word, np.array([[3], [-90]], np.int8)) == 1.0


def test_runtime_that_cannot_be_installed_is_reported_and_leaves_nothing(
    exported: dict[str, ExportReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KWS_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    content = exported["stream"].path.read_bytes()
    inputs = np.zeros((2, FRAMES, 13), np.int8)
    report = check_runtimes(content, inputs, np.zeros(2, bool), ["tflite-runtime"])
    assert [bool(check.not_checked) for check in report.checks] == [True, True]
    assert "not checked" in "\n".join(report.lines())
    assert not list((tmp_path / "environments").glob("*"))
    assert "tflite-runtime" not in default_runtimes()


def test_unknown_runtime_is_refused(exported: dict[str, ExportReport]) -> None:
    content = exported["stream"].path.read_bytes()
    with pytest.raises(KwsError, match="Unknown runtime"):
        check_runtimes(content, np.zeros((1, FRAMES, 13), np.int8), np.ones(1, bool), ["onnx"])
    assert RUNTIMES == ("litert", "tflm", "tflite-runtime")


def test_float_file_equals_keras(
    trained: Trained, run: TrainedRun, features: NDArray[np.float32], tmp_path: Path
) -> None:
    report = export_run(trained.folder, tmp_path / "float.tflite", quantised=False)
    assert report.agreement.stream_clip_lsb is None
    network = Network(report.path)
    assert network.input_tensor["type"] == "float32"
    expected = np.asarray(trained.network(features[:8], training=False))
    for raw, posteriors in zip(
        features_of(validation_set(run)[0][:8], run.recipe.front_end), expected, strict=True
    ):
        np.testing.assert_allclose(network.run(raw), posteriors, atol=1e-4)


def test_wake_word_with_sigmoid_head_is_exported_and_judged(copy: Path, tmp_path: Path) -> None:
    text = RECIPE.replace('words = ["yes", "no", "stop"]', 'words = ["yes"]\nhead = "sigmoid"')
    (copy / "recipe.toml").write_text(text)
    weights = dict(np.load(copy / "best.npz"))
    yes, others = weights["posteriors/0"][:, :1], weights["posteriors/0"][:, 1:].mean(1)
    weights["posteriors/0"] = yes - others[:, np.newaxis]
    weights["posteriors/1"] = weights["posteriors/1"][:1]
    np.savez(copy / "best.npz", **weights)
    validation = np.load(copy / "validation.npz")
    np.savez(
        copy / "validation.npz",
        pcm=validation["pcm"],
        labels=np.where(validation["labels"] == 0, 0, -1),
    )
    report = export_run(copy, tmp_path / "wake.tflite")
    assert report.card.labels == report.card.keywords == ("yes",)
    assert report.agreement.forms[-1].accuracy > 0.7
    assert Network(report.path).output_tensor["shape"] == [1, 1, 1]
    # Accuracy as in training: the word's few clips count as much as all others.
    wake = load_run(copy)
    pcm, labels = validation_set(wake)
    twin = build_tf_keras(wake, frames=CLIP_FRAMES, batch_size=None)
    fires = np.asarray(twin(wake.features(pcm)))[:, -1, 0] >= 0.5
    shares = np.mean(fires[labels == 0]), np.mean(~fires[labels < 0])
    assert report.agreement.forms[0].accuracy == pytest.approx(np.mean(shares))
    assert np.mean(shares) != pytest.approx(np.mean(fires == (labels == 0)), abs=1e-3)


def test_a_network_that_hears_nothing_is_refused_in_one_line(copy: Path, tmp_path: Path) -> None:
    weights = dict(np.load(copy / "best.npz"))
    np.savez(
        copy / "best.npz", **weights | {f"lstm/{i}": 0 * weights[f"lstm/{i}"] for i in range(3)}
    )
    with pytest.raises(KwsError, match=r"has learnt nothing.*lower learning_rate"):
        export_run(copy, tmp_path / "model.tflite")
    assert not (tmp_path / "model.tflite").exists()


def test_quantisation_is_not_copied_between_different_networks(
    run: TrainedRun, exported: dict[str, ExportReport]
) -> None:
    stream = Graph(exported["stream"].path.read_bytes())
    smaller = Graph(exported["clip"].path.read_bytes())
    copy_quantisation(stream, smaller)  # alike: no complaint
    other = replace(
        run,
        weights={
            name: w[..., :5].repeat(2, -1)[..., :4] if name.startswith("posteriors") else w
            for name, w in run.weights.items()
        },
        recipe=replace(run.recipe, data=replace(run.recipe.data, words=("yes", "no"))),
    )
    clips = calibration_clips(run)[:8]
    with pytest.raises(KwsError, match="different"):
        copy_quantisation(stream, Graph(convert_int8(other, clips).clip))


def damaged_run(folder: Path, how: str) -> None:
    weights = dict(np.load(folder / "best.npz"))
    if how == "unfinished":
        (folder / "best.npz").unlink()
    elif how == "cut off":
        content = (folder / "best.npz").read_bytes()
        (folder / "best.npz").write_bytes(content[: len(content) // 2])
    elif how == "other recipe":
        text = RECIPE.replace("lstm_units = 32", "lstm_units = 31")
        (folder / "recipe.toml").write_text(text)
    elif how == "not a number":
        weights["lstm/0"][0, 0] = np.nan
        np.savez(folder / "best.npz", **weights)
    elif how == "extra layer":
        np.savez(folder / "best.npz", **weights, **{"conv_9/0": np.ones(3, np.float32)})
    elif how == "no clips":
        (folder / "calibration.npz").unlink()
    elif how == "bad statistics":
        (folder / "features.json").write_text('{"mean": [1, 2], "std": [1, 2]}')


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("unfinished", "best.npz is missing"),
        ("cut off", "is damaged"),
        ("other recipe", "do not fit the recipe"),
        ("not a number", "NaN"),
        ("extra layer", "conv_9"),
        ("no clips", "calibration.npz is missing"),
        ("bad statistics", "13 finite numbers"),
    ],
)
def test_unusable_run_is_refused_in_one_line_and_nothing_is_written(
    copy: Path, how: str, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    damaged_run(copy, how)
    target = tmp_path / "out" / "model.tflite"
    assert run_command(["export", str(copy), "-o", str(target), "--runtimes", "none"]) == 1
    complaint = capfd.readouterr().err.splitlines()[-1]
    assert complaint.startswith("kws: ")
    assert message in complaint
    assert not target.parent.exists()
    assert not (copy / "agreement.json").exists()


def test_command_refuses_what_makes_no_sense(
    trained: Trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["export", str(tmp_path / "nothing")]) == 1
    assert "No such run" in capfd.readouterr().err
    assert run_command(["export", str(trained.folder), "-o", str(tmp_path)]) == 1
    assert "folder" in capfd.readouterr().err
    assert run_command(["export", str(trained.folder), "--runtimes", "onnx"]) == 2
    assert run_command(["export", str(trained.folder), "--runtimes", "tflm", "--check-all"]) == 2


def test_command_prints_json_and_keeps_the_figures_with_the_run(
    copy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "model.tflite"
    arguments = ["export", str(copy), "-o", str(target), "--json", "--clips", "10"]
    assert run_command([*arguments, "--runtimes", "litert"]) == 0
    out, err = capfd.readouterr()
    printed = json.loads(out)
    assert printed["size_bytes"] == target.stat().st_size
    assert printed["agreement"]["clips"] == 10
    assert len(printed["runtimes"]["checks"]) == 2
    assert json.loads((copy / "agreement.json").read_text()) == printed
    # Only our own lines: TensorFlow's messages are suppressed.
    assert all(line.startswith("kws: ") for line in err.splitlines())
    assert read_card(target.read_bytes()).name == "tiny"


def test_interrupted_export_leaves_nothing(copy: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "model.tflite"
    code = "import sys; from kws.cli import main; main(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "export", str(copy), "-o", str(target)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stderr is not None
    assert b"converting" in process.stderr.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=120)
    assert process.returncode == 130
    assert complaint.splitlines()[-1] == b"kws: interrupted"
    assert not target.parent.exists()
    assert not (copy / "agreement.json").exists()


def test_interrupt_that_native_code_swallowed_is_heeded_at_the_end() -> None:
    # It is lost inside, as in a destructor or a callback from C++.
    lost = contextlib.suppress(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt), heed_interrupts(), lost:
        signal.raise_signal(signal.SIGINT)
    with heed_interrupts():
        pass  # nothing happens if nothing was pressed


def test_interrupt_lost_in_a_destructor_leaves_no_traceback_behind() -> None:
    code = """
import signal
from kws.system.native import heed_interrupts
class Loses:
    def __init__(self, error): self.error = error
    def __del__(self):
        if self.error: raise self.error
        signal.raise_signal(signal.SIGINT)
try:
    with heed_interrupts():
        Loses(None)
        Loses(ValueError("another error is shown"))
except KeyboardInterrupt:
    print("heeded")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "heeded\n"
    assert "KeyboardInterrupt" not in done.stderr
    assert "another error is shown" in done.stderr


def test_chatter_of_native_code_is_shown_only_if_the_work_fails(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with quiet_stderr():
        os.write(2, b"chatter")
    assert capfd.readouterr().err == ""
    with pytest.raises(ValueError), quiet_stderr():
        os.write(2, b"a reason")
        raise ValueError
    assert capfd.readouterr().err == "a reason"
    with pytest.raises(KwsError), quiet_stderr():
        os.write(2, b"chatter")
        raise KwsError("explains itself")
    assert capfd.readouterr().err == ""


def test_full_folder_for_temporary_files_is_refused_before_the_converter_crashes(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(KwsError, match="temporary files"):
        export_run(trained.folder, tmp_path / "model.tflite")
    assert not (tmp_path / "model.tflite").exists()
