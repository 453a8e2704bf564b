"""Audio in, events out: front end, network and decision in one stream."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.audio.samples import check_pcm
from kws.decide import Decider, DecisionConfig, Event
from kws.frontend import FrontEnd
from kws.model_file import ModelCard
from kws.network import Network, NetworkStream

TAIL_SAMPLES = 8000
"""Silence to feed after a recording's last sample, so that a word that ends there is detected."""

# Longer chunks are processed in pieces of this many samples, so that memory does not grow.
_PIECE = 16_000


class Spotter:
    """Finds keywords in a stream of 16 kHz mono int16 audio.

    Chunks may have any length; events and posteriors do not depend on how the audio is cut.
    A spotter follows one stream: use one for each microphone or file, or `reset` in between.

    Example:
        >>> spotter = Spotter("commands_en")  # doctest: +SKIP
        >>> for chunk in chunks:  # doctest: +SKIP
        ...     for event in spotter.feed(chunk):
        ...         print(f"{event.time_s:.2f} s {event.keyword} {event.score:.2f}")
    """

    card: ModelCard
    """The model card (with the model's own thresholds, not those given here)."""
    decision: DecisionConfig
    """The decision settings in use, including thresholds given here."""
    posteriors: NDArray[np.float32]
    """Posteriors of the steps that the latest `feed` completed, [steps, labels]."""
    step_times_s: NDArray[np.float64]
    """For each of these steps the end of its audio, in s from the start [steps]."""

    def __init__(
        self,
        model: str | Path | Network,
        *,
        thresholds: float | Mapping[str, float] | None = None,
        threads: int = 1,
    ) -> None:
        """Load a model and get ready for the first sample.

        Args:
            model: a .tflite, the name of a pretrained model, or a loaded `Network` that nothing
                else uses.
            thresholds: for some keywords, or one number for all, in place of the model's own.
            threads: threads for the network; one is enough for models of this size.

        Raises:
            KwsError: no such model, one in clip form, or an unknown keyword in `thresholds`.
        """
        self._network = model if isinstance(model, Network) else Network(model, threads)
        self.card = self._network.card
        self._stream = NetworkStream(self._network)
        self._front_end = FrontEnd(self.card.front_end)
        self.decision = self.card.decision.with_thresholds(thresholds)
        self._decider = Decider(
            self.decision, self.card.labels, self.card.keywords, self.card.step_ms
        )
        self.reset()

    def reset(self) -> None:
        """Start a new stream with the next sample."""
        self._stream.reset()
        self._front_end.reset()
        self._decider.reset()
        self._steps_done = 0
        self._clear_report()

    def feed(self, samples: NDArray[np.int16]) -> list[Event]:
        """Process the next samples and return the events they complete, oldest first.

        Args:
            samples: int16 [n] at the model's sample rate (16 kHz), any n including 0.

        Raises:
            KwsError: samples of another type or shape.
        """
        samples = check_pcm(samples)
        self._clear_report()
        events: list[Event] = []
        posteriors, times = [self.posteriors], [self.step_times_s]
        for start in range(0, len(samples), _PIECE):
            new = self._front_end.feed(samples[start : start + _PIECE])
            if len(new):
                rows = self._stream.feed(self._network.prepare(new))
                first, self._steps_done = self._steps_done, self._steps_done + len(rows)
                stamps = np.array(
                    [self.card.step_time_s(k) for k in range(first, self._steps_done)]
                )
                for row, time_s in zip(rows, stamps.tolist(), strict=True):
                    event = self._decider.step(row, time_s)
                    if event:
                        events.append(event)
                posteriors.append(rows)
                times.append(stamps)
        self.posteriors = np.concatenate(posteriors)
        self.step_times_s = np.concatenate(times)
        return events

    def _clear_report(self) -> None:
        self.posteriors = np.zeros((0, len(self.card.labels)), np.float32)
        self.step_times_s = np.zeros(0)
