"""Similar-sounding words (near-misses), which must not trigger a wake word.

A model trained on one word against everything else uses whatever tells them apart, for example only
the first syllable. Near-misses share most of the word, so that the model has to use all of it. They
are made from the word's phonemes, not its letters, and contain only phonemes that occur in the
language in that position (beginning of a syllable, its end, under stress).

`too_alike` excludes what people would take for the word: a plural, another stress, a longer vowel,
a single phoneme mumbled in a weak position.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from kws.data.synthesis.espeak import Voice
from kws.data.synthesis.nonsense import nonsense_word, script_of
from kws.data.synthesis.phonemes import Sound, Sounds, sounds_of, spell, syllables, vowel_distance
from kws.errors import KwsError

Phrase = tuple[Sounds, ...]
"""The phonemes of one or more words."""

_NONSENSE_WORDS = 300
"""Enough to show which phonemes a language has in which positions."""
_TRIES = 60
_LEAST_MISSING = 1 / 3
"""A part of a word lacks at least this share of its phonemes."""
_FAR_VOWEL = 0.45
"""Vowels this far apart on the chart make different words: bit and boat, not bit and bet."""
_WEAK = 0.6
"""Weight of a consonant that begins neither the word nor a stressed syllable."""
_ALIKE = 1.0
"""Phrases closer than this are taken for each other: the weight of one strong phoneme."""


@dataclass(frozen=True, kw_only=True)
class NearMiss:
    """A similar-sounding word or phrase."""

    kind: str
    """How it was made, one of `KINDS`."""
    text: str
    """``[[phonemes]]`` for the synthesiser."""


def near_miss(
    word: str, voice: Voice, rng: np.random.Generator, *, avoid: Sequence[str] = ()
) -> NearMiss:
    """Make a random near-miss: first its kind, all equally likely, then the rest.

    Args:
        word: text or ``[[phonemes]]``.
        voice: its language determines the phonemes.
        rng: random generator.
        avoid: other words that must not result either.

    Raises:
        KwsError: the language cannot say the word, or no near-miss of it can be made.
    """
    voice = replace(voice, variant="")  # The variant does not change the phonemes.
    phrase = _phrase(word, voice)
    targets = [phrase, *(_phrase(text, voice) for text in avoid)]
    inventory = _inventory(voice, word)
    for name in rng.permutation(list(KINDS)):
        for _ in range(_TRIES):
            made = KINDS[name](phrase, inventory, rng)
            if made is None:
                break
            text = spell(_stressed(made))
            # A language may change phonemes in a new context, so compare what is really said.
            said = _phrase(text, voice)
            if not any(too_alike(said, target, voice) for target in targets):
                return NearMiss(kind=str(name), text=text)
    raise KwsError(
        f"No similar-sounding word can be made of this one. Received: {word!r} in "
        f"{voice.language}. Choose a longer word"
    )


def too_alike(phrase: Phrase, word: Phrase, voice: Voice) -> bool:
    """Whether people would hear `word` somewhere in `phrase`.

    The word's phonemes are aligned with any stretch of the phrase at the least cost. A phoneme that
    is missing or of another class (stop, fricative, nasal, liquid; a vowel far away on the chart)
    costs 1, a similar one less, and less again in weak positions; stress and length cost nothing.
    """
    there = [sound for part in phrase for sound in part]
    wanted = _weighted(word)
    previous = np.zeros(len(there) + 1)  # The word may begin anywhere,
    for sound, weight in wanted:
        row = np.empty_like(previous)
        row[0] = previous[0] + weight
        for i, other in enumerate(there):
            exchanged = previous[i] + weight * _difference(sound, other, voice)
            inserted = row[i] + (1.0 if other.is_vowel else _WEAK)
            row[i + 1] = min(exchanged, inserted, previous[i + 1] + weight)
        previous = row
    return bool(previous.min() < _ALIKE - 1e-9)  # and end anywhere.


def _difference(one: Sound, other: Sound, voice: Voice) -> float:
    if one.is_vowel != other.is_vowel:
        return 1.0
    if one.is_vowel:
        return min(1.0, vowel_distance(one, other, voice) / _FAR_VOWEL)
    if one.name == other.name:
        return 0.0
    return 0.5 if one.kind == other.kind else 1.0


def _weighted(word: Phrase) -> list[tuple[Sound, float]]:
    """Return each phoneme with its weight."""
    found: list[tuple[Sound, float]] = []
    for part in word:
        for number, syllable in enumerate(syllables(part)):
            strong = any(sound.stress for sound in syllable)
            nucleus = next((i for i, sound in enumerate(syllable) if sound.is_vowel), 0)
            for i, sound in enumerate(syllable):
                begins = i < nucleus and (strong or number == 0)
                found.append((sound, 1.0 if sound.is_vowel or begins else _WEAK))
    return found


# ---- kinds


def beginning(phrase: Phrase, inventory: Inventory, rng: np.random.Generator) -> Phrase | None:
    """Keep only the first part, on which a detector that does not wait for the end fires."""
    parts = [part for part, rest in _cuts(phrase) if _enough_missing(part, rest)]
    return _pick(parts, rng)


def end(phrase: Phrase, inventory: Inventory, rng: np.random.Generator) -> Phrase | None:
    """Keep only the last part, on which a detector that remembers half a second fires."""
    parts = [part for rest, part in _cuts(phrase) if _enough_missing(part, rest)]
    return _pick(parts, rng)


def left_out(phrase: Phrase, inventory: Inventory, rng: np.random.Generator) -> Phrase | None:
    """Leave out a syllable: the same beginning and end, but shorter."""
    cut = _cut_up(phrase)
    if len(cut) < 3:
        return None
    at = int(rng.integers(len(cut)))
    return _join(cut[:at] + cut[at + 1 :])


def doubled(phrase: Phrase, inventory: Inventory, rng: np.random.Generator) -> Phrase | None:
    """Repeat a syllable: all of the word's phonemes, but longer."""
    cut = _cut_up(phrase)
    if len(cut) < 3:
        return None
    # At the ends the phrase would still contain the whole word.
    at = int(rng.integers(1, len(cut) - 1))
    again = (False, cut[at][1])
    return _join([*cut[: at + 1], again, *cut[at + 1 :]])


