"""Writing files so that a reader sees either the old content or the whole new content."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` and rename it to `path` when the block ends well.

    If the block raises (a full disk, Ctrl-C, anything), the temporary file is removed and
    `path` is left as it was. Parent folders are made. Use as::

        with atomic_write("model.tflite") as file:
            file.write(content)

    Args:
        path: the final name.
        mode: ``"wb"`` or ``"w"`` (text is UTF-8).
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The name is chosen before the file is made, so that Ctrl-C between the two leaves nothing.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        encoding = None if "b" in mode else "utf-8"
        with temporary.open(mode.replace("w", "x"), encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
