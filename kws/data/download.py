"""Downloading one large file so that it arrives whole, unchanged, and without starting over.

What has arrived is in ``<file>.part`` until the size and the SHA-256 are right; only then does the
file get its name. A ``.part`` stays after a failure or Ctrl-C, and the next call continues it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kws.errors import KwsError
from kws.files import atomic_write
from kws.progress import Progress, tell
from kws.wording import byte_size

_CHUNK = 1 << 18
_LONGEST_WAIT_S = 30.0
_MOST_TRIES = 100
"""A connection that breaks off again and again is given up after this many, whatever arrives."""
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that say nothing about the file, only about this moment."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """What `fetch` brought."""

    path: Path
    """The file, complete."""
    size_bytes: int
    """Its size."""
    sha256: str
    """Its SHA-256, as computed from what is on the disk."""
    verified: bool
    """Whether it was compared with a sum known beforehand."""
    continued_from: int
    """Bytes that were here from an earlier call."""


class _BrokenError(Exception):
    """The transfer failed in a way that may pass: try again."""


class _RefusedError(Exception):
    """This address will not give the file: try the next one."""


def fetch(
    urls: str | Sequence[str],
    destination: str | os.PathLike[str],
    *,
    size_bytes: int | None = None,
    sha256: str | None = None,
    attempts: int = 4,
    wait_s: float = 1.0,
    timeout_s: float = 30.0,
    progress: bool = True,
    say: Callable[[str], None] | None = None,
) -> Download:
    """Download a file, continue what an earlier call left, and verify it.

    A partial file is continued only if the server confirms that it still has the same file
    (``If-Range`` with its ETag or date, ``206`` with the right ``Content-Range``); otherwise the
    download starts over.

    Args:
        urls: addresses (http, https, file) of the same file, tried in this order.
        destination: where it goes. If a file with the right sum is there, nothing is done.
        size_bytes: its exact size. A server that offers another is refused at once.
        sha256: its SHA-256 in hexadecimal. None: it cannot be verified, and the result says so.
        attempts: failures in a row without a new byte before an address is given up.
        wait_s: pause before the second attempt; doubled each time, at most 30 s.
        timeout_s: silence of the server that counts as a failure.
        progress: say how far it is on stderr.
        say: takes lines of talk; they go to stderr by default.

    Raises:
        KwsError: no address gave the file; it is not the right file (it is removed); the disk
            is too small; another process is downloading it.
        KeyboardInterrupt: passed on; the partial file is kept.
    """
    target = Path(destination)
    talk = say or tell
    addresses = [urls] if isinstance(urls, str) else list(urls)
    for url in addresses:
        _check_scheme(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        try:
            digest = verify(target, size_bytes=size_bytes, sha256=sha256, progress=progress)
        except KwsError as error:
            talk(f"{error}. It is downloaded again")
        else:
            return Download(
                path=target,
                size_bytes=target.stat().st_size,
                sha256=digest,
                verified=sha256 is not None,
                continued_from=0,
            )
    with _open_part(target) as part:
        # A sum that is wrong after a download in pieces may be the fault of the pieces.
        for last in (False, True):
            continued_from = part.size()
            if continued_from:
                talk(f"{target.name}: continuing after {byte_size(continued_from)}")
            job = _Job(
                part=part,
                size_bytes=size_bytes,
                verifiable=sha256 is not None,
                timeout_s=timeout_s,
                progress=progress,
                say=talk,
            )
            _from_any(addresses, job, attempts, wait_s)
            part.sync()
            try:
                digest = verify(
                    part.path, size_bytes=size_bytes, sha256=sha256, progress=progress, name=target
                )
                break
            except KwsError as error:
                part.start_over()
                if last or not job.pieces:
                    raise KwsError(
                        f"{error}. What came was removed. Take the file from elsewhere (--mirror)"
                    ) from error
                talk(f"{error}. It came in pieces: starting over once")
        total = part.size()
        part.path.replace(target)
        part.forget_origin()
    return Download(
        path=target,
        size_bytes=total,
        sha256=digest,
        verified=sha256 is not None,
        continued_from=continued_from,
    )


def verify(
    path: str | os.PathLike[str],
    *,
    size_bytes: int | None = None,
    sha256: str | None = None,
    progress: bool = True,
    name: str | os.PathLike[str] | None = None,
) -> str:
    """Return the SHA-256 of a file after comparing it, and the size, with what is expected.

    Args:
        path: the file.
        size_bytes: expected size, or None.
        sha256: expected SHA-256 in hexadecimal, or None.
        progress: say how far it is on stderr.
        name: what to call the file in messages.

    Raises:
        KwsError: it is another file; the line states both sums or both sizes.
    """
    file_path, shown_name = Path(path), os.fspath(name or path)
    try:
        with file_path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size_bytes is not None and size != size_bytes:
                raise KwsError(
                    f"{shown_name} is not the right file: expected {size_bytes:,} bytes. "
                    f"Received: {size:,} bytes"
                )
            digest = hashlib.sha256()
            with Progress(size, f"checking {Path(shown_name).name}", unit="B", shown=progress) as p:
                while block := file.read(_CHUNK * 4):
                    digest.update(block)
                    p.advance(len(block))
    except OSError as error:
        raise KwsError(f"{shown_name}: cannot be read: {error.strerror}") from error
    if sha256 is not None and digest.hexdigest() != sha256.lower():
        raise KwsError(
            f"{shown_name} is not the right file: expected SHA-256 {sha256.lower()}. "
            f"Received: {digest.hexdigest()}"
        )
    return digest.hexdigest()


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


class _Part:
    """The partial file, and beside it (``.part.json``) what the server said it was a part of."""

    def __init__(self, path: Path, file: IO[bytes]):
        self.path = path
        self.file = file
        self._origin_path = path.with_name(path.name + ".json")

    def size(self) -> int:
        return os.fstat(self.file.fileno()).st_size

    def write(self, block: bytes) -> None:
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
        self.forget_origin()
        self.file.seek(0)
        self.file.truncate()

    def sync(self) -> None:
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
        with atomic_write(self._origin_path, "w") as file:
            json.dump({"validator": validator, "total": total}, file)

    def forget_origin(self) -> None:
        self._origin_path.unlink(missing_ok=True)


@contextlib.contextmanager
def _open_part(target: Path) -> Iterator[_Part]:
    path = target.with_name(target.name + ".part")
    # Unbuffered: after Ctrl-C the file holds what was received. "a" would not let us start over.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    with os.fdopen(handle, "r+b", buffering=0) as file:
        _lock(file, path)
        part = _Part(path, file)
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


@dataclass(kw_only=True)
class _Job:
    part: _Part
    size_bytes: int | None
    verifiable: bool
    timeout_s: float
    progress: bool
    say: Callable[[str], None]
    pieces: bool = False
    """Whether what is there now was put together from more than one answer."""


def _from_any(urls: Sequence[str], job: _Job, attempts: int, wait_s: float) -> None:
    reasons = []
    for url in urls:
        try:
            _with_retries(url, job, attempts, wait_s)
            return
        except _RefusedError as error:
            reasons.append(f"{url}: {error}")
            if len(urls) > 1 and url != urls[-1]:
                job.say(f"{url}: {error}; trying the next address")
        except KeyboardInterrupt:
            if job.part.size():
                job.say(f"{kept(job.part.path)}; the same command continues there")
            raise
    rest = f" {kept(job.part.path)}: the same command continues there." if job.part.size() else ""
    raise KwsError(
        f"The download failed.{rest} Received: {'; '.join(reasons)}. "
        "Check the connection, or take the file from elsewhere (--mirror, --from)"
    )


def _with_retries(url: str, job: _Job, attempts: int, wait_s: float) -> None:
    failures = 0
    for _ in range(_MOST_TRIES):
        before = job.part.size()
        try:
            _transfer(url, job)
            return
        except _BrokenError as error:
            failures = 1 if job.part.size() > before else failures + 1
            if failures >= attempts:
                raise _RefusedError(f"{error} ({attempts} attempts)") from error
            pause = min(wait_s * 2 ** (failures - 1), _LONGEST_WAIT_S)
            job.say(f"{error}; trying again in {pause:.2g} s")
            time.sleep(pause)
    raise _RefusedError(f"the connection broke off {_MOST_TRIES} times")


def _transfer(url: str, job: _Job) -> None:
    """Bring `job.part` to its full size from one answer of one server."""
    part = job.part
    if job.size_bytes is not None and part.size() > job.size_bytes:
        part.start_over()
    if job.size_bytes is not None and part.size() == job.size_bytes:
        job.pieces = True
        return
    if urllib.parse.urlsplit(url).scheme == "file":
        _copy(url, job)
        return
    origin = part.origin()
    validator = origin.get("validator")
    if part.size() and validator is None and not job.verifiable:
        part.start_over()  # nothing would notice if the file had changed
    have = part.size()
    headers = {"User-Agent": "kws", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator is not None:
            headers["If-Range"] = str(validator)
    with _opened(url, headers, job) as answer:
        total = _begin(answer, have, origin, job)
        done = part.size()
        part.file.seek(done)
        if total is not None:
            need_space(part.path.parent, total - done, part.path.name.removesuffix(".part"))
        _receive(answer, total, job)


def _begin(answer: Any, have: int, origin: dict[str, Any], job: _Job) -> int | None:
    """Decide whether the answer continues the partial file, and return the size of the whole."""
    part = job.part
    now = _validator(answer.headers)
    if answer.status == 206:
        first, total = _content_range(answer.headers.get("Content-Range"))
        same = (
            have > 0
            and first == have
            and origin.get("total") in (None, total)
            # Some servers send the range of a changed file in spite of If-Range.
            and (origin.get("validator") is None or now in (None, origin["validator"]))
        )
        if not same:
            part.start_over()
            raise _BrokenError("the server continued another file or at another place")
        _check_offer(total, job)
        job.pieces = True
        return total
    length = answer.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    _check_offer(total, job)
    if have:
        job.say("the server cannot continue (or the file there has changed): starting over")
        part.start_over()
    job.pieces = False
    part.remember_origin(now, total)
    return total if total is not None else job.size_bytes


def _check_offer(total: int | None, job: _Job) -> None:
    if total is not None and job.size_bytes is not None and total != job.size_bytes:
        raise _RefusedError(
            f"the server offers {total:,} bytes, but the file has {job.size_bytes:,}"
        )


def _receive(answer: Any, total: int | None, job: _Job) -> None:
    part = job.part
    done = part.size()
    name = part.path.name.removesuffix(".part")
    with Progress(total, f"downloading {name}", unit="B", done=done, shown=job.progress) as shown:
        while total is None or done < total:
            wanted = _CHUNK if total is None else min(_CHUNK, total - done)
            try:
                block = answer.read1(wanted)
            except (OSError, http.client.HTTPException) as error:
                raise _BrokenError(_reason(error)) from error
            if not block:
                break
            part.write(block)
            done += len(block)
            shown.advance(len(block))
    if total is not None and done < total:
        raise _BrokenError(f"the connection broke off after {done:,} of {total:,} bytes")


@contextlib.contextmanager
def _opened(url: str, headers: dict[str, str], job: _Job) -> Iterator[Any]:
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = _opener().open(request, timeout=job.timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the server's file is shorter than what we have
            job.part.start_over()
            raise _BrokenError("the server has no such part of the file") from error
        if error.code in _TRY_AGAIN:
            raise _BrokenError(f"the server answered {error.code} {error.reason}") from error
        raise _RefusedError(f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise _RefusedError(f"the server's certificate is not valid: {error.reason}") from error
        if not isinstance(error.reason, OSError):
            raise _RefusedError(str(error.reason)) from error
        raise _BrokenError(_reason(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(_reason(error)) from error
    except ValueError as error:  # an address that urllib cannot take apart
        raise _RefusedError(str(error)) from error
    with answer:
        yield answer


def _opener() -> urllib.request.OpenerDirector:
    # The usual opener also takes ftp and data addresses, to which a server could redirect us.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _copy(url: str, job: _Job) -> None:
    source = _local_path(url)
    part = job.part
    part.start_over()
    job.pieces = False
    try:
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            _check_offer(size, job)
            need_space(part.path.parent, size, part.path.name.removesuffix(".part"))
            with Progress(size, f"copying {source.name}", unit="B", shown=job.progress) as shown:
                while block := file.read(_CHUNK):
                    part.write(block)
                    shown.advance(len(block))
    except OSError as error:
        raise _RefusedError(error.strerror or str(error)) from error


def _local_path(url: str) -> Path:
    parts = urllib.parse.urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise _RefusedError("a file address must name this machine (file:///…)")
    return Path(urllib.request.url2pathname(parts.path))


def _check_scheme(url: str) -> None:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https", "file"):
        raise KwsError(
            f"Only http, https and file addresses can be fetched. Received: {url!r}. "
            "Write it like https://example.org/archive.tar.gz"
        )


def _validator(headers: Any) -> str | None:
    """Return what `If-Range` may hold: a strong ETag, else the date of the last change."""
    etag = headers.get("ETag")
    if etag is not None and not etag.startswith("W/"):
        return str(etag)
    date = headers.get("Last-Modified")
    return None if date is None else str(date)


def _content_range(value: str | None) -> tuple[int | None, int | None]:
    """Return first byte and total of ``bytes 100-199/200``; None for what is not stated."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", (value or "").strip())
    if match is None:
        return None, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def kept(part: Path) -> str:
    """Say how much of a download there is: ``"12.3 MB are kept in speech.tar.gz.part"``."""
    return f"{byte_size(part.stat().st_size)} are kept in {part}"


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the server did not answer in time"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection broke off"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
