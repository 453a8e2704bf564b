"""The partial file of a download, which can be continued and belongs to one process at a time."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from kws.errors import KwsError
from kws.system.files import atomic_write
from kws.wording import byte_size


class PartFile:
    """The partial file, and next to it (``.part.json``) what the server said about the whole."""

    def __init__(self, path: Path, file: IO[bytes]):
        self.path = path
        self.file = file
        self._origin_path = path.with_name(path.name + ".json")

    def size(self) -> int:
        """Return how many bytes have arrived."""
        return os.fstat(self.file.fileno()).st_size

    def write(self, block: bytes) -> None:
        """Append to it.

        Raises:
            KwsError: the disk is full.
        """
        try:
            self.file.write(block)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise KwsError(
                f"The disk is full: {self.path.parent}. {kept(self.path)}. Free some space and run "
                "it again to continue"
            ) from error

    def start_over(self) -> None:
        """Discard everything."""
        self.forget_origin()
        self.file.seek(0)
        self.file.truncate()

    def sync(self) -> None:
        """Flush everything to disk, if the system can."""
        with contextlib.suppress(OSError):
            os.fsync(self.file.fileno())

    def origin(self) -> dict[str, Any]:
        """Return what is known about the whole: ``validator`` (ETag or date) and ``total``."""
        try:
            content = json.loads(self._origin_path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def remember_origin(self, validator: str | None, total: int | None) -> None:
        """Store what the server said about the whole."""
        with atomic_write(self._origin_path, "w") as file:
            json.dump({"validator": validator, "total": total}, file)

    def forget_origin(self) -> None:
        """Remove what the server said about the whole."""
        self._origin_path.unlink(missing_ok=True)


@contextlib.contextmanager
def open_part(target: Path) -> Iterator[PartFile]:
    """Open the partial file of `target` for this process alone; remove it if it stays empty.

    Raises:
        KwsError: another process uses it.
    """
    path = target.with_name(target.name + ".part")
    # Unbuffered, so that after Ctrl-C the file holds everything received. Mode "a" could not start
    # over.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    with os.fdopen(handle, "r+b", buffering=0) as file:
        _lock(file, path)
        part = PartFile(path, file)
        try:
            yield part
        finally:
            if path.exists() and part.size() == 0:
                path.unlink(missing_ok=True)
                part.forget_origin()


def _lock(file: IO[bytes], path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: two simultaneous downloads of a file end in a wrong checksum
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise KwsError(
            f"Another process is downloading this file. Received: {path}, which is in use. "
            "Wait until it is done"
        ) from error
    except OSError:  # a file system without locks
        return
    # Another process may have finished and renamed the file while it was being opened here.
    if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
        raise KwsError(
            f"Another process has just downloaded this file. Received: {path}. Run it again"
        )


def kept(part: Path) -> str:
    """Return how much of a download is kept: ``"12.3 MB are kept in speech.tar.gz.part"``."""
    return f"{byte_size(part.stat().st_size)} are kept in {part}"


def need_space(folder: Path, n_bytes: int, what: str) -> None:
    """Raise a KwsError if `folder` (or its nearest existing parent) lacks `n_bytes` of space."""
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < n_bytes:
        raise KwsError(
            f"Not enough space for {what}: it needs {byte_size(n_bytes)} in {folder}. "
            f"Received: {byte_size(free)} free. Free some space or use another folder"
        )
