"""Training on a few real recordings: files of a run, resuming, repeating, refusing."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kws.cli import run as kws
from kws.errors import KwsError
from kws.recipe import TrainingRecipe, load_recipe, to_toml
from kws.train.backend import BACKENDS
from kws.train.dataset import ClipSet, TrainingData, load_training_data
from kws.train.epoch import epoch_order
from kws.train.run_folder import RunFolder, check_resumable, read_arrays

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def recipe(tiny_recipe: Path) -> TrainingRecipe:
    return load_recipe(tiny_recipe)


@pytest.fixture(scope="module")
def data(recipe: TrainingRecipe, real_speech: Path) -> TrainingData:
    return load_training_data(recipe, real_speech)


@pytest.fixture(scope="module")
def finished(
    tiny_recipe: Path, real_speech: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("run") / "tiny"
    assert kws(["train", str(tiny_recipe), "--data", str(real_speech), "--out", str(out)]) == 0
    return out


def test_a_run_leaves_recipe_weights_curves_figures_and_clips_behind(finished: Path) -> None:
    assert load_recipe(finished / "recipe.toml").training.epochs == 4
    history = json.loads((finished / "history.json").read_text())
    assert all(len(curve) == 4 for curve in history.values())
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["val_accuracy"] == pytest.approx(max(history["val_accuracy"]))
    assert (finished / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert read_arrays(finished / "validation.npz")["pcm"].dtype == np.int16
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["backend"] == keras.backend.backend()
    assert not list(finished.glob(".*.part"))


def test_the_kept_weights_give_the_accuracy_that_the_run_reports(finished: Path) -> None:
    """Oracle: the network in tf_keras with NumPy's front end, not the training model itself."""
    import tf_keras

    from kws.frontend import features_of

    recipe = load_recipe(finished / "recipe.toml")
    twin = recipe.model.create().build(tf_keras, n_features=13, n_labels=5, head="softmax")
    weights = read_arrays(finished / "best.npz")
    for layer in twin.layers:
        n = len(layer.get_weights())
        layer.set_weights([weights[f"{layer.name}/{i}"] for i in range(n)])
    clips = read_arrays(finished / "validation.npz")
    statistics = json.loads((finished / "features.json").read_text())
    features = features_of(clips["pcm"], recipe.front_end)
    features = (features - statistics["mean"]) / statistics["std"]
    answers = np.asarray(twin(features.astype(np.float32)))[:, -1].argmax(axis=1)
    metrics = json.loads((finished / "metrics.json").read_text())
    right, labels = answers == clips["labels"], clips["labels"]
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    assert np.mean(recalls) == pytest.approx(metrics["val_accuracy"], abs=0.02)


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
    check_resumable(run, to_toml(recipe), keras.backend.backend())
    loop.train(recipe, data, run, resume=True)
    resumed, straight = read_arrays(run.last), read_arrays(finished / "last.npz")
    assert resumed.keys() == straight.keys()
    for name in straight:
        np.testing.assert_allclose(resumed[name], straight[name], atol=1e-5, err_msg=name)


def test_the_average_reaches_back_a_tenth_of_the_steps_and_at_most_as_far_as_the_recipe_says(
    recipe: TrainingRecipe,
) -> None:
    import keras

    from kws.train.average import WeightAverage

    averaging = dataclasses.replace(
        recipe, training=dataclasses.replace(recipe.training, average_epochs=0.5)
    )
    network = recipe.build_network(keras)
    average = WeightAverage(network, averaging, steps_per_epoch=6)  # of three steps
    found = []
    for step, value in ((1, 1.0), (10, 5.0), (20, 8.0), (30, 5.0), (300, 8.0)):
        network.set_weights([np.full_like(w, value) for w in network.get_weights()])
        average.update(step)
        found.append(np.concatenate([w.ravel() for w in average.network.get_weights()]))
    third = 6.5 + (5 - 6.5) / 3
    for weights, wanted in zip(found, [1, 5, 6.5, third, third + (8 - third) / 3], strict=True):
        np.testing.assert_allclose(weights, wanted, rtol=1e-6)


