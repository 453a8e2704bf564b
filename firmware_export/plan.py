"""Places all buffers in one block of memory; buffers that are never alive together share bytes.

The largest buffers are placed first, each at the lowest offset that no buffer alive at the same
time occupies (greedy by size: Pisarchyk & Lee, "Efficient Memory Management for Deep Neural Net
Inference", 2020). A keyword spotter is a chain of layers, for which this is optimal: it needs the
memory of the two neighbours that are largest together.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

ALIGNMENT = 4
"""Every buffer begins at a multiple of this many bytes."""


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """Memory that is needed from one call to another."""

    key: Hashable
    """Identifies the buffer to the caller."""
    size: int
    """Bytes, at least 1."""
    first: int
    """Number of the call that writes it first."""
    last: int
    """Number of the last call that reads it."""

    def overlaps(self, other: Buffer) -> bool:
        """Return whether both are needed at the same time."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where the buffers are."""

    offsets: Mapping[Hashable, int]
    """Offset of each buffer in bytes, by its key."""
    size: int
    """Bytes of the whole block, a multiple of `ALIGNMENT`."""


def plan(buffers: Sequence[Buffer]) -> Plan:
    """Place all buffers in one block.

    Example:
        >>> a, b, c = (Buffer(key=k, size=100, first=n, last=n + 1) for n, k in enumerate("abc"))
        >>> plan([a, b, c]).size
        200
    """
    placed: list[tuple[int, Buffer]] = []
    for buffer in sorted(buffers, key=lambda b: (-b.size, b.first)):
        offset = 0
        in_the_way = [(s, b.size) for s, b in placed if b.overlaps(buffer)]
        for start, size in sorted(in_the_way):
            if offset + buffer.size <= start:
                break
            offset = max(offset, _aligned(start + size))
        placed.append((offset, buffer))
    return Plan(
        offsets={buffer.key: offset for offset, buffer in placed},
        size=_aligned(max((offset + buffer.size for offset, buffer in placed), default=0)),
    )


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
