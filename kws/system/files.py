"""Files written atomically, names for files, and TOML files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from kws.errors import KwsError

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers for a full disk or an exhausted quota."""


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file next to `path` and rename it to `path` if the block succeeds.

    If the block raises (a full disk, Ctrl-C, anything), the temporary file is removed and
    `path` is left as it was. Parent folders are created. A device or a pipe, such as
    ``/dev/null``, is written to and not replaced. Use as::

        with atomic_write("model.tflite") as file:
            file.write(content)

    Args:
        path: the final name.
        mode: ``"wb"`` or ``"w"`` (text is UTF-8).

    Raises:
        OSError: from the file system, but naming `path`, not the temporary file.
    """
    target = Path(path)
    encoding = None if "b" in mode else "utf-8"
    if _is_device(target):
        with target.open(mode, encoding=encoding) as file:
            yield file
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # The name is chosen before the file is created, so that Ctrl-C in between leaves nothing.
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
        # A failed write names no file, and users do not know the temporary one.
        if isinstance(error, OSError) and (
            str(error.filename) == str(temporary)
            or (error.filename is None and error.errno in FULL_DISK)
        ):
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise


def check_output(path: Path) -> None:
    """Make sure, before long work, that a file can be written; its folders need not exist yet.

    Raises:
        KwsError: it is a folder, or its place is not writable.
    """
    if path.is_dir():
        raise KwsError(f"The output must be a file. Received: {path}, which is a folder")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not _is_device(path) and (not above.is_dir() or not os.access(above, os.W_OK)):
        what = "is not writable" if above.is_dir() else "is a file"
        raise KwsError(
            f"The output needs a folder. Received: {path}, where {above} {what}. Choose another "
            "place"
        )


def writable_folder(folder: Path) -> bool:
    """Create a folder, if it is missing, and return whether files can be created in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def plain_name(name: str) -> str:
    """Return a name that is valid in every file system: other characters become ``_``."""
    return re.sub(r"[^\w.+-]", "_", name).strip("._")


def recording_name(path: str | os.PathLike[str]) -> str:
    """Return a name for what comes from a recording, such as ``radio-1f3a``.

    The hash of its whole path tells it from recordings of the same name in other folders.
    """
    source = Path(path)
    digest = hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:4]
    return f"{plain_name(source.stem) or 'recording'}-{digest}"


def _is_device(path: Path) -> bool:
    """Whether a path is a device or a pipe, which must not be replaced by a file."""
    return path.exists() and not path.is_file() and not path.is_dir()


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        KwsError: it cannot be read or is not valid TOML; names the file and the line.
    """
    # Imported here because the runner reads no TOML.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        # Some editors write a byte order mark, which TOML does not allow.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise KwsError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KwsError(f"{path}: is not valid TOML: {error}") from error


def hidden_folder(target: Path) -> Path:
    """Return an unused name next to `target`, for a folder to fill and rename to `target`.

    Only the name: create the folder inside a ``try``, so that it is removed after Ctrl-C.
    """
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
