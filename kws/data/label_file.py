"""Label files: which word is spoken where in a recording."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kws.errors import KwsError
from kws.system.files import atomic_write

COLUMNS = ("start_s", "end_s", "keyword")
"""Columns that a label file must have."""


@dataclass(frozen=True, kw_only=True)
class SpokenWord:
    """A word in a recording, which should be detected."""

    start_s: float
    """Where it begins, in seconds from the start of the recording."""
    end_s: float
    """Where it ends, in seconds from the start of the recording."""
    keyword: str
    """The word."""


def read_truth(path: str | Path) -> list[SpokenWord]:
    """Read a label file: tab-separated, a header with start_s, end_s and keyword, a word per line.

    Other columns and empty lines are ignored. Words are returned sorted by start.

    Raises:
        KwsError: no such file, not text, a missing column, or an invalid line; names the line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise KwsError(
            f"{path} is not UTF-8 text. Give a label file: tab-separated, header "
            f"{' '.join(COLUMNS)}"
        ) from error
    except OSError as error:
        raise KwsError(f"Cannot read the label file {path}: {error.strerror or error}") from error
    header: list[str] | None = None
    words = []
    for number, line in enumerate(text.split("\n"), start=1):
        cells = [cell.strip() for cell in line.split("\t")]
        if not any(cells):
            continue
        where = f"{path}, line {number}"
        if header is None:
            header = cells
            missing = [column for column in COLUMNS if column not in header]
            if missing:
                raise KwsError(
                    f"{where}: the header lacks {', '.join(missing)}. Received: "
                    f"{_short(' | '.join(header))}. It must name the tab-separated columns "
                    f"{', '.join(COLUMNS)}"
                )
        else:
            words.append(_spoken_word(dict(zip(header, cells, strict=False)), where))
    if header is None:
        raise KwsError(
            f"{path} is empty. A label file begins with the tab-separated header "
            f"{' '.join(COLUMNS)}"
        )
    return sorted(words, key=lambda word: word.start_s)


def write_labels(path: str | Path, truth: Iterable[SpokenWord]) -> None:
    """Write a label file, as `read_truth` reads it."""
    with atomic_write(path, "w") as file:
        file.write("\t".join(COLUMNS) + "\n")
        for word in truth:
            file.write(f"{word.start_s:.3f}\t{word.end_s:.3f}\t{word.keyword}\n")


def _spoken_word(cells: dict[str, str], where: str) -> SpokenWord:
    times = []
    for column in ("start_s", "end_s"):
        text = cells.get(column, "")
        try:
            time_s = float(text)
        except ValueError:
            time_s = math.nan
        if not (math.isfinite(time_s) and time_s >= 0):
            raise KwsError(
                f"{where}: {column} must be seconds from the start, such as 12.34. "
                f"Received: {_short(text) or 'nothing'!r}"
            )
        times.append(time_s)
    if times[1] <= times[0]:
        raise KwsError(
            f"{where}: end_s must be after start_s. Received: {times[0]:g} to {times[1]:g} s"
        )
    keyword = cells.get("keyword", "")
    if not keyword:
        raise KwsError(f"{where}: the keyword is missing. Add the word spoken there")
    return SpokenWord(start_s=times[0], end_s=times[1], keyword=keyword)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
