"""Finds the folders that a recipe names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kws.data.fetch.home import data_home
from kws.errors import KwsError, some
from kws.labels import folded
from kws.recipe import TrainingRecipe
from kws.system.progress import tell


def find_folder(name: str, data_dir: Path | None) -> Path | None:
    """Find a folder of the recipe in `data_dir`, else among the fetched data sets.

    ``"."`` is `data_dir` itself.
    """
    if Path(name) == Path():
        return data_dir
    homes = [data_home()] if data_dir is None else [data_dir, data_home()]
    return next((home / name for home in homes if (home / name).is_dir()), None)


def first_folder(recipe: TrainingRecipe, data_dir: Path | None) -> Path:
    """Return where more recordings go: the recipe's first folder, even if it does not exist yet."""
    name, home = recipe.data.folders[0], data_home() if data_dir is None else data_dir
    not_there = home if len(recipe.data.folders) == 1 else home / name
    return named_folders(recipe, data_dir)[name] or not_there


def named_folders(recipe: TrainingRecipe, data_dir: Path | None) -> dict[str, Path | None]:
    """Return where each of the recipe's folders of <label>/<clip> is; None if it is missing.

    If the recipe names only one folder apart from the generated ones, and `data_dir` holds none of
    them, `data_dir` itself is that folder.
    """
    names = recipe.data.folders
    found = {name: find_folder(name, data_dir) for name in names}
    recorded = [name for name in names if name not in recipe.data.generated] or list(names)
    only = recorded[0] if len(recorded) == 1 else None
    if data_dir and only and not any((data_dir / name).is_dir() for name in names):
        found[only] = data_dir
    return found


def folders_of_other_kinds(recipe: TrainingRecipe) -> set[str]:
    """Return names of folders, beside those of the words, that hold no clips of a word, folded."""
    others = {*recipe.data.speech, *recipe.data.generated}
    return set(map(folded, others)) - set(map(folded, recipe.labels.keywords))


def folders_found(recipe: TrainingRecipe, data_dir: Path | None) -> tuple[str, ...]:
    """Return the names of those folders of the recipe that exist: clips first, then speech.

    If `data_dir` itself is the folder of clips, its own name stands for that in the recipe.
    """
    clips = named_folders(recipe, data_dir).values()
    found = [*clips, *(find_folder(name, data_dir) for name in recipe.data.speech)]
    return tuple(dict.fromkeys(at.name or at.resolve().name for at in found if at is not None))


def find_clips(
    recipe: TrainingRecipe, data_dir: Path | None, *, say: Callable[[str], None] = tell
) -> tuple[list[Path], list[Path]]:
    """Find the recipe's folders of <label>/<clip>: the recorded ones, and the generated ones.

    A folder lies in `data_dir` or among the fetched data sets (`named_folders`). Missing ones are
    reported and skipped, so that training can start before there are recordings.

    Args:
        recipe: names the folders.
        data_dir: where to look first.
        say: called with a line for each missing folder; by default it prints on stderr.

    Raises:
        KwsError: none of the folders exists.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise KwsError(
            f"--data must be a folder of recordings. Received: {data_dir}. Check the path"
        )
    found = named_folders(recipe, data_dir)
    missing = [name for name, folder in found.items() if folder is None]
    if len(missing) == len(found):
        given = "no --data" if data_dir is None else f"--data {data_dir}"
        raise KwsError(
            f"No clips to train on. Received: {given}, and no fetched data set "
            f"{some([repr(name) for name in missing])}. "
            'Give a folder, for example: --data "$(kws data fetch speech_commands_v0.02)"'
        )
    for name in missing:
        say(f"no folder {name!r} of clips found: continuing without it")
    recorded = [folder for name, folder in found.items() if name not in recipe.data.generated]
    generated = [found[name] for name in dict.fromkeys(recipe.data.generated)]
    return [f for f in recorded if f is not None], [f for f in generated if f is not None]
