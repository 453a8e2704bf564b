"""What is said in recordings of sentences, and which of them are free of the keywords."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from kws.data.forbidden import Forbidden
from kws.errors import KwsError

TRANSCRIPTS = "transcripts.tsv"
"""Name of the table in a folder of sentences."""


def free_sentences(root: Path, paths: Iterable[str], keywords: Iterable[str]) -> list[str]:
    """Return those recordings whose transcript holds none of the keywords, in the given order.

    Args:
        root: holds `TRANSCRIPTS` with the columns ``utterance`` (path without suffix) and
            ``transcript``.
        paths: recordings relative to `root`; those without a transcript are left out.
        keywords: see `kws.data.forbidden.Forbidden`.

    Raises:
        KwsError: no table, or a damaged one.
    """
    table = root / TRANSCRIPTS
    if not table.is_file():
        raise KwsError(
            f"{root} has no {TRANSCRIPTS}, so it is not known where a keyword is spoken. "
            "Write one with the tab-separated columns utterance (path without suffix) and "
            "transcript"
        )
    spoken = read_transcripts(table)
    forbidden = Forbidden(keywords)
    chosen = []
    for path in paths:
        transcript = spoken.get(utterance_of(path))
        if transcript is not None and forbidden.among(transcript) is None:
            chosen.append(path)
    return chosen


def utterance_of(recording: str) -> str:
    """Return what a table of transcripts calls a recording: its path without the suffix."""
    return Path(recording).with_suffix("").as_posix()


def read_transcripts(table: Path) -> dict[str, str]:
    """Read a table with the columns utterance and transcript.

    Returns:
        Utterance (path without suffix) → what is said.

    Raises:
        KwsError: no text in UTF-8, or a column is missing.
    """
    try:
        # Spreadsheets begin a file with a byte order mark.
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if not {"utterance", "transcript"} <= set(rows.fieldnames or ()):
                raise KwsError(
                    f"{table} lacks a column. Received: {', '.join(rows.fieldnames or ())}. "
                    "Its first line must name the columns utterance and transcript"
                )
            return {row["utterance"]: row["transcript"] or "" for row in rows}
    except (UnicodeDecodeError, csv.Error) as error:
        raise KwsError(f"{table} is no table in UTF-8. Received: {error}. Repair it") from error
