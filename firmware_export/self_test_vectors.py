"""Golden vectors: what the self-test of a library expects (`runtime/kws_self_test.c`)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_export.c_source import GENERATED, c_array, c_comment
from firmware_export.decision import Decision
from firmware_export.reference_model import ReferenceModel
from firmware_export.self_test_signal import Sound, next_random, signal, sounds
from firmware_export.verification_records import FirmwareEvent
from kws.errors import KwsError

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 4000, 48_000
_MOST_DECISIONS = 20_000


@dataclass(frozen=True, kw_only=True, eq=False)
class SignalVectors:
    """The self-test's signal, and what the library as a whole must compute from it."""

    sounds: tuple[Sound, ...]
    """The signal."""
    frames: NDArray[np.uint32]
    """Checksum of each frame's features."""
    events: tuple[FirmwareEvent, ...]
    """Events in the signal."""

    @property
    def macros(self) -> dict[str, int | str]:
        """Sizes for `kws_config.h`."""
        return {
            "KWS_GOLDEN_SOUNDS": len(self.sounds),
            "KWS_GOLDEN_FRAMES": len(self.frames),
            "KWS_GOLDEN_EVENTS": len(self.events),
        }

    @property
    def n_bytes(self) -> int:
        """Bytes of flash."""
        return 32 * len(self.sounds) + self.frames.nbytes + 8 * (len(self.events) + 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectorVectors:
    """What one model must compute from the signal and in the test of decisions."""

    posteriors: NDArray[np.int8]
    """Outputs of the network for the signal [steps, labels]."""
    rounds: int
    """Test of decisions: how often each keyword occurs."""
    stretch: int
    """Test of decisions: steps with a keyword, followed by as many without."""
    decisions: tuple[FirmwareEvent, ...]
    """Events in the test of decisions; their time is the number of a step."""

    @property
    def macros(self) -> dict[str, int | str]:
        """Sizes for `kws_model.h`."""
        return {
            "KWS_GOLDEN_STEPS": len(self.posteriors),
            "KWS_GOLDEN_ROUNDS": self.rounds,
            "KWS_GOLDEN_STRETCH": self.stretch,
            "KWS_GOLDEN_DECISIONS": len(self.decisions),
        }


def signal_vectors(
    rate_hz: int, mfcc_q16: NDArray[np.int32], events: Sequence[FirmwareEvent]
) -> SignalVectors:
    """Return the golden vectors of a library as a whole.

    Args:
        rate_hz: sample rate.
        mfcc_q16: features of the signal [frames, n_mfcc].
        events: those that the library reports in it.
    """
    return SignalVectors(
        sounds=tuple(sounds(rate_hz)), frames=checksums(mfcc_q16), events=tuple(events)
    )


def detector_vectors(reference: ReferenceModel, decided: Decision) -> DetectorVectors:
    """Return the golden vectors of a model, computed by Python and the TFLite interpreter.

    Raises:
        KwsError: an unsupported sample rate, or steps longer than the signal.
    """
    rate = reference.card.front_end.sample_rate_hz
    if not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
        raise KwsError(
            f"Firmware takes audio of {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz. Received: a "
            f"model for {rate} Hz. Train with another sample rate"
        )
    trace = reference.trace(signal(rate))
    if not len(trace.posteriors):
        raise KwsError(
            "The receptive field is longer than the self-test's signal, and than a microcontroller "
            f"should hold. Received: {reference.card.step_time_s(0):.1f} s of audio for a step. "
            "Train a network with a shorter receptive field"
        )
    # Enough rounds to distinguish limits, few enough for a slow core.
    stretch = decided.window_steps + decided.refractory_steps + 1
    steps_of_a_round = 2 * stretch * len(decided.labels)
    rounds = max(1, min(96 // len(decided.labels), _MOST_DECISIONS // steps_of_a_round))
    posteriors = decision_test(decided.labels, len(reference.card.labels), rounds, stretch)
    step_of = {round(reference.card.step_time_s(k) * rate): k for k in range(len(posteriors))}
    return DetectorVectors(
        posteriors=trace.posteriors,
        rounds=rounds,
        stretch=stretch,
        decisions=tuple(
            FirmwareEvent(
                keyword=event.keyword,
                score_q15=event.score_q15,
                time_samples=step_of[event.time_samples],
            )
            for event in reference.decide((posteriors + 128.0) / 256)
        ),
    )


def decision_test(
    keywords: Sequence[int], n_labels: int, rounds: int, stretch: int
) -> NDArray[np.int8]:
    """Return the posteriors of the test of decisions, int8 [steps, labels].

    `kws_detector_test_decisions` in C makes the same.
    """
    rows = np.empty((len(keywords) * rounds * 2 * stretch, n_labels), np.int64)
    random = 1
    turns = itertools.product(range(len(keywords)), range(rounds), range(2 * stretch))
    for row, (k, turn, i) in zip(rows, turns, strict=True):
        for label in range(n_labels):
            random = next_random(random)
            row[label] = random >> 29
        level = turn * 255 // rounds
        if i < stretch:
            row[keywords[(k + 1) % len(keywords)]] = 255 - (random >> 29)
            random = next_random(random)
            level = 255 - (random >> 29)
        row[keywords[k]] = level
    return (rows - 128).astype(np.int8)


def checksums(mfcc_q16: NDArray[np.int32]) -> NDArray[np.uint32]:
    """Return FNV-1a over the values of each frame, uint32 [frames]."""
    sums = np.full(len(mfcc_q16), 2166136261, np.uint64)
    for column in mfcc_q16.T:
        sums = ((sums ^ column.astype(np.uint32)) * np.uint64(16777619)) & np.uint64(0xFFFFFFFF)
    return sums.astype(np.uint32)


def golden_source(vectors: SignalVectors) -> str:
    """Return `kws_golden.c`."""
    spoken = ",\n".join(
        f"    {{{s.samples}, {s.period}, {s.loudness}, {{{_row(a for a, _ in s.feedback)}}}, "
        f"{{{_row(b for _, b in s.feedback)}}}}}"
        for s in vectors.sounds
    )
    return "\n\n".join(
        [
            _head("The self-test's signal and what must be computed from it."),
            '#include "kws_golden.h"',
            f"const kws_sound kws_golden_sounds[KWS_GOLDEN_SOUNDS] = {{\n{spoken},\n}};",
            c_array("kws_golden_frames", vectors.frames, static=False),
            _events("kws_golden_events", "KWS_GOLDEN_EVENTS", vectors.events),
            "",
        ]
    )


def detector_golden_source(vectors: DetectorVectors) -> str:
    """Return `kws_detector_golden.c`."""
    return "\n\n".join(
        [
            _head("What the self-test expects of this model."),
            '#include "kws_detector_test.h"',
            c_array("kws_golden_posteriors", vectors.posteriors, static=False),
            _events("kws_golden_decisions", "KWS_GOLDEN_DECISIONS", vectors.decisions),
            "",
        ]
    )


def _head(what: str) -> str:
    return f"{c_comment(GENERATED)}\n\n/* {what}\n *\n * SPDX-License-Identifier: Apache-2.0\n */"


def _row(values: object) -> str:
    return ", ".join(map(str, values))  # type: ignore[call-overload]


def _events(name: str, size: str, events: Sequence[FirmwareEvent]) -> str:
    rows = [f"    {{{e.time_samples}, {e.keyword}, {e.score_q15}}}," for e in events]
    return "\n".join(
        [f"const kws_golden_event {name}[{size} + 1] = {{", *rows, "    {UINT32_MAX, 0, 0},", "};"]
    )
