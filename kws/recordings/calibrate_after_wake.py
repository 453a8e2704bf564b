"""Thresholds for commands just after a wake word, chosen for the fewest errors.

Where a wake word opens the window, a command that nobody said is rare, whatever the thresholds. So
no rate of false accepts is asked for: the command error rate (rejected words and false accepts over
words) is as low as it gets. All thresholds are moved together, from those for keywords alone, as in
`kws.recordings.curve`: for each keyword alone there are seldom enough recordings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kws.decide import DecisionConfig
from kws.errors import KwsError
from kws.model_file import ModelCard
from kws.recordings.curve import match_all, trace_curves
from kws.recordings.matching import Matches
from kws.recordings.posteriors import RecordingPosteriors
from kws.recordings.waking import Waking
from kws.wording import counted

ENOUGH_WORDS = 100
"""With fewer words than this, one error more or less decides (95 % interval of 10 %: 5 to 18 %)."""


@dataclass(frozen=True, kw_only=True)
class AfterWakeCalibration:
    """Thresholds for after a wake word, and their results on the recordings they were chosen on."""

    wake: str
    """Name of the wake word's model."""
    window_s: float
    """How long after the wake word a command counts, in seconds."""
    thresholds_before: Mapping[str, float]
    """The thresholds there until now."""
    before: Matches
    """Their results."""
    decision: DecisionConfig
    """The model's settings, with the new thresholds for after a wake word."""
    now: Matches
    """Their results."""
    notes: tuple[str, ...]
    """Remarks on what these recordings can show."""

    def provenance(self) -> dict[str, Any]:
        """Return the origin of the thresholds, for the model card."""
        return {
            "wake": self.wake,
            "window_s": self.window_s,
            "words": self.now.words,
            "rejected": self.now.words - len(self.now.hits),
            "false_accepts": len(self.now.false_accepts),
        }

    def to_json(self) -> dict[str, Any]:
        """Return everything as a dictionary that `json` can write."""
        return {
            "wake": self.wake,
            "window_s": self.window_s,
            "thresholds_after_wake": dict(self.decision.after_wake),
            "thresholds_before": dict(self.thresholds_before),
            "before": self.before.to_json(),
            "now": self.now.to_json(),
            "notes": list(self.notes),
        }


def check_commands(card: ModelCard, waking: Waking) -> list[str]:
    """Check before long work that there are words to choose on; return notes on them.

    Args:
        card: the model of the commands.
        waking: the wake word, and the commands that follow it.

    Raises:
        KwsError: no command follows the wake word.
    """
    said = Counter(word.keyword for words in waking.commands for word in words)
    if not said:
        raise KwsError(
            f"No command is labelled as following {' or '.join(waking.card.keywords)} within "
            f"{waking.window_s:g} s. Received: {counted(len(waking.commands), 'recording')}. Give "
            "--positives in which some do; kws data stream --wake-clips builds them"
        )
    notes = list(waking.notes)
    if unsaid := [keyword for keyword in card.keywords if keyword not in said]:
        notes.append(
            f"never said after the wake word: {', '.join(unsaid)}; their thresholds are moved with "
            "the others"
        )
    if said.total() < ENOUGH_WORDS:
        notes.append(
            f"only {counted(said.total(), 'command')} after the wake word, so chance decides: use "
            f"{ENOUGH_WORDS} or more"
        )
    return notes


def calibrate_after_wake(
    card: ModelCard,
    commands: Sequence[RecordingPosteriors],
    waking: Waking,
    wakes: Sequence[RecordingPosteriors],
) -> AfterWakeCalibration:
    """Choose the thresholds with which the fewest commands after a wake word go wrong.

    Args:
        card: the model of the commands.
        commands: its posteriors for recordings with and without commands.
        waking: the wake word, and the commands that follow it.
        wakes: the posteriors of the wake word's model for the same recordings.

    Raises:
        KwsError: no command follows the wake word, or no thresholds are better than silence.
    """
    notes = check_commands(card, waking)
    replays = waking.replays(card, commands, waking.match(wakes))
    pairs = list(zip(replays, waking.commands, strict=True))
    chosen = trace_curves(pairs, card.decision.thresholds)["all"].fewest_errors()
    if chosen.rejected == chosen.words:
        raise KwsError(
            f"No thresholds are better than reporting nothing. Received: "
            f"{counted(chosen.words, 'command')} after the wake word. Check the label file, or "
            "train the model further"
        )
    old = card.decision.after_wake_word().thresholds
    return AfterWakeCalibration(
        wake=waking.card.name,
        window_s=waking.window_s,
        thresholds_before=dict(old),
        before=match_all(pairs, old),
        decision=replace(card.decision, after_wake=dict(chosen.thresholds)),
        now=match_all(pairs, chosen.thresholds),
        notes=tuple(notes),
    )
