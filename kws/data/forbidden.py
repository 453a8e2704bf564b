"""Whether a spoken text may contain a keyword or a homophone of one.

The position of a word within a sentence is not known, so a sentence that may contain a keyword is
an example neither of the keyword nor of "something else". Training and measuring leave it out by
the same rule.
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
words: "offer" is not a form of "off"."""
_VOWELS = frozenset("aeiouwy")


def forms_of(word: str) -> frozenset[str]:
    """Return a word, its homophones, and the inflections of all of them, `folded`.

    Some of the forms are not real words, which does no harm.

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
    """Finds texts that may contain a keyword: a word or a phrase.

    Example: ``Forbidden(["no"]).among("I know that")`` is ``"know"``.
    """

    def __init__(self, keywords: Iterable[str]) -> None:
        self._beginning: dict[str, list[tuple[frozenset[str], ...]]] = {}
        """For each form of a keyword's first word, the forms of the words that must follow."""
        for keyword in keywords:
            forms = [forms_of(word) for word in _words(keyword.replace("_", " "))]
            for form in forms[0] if forms else ():
                self._beginning.setdefault(form, []).append(tuple(forms[1:]))

    def among(self, text: str) -> str | None:
        """Return the first words that may be heard as a keyword; None if there are none.

        Keywords are matched word by word, each in any of its `forms_of`: a text contains a phrase
        if it contains its words in a row. Apostrophes and hyphens separate words, both in texts and
        in keywords: "won't" contains "won", which sounds like "one", and "wake-up" is "wake up". In
        keywords so does "_", which stands for a space in folder names; in texts it does not, as
        ``not_yes`` is the label of other speech.
        """
        words = _words(text)
        for at, word in enumerate(words):
            for others in self._beginning.get(word, ()):
                following = words[at + 1 : at + 1 + len(others)]
                if len(following) == len(others) and all(map(contains, others, following)):
                    return " ".join([word, *following])
        return None


def _words(text: str) -> list[str]:
    """Split a text at all characters but letters, digits and marks, such as Hindi vowel signs."""
    return [word.strip("_") for word in "".join(map(_or_space, folded(text))).split()]


@functools.lru_cache(maxsize=4096)
def _or_space(character: str) -> str:
    return character if character == "_" or unicodedata.category(character)[0] in "LMN" else " "
