"""What would help a network most, read off what was measured."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from kws.wording import counted

GOOD_MISSES = 0.05
"""A word that is missed less often than this is fine; openWakeWord's goal is the same."""
FEW_RECORDINGS = 50
"""With fewer of a word, more of them are likely to help."""
MANY_NEAR_MISSES = 0.1
"""More near-misses than this should not set a network off."""
_CLEARLY = 2.0
"""One share is clearly larger than another if it is so many times as large …"""
_AT_LEAST = 0.1
"""… and larger by this: halves of a hundred words differ by less for no reason."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What advice about one keyword rests on; shares are 0 to 1."""

    keyword: str
    """The word."""
    recordings: int
    """Recordings of it that were trained on."""
    speakers: int
    """Their speakers, as far as file names tell."""
    held_out: int
    """Recordings of it that were not trained on. Without any, words were measured on generated
    clips that were not trained on."""
    generated: int
    """Generated clips of it that were trained on."""
    missed: float | None
    """Share of its words that were missed; None where no clip of it was held out."""
    missed_trained: float | None = None
    """The same for recordings that were trained on; None without any."""
    missed_soft: float = 0.0
    """Share missed among the softer half of the words."""
    missed_loud: float = 0.0
    """Share missed among the louder half."""
    missed_noisy: float = 0.0
    """Share missed among the half with more noise."""
    missed_clear: float = 0.0
    """Share missed among the half with less noise."""
    near_misses: float | None = None
    """Share of generated near-misses that set it off; None without any."""
    more_near_misses: str = ""
    """The command that generates more of these."""
    language_known: bool = True
    """Whether that says the word's language; else it would be taken for English."""
    larger: str = ""
    """The setting of [model] that makes the network larger; empty where training starts from a
    network, whose sizes it keeps."""
    more_to: str = ""
    """The folder that more recordings of it belong in; empty for the own words in the data home."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """False accepts of all keywords together, and what allowing more of them would bring."""

    wanted_per_hour: float
    """False accepts an hour that were asked for."""
    least_per_hour: float
    """At least so many there are: the lower end of the 95 % interval of what was counted."""
    missed: float
    """Share of all words that are missed with the chosen thresholds."""
    missed_at: Sequence[tuple[float, float]] = ()
    """Pairs of a higher rate and the share missed with the thresholds for it, rates rising."""


def advise(facts: Sequence[Facts], rates: Rates) -> list[str]:
    """Return what would help, the most helpful first; one line each, none if all is well.

    Words that are missed most come first; those that could not be measured before them. What
    concerns all words is last.
    """
    words = sorted(facts, key=lambda one: -1.0 if one.missed is None else -one.missed)
    return [line for one in words for line in advise_word(one)] + _on_rates(rates)


def advise_word(facts: Facts) -> list[str]:
    """Return what would help one keyword, the most helpful first."""
    word, advice = facts.keyword, []
    bad = facts.missed is not None and facts.missed >= GOOD_MISSES
    trained, missed = facts.missed_trained, facts.missed or 0.0
    known = counted(facts.recordings, "recording")
    to = ["--to", facts.more_to] if facts.more_to else []
    record = shlex.join(["kws", "data", "record", word, *to])
    if trained is not None and trained >= GOOD_MISSES and not _clearly(missed, trained):
        advice.append(
            f"{word!r} is missed in {_percent(trained)} of the recordings that it learnt from: "
            "listen to the clips that were missed most, then train longer ([training] epochs)"
            + (f" or a larger network ([model] {facts.larger})" if facts.larger else "")
        )
    if not facts.recordings and not facts.held_out:
        advice.append(
            f"record {word!r}: only generated voices were heard so far, and real ones may do "
            f"quite otherwise. Twenty recordings help most: {record}"
        )
    elif not facts.held_out:
        advice.append(
            f"record {word!r} some more, by other people: all its {known} "
            f"{'was' if facts.recordings == 1 else 'were'} trained on, so nobody knows how it does "
            "on a real voice that is new. Of recordings that are added, about one in five is left "
            f"out of training: {record}"
        )
    elif bad and trained is not None and _clearly(missed, trained):
        advice.append(
            f"record {word!r} by other people and in other rooms: it is missed in "
            f"{_percent(missed)} of new recordings and in {_percent(trained)} of the {known} of "
            f"{counted(facts.speakers, 'speaker')} that it learnt from: {record}"
        )
    elif bad and facts.recordings < FEW_RECORDINGS:
        advice.append(
            f"record {word!r} more often, by other people and in other rooms: it was learnt from "
            f"{known} of {counted(facts.speakers, 'speaker')}: {record}"
        )
    if bad and _clearly(facts.missed_soft, facts.missed_loud):
        advice.append(
            f"{word!r} is missed when it is soft: {_percent(facts.missed_soft)}, and "
            f"{_percent(facts.missed_loud)} when it is loud. Lower the first number of [augment] "
            "gain_db"
        )
    if bad and _clearly(facts.missed_noisy, facts.missed_clear):
        advice.append(
            f"{word!r} is missed in noise: {_percent(facts.missed_noisy)}, and "
            f"{_percent(facts.missed_clear)} with less of it. Record noise where the device will "
            "stand, and put it into _background_noise_"
        )
    if facts.near_misses is not None and facts.near_misses >= MANY_NEAR_MISSES:
        unsaid = "" if facts.language_known else " (with -l and its language, if not English)"
        advice.append(
            f"{_percent(facts.near_misses)} of the near-misses of {word!r} set it off: generate "
            f"more to learn from{unsaid}: {facts.more_near_misses}"
        )
    return advice


def _on_rates(rates: Rates) -> list[str]:
    advice = []
    if rates.least_per_hour > rates.wanted_per_hour:
        advice.append(
            "it fires falsely more often than wanted in speech that the thresholds were not chosen "
            "on: add more other speech ([data] speech), and its own false alarms (kws mine)"
        )
    elif rates.missed >= GOOD_MISSES:
        better = [pair for pair in rates.missed_at if _clearly(rates.missed, pair[1])]
        if better:
            rate, missed = better[0]
            advice.append(
                f"allow more false accepts if you can: with {rate:g} an hour it would miss about "
                f"{_percent(missed)} instead of {_percent(rates.missed)}: "
                f"--false-accepts-per-hour {rate:g}"
            )
    return advice


def _clearly(more: float, less: float) -> bool:
    # Shares are rounded: 0.12 - 0.02 is not quite 0.1.
    return more >= _CLEARLY * less and more - less >= _AT_LEAST - 1e-9


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
