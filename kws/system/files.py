"""Files written so that a reader sees the old content or the whole new one; files of settings."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from kws.errors import KwsError

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers that mean that there is no more room (for this user)."""


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` and rename it to `path` when the block ends well.

    If the block raises (a full disk, Ctrl-C, anything), the temporary file is removed and
    `path` is left as it was. Parent folders are made. A device or a pipe, such as ``/dev/null``,
    is written to and not replaced. Use as::

        with atomic_write("model.tflite") as file:
            file.write(content)

    Args:
        path: the final name.
        mode: ``"wb"`` or ``"w"`` (text is UTF-8).

    Raises:
        OSError: as the file system has it, but it names `path`, not the temporary file.
    """
    target = Path(path)
    encoding = None if "b" in mode else "utf-8"
    if _is_device(target):
        with target.open(mode, encoding=encoding) as file:
            yield file
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # The name is chosen before the file is made, so that Ctrl-C between the two leaves nothing.
    temporary = target.parent / f".{target.name}.{secrets.token_hex(4)}.part"
    try:
        with temporary.open(mode.replace("w", "x"), encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        # A failed write does not say what was written, and nobody knows the temporary file; whoever
        # reads the message wants to know.
        if isinstance(error, OSError) and (
            str(error.filename) == str(temporary)
            or (error.filename is None and error.errno in FULL_DISK)
        ):
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise


def check_output(path: Path) -> None:
    """Make sure, before long work, that a file can be written; missing folders are made then.

    Raises:
        KwsError: it is a folder, or where it is to lie nothing can be written.
    """
    if path.is_dir():
        raise KwsError(f"The output must be a file. Received: {path}, which is a folder")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not _is_device(path) and (not above.is_dir() or not os.access(above, os.W_OK)):
        what = "may not be written to" if above.is_dir() else "is a file"
        raise KwsError(
            f"The output needs a folder. Received: {path}, where {above} {what}. Choose another "
            "place"
        )


def _is_device(path: Path) -> bool:
    """Tell whether a path is that of a device or a pipe, which no file may take the place of."""
    return path.exists() and not path.is_file() and not path.is_dir()


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        KwsError: it cannot be read, or is no TOML; names the file and the line.
    """
    # Here, because the runner reads no settings.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        # Some editors begin a file with a byte order mark, which TOML does not know.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise KwsError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KwsError(f"{path}: is not valid TOML: {error}") from error


def hidden_folder(target: Path) -> Path:
    """Return a name beside `target` that nobody uses, to fill and then to rename to `target`.

    Only the name: who makes the folder inside a ``try`` can remove it whenever Ctrl-C comes.
    """
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
