"""Training: from recordings and a recipe to a run's folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from kws.errors import KwsError

if TYPE_CHECKING:
    from kws.recipe import TrainingRecipe
    from kws.train.loop import Result
    from kws.train.start import Start
    from kws.train.trained import TrainedRun

BACKENDS = ("tensorflow", "jax")
"""Backends of Keras that training works on; the first is the default."""


def run_training(
    recipe: TrainingRecipe,
    data_dir: Path | None,
    folder: Path,
    *,
    start: Start | None = None,
    teachers: Sequence[TrainedRun] = (),
    resume: bool = False,
    devices: int | None = None,
) -> Result:
    """Load the data, train, and draw the pictures of the run.

    Args:
        recipe: what to learn and how.
        data_dir: holds the recipe's folders, see `kws.train.folders.find_clips`.
        folder: of the run; made if need be.
        start: the network to start from, if any.
        teachers: networks whose answers are learnt, too: those that the recipe names.
        resume: go on with an interrupted run.
        devices: how many share every batch; by default all accelerators that can.

    Raises:
        KwsError: a package is missing, or see `kws.train.run_folder.check_resumable`,
            `kws.train.start.Start.check`, `kws.train.background.check_background`,
            `kws.train.dataset.load_training_data`, `TrainingRecipe.build_network`,
            `kws.train.devices.choose_devices` and `kws.train.loop.train`.
    """
    from kws.recipe import to_toml
    from kws.report.style import check_picture
    from kws.report.training import plot_curves
    from kws.system.native import heed_interrupts, quiet_stderr
    from kws.train.background import check_background
    from kws.train.dataset import load_training_data
    from kws.train.run_folder import RunFolder, check_resumable, read_json
    from kws.train.trained import check_teachers

    run = RunFolder(folder)
    check_picture(run.curves)
    if resume:
        check_resumable(run, to_toml(recipe))
    if start is not None:
        with heed_interrupts(), quiet_stderr():
            start.check(recipe)
    check_teachers(teachers, recipe)
    check_background(recipe, data_dir)
    data = load_training_data(recipe, data_dir)
    with heed_interrupts(), quiet_stderr():
        import keras

        from kws.train.batches import batch_sequences
        from kws.train.devices import choose_devices, shared_by
        from kws.train.loop import train
    recipe.build_network(keras)  # an error that it raises must not cost an earlier run
    chosen = choose_devices(devices, batch_sequences(recipe, data))
    folder.mkdir(parents=True, exist_ok=True)
    with shared_by(chosen):
        result = train(recipe, data, run, start=start, teachers=teachers, resume=resume)
    plot_curves(read_json(run.history), run.curves)
    return result


def choose_backend(backend: str | None = None, *, extra: str = "train") -> None:
    """Choose Keras' backend; takes effect only before Keras is imported.

    Args:
        backend: ``"tensorflow"`` or ``"jax"``; by default ``$KERAS_BACKEND``, else tensorflow.
        extra: named where a package is missing.

    Raises:
        KwsError: an unknown backend, or its package is not installed.
    """
    wanted = backend or os.environ.get("KERAS_BACKEND") or BACKENDS[0]
    if wanted not in BACKENDS:
        raise KwsError(f"Unknown backend. Received: {wanted!r}. Use one of: {', '.join(BACKENDS)}")
    for package in ("keras", wanted):
        if find_spec(package) is None:
            what = "jax" if package == "jax" else f"'kws[{extra}]'"
            raise KwsError(
                f"Training needs the package {package!r}. Install it with: pip install {what}"
            )
    os.environ["KERAS_BACKEND"] = wanted
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
