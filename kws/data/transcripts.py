"""Which recordings of sentences are free of the keywords, by what is said in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kws.data.arrays import read_transcripts, utterance_of
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
