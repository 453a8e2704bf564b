"""Names in C and of C files: all begin with ``kws``, or with the prefix of one of several models.

The hand-written C, the generated C and the texts about them are written with ``kws`` and renamed as
a whole; what comes from a model's card is put in afterwards, so that no label is renamed.
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
"""Of a library that is alone in its program."""
_LONGEST = 32
_NAME = re.compile(r"\b(?:kws|KWS)(?=_\w|\.[ch]\b)")


def renamed(text: str, prefix: str) -> str:
    """Return C, or a text about it, whose names begin with `prefix` instead of ``kws``.

    Example:
        >>> renamed("kws_init in kws.h, KWS_OK; made by kws firmware", "kws_wake")
        'kws_wake_init in kws_wake.h, KWS_WAKE_OK; made by kws firmware'
    """
    return _NAME.sub(lambda found: prefix if found[0] == PREFIX else prefix.upper(), text)


def filled(text: str, words: Mapping[str, str]) -> str:
    """Return a text with each ``@WORD@`` replaced by what `words` has for it."""
    return re.sub("@([A-Z_]+)@", lambda found: words[found[1]], text)


def check_prefix(prefix: str) -> None:
    """Refuse a prefix with which a name could be that of another library in the same program.

    Two libraries with different prefixes share a name only if what one prefix has more than the
    other begins a name of the library: ``kws_model_reset`` would be `reset` of ``kws_model``.

    Raises:
        KwsError: it is neither ``kws`` nor ``kws_`` and words, or one of these is the library's.
    """
    if prefix == PREFIX:
        return
    if len(prefix) > _LONGEST or not re.fullmatch("kws(_[a-z0-9]+)+", prefix):
        raise KwsError(
            f"A prefix is kws_ and small letters, digits and single underscores, {_LONGEST} "
            f"characters at most. Received: {prefix!r}. Use one like kws_wake"
        )
    taken = [word for word in prefix.split("_")[1:] if word in _first_words()]
    if taken:
        raise KwsError(
            f"Names of the library itself begin with kws_{taken[0]}, so two libraries in one "
            f"program could clash. Received: the prefix {prefix!r}. Use one like kws_wake"
        )


@lru_cache
def _first_words() -> frozenset[str]:
    """Return what follows ``kws_`` in the library's names, up to the next underscore."""
    texts = [path.read_text(encoding="utf-8") for path in RUNTIME.iterdir()]
    found = re.findall(r"\bkws_([a-z0-9]+)", "\n".join(texts), re.IGNORECASE)
    return frozenset(word.lower() for word in found)
