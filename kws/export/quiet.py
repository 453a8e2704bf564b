"""Holding back what native libraries write to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

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


def _restore(saved: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os.dup2(saved, 2)
