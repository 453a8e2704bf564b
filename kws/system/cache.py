"""Where things that can be made again are kept between runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kws.errors import KwsError

CACHE_LIMIT_BYTES = 16 * 1024**3
"""`make_room` removes what was not used for longest when a cache room would grow past this."""


def cache_folder(room: str = "") -> Path:
    """Return the folder for cached files, made if need be.

    It is ``$KWS_CACHE`` where that is set, else the platform's user cache folder:
    ``$XDG_CACHE_HOME/kws`` or ``~/.cache/kws``, ``~/Library/Caches/kws`` on macOS,
    ``%LOCALAPPDATA%\\kws\\Cache`` on Windows.

    Args:
        room: name of a folder inside it, for one kind of files.

    Raises:
        KwsError: the folder cannot be made or written.
    """
    folder = _base() / room
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise KwsError(
            f"The cache folder cannot be written. Received: {folder}. "
            "Set the environment variable KWS_CACHE to a folder that can"
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
    """Return a name for what is made of files: another one as soon as a file changes.

    Args:
        kind: what is made of them.
        root: the folder that the paths are relative to, or a link to it.
        paths: the files; they count by their paths, sizes and modification times.
        settings: whatever else it depends on, as JSON has it.

    Returns:
        32 characters.
    """
    # Two links to one folder have the same files.
    digest = hashlib.sha256(json.dumps([kind, os.path.realpath(root), settings]).encode())
    for path in paths:
        try:
            info = os.stat(f"{root}/{path}")  # noqa: PTH116 (a Path for each of 100,000 is slow)
            version = f"{info.st_size}\0{info.st_mtime_ns}"
        except OSError:
            version = "missing"  # whoever reads it says so
        digest.update(os.fsencode(f"{path}\0{version}\0"))
    return digest.hexdigest()[:32]


def make_room(folder: Path, n_bytes: int, *, limit_bytes: int = CACHE_LIMIT_BYTES) -> None:
    """Remove the files of `folder` that were used longest ago until `n_bytes` more fit.

    What is in use elsewhere stays readable there (or, on Windows, stays). A file's modification
    time counts as its last use: readers of the cache touch what they read.
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
