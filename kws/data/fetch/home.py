"""The data home: the folder where fetched data sets lie, each under its name."""

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
from kws.system.cache import cache_folder
from kws.system.files import hidden_folder
from kws.system.progress import tell


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What `fetch_dataset` did."""

    folder: Path
    """The data set."""
    already: bool
    """It was there before."""
    source: str
    """Where it came from: an address, an archive, or the folder of another data set."""
    sha256: str | None
    """SHA-256 of the archive; None if there was no archive to look at."""
    verified: bool
    """Whether that was compared with the sum in the recipe."""
    files: int
    """Number of files written."""


def data_home(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return the data home: `folder`, else ``$KWS_DATA``, else ``data`` in the cache folder."""
    chosen = os.fspath(folder) if folder is not None else os.environ.get("KWS_DATA")
    return Path(chosen).expanduser().absolute() if chosen else cache_folder("data")


def own_words(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return where recordings of one's own words go: `folder`, else own_words in the data home."""
    return Path(folder) if folder is not None else data_home() / "own_words"


def dataset_folder(
    recipe: DatasetRecipe, home: str | os.PathLike[str] | None = None
) -> Path | None:
    """Return where a data set lies, or None if it is not here.

    A folder put there by hand counts if it has the folders that the recipe names.
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
    """Bring a data set to the data home, unless it is there.

    The archive is verified before anything of it is unpacked; the folder appears only when it is
    complete.

    Args:
        recipe: which one.
        home: the data home (see `data_home`); the data set goes to a folder of its name in it.
        mirror: address or folder to take the archive from instead (its file name is appended).
        archive: the archive itself, already on this machine; it is read and left alone.
        keep_archive: keep the downloaded archive after unpacking it.
        progress: say how far it is on stderr.
        say: takes lines of talk; they go to stderr by default.
        wait_s: pause before the second attempt of a download.

    Raises:
        KwsError: from the download, the check or the unpacking; something else is in its place.
    """
    talk = say or tell
    root = data_home(home)
    folder = root / recipe.name
    if dataset_folder(recipe, root) is not None:
        return _result(folder, already=True, source=str(folder))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise KwsError(
            f"Something else is where {recipe.name} belongs. Received: {folder}, without "
            f"{', '.join(_missing(recipe, folder)[:3])}. Move it away or use another folder (--to)"
        )
    if recipe.part_of is not None and archive is None:
        whole = dataset_folder(load_dataset_recipe(recipe.part_of), root)
        if whole is not None:
            files = _copy_part(recipe, whole, folder)
            return _result(folder, source=str(whole), files=files)
    if archive is not None:
        source = Path(archive)
        if not source.is_file():
            raise KwsError(f"There is no such archive. Received: {source}")
        need_space(root, recipe.unpacked_limit_bytes, f"unpacking {recipe.name}")
        digest = verify(
            source, size_bytes=recipe.size_bytes, sha256=recipe.sha256, progress=progress
        )
        origin = str(source.absolute())
    else:
        source = root / recipe.archive_name
        here = source if source.exists() else source.with_name(source.name + ".part")
        arrived = here.stat().st_size if here.exists() else 0
        need_space(
            root,
            max((recipe.size_bytes or 0) - arrived, 0) + recipe.unpacked_limit_bytes,
            f"downloading and unpacking {recipe.name}",
        )
        urls = (_from_mirror(mirror, recipe.archive_name),) if mirror else recipe.urls
        digest = fetch(
            urls,
            source,
            size_bytes=recipe.size_bytes,
            sha256=recipe.sha256,
            progress=progress,
            say=talk,
            wait_s=wait_s,
        ).sha256
        origin = urls[0]
    if recipe.sha256 is None:
        talk(
            f"{recipe.name} cannot be verified: {recipe.unverified_because}. "
            f"The SHA-256 of what came is {digest}"
        )

    def finish(unpacked: Path) -> None:
        if missing := _missing(recipe, unpacked):
            raise BadArchiveError(
                f"{source}: the archive does not hold {recipe.name}: the folders "
                f"{', '.join(missing[:5])} are missing. Nothing was kept of it"
            )
        _write_record(recipe, unpacked, origin, digest)

    try:
        extracted = safe_extract(
            source,
            folder,
            limit_bytes=recipe.unpacked_limit_bytes,
            include=recipe.include,
            finish=finish,
            progress=progress,
        )
    except BadArchiveError:
        if archive is None:  # else the next call would find it and fail in the same way
            source.unlink()
        raise
    if archive is None and not keep_archive:
        source.unlink()
    return _result(
        folder,
        source=origin,
        sha256=digest,
        verified=recipe.sha256 is not None,
        files=extracted.files,
    )


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
    """Copy what a recipe includes out of the data set that it is a part of."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = hidden_folder(folder)
    try:
        hidden.mkdir()
        files = 0
        # Only the top folders that a pattern can lead into: the whole may hold 100,000 files.
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
