"""Training on a few real recordings: what a run leaves behind, resuming, repeating, refusing."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kws.cli import run as kws
from kws.errors import KwsError
from kws.recipe import TrainingRecipe, load_recipe
from kws.train.dataset import TrainingData, epoch_order, load_training_data
from kws.train.run_folder import RunFolder, read_arrays

RECIPE = """
name = "tiny"
[data]
words = ["yes", "no", "stop"]
clips = "speech_commands"
speech = ["sentences"]
silence_clips = 20
validation_silence_clips = 10
[model]
conv_filters = [8, 8]
lstm_units = 8
[training]
epochs = 4
batch_size = 16
warmup_epochs = 0.5
context_clips = 2
"""


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def recipe(recipe_file: Path) -> TrainingRecipe:
    return load_recipe(recipe_file)


@pytest.fixture(scope="module")
def data(recipe: TrainingRecipe, real_speech: Path) -> TrainingData:
    return load_training_data(recipe, real_speech)


@pytest.fixture(scope="module")
def finished(
    recipe_file: Path, real_speech: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("run") / "tiny"
    assert kws(["train", str(recipe_file), "--data", str(real_speech), "--out", str(out)]) == 0
    return out


def test_a_run_leaves_recipe_weights_curves_figures_and_clips_behind(finished: Path) -> None:
    assert load_recipe(finished / "recipe.toml").training.epochs == 4
    history = json.loads((finished / "history.json").read_text())
    assert all(len(curve) == 4 for curve in history.values())
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["val_accuracy"] == pytest.approx(max(history["val_accuracy"]))
    assert (finished / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert read_arrays(finished / "validation.npz")["pcm"].dtype == np.int16
    assert not list(finished.glob(".*.part"))


def test_the_kept_weights_give_the_accuracy_that_the_run_reports(finished: Path) -> None:
    """Oracle: the tf_keras twin in NumPy's front end, not the training model itself."""
    import tf_keras

    from kws.frontend import mfcc

    recipe = load_recipe(finished / "recipe.toml")
    twin = recipe.model.create().build(tf_keras, n_mfcc=13, n_labels=5, head="softmax")
    weights = read_arrays(finished / "best.npz")
    for layer in twin.layers:
        n = len(layer.get_weights())
        layer.set_weights([weights[f"{layer.name}/{i}"] for i in range(n)])
    clips = read_arrays(finished / "validation.npz")
    statistics = json.loads((finished / "features.json").read_text())
    features = (mfcc(clips["pcm"], recipe.front_end) - statistics["mean"]) / statistics["std"]
    answers = np.asarray(twin(features.astype(np.float32)))[:, -1].argmax(axis=1)
    metrics = json.loads((finished / "metrics.json").read_text())
    assert np.mean(answers == clips["labels"]) == pytest.approx(metrics["val_accuracy"], abs=0.02)


def test_stopping_and_resuming_gives_the_weights_of_an_uninterrupted_run(
    recipe: TrainingRecipe, data: TrainingData, finished: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from kws.train import loop

    whole_epoch = loop._epoch

    def stop_in_third(*arguments: object) -> dict[str, float]:
        if arguments[-1] == 3:
            raise KeyboardInterrupt
        return whole_epoch(*arguments)  # type: ignore[arg-type]

    run = RunFolder(tmp_path)
    monkeypatch.setattr(loop, "_epoch", stop_in_third)
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, data, run)
    monkeypatch.setattr(loop, "_epoch", whole_epoch)
    assert not run.metrics.exists()
    loop.train(recipe, data, run, resume=True)
    resumed, straight = read_arrays(run.last), read_arrays(finished / "last.npz")
    assert resumed.keys() == straight.keys()
    for name in straight:
        np.testing.assert_allclose(resumed[name], straight[name], atol=1e-5, err_msg=name)


def test_another_seed_gives_other_weights(
    recipe: TrainingRecipe, data: TrainingData, finished: Path, tmp_path: Path
) -> None:
    from kws.train.loop import train

    short = dataclasses.replace(recipe.training, epochs=1)
    run = RunFolder(tmp_path)
    train(dataclasses.replace(recipe, seed=2, training=short), data, run)
    a, b = read_arrays(run.best), read_arrays(finished / "best.npz")
    assert not np.allclose(a["lstm/0"], b["lstm/0"])


def test_no_validation_speaker_and_no_held_out_noise_is_in_training(data: TrainingData) -> None:
    seen = {clip.tobytes() for clip in data.training.pcm}
    assert not any(clip.tobytes() in seen for clip in data.validation.pcm)


def test_an_epoch_has_every_keyword_clip_and_the_shares_that_were_asked_for(
    recipe: TrainingRecipe, data: TrainingData
) -> None:
    training = data.training
    order = epoch_order(training, recipe, 1)
    keywords = np.flatnonzero(training.labels < 3)
    assert set(keywords) <= set(order)
    assert len(order) % recipe.training.batch_size == 0
    unknown = np.mean(training.labels[order] == recipe.labels.index_of("_unknown_"))
    assert unknown == pytest.approx(recipe.data.unknown_share, abs=0.1)
    assert not np.array_equal(order, epoch_order(training, recipe, 2))
    assert np.array_equal(order, epoch_order(training, recipe, 1))


def test_a_finished_run_is_not_overwritten_by_accident(
    recipe_file: Path, real_speech: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "best.npz").read_bytes()
    arguments = ["train", str(recipe_file), "--data", str(real_speech), "--out", str(finished)]
    assert kws(arguments) == 1
    assert "--resume" in capsys.readouterr().err
    assert (finished / "best.npz").read_bytes() == before


def test_resuming_with_another_recipe_is_refused(
    recipe: TrainingRecipe, data: TrainingData, finished: Path
) -> None:
    from kws.train.loop import train

    with pytest.raises(KwsError, match="not made with this recipe"):
        train(dataclasses.replace(recipe, seed=9), data, RunFolder(finished), resume=True)


def test_a_folder_without_the_words_is_refused_in_one_line(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kws(["train", str(recipe_file), "--data", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert message.startswith("kws: ")
    assert message.count("\n") == 1
    assert str(tmp_path) in message


def test_the_jax_backend_trains_the_same_recipe(
    recipe_file: Path, real_speech: Path, tmp_path: Path
) -> None:
    pytest.importorskip("jax")
    command = [
        *(sys.executable, "-m", "kws", "train", str(recipe_file), "--data", str(real_speech)),
        *("--out", str(tmp_path / "run"), "--epochs", "1", "--backend", "jax", "--json"),
    ]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    environment.pop("KERAS_BACKEND", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(done.stdout)["val_accuracy"] <= 1
    assert "jax on CPU" in done.stderr
    weights = read_arrays(tmp_path / "run" / "best.npz")
    assert all(np.isfinite(w).all() for w in weights.values())


def test_each_clip_is_answered_at_the_step_that_has_just_heard_it_to_its_end(
    recipe: TrainingRecipe,
) -> None:
    """By hand: frame f ends at sample 320 f + 512, step s at frame 2 s + 8 (R = 9, S = 2)."""
    from kws.train.loop import clip_end_steps

    def end_sample(step: int) -> int:
        return 320 * (2 * step + 8) + 512

    steps = clip_end_steps(recipe, 3)
    assert steps == [20, 45, 70]
    for clip, step in enumerate(steps, start=1):
        assert end_sample(step) <= 16000 * clip < end_sample(step + 1)
