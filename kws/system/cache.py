"""The cache folder, for files that can be recreated."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kws.errors import KwsError
from kws.system.files import writable_folder
from kws.system.progress import tell

CACHE_LIMIT_BYTES = 16 * 1024**3
"""`make_room` removes the least recently used files when a folder would exceed this."""


def cache_place(room: str = "") -> Path:
    """Return where the folder for cached files is, or would be; nothing is created.

    It is ``$KWS_CACHE`` if set, else the platform's user cache folder:
    ``$XDG_CACHE_HOME/kws`` or ``~/.cache/kws``, ``~/Library/Caches/kws`` on macOS,
    ``%LOCALAPPDATA%\\kws\\Cache`` on Windows.

    Args:
        room: name of a folder inside it, for one kind of file.
    """
    return _base() / room


def cache_folder(room: str = "") -> Path:
    """Return the folder for cached files, created if missing, at the place of `cache_place`.

    Raises:
        KwsError: the folder cannot be created or written to.
    """
    folder = cache_place(room)
    if not writable_folder(folder):
        raise KwsError(
            f"The cache folder is not writable. Received: {folder}. "
            "Set the environment variable KWS_CACHE to a folder that is"
        )
    return folder


def cache_or_temporary(room: str) -> Path:
    """Return the folder for cached files, or a temporary one if that is not writable.

    The temporary folder lasts until this process ends. A line on stderr says so once.
    """
    folder = cache_place(room)
    if writable_folder(folder):
        return folder
    own = Path(_temporary(_base()).name) / room
    own.mkdir(exist_ok=True)
    return own


@functools.cache
def _temporary(instead_of: Path) -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="kws-", ignore_cleanup_errors=True)
    tell(
        f"the cache folder {instead_of} is not writable: using {folder.name} until this command "
        "ends. To keep what takes long, set KWS_CACHE to a folder that is"
    )
    return folder


def _base() -> Path:
    if given := os.environ.get("KWS_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "kws" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "kws"
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "kws"
    return Path.home() / ".cache" / "kws"


def files_key(kind: str, root: Path, paths: Iterable[str], settings: Sequence[Any]) -> str:
    """Return a cache key for something made from files; it changes when a file changes.

    Args:
        kind: what is made from them.
        root: the folder that the paths are relative to, or a link to it.
        paths: the files, identified by path, size and modification time.
        settings: everything else that it depends on; must be valid JSON.

    Returns:
        32 characters.
    """
    # Two links to one folder lead to the same files.
    digest = hashlib.sha256(json.dumps([kind, os.path.realpath(root), settings]).encode())
    for path in paths:
        try:
            info = os.stat(f"{root}/{path}")  # noqa: PTH116 (a Path for each of 100,000 is slow)
            version = f"{info.st_size}\0{info.st_mtime_ns}"
        except OSError:
            version = "missing"  # reported when it is read
        digest.update(os.fsencode(f"{path}\0{version}\0"))
    return digest.hexdigest()[:32]


def make_room(folder: Path, n_bytes: int, *, limit_bytes: int = CACHE_LIMIT_BYTES) -> None:
    """Remove the least recently used files of `folder` until `n_bytes` more fit.

    Files in use elsewhere stay readable there (on Windows they are not removed). A file's
    modification time counts as its last use: readers of the cache touch what they read.
    """
    entries = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            info = path.stat()
            entries.append((info.st_mtime, info.st_size, path))
    total = n_bytes + sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= limit_bytes:
            return
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size
