"""Transcripts of recorded sentences, and which sentences are free of the keywords."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from kws.data.forbidden import Forbidden
from kws.errors import KwsError

TRANSCRIPTS = "transcripts.tsv"
"""Name of the transcript table in a folder of sentences."""


def free_sentences(root: Path, paths: Iterable[str], keywords: Iterable[str]) -> list[str]:
    """Return the recordings whose transcript contains no keyword, in the given order.

    Args:
        root: holds `TRANSCRIPTS` with the columns ``utterance`` (path without suffix) and
            ``transcript``.
        paths: recordings relative to `root`; those without a transcript are left out.
        keywords: as for `kws.data.forbidden.Forbidden`.

    Raises:
        KwsError: no table, or a damaged one.
    """
    table = root / TRANSCRIPTS
    if not table.is_file():
        raise KwsError(
            f"{root} has no {TRANSCRIPTS}, so it is unknown which recordings contain a keyword. "
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
    """Return a recording's name in a table of transcripts: its path without the suffix."""
    return Path(recording).with_suffix("").as_posix()


def read_transcripts(table: Path) -> dict[str, str]:
    """Read a table with the columns utterance and transcript.

    Returns:
        Utterance (path without suffix) → transcript.

    Raises:
        KwsError: not UTF-8 text, or a column is missing.
    """
    try:
        # Spreadsheets write a byte order mark.
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if not {"utterance", "transcript"} <= set(rows.fieldnames or ()):
                raise KwsError(
                    f"{table} lacks a column. Received: {', '.join(rows.fieldnames or ())}. "
                    "Its first line must name the columns utterance and transcript"
                )
            return {row["utterance"]: row["transcript"] or "" for row in rows}
    except (UnicodeDecodeError, csv.Error) as error:
        raise KwsError(f"{table} is not a table in UTF-8. Received: {error}. Repair it") from error