def swapped(phrase: Phrase, inventory: Inventory, rng: np.random.Generator) -> Phrase | None:
    """Swap two neighbouring syllables: the same phonemes in another order."""
    cut = _cut_up(phrase)
    if len(cut) < 2:
        return None
    at = int(rng.integers(len(cut) - 1))
    (first, one), (second, other) = cut[at], cut[at + 1]
    return _join([*cut[:at], (first, other), (second, one), *cut[at + 2 :]])


def other_vowel(phrase: Phrase, inventory: Inventory, rng: np.random.Generator) -> Phrase | None:
    """Exchange a stressed vowel: it is the loudest part, but must not decide alone."""
    places = [(w, i) for w, i, sound in _numbered(phrase) if sound.is_vowel and sound.stress]
    places = places or [(w, i) for w, i, sound in _numbered(phrase) if sound.is_vowel]
    word, at = places[int(rng.integers(len(places)))]
    new = _pick(inventory.vowels, rng)
    old = phrase[word][at]
    return new and _exchange(phrase, word, at, replace(old, name=new.name))


def other_consonants(
    phrase: Phrase, inventory: Inventory, rng: np.random.Generator
) -> Phrase | None:
    """Exchange one or two consonants for ones of another class: computer, commuter."""
    places = [(w, i) for w, i, sound in _numbered(phrase) if not sound.is_vowel]
    if not places:
        return None
    count = min(len(places), int(rng.integers(1, 3)))
    for at in rng.permutation(len(places))[:count]:
        word, i = places[at]
        begins = any(sound.is_vowel for sound in phrase[word][i + 1 : i + 2])
        old = phrase[word][i]
        choice = [
            sound
            for sound in (inventory.openings if begins else inventory.closings)
            if sound.kind != old.kind
        ]
        new = _pick(choice, rng)
        if new is None:
            return None
        phrase = _exchange(phrase, word, i, new)
    return phrase


def begins_like(phrase: Phrase, inventory: Inventory, rng: np.random.Generator) -> Phrase | None:
    """Keep the beginning and add something else: compute now, competence."""
    cuts = [(part, rest) for part, rest in _cuts(phrase, anywhere=True) if _size(part) > 1]
    if not cuts or not inventory.syllables:
        return None
    part, rest = cuts[int(rng.integers(len(cuts)))]
    other = _other(rest, inventory, rng)
    if rng.random() < 0.5:
        return (*part, other)
    return (*part[:-1], part[-1] + other)


def ends_like(phrase: Phrase, inventory: Inventory, rng: np.random.Generator) -> Phrase | None:
    """Put something else before the end: a scooter, minicomputer without its com."""
    cuts = [(rest, part) for rest, part in _cuts(phrase) if _size(part) > 1]
    if not cuts or not inventory.syllables:
        return None
    rest, part = cuts[int(rng.integers(len(cuts)))]
    other = _other(rest, inventory, rng)
    if rng.random() < 0.5:
        return (other, *part)
    return (other + part[0], *part[1:])


KINDS: Mapping[str, Callable[[Phrase, Inventory, np.random.Generator], Phrase | None]] = {
    "beginning": beginning,
    "end": end,
    "left_out": left_out,
    "doubled": doubled,
    "swapped": swapped,
    "other_vowel": other_vowel,
    "other_consonants": other_consonants,
    "begins_like": begins_like,
    "ends_like": ends_like,
}
"""How near-misses are made. The names are data: `texts.tsv` holds them."""


