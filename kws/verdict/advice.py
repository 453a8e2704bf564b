"""What would help a network most, read off what was measured."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

GOOD_MISSES = 0.05
"""A word that is missed less often than this is fine; openWakeWord's goal is the same."""
FEW_RECORDINGS = 50
"""With fewer of a word, more of them are likely to help."""
_CLEARLY = 2.0
"""One share is clearly larger than another if it is so many times as large …"""
_AT_LEAST = 0.05
"""… and larger by this."""


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """How often a network heard one recording, laid into a stream several times."""

    clip: str
    """The recording, as ``<folder>/<file>``."""
    keyword: str
    """What is said in it."""
    laid: int
    """How often it was laid, each time at another level and before other noise."""
    missed: int
    """How often no event of its keyword came."""
    best: float
    """The highest score that it ever got, 0 to 1; an event needs the threshold."""


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
    """Recordings of it that were not trained on."""
    generated: int
    """Generated clips of it that were trained on."""
    missed: float
    """Share of its words that were missed, in recordings that were not trained on."""
    missed_trained: float | None
    """The same for recordings that were trained on; None without any."""
    missed_soft: float
    """Share missed among the softer half of the words."""
    missed_loud: float
    """Share missed among the louder half."""
    missed_noisy: float
    """Share missed among the half with more noise."""
    missed_clear: float
    """Share missed among the half with less noise."""
    near_misses: float | None
    """Share of generated near-misses that set it off; None without any."""
    more_to: str = ""
    """The folder that more recordings of it belong in; empty for the own words in the data home."""


def advise(facts: Facts, *, false_accepts_per_hour: float, wanted_per_hour: float) -> list[str]:
    """Return what would help a keyword, the most helpful first; one line each, none if all is well.

    Args:
        facts: about the keyword.
        false_accepts_per_hour: measured, of all keywords together.
        wanted_per_hour: what was asked for.
    """
    word, advice = facts.keyword, []
    to = ["--to", facts.more_to] if facts.more_to else []
    record = shlex.join(["kws", "data", "record", word, *to])
    bad = facts.missed >= GOOD_MISSES
    if not facts.recordings:
        advice.append(
            f"record {word!r}: it was learnt and measured on generated voices alone, and real ones "
            f"will do worse than this says. Twenty recordings help most: {record}"
        )
    elif bad and facts.recordings < FEW_RECORDINGS:
        of = "one speaker" if facts.speakers == 1 else f"{facts.speakers} speakers"
        advice.append(
            f"record {word!r} more often, by other people or in other rooms: it was learnt from "
            f"{facts.recordings} recordings of {of} ({record})"
        )
    trained = facts.missed_trained
    if bad and trained is not None and facts.recordings:
        if _clearly(facts.missed, trained):
            advice.append(
                f"{word!r} is missed in {_percent(trained)} of the recordings it was trained on "
                f"and in {_percent(facts.missed)} of others: voices or rooms are missing, not "
                "training"
            )
        elif trained >= GOOD_MISSES:
            advice.append(
                f"{word!r} is missed in {_percent(trained)} of the very recordings it was trained "
                "on: train longer ([training] epochs) or a larger network ([model] lstm_units), "
                "and listen to the worst clips below"
            )
    if bad and _clearly(facts.missed_soft, facts.missed_loud):
        advice.append(
            f"{word!r} is missed when it is soft ({_percent(facts.missed_soft)}, loud "
            f"{_percent(facts.missed_loud)}): lower the first number of [augment] gain_db"
        )
    if bad and _clearly(facts.missed_noisy, facts.missed_clear):
        advice.append(
            f"{word!r} is missed in noise ({_percent(facts.missed_noisy)}, less noise "
            f"{_percent(facts.missed_clear)}): record noise from where it will be used into "
            "_background_noise_"
        )
    near = facts.near_misses
    if bad and near == 0.0:
        advice.append(
            f"no near-miss of {word!r} sets it off while the word itself is missed: generate fewer "
            "of them, or lower [data] generated_share"
        )
    elif near is not None and near >= 0.1:
        advice.append(
            f"{_percent(near)} of what only sounds like {word!r} sets it off: generate more "
            "near-misses (kws data synth --near-misses)"
        )
    if false_accepts_per_hour > 2 * max(wanted_per_hour, 0.1):
        advice.append(
            "it fires falsely more often than wanted in speech that the threshold was not chosen "
            "on: add more other speech, and its own false alarms (kws mine)"
        )
    return advice


def _clearly(more: float, less: float) -> bool:
    return more >= _CLEARLY * less and more - less >= _AT_LEAST


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
