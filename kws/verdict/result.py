"""What a verdict says: figures, the worst recordings, and advice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kws.confidence import poisson_interval
from kws.errors import some
from kws.recordings.calibrate import Calibration
from kws.recordings.curve import Curve
from kws.recordings.matching import Matches
from kws.verdict.advice import Facts, Rates, advise
from kws.wording import counted, duration, two_digits

_TRADES = (0.2, 0.5, 1.0, 2.0, 5.0)
"""False accepts an hour of which the misses are named."""
_FEW_VOICES = 10
"""Figures from fewer recordings than this say little about other voices."""


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """How often a network heard one recording, laid into a stream several times."""

    clip: str
    """The recording's path."""
    keyword: str
    """What is said in it."""
    laid: int
    """How often it was laid, each time at another level and before other noise."""
    missed: int
    """How often no event of its keyword came."""
    best: float
    """The highest score that it ever got, 0 to 1; an event needs the threshold."""


@dataclass(frozen=True, kw_only=True)
class FalseAccept:
    """An event where nobody said the word."""

    keyword: str
    """What was reported."""
    score: float
    """Its score, 0 to 1."""
    during: str
    """Path of the recording that was laid there; empty for noise alone."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a network does, and what would help it."""

    model: Path
    """The model file that was written, thresholds included."""
    calibration: Calibration
    """How its thresholds were chosen."""
    words: Matches
    """The words of clips that were not trained on, and what was reported."""
    trained: Matches | None
    """The words of recordings that were trained on; None where there are none."""
    curves: Mapping[str, Curve]
    """Misses over false accepts in the words' stream and both streams without words."""
    other: Matches
    """Speech without the words, by speakers of the testing part."""
    same_speech: bool
    """Whether there was speech of one part only, so that `other` is what thresholds were chosen
    on."""
    clips: tuple[ClipScore, ...]
    """Each clip that was laid and not trained on, the worst first."""
    false_accepts: tuple[FalseAccept, ...]
    """What set it off in `other`, the highest score first."""
    facts: tuple[Facts, ...]
    """What the advice rests on, for each keyword."""

    @property
    def thresholds(self) -> Mapping[str, float]:
        """The chosen threshold of each keyword."""
        return self.calibration.decision.thresholds

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Keywords of which no clip was left out of training."""
        return tuple(one.keyword for one in self.facts if one.missed is None)

    @property
    def generated(self) -> tuple[str, ...]:
        """Keywords that were measured on generated clips, since no recording was held out."""
        return tuple(
            one.keyword for one in self.facts if one.missed is not None and not one.held_out
        )

    @cached_property
    def advice(self) -> list[str]:
        """What would help, the most helpful first."""
        wanted = self.calibration.wanted_per_hour
        low, _ = _interval(self.other)
        rates = Rates(
            wanted_per_hour=wanted,
            least_per_hour=low,
            missed=self.words.false_reject_rate or 0.0,
            missed_at=[(rate, missed) for rate, missed in self._trades() if rate > wanted],
        )
        return advise(self.facts, rates)

    def lines(self, *, worst: int = 5) -> list[str]:
        """Return the verdict for people, with so many of the worst clips and false alarms."""
        lines = [
            f"{self.model}: thresholds "
            + ", ".join(f"{word} {t:.3g}" for word, t in self.thresholds.items()),
            f"misses: {self._misses(self.words)} from "
            f"{counted(len(self.clips), 'clip')} that {_were(len(self.clips))} not trained on",
        ]
        if self.generated:
            lines.append(
                f"  generated voices, for want of recordings: {some(self.generated)}; real ones "
                "may do quite otherwise"
            )
        elif len(self.clips) < _FEW_VOICES * len(self.thresholds):
            lines.append("  from so few recordings this is rough: other voices may do otherwise")
        if self.unmeasured:
            lines.append(
                f"  not measured: {some(self.unmeasured)}; no clip was left out of training"
            )
        if len(self.thresholds) > 1:
            for word, counts in sorted(self.words.per_keyword().items()):
                wrong = counts["misses"] + counts["substitutions"]
                if counts["words"]:
                    share = _percent(wrong / counts["words"])
                    lines.append(f"  {word}: {share} of {counts['words']}")
        if self.trained is not None:
            lines.append(f"  for comparison, of what it learnt from: {self._misses(self.trained)}")
        other = self.other
        low, high = _interval(other)
        lines.append(
            f"false accepts: {len(other.false_accepts):,} in {duration(other.duration_s)} of other "
            f"speech, {two_digits(other.false_accepts_per_hour)} an hour (95 % interval "
            f"{two_digits(low)} to {two_digits(high)}); wanted {self.calibration.wanted_per_hour:g}"
        )
        chosen = self.calibration.negatives
        lines.append(
            "  this very speech chose the thresholds, for want of speakers: new speech does worse"
            if self.same_speech
            else f"  thresholds were chosen on {duration(chosen.duration_s)} of other speakers and "
            f"on the words above: {len(chosen.false_accepts)} there"
        )
        median, p95 = self.words.latency_ms(50), self.words.latency_ms(95)
        if median is not None and p95 is not None:
            lines.append(f"latency after the word's end: median {median:.0f} ms, p95 {p95:.0f} ms")
        if trades := self._trades():
            lines.append(
                "other thresholds, with hindsight: misses "
                + ", ".join(f"{_percent(missed)} at {rate:g}" for rate, missed in trades)
                + f" false accepts an hour (in all {duration(self.curves['all'].own.hours * 3600)})"
            )
        lines += [f"note: {note}" for note in self.calibration.notes]
        bad = [clip for clip in self.clips if clip.missed][:worst]
        if bad:
            lines += ["", "missed most (listen to them; delete what is not the word):"]
            lines += [
                f"  {one.clip}: missed {one.missed} of {one.laid}, best score {one.best:.2f}"
                for one in bad
            ]
        if self.false_accepts[:worst]:
            lines += ["", "set it off falsely:"]
            lines += [
                f"  {one.keyword} {one.score:.2f} during {one.during or 'noise'}"
                for one in self.false_accepts[:worst]
            ]
        lines += ["", "what would help:" if self.advice else "nothing in particular to improve"]
        return lines + [f"  {i}. {line}" for i, line in enumerate(self.advice, 1)]

    def to_json(self) -> dict[str, Any]:
        """Return everything as a dictionary that `json` can write."""
        return {
            "model": str(self.model),
            "thresholds": dict(self.thresholds),
            "calibration": self.calibration.to_json(),
            "words": self.words.to_json(),
            "trained_words": None if self.trained is None else self.trained.to_json(),
            "other_speech": self.other.to_json(),
            "other_speech_chose_thresholds": self.same_speech,
            "generated": list(self.generated),
            "unmeasured": list(self.unmeasured),
            "curve": self.curves["all"].to_json(points=False),
            "clips": [vars(clip) for clip in self.clips],
            "false_accepts": [vars(one) for one in self.false_accepts],
            "facts": [vars(facts) for facts in self.facts],
            "advice": self.advice,
        }

    def _misses(self, words: Matches) -> str:
        return f"{_percent(words.false_reject_rate or 0.0)} of {words.words:,} words"

    def _trades(self) -> list[tuple[float, float]]:
        """Pairs of false accepts an hour and share missed, as far as so many hours show them."""
        curve = self.curves["all"]
        found = [(rate, curve.best(rate)) for rate in _TRADES if rate >= curve.resolution()]
        return [(rate, point.false_reject_rate or 0.0) for rate, point in found if point]


def _interval(matches: Matches) -> tuple[float, float]:
    """Return the 95 % interval of false accepts an hour."""
    low, high = poisson_interval(len(matches.false_accepts))
    return low / matches.hours, high / matches.hours


def _were(n: int) -> str:
    return "was" if n == 1 else "were"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
