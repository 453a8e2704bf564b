"""Audio in, events out: front end, network and decision joined into one stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.decide import Decider, DecisionConfig, Event
from kws.errors import KwsError
from kws.frontend import FrontEnd
from kws.model_file import ModelCard
from kws.network import Network

TAIL_SAMPLES = 8000
"""Silence to feed after a recording's last sample, so that a word that ends there is decided on."""

# Longer chunks are taken in pieces of this many samples, so that memory does not grow with them.
_PIECE = 16_000


class Spotter:
    """Finds keywords in a stream of 16 kHz mono int16 audio.

    Chunks may have any length; events and posteriors do not depend on how the audio was cut.
    One spotter is one stream; use one for each microphone or file, or `reset` in between.

    Example:
        >>> spotter = Spotter("commands_en")  # doctest: +SKIP
        >>> for chunk in chunks:  # doctest: +SKIP
        ...     for event in spotter.feed(chunk):
        ...         print(f"{event.time_s:.2f} s {event.keyword} {event.score:.2f}")
    """

    card: ModelCard
    """What the model says about itself (with its own thresholds, not those given here)."""
    decision: DecisionConfig
    """The settings that it decides with, thresholds given here among them."""
    posteriors: NDArray[np.float32]
    """Posteriors of the steps that the latest `feed` completed, [steps, labels]."""
    step_times_s: NDArray[np.float64]
    """For each of these steps the end of the audio it rests on, s from the start, [steps]."""

    def __init__(
        self,
        model: str | Path | Network,
        *,
        thresholds: float | Mapping[str, float] | None = None,
        threads: int = 1,
    ) -> None:
        """Load a model and get ready for the first sample.

        Args:
            model: a .tflite, the name of a pretrained model, or a loaded `Network` (which this
                spotter then has for itself).
            thresholds: in place of the model's own, for some keywords or one number for all.
            threads: threads for the network; one is enough for models of this size.

        Raises:
            KwsError: no such model, one in clip form, or an unknown keyword in `thresholds`.
        """
        self._network = model if isinstance(model, Network) else Network(model, threads)
        self.card = self._network.card
        self._network.require_stream_form()
        self._front_end = FrontEnd(self.card.front_end)
        self.decision = replace(self.card.decision, thresholds=self._thresholds(thresholds))
        self._decider = Decider(
            self.decision, self.card.labels, self.card.keywords, self.card.step_ms
        )
        self.reset()

    def reset(self) -> None:
        """Forget everything heard; the next sample is the first of a new stream."""
        self._network.reset()
        self._front_end.reset()
        self._decider.reset()
        self._steps_done = 0
        # Frames that later steps still need, as the network takes them: [< R + S, n_features].
        none = np.zeros((0, self.card.front_end.n_features), np.float32)
        self._frames = self._network.prepare(none)
        self._clear_report()

    def feed(self, samples: NDArray[np.int16]) -> list[Event]:
        """Take the next samples and return the events they complete, oldest first.

        Args:
            samples: int16 [n] at the model's sample rate (16 kHz), any n including 0.

        Raises:
            KwsError: samples of another type or shape.
        """
        samples = _checked(samples)
        self._clear_report()
        events: list[Event] = []
        posteriors, times = [self.posteriors], [self.step_times_s]
        for start in range(0, len(samples), _PIECE):
            new = self._front_end.feed(samples[start : start + _PIECE])
            if len(new):
                rows = self._steps(self._network.prepare(new))
                first = self._steps_done - len(rows)
                stamps = np.array([self.card.step_time_s(first + k) for k in range(len(rows))])
                for row, time_s in zip(rows, stamps.tolist(), strict=True):
                    event = self._decider.step(row, time_s)
                    if event:
                        events.append(event)
                posteriors.append(rows)
                times.append(stamps)
        self.posteriors = np.concatenate(posteriors)
        self.step_times_s = np.concatenate(times)
        return events

    def _steps(self, new: NDArray[np.generic]) -> NDArray[np.float32]:
        """Run the steps that the new prepared frames complete; posteriors [steps, labels]."""
        frames = np.concatenate([self._frames, new]) if len(self._frames) else new
        width, stride = self.card.receptive_field_frames, self.card.stride_frames
        steps = self.card.n_steps(len(frames))
        rows = np.empty((steps, len(self.card.labels)), np.float32)
        for k in range(steps):
            rows[k] = self._network.invoke(frames[k * stride : k * stride + width])[0]
        self._frames = frames[steps * stride :]
        self._steps_done += steps
        return rows

    def _clear_report(self) -> None:
        self.posteriors = np.zeros((0, len(self.card.labels)), np.float32)
        self.step_times_s = np.zeros(0)

    def _thresholds(self, wanted: float | Mapping[str, float] | None) -> dict[str, float]:
        own = dict(self.card.decision.thresholds)
        if wanted is None:
            return own
        if not isinstance(wanted, Mapping):
            return dict.fromkeys(own, float(wanted))
        for keyword in wanted:
            if keyword not in own:
                raise KwsError(
                    f"A threshold was given for {keyword!r}, which this model does not listen "
                    f"for. Its keywords: {', '.join(own)}"
                )
        return own | {keyword: float(value) for keyword, value in wanted.items()}


def _checked(samples: Any) -> NDArray[np.int16]:
    try:
        samples = np.asarray(samples)
    except ValueError as error:
        raise KwsError(f"Audio must be a NumPy array of int16. Received: {error}") from error
    if samples.dtype == np.int16 and samples.ndim == 1:
        return samples
    kind = samples.dtype.kind
    if kind == "f":
        hint = (
            "For samples in -1…1 multiply by 32767 and convert: "
            "(samples * 32767).clip(-32768, 32767).astype('int16')"
        )
        if not np.isfinite(samples).all():
            hint = "They hold NaN or infinity, so look first at where they come from. " + hint
    elif kind == "S" or samples.dtype == np.uint8:
        hint = "For the raw bytes of 16-bit samples pass np.frombuffer(data, '<i2')"
    elif kind not in "iu":
        hint = "Pass a NumPy array of int16, for example from kws.audio.files.read_audio"
    elif samples.dtype != np.int16:
        hint = "Scale to 16 bits (32-bit samples: samples >> 16) and convert with .astype('int16')"
    elif samples.ndim == 2:
        hint = "For one channel of [n, channels] audio pass samples[:, 0]"
    else:
        hint = "Pass a one-dimensional array"
    raise KwsError(
        "Audio must be 16-bit samples of one channel (int16 of shape [n]). "
        f"Received: {samples.dtype} of shape {samples.shape}. {hint}"
    )
