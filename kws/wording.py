"""How numbers are written in what users read."""

from __future__ import annotations


def counted(n: int, thing: str) -> str:
    """Return a number of things in words: ``1 clip``, ``2 clips``, ``1,000 clips``.

    Args:
        n: how many.
        thing: what one of them is called; more of them take an s.
    """
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a time for people: ``"8 s"``, ``"2:05 min"``, ``"1:01 h"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


def byte_size(n: float) -> str:
    """Return a number of bytes for people, in powers of 1,000: ``"1.5 kB"``, ``"2.3 GB"``."""
    for unit in ("B", "kB", "MB", "GB"):
        if round(n, 1) < 1000 or unit == "GB":  # 999.96 kB would be 1000.0 kB
            break
        n /= 1000
    return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"


def two_digits(value: float) -> str:
    """Return a number to two digits, without powers of ten: ``"0.61"``, ``"3.6"``, ``"1,300"``."""
    rounded = float(f"{value:.2g}")
    if rounded >= 10:
        return f"{rounded:,.0f}"
    return f"{rounded:.10f}".rstrip("0").rstrip(".")
