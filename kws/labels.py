"""The two labels that are not words, as used in model files and as names of data folders."""

from __future__ import annotations

import unicodedata

SILENCE = "_silence_"
"""No speech: silence or background noise."""
UNKNOWN = "_unknown_"
"""Speech other than the keywords."""


def folded(word: str) -> str:
    """Return a word as it is compared: case-folded, with composed accents (NFC).

    Some file systems return accents as separate characters, and people write "Yes" for "yes".
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", word).casefold())
