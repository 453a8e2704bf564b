"""Workarounds for native libraries, which write to stderr and swallow Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from types import FrameType

from kws.errors import KwsError


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hold back what this process writes to stderr; show it only if the block fails.

    TensorFlow's converter writes from C++, bypassing `sys.stderr`, so the file descriptor itself is
    redirected. A KwsError explains itself, and Ctrl-C is not a failure: they show nothing.
    """
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # stderr is closed: nothing to hold back
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except KwsError:
            raise
        except Exception:
            _restore(saved)
            held.seek(0)
            with contextlib.suppress(OSError):
                os.write(2, held.read())
            raise
        finally:
            _restore(saved)
            os.close(saved)


@contextlib.contextmanager
def heed_interrupts() -> Iterator[None]:
    """Make sure that Ctrl-C inside the block is not lost: it takes effect at its end at the latest.

    A KeyboardInterrupt raised while TensorFlow calls back into Python, or in a destructor, is lost
    or arrives as another error. It is remembered and raised again at the end of the block; Python's
    message about the ignored one is not printed.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    before, complain = signal.getsignal(signal.SIGINT), sys.unraisablehook
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield  # signals cannot be handled here, or Ctrl-C is deliberately ignored
        return
    pressed = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        before(number, frame)

    def ignore_interrupts(unraisable: sys.UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            complain(unraisable)

    signal.signal(signal.SIGINT, remember)
    sys.unraisablehook = ignore_interrupts
    try:
        yield
    except Exception:
        # The native library may have turned the KeyboardInterrupt into this.
        if not pressed:
            raise
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = complain
    if pressed:
        raise KeyboardInterrupt


def _restore(saved: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os.dup2(saved, 2)
