"""The synthesiser's voices for a language, and random utterances."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from kws.data.synthesis.espeak import Utterance, Voice, engine
from kws.errors import KwsError

# Pitch, its range and words per minute, each from, to (exclusive): the usual variation of voices
# and people, and the widest, from monotone to lively and from slow to hurried.
_USUAL = ((25, 76), (25, 86), (115, 211))
_VARIED = ((15, 90), (5, 100), (100, 241))

# Variants that are effects (robots, whispers, a choir in a hall), not voices.
_EFFECTS = re.compile(
    r"^(demonic|marco|unirobot|anikarobot|announcer|fast|robosoft\d*|tweaky|whisperf?)$"
)
# People do whisper sometimes.
_WHISPERS = frozenset({"whisper", "whisperf"})
# en-Shaw reads only the Shavian alphabet.
_OTHER_SCRIPTS = frozenset({"en-shaw"})


def voices(
    languages: str | Sequence[str] = "en", *, effects: bool = False, whispers: bool = False
) -> list[Voice]:
    """Return the voices for some languages: every accent with every variant, in a fixed order.

    Args:
        languages: codes such as ``"de"``, ``"en"`` (all English accents) or ``["en-us", "en-gb"]``.
        effects: include whispers, robots and the like.
        whispers: include whispers.

    Raises:
        KwsError: no voice for a language, or espeak-ng is missing.

    Example:
        >>> [voice.name for voice in voices("en-us")][:2]
        ['en-us', 'en-us+Alex']
    """
    espeak = engine()
    variants = ["", *espeak.variants]
    if not effects:
        variants = [
            name
            for name in variants
            if not _EFFECTS.match(name.lower()) or (whispers and name.lower() in _WHISPERS)
        ]
    found: dict[str, str] = {}
    for wanted in [languages] if isinstance(languages, str) else languages:
        code = wanted.strip().lower()
        matches = {
            codes[0]: identifier
            for identifier, codes in espeak.languages.items()
            if code in codes or codes[0].startswith(code + "-")
        }
        if len(matches) > 1:
            matches = {key: value for key, value in matches.items() if key not in _OTHER_SCRIPTS}
        if not code or not matches:
            codes = {codes[0].split("-")[0] for codes in espeak.languages.values()}
            known = ", ".join(sorted(codes))
            raise KwsError(
                f"No voice speaks this language. Received: {wanted!r}. Choose one of: {known}"
            )
        found.update(matches)
    return [
        Voice(language=language, variant=variant, identifier=identifier)
        for language, identifier in sorted(found.items())
        for variant in variants
    ]


def find_voice(name: str) -> Voice:
    """Return the voice with a name such as ``"en-us"`` or ``"en-us+f2"``.

    Raises:
        KwsError: no such language or variant.
    """
    language, _, variant = name.partition("+")
    candidates = voices(language, effects=True)
    # "en" alone matches several accents; prefer the exact code.
    exact = [v for v in candidates if v.language == language.strip().lower()] or candidates
    for voice in exact:
        if voice.variant.lower() == variant.strip().lower():
            return voice
    known = ", ".join(v.variant for v in exact[1:] if v.language == exact[0].language)
    raise KwsError(f"Unknown variant of the voice. Received: {name!r}. Choose one of: {known}")


def languages() -> list[str]:
    """Return the codes of all languages and accents, sorted."""
    return sorted(codes[0] for codes in engine().languages.values())


def random_utterance(
    text: str,
    pool: Sequence[Voice],
    rng: np.random.Generator,
    *,
    varied: bool = False,
    longest_samples: int | None = None,
) -> Utterance:
    """Draw a voice from `pool`, a pitch, its range and a speed, all within the range of people.

    With `varied` the ranges are as wide as those of people, and there are (mostly short) pauses
    between words. Lengths, not speeds, are then uniformly distributed: a single word is more often
    slow than fast, and the slow examples of "computer" were the ones that were missed.
    """
    pitch, pitch_range, (slowest, fastest) = _VARIED if varied else _USUAL

    def draw_rate() -> float:
        if varied:
            return 1 / float(rng.uniform(1 / fastest, 1 / slowest))
        return float(rng.integers(slowest, fastest))

    voice, height = pool[int(rng.integers(len(pool)))], int(rng.integers(*pitch))
    return Utterance(
        text=text,
        voice=voice,
        pitch=height,
        # espeak-ng crashes below 0 Hz, where a wide range would take a deep voice.
        pitch_range=min(int(rng.integers(*pitch_range)), 2 * height + 25),
        rate_wpm=int(draw_rate()),
        word_gap_ms=min(250, int(rng.exponential(40))) if varied else 0,
        longest_samples=longest_samples,
    )
