"""Unpacking untrusted archives.

Nothing in an archive is trusted: a member can neither leave the folder, nor be a link or a device,
nor fill the disk, and a failure leaves nothing behind.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import fnmatch
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kws.errors import KwsError
from kws.system.files import hidden_folder
from kws.system.progress import Progress
from kws.wording import byte_size

_CHUNK = 1 << 18
_HEADER_LIMIT = 1 << 24
"""Largest part of a tar file that is read at once (long names, attributes)."""


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """What `safe_extract` wrote."""

    folder: Path
    """The unpacked folder."""
    files: int
    """Number of files."""
    size_bytes: int
    """Sum of their sizes."""


class BadArchiveError(KwsError):
    """The archive itself is bad, so keeping it is of no use."""


class _UnsafeError(Exception):
    """A member that must not be unpacked; the text says which and why."""


def safe_extract(
    archive: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    limit_bytes: int,
    limit_files: int = 1_000_000,
    include: Sequence[str] = (),
    finish: Callable[[Path], None] | None = None,
    progress: bool = True,
) -> Extracted:
    """Unpack a tar (also .gz, .bz2, .xz) or zip archive into a new folder.

    Everything is written to a hidden folder next to `target`, which is renamed to `target` at the
    end and removed on any failure, Ctrl-C included. Permissions, owners and times in the archive
    are ignored. Links of every kind are refused: data sets have none, and a link lets a later
    member leave the folder.

    Args:
        archive: the file; its format is detected from the content.
        target: a folder that does not exist yet (or is empty); parents are created.
        limit_bytes: largest total size to unpack.
        limit_files: largest number of files and folders to unpack.
        include: ``fnmatch`` patterns of the members to unpack; empty for all.
        finish: called with the hidden folder before it is renamed, to check or complete it.
        progress: show progress on stderr.

    Raises:
        BadArchiveError: it is damaged, has an unsafe member (absolute, ``..``, link, device,
            encrypted, duplicate) or is too large.
        KwsError: the target exists; the archive cannot be read; the disk is full.
    """
    source, folder = Path(archive), Path(target)
    if folder.is_symlink() or (folder.exists() and not _is_empty_folder(folder)):
        raise KwsError(
            f"Unpacking needs a new folder. Received: {folder}, which already exists. "
            "Move it away or choose another one"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = hidden_folder(folder)
    try:
        hidden.mkdir()
        writer = _Writer(hidden, limit_bytes, limit_files, include)
        with _bad_archive_errors(source):
            _unpack(source, writer, limit_bytes, progress)
        if finish is not None:
            finish(hidden)
        if folder.exists():
            folder.rmdir()
        hidden.replace(folder)
    except OSError as error:
        _remove(hidden)
        if error.errno == errno.ENOSPC:
            raise KwsError(
                f"The disk is full: could not unpack {source.name} into {folder.parent}. Received: "
                f"{byte_size(shutil.disk_usage(folder.parent).free)} free. Free some space and "
                "run it again"
            ) from error
        raise KwsError(f"{error.filename or source}: {error.strerror or error}") from error
    except BaseException:
        _remove(hidden)
        raise
    return Extracted(folder=folder, files=writer.files, size_bytes=writer.size_bytes)


@contextlib.contextmanager
def _bad_archive_errors(source: Path) -> Iterator[None]:
    """Turn what unpacking raises on a bad archive into a BadArchiveError."""
    try:
        yield
    except _UnsafeError as error:
        raise BadArchiveError(
            f"{source}: refused to unpack it: {error}. Nothing was kept"
        ) from error
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        gzip.BadGzipFile,
        EOFError,
        NotImplementedError,
        OverflowError,
        RecursionError,
        ValueError,
        struct.error,
    ) as error:
        raise BadArchiveError(
            f"{source}: the archive is damaged or in an unsupported format ({error}). "
            "Fetch it again"
        ) from error


def _unpack(source: Path, writer: _Writer, limit_bytes: int, progress: bool) -> None:
    with source.open("rb") as raw:
        size = os.fstat(raw.fileno()).st_size
        with Progress(size, f"unpacking {source.name}", unit="B", shown=progress) as shown:

            def tell_progress() -> None:
                shown.advance(max(raw.tell() - shown.done, 0))

            start = raw.read(6)
            raw.seek(0)
            if start.startswith(b"PK"):
                _unpack_zip(raw, writer, tell_progress)
            else:
                # Headers and padding add a few per cent to the bytes of clips. Members that are not
                # included are read too; their size is bounded by how far speech can be compressed.
                skipped = 50 * size if writer.include else 0
                stream_limit = 2 * limit_bytes + skipped + (1 << 26)
                _unpack_tar(_decompressed(raw, start), writer, stream_limit, tell_progress)


def _decompressed(raw: IO[bytes], start: bytes) -> Any:
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)
    if start.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    if start.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMAFile(raw)
    return raw


class _Writer:
    """Writes members into a folder and counts them; refuses unsafe ones."""

    def __init__(self, folder: Path, limit_bytes: int, limit_files: int, include: Sequence[str]):
        self.folder = folder
        self.files = 0
        self.size_bytes = 0
        self._members = 0
        self._limit_bytes = limit_bytes
        self._limit_files = limit_files
        self.include = include
        self._made: set[Path] = {folder}

    def place(self, name: str) -> Path | None:
        """Return where a member goes; None for the top folder and members that are not included."""
        self._members += 1
        if self._members > self._limit_files:
            raise _UnsafeError(f"it has more than {self._limit_files:,} members")
        parts = _safe_parts(name)
        if not parts:
            return None
        plain = "/".join(parts)
        if self.include and not any(fnmatch.fnmatchcase(plain, want) for want in self.include):
            return None
        return self.folder.joinpath(*parts)

    def make_folder(self, path: Path) -> None:
        if path not in self._made:
            try:
                path.mkdir(parents=True, exist_ok=True)
            except FileExistsError as error:
                raise _UnsafeError(f"member {_shown(path.name)} is both file and folder") from error
            self._made.add(path)

    def write(self, name: str, path: Path, stream: IO[bytes], stated_bytes: int) -> None:
        self.make_folder(path.parent)
        written = 0
        try:
            file = path.open("xb")
        except FileExistsError as error:
            raise _UnsafeError(f"member {_shown(name)} occurs twice") from error
        with file:
            while block := stream.read(_CHUNK):
                written += len(block)
                # Counts the bytes that really come, not those that the header states.
                if self.size_bytes + written > self._limit_bytes:
                    raise _UnsafeError(
                        f"it unpacks to more than the limit of {self._limit_bytes:,} bytes"
                    )
                file.write(block)
        if written != stated_bytes:
            raise EOFError(f"member {_shown(name)} has {written:,} of {stated_bytes:,} bytes")
        self.files += 1
        self.size_bytes += written


def _safe_parts(name: str) -> list[str]:
    """Split a member's name into folders and file, or refuse it."""
    if "\\" in name or any(ord(letter) < 32 for letter in name):
        raise _UnsafeError(
            f"member {_shown(name)} has a backslash or control character in its name"
        )
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise _UnsafeError(f"member {_shown(name)} has an absolute path")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _UnsafeError(f"member {_shown(name)} leads out of the folder")
    return parts


