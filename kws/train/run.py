"""One training run: load the data, train, draw the curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kws.recipe import TrainingRecipe, to_toml
from kws.report.style import check_picture
from kws.report.training import plot_curves
from kws.system.native import heed_interrupts, quiet_stderr
from kws.train.backend import chosen_backend
from kws.train.background import check_background
from kws.train.dataset import load_training_data
from kws.train.run_folder import RunFolder, check_resumable, read_json
from kws.train.trained import TrainedRun, check_teachers

if TYPE_CHECKING:
    from kws.train.loop import Result
    from kws.train.start import Start


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
    """Load the data, train, and draw the curves of the run.

    Args:
        recipe: what to learn and how.
        data_dir: where the recipe's folders are, see `kws.train.folders.find_clips`.
        folder: of the run; created if it does not exist.
        start: the network to start from, if any.
        teachers: the networks that the recipe names as teachers.
        resume: continue an interrupted run.
        devices: how many share every batch; by default all usable accelerators.

    Raises:
        KwsError: a package is missing, or see `kws.train.run_folder.check_resumable`,
            `kws.train.start.Start.check`, `kws.train.background.check_background`,
            `kws.train.dataset.load_training_data`, `TrainingRecipe.build_network`,
            `kws.train.devices.choose_devices` and `kws.train.loop.train`.
    """
    run = RunFolder(folder)
    check_picture(run.curves)
    if resume:
        check_resumable(run, to_toml(recipe), chosen_backend())
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
    recipe.build_network(keras)  # an error here must not cost an earlier run
    chosen = choose_devices(devices, batch_sequences(recipe, data))
    folder.mkdir(parents=True, exist_ok=True)
    with shared_by(chosen):
        result = train(recipe, data, run, start=start, teachers=teachers, resume=resume)
    plot_curves(read_json(run.history), run.curves, best_epoch=result.best_epoch)
    return result
