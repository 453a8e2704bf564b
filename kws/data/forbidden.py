"""Whether a keyword, or what sounds like it, may be heard where a text is spoken.

Where exactly in a sentence a word stands is not known, so a sentence that may hold a keyword is
neither a good example of the keyword nor one of "something else": it is left out, of training and
of measuring by the same rule.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable
from operator import contains

from kws.labels import folded

HOMOPHONES: dict[str, tuple[str, ...]] = {
    "no": ("know",),
    "right": ("write", "rite", "wright"),
    "four": ("for", "fore"),
    "two": ("to", "too"),
    "one": ("won",),
    "eight": ("ate",),
}
"""Words that sound the same."""

_ENDINGS = ("s", "es", "ed", "ing", "in")
"""Inflections: stops, goes, righted, going (and goin'). Not "er" and the like, which make other
words: an offer is no "off"."""
_VOWELS = frozenset("aeiouwy")


def forms_of(word: str) -> frozenset[str]:
    """Return a single word, what sounds the same, and their inflections, as `folded` writes them.

    Some of the forms exist in no dictionary, which does no harm.

    Example: ``forms_of("stop")`` holds ``"stops"``, ``"stopped"`` and ``"stopping"``.
    """
    forms = set()
    for stem in (folded(word), *HOMOPHONES.get(folded(word), ())):
        forms |= {stem, *(stem + ending for ending in _ENDINGS)}
        if stem.endswith("w"):
            forms.add(stem + "n")  # known
        if stem[-1] not in _VOWELS:
            forms |= {stem + stem[-1] + ending for ending in ("ed", "ing", "in")}  # stopping
        if stem.endswith("e"):
            forms |= {stem + "d", *(stem[:-1] + ending for ending in ("ing", "in"))}  # writing
    return frozenset(forms)


class Forbidden:
    """Finds texts that may hold a keyword: a word, or a phrase of several.

    Example: ``Forbidden(["no"]).among("I know that")`` is ``"know"``.
    """

    def __init__(self, keywords: Iterable[str]) -> None:
        self._beginning: dict[str, list[tuple[frozenset[str], ...]]] = {}
        """For each form of a keyword's first word the forms of those that must follow."""
        for keyword in keywords:
            forms = [forms_of(word) for word in _words(keyword.replace("_", " "))]
            for form in forms[0] if forms else ():
                self._beginning.setdefault(form, []).append(tuple(forms[1:]))

    def among(self, text: str) -> str | None:
        """Return the first words that may be heard as a keyword; None if there are none.

        A keyword is found word by word, each in any of its `forms_of`: a phrase stands in a text
        if its words do, one after the other. Apostrophes and hyphens part words, in a text and in
        a keyword: "won't" holds "won", which sounds like "one", and "wake-up" is "wake up". So
        does "_", the space of folders' names, in a keyword; ``not_yes`` is a label for all else.
        """
        words = _words(text)
        for at, word in enumerate(words):
            for others in self._beginning.get(word, ()):
                following = words[at + 1 : at + 1 + len(others)]
                if len(following) == len(others) and all(map(contains, others, following)):
                    return " ".join([word, *following])
        return None


def _words(text: str) -> list[str]:
    """Split a text at all that is no letter, digit or accent, such as the vowel signs of Hindi."""
    return [word.strip("_") for word in "".join(map(_or_space, folded(text))).split()]


@functools.lru_cache(maxsize=4096)
def _or_space(character: str) -> str:
    return character if character == "_" or unicodedata.category(character)[0] in "LMN" else " "
