"""Nonsense words, spelt with a language's own letters.

espeak-ng pronounces any spelling by the rules of its language, so nonsense words contain the
language's own phonemes in plausible orders, and hardly ever a keyword.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kws.data.synthesis.espeak import Voice
from kws.data.synthesis.phonemes import sounds_of, spoken_by_others
from kws.data.synthesis.synth import transcribe
from kws.errors import KwsError


@dataclass(frozen=True, kw_only=True)
class Script:
    """The letters of a script, for spelling words."""

    name: str
    """Name of the script."""
    consonants: Sequence[str]
    """Letters or groups of them at the edges of syllables; empty if each letter is a syllable."""
    vowels: Sequence[str]
    """Letters in the middle of a syllable, or all letters, or whole syllables."""


def _span(first: str, last: str) -> str:
    return "".join(chr(code) for code in range(ord(first), ord(last) + 1))


# espeak-ng takes each Chinese character for a word, but reads pinyin with tones as one word.
_PINYIN = (
    *("ba", "pa", "ma", "fa", "da", "ta", "na", "la", "ga", "ha", "zha", "cha", "sha", "za"),
    *("bo", "mo", "bi", "pi", "mi", "di", "ti", "li", "ji", "qi", "xi", "bu", "pu", "mu", "fu"),
    *("du", "tu", "nu", "lu", "gu", "ku", "hu", "zhu", "chu", "shu", "zu", "su", "de", "te", "le"),
    *("ge", "ke", "he", "zhe", "che", "she", "jia", "qia", "xia", "lian", "tian", "dian", "qian"),
    *("guo", "duo", "huo", "shuo", "zuo", "hua", "gua", "mang", "tang", "lang", "gang", "feng"),
    *("deng", "neng", "sheng", "dong", "tong", "gong", "zhong", "ming", "ting", "jing", "xing"),
    *("ban", "man", "dan", "lan", "kan", "shan", "fen", "men", "ren", "shen", "lin", "jin", "xin"),
    *("mei", "lei", "hei", "hai", "tai", "lai", "hao", "mao", "lao", "xiao", "jiu", "liu", "shou"),
)


# The first script that a language itself reads is used; many read only Latin letters.
_SCRIPTS = (
    Script(name="Latin", consonants=(*"bcdfghjklmnprstvwyz", "ch", "sh", "th"), vowels="aeiou"),
    Script(name="Cyrillic", consonants="бвгджзклмнпрстфхцчш", vowels="аеиоуя"),
    Script(name="Greek", consonants="βγδζθκλμνπρστφχ", vowels="αεηιοωυ"),
    Script(name="Georgian", consonants="ბგდვზთკლმნპჟრსტფქღყშჩცძწჭხჯჰ", vowels="აეიოუ"),
    Script(name="Armenian", consonants="բգդզթժլխծկհձղճմյնշչպջռսվտրցփքֆ", vowels="աեիոօ"),
    Script(name="Hiragana", consonants="", vowels=_span("か", "ぢ") + _span("つ", "も")),
    Script(name="Hangul", consonants="", vowels="가나다라마바사자하고노도로모보소구누두루수리시"),
    Script(name="Hebrew", consonants="בגדזחטכלמנספצקרשת", vowels="אויה"),
    Script(name="Arabic", consonants="بتجحخدذرزسشصضطظعغفقكلمنه", vowels="اوي"),
    Script(name="Devanagari", consonants="", vowels="कखगघचछजझटठडढतथदधनपफबभमयरलवशषसह"),
    Script(name="Bengali", consonants="", vowels="কখগঘচছজটঠডঢতথদধনপফবভমযরলশষসহ"),
    Script(name="Gujarati", consonants="", vowels="કખગઘચછજટઠડઢતથદધનપફબભમયરલવશષસહ"),
    Script(name="Gurmukhi", consonants="", vowels="ਕਖਗਘਚਛਜਝਟਠਡਢਤਥਦਧਨਪਫਬਭਮਯਰਲਵਸਹ"),
    Script(name="Tamil", consonants="", vowels="கசடதநபமயரலவழளறன"),
    Script(name="Telugu", consonants="", vowels="కఖగఘచఛజటఠడఢతథదధనపఫబభమయరలవశషసహ"),
    Script(name="Kannada", consonants="", vowels="ಕಖಗಘಚಛಜಟಠಡಢತಥದಧನಪಫಬಭಮಯರಲವಶಷಸಹ"),
    Script(name="Malayalam", consonants="", vowels="കഖഗഘചഛജടഠഡഢതഥദധനപഫബഭമയരലവശഷസഹ"),
    Script(name="Thai", consonants="กขคงจชดตถทนบปพมยรลวสหอ", vowels="ะาิีุู"),
    # For languages without b: Māori, Cherokee.
    Script(name="few Latin letters", consonants="tkmnprhw", vowels="aeiou"),
    Script(name="pinyin", consonants="", vowels=[f"{s}{t}" for s in _PINYIN for t in "1234"]),
    Script(name="Ethiopic", consonants="", vowels="".join(
        _span(first, chr(ord(first) + 6)) for first in "ለመረሰሸቀበተነአከወዘየደገጠፈ"
    )),
    Script(name="Odia", consonants="", vowels="କଖଗଘଚଛଜଝଟଡତଥଦଧନପଫବଭମଯରଲଶଷସହ"),
    Script(name="Sinhala", consonants="", vowels="කගචජටඩතදනපබමයරලවසහ"),
    Script(name="Burmese", consonants="ကခဂစဆတဒနပဖဗမယရလဝသဟ", vowels="ာိုူေ"),
    Script(name="Shan", consonants="ၵၶငၸသတထၼပၽမယလဝႁ", vowels="ႃိုူေ"),
)  # fmt: skip
_SYLLABLES = (0.25, 0.45, 0.22, 0.08)
"""Shares of words with one, two, three and four syllables."""
_CODA_SHARE = 0.35
_TRIES = 50


def nonsense_word(voice: Voice, rng: np.random.Generator) -> str:
    """Return a word of one to four syllables in the script of the voice's language.

    Raises:
        KwsError: its script is not known.

    Example:
        >>> nonsense_word(find_voice("en-us"), np.random.default_rng(1))
        'gokihi'
    """
    script = script_of(voice)
    if script is None:
        raise KwsError(
            f"No letters are known for nonsense in this language. Received: {voice.language!r}. "
            f"Choose another --language, or give a text with --text FILE"
        )
    for _ in range(_TRIES):
        word = _spell(script, rng)
        # Some cannot be said, or only by the rules of another language: French has no w.
        with contextlib.suppress(KwsError):
            if len(sounds_of(word, voice)) == 1:
                break
    return word


def _spell(script: Script, rng: np.random.Generator) -> str:
    word = ""
    for _ in range(1 + int(rng.choice(len(_SYLLABLES), p=_SYLLABLES))):
        if script.consonants:
            word += script.consonants[int(rng.integers(len(script.consonants)))]
        word += script.vowels[int(rng.integers(len(script.vowels)))]
    if script.consonants and rng.random() < _CODA_SHARE:
        word += script.consonants[int(rng.integers(len(script.consonants)))]
    return word


@functools.cache
def script_of(voice: Voice) -> Script | None:
    """Return the script of a voice's language; `None` if it is not known."""
    for script in _SCRIPTS:
        # Unknown letters are read out by name, as several words, or left to another language.
        sample = 2 * ("".join(script.consonants[:1]) + script.vowels[0])
        marked = transcribe(sample, voice)
        if len(marked) == 1 and not spoken_by_others(marked) and len(marked[0]) > 1:
            return script
    return None
