"""Numbers as users read them."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def counted(n: int, thing: str) -> str:
    """Return a count with its noun: ``1 clip``, ``2 clips``, ``1,000 clips``.

    Args:
        n: the count.
        thing: the singular noun; its plural adds an s.
    """
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a readable duration: ``"8 s"``, ``"2:05 min"``, ``"1:01 h"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


def byte_size(n: float) -> str:
    """Return a readable number of bytes, in powers of 1,000: ``"1.5 kB"``, ``"2.3 GB"``."""
    for unit in ("B", "kB", "MB", "GB"):
        if round(n, 1) < 1000 or unit == "GB":  # 999.96 kB would become 1000.0 kB
            break
        n /= 1000
    return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"


def percent(share: float | None, *, decimals: int = 1) -> str:
    """Return a share of 0 to 1 for people: ``"9.8 %"``; ``"–"`` where it is undefined (None)."""
    return "–" if share is None else f"{100 * share:.{decimals}f} %"


def two_digits(value: float) -> str:
    """Return a number to two significant digits, such as ``"0.61"``, ``"3.6"`` or ``"1,300"``."""
    rounded = float(f"{value:.2g}")
    if rounded >= 10:
        return f"{rounded:,.0f}"
    return f"{rounded:.10f}".rstrip("0").rstrip(".")


def lowest_to_highest(shares: Collection[float]) -> str:
    """Return the range of shares of 0 to 1: ``"0.40 to 0.53"``, or ``"0.53"`` if all look alike."""
    lowest, highest = (f"{bound(shares):.2f}" for bound in (min, max))
    return lowest if lowest == highest else f"{lowest} to {highest}"


def grouped_reasons(reasons: Mapping[str, str]) -> list[str]:
    """Return a line for each reason, after all the names it holds for.

    Example:
        >>> grouped_reasons({"M0": "no gcc", "M4": "no gcc", "M7": "no flash"})
        ['M0, M4: no gcc', 'M7: no flash']
    """
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return [f"{', '.join(those)}: {reason}" for reason, those in names.items()]
