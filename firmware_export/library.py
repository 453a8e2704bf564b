"""A C library before it is written: its parts, and how large they are.

It has one front end and one model; or two models, a wake word's and one whose keywords count only
just after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from firmware_export.c_source import identifiers, struct_bytes
from firmware_export.detector import Detector, plan_detector
from firmware_export.fixed_front_end.tables import FixedTables, tables
from firmware_export.names import PREFIX, Naming, shared_names
from firmware_export.reader import Graph
from firmware_export.reference_model import CommandsAfterWake, ReferenceModel, events_of_both
from firmware_export.self_test_signal import signal
from firmware_export.self_test_vectors import SignalVectors, signal_vectors
from kws.errors import KwsError
from kws.frontend import FrontEndConfig
from kws.model_file import ModelCard


@dataclass(frozen=True, kw_only=True, eq=False)
class Library:
    """The parts of one library, from which all of its files follow."""

    prefix: str
    """Of names in C and of C files (`names.check_prefix`)."""
    detectors: tuple[Detector, ...]
    """The model; or the wake word's and the commands' model."""
    window_samples: int
    """How long a command counts after a wake word; 0 if there is one model."""
    tables: FixedTables
    """The front end's constants."""
    test: SignalVectors
    """What the self-test expects of the library as a whole."""

    @property
    def card(self) -> ModelCard:
        """Of the only model, or of the commands'."""
        return self.detectors[-1].card

    @property
    def front_end(self) -> FrontEndConfig:
        """The front end, that of all models."""
        return self.card.front_end

    @property
    def labels(self) -> list[str]:
        """Labels of all models, in the order of `kws_labels`."""
        return [label for detector in self.detectors for label in detector.card.labels]

    @property
    def label_names(self) -> list[str]:
        """Names of the labels in C; keywords come first to the plainest."""
        keywords = [label in d.card.keywords for d in self.detectors for label in d.card.labels]
        return identifiers(self.labels, f"{self.prefix.upper()}_LABEL_", keywords)

    @property
    def macs_per_second(self) -> float:
        """Multiply-accumulates of the networks for a second of audio."""
        return sum(d.macs_per_step * 1000 / d.card.step_ms for d in self.detectors)

    @property
    def max_feed_samples(self) -> int:
        """Samples that one call of ``kws_feed`` takes at most: `KWS_MAX_FEED_SAMPLES`.

        With one model they hold at most one event. With two, there is at most one of each in two
        calls in a row, so that none has to wait for longer than one call.
        """
        return min(d.samples_between_events for d in self.detectors) // len(self.detectors)

    @property
    def code_kb(self) -> int:
        """Machine code without self-test, roughly: that of a Cortex-M4 at -Os."""
        return 6 if len(self.detectors) == 1 else 7

    @property
    def weights_bytes(self) -> int:
        """Flash: constants of the networks."""
        return sum(detector.weights_bytes for detector in self.detectors)

    @property
    def tables_bytes(self) -> int:
        """Flash: constants of front end and decisions."""
        front_end = sum(values.nbytes for _, _, values in self.tables.arrays)
        return front_end + sum(detector.tables_bytes for detector in self.detectors)

    @property
    def golden_bytes(self) -> int:
        """Flash: golden vectors of the self-test."""
        return self.test.n_bytes + sum(detector.golden_bytes for detector in self.detectors)

    @property
    def state_bytes(self) -> int:
        """RAM of one stream: `KWS_STATE_BYTES`."""
        audio = struct_bytes(
            [(8, 8), (4, 4), (4 * self.front_end.n_mfcc, 4), (2 * self.front_end.frame_length, 2)]
        )
        parts = [(audio, 8), *((detector.bytes, 8) for detector in self.detectors)]
        if len(self.detectors) > 1:
            parts += [(_GATE_BYTES, 8), (2 * _EVENT_BYTES, 8), (4, 4)]
        return struct_bytes([*parts, (4, 4), (4 * self._scratch_words, 4)])

    @property
    def state_parts(self) -> dict[str, int]:
        """Bytes of `kws_state` by use; padding counts towards the counters."""
        detectors, n_mfcc = self.detectors, self.front_end.n_mfcc
        parts = {
            "samples": 2 * self.front_end.frame_length,
            "features": 4 * n_mfcc + sum(detector.features_bytes for detector in detectors),
            "scratch": 4 * self._scratch_words,
            "network": sum(detector.network_bytes for detector in detectors),
            "decisions": sum(detector.decisions_bytes for detector in detectors),
        }
        return parts | {"counters": self.state_bytes - sum(parts.values())}

    @property
    def _scratch_words(self) -> int:
        return max(self.front_end.frame_length, *(d.work_words for d in self.detectors))


