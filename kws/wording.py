"""How numbers of things are written in what users read."""

from __future__ import annotations


def counted(n: int, thing: str) -> str:
    """Return a number of things in words: ``1 clip``, ``2 clips``, ``1,000 clips``.

    Args:
        n: how many.
        thing: what one of them is called; more of them take an s.
    """
    return f"{n:,} {thing}{'' if n == 1 else 's'}"
