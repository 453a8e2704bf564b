"""The partial file of a download: it grows, is continued, and belongs to one process at a time."""

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
    """The partial file, and beside it (``.part.json``) what the server said it was a part of."""

    def __init__(self, path: Path, file: IO[bytes]):
        self.path = path
        self.file = file
        self._origin_path = path.with_name(path.name + ".json")

    def size(self) -> int:
        """Return how many bytes have come."""
        return os.fstat(self.file.fileno()).st_size

    def write(self, block: bytes) -> None:
        """Append to it; a KwsError if the disk is full."""
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
        """Forget what has come."""
        self.forget_origin()
        self.file.seek(0)
        self.file.truncate()

    def sync(self) -> None:
        """Bring what was written to the disk itself, where the system can."""
        with contextlib.suppress(OSError):
            os.fsync(self.file.fileno())

    def origin(self) -> dict[str, Any]:
        """Return what is known of the whole: ``validator`` (ETag or date) and ``total``."""
        try:
            content = json.loads(self._origin_path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def remember_origin(self, validator: str | None, total: int | None) -> None:
        """Keep what the server said of the whole."""
        with atomic_write(self._origin_path, "w") as file:
            json.dump({"validator": validator, "total": total}, file)

    def forget_origin(self) -> None:
        """Forget it."""
        self._origin_path.unlink(missing_ok=True)


@contextlib.contextmanager
def open_part(target: Path) -> Iterator[PartFile]:
    """Open the partial file of `target` for this process alone; an empty one is removed again.

    Raises:
        KwsError: another process has it.
    """
    path = target.with_name(target.name + ".part")
    # Unbuffered: after Ctrl-C the file holds what was received. "a" would not let us start over.
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
    except ImportError:  # Windows: two downloads of one file at once end in a wrong sum
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
    # The other process may have finished, and renamed the file, while we were opening it.
    if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
        raise KwsError(
            f"Another process has just downloaded this file. Received: {path}. Run it again"
        )


def kept(part: Path) -> str:
    """Say how much of a download there is: ``"12.3 MB are kept in speech.tar.gz.part"``."""
    return f"{byte_size(part.stat().st_size)} are kept in {part}"


def need_space(folder: Path, n_bytes: int, what: str) -> None:
    """Raise a KwsError if `folder` (or the nearest parent that exists) has not `n_bytes` free."""
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < n_bytes:
        raise KwsError(
            f"Not enough space for {what}: it needs {byte_size(n_bytes)} in {folder}. "
            f"Received: {byte_size(free)} free. Free some space or name another folder"
        )