# ---- phonemes of a language


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """The phonemes of a language by position."""

    openings: Sounds
    """Consonants before a vowel at the beginning of a word."""
    closings: Sounds
    """Consonants after a vowel at the end of a word, or before another consonant."""
    vowels: Sounds
    """Vowels under the main stress."""
    syllables: tuple[Sounds, ...]
    """Whole syllables, without stress."""


@functools.lru_cache(maxsize=256)
def _inventory(voice: Voice, word: str) -> Inventory:
    rng = np.random.default_rng(zlib.crc32(voice.language.encode()))
    words: list[Sounds] = []
    # Without a known script there are only the word's own phonemes.
    for _ in range(_NONSENSE_WORDS if script_of(voice) else 0):
        words += sounds_of(nonsense_word(voice, rng), voice)
    words += _phrase(word, voice)
    openings, closings, vowels, found = {}, {}, {}, {}
    for sounds in words:
        for one, other in pairwise(sounds):
            if not one.is_vowel and other.is_vowel and one is sounds[0]:
                openings[one.name] = one
            if one.is_vowel and not other.is_vowel and other is sounds[-1]:
                closings[other.name] = other
        for sound in sounds:
            if sound.is_vowel and sound.stress == "'":
                vowels[sound.name] = sound
        for syllable in syllables(sounds):
            bare = tuple(replace(sound, stress="") for sound in syllable)
            found[str(bare)] = bare
    return Inventory(
        openings=_in_order(openings),
        closings=_in_order(closings),
        vowels=_in_order(vowels),
        syllables=tuple(found[key] for key in sorted(found)),
    )


@functools.lru_cache(maxsize=4096)
def _phrase(text: str, voice: Voice) -> Phrase:
    return tuple(sounds_of(text, voice))


def _in_order(sounds: Mapping[str, Sound]) -> Sounds:
    return tuple(sounds[name] for name in sorted(sounds))


# ---- cutting and joining

_Cut = list[tuple[bool, Sounds]]
"""Syllables, each with whether it begins a word."""


def _cut_up(phrase: Phrase) -> _Cut:
    return [(i == 0, s) for word in phrase for i, s in enumerate(syllables(word))]


def _join(cut: _Cut) -> Phrase:
    words: list[Sounds] = []
    for begins, syllable in cut:
        if begins or not words:
            words.append(syllable)
        else:
            words[-1] += syllable
    return tuple(words)


def _cuts(phrase: Phrase, *, anywhere: bool = False) -> list[tuple[Phrase, Phrase]]:
    """Return all ways to cut a phrase in two between syllables, so that both parts have a vowel.

    A single syllable is cut between phonemes, as is every phrase with `anywhere`; then one part may
    lack a vowel.
    """
    cut = _cut_up(phrase)
    pairs = [(_join(cut[:i]), _join(cut[i:])) for i in range(1, len(cut))]
    if anywhere or len(cut) == 1:
        flat = list(_numbered(phrase))
        for at in range(1, len(flat)):
            word, i, _ = flat[at]
            pairs.append(
                (
                    (*phrase[:word], *((phrase[word][:i],) if i else ())),
                    (phrase[word][i:], *phrase[word + 1 :]),
                )
            )
    if anywhere:
        return [(a, b) for a, b in pairs if any(s.is_vowel for word in a for s in word)]
    return pairs


def _enough_missing(part: Phrase, rest: Phrase) -> bool:
    voiced = any(sound.is_vowel for word in part for sound in word)
    return voiced and _size(rest) >= _LEAST_MISSING * (_size(part) + _size(rest))


def _size(phrase: Phrase) -> int:
    return sum(map(len, phrase))


def _other(replaced: Phrase, inventory: Inventory, rng: np.random.Generator) -> Sounds:
    """Return as many syllables of other words as are replaced."""
    count = max(1, sum(sound.is_vowel for word in replaced for sound in word))
    drawn = rng.integers(len(inventory.syllables), size=count)
    return tuple(sound for i in drawn for sound in inventory.syllables[int(i)])


def _numbered(phrase: Phrase) -> list[tuple[int, int, Sound]]:
    return [(w, i, sound) for w, word in enumerate(phrase) for i, sound in enumerate(word)]


def _exchange(phrase: Phrase, word: int, at: int, sound: Sound) -> Phrase:
    changed = (*phrase[word][:at], sound, *phrase[word][at + 1 :])
    return (*phrase[:word], changed, *phrase[word + 1 :])


def _stressed(phrase: Phrase) -> Phrase:
    """Put a main stress on the first vowel of each word without one."""
    words = []
    for word in phrase:
        vowels = [i for i, sound in enumerate(word) if sound.is_vowel]
        if vowels and not any(word[i].stress == "'" for i in vowels):
            at = vowels[0]
            word = (*word[:at], replace(word[at], stress="'"), *word[at + 1 :])
        words.append(word)
    return tuple(words)


def _pick(things: Sequence, rng: np.random.Generator):  # type: ignore[no-untyped-def]
    return things[int(rng.integers(len(things)))] if things else None
