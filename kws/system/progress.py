"""Messages on stderr: single lines, and the progress of long work with the time left."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from types import TracebackType
from typing import TextIO

from kws.wording import byte_size, duration

_REDRAW_S = 0.1
"""Shortest time between redraws on a terminal."""
_SPARSE_S = (10.0, 60.0)
"""Interval between lines in a log: grows from the first value to the second."""
_QUIET_S = 0.5
"""Shorter work prints nothing."""


class Progress:
    """Counts and shows progress: one rewritten line on a terminal, a few lines in a log.

    Example::

        with Progress(len(paths), "decoding clips", unit="clips") as progress:
            for path in paths:
                decode(path)
                progress.advance()

    prints ``decoding clips: 12,000 of 24,152 clips (50 %), 6,100 clips/s, 2 s left``. Work
    shorter than half a second prints nothing. `advance` may be called from any thread.

    Args:
        total: how much there is to do; None or 0 if unknown.
        what: what is being done, for example ``"decoding clips"``.
        unit: what is counted; ``"B"`` counts bytes and prints them as kB, MB or GB.
        done: what was done before (a resumed download); does not count towards the rate.
        shown: False prints nothing, so that callers need no second code path.
        stream: where to print; stderr by default.
    """

    def __init__(
        self,
        total: int | None,
        what: str,
        *,
        unit: str = "",
        done: int = 0,
        shown: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        self.total = total or None
        self.what = what
        self.unit = unit
        self.done = done
        self._before = done
        self._shown = shown
        self._stream = stream if stream is not None else sys.stderr
        self._tty = bool(getattr(self._stream, "isatty", lambda: False)())
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._interval = _REDRAW_S if self._tty else _SPARSE_S[0]
        self._next = self._start + (_QUIET_S if self._tty else _SPARSE_S[0])
        self._printed = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._shown:
            return
        with self._lock:
            if self._printed:
                self._print(last=True)

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count `n` more as done; `note` (a loss, a file name) is put at the end of the line."""
        with self._lock:
            self.done += n
            now = time.monotonic()
            if not self._shown or now < self._next:
                return
            if not self._tty and self._printed:
                self._interval = min(2 * self._interval, _SPARSE_S[1])
            self._next = now + self._interval
            self._print(note=note)

    def say(self, message: str) -> None:
        """Print a separate line without breaking the progress line."""
        with self._lock:
            clear = "\r\x1b[K" if self._tty and self._printed else ""
            self._write(f"{clear}{message}\n")

    def _print(self, note: str = "", last: bool = False) -> None:
        line = self._line(note)
        if self._tty:
            width = shutil.get_terminal_size().columns - 1
            self._write(f"\r\x1b[K{line[:width]}" + ("\n" if last else ""))
        else:
            self._write(f"{line}\n")
        self._printed = True

    def _line(self, note: str) -> str:
        elapsed = max(time.monotonic() - self._start, 1e-9)
        rate = (self.done - self._before) / elapsed
        unit = f" {self.unit}" if self.unit and self.unit != "B" else ""
        parts = []
        if self.total is None:
            parts.append(f"{self.what}: {self._count(self.done)}{unit}")
        else:
            percent = 100 * self.done // self.total
            parts.append(
                f"{self.what}: {self._count(self.done)} of {self._count(self.total)}{unit} "
                f"({percent} %)"
            )
        if rate > 0:
            speed = self._count(rate) if rate >= 10 or self.unit == "B" else f"{rate:.2g}"
            parts.append(f"{speed}{unit}/s")
        if self.total is not None and self.done >= self.total:
            parts.append(f"took {duration(elapsed)}")
        elif self.total is not None and rate > 0:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        if note:
            parts.append(note)
        return ", ".join(parts)

    def _count(self, n: float) -> str:
        return byte_size(n) if self.unit == "B" else f"{n:,.0f}"

    def _write(self, text: str) -> None:
        # A closed stderr must not stop the work.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


def tell(message: str) -> None:
    """Print a message on stderr, separate from results on stdout."""
    # A closed stderr must not stop the work.
    with contextlib.suppress(OSError, ValueError):
        print(f"kws: {message}", file=sys.stderr, flush=True)
