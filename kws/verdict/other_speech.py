"""How much different speech a stream without the words holds, and what its false accepts show.

A stream repeats its recordings until it is long enough, each time at another level and in other
noise. A recording that sets off a false accept once is likely to do so again, so only different
recordings say how often other speech would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kws.confidence import weighted_interval
from kws.data.split import SYNTHESISER
from kws.data.streams.long_stream import Built
from kws.wording import counted, duration

_OFTEN = 1.5
"""From this mean on, recordings are said to be repeated."""


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """The different recordings of one kind in a stream."""

    recordings: int
    """Their number."""
    laid: int
    """How often they were laid, all together."""
    seconds: float
    """Length of the speech in them, each counted once."""
    speakers: frozenset[str]
    """Their speakers."""

    @property
    def times(self) -> float:
        """How often each was laid, on average; 0 without any."""
        return self.laid / self.recordings if self.recordings else 0.0

    def describe(self, thing: str) -> str:
        """Return how many there are, by whom, and how often each was laid."""
        times = "once" if self.times < _OFTEN else f"about {self.times:,.0f} times"
        return f"{counted(self.recordings, thing)} by {_by(self.speakers)}, each laid {times}"

    def to_json(self) -> dict[str, Any]:
        """Return everything as a dictionary that `json` can write."""
        voices = _voices(self.speakers)
        return {
            "recordings": self.recordings,
            "laid": self.laid,
            "seconds": self.seconds,
            "people": len(self.speakers) - voices,
            "generated_voices": voices,
        }


@dataclass(frozen=True, kw_only=True)
class OtherSpeech:
    """The different recordings in a stream without the words."""

    sentences: Recordings
    """Running speech."""
    words: Recordings
    """Clips of single words."""

    @property
    def seconds(self) -> float:
        """Length of the speech, each recording counted once."""
        return self.sentences.seconds + self.words.seconds

    @property
    def times(self) -> float:
        """How often each recording was laid, on average; 0 without any."""
        recordings = self.sentences.recordings + self.words.recordings
        return (self.sentences.laid + self.words.laid) / recordings if recordings else 0.0

    @property
    def repeated(self) -> bool:
        """Whether its recordings were laid more than once."""
        return self.times >= _OFTEN

    @property
    def generated(self) -> bool:
        """Whether all of it was spoken by a synthesiser, by the speakers' names."""
        speakers = self.sentences.speakers | self.words.speakers
        return bool(speakers) and _voices(speakers) == len(speakers)

    def interval(self, set_off: Sequence[str], hours: float) -> tuple[float, float]:
        """Return the 95 % interval of false accepts per hour.

        If recordings were repeated, all false accepts during one of them count as one observation,
        weighted by their number. Another recording might give one each time that it is laid, so
        little different speech leaves a wide interval. Otherwise it is that of independent events.

        Args:
            set_off: for each false accept the recording there; ``""`` for noise alone, which is
                repeated like a recording.
            hours: length of the stream.
        """
        weights = [*Counter(set_off).values()] if self.repeated else [1.0] * len(set_off)
        low, high = weighted_interval(weights, max(1.0, self.times))
        return low / hours, high / hours

    def describe(self, seconds: float) -> str:
        """Return a line on what a stream of this length has."""
        both = ((self.sentences, "sentence"), (self.words, "single word"))
        parts = ", ".join(one.describe(thing) for one, thing in both if one.recordings)
        if not self.repeated:
            return f"{duration(self.seconds)} of that is speech: {parts}"
        return (
            f"the {duration(seconds)} repeat only {duration(self.seconds)} of different speech, at "
            f"other levels and in other noise: {parts}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as a dictionary that `json` can write."""
        return {
            "seconds": self.seconds,
            "times": self.times,
            "generated": self.generated,
            "sentences": self.sentences.to_json(),
            "single_words": self.words.to_json(),
        }


def count_speech(built: Built, speaker: Callable[[Path], str]) -> OtherSpeech:
    """Count the different recordings in a stream.

    Args:
        built: the stream.
        speaker: returns the speaker of a recording.
    """

    def count(kind: str) -> Recordings:
        items = [(item.path, item) for item in built.items if item.kind == kind and item.path]
        different = dict(items)
        return Recordings(
            recordings=len(different),
            laid=len(items),
            seconds=sum(item.end_s - item.start_s for item in different.values()),
            speakers=frozenset(map(speaker, different)),
        )

    return OtherSpeech(sentences=count("sentence"), words=count("other"))


def _voices(speakers: frozenset[str]) -> int:
    """Return how many of the speakers are a synthesiser's voices, by their names."""
    return sum(one.startswith(SYNTHESISER) for one in speakers)


def _by(speakers: frozenset[str]) -> str:
    voices = _voices(speakers)
    people = len(speakers) - voices
    # Not "1 people".
    counts = [counted(people, "speaker")] if people else []
    counts += [counted(voices, "generated voice")] if voices else []
    return " and ".join(counts)
