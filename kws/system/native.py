"""Living with native libraries: they write to stderr, and they swallow Ctrl-C."""

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
    """Hold back what this process writes to stderr; show it after all if the block fails.

    TensorFlow's converter writes from C++ past `sys.stderr`, so the file descriptor itself leads
    elsewhere meanwhile. A KwsError explains itself, and Ctrl-C is no failure: they show nothing.
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
    """Make sure that a Ctrl-C inside the block ends it, at the latest where it ends anyway.

    A KeyboardInterrupt that is raised while TensorFlow calls back into Python, or in a destructor,
    is lost on its way, or arrives as another error. This remembers it, and raises it again at the
    end of the block; Python's complaint about the one that it had to ignore is not printed.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    before, complain = signal.getsignal(signal.SIGINT), sys.unraisablehook
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield  # signals are not ours to handle, or Ctrl-C is ignored on purpose
        return
    pressed = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        before(number, frame)

    def pass_over(unraisable: sys.UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            complain(unraisable)

    signal.signal(signal.SIGINT, remember)
    sys.unraisablehook = pass_over
    try:
        yield
    except Exception:
        # It may well be what the native library made of the KeyboardInterrupt.
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
