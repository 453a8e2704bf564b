"""Where in recordings of a word a model detects it, so that they can be cut there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.decide import decision_limits, moving_sums
from kws.errors import KwsError
from kws.model_file import ModelCard, load_model
from kws.recordings.posteriors import RecordingPosteriors, run_each

AT_LEAST = 0.5
"""A peak counts from this share of the threshold on: words that a model misses are those it can
learn from."""


@dataclass(frozen=True, kw_only=True)
class WordTimes:
    """Where a word was detected in a recording."""

    times_s: tuple[float, ...]
    """The end of the audio at each peak of the smoothed posterior, the earliest first."""
    scores: tuple[float, ...]
    """The smoothed posterior there, 0 to 1, at least `AT_LEAST` of the threshold."""
    threshold: float
    """The model's threshold for the word."""
    peak: float
    """The highest smoothed posterior in the recording, even if it is too low to count."""

    def chosen_s(self, *, several: bool) -> list[float]:
        """Return the time with the highest score, or all at which the threshold was reached.

        If the word is known to occur once, the highest peak is the word, however low; otherwise a
        peak in running speech at half the threshold is wrong about as often as right.
        """
        if several:
            both = zip(self.times_s, self.scores, strict=True)
            return [time_s for time_s, score in both if score >= self.threshold]
        return [self.times_s[int(np.argmax(self.scores))]] if self.times_s else []


def check_keyword(model: str | Path, word: str) -> ModelCard:
    """Return the model's card.

    Raises:
        KwsError: no such model, or the word is not one of its keywords.
    """
    card = load_model(model)
    if word not in card.keywords:
        raise KwsError(
            f"{word!r} is not a keyword of the model {model}. Received a model for: "
            f"{', '.join(card.keywords)}. Use another one, or leave --model out"
        )
    return card


def word_times(
    model: str | Path, word: str, recordings: Sequence[str | Path], *, progress: bool = False
) -> Iterator[WordTimes | KwsError]:
    """Run a model over recordings and find a word in each.

    Args:
        model: a model file in stream form, or the name of a pretrained one.
        word: one of its keywords.
        recordings: sound files.
        progress: report on stderr.

    Yields:
        The times in each recording, or why it cannot be read, in the order given.

    Raises:
        KwsError: as `check_keyword`.
    """
    card = check_keyword(model, word)
    with closing(run_each(model, recordings, progress=progress)) as running:
        for _, result in running:
            yield result if isinstance(result, KwsError) else _times(card, result, word)


def _times(card: ModelCard, recording: RecordingPosteriors, word: str) -> WordTimes:
    steps = decision_limits(card.decision, card.keywords, card.step_ms).window_steps
    posterior = recording.posteriors[:, [card.labels.index(word)]].astype(np.float64)
    threshold = card.decision.thresholds[word]
    smooth = moving_sums(posterior, steps)[:, 0] / steps
    high = smooth >= AT_LEAST * threshold
    edges = np.flatnonzero(np.diff(np.concatenate([[False], high, [False]]).astype(np.int8)))
    at = [a + int(smooth[a:b].argmax()) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    times = recording.step_times_s(card)
    return WordTimes(
        times_s=tuple(float(times[k]) for k in at),
        scores=tuple(float(smooth[k]) for k in at),
        threshold=threshold,
        peak=float(smooth.max(initial=0.0)),
    )
