"""Arrays of clips in the cache folder: written row by row, then memory-mapped."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from kws.errors import KwsError
from kws.system.cache import cache_or_temporary, make_room
from kws.system.files import atomic_write

FORMAT = 3
"""Changes when the same files would give a different array."""
_HEADER_BYTES = 128

Clips = npt.NDArray[np.int16]


class Rows:
    """An .npy file of int16 [count, clip_samples] that grows row by row."""

    def __init__(self, file: IO[bytes], clip_samples: int) -> None:
        self.count = 0
        self._file = file
        self._clip_samples = clip_samples
        file.write(b"\0" * _HEADER_BYTES)

    def append(self, clips: Clips) -> None:
        """Add int16 [m, clip_samples]."""
        self._file.write(np.ascontiguousarray(clips, "<i2").data)
        self.count += len(clips)

    def finish(self) -> None:
        """Write the header (NumPy format 1.0), now that the number of rows is known."""
        shape = (self.count, self._clip_samples)
        text = f"{{'descr': '<i2', 'fortran_order': False, 'shape': {shape}, }}"
        room = _HEADER_BYTES - 10
        content = text.encode().ljust(room - 1) + b"\n"
        self._file.seek(0)
        self._file.write(b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + content)


def cached(
    key: str,
    clip_samples: int,
    produce: Callable[[Rows], dict[str, npt.NDArray[Any]]],
    *,
    expected_rows: int,
) -> tuple[Clips, dict[str, npt.NDArray[Any]]]:
    """Return an array of clips with its other columns; produce them unless they are cached.

    Args:
        key: changes with everything that the result depends on (`kws.system.cache.files_key`).
        clip_samples: length of each row.
        produce: writes the rows and returns the other columns.
        expected_rows: approximate number of rows, to make room for them.

    Returns:
        int16 [n, clip_samples], read-only and memory-mapped, and the columns by name.

    Raises:
        KwsError: the written files cannot be read back.
    """
    folder = cache_or_temporary("arrays")
    rows_file, columns_file = folder / f"{key}.npy", folder / f"{key}.npz"
    if (stored := _stored(rows_file, columns_file)) is not None:
        return stored
    make_room(folder, 2 * expected_rows * clip_samples)
    with atomic_write(rows_file) as file:
        rows = Rows(file, clip_samples)
        columns = produce(rows)
        rows.finish()
        # The columns first: if the rows exist, the columns do too.
        with atomic_write(columns_file) as side:
            np.savez(side, **columns)  # type: ignore[arg-type]
    stored = _stored(rows_file, columns_file)
    if stored is None:
        raise KwsError(
            f"The cache {rows_file} cannot be read back. Received: other content than was written. "
            "Set KWS_CACHE to a folder on another disk"
        )
    return stored


def _stored(rows: Path, columns: Path) -> tuple[Clips, dict[str, npt.NDArray[Any]]] | None:
    try:
        pcm = np.load(rows, mmap_mode="r", allow_pickle=False)
        with np.load(columns, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
        for path in (rows, columns):
            path.touch()  # counts as its last use
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return pcm, found
