"""Data sets that are known by name, each described by a TOML file in ``datasets/``."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from kws.errors import KwsError
from kws.system.files import read_toml

SPLIT_RULES = ("speaker_hash", "testing", "none")
"""How a data set is divided: ``speaker_hash`` (by its own lists, or the hash of the speaker's
name as in Speech Commands), ``testing`` (all of it is for measuring), ``none`` (not divided)."""


@dataclass(frozen=True, kw_only=True)
class DatasetRecipe:
    """Facts about one data set, read from a TOML file by `load_dataset_recipe`."""

    name: str
    """Name on the command line, and of the folder that it is unpacked to."""
    title: str
    """One line for the list of data sets."""
    description: str
    """A few sentences: its content and purpose."""
    urls: tuple[str, ...]
    """Addresses of the same archive, tried in this order."""
    size_bytes: int | None
    """Exact size of the archive; None if unconfirmed."""
    sha256: str | None
    """SHA-256 of the archive, 64 lower-case hexadecimal digits; None if unconfirmed."""
    unverified_because: str | None
    """Why there is no `sha256`; None if there is one."""
    facts_from: tuple[str, ...]
    """Public sources of the size and checksum."""
    unpacked_limit_bytes: int
    """Unpacking fails beyond this many bytes; also the disk space required."""
    licence: str
    """SPDX identifier."""
    citation: str
    """What to cite."""
    homepage: str
    """The authors' description."""
    sample_rate_hz: int
    """Sampling rate of the recordings."""
    clips: int | None
    """Number of recordings, as stated by the authors."""
    labels: tuple[str, ...]
    """Folders that the archive must contain, one for each label."""
    split: str
    """One of `SPLIT_RULES`."""
    layout: str
    """Where the files are, in words."""
    include: tuple[str, ...]
    """Patterns (``fnmatch``) of the members to unpack; empty for all."""
    part_of: str | None
    """Name of a data set with the same files, which are copied from it if it is present."""
    path: Path
    """The file that this was read from."""

    @property
    def archive_name(self) -> str:
        """File name of the archive, also on mirrors."""
        return _archive_name(self.urls[0])


_KINDS: dict[str, tuple[type, bool]] = {
    # key: (type of the value or of each list entry, whether it is a list)
    "name": (str, False),
    "title": (str, False),
    "description": (str, False),
    "urls": (str, True),
    "size_bytes": (int, False),
    "sha256": (str, False),
    "unverified_because": (str, False),
    "facts_from": (str, True),
    "unpacked_limit_bytes": (int, False),
    "licence": (str, False),
    "citation": (str, False),
    "homepage": (str, False),
    "sample_rate_hz": (int, False),
    "clips": (int, False),
    "labels": (str, True),
    "split": (str, False),
    "layout": (str, False),
    "include": (str, True),
    "part_of": (str, False),
}
_OPTIONAL: dict[str, Any] = {
    "size_bytes": None,
    "sha256": None,
    "unverified_because": None,
    "facts_from": (),
    "clips": None,
    "include": (),
    "part_of": None,
}
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def recipes_folder() -> Path:
    """Return the folder of the dataset recipes: inside the wheel, or ``datasets/`` of a checkout.

    Raises:
        KwsError: neither exists, so the installation is broken.
    """
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "_datasets", package.parent / "datasets"):
        if folder.is_dir():
            return folder
    raise KwsError(
        f"The dataset recipes are missing. Looked in {package / '_datasets'}. Reinstall kws"
    )


def dataset_names() -> list[str]:
    """Return the names of all known data sets, sorted."""
    return sorted(path.stem for path in recipes_folder().glob("*.toml"))


def list_dataset_recipes() -> list[DatasetRecipe]:
    """Return all recipes, sorted by name.

    Raises:
        KwsError: one of them is invalid.
    """
    return [load_dataset_recipe(name) for name in dataset_names()]


