"""The folder of a training run: its files, and reading and writing them atomically."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from kws.errors import KwsError
from kws.system.files import atomic_write


@dataclass(frozen=True)
class RunFolder:
    """The files of a run; also `calibration.npz` and `validation.npz`, clips that export uses."""

    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def recipe(self) -> Path:
        """The recipe, with every default spelled out."""
        return self.path / "recipe.toml"

    @property
    def features(self) -> Path:
        """Mean and standard deviation of each coefficient."""
        return self.path / "features.json"

    @property
    def best(self) -> Path:
        """Weights of the best epoch, ``<layer>/<i>``."""
        return self.path / "best.npz"

    @property
    def last(self) -> Path:
        """Weights, optimiser and random state after the last whole epoch."""
        return self.path / "last.npz"

    @property
    def history(self) -> Path:
        """One list for each curve, with one entry per epoch."""
        return self.path / "history.json"

    @property
    def environment(self) -> Path:
        """What the run was made with: versions, backend, machine, folder of the recordings."""
        return self.path / "environment.json"

    def made_with(self) -> dict[str, Any]:
        """Read `environment`; empty if it is missing or no object."""
        content = read_json(self.environment) if self.environment.is_file() else None
        return content if isinstance(content, dict) else {}

    @property
    def metrics(self) -> Path:
        """Figures of the finished run; present only if the run is finished."""
        return self.path / "metrics.json"

    @property
    def curves(self) -> Path:
        """The history as a picture."""
        return self.path / "curves.png"

    @property
    def agreement(self) -> Path:
        """How well the exported forms agree; written by export."""
        return self.path / "agreement.json"

    def remove_results(self) -> None:
        """Remove files of an earlier run that could be mistaken for those of a new one."""
        results = (self.metrics, self.last, self.best, self.history, self.curves, self.agreement)
        for path in results:
            path.unlink(missing_ok=True)


def check_resumable(run: RunFolder, recipe: str, backend: str) -> None:
    """Make sure that a run can be continued.

    Args:
        run: the folder.
        recipe: the recipe to continue with, every default spelled out.
        backend: the backend of Keras to continue on.

    Raises:
        KwsError: the run has no whole epoch yet, or was made with another recipe, on another
            backend or by an older version.
    """
    if not run.last.is_file() or not run.recipe.is_file():
        raise KwsError(
            f"There is nothing to resume in {run.path}. Received: no {run.last.name}, which is "
            "written after the first whole epoch. Train without --resume"
        )
    lines = (run.recipe.read_text(encoding="utf-8").splitlines(), recipe.splitlines())
    for made_with, received in zip_longest(*lines, fillvalue="nothing"):
        if made_with != received:
            raise KwsError(
                f"{run.path} was not made with this recipe, but with: {made_with}. Received: "
                f"{received}. Give the same recipe, --epochs and --seed, or another --out"
            )
    started = run.made_with().get("backend")
    if started is None:
        raise KwsError(
            f"{run.path} was begun with an older version of kws, which chose clips and the best "
            "epoch in another way. Train without --resume, or give another --out"
        )
    if started != backend:
        raise KwsError(
            f"{run.path} was started with the backend {started}. Received: {backend}. "
            f"Continue with --resume --backend {started}, or give another --out"
        )


def trained_on(folder: str | Path) -> Path | None:
    """Return the folder that was searched for a run's recordings.

    None for fetched data sets, and for older runs, which do not record it.

    Raises:
        KwsError: the run's ``environment.json`` is missing or damaged.
    """
    path = RunFolder(Path(folder)).environment
    made_with = read_json(path)
    data = made_with.get("data") if isinstance(made_with, dict) else made_with
    if data is not None and not isinstance(data, str):
        raise KwsError(f"{path} is damaged: data should be a folder. Received: {data!r}")
    return None if data is None else Path(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path, "w") as file:
        file.write(text)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of a run.

    Raises:
        KwsError: missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise KwsError(
            f"{path.parent} is not a finished run: {path.name} is missing. Make one with kws train"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise KwsError(f"{path} is damaged ({error}). Train again") from error


def write_arrays(path: Path, arrays: dict[str, np.ndarray], *, compress: bool = False) -> None:
    """Write named arrays (.npz) atomically."""
    with atomic_write(path) as file:
        (np.savez_compressed if compress else np.savez)(file, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Read named arrays: all, or, if `names` are given, those of them that exist.

    Raises:
        KwsError: missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if name in names or not names}
    except FileNotFoundError as error:
        raise KwsError(
            f"{path.parent} is not a trained run: {path.name} is missing. Make one with kws train"
        ) from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise KwsError(f"{path} is damaged ({error}). Train again") from error
