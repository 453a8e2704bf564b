"""The result of a verdict: figures, the worst recordings, and advice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kws.errors import some
from kws.recordings.calibrate import Calibration
from kws.recordings.curve import Curve
from kws.recordings.matching import Matches
from kws.verdict.advice import (
    KeywordMeasurements,
    Rates,
    SpeechMeasurements,
    Unfinished,
    advise,
)
from kws.verdict.other_speech import OtherSpeech
from kws.wording import counted, duration, percent, two_digits

_TRADES = (0.2, 0.5, 1.0, 2.0, 5.0)
"""False accepts per hour for which the misses are shown."""
_FEW_VOICES = 10
"""Figures from fewer recordings than this may not hold for other voices."""


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """How often one recording was missed; it was laid into a stream several times."""

    clip: str
    """The recording's path."""
    keyword: str
    """What is said in it."""
    laid: int
    """How often it was laid, each time at a different level and in different noise."""
    missed: int
    """How often its keyword was not detected."""
    best: float
    """Its highest score, 0 to 1; an event needs the threshold."""


@dataclass(frozen=True, kw_only=True)
class FalseAccept:
    """An event where the word was not spoken."""

    keyword: str
    """What was reported."""
    score: float
    """Its score, 0 to 1."""
    during: str
    """Path of the recording laid there; empty for noise alone."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How well a network does, and what would improve it."""

    model: Path
    """The model file that was written, thresholds included."""
    calibration: Calibration
    """How its thresholds were chosen."""
    words: Matches
    """The words of clips that were not trained on, and the events."""
    trained: Matches | None
    """The words of recordings that were trained on; None without any."""
    curves: Mapping[str, Curve]
    """Misses over false accepts, in the stream of words and both streams without words."""
    other: Matches
    """Speech without the words, by speakers of the testing part."""
    other_speech: OtherSpeech
    """Its different recordings."""
    chosen_on: OtherSpeech
    """Those of the speech that thresholds were chosen on."""
    same_speech: bool
    """Whether thresholds were chosen on `other` itself, as no second part has other speech."""
    clips: tuple[ClipScore, ...]
    """Each clip that was not trained on, the worst first."""
    false_accepts: tuple[FalseAccept, ...]
    """The false accepts in `other`, the highest score first."""
    chosen_false_accepts: tuple[FalseAccept, ...]
    """Those in the speech that thresholds were chosen on."""
    per_keyword: tuple[KeywordMeasurements, ...]
    """The measurements of each keyword, which the advice is based on."""
    more_speech: SpeechMeasurements | None = None
    """What the advice on other speech is based on."""
    unfinished: Unfinished | None = None
    """The training, if it was stopped before its last epoch."""

    @property
    def thresholds(self) -> Mapping[str, float]:
        """The chosen threshold of each keyword."""
        return self.calibration.decision.thresholds

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Keywords without a clip that was held out of training."""
        return tuple(one.keyword for one in self.per_keyword if one.missed is None)

    @property
    def generated(self) -> tuple[str, ...]:
        """Keywords that were measured on generated clips, as no recording was held out."""
        return tuple(
            one.keyword for one in self.per_keyword if one.missed is not None and not one.held_out
        )

    @cached_property
    def advice(self) -> list[str]:
        """What would help, the most helpful first."""
        wanted = self.calibration.wanted_per_hour
        low, _ = self._interval()
        rates = Rates(
            wanted_per_hour=wanted,
            least_per_hour=low,
            missed=self.words.false_reject_rate or 0.0,
            missed_at=[(rate, missed) for rate, missed in self._trades() if rate > wanted],
            speech=self.more_speech,
        )
        return advise(self.per_keyword, rates, self.unfinished)

    def lines(self, *, worst: int = 5) -> list[str]:
        """Return the verdict as text, with up to `worst` clips and as many false accepts."""
        lines = [
            f"{self.model}: thresholds "
            + ", ".join(f"{word} {t:.3g}" for word, t in self.thresholds.items()),
            *self._lines_on_training(),
            *self._lines_on_misses(),
            *self._lines_on_false_accepts(),
            *self._lines_on_latency_and_trades(),
            *(f"note: {note}" for note in self.calibration.notes),
        ]
        if bad := [clip for clip in self.clips if clip.missed][:worst]:
            lines += ["", "missed most (listen to them; delete any that are not the word):"]
            lines += [
                f"  {one.clip}: missed {one.missed} of {one.laid}, best score {one.best:.2f}"
                for one in bad
            ]
        if self.false_accepts[:worst]:
            lines += ["", "false accepts:"]
            lines += [
                f"  {one.keyword} {one.score:.2f} during {one.during or 'noise'}"
                for one in self.false_accepts[:worst]
            ]
        lines += ["", "what would help:" if self.advice else "nothing in particular to improve"]
        return lines + [f"  {i}. {line}" for i, line in enumerate(self.advice, 1)]

    def _lines_on_training(self) -> list[str]:
        stopped = self.unfinished
        if stopped is None:
            return []
        return [
            f"training was stopped after {stopped.done} of {counted(stopped.epochs, 'epoch')}: "
            "these figures are not those of the finished network"
        ]

    def _lines_on_misses(self) -> list[str]:
        lines = [
            f"misses: {self._misses(self.words)} from "
            f"{counted(len(self.clips), 'clip')} that {_were(len(self.clips))} not trained on"
        ]
        if self.generated:
            lines.append(
                f"  measured on generated voices, for lack of recordings: {some(self.generated)}; "
                "real voices may give quite different results"
            )
        elif len(self.clips) < _FEW_VOICES * len(self.thresholds):
            lines.append("  few recordings, so a rough figure: other voices may differ")
        if self.unmeasured:
            lines.append(
                f"  not measured: {some(self.unmeasured)}; no clip was held out of training"
            )
        if len(self.thresholds) > 1:
            for word, counts in sorted(self.words.per_keyword().items()):
                wrong = counts["misses"] + counts["substitutions"]
                if counts["words"]:
                    share = percent(wrong / counts["words"])
                    lines.append(f"  {word}: {share} of {counts['words']}")
        if self.trained is not None:
            lines.append(f"  for comparison, in training recordings: {self._misses(self.trained)}")
        return lines

    def _lines_on_false_accepts(self) -> list[str]:
        other, chosen = self.other, self.calibration.negatives
        low, high = self._interval()
        each = ", counting each recording once" if self.other_speech.repeated else ""
        lines = [
            f"false accepts: {len(other.false_accepts):,} in {duration(other.duration_s)} of other "
            f"speech, {two_digits(other.false_accepts_per_hour)} per hour (95 % interval "
            f"{two_digits(low)} to {two_digits(high)}{each}); allowed "
            f"{self.calibration.wanted_per_hour:g}",
            f"  {self.other_speech.describe(other.duration_s)}",
        ]
        if self.other_speech.generated:
            lines.append(
                "  all of this speech was generated; real speech may give quite different results"
            )
        if self.same_speech:
            return [
                *lines,
                "  thresholds were chosen on this same speech, for lack of speakers: expect more "
                "in new speech",
            ]
        of = f", {duration(self.chosen_on.seconds)} of it different"
        return [
            *lines,
            f"  thresholds were chosen on {duration(chosen.duration_s)} of other speakers "
            f"({counted(len(chosen.false_accepts), 'false accept')}"
            f"{of if self.chosen_on.repeated else ''}) and on the words above",
        ]

    def _lines_on_latency_and_trades(self) -> list[str]:
        lines = []
        median, p95 = self.words.latency_ms(50), self.words.latency_ms(95)
        if median is not None and p95 is not None:
            lines.append(f"latency after the word's end: median {median:.0f} ms, p95 {p95:.0f} ms")
        if trades := self._trades():
            lines.append(
                "other thresholds, in hindsight: misses "
                + ", ".join(f"{percent(missed)} at {rate:g}" for rate, missed in trades)
                + f" false accepts per hour (all {duration(self.curves['all'].own.hours * 3600)})"
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return everything as a dictionary that `json` can write."""
        calibration, other = self.calibration.to_json(), self.other.to_json()
        # Those intervals take all audio for different audio.
        name = "false_accepts_per_hour_interval_95"
        calibration["negatives"][name] = list(self._interval(chosen=True))
        other[name] = list(self._interval())
        stopped = self.unfinished
        return {
            "model": str(self.model),
            "thresholds": dict(self.thresholds),
            "unfinished": None if stopped is None else vars(stopped),
            "calibration": calibration,
            "words": self.words.to_json(),
            "trained_words": None if self.trained is None else self.trained.to_json(),
            "other_speech": other,
            "different_other_speech": self.other_speech.to_json(),
            "other_speech_chose_thresholds": self.same_speech,
            "generated": list(self.generated),
            "unmeasured": list(self.unmeasured),
            "curve": self.curves["all"].to_json(points=False),
            "clips": [vars(clip) for clip in self.clips],
            "false_accepts": [vars(one) for one in self.false_accepts],
            "facts": [vars(one) for one in self.per_keyword],
            "advice": self.advice,
        }

    def _interval(self, *, chosen: bool = False) -> tuple[float, float]:
        """Return the 95 % interval of false accepts per hour (`OtherSpeech.interval`).

        Args:
            chosen: in the speech that thresholds were chosen on instead.
        """
        speech, found, matches = (
            (self.chosen_on, self.chosen_false_accepts, self.calibration.negatives)
            if chosen
            else (self.other_speech, self.false_accepts, self.other)
        )
        return speech.interval([one.during for one in found], matches.hours)

    def _misses(self, words: Matches) -> str:
        return f"{percent(words.false_reject_rate or 0.0)} of {words.words:,} words"

    def _trades(self) -> list[tuple[float, float]]:
        """Pairs of false accepts per hour and share missed, where the audio is long enough."""
        curve = self.curves["all"]
        found = [(rate, curve.best(rate)) for rate in _TRADES if rate >= curve.resolution()]
        return [(rate, point.false_reject_rate or 0.0) for rate, point in found if point]


def _were(n: int) -> str:
    return "was" if n == 1 else "were"
