"""The prefix of names in C and of C files: ``kws``, or one for each of several models.

The hand-written C, the generated C and the texts about them use ``kws`` and are renamed as a whole.
Text from a model's card is filled in afterwards, so that no label is renamed.

In a library of two models, what belongs to one of them has its prefix, and what they share (front
end and kernels) that of the library.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kws.errors import KwsError

RUNTIME = Path(__file__).resolve().parent / "runtime"
"""The hand-written C of the library."""
OF_A_MODEL = ("kws_decide", "kws_detector", "kws_detector_test", "kws_input")
"""Of it, the files that exist once for each model."""
OF_THE_WHOLE = ("kws", "kws_check", "kws_event", "kws_self_test")
"""Of it, the files that stand above the models."""
PREFIX = "kws"
"""Prefix of a library that is alone in its program."""
_LONGEST = 32
_NAME = re.compile(r"\b(kws|KWS)(_\w+|\.[ch]\b)")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def renamed(text: str, prefix: str, shared: Collection[str] = ()) -> str:
    """Return C, or a text about it, with `prefix` in place of ``kws`` in all names.

    Args:
        text: with the prefix ``kws``.
        prefix: in its place.
        shared: names that stay as they are.

    Example:
        >>> renamed("kws_init in kws.h, KWS_OK; made by kws firmware", "kws_more")
        'kws_more_init in kws_more.h, KWS_MORE_OK; made by kws firmware'
    """

    def other(found: re.Match[str]) -> str:
        if found[0] in shared:
            return found[0]
        return (prefix if found[1] == PREFIX else prefix.upper()) + found[2]

    return _NAME.sub(other, text)


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How what belongs to one model is named in C."""

    prefix: str = PREFIX
    """Of its names and files (`check_prefix`)."""
    shared: frozenset[str] = frozenset()
    """Names that it shares with another model in the same library (`shared_names`)."""

    def renamed(self, text: str) -> str:
        """Return C, or a text about it, with this prefix in its own names."""
        return renamed(text, self.prefix, self.shared)


@lru_cache
def shared_names() -> frozenset[str]:
    """Return the names, those of files too, in the C that two models in one library share."""
    found: set[str] = set()
    for path in RUNTIME.glob("*.[ch]"):
        if path.stem not in OF_A_MODEL + OF_THE_WHOLE:
            code = _COMMENT.sub("", path.read_text(encoding="utf-8"))
            found |= {path.stem, *(name[0] for name in _NAME.finditer(code))}
    return frozenset(found)


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
            f"most {_LONGEST} characters in all. Received: {prefix!r}. Use one like kws_more"
        )
    taken = [word for word in prefix.split("_")[1:] if word in _first_words()]
    if taken:
        raise KwsError(
            f"The library's own names begin with kws_{taken[0]}, so two libraries in one program "
            f"could clash. Received: the prefix {prefix!r}. Use one like kws_more"
        )


@lru_cache
def _first_words() -> frozenset[str]:
    """Return the first word after ``kws_`` in each of the library's names."""
    texts = [path.read_text(encoding="utf-8") for path in RUNTIME.rglob("*.[ch]")]
    found = re.findall(r"\bkws_([a-z0-9]+)", "\n".join(texts), re.IGNORECASE)
    return frozenset(word.lower() for word in found)