def test_averaged_weights_are_kept_and_go_on_after_an_interruption(
    recipe: TrainingRecipe, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kws.train import average
    from kws.train.loop import train

    monkeypatch.setattr(average, "AVERAGED_SHARE", 1.0)  # there are few steps

    def epochs(n: int) -> TrainingRecipe:
        # A learning rate that does not depend on the number of epochs.
        training = dataclasses.replace(recipe.training, epochs=n, average_epochs=2.0)
        return dataclasses.replace(
            recipe, training=dataclasses.replace(training, learning_rate=1e-3, warmup_epochs=9)
        )

    straight, resumed = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "resumed")
    for run, stops in ((straight, [2]), (resumed, [1, 2])):
        run.path.mkdir()
        for n in stops:
            train(epochs(n), data, run, resume=n != stops[0])
    a, b = read_arrays(straight.last), read_arrays(resumed.last)
    for name in a:
        np.testing.assert_allclose(a[name], b[name], atol=1e-5, err_msg=name)
    names = list(read_arrays(straight.best))
    state = [v for v in a.values() if v.shape == read_arrays(straight.best)["lstm/0"].shape]
    assert names and not np.allclose(state[0], state[-1])  # the weights, and their average


def test_words_kept_unheard_are_in_validation_only(
    recipe: TrainingRecipe, data: TrainingData, real_speech: Path
) -> None:
    kept = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, unheard=("cat",)))
    without = load_training_data(kept, real_speech)
    assert "cat" in data.training.words and "cat" in data.validation.words
    assert "cat" not in without.training.words
    assert len(without.validation) == len(data.validation)
    with pytest.raises(KwsError, match="must not name keywords"):
        dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, unheard=("yes",)))


def test_a_network_learns_from_teachers_and_a_missing_one_is_one_line(
    tiny_recipe: Path, real_speech: Path, finished: Path, exported: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    command = ["train", str(tiny_recipe), "--data", str(real_speech), "--epochs", "1"]
    taught, missing = tmp_path / "taught", tmp_path / "missing"
    teachers = (str(finished), str(exported))
    given = [word for teacher in teachers for word in ("--teacher", teacher)]
    assert kws([*command, "--out", str(taught), *given]) == 0
    assert load_recipe(taught / "recipe.toml").training.teachers == teachers
    capsys.readouterr()
    assert kws([*command, "--out", str(missing), "--teacher", str(tmp_path / "nobody")]) == 1
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "'" + str(tmp_path / "nobody") + "'" in line and not missing.exists()
    assert line.startswith("kws: The network to start from or to learn from was not found")
    assert "the folder of a run" in line


def test_a_file_teaches_what_its_run_would_but_for_its_rounding(
    data: TrainingData, finished: Path, exported: Path
) -> None:
    import keras

    from kws.export.load_weights import load_teacher
    from kws.train.validation import posteriors_of
    from kws.train.weights import load_network_weights

    run, file = (load_teacher(one) for one in (finished, exported))
    assert file.recipe.model.create() == dataclasses.replace(
        run.recipe.model.create(), dropout=file.recipe.model.create().dropout
    )
    assert file.recipe.labels == run.recipe.labels
    assert file.recipe.clip_frames == run.recipe.clip_frames
    answers = []
    for teacher in (run, file):
        network = teacher.recipe.build_network(keras)
        load_network_weights(network, teacher.weights)
        answers.append(posteriors_of(network, teacher.features(data.validation.pcm)))
    assert np.ptp(answers[0], axis=0).max() > 0.2
    np.testing.assert_allclose(answers[1], answers[0], atol=0.02)


def test_a_runs_folder_teaches_on_jax_without_tensorflow(finished: Path) -> None:
    pytest.importorskip("jax")
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from kws.export.load_weights import load_teacher\n"
        f"print(len(load_teacher({str(finished)!r}).weights))"
    )
    env = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


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
    tiny_recipe: Path, real_speech: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "best.npz").read_bytes()
    arguments = ["train", str(tiny_recipe), "--data", str(real_speech), "--out", str(finished)]
    assert kws(arguments) == 1
    assert "--resume" in capsys.readouterr().err
    assert (finished / "best.npz").read_bytes() == before


