"""One response of one server, appended to the partial file if it continues it."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kws.data.fetch.partial_file import PartFile, need_space
from kws.errors import KwsError
from kws.system.progress import Progress

CHUNK = 1 << 18
"""Bytes read at a time."""
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Status codes of temporary problems."""


class BrokenError(Exception):
    """The transfer failed temporarily: try again."""


class RefusedError(Exception):
    """This address does not provide the file: try the next one."""


@dataclass(kw_only=True)
class Job:
    """What to download, and how."""

    part: PartFile
    """Where it goes."""
    size_bytes: int | None
    """Its exact size, if known."""
    verifiable: bool
    """Whether its checksum is known, so that a mixture of two files would be noticed."""
    timeout_s: float
    """Silence of the server that counts as a failure."""
    progress: bool
    """Whether to show progress on stderr."""
    say: Callable[[str], None]
    """Receives messages."""
    pieces: bool = False
    """Whether the partial file consists of more than one response."""


def check_scheme(url: str) -> None:
    """Raise a KwsError for an address with an unsupported scheme."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https", "file"):
        raise KwsError(
            f"Only http, https and file addresses can be fetched. Received: {url!r}. "
            "Write it like https://example.org/archive.tar.gz"
        )


def transfer(url: str, job: Job) -> None:
    """Complete `job.part` from one response of one server.

    Raises:
        BrokenError: the next attempt may succeed.
        RefusedError: this address does not provide the file.
        KwsError: the disk is full or too small.
    """
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
        part.start_over()  # a change of the file would not be noticed
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


def _begin(answer: Any, have: int, origin: dict[str, Any], job: Job) -> int | None:
    """Decide whether the response continues the partial file; return the size of the whole."""
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
            raise BrokenError("the server continued another file or from another position")
        _check_offer(total, job)
        job.pieces = True
        return total
    length = answer.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    _check_offer(total, job)
    if have:
        job.say("the server cannot continue (or its file has changed): starting over")
        part.start_over()
    job.pieces = False
    part.remember_origin(now, total)
    return total if total is not None else job.size_bytes


def _check_offer(total: int | None, job: Job) -> None:
    if total is not None and job.size_bytes is not None and total != job.size_bytes:
        raise RefusedError(
            f"the server offers {total:,} bytes, but the file has {job.size_bytes:,}"
        )


def _receive(answer: Any, total: int | None, job: Job) -> None:
    part = job.part
    done = part.size()
    name = part.path.name.removesuffix(".part")
    with Progress(total, f"downloading {name}", unit="B", done=done, shown=job.progress) as shown:
        while total is None or done < total:
            wanted = CHUNK if total is None else min(CHUNK, total - done)
            try:
                block = answer.read1(wanted)
            except (OSError, http.client.HTTPException) as error:
                raise BrokenError(_reason(error)) from error
            if not block:
                break
            part.write(block)
            done += len(block)
            shown.advance(len(block))
    if total is not None and done < total:
        raise BrokenError(f"the connection broke off after {done:,} of {total:,} bytes")


@contextlib.contextmanager
def _opened(url: str, headers: dict[str, str], job: Job) -> Iterator[Any]:
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = _opener().open(request, timeout=job.timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the server's file is shorter than the partial one
            job.part.start_over()
            raise BrokenError("the server has no such part of the file") from error
        if error.code in _TRY_AGAIN:
            raise BrokenError(f"the server answered {error.code} {error.reason}") from error
        raise RefusedError(f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise RefusedError(f"the server's certificate is not valid: {error.reason}") from error
        if not isinstance(error.reason, OSError):
            raise RefusedError(str(error.reason)) from error
        raise BrokenError(_reason(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise BrokenError(_reason(error)) from error
    except ValueError as error:  # an address that urllib cannot parse
        raise RefusedError(str(error)) from error
    with answer:
        yield answer


def _opener() -> urllib.request.OpenerDirector:
    # The default opener also accepts ftp and data addresses, to which a server could redirect.
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


def _copy(url: str, job: Job) -> None:
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
                while block := file.read(CHUNK):
                    part.write(block)
                    shown.advance(len(block))
    except OSError as error:
        raise RefusedError(error.strerror or str(error)) from error


def _local_path(url: str) -> Path:
    parts = urllib.parse.urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise RefusedError("a file address must name this machine (file:///…)")
    return Path(urllib.request.url2pathname(parts.path))


def _validator(headers: Any) -> str | None:
    """Return the value for `If-Range`: a strong ETag, or the date of the last change."""
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


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the server did not answer in time"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection broke off"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
