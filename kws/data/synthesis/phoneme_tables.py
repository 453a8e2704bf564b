"""The phonemes of each language of espeak-ng and their types, from its file ``phontab``.

Source: espeak-ng 1.52, ``src/libespeak-ng/synthdata.c`` (layout) and ``phoneme.h`` (types, flags).
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from kws.errors import KwsError

MARK = 1
"""Type of stresses, tones and everything else that is not a separate sound."""

_NO_SYLLABLE = 1 << 20
"""Flag of vowels that only help to say a consonant, as between p and r in Russian."""
_VOWEL = 2
_NAME_BYTES = 32
_PHONEME_BYTES = 16

Types = dict[str, int]
"""Mnemonic → type of phoneme.h."""


def read_tables(folder: Path) -> dict[str, Types]:
    """Read all tables in espeak-ng's data folder, including what each inherits.

    Raises:
        KwsError: the file has an unknown layout.
    """
    content = (folder / "phontab").read_bytes()
    tables: list[tuple[str, Types]] = []
    at = 4
    try:
        for _ in range(content[0]):
            count, base = content[at], content[at + 1]
            name = content[at + 4 : at + 4 + _NAME_BYTES].split(b"\0")[0].decode()
            at += 4 + _NAME_BYTES
            types = dict(tables[base - 1][1]) if base else {}
            for _ in range(count):
                mnemonic = content[at : at + 4].rstrip(b"\0").decode("latin-1")
                flags, kind = struct.unpack_from("<4xI3xB", content, at)
                shadow = kind == _VOWEL and flags & _NO_SYLLABLE
                types[mnemonic] = MARK if shadow else kind
                at += _PHONEME_BYTES
            tables.append((name, types))
    except (IndexError, UnicodeDecodeError, struct.error) as error:
        raise KwsError(
            f"espeak-ng's table of phonemes has an unknown layout. Received: {error}. "
            f"Use espeakng-loader 0.2"
        ) from error
    return dict(tables)


def table_of(folder: Path, identifier: str, language: str) -> list[str]:
    """Return possible names of a language's table, the likeliest first.

    Args:
        folder: espeak-ng's data folder.
        identifier: its path of the language, such as ``"gmw/en-US"``.
        language: the language's code, such as ``"en-us"``.
    """
    text = (folder / "lang" / identifier).read_text(encoding="utf-8")
    named = re.search(r"^phonemes\s+(\S+)", text, re.MULTILINE)
    names = [named[1]] if named else []
    return [*names, language, language.split("-")[0], Path(identifier).name, "en"]


def unknown_in(phonemes: str, types: Types) -> str:
    """Return the rest of a string of phonemes from the first unknown one on, or an empty string.

    Each time the longest matching mnemonic is taken, as in espeak-ng.
    """
    longest = max(map(len, types))
    while phonemes := phonemes.lstrip(" |"):
        fit = next((n for n in range(longest, 0, -1) if phonemes[:n] in types), 0)
        if not fit:
            break
        phonemes = phonemes[fit:]
    return phonemes
