"""Processor cores, and Python processes of our own to use them all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def usable_cores() -> int:
    """Return how many cores this process may use; in a container fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def child_environment() -> dict[str, str]:
    """Return the environment in which a Python process finds this package, and no impostors."""
    environment = dict(os.environ)
    home = str(Path(__file__).resolve().parents[1])
    paths = [home, *environment.get("PYTHONPATH", "").split(os.pathsep)]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    # Else a numpy.py in the folder where somebody stands would be taken for NumPy (Python 3.11+).
    environment["PYTHONSAFEPATH"] = "1"
    return environment


def start_worker(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a Python process that finds this package, with pipes for its input and output.

    A plain child instead of `multiprocessing`: it needs no guard in the caller's main module,
    copies no threads of TensorFlow, prints no traceback when Ctrl-C comes while it starts, and a
    crash in a C library is seen as one. Ctrl-C reaches the caller alone, which ends its workers.

    Args:
        code: what the process runs, as for ``python -c``.
        arguments: its ``sys.argv[1:]``.
    """
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment(),
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
