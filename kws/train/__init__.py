"""Training: from recordings and a recipe to a run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kws.recipe import TrainingRecipe
    from kws.train.loop import Result


def run_training(
    recipe: TrainingRecipe, data_dir: Path | None, folder: Path, *, resume: bool = False
) -> Result:
    """Load the data, train, and draw the pictures of the run.

    Args:
        recipe: what to learn and how.
        data_dir: holds the recipe's folders, see `kws.train.dataset.find_clips`.
        folder: of the run; made if need be.
        resume: go on with an interrupted run.

    Raises:
        KwsError: a package is missing, or see `kws.train.run_folder.check_resumable`,
            `kws.train.dataset.load_training_data` and `kws.train.loop.train`.
    """
    from kws.native import heed_interrupts, quiet_stderr
    from kws.recipe import to_toml
    from kws.report import check_picture, plot_curves
    from kws.train.dataset import load_training_data
    from kws.train.run_folder import RunFolder, check_resumable, read_json

    run = RunFolder(folder)
    check_picture(run / "curves.png")
    if resume:
        check_resumable(run, to_toml(recipe))
    data = load_training_data(recipe, data_dir)
    with heed_interrupts(), quiet_stderr():
        # Importing a backend, and asking it for devices, prints lines that help nobody.
        from kws.train.loop import device_name, train

        device_name()
    folder.mkdir(parents=True, exist_ok=True)
    result = train(recipe, data, run, resume=resume)
    plot_curves(read_json(run.history), run / "curves.png")
    return result
