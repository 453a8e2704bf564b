"""When a model is surest of a word in a recording: its own recordings are cut by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.decide import decision_limits
from kws.errors import KwsError
from kws.model_file import ModelCard, load_model
from kws.recordings.hear import Heard, hear_each

AT_LEAST = 0.5
"""Share of a keyword's threshold from which on it is given: words that a model would miss are those
that it can learn from."""


@dataclass(frozen=True, kw_only=True)
class WordTimes:
    """When a word was heard in a recording."""

    times_s: tuple[float, ...]
    """The end of the audio after which the model was surest, each time, the earliest first."""
    scores: tuple[float, ...]
    """The smoothed posterior then, 0 to 1, at least `AT_LEAST` of the threshold."""
    threshold: float
    """The model's threshold for the word."""
    peak: float
    """The highest smoothed posterior in the recording, also where it is too low to count."""

    def chosen_s(self, *, several: bool) -> list[float]:
        """Return the time with the highest score, or all at which the threshold was reached.

        Where the word is known to be there once, the highest peak is it, be it low; where nobody
        knows how often, one in running speech at half the threshold is wrong as often as not.
        """
        if several:
            both = zip(self.times_s, self.scores, strict=True)
            return [time_s for time_s, score in both if score >= self.threshold]
        return [self.times_s[int(np.argmax(self.scores))]] if self.times_s else []


def check_keyword(model: str | Path, word: str) -> ModelCard:
    """Return the model's card.

    Raises:
        KwsError: no such model, or the word is none of its keywords.
    """
    card = load_model(model)
    if word not in card.keywords:
        raise KwsError(
            f"The model {model} does not listen for {word!r}. Received a model for: "
            f"{', '.join(card.keywords)}. Name another one, or leave --model out"
        )
    return card


def word_times(
    model: str | Path, word: str, recordings: Sequence[str | Path], *, progress: bool = False
) -> Iterator[WordTimes]:
    """Run a model over recordings and say when it hears a word.

    Args:
        model: a model file in stream form, or the name of a pretrained one.
        word: one of its keywords.
        recordings: sound files.
        progress: report on stderr.

    Yields:
        The times in each recording, in the order given.

    Raises:
        KwsError: as `check_keyword`; a recording cannot be read.
    """
    card = check_keyword(model, word)
    with closing(hear_each(model, recordings, progress=progress)) as hearing:
        for _, heard in hearing:
            if isinstance(heard, KwsError):
                raise heard
            yield _times(card, heard, word)


def _times(card: ModelCard, heard: Heard, word: str) -> WordTimes:
    steps = decision_limits(card.decision, card.keywords, card.step_ms).window_steps
    posterior = heard.posteriors[:, card.labels.index(word)].astype(np.float64)
    sums = np.concatenate([np.zeros(steps), np.cumsum(posterior)])
    threshold = card.decision.thresholds[word]
    smooth = (sums[steps:] - sums[:-steps]) / steps
    high = smooth >= AT_LEAST * threshold
    edges = np.flatnonzero(np.diff(np.concatenate([[False], high, [False]]).astype(np.int8)))
    at = [a + int(smooth[a:b].argmax()) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    times = heard.step_times_s(card)
    return WordTimes(
        times_s=tuple(float(times[k]) for k in at),
        scores=tuple(float(smooth[k]) for k in at),
        threshold=threshold,
        peak=float(smooth.max(initial=0.0)),
    )