def load_dataset_recipe(name_or_path: str | os.PathLike[str]) -> DatasetRecipe:
    """Read one recipe.

    Args:
        name_or_path: a name from `dataset_names`, or the path of your own TOML file.

    Raises:
        KwsError: an unknown data set, or an error in the file; names the file and the key.

    Example::

        load_dataset_recipe("speech_commands_v0.02").size_bytes    # 2428923189
    """
    text = os.fspath(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or os.sep in text:
        path = Path(name_or_path)
    else:
        names = dataset_names()
        if text not in names:
            near = difflib.get_close_matches(text, names, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(names)}"
            raise KwsError(f"Unknown data set. Received: {text!r}. {hint}")
        path = recipes_folder() / f"{text}.toml"
    return _recipe(path, read_toml(path))


def _recipe(path: Path, content: dict[str, Any]) -> DatasetRecipe:
    values: dict[str, Any] = dict(_OPTIONAL)
    for key, value in content.items():
        if key not in _KINDS:
            near = difflib.get_close_matches(key, _KINDS, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(_KINDS)}"
            raise KwsError(f"{path}: unknown key {key!r}. {hint}")
        values[key] = _checked_kind(path, key, value)
    for key in _KINDS:
        if key not in values:
            raise KwsError(f"{path}: key {key!r} is missing")
    recipe = DatasetRecipe(**values, path=path)
    _check(recipe)
    return recipe


def _checked_kind(path: Path, key: str, value: Any) -> Any:
    kind, is_list = _KINDS[key]
    if is_list:
        if not isinstance(value, list) or not all(type(entry) is kind for entry in value):
            raise _fault(path, key, f"must be a list of {kind.__name__} values", value)
        return tuple(value)
    # Not isinstance: TOML's true is a bool, which Python counts as an int.
    if type(value) is not kind:
        raise _fault(path, key, f"must be of type {kind.__name__}", value)
    return value


def _check(recipe: DatasetRecipe) -> None:
    def need(good: bool, key: str, rule: str) -> None:
        if not good:
            raise _fault(recipe.path, key, rule, getattr(recipe, key))

    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if isinstance(value, str):
            need(bool(value.strip()), field.name, "must not be empty")
        elif type(value) is int:
            need(value > 0, field.name, "must be greater than zero")
        elif isinstance(value, tuple):
            need(all(entry.strip() for entry in value), field.name, "must not have empty entries")
    need(
        _NAME.fullmatch(recipe.name) is not None,
        "name",
        "must be lower-case letters, digits, '_', '.' and '-', beginning with a letter or digit",
    )
    # Users type the name, and the file is looked up by it.
    need(recipe.name == recipe.path.stem, "name", f"must be the file's name, {recipe.path.stem!r}")
    need(bool(recipe.urls), "urls", "must have at least one entry")
    for url in recipe.urls:
        need(
            urlsplit(url).scheme in ("https", "http", "file") and bool(_archive_name(url)),
            "urls",
            "must be https, http or file addresses that end in a file name",
        )
    need(
        recipe.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", recipe.sha256) is not None,
        "sha256",
        "must be 64 lower-case hexadecimal digits",
    )
    need(
        (recipe.sha256 is None) != (recipe.unverified_because is None),
        "unverified_because",
        "must be given if there is no 'sha256', and only then",
    )
    need(recipe.part_of is None or bool(recipe.include), "include", "must be given with 'part_of'")
    need(recipe.split in SPLIT_RULES, "split", f"must be one of {', '.join(SPLIT_RULES)}")
    need(bool(recipe.labels), "labels", "must have at least one entry")
    need(len(set(recipe.labels)) == len(recipe.labels), "labels", "must not name a label twice")


def _archive_name(url: str) -> str:
    return unquote(urlsplit(url).path).rpartition("/")[2]


def _fault(path: Path, key: str, rule: str, received: Any) -> KwsError:
    shown = list(received) if isinstance(received, tuple) else received
    return KwsError(f"{path}: key {key!r} {rule}. Received: {shown!r}")
