"""Resident memory of this process; imports as little as it can, since that is memory, too."""

from __future__ import annotations

import sys


def resident_bytes() -> int | None:
    """Return the resident memory; None where the system does not report it."""
    return _status_bytes("VmRSS")


def peak_resident_bytes() -> int | None:
    """Return the largest resident memory so far; None where the system does not report it."""
    # Unlike ru_maxrss, this does not include the process that started this one.
    peak = _status_bytes("VmHWM")
    if peak is not None:
        return peak
    try:
        import resource
    except ImportError:
        return None
    # Bytes on macOS, kilobytes elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _status_bytes(name: str) -> int | None:
    """Return a figure that Linux reports about this process; None on other systems."""
    try:
        with open("/proc/self/status") as status:  # noqa: PTH123 (pathlib is memory, too)
            for line in status:
                if line.startswith(f"{name}:"):
                    return 1024 * int(line.split()[1])
    except OSError:
        pass
    return None
