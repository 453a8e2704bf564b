"""Where the values that a core computed differ from those expected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_export.verification import CoreResult
from firmware_export.verification_records import ClipTrace, FirmwareEvent


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """Audio to compare on."""

    name: str
    """Name in reports."""
    pcm: NDArray[np.int16]
    """Samples [n]."""


def compare(
    result: CoreResult,
    clips: Sequence[Clip],
    expected: Sequence[ClipTrace],
    computed: Sequence[ClipTrace],
) -> None:
    """Add to a core's result how its values differ from the expected ones."""
    for clip, want, have in zip(clips, expected, computed, strict=True):
        result.clips += 1
        result.frames += len(want.mfcc_q16)
        result.steps += len(want.posteriors)
        result.events += len(want.events)
        mfcc = _rows("frame", want.mfcc_q16, have.mfcc_q16)
        differences = {
            # A frame whose MFCC differ is not counted again for its int8 values.
            "features": mfcc if mfcc[1] else _rows("int8 frame", want.inputs, have.inputs),
            "posteriors": _rows("step", want.posteriors, have.posteriors),
            "events": _events(want.events, have.events),
        }
        for value, (count, note) in differences.items():
            result.differing[value] += count
            if note and not result.first_difference:
                result.first_difference = f"{clip.name}, {note}"


def _rows(what: str, want: NDArray[Any], have: NDArray[Any]) -> tuple[int, str]:
    """Return how many rows differ, and what the first difference is."""
    if want.shape != have.shape:
        count = abs(len(want) - len(have))
        return count, f"number of {what}s: C has {len(have)}, Python {len(want)}"
    wrong = (want != have).any(axis=1)
    if not wrong.any():
        return 0, ""
    row = int(wrong.argmax())
    column = int((want[row] != have[row]).argmax())
    values = f"C has {have[row, column]}, Python {want[row, column]}"
    return int(wrong.sum()), f"{what} {row}, value {column}: {values}"


def _events(want: Sequence[FirmwareEvent], have: Sequence[FirmwareEvent]) -> tuple[int, str]:
    """Return how many events differ, and what the first difference is."""
    pairs = [(i, a, b) for i, (a, b) in enumerate(zip_longest(want, have)) if a != b]
    if not pairs:
        return 0, ""
    i, a, b = pairs[0]
    return len(pairs), f"event {i}: C has {b}, Python {a}"
