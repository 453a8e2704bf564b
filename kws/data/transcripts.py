"""What is said in recordings of sentences, and whether a keyword, or what sounds like it, is in it.

Where exactly in a sentence a word stands is not known, so a sentence that may hold a keyword is
neither a good example of the keyword nor one of "something else": it is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from kws.data.arrays import HOMOPHONES, read_transcripts, utterance_of
from kws.errors import KwsError

TRANSCRIPTS = "transcripts.tsv"
"""Name of the table in a folder of sentences."""

_ENDINGS = ("s", "es", "ed", "ing", "in")
"""Inflections: stops, goes, righted, going (and goin'). Not "er" and the like, which make other
words: an offer is no "off"."""
_VOWELS = frozenset("aeiouwy")


def forms_of(word: str) -> frozenset[str]:
    """Return the word, what sounds the same, and their inflections, in lower case.

    Some of the forms exist in no dictionary, which does no harm.

    Example: ``forms_of("stop")`` holds ``"stops"``, ``"stopped"`` and ``"stopping"``.
    """
    forms = set()
    for stem in (word.lower(), *HOMOPHONES.get(word.lower(), ())):
        forms |= {stem, *(stem + ending for ending in _ENDINGS)}
        if stem.endswith("w"):
            forms.add(stem + "n")  # known
        if stem[-1] not in _VOWELS:
            forms |= {stem + stem[-1] + ending for ending in ("ed", "ing", "in")}  # stopping
        if stem.endswith("e"):
            forms |= {stem + "d", *(stem[:-1] + ending for ending in ("ing", "in"))}  # writing
    return frozenset(forms)


class Forbidden:
    """Finds transcripts that may hold a keyword.

    Example: ``Forbidden(["no"]).among("I know that")`` is ``"know"``.
    """

    def __init__(self, keywords: Iterable[str]) -> None:
        self._forms = frozenset().union(*(forms_of(keyword) for keyword in keywords))

    def among(self, transcript: str) -> str | None:
        """Return the first word that is a keyword, sounds like one or is an inflection; or None.

        Words are looked at whole and at their parts around an apostrophe or hyphen: "won't" holds
        "won", which sounds like "one".
        """
        for word in re.findall(r"[\w'’-]+", transcript.lower()):
            for part in (word.strip("'’-"), *re.split(r"['’-]", word)):
                if part in self._forms:
                    return part
        return None


def free_sentences(root: Path, paths: Iterable[str], keywords: Iterable[str]) -> list[str]:
    """Return those recordings whose transcript holds none of the keywords, in the given order.

    Args:
        root: holds `TRANSCRIPTS` with the columns ``utterance`` (path without suffix) and
            ``transcript``.
        paths: recordings relative to `root`; those without a transcript are left out.
        keywords: see `Forbidden`.

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
