"""A record of how the words of a folder were generated, so that more can be added to them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kws.system.files import atomic_write

SPOKEN = "spoken.tsv"
"""Table next to the label folders."""
_HEADER = "label\ttext\tlanguages\tseconds\tseed"


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """How a word was last generated."""

    text: str
    """The spoken text: spelling or ``[[phonemes]]``."""
    languages: tuple[str, ...]
    """Languages or accents of the voices."""
    seconds: float
    """Length of the clips."""
    seed: int
    """Seed of voices, pitches, positions and near-misses."""


def note_spoken(folder: str | os.PathLike[str], spoken: Mapping[str, Spoken]) -> None:
    """Record how words were generated: label → how. Rows of other labels are kept."""
    all_of_it = {**read_spoken(folder), **spoken}
    with atomic_write(Path(folder) / SPOKEN, "w") as file:
        file.write(f"{_HEADER}\n")
        for label, how in sorted(all_of_it.items()):
            text, languages = " ".join(how.text.split()), " ".join(how.languages)
            file.write(f"{label}\t{text}\t{languages}\t{how.seconds:g}\t{how.seed}\n")


def read_spoken(folder: str | os.PathLike[str]) -> dict[str, Spoken]:
    """Read how words were generated: label → how. Invalid rows are skipped."""
    table = Path(folder) / SPOKEN
    if not table.is_file():
        return {}
    found = {}
    for row in table.read_text(encoding="utf-8", errors="replace").splitlines()[1:]:
        with contextlib.suppress(ValueError):  # another table, or a damaged row
            label, text, languages, seconds, seed = row.split("\t")
            found[label] = Spoken(
                text=text,
                languages=tuple(languages.split()),
                seconds=float(seconds),
                seed=int(seed),
            )
    return found
