"""A finished training run, read back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError
from kws.frontend import features_of
from kws.recipe import TrainingRecipe, load_recipe
from kws.train.run_folder import RunFolder, read_arrays, read_json


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """What a run produced."""

    path: Path
    """The run's folder."""
    recipe: TrainingRecipe
    """What was trained, and how."""
    recipe_sha256: str
    """Hash of the recipe's text."""
    weights: dict[str, NDArray[np.float32]]
    """Weights of the best epoch as ``<layer>/<i>``."""
    mean: NDArray[np.float64]
    """Mean of each coefficient [n_features]."""
    std: NDArray[np.float64]
    """Standard deviation of each coefficient [n_features]."""
    metrics: dict[str, Any]
    """Figures of the training; empty if it was stopped before its last epoch."""
    folders: tuple[str, ...] = ()
    """Folders of the recipe that were trained on; all of the clips' in a run that does not say."""

    def features(self, pcm: NDArray[np.int16]) -> NDArray[np.float32]:
        """Return normalised MFCC, int16 [..., samples] → float32 [..., frames, n_features]."""
        raw = features_of(pcm, self.recipe.front_end)
        return ((raw - self.mean) / self.std).astype(np.float32)


def load_run(folder: str | Path) -> TrainedRun:
    """Read a run's folder.

    Raises:
        KwsError: no such folder, not trained yet, or a damaged file.
    """
    run = RunFolder(Path(folder))
    if not run.path.is_dir():
        raise KwsError(f"No such run. Received: {run.path}. Make one with: kws train RECIPE")
    if not run.best.is_file():
        raise KwsError(
            f"{run.path} holds no trained weights: {run.best.name} is missing. Train with: "
            f"kws train RECIPE --out {run.path}"
        )
    if not run.recipe.is_file():
        raise KwsError(f"{run.path} is incomplete: {run.recipe.name} is missing. Train again")
    recipe = load_recipe(run.recipe)
    statistics = read_json(run.features)
    try:
        mean, std = (np.array(statistics[key], np.float64) for key in ("mean", "std"))
    except (KeyError, TypeError, ValueError) as error:
        raise KwsError(f"{run.features} is damaged ({error}). Train again") from error
    n_features = recipe.front_end.n_features
    good = mean.shape == std.shape == (n_features,) and np.isfinite(mean).all() and (std > 0).all()
    if not good or not np.isfinite(std).all():
        raise KwsError(
            f"{run.features} is damaged: mean and std should be {n_features} finite numbers "
            "each. Train again"
        )
    return TrainedRun(
        path=run.path,
        recipe=recipe,
        recipe_sha256=hashlib.sha256(run.recipe.read_bytes()).hexdigest(),
        weights=read_arrays(run.best),
        mean=mean,
        std=std,
        metrics=read_json(run.metrics) if run.metrics.is_file() else {},
        folders=_folders(run, recipe),
    )


def _folders(run: RunFolder, recipe: TrainingRecipe) -> tuple[str, ...]:
    said = run.made_with().get("folders")
    if isinstance(said, list) and said and all(isinstance(name, str) for name in said):
        return tuple(said)
    return recipe.data.folders


def check_teachers(teachers: Sequence[TrainedRun], recipe: TrainingRecipe) -> None:
    """Make sure that the teachers have the recipe's clips and labels; features may differ.

    Raises:
        KwsError: other labels, or clips of another length.
    """
    for teacher in teachers:
        other = teacher.recipe
        # A model file holds only the number of frames in its clips, not their length.
        frames = other.front_end.n_frames(recipe.clip_samples)
        for what, theirs, ours in (
            ("labels", other.labels.labels, recipe.labels.labels),
            ("frames in a clip", other.clip_frames, frames),
        ):
            if theirs != ours:
                raise KwsError(
                    f"A teacher must have the recipe's {what}. Received: {teacher.path} with "
                    f"{theirs}. Expected: {ours}"
                )


def calibration_clips(run: TrainedRun) -> NDArray[np.int16]:
    """Return the training clips that set the ranges of an int8 file, int16 [n, clip_samples].

    Raises:
        KwsError: they are missing or damaged.
    """
    return _clips(run, "calibration.npz")[0]


def validation_set(run: TrainedRun) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Return the clips that forms and runtimes are compared on.

    Returns:
        pcm int16 [n, clip_samples], and labels int64 [n]: positions in the label set; with a wake
        word, -1 for everything else.

    Raises:
        KwsError: they are missing or damaged.
    """
    pcm, arrays = _clips(run, "validation.npz")
    labels = arrays.get("labels")
    if labels is None or labels.shape != (len(pcm),):
        raise KwsError(
            f"{run.path / 'validation.npz'} does not hold one label per clip. Train again"
        )
    return pcm, labels.astype(np.int64)


def validation_labels(run: TrainedRun) -> NDArray[np.int64]:
    """Return only the labels of `validation_set`, which is quicker; raises as it does."""
    labels = read_arrays(run.path / "validation.npz", "labels").get("labels")
    if labels is None or labels.ndim != 1:
        raise KwsError(
            f"{run.path / 'validation.npz'} does not hold one label per clip. Train again"
        )
    return labels.astype(np.int64)


def _clips(run: TrainedRun, name: str) -> tuple[NDArray[np.int16], dict[str, NDArray]]:
    arrays = read_arrays(run.path / name)
    pcm = arrays.get("pcm")
    if pcm is None or pcm.dtype != np.int16 or pcm.ndim != 2 or not len(pcm):
        raise KwsError(f"{run.path / name} holds no clips (int16 [n, samples]). Train again")
    if pcm.shape[1] != run.recipe.clip_samples:
        raise KwsError(
            f"{run.path / name} does not fit the recipe. Received: clips of {pcm.shape[1]} "
            f"samples, expected {run.recipe.clip_samples}. Train again"
        )
    return pcm, arrays