_GATE_BYTES = 16
"""`kws_gate`."""
_EVENT_BYTES = 16
"""`kws_event`."""


def plan_library(reference: ReferenceModel, graph: Graph, prefix: str = PREFIX) -> Library:
    """Return the parts of the library of one model.

    Args:
        reference: what the library computes, in Python.
        graph: the network.
        prefix: of names in C and of C files (`names.check_prefix`).

    Raises:
        KwsError: a network, front end or decision settings that the library does not support.
    """
    detector = plan_detector(reference, graph, Naming(prefix=prefix))
    rate = reference.card.front_end.sample_rate_hz
    trace = reference.trace(signal(rate))
    return Library(
        prefix=prefix,
        detectors=(detector,),
        window_samples=0,
        tables=tables(reference.card.front_end),
        test=signal_vectors(rate, trace.mfcc_q16, trace.events),
    )


def plan_library_of_two(commands: CommandsAfterWake, graphs: Sequence[Graph]) -> Library:
    """Return the parts of the library of a wake word's model and one of commands.

    Args:
        commands: what the library computes, in Python.
        graphs: the wake word's network, and the commands'.

    Raises:
        KwsError: models that do not go together, or that the library does not support.
    """
    wake, card = commands.wake, commands.card
    if wake.card.front_end != card.front_end:
        raise KwsError(
            "A library of two models has one front end. Received: that of "
            f"{wake.card.name!r}, {_differences(wake.card.front_end, card.front_end)} in that of "
            f"{card.name!r}. Train both with the same [front_end], or write a library for each "
            "with --prefix; its README.md says how commands then count only after a wake word"
        )
    detectors = tuple(
        plan_detector(reference, graph, Naming(prefix=prefix, shared=shared_names()))
        for reference, graph, prefix in zip(
            (wake, commands), graphs, ("kws_wake", "kws_commands"), strict=True
        )
    )
    pcm = signal(card.front_end.sample_rate_hz)
    library = Library(
        prefix=PREFIX,
        detectors=detectors,
        window_samples=commands.window_samples,
        tables=tables(card.front_end),
        test=signal_vectors(
            card.front_end.sample_rate_hz, wake.trace(pcm).mfcc_q16, events_of_both(commands, pcm)
        ),
    )
    if library.max_feed_samples < card.front_end.hop_length:
        least_ms = 2000 * card.front_end.hop_length / card.front_end.sample_rate_hz
        raise KwsError(
            "In a library of two models, each must report events at least "
            f"{least_ms:g} ms apart. Received: refractory_ms "
            f"{wake.card.decision.refractory_ms:g} and {card.decision.refractory_ms:g}. "
            "Set a longer one in [decision] of the recipe, and export again"
        )
    return library


def _differences(ours: FrontEndConfig, theirs: FrontEndConfig) -> str:
    """Return how two front ends differ, as "n_mels 40 for 20"."""
    mine, other = asdict(ours), asdict(theirs)
    return ", ".join(f"{k} {mine[k]} for {other[k]}" for k in mine if mine[k] != other[k])