def test_a_run_that_is_replaced_and_stopped_leaves_nothing_of_the_one_before(
    recipe: TrainingRecipe, data: TrainingData, finished: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from kws.train import loop

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    run = RunFolder(Path(shutil.copytree(finished, tmp_path / "run")))
    run.agreement.write_text("{}")
    monkeypatch.setattr(loop, "_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, data, run)
    left = {"recipe.toml", "features.json", "environment.json", "calibration.npz", "validation.npz"}
    assert {path.name for path in run.path.iterdir()} == left


def test_to_go_on_and_to_start_again_is_bad_usage(
    tiny_recipe: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--out", str(finished), "--resume", "--replace"]
    assert kws(["train", str(tiny_recipe), *options]) == 2
    assert "either --resume or --replace" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--seed", "9"], "with: seed = 1. Received: seed = 9"),
        (["--epochs", "2"], "with: epochs = 4. Received: epochs = 2"),
    ],
)
def test_resuming_with_another_recipe_is_refused_and_names_the_difference(
    options: list[str], complaint: str, tiny_recipe: Path, finished: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert kws(["train", str(tiny_recipe), "--out", str(finished), "--resume", *options]) == 1
    assert complaint in capsys.readouterr().err


def test_resuming_on_another_backend_is_refused_and_says_which_one_it_was_started_with(
    tiny_recipe: Path, real_speech: Path, finished: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("jax")
    began = keras.backend.backend()
    other = next(backend for backend in BACKENDS if backend != began)
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    monkeypatch.setenv("KERAS_BACKEND", began)  # which --backend sets: undone after the test
    arguments = ["train", str(tiny_recipe), "--data", str(real_speech), "--out", str(run)]
    assert kws([*arguments, "--resume", "--backend", other]) == 1
    message = capsys.readouterr().err
    assert f"started with the backend {began}. Received: {other}." in message
    assert f"Continue with --resume --backend {began}" in message
    assert message.count("\n") == 1
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.parametrize("environment", ['{"device": "jax on CPU (2 cores)"}', None])
def test_a_run_begun_with_an_older_version_is_not_resumed(
    environment: str | None, recipe: TrainingRecipe, finished: Path, tmp_path: Path
) -> None:
    run = RunFolder(Path(shutil.copytree(finished, tmp_path / "run")))
    run.environment.unlink()
    if environment is not None:
        run.environment.write_text(environment)
    for backend in BACKENDS:
        with pytest.raises(KwsError, match="begun with an older version of kws"):
            check_resumable(run, to_toml(recipe), backend)


@pytest.mark.parametrize(("others", "follows"), [(True, "verdict"), (False, "export")])
def test_the_next_command_can_be_pasted_and_is_a_verdict_only_where_other_speech_was_held_out(
    others: bool, follows: str, tiny_recipe: Path, real_speech: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    clips = tmp_path / "speech_commands"
    clips.mkdir()
    for word in ("yes", "no", "stop", *(["cat"] if others else [])):
        (clips / word).symlink_to(real_speech / "speech_commands" / word)
    mine = tmp_path / "mine.toml"
    mine.write_text(
        f'base = "{tiny_recipe}"\nname = "my model"\n[data]\nspeech = []\n[training]\nepochs = 1\n'
    )
    out = tmp_path / "my run"
    assert kws(["train", str(mine), "--data", str(tmp_path), "--out", str(out)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("next: ")
    command = shlex.split(last.removeprefix("next: "))
    assert command == ["kws", follows, str(out), "-o", str(tmp_path / "my model.tflite")]


def test_there_is_nothing_to_resume_before_the_first_whole_epoch(
    tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kws(["train", str(tiny_recipe), "--out", str(tmp_path), "--resume"]) == 1
    message = capsys.readouterr().err
    assert "nothing to resume" in message
    assert message.count("\n") == 1


def test_resuming_a_finished_run_trains_no_further_and_reports_it_again(
    tiny_recipe: Path, real_speech: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in finished.glob("*.npz")}
    figures = (finished / "metrics.json").read_bytes()
    arguments = ["train", str(tiny_recipe), "--data", str(real_speech), "--out", str(finished)]
    assert kws([*arguments, "--resume"]) == 0
    assert "of 4" in capsys.readouterr().out
    assert (finished / "metrics.json").read_bytes() == figures
    assert {path.name: path.read_bytes() for path in finished.glob("*.npz")} == before


@pytest.mark.parametrize("part", ["training", "validation"])
def test_a_run_does_not_go_on_with_other_recordings(
    part: str, recipe: TrainingRecipe, data: TrainingData, finished: Path
) -> None:
    from kws.train.loop import train

    clips = getattr(data, part)
    fewer = ClipSet(**{name: values[5:] for name, values in vars(clips).items()})
    spans = data.spans[5:] if part == "training" else data.spans
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    with pytest.raises(KwsError, match=r"was begun with other recordings.*--replace"):
        changed = dataclasses.replace(data, spans=spans, **{part: fewer})
        train(recipe, changed, RunFolder(finished), resume=True)
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_of_equally_good_epochs_the_last_is_kept() -> None:
    from kws.train.loop import best_epoch

    assert best_epoch([0.5, 0.75, 0.75, 0.7]) == 3


def test_a_disk_that_fills_up_costs_only_the_epoch_that_was_being_written(
    recipe: TrainingRecipe, data: TrainingData, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from kws.train import loop

    whole_epoch, sync = loop._epoch, os.fsync

    def fill_in_second(*arguments: object) -> dict[str, float]:
        if arguments[-1] == 2:
            monkeypatch.setattr(os, "fsync", full)
        return whole_epoch(*arguments)  # type: ignore[arg-type]

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = RunFolder(tmp_path)
    monkeypatch.setattr(loop, "_epoch", fill_in_second)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        loop.train(recipe, data, run)
    monkeypatch.setattr(os, "fsync", sync)
    said = capsys.readouterr().err
    assert "1 of 4 epochs are kept" in said
    assert "--resume" in said
    assert int(read_arrays(run.last)["epoch"]) == 1
    assert not list(tmp_path.glob(".*"))


def test_a_ctrl_c_between_two_epochs_says_what_is_kept_too(
    recipe: TrainingRecipe, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kws.train import loop

    said: list[str] = []

    def press_after_the_second(line: str) -> None:
        said.append(line)
        if line.startswith("epoch 2/4"):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(loop, "_say", press_after_the_second)
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, data, RunFolder(tmp_path))
    assert "2 of 4 epochs are kept" in said[-1]
    assert int(read_arrays(RunFolder(tmp_path).last)["epoch"]) == 2


def test_a_ctrl_c_that_a_library_swallows_ends_training_with_the_batch(
    recipe: TrainingRecipe, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kws.train import loop

    batches = []

    def swallow(chosen: np.ndarray) -> np.ndarray:
        batches.append(chosen)
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return data.training.pcm[chosen]

    monkeypatch.setattr("kws.train.batches.clip_source", lambda _: swallow)
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, data, RunFolder(tmp_path))
    assert len(batches) == 1


def test_a_loss_that_is_no_number_ends_training_and_keeps_what_was_good(
    recipe: TrainingRecipe, data: TrainingData, tmp_path: Path
) -> None:
    from kws.train.loop import train

    wild = dataclasses.replace(
        recipe.training, learning_rate=10.0, gradient_clip=1e9, weight_decay=1.0, epochs=50
    )
    with pytest.raises(KwsError, match=r"loss became .* in epoch .*lower \[training\]"):
        train(dataclasses.replace(recipe, training=wild), data, RunFolder(tmp_path))


def test_a_folder_without_the_words_is_refused_in_one_line(
    tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kws(["train", str(tiny_recipe), "--data", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert message.startswith("kws: ")
    assert message.count("\n") == 1
    assert str(tmp_path) in message


def test_the_kits_own_files_and_fetched_data_sets_are_no_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recipe of the demo learns from --data itself."""
    (tmp_path / "speech_commands" / "yes").mkdir(parents=True)
    monkeypatch.setenv("KWS_DATA", str(tmp_path))
    assert kws(["train", "demo", "--out", str(tmp_path / "run")]) == 1
    assert "No clips to train on. Received: no --data" in capsys.readouterr().err


def test_a_network_that_cannot_be_built_costs_no_earlier_run(
    tiny_recipe: Path, real_speech: Path, finished: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    faulty = tmp_path / "faulty.toml"
    model = '[model]\narchitecture = "cnn2d"\n[front_end]\nn_mfcc = 3\n'
    faulty.write_text(f'base = "{tiny_recipe}"\n[training]\ncontext_clips = 1\n{model}')
    options = ["--data", str(real_speech), "--out", str(run), "--replace"]
    assert kws(["train", str(faulty), *options]) == 1
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_the_jax_backend_trains_the_same_recipe(
    tiny_recipe: Path, real_speech: Path, tmp_path: Path
) -> None:
    pytest.importorskip("jax")
    changed = tmp_path / "changed.toml"
    changed.write_text(f'base = "{tiny_recipe}"\n[training]\nphone_weight = 0.5\n')
    command = [
        *(sys.executable, "-m", "kws", "train", str(changed), "--data", str(real_speech)),
        *("--out", str(tmp_path / "run"), "--epochs", "1", "--backend", "jax", "--json"),
    ]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    environment.pop("KERAS_BACKEND", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(done.stdout)["val_accuracy"] <= 1
    lines = [line for line in done.stderr.splitlines() if "phonemes" not in line]
    assert "jax on CPU" in lines[0]
    assert len(lines) == 2, lines  # and no output of a library
    weights = read_arrays(tmp_path / "run" / "best.npz")
    assert all(np.isfinite(w).all() for w in weights.values())


@pytest.mark.parametrize("stretch_speed", [0.0, 0.1])
def test_running_speech_and_nonwords_are_heard_in_training_and_in_the_stream_loss(
    stretch_speed: float, recipe: TrainingRecipe, real_speech: Path, tmp_path: Path
) -> None:
    from kws.train.batches import Batches
    from kws.train.loop import train

    changed = dataclasses.replace(
        recipe,
        data=dataclasses.replace(
            recipe.data, speech=("sentences",), nonwords=40, stretch_share=0.5
        ),
        augment=dataclasses.replace(recipe.augment, stretch_speed=stretch_speed),
        training=dataclasses.replace(recipe.training, epochs=1, stream_weight=0.5),
    )
    data = load_training_data(changed, real_speech)
    clips = changed.training.context_clips
    assert (data.training.words == "_nonword_").sum() == 40
    assert data.stretches.shape[1] == (clips + (stretch_speed > 0)) * 16000
    assert len(data.stretches)

    chosen = np.arange(8 * clips).reshape(8, clips)
    (pcm, variation), targets = Batches(data, changed).make(chosen, np.random.default_rng(0))
    assert pcm.shape == (12, clips, 16000) and variation.shape == (12, clips, 4)
    assert len(targets) == 12
    pcm, clip_pcm = np.asarray(pcm), data.training.pcm[chosen]
    np.testing.assert_array_equal(pcm[:8], clip_pcm)
    # Each added sequence has speech in at least one clip, on the clips' own grid unless it is cut
    # at a random place.
    on_grid = {clip.tobytes() for clip in data.stretches.reshape(-1, 16000)}
    clips_known = {clip.tobytes() for clip in data.training.pcm}
    for sequence in pcm[8:]:
        heard = {clip.tobytes() for clip in sequence}
        assert heard - clips_known - on_grid if stretch_speed else heard & on_grid
    assert 0 < train(changed, data, RunFolder(tmp_path)).val_accuracy <= 1


@pytest.fixture(scope="module")
def exported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tf_keras")
    model = tmp_path_factory.mktemp("model") / "tiny.tflite"
    assert kws(["export", str(finished), "-o", str(model), "--runtimes", "none"]) == 0
    return model


def no_learning(recipe: TrainingRecipe) -> TrainingRecipe:
    """One epoch that changes nothing."""
    still = dataclasses.replace(recipe.training, epochs=1, learning_rate=1e-9)
    return dataclasses.replace(recipe, training=still)


@pytest.mark.parametrize("kind", ["run", "int8 file"])
def test_training_that_starts_from_a_model_begins_where_that_one_ended(
    recipe: TrainingRecipe, data: TrainingData, finished: Path, exported: Path, kind: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    from kws.export.load_weights import load_start
    from kws.train.loop import train

    start = load_start(finished if kind == "run" else exported)
    result = train(no_learning(recipe), data, RunFolder(tmp_path), start=start)
    wanted = json.loads((finished / "metrics.json").read_text())["val_accuracy"]
    # The statistics of its normalisations are measured again, on other clips.
    assert result.val_accuracy == pytest.approx(wanted, abs=0.08)
    ours, theirs = (read_arrays(path / "best.npz") for path in (tmp_path, finished))
    for layer in ("lstm", "posteriors"):
        half_a_step = np.abs(theirs[f"{layer}/0"]).max() / 254
        np.testing.assert_allclose(
            ours[f"{layer}/0"],
            theirs[f"{layer}/0"],
            atol=1e-6 + (half_a_step if kind == "int8 file" else 0.0),
        )


def test_other_words_get_answers_of_their_own_and_layers_join_in_from_the_top(
    tiny_recipe: Path, real_speech: Path, finished: Path, tmp_path: Path
) -> None:
    from kws.export.load_weights import load_start

    path = tmp_path / "other.toml"
    path.write_text(
        f"base = {json.dumps(str(tiny_recipe))}\n"
        '[data]\nwords = ["go"]\nhead = "sigmoid"\n'
        "[training]\nunfreeze_epochs = 2.0\nweight_decay = 0.0\n"
    )
    out = tmp_path / "run"
    command = ["train", str(path), "--data", str(real_speech), "--from", str(finished)]
    assert kws([*command, "--out", str(out), "--epochs", "3"]) == 0
    # The LSTM was unfrozen after two epochs; the convolution below would be after four.
    start, last = load_start(finished).weights, read_arrays(out / "best.npz")
    assert last["posteriors/0"].shape == (8, 1)
    np.testing.assert_array_equal(last["conv_1/0"], start["conv_1"][0])


@pytest.mark.parametrize(
    ("change", "table"),
    [
        ("[model]\nlstm_units = 12", "[model] must have the sizes"),
        (
            "[model]\nconv_filters = [8]\nconv_kernels = [5]\nconv_strides = [1]",
            "[model] must have the layers",
        ),
        ("[front_end]\nn_mels = 32", "[front_end] must be that"),
    ],
)
def test_a_start_that_does_not_fit_is_refused_in_one_line(
    change: str, table: str, tiny_recipe: Path, real_speech: Path, finished: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def minutes(*_: object) -> None:
        raise AssertionError("it was only refused after the data was loaded")

    monkeypatch.setattr("kws.train.run.load_training_data", minutes)
    path = tmp_path / "other.toml"
    path.write_text(f"base = {json.dumps(str(tiny_recipe))}\n{change}\n")
    command = ["train", str(path), "--data", str(real_speech), "--out", str(tmp_path / "run")]
    assert kws([*command, "--from", str(finished)]) == 1
    assert f"{table} of {finished} to start from it" in capsys.readouterr().err.splitlines()[-1]
