"""The prefix of names in C and of C files: ``kws``, or one for each of several models.

The hand-written C, the generated C and the texts about them use ``kws`` and are renamed as a whole.
Text from a model's card is filled in afterwards, so that no label is renamed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from kws.errors import KwsError

RUNTIME = Path(__file__).resolve().parent / "runtime"
"""The hand-written C of the library."""
PREFIX = "kws"
"""Prefix of a library that is alone in its program."""
_LONGEST = 32
_NAME = re.compile(r"\b(?:kws|KWS)(?=_\w|\.[ch]\b)")


def renamed(text: str, prefix: str) -> str:
    """Return C, or a text about it, with `prefix` in place of ``kws`` in all names.

    Example:
        >>> renamed("kws_init in kws.h, KWS_OK; made by kws firmware", "kws_wake")
        'kws_wake_init in kws_wake.h, KWS_WAKE_OK; made by kws firmware'
    """
    return _NAME.sub(lambda found: prefix if found[0] == PREFIX else prefix.upper(), text)


def filled(text: str, words: Mapping[str, str]) -> str:
    """Return a text with each ``@WORD@`` replaced by its value in `words`."""
    return re.sub("@([A-Z_]+)@", lambda found: words[found[1]], text)


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that could give two libraries in one program the same name.

    That happens if the words after ``kws_`` begin a name of the library itself: with the prefix
    ``kws_model``, `reset` becomes ``kws_model_reset``, which the library with ``kws`` has too.

    Raises:
        KwsError: the prefix is neither ``kws`` nor ``kws_`` and words, or a word is reserved.
    """
    if prefix == PREFIX:
        return
    if len(prefix) > _LONGEST or not re.fullmatch("kws(_[a-z0-9]+)+", prefix):
        raise KwsError(
            "A prefix is kws_ followed by lower-case letters, digits and single underscores, at "
            f"most {_LONGEST} characters in all. Received: {prefix!r}. Use one like kws_wake"
        )
    taken = [word for word in prefix.split("_")[1:] if word in _first_words()]
    if taken:
        raise KwsError(
            f"The library's own names begin with kws_{taken[0]}, so two libraries in one program "
            f"could clash. Received: the prefix {prefix!r}. Use one like kws_wake"
        )


@lru_cache
def _first_words() -> frozenset[str]:
    """Return the first word after ``kws_`` in each of the library's names."""
    texts = [path.read_text(encoding="utf-8") for path in RUNTIME.iterdir()]
    found = re.findall(r"\bkws_([a-z0-9]+)", "\n".join(texts), re.IGNORECASE)
    return frozenset(word.lower() for word in found)
