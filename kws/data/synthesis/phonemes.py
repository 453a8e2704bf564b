"""The phonemes of a word as espeak-ng says it, and their kinds.

A *sound* is a phoneme of espeak-ng with the stress before it and modifiers after it (a tone, the
softness of a Russian consonant), so that it can be moved as a whole.

Sources: espeak-ng 1.52, ``docs/phonemes.md`` (mnemonics) and ``src/libespeak-ng/phoneme.h``
(types); the vowel chart of the International Phonetic Association for the places of vowels.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise

from kws.data.synthesis.espeak import Voice
from kws.data.synthesis.phoneme_tables import MARK
from kws.data.synthesis.synth import check_phonemes, check_sayable, phoneme_types, transcribe
from kws.errors import KwsError

# Types of phoneme.h for sounds; pauses (0), stresses and tones (1) are not sounds.
_KINDS = {
    2: "vowel",
    3: "liquid",
    4: "stop",
    5: "stop",
    6: "fricative",
    7: "fricative",
    8: "nasal",
}
_SOFT = ";"
"""espeak-ng counts the softness of a consonant as a glide; here it is part of the consonant."""
_STRESSES = "',"
"""Main and secondary stress, before a vowel. espeak-ng's other marks are variants of these."""

# (height, backness): 0 is close or front, 1 open or back. Rounded vowels are shifted by 0.15.
_PLACES = {
    "i": (0.0, 0.0), "y": (0.0, 0.15), "ɨ": (0.0, 0.5), "ʉ": (0.0, 0.6), "ɯ": (0.0, 0.9),
    "u": (0.0, 1.0), "ɪ": (0.17, 0.15), "ᵻ": (0.17, 0.4), "ʏ": (0.17, 0.3), "ʊ": (0.17, 0.9),
    "e": (0.33, 0.0), "ø": (0.33, 0.15), "ɘ": (0.33, 0.5), "ɵ": (0.33, 0.6), "ɤ": (0.33, 0.9),
    "o": (0.33, 1.0), "ə": (0.5, 0.5), "ɚ": (0.5, 0.55), "ɛ": (0.67, 0.0), "œ": (0.67, 0.15),
    "ɜ": (0.67, 0.5), "ɝ": (0.67, 0.55), "ɞ": (0.67, 0.6), "ʌ": (0.67, 0.8), "ɔ": (0.67, 1.0),
    "æ": (0.83, 0.05), "ɐ": (0.83, 0.5), "a": (1.0, 0.2), "ɶ": (1.0, 0.3), "ä": (1.0, 0.5),
    # Many languages use a and ɑ for the same vowel.
    "ɑ": (1.0, 0.55), "ɒ": (1.0, 1.0),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sound:
    """One vowel or consonant."""

    name: str
    """espeak-ng's mnemonic, for example ``"u:"``."""
    kind: str
    """``vowel``, ``liquid`` (also glides), ``stop``, ``fricative`` or ``nasal``."""
    stress: str = ""
    """``"'"`` for main stress, ``","`` for secondary stress, else empty."""
    after: str = ""
    """Modifiers: a tone, softness, a pause."""

    @property
    def is_vowel(self) -> bool:
        """Whether it is the nucleus of a syllable."""
        return self.kind == "vowel"

    def __str__(self) -> str:
        return self.stress + self.name + self.after


Sounds = tuple[Sound, ...]


def spell(words: Sequence[Sequence[Sound]]) -> str:
    """Return words of sounds as text for the synthesiser: ``"[[h'eI k@mpj'u:t3]]"``."""
    # A bar ends a mnemonic; without it, two could be read as one (t and S as tS).
    return "[[" + " ".join("|".join(map(str, word)) for word in words) + "]]"


def sounds_of(text: str, voice: Voice) -> list[Sounds]:
    """Return the sounds of each word of a text in the voice's language.

    Raises:
        KwsError: nothing can be said, or the language leaves the text to another one's rules.
    """
    check_sayable(text, english=voice.language.startswith("en"))
    check_phonemes(text, voice)
    marked = transcribe(text, voice)
    if spoken_by_others(marked):
        raise KwsError(
            f"In {voice.language} this text is read by the rules of another language. Received: "
            f"{text!r}. Choose another --language, another spelling, or phonemes: WORD=[[…]]"
        )
    types = phoneme_types(voice)
    words = [_sounds(word, types) for word in marked]
    words = [word for word in words if word]
    if not any(sound.is_vowel for word in words for sound in word):
        raise KwsError(
            f"{voice.language} has no phonemes for this text. Received: {text!r}. "
            f"Check the spelling or the language"
        )
    return words


def spoken_by_others(marked: Sequence[Sequence[str]]) -> bool:
    """Whether a transcription leaves a part to another language (marked as ``"(en)"``)."""
    return any(mnemonic.startswith("(") for word in marked for mnemonic in word)


def _sounds(mnemonics: Sequence[str], types: dict[str, int]) -> Sounds:
    found: list[Sound] = []
    stress = ""
    for mnemonic in mnemonics:
        marks = re.match(r"[',%=]*", mnemonic)
        head = marks[0] if marks else ""
        stress = stress or next((mark for mark in head if mark in _STRESSES), "")
        body = mnemonic[len(head) :]
        # A tone follows its vowel without a break: i214.
        name = next((body[:n] for n in range(len(body), 0, -1) if body[:n] in types), "")
        kind = "" if name == _SOFT else _KINDS.get(types.get(name, MARK), "")
        if kind:
            found.append(Sound(name=name, kind=kind, stress=stress, after=body[len(name) :]))
            stress = ""
        elif found and not body.startswith("_"):
            found[-1] = replace(found[-1], after=found[-1].after + "|" * bool(body) + body)
    return tuple(found)


def syllables(word: Sounds) -> list[Sounds]:
    """Split a word into syllables, one for each vowel.

    Of the consonants between two vowels the last begins a syllable, together with a stop or
    fricative before it if it is a liquid or glide: com·pu·ter, a·pple, pa·trol, Ach·tung.
    """
    nuclei = [i for i, sound in enumerate(word) if sound.is_vowel]
    if len(nuclei) < 2:
        return [word]
    cuts = [0]
    for left, right in pairwise(nuclei):
        cut = max(left + 1, right - 1)
        if (
            cut - 1 > left
            and word[cut].kind == "liquid"
            and word[cut - 1].kind in ("stop", "fricative")
        ):
            cut -= 1
        cuts.append(cut)
    cuts.append(len(word))
    return [word[a:b] for a, b in pairwise(cuts)]


def vowel_distance(one: Sound, other: Sound, voice: Voice) -> float:
    """Return the distance of two vowels on the vowel chart, about 0 to 1.4; length does not count.

    For diphthongs it is the mean of the distances of their beginnings and of their ends.
    """
    a, b = _path(one.name, voice), _path(other.name, voice)
    if not a or not b:
        return 0.0 if one.name.rstrip(":") == other.name.rstrip(":") else 1.0
    return (math.dist(a[0], b[0]) + math.dist(a[-1], b[-1])) / 2


@functools.cache
def _path(mnemonic: str, voice: Voice) -> tuple[tuple[float, float], ...]:
    # Some vowels change at the end of a word, hence the consonant.
    written = "".join(chain(*transcribe(f"[[{mnemonic}|t]]", voice, ipa=True)))
    return tuple(_PLACES[letter] for letter in written if letter in _PLACES)
