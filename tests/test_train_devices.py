"""What training runs on: which devices are chosen, and that several give the result of one.

The tests named `shared` run under jax on a CPU that acts as two devices, in a separate process
started by the last test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kws.cli import run as kws
from kws.errors import KwsError
from kws.recipe import TrainingRecipe, load_recipe
from kws.train.dataset import ClipSet, TrainingData
from kws.train.run_folder import RunFolder, read_arrays, read_json

keras = pytest.importorskip("keras")

from kws.train import batches, devices, loop  # noqa: E402

RECIPE = """
name = "shared"
[data]
words = ["yes", "no"]
stretch_share = 0.34
[model]
conv_filters = [8, 8]
lstm_units = 8
[augment]
room_share = 0.5
stretch_speed = 0.1
[training]
epochs = 2
batch_size = 18
context_clips = 2
phone_weight = 0.5
"""

GPUS = ["gpu:0", "gpu:1", "gpu:2", "gpu:3"]
TWO = ["cpu:0", "cpu:1"]
two_devices = pytest.mark.skipif(
    keras.backend.backend() != "jax" or keras.distribution.list_devices() != TWO,
    reason="runs in a process with two devices, see the last test",
)


Finds = Callable[[str, list[str]], None]


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> Finds:
    """Make Keras report another backend and other devices."""

    def pretend(backend: str, found: list[str]) -> None:
        monkeypatch.setattr(keras.backend, "backend", lambda: backend)
        monkeypatch.setattr(keras.distribution, "list_devices", lambda: found)

    return pretend


@pytest.mark.parametrize(
    ("backend", "found", "sequences", "chosen"),
    [
        ("jax", GPUS, 64, 4),
        ("jax", GPUS, 66, 3),
        ("jax", GPUS, 65, 1),
        ("tensorflow", GPUS, 64, 1),
        ("jax", GPUS[:1], 65, 1),
        ("jax", ["cpu:0", "cpu:1"], 64, 1),
    ],
)
def test_all_accelerators_that_can_be_used_are_and_one_line_says_why_some_are_not(
    backend: str, found: list[str], sequences: int, chosen: int, finds: Finds,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    finds(backend, found)
    assert devices.choose_devices(None, sequences) == found[:chosen]
    said = capsys.readouterr().err
    if found != GPUS or chosen == 4:
        assert not said
    else:
        assert said.startswith(f"kws: using {chosen} of 4 devices (gpu:0, gpu:1, gpu:2, gpu:3): ")
        assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("backend", "wanted", "sequences", "complaint"),
    [
        ("jax", 5, 64, r"at most the 4 that jax finds \(gpu:0.*gpu:3\)\. Received: 5"),
        ("jax", 4, 66, r"a divisor of the 66 sequences in a batch .* Received: 4"),
        ("tensorflow", 2, 64, r"1 with tensorflow; several need --backend jax\. Received: 2"),
    ],
)
def test_a_number_of_devices_that_cannot_be_used_is_refused(
    backend: str, wanted: int, sequences: int, complaint: str, finds: Finds
) -> None:
    finds(backend, GPUS)
    with pytest.raises(KwsError, match=complaint):
        devices.choose_devices(wanted, sequences)


def test_a_number_of_devices_that_is_asked_for_may_be_of_any_kind(finds: Finds) -> None:
    finds("jax", ["cpu:0", "cpu:1"])
    assert devices.choose_devices(2, 64) == ["cpu:0", "cpu:1"]
    finds("tensorflow", GPUS)
    assert devices.choose_devices(1, 65) == ["gpu:0"]


def test_the_command_refuses_devices_that_are_not_there_and_makes_no_run(
    real_speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "tiny.toml", tmp_path / "run"
    path.write_text(RECIPE.replace("[data]", '[data]\nclips = "speech_commands"'))
    command = ["train", str(path), "--data", str(real_speech), "--out", str(out)]
    assert kws([*command, "--devices", "7"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("kws: --devices must be at most the 1 that tensorflow finds (cpu:0).")
    assert not out.exists()


def test_one_of_several_accelerators_is_the_only_one_that_is_named(finds: Finds) -> None:
    finds("jax", GPUS)
    assert devices.device_name() == "jax on gpu:0"


def test_on_an_accelerator_the_set_is_held_there_and_else_in_main_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pcm = np.arange(60, dtype=np.int16).reshape(10, 6)
    chosen = np.array([[9, 0], [3, 3]])
    np.testing.assert_array_equal(devices.clip_source(pcm)(chosen), pcm[chosen])
    monkeypatch.setattr(devices, "accelerators", lambda: ["gpu:0"])
    picked = devices.clip_source(pcm)(chosen)
    assert keras.ops.is_tensor(picked)
    np.testing.assert_array_equal(picked, pcm[chosen])

    def full(_: object) -> None:
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory\nand many lines more")

    monkeypatch.setattr(keras.ops, "convert_to_tensor", full)
    np.testing.assert_array_equal(devices.clip_source(pcm)(chosen), pcm[chosen])
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> TrainingRecipe:
    path = tmp_path_factory.mktemp("recipe") / "shared.toml"
    path.write_text(RECIPE)
    return load_recipe(path)


@pytest.fixture(scope="module")
def data(recipe: TrainingRecipe) -> TrainingData:
    """Two words and two other kinds of clip, of noise."""
    rng, sounds = np.random.default_rng(0), np.random.default_rng(1)
    words = np.array(["yes", "no", "_silence_", "up"] * 16)

    def clips(n: int) -> ClipSet:
        labels = np.arange(n, dtype=np.int32) % len(recipe.labels.labels)
        pcm = rng.integers(-3000, 3000, (n, recipe.clip_samples)) * (1 + labels[:, None]) // 4
        return ClipSet(
            pcm=pcm.astype(np.int16),
            labels=labels,
            words=words[:n],
            generated=np.zeros(n, bool),
            phones=sounds.integers(-1, 40, (n, recipe.clip_samples // 160)).astype(np.int8),
        )

    return TrainingData(
        training=clips(64),
        spans=np.tile([4000, 12000], (64, 1)),
        validation=clips(13),
        noise=rng.integers(-900, 900, 48000).astype(np.int16),
        stretches=rng.integers(-900, 900, (5, 3 * recipe.clip_samples)).astype(np.int16),
        stretch_phones=sounds.integers(-1, 40, (5, 3, recipe.clip_samples // 160)).astype(np.int8),
        folder=None,
    )


def train_on(
    n: int, recipe: TrainingRecipe, data: TrainingData, run: RunFolder, *, resume: bool = False
) -> None:
    chosen = devices.choose_devices(n, batches.batch_sequences(recipe, data))
    with devices.shared_by(chosen):
        loop.train(recipe, data, run, resume=resume)


def test_a_batch_has_as_many_sequences_as_devices_are_chosen_for(
    recipe: TrainingRecipe, data: TrainingData
) -> None:
    chosen = np.arange(18).reshape(-1, 2)
    _, targets = batches.Batches(data, recipe).make(chosen, np.random.default_rng(0))
    assert len(targets) == batches.batch_sequences(recipe, data) == 12


def assert_alike(one: RunFolder, other: RunFolder) -> None:
    """Check that the figures and all variables are the same up to rounding."""
    curves, others = read_json(one.history), read_json(other.history)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        np.testing.assert_allclose(others[name], curves[name], rtol=1e-4, err_msg=name)
    for path in (one.last, one.best):
        weights, theirs = read_arrays(path), read_arrays(other / path.name)
        assert weights.keys() == theirs.keys()
        for name in weights:
            # An optimiser that divides by the gradient's size amplifies rounding.
            np.testing.assert_allclose(theirs[name], weights[name], atol=2e-3, err_msg=name)


@two_devices
def test_shared_training_gives_what_one_device_gives_and_goes_on_where_one_stopped(
    recipe: TrainingRecipe, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, stopped, two = (RunFolder(tmp_path / name) for name in ("one", "stopped", "two"))
    two.path.mkdir()
    one.path.mkdir()
    whole_epoch = loop._epoch

    def keep_the_first(*arguments: object) -> dict[str, float]:
        if arguments[-1] == 2:
            shutil.copytree(one.path, stopped.path)
        return whole_epoch(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "_epoch", keep_the_first)
    train_on(1, recipe, data, one)
    monkeypatch.setattr(loop, "_epoch", whole_epoch)
    train_on(2, recipe, data, two)
    assert_alike(one, two)
    assert len(read_json(stopped.history)["loss"]) == 1
    train_on(2, recipe, data, stopped, resume=True)
    assert_alike(one, stopped)
    assert read_json(one.environment)["device"].startswith("jax on CPU")
    for run in (two, stopped):
        assert read_json(run.environment)["device"] == "jax on 2 devices: cpu:0, cpu:1"


@two_devices
def test_a_shared_set_is_held_on_every_device() -> None:
    pcm = np.arange(60, dtype=np.int16).reshape(10, 6)
    chosen = np.array([[9, 0], [3, 3], [2, 1]])
    with devices.shared_by(TWO):
        picked = devices.clip_source(pcm)(chosen)
    assert len(picked.sharding.device_set) == 2
    np.testing.assert_array_equal(picked, pcm[chosen])


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="this is the run under jax")
def test_the_shared_tests_pass_on_two_devices() -> None:
    pytest.importorskip("jax", reason="sharing batches among devices needs jax")
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider"]
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        # Compiled without optimisation, in half the time.
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0",
    }
    done = subprocess.run(
        [*command, __file__, "-k", "shared"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "2 passed" in done.stdout
