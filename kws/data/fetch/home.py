"""The data home: the folder of fetched data sets, each in a folder of its name."""

from __future__ import annotations

import datetime
import errno
import fnmatch
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from kws.data.fetch.archive import BadArchiveError, safe_extract
from kws.data.fetch.catalog import DatasetRecipe, load_dataset_recipe
from kws.data.fetch.download import fetch, verify
from kws.data.fetch.partial_file import need_space
from kws.data.split import RECORD
from kws.errors import KwsError
from kws.system.cache import cache_place
from kws.system.files import hidden_folder, writable_folder
from kws.system.progress import tell


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """The result of `fetch_dataset`."""

    folder: Path
    """Folder of the data set."""
    already: bool
    """Whether it existed before."""
    source: str
    """Where it came from: an address, an archive, or the folder of another data set."""
    sha256: str | None
    """SHA-256 of the archive; None if there was no archive."""
    verified: bool
    """Whether that was compared with the checksum in the recipe."""
    files: int
    """Number of files written."""


def data_home(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return the data home: `folder`, else ``$KWS_DATA``, else ``data`` in the cache folder.

    It need not exist, and is not created.
    """
    chosen = os.fspath(folder) if folder is not None else os.environ.get("KWS_DATA")
    return Path(chosen).expanduser().absolute() if chosen else cache_place("data")


def _writable_home(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return the data home; created if missing.

    Raises:
        KwsError: it cannot be created or written to.
    """
    home = data_home(folder)
    if not writable_folder(home):
        raise KwsError(
            f"The data home is not writable. Received: {home}. Use a folder that is: with --to, or "
            "the environment variable KWS_DATA"
        )
    return home


def own_words(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return where recordings of your own words go: `folder`, else own_words in the data home.

    Raises:
        KwsError: no `folder`, and the data home is not writable.
    """
    return Path(folder) if folder is not None else _writable_home() / "own_words"


def dataset_folder(
    recipe: DatasetRecipe, home: str | os.PathLike[str] | None = None
) -> Path | None:
    """Return the folder of a data set, or None if it is not present.

    A folder created by hand counts if it has the folders that the recipe names.
    """
    folder = data_home(home) / recipe.name
    if (folder / RECORD).is_file() or (folder.is_dir() and not _missing(recipe, folder)):
        return folder
    return None


def fetch_dataset(
    recipe: DatasetRecipe,
    *,
    home: str | os.PathLike[str] | None = None,
    mirror: str | None = None,
    archive: str | os.PathLike[str] | None = None,
    keep_archive: bool = False,
    progress: bool = True,
    say: Callable[[str], None] | None = None,
    wait_s: float = 1.0,
) -> Fetched:
    """Fetch a data set to the data home, unless it is present.

    The archive is verified before it is unpacked; the folder appears only once it is complete.

    Args:
        recipe: the data set.
        home: the data home (see `data_home`); the data set goes to a folder of its name in it.
        mirror: address or folder to take the archive from instead (its file name is appended).
        archive: a local copy of the archive, which is only read.
        keep_archive: keep the downloaded archive after unpacking it.
        progress: show progress on stderr.
        say: receives messages; they go to stderr by default.
        wait_s: pause before the second attempt of a download.

    Raises:
        KwsError: the download, check or unpacking failed, or other files are in its place.
    """
    talk = say or tell
    root = data_home(home)
    folder = root / recipe.name
    if dataset_folder(recipe, root) is not None:
        return _result(folder, already=True, source=str(folder))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise KwsError(
            f"The place of {recipe.name} is taken. Received: {folder}, without "
            f"{', '.join(_missing(recipe, folder)[:3])}. Move it away or use another folder (--to)"
        )
    _writable_home(root)
    if recipe.part_of is not None and archive is None:
        whole = dataset_folder(load_dataset_recipe(recipe.part_of), root)
        if whole is not None:
            files = _copy_part(recipe, whole, folder)
            return _result(folder, source=str(whole), files=files)
    if archive is not None:
        got = _given_archive(recipe, root, Path(archive), progress)
    else:
        got = _downloaded_archive(recipe, root, mirror, progress, talk, wait_s)
    if recipe.sha256 is None:
        talk(
            f"{recipe.name} cannot be verified: {recipe.unverified_because}. "
            f"The SHA-256 of the archive is {got.sha256}"
        )
    try:
        files = _unpack(recipe, got, folder, progress)
    except BadArchiveError:
        if archive is None:  # otherwise the next call would find it and fail in the same way
            got.path.unlink()
        raise
    if archive is None and not keep_archive:
        got.path.unlink()
    return _result(
        folder,
        source=got.origin,
        sha256=got.sha256,
        verified=recipe.sha256 is not None,
        files=files,
    )


@dataclass(frozen=True, kw_only=True)
class _Archive:
    """An archive on disk, verified."""

    path: Path
    origin: str
    """Its address, or its path if it was given."""
    sha256: str


def _given_archive(recipe: DatasetRecipe, root: Path, path: Path, progress: bool) -> _Archive:
    if not path.is_file():
        raise KwsError(f"There is no such archive. Received: {path}")
    need_space(root, recipe.unpacked_limit_bytes, f"unpacking {recipe.name}")
    digest = verify(path, size_bytes=recipe.size_bytes, sha256=recipe.sha256, progress=progress)
    return _Archive(path=path, origin=str(path.absolute()), sha256=digest)


def _downloaded_archive(
    recipe: DatasetRecipe,
    root: Path,
    mirror: str | None,
    progress: bool,
    say: Callable[[str], None],
    wait_s: float,
) -> _Archive:
    path = root / recipe.archive_name
    here = path if path.exists() else path.with_name(path.name + ".part")
    arrived = here.stat().st_size if here.exists() else 0
    need_space(
        root,
        max((recipe.size_bytes or 0) - arrived, 0) + recipe.unpacked_limit_bytes,
        f"downloading and unpacking {recipe.name}",
    )
    urls = (_from_mirror(mirror, recipe.archive_name),) if mirror else recipe.urls
    download = fetch(
        urls,
        path,
        size_bytes=recipe.size_bytes,
        sha256=recipe.sha256,
        progress=progress,
        say=say,
        wait_s=wait_s,
    )
    return _Archive(path=path, origin=urls[0], sha256=download.sha256)


def _unpack(recipe: DatasetRecipe, archive: _Archive, folder: Path, progress: bool) -> int:
    """Unpack an archive to the data set's folder and return the number of files."""

    def finish(unpacked: Path) -> None:
        if missing := _missing(recipe, unpacked):
            raise BadArchiveError(
                f"{archive.path}: the archive does not contain {recipe.name}: the folders "
                f"{', '.join(missing[:5])} are missing. Nothing of it was kept"
            )
        _write_record(recipe, unpacked, archive.origin, archive.sha256)

    return safe_extract(
        archive.path,
        folder,
        limit_bytes=recipe.unpacked_limit_bytes,
        include=recipe.include,
        finish=finish,
        progress=progress,
    ).files


def _result(
    folder: Path,
    *,
    source: str,
    already: bool = False,
    sha256: str | None = None,
    verified: bool = False,
    files: int = 0,
) -> Fetched:
    return Fetched(
        folder=folder,
        already=already,
        source=source,
        sha256=sha256,
        verified=verified,
        files=files,
    )


def _missing(recipe: DatasetRecipe, folder: Path) -> list[str]:
    return [label for label in recipe.labels if not (folder / label).is_dir()]


def _from_mirror(mirror: str, archive_name: str) -> str:
    base = mirror if "://" in mirror else Path(mirror).expanduser().absolute().as_uri()
    return f"{base.rstrip('/')}/{quote(archive_name)}"


def _copy_part(recipe: DatasetRecipe, whole: Path, folder: Path) -> int:
    """Copy what a recipe includes from the data set that it is a part of."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = hidden_folder(folder)
    try:
        hidden.mkdir()
        files = 0
        # Only the top folders that a pattern can match: the whole may hold 100,000 files.
        for top in sorted({pattern.split("/")[0] for pattern in recipe.include}):
            for path in sorted(found for place in whole.glob(top) for found in place.rglob("*")):
                name = path.relative_to(whole)
                if path.is_file() and any(
                    fnmatch.fnmatchcase(name.as_posix(), pattern) for pattern in recipe.include
                ):
                    (hidden / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, hidden / name)
                    files += 1
        _write_record(recipe, hidden, str(whole), None)
        if folder.exists():
            folder.rmdir()
        hidden.replace(folder)
    except BaseException as error:
        shutil.rmtree(hidden, ignore_errors=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise KwsError(
                f"The disk is full: could not copy {recipe.name} to {folder.parent}. "
                "Free some space and run it again"
            ) from error
        raise
    return files


def _write_record(recipe: DatasetRecipe, folder: Path, source: str, sha256: str | None) -> None:
    content = {
        "name": recipe.name,
        "source": source,
        "sha256": sha256,
        "verified": sha256 is not None and sha256 == recipe.sha256,
        "split": recipe.split,
        "licence": recipe.licence,
        "citation": recipe.citation,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    (folder / RECORD).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
