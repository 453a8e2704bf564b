"""What would improve a network most, by the measurements of each keyword."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from kws.wording import counted, duration, percent

GOOD_MISSES = 0.05
"""Missing fewer than this share of a word is fine; openWakeWord's goal is the same."""
FEW_RECORDINGS = 50
"""With fewer recordings of a word than this, more are likely to help."""
MANY_GENERATED_MISSES = 0.1
"""Training on a word's generated clips has not worked if so many others of them are missed."""
FEW_GENERATED = 1000
"""With fewer generated clips of a word than this, more are likely to help; `kws new` has so many
made."""
REPEATED_OFTEN = 2.0
"""Other speech is too little if its recordings were laid this often to fill the stream."""
MANY_NEAR_MISSES = 0.1
"""No more than this share of the near-misses should be taken for the word."""
CLOSE_TO_THRESHOLD = 0.75
"""A missed word was close if its score reached this share of the threshold."""
_CLEARLY = 2.0
"""One share is clearly larger than another if it is at least this many times as large …"""
_AT_LEAST = 0.1
"""… and larger by at least this: halves of a hundred words differ by less at random."""


@dataclass(frozen=True, kw_only=True)
class KeywordMeasurements:
    """What was measured of one keyword; shares are 0 to 1."""

    keyword: str
    """The word."""
    recordings: int
    """Recordings of it that were trained on."""
    speakers: int
    """Their speakers, according to the file names."""
    held_out: int
    """Recordings of it that were not trained on. Without any, generated clips that were not trained
    on are measured."""
    generated: int
    """Generated clips of it that were trained on."""
    missed: float | None
    """Share of its words that were missed; None where no clip of it was held out."""
    missed_trained: float | None = None
    """The same for recordings that were trained on; None without any."""
    close_trained: float = 0.0
    """Share of these missed recordings whose score came close to the threshold."""
    missed_soft: float = 0.0
    """Share missed in the quieter half of the words."""
    missed_loud: float = 0.0
    """Share missed in the louder half."""
    missed_noisy: float = 0.0
    """Share missed in the half with more noise."""
    missed_clear: float = 0.0
    """Share missed in the half with less noise."""
    near_misses: float | None = None
    """Share of generated near-misses that were taken for it; None without any."""
    more_near_misses: str = ""
    """The command that generates more of them."""
    language_known: bool = True
    """Whether that command includes the language; otherwise it means English."""
    more_generated: str = ""
    """The command that generates more clips of the word."""
    epochs: int = 0
    """Epochs of the recipe; 0 if not known."""
    larger: str = ""
    """The setting of [model] that makes the network larger; empty where training starts from
    another network, whose sizes are fixed."""
    more_to: str = ""
    """The folder for more recordings of it; empty for the default of `kws data record`."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """False accepts of all keywords together, and the misses if more were allowed."""

    wanted_per_hour: float
    """False accepts per hour that were asked for."""
    least_per_hour: float
    """The lower end of the 95 % interval of the measured rate."""
    missed: float
    """Share of all words that are missed with the chosen thresholds."""
    missed_at: Sequence[tuple[float, float]] = ()
    """Pairs of a higher rate and the share missed with the thresholds for it, by rising rate."""
    speech: SpeechMeasurements | None = None
    """The other speech that they were counted in; None if not known."""


@dataclass(frozen=True, kw_only=True)
class SpeechMeasurements:
    """The speech that false accepts were counted in."""

    seconds: float
    """Length of its different recordings."""
    times: float
    """How often each was laid to fill the stream."""
    generated: bool
    """Whether all of it was generated."""
    fetch: str = ""
    """The command that fetches other words for the recipe; empty if it has them, or names none."""
    more: str = ""
    """The command that generates more running speech; empty if the recipe has none."""
    language_known: bool = True
    """Whether that command includes the language; otherwise it means English."""


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """A training that was stopped before its last epoch."""

    done: int
    """Epochs that were trained."""
    epochs: int
    """Epochs of the recipe."""
    resume: str
    """The command that continues it."""


def advise(
    measured: Sequence[KeywordMeasurements], rates: Rates, unfinished: Unfinished | None = None
) -> list[str]:
    """Return what would help, one line each, the most helpful first; none if all is well.

    An unfinished training comes first, then keywords that could not be measured, then those missed
    most; advice about all keywords comes last.
    """
    first = []
    if unfinished is not None:
        first.append(
            f"finish the training, which was stopped after {unfinished.done} of "
            f"{counted(unfinished.epochs, 'epoch')}, then judge it again before you follow other "
            f"advice: {unfinished.resume}"
        )
    by_misses = sorted(measured, key=lambda one: -1.0 if one.missed is None else -one.missed)
    words = [line for one in by_misses for line in advise_word(one)]
    return first + words + _on_rates(rates) + _on_speech(rates)


def advise_word(word: KeywordMeasurements) -> list[str]:
    """Return what would help one keyword, the most helpful first."""
    return [
        *_on_generated(word),
        *_on_training(word),
        *_on_recordings(word),
        *_on_conditions(word),
    ]


def _on_generated(word: KeywordMeasurements) -> list[str]:
    """Advise on misses of generated clips where there are no recordings."""
    missed = word.missed or 0.0
    if word.recordings or word.held_out or missed < MANY_GENERATED_MISSES:
        return []
    longer = f"train longer ([training] epochs{f', now {word.epochs}' if word.epochs else ''})"
    lacking = f"{word.keyword!r} is missed in {_percent(missed)} of generated clips, too"
    if word.generated >= FEW_GENERATED or not word.more_generated:
        return [f"{lacking}: {longer}"]
    return [
        f"{lacking}: {longer}, and on more than {counted(word.generated, 'clip')}"
        f"{_unless_english(word.language_known)}: {word.more_generated}"
    ]


def _on_training(word: KeywordMeasurements) -> list[str]:
    """Advise on misses of recordings that were trained on."""
    trained = word.missed_trained
    if trained is None or trained < GOOD_MISSES or _clearly(word.missed or 0.0, trained):
        return []
    missed = f"{word.keyword!r} is missed in {_percent(trained)} of its training recordings"
    if word.close_trained > 0.5:
        return [
            f"{missed}, mostly just below the threshold: allow more false accepts if you can, or "
            "add more other speech ([data] speech) and similar-sounding words, so that a lower "
            "threshold will do"
        ]
    larger = f" or use a larger network ([model] {word.larger})" if word.larger else ""
    return [
        f"{missed}: listen to the clips that were missed most, then train longer "
        f"([training] epochs){larger}"
    ]


def _on_recordings(word: KeywordMeasurements) -> list[str]:
    """Advise on more recordings of the word: one line at most."""
    bad, trained, missed = _bad(word), word.missed_trained, word.missed or 0.0
    known, speakers = counted(word.recordings, "recording"), counted(word.speakers, "speaker")
    to = ["--to", word.more_to] if word.more_to else []
    record = shlex.join(["kws", "data", "record", word.keyword, *to])
    if not word.recordings and not word.held_out:
        return [
            f"record {word.keyword!r}: it was measured on generated voices only, and real ones may "
            f"give quite different results. Twenty recordings help most: {record}"
        ]
    if not word.held_out:
        return [
            f"record {word.keyword!r} some more, by other people: its {known} "
            f"{'was' if word.recordings == 1 else 'were'} all used for training, so there is no "
            "figure for new real voices. About one in five of the recordings you add is held out: "
            f"{record}"
        ]
    if bad and trained is not None and _clearly(missed, trained):
        return [
            f"record {word.keyword!r} by other people and in other rooms: it is missed in "
            f"{_percent(missed)} of new recordings, but in {_percent(trained)} of the {known} by "
            f"{speakers} in training: {record}"
        ]
    if bad and word.recordings < FEW_RECORDINGS:
        return [
            f"record {word.keyword!r} more often, by other people and in other rooms: training had "
            f"{known} by {speakers}: {record}"
        ]
    return []


def _on_conditions(word: KeywordMeasurements) -> list[str]:
    """Advise on quiet words, noise and near-misses."""
    advice = []
    if _bad(word) and _clearly(word.missed_soft, word.missed_loud):
        advice.append(
            f"{word.keyword!r} is missed more often when it is quiet ("
            f"{_percent(word.missed_soft)}) than when it is loud ({_percent(word.missed_loud)}): "
            "lower the first number of [augment] gain_db"
        )
    if _bad(word) and _clearly(word.missed_noisy, word.missed_clear):
        advice.append(
            f"{word.keyword!r} is missed more often in noise ({_percent(word.missed_noisy)}) than "
            f"with less noise ({_percent(word.missed_clear)}): record noise where the device will "
            "be used, and put it into _background_noise_"
        )
    if word.near_misses is not None and word.near_misses >= MANY_NEAR_MISSES:
        advice.append(
            f"{_percent(word.near_misses)} of the near-misses of {word.keyword!r} were taken for "
            f"it: generate more to train on{_unless_english(word.language_known)}: "
            f"{word.more_near_misses}"
        )
    return advice


def _bad(word: KeywordMeasurements) -> bool:
    return word.missed is not None and word.missed >= GOOD_MISSES


def _on_rates(rates: Rates) -> list[str]:
    advice = []
    if rates.least_per_hour > rates.wanted_per_hour:
        advice.append(
            "more false accepts than wanted in speech that the thresholds were not chosen on: add "
            "more other speech ([data] speech), and the model's own false alarms (kws mine)"
        )
    elif rates.missed >= GOOD_MISSES:
        better = [pair for pair in rates.missed_at if _clearly(rates.missed, pair[1])]
        if better:
            rate, missed = better[0]
            advice.append(
                f"allow more false accepts if you can: at {rate:g} per hour, about "
                f"{_percent(missed)} of the words would be missed instead of "
                f"{_percent(rates.missed)}: --false-accepts-per-hour {rate:g}"
            )
    return advice


def _on_speech(rates: Rates) -> list[str]:
    """Advise on more other speech: one line at most."""
    speech = rates.speech
    if speech is None or speech.times < REPEATED_OFTEN:
        return []
    ways = ["recordings of people who do not say the words ([data] speech)"]
    if speech.fetch:
        ways.append(f"other words by thousands of people ({speech.fetch})")
    if speech.more:
        ways.append(f"more generated speech{_unless_english(speech.language_known)}: {speech.more}")
    return [
        f"false accepts were counted in only {duration(speech.seconds)} of different speech"
        f"{', all of it generated' if speech.generated else ''}, and a longer stream would just "
        f"repeat it. Add {', or '.join(ways)}"
    ]


def _unless_english(language_known: bool) -> str:
    return "" if language_known else " (with -l and its language, if not English)"


def _clearly(more: float, less: float) -> bool:
    # Shares are rounded: 0.12 - 0.02 is not quite 0.1.
    return more >= _CLEARLY * less and more - less >= _AT_LEAST - 1e-9


def _percent(share: float) -> str:
    return percent(share, decimals=0)
