"""The C library's computation in Python: fixed-point features, TFLite, decisions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from firmware_export.fixed_front_end.mfcc import fixed_mfcc
from firmware_export.fixed_front_end.quantiser import input_quantiser, quantise_features
from firmware_export.verification_records import ClipTrace, FirmwareEvent
from kws.after_wake import AfterWake, WakeGate
from kws.decide import Decider, Event
from kws.errors import KwsError
from kws.model_file import ModelCard
from kws.network import Network
from kws.spotter import Spotter


class ReferenceModel:
    """Computes in Python what the library must compute, bit for bit.

    It differs from the runner in its front end alone, which works in integers (`fixed_front_end`).
    """

    def __init__(self, network: Network, card: ModelCard | None = None) -> None:
        """Take a loaded network, which nothing else may use from then on.

        Args:
            network: from a model in stream form.
            card: in place of the network's own, with other thresholds.

        Raises:
            KwsError: the model is not in stream form, or not int8.
        """
        self.network = network
        self.card = card or network.card
        network.card.require_stream_form()
        if not network.quantised:
            raise KwsError(
                f"Firmware needs an int8 model. Received: {self.card.name!r}, which computes in "
                "float32. Export it without --float"
            )
        facts = network.input_tensor
        self.quantiser = input_quantiser(self.card, facts["scale"], facts["zero_point"])

    def trace(self, pcm: NDArray[np.int16]) -> ClipTrace:
        """Return all that the library computes for audio int16 [n] after a reset."""
        card, network = self.card, self.network
        mfcc_q16 = fixed_mfcc(pcm, card.front_end)
        inputs = quantise_features(mfcc_q16, self.quantiser)
        steps = card.n_steps(len(inputs))
        posteriors = np.empty((steps, len(card.labels)), np.float32)
        network.reset()
        for k in range(steps):
            first = k * card.stride_frames
            posteriors[k] = network.invoke(inputs[first : first + card.receptive_field_frames])[0]
        return ClipTrace(
            mfcc_q16=mfcc_q16,
            inputs=inputs,
            posteriors=np.rint(posteriors * 256 - 128).astype(np.int8),
            events=self.decide(posteriors),
        )

    def decide(self, posteriors: NDArray[np.floating]) -> tuple[FirmwareEvent, ...]:
        """Return the events in a stream of posteriors in 0…1, [steps, labels]."""
        card = self.card
        decider = Decider(card.decision, card.labels, card.keywords, card.step_ms)
        window = decider.limits.window_steps
        events = []
        for k, row in enumerate(posteriors):
            event = decider.step(row, card.step_time_s(k))
            if event is not None:
                # The sum over the window is a multiple of 1/256.
                sum_q8 = round(event.score * window * 256)
                events.append(
                    FirmwareEvent(
                        keyword=card.labels.index(event.keyword),
                        score_q15=sum_q8 * 128 // window,
                        time_samples=round(event.time_s * card.front_end.sample_rate_hz),
                    )
                )
        return tuple(events)

    def runner(self, pcm: NDArray[np.int16]) -> list[Event]:
        """Return what the Python runner (float front end) detects in audio int16 [n]."""
        return Spotter(self.network, thresholds=self.card.decision.thresholds).feed(pcm)


class CommandsAfterWake(ReferenceModel):
    """The commands of a library of two models: they count only just after a wake word."""

    def __init__(
        self, network: Network, card: ModelCard, wake: ReferenceModel, window_samples: int
    ) -> None:
        """Take a loaded network, which nothing else may use from then on.

        Args:
            network: of the commands, from a model in stream form.
            card: its card, with the thresholds for after a wake word.
            wake: the wake word's model.
            window_samples: how long a command counts.

        Raises:
            KwsError: as for `ReferenceModel`.
        """
        super().__init__(network, card)
        self.wake = wake
        self.window_samples = window_samples
        self.awake_at_start = False
        """Whether audio begins as if a wake word had just been heard, as in `verify`."""

    @property
    def window_s(self) -> float:
        """How long a command counts, in seconds."""
        return self.window_samples / self.card.front_end.sample_rate_hz

    def trace(self, pcm: NDArray[np.int16]) -> ClipTrace:
        """Return all that the library computes for the commands; its events count."""
        trace = super().trace(pcm)
        return replace(trace, events=self.counted(self.wake.trace(pcm).events, trace.events))

    def counted(
        self, woken: tuple[FirmwareEvent, ...], said: tuple[FirmwareEvent, ...]
    ) -> tuple[FirmwareEvent, ...]:
        """Return the events of the commands that count, given those of the wake word."""
        wakes, commands = (
            [Event(keyword=str(k), score=0, time_s=self._time_s(e)) for k, e in enumerate(events)]
            for events in (woken, said)
        )
        if self.awake_at_start:
            wakes.insert(0, Event(keyword="", score=0, time_s=0.0))
        return tuple(said[int(e.keyword)] for e in WakeGate(self.window_s).pick(wakes, commands))

    def runner(self, pcm: NDArray[np.int16]) -> list[Event]:
        """Return the commands that the Python runner counts in audio int16 [n]."""
        both = AfterWake(
            Spotter(self.wake.network, thresholds=self.wake.card.decision.thresholds),
            Spotter(self.network, thresholds=self.card.decision.thresholds),
            window_s=self.window_s,
        )
        return [event for event in both.feed(pcm) if event.keyword in self.card.keywords]

    def _time_s(self, event: FirmwareEvent) -> float:
        return event.time_samples / self.card.front_end.sample_rate_hz


def events_of_both(commands: CommandsAfterWake, pcm: NDArray[np.int16]) -> list[FirmwareEvent]:
    """Return the events of a library of two models, in the order in which it reports them."""
    wakes = commands.wake.trace(pcm).events
    first = len(commands.wake.card.labels)  # labels of the commands come after the wake word's
    counted = (replace(e, keyword=first + e.keyword) for e in commands.trace(pcm).events)
    return sorted([*wakes, *counted], key=lambda event: event.time_samples)
