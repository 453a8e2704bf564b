"""Downloading one large file completely and verified, resuming after interruptions.

Received bytes are in ``<file>.part`` until the size and the SHA-256 are right; only then is the
file renamed. A ``.part`` stays after a failure or Ctrl-C, and the next call continues it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kws.data.fetch.partial_file import kept, open_part
from kws.data.fetch.transfer import CHUNK, BrokenError, Job, RefusedError, check_scheme, transfer
from kws.errors import KwsError
from kws.system.progress import Progress, tell
from kws.wording import byte_size

_LONGEST_WAIT_S = 30.0
_MOST_TRIES = 100
"""Most attempts on a connection that keeps breaking off, even if each brings new bytes."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """A completed download."""

    path: Path
    """The complete file."""
    size_bytes: int
    """Its size."""
    sha256: str
    """Its SHA-256, computed from the file on disk."""
    verified: bool
    """Whether it was compared with a known checksum."""
    continued_from: int
    """Bytes that an earlier call had downloaded."""


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
    """Download a file, continuing an earlier call, and verify it.

    A partial file is continued only if the server confirms that it still has the same file
    (``If-Range`` with its ETag or date, ``206`` with the right ``Content-Range``); otherwise the
    download starts over.

    Args:
        urls: addresses (http, https, file) of the same file, tried in this order.
        destination: where it goes. If a file with the right checksum exists, nothing is done.
        size_bytes: its exact size. A server that offers another size is refused at once.
        sha256: its SHA-256 in hexadecimal; None if unknown, so that it cannot be verified.
        attempts: consecutive failures without a new byte before an address is given up.
        wait_s: pause before the second attempt; doubled each time, at most 30 s.
        timeout_s: silence of the server that counts as a failure.
        progress: show progress on stderr.
        say: receives messages; they go to stderr by default.

    Raises:
        KwsError: no address provided the file; it is the wrong file (it is removed); the disk is
            too small; another process is downloading it.
        KeyboardInterrupt: passed on; the partial file is kept.
    """
    target = Path(destination)
    talk = say or tell
    addresses = [urls] if isinstance(urls, str) else list(urls)
    for url in addresses:
        check_scheme(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        try:
            digest = verify(target, size_bytes=size_bytes, sha256=sha256, progress=progress)
        except KwsError as error:
            talk(f"{error}. Downloading it again")
        else:
            return Download(
                path=target,
                size_bytes=target.stat().st_size,
                sha256=digest,
                verified=sha256 is not None,
                continued_from=0,
            )
    with open_part(target) as part:
        job = Job(
            part=part,
            size_bytes=size_bytes,
            verifiable=sha256 is not None,
            timeout_s=timeout_s,
            progress=progress,
            say=talk,
        )
        digest, continued_from = _complete(target, addresses, job, sha256, attempts, wait_s)
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


def _complete(
    target: Path,
    urls: Sequence[str],
    job: Job,
    sha256: str | None,
    attempts: int,
    wait_s: float,
) -> tuple[str, int]:
    """Download the partial file to its end and verify it.

    Returns:
        Its SHA-256, and how many bytes of it were there before.
    """
    part = job.part
    # A wrong checksum after a download in pieces may be due to the pieces, so try once more.
    for last in (False, True):
        continued_from = part.size()
        if continued_from:
            job.say(f"{target.name}: continuing after {byte_size(continued_from)}")
        job.pieces = False
        _from_any(urls, job, attempts, wait_s)
        part.sync()
        try:
            digest = verify(
                part.path,
                size_bytes=job.size_bytes,
                sha256=sha256,
                progress=job.progress,
                name=target,
            )
            break
        except KwsError as error:
            part.start_over()
            if last or not job.pieces:
                raise KwsError(
                    f"{error}. The download was removed. Use another source (--mirror)"
                ) from error
            job.say(f"{error}. It arrived in pieces: starting over once")
    return digest, continued_from


def verify(
    path: str | os.PathLike[str],
    *,
    size_bytes: int | None = None,
    sha256: str | None = None,
    progress: bool = True,
    name: str | os.PathLike[str] | None = None,
) -> str:
    """Return the SHA-256 of a file after comparing it and the size with the expected ones.

    Args:
        path: the file.
        size_bytes: expected size, or None.
        sha256: expected SHA-256 in hexadecimal, or None.
        progress: show progress on stderr.
        name: name of the file in messages.

    Raises:
        KwsError: it is another file; states both checksums or both sizes.
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
                while block := file.read(CHUNK * 4):
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


def _from_any(urls: Sequence[str], job: Job, attempts: int, wait_s: float) -> None:
    reasons = []
    for url in urls:
        try:
            _with_retries(url, job, attempts, wait_s)
            return
        except RefusedError as error:
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
        "Check the connection, or use another source (--mirror, --from)"
    )


def _with_retries(url: str, job: Job, attempts: int, wait_s: float) -> None:
    failures = 0
    for _ in range(_MOST_TRIES):
        before = job.part.size()
        try:
            transfer(url, job)
            return
        except BrokenError as error:
            failures = 1 if job.part.size() > before else failures + 1
            if failures >= attempts:
                raise RefusedError(f"{error} ({attempts} attempts)") from error
            pause = min(wait_s * 2 ** (failures - 1), _LONGEST_WAIT_S)
            job.say(f"{error}; trying again in {pause:.2g} s")
            time.sleep(pause)
    raise RefusedError(f"the connection broke off {_MOST_TRIES} times")
