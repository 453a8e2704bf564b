"""Who speaks, and how: the synthesiser's voices for a language, and utterances drawn at random."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from kws.data.synthesis.espeak import Utterance, Voice, engine
from kws.errors import KwsError

# Pitch, its range and words a minute, each from, to (exclusive), as voices and people vary usually
# and at most: the monotone and the lively, who takes time and who is in a hurry.
_USUAL = ((25, 76), (25, 86), (115, 211))
_VARIED = ((15, 90), (5, 100), (100, 241))

# Variants that are effects (robots, whispers, a choir in a hall) and not somebody's voice.
_EFFECTS = re.compile(
    r"^(demonic|marco|unirobot|anikarobot|announcer|fast|robosoft\d*|tweaky|whisperf?)$"
)
# People do whisper, now and then.
_WHISPERS = frozenset({"whisper", "whisperf"})
# en-Shaw reads the Shavian alphabet only.
_OTHER_SCRIPTS = frozenset({"en-shaw"})


def voices(
    languages: str | Sequence[str] = "en", *, effects: bool = False, whispers: bool = False
) -> list[Voice]:
    """The voices for some languages: every accent with every variant, in a fixed order.

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
                f"No voice speaks the language. Received: {wanted!r}. Choose one of: {known}"
            )
        found.update(matches)
    return [
        Voice(language=language, variant=variant, identifier=identifier)
        for language, identifier in sorted(found.items())
        for variant in variants
    ]


def find_voice(name: str) -> Voice:
    """The voice called ``"en-us"`` or ``"en-us+f2"``.

    Raises:
        KwsError: no such language or variant.
    """
    language, _, variant = name.partition("+")
    candidates = voices(language, effects=True)
    # "en" alone means several accents; take the exact code where there is one.
    exact = [v for v in candidates if v.language == language.strip().lower()] or candidates
    for voice in exact:
        if voice.variant.lower() == variant.strip().lower():
            return voice
    known = ", ".join(v.variant for v in exact[1:] if v.language == exact[0].language)
    raise KwsError(f"No such variant of the voice. Received: {name!r}. Choose one of: {known}")


def languages() -> list[str]:
    """The codes of all languages and accents, sorted."""
    return sorted(codes[0] for codes in engine().languages.values())


def random_utterance(
    text: str,
    pool: Sequence[Voice],
    rng: np.random.Generator,
    *,
    varied: bool = False,
    longest_samples: int | None = None,
) -> Utterance:
    """Draw a voice of `pool`, a pitch, its range and a speed, all within what people do.

    With `varied` they go as far as people ever do, and words have pauses between them, mostly
    short ones. Then lengths, not speeds, are equally likely: a word said by itself is more often
    slow than fast, and of "computer" it was the slow ones that were missed.
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
        # Below zero Hz, where a wide range leads a deep voice, espeak-ng crashes.
        pitch_range=min(int(rng.integers(*pitch_range)), 2 * height + 25),
        rate_wpm=int(draw_rate()),
        word_gap_ms=min(250, int(rng.exponential(40))) if varied else 0,
        longest_samples=longest_samples,
    )