def _unpack_tar(
    stream: Any, writer: _Writer, stream_limit: int, tell_progress: Callable[[], None]
) -> None:
    bounded = _BoundedReader(stream, stream_limit)
    with tarfile.open(fileobj=bounded, mode="r:") as tar:  # type: ignore[call-overload]
        for member in _members(tar):
            name = member.name
            if member.issym() or member.islnk():
                raise _UnsafeError(f"member {_shown(name)} is a link to {_shown(member.linkname)}")
            path = writer.place(name)
            if member.isdir():
                if path is not None and not writer.include:
                    writer.make_folder(path)
            elif not member.isreg() or member.issparse():
                raise _UnsafeError(f"member {_shown(name)} is neither a plain file nor a folder")
            elif path is not None:
                content = tar.extractfile(member)
                assert content is not None
                with content:
                    writer.write(name, path, content, member.size)
            tell_progress()
    # tarfile treats a broken header as the end; the real end is a block of zeros.
    if len(bounded.latest) != tarfile.BLOCKSIZE or any(bounded.latest):
        raise EOFError("it is cut off or has a broken member header")
    # The rest is padding; reading it verifies the checksum at the end of a compressed file.
    while bounded.read(_CHUNK):
        pass


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        yield member
        # Otherwise tarfile keeps every member: 100 MB for 100,000 clips.
        tar.members.clear()  # type: ignore[attr-defined]


class _BoundedReader:
    """The reading half of a file that delivers at most `limit` bytes, against archive bombs."""

    def __init__(self, stream: Any, limit: int):
        self._stream = stream
        self._limit = limit
        self.latest = b""

    def tell(self) -> int:
        return int(self._stream.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and offset > self._limit:
            raise _UnsafeError("a member states an excessive size")
        return int(self._stream.seek(offset, whence))

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER_LIMIT:
            raise _UnsafeError("a member's header states an excessive size")
        self.latest = self._stream.read(size)
        if self.tell() > self._limit:
            raise _UnsafeError("it unpacks to far more than the limit")
        return self.latest


def _unpack_zip(raw: IO[bytes], writer: _Writer, tell_progress: Callable[[], None]) -> None:
    with zipfile.ZipFile(raw) as archive:
        for member in archive.infolist():
            # zipfile normalises `filename`; this is the name in the archive.
            name = member.orig_filename
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind == stat.S_IFLNK:
                raise _UnsafeError(f"member {_shown(name)} is a link")
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _UnsafeError(f"member {_shown(name)} is neither a plain file nor a folder")
            if member.flag_bits & 1:
                raise _UnsafeError(f"member {_shown(name)} is encrypted")
            path = writer.place(name)
            if path is None:
                continue
            if member.is_dir():
                if not writer.include:
                    writer.make_folder(path)
            else:
                with archive.open(member) as content:
                    writer.write(name, path, content, member.file_size)
            tell_progress()


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)
