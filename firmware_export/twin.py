"""What the library in C will compute, in Python: fixed-point features, TFLite, decisions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firmware_export.fixed_front_end import fixed_mfcc, input_quantiser, quantise_features
from firmware_export.records import FirmwareEvent, Heard
from kws.decide import Decider
from kws.errors import KwsError
from kws.model_file import ModelCard
from kws.network import Network


class Twin:
    """Computes in Python what the library has to compute, bit for bit.

    Only the front end is not the runner's own: it works in whole numbers (`fixed_front_end`).
    """

    def __init__(self, network: Network, card: ModelCard | None = None) -> None:
        """Take a loaded network, which this twin then has for itself.

        Args:
            network: from a model in stream form.
            card: in place of the network's own, with other thresholds.

        Raises:
            KwsError: no stream form, or no int8.
        """
        self.network = network
        self.card = card or network.card
        network.require_stream_form()
        if not network.quantised:
            raise KwsError(
                f"The model {self.card.name!r} computes in float32, for which there is no "
                "firmware. Export it as int8, which is the default of `kws export`"
            )
        facts = network.input_tensor
        self.quantiser = input_quantiser(self.card, facts["scale"], facts["zero_point"])

    def hear(self, pcm: NDArray[np.int16]) -> Heard:
        """Return all that the library computes for audio int16 [n], from a reset on."""
        card, network = self.card, self.network
        mfcc_q16 = fixed_mfcc(pcm, card.front_end)
        inputs = quantise_features(mfcc_q16, self.quantiser)
        steps = card.n_steps(len(inputs))
        posteriors = np.empty((steps, len(card.labels)), np.float32)
        network.reset()
        for k in range(steps):
            first = k * card.stride_frames
            posteriors[k] = network.invoke(inputs[first : first + card.receptive_field_frames])[0]
        return Heard(
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
                # The sum over the window is a whole number of 1/256.
                sum_q8 = round(event.score * window * 256)
                events.append(
                    FirmwareEvent(
                        keyword=card.labels.index(event.keyword),
                        score_q15=sum_q8 * 128 // window,
                        time_samples=round(event.time_s * card.front_end.sample_rate_hz),
                    )
                )
        return tuple(events)
