"""The two labels that are not words, as they stand in model files and as names of data folders."""

from __future__ import annotations

import unicodedata

SILENCE = "_silence_"
"""Nobody speaks: silence or background noise."""
UNKNOWN = "_unknown_"
"""Speech that is none of the keywords."""


def folded(word: str) -> str:
    """Return how a word is written when it is compared: in any case, its accents composed (NFC).

    File systems hand out accents as characters of their own, and people write "Yes" for "yes".
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", word).casefold())
