"""The C library of one model before it is written: its parts, and how large they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from firmware_export.c_source import identifiers
from firmware_export.decision import Decision, decision
from firmware_export.fixed_front_end.quantiser import InputQuantiser
from firmware_export.fixed_front_end.tables import FixedTables, tables
from firmware_export.lower.calls import Call, ConstArray, Variable
from firmware_export.lower.graph import lower, root
from firmware_export.names import PREFIX
from firmware_export.plan import Buffer, Plan, plan
from firmware_export.reader import Graph
from firmware_export.reference_model import ReferenceModel
from firmware_export.self_test_vectors import SelfTestVectors, self_test_vectors
from kws.model_file import ModelCard


@dataclass(frozen=True, kw_only=True, eq=False)
class Library:
    """The parts of one library, from which all of its files follow."""

    card: ModelCard
    """Of the model, with the library's thresholds."""
    prefix: str
    """Of names in C and of C files (`names.check_prefix`)."""
    calls: tuple[Call, ...]
    """Kernel calls of the network, in order."""
    call_names: tuple[str, ...]
    """For each call the name of its parameters: ``conv_0``, ``conv_1``, ``lstm_0`` …"""
    input: int
    """Number of the tensor that the network reads."""
    output: int
    """Number of the tensor that the network writes."""
    plan: Plan
    """Places of the other activations."""
    decision: Decision
    """Decision settings."""
    tables: FixedTables
    """The front end's constants."""
    quantiser: InputQuantiser
    """Constants from features to the network's input."""
    self_test: SelfTestVectors
    """What the self-test expects."""

    @property
    def label_names(self) -> list[str]:
        """Names of the labels in C."""
        return identifiers(self.card.labels, f"{self.prefix.upper()}_LABEL_")

    @property
    def variables(self) -> list[tuple[str, Variable]]:
        """The network's state with its names in C, the strictest alignment first."""
        named = []
        for name, call in zip(self.call_names, self.calls, strict=True):
            for i, variable in enumerate(call.variables):
                what = {"int8_t": "hidden", "int16_t": "cell"}[variable.ctype]
                what = what if call.kernel == "lstm" else f"state{i}"
                named.append((f"{name}_{what}", variable))
        return sorted(named, key=lambda pair: -pair[1].n_bytes // pair[1].count)

    @property
    def macs_per_step(self) -> int:
        """Multiply-accumulates of the network in one step."""
        return sum(call.macs for call in self.calls)

    @property
    def max_feed_samples(self) -> int:
        """Samples that one call of ``kws_feed`` takes at most: `KWS_MAX_FEED_SAMPLES`."""
        step_samples = self.card.stride_frames * self.card.front_end.hop_length
        return (self.decision.refractory_steps + 1) * step_samples

    @property
    def work_words(self) -> int:
        """Words of scratch memory for the activations: `KWS_WORK_WORDS`."""
        return max(1, self.plan.size // 4)

    @property
    def weights_bytes(self) -> int:
        """Flash: constants of the network."""
        fields = [value for call in self.calls for value in call.fields.values()]
        arrays = sum(f.values.nbytes for f in fields if isinstance(f, ConstArray))
        return arrays + 4 * len(fields)  # a pointer takes as much as a number

    @property
    def tables_bytes(self) -> int:
        """Flash: constants of front end and decisions."""
        arrays = [values for _, _, values in (*self.tables.arrays, *self.quantiser.arrays)]
        labels = sum(len(label.encode()) + 1 + 4 for label in self.card.labels)
        return sum(a.nbytes for a in arrays) + 10 * len(self.decision.labels) + labels

    @property
    def golden_bytes(self) -> int:
        """Flash: golden vectors of the self-test."""
        vectors = self.self_test
        arrays = vectors.frames.nbytes + vectors.posteriors.nbytes
        events = len(vectors.events) + len(vectors.decisions) + 2
        return 32 * len(vectors.sounds) + arrays + 8 * events

    @property
    def state_parts(self) -> dict[str, int]:
        """Bytes of `kws_state` by use; padding counts towards the counters."""
        card, front_end = self.card, self.card.front_end
        keywords, window = len(self.decision.labels), self.decision.window_steps
        parts = {
            "samples": 2 * front_end.frame_length,
            "features": card.receptive_field_frames * front_end.n_mfcc + 4 * front_end.n_mfcc,
            "scratch": 4 * max(front_end.frame_length, self.work_words),
            "network": max(1, sum(variable.n_bytes for _, variable in self.variables)),
            "decisions": _aligned(3 * 4 * keywords + 8 + keywords + window * keywords, 4),
        }
        # In the order of the fields: those that need alignment come before those that do not.
        bytes_ = 2 * 8 + 3 * 4 + parts["decisions"] + 4 * front_end.n_mfcc + parts["scratch"]
        # The network's state may need two bytes of alignment before and after it.
        bytes_ = _aligned(bytes_ + _aligned(parts["network"], 2), 2)
        bytes_ += parts["samples"] + card.receptive_field_frames * front_end.n_mfcc
        bytes_ = _aligned(bytes_ + len(card.labels), 8)
        return parts | {"counters": bytes_ - sum(parts.values())}

    @property
    def state_bytes(self) -> int:
        """RAM of one stream: `KWS_STATE_BYTES`."""
        return sum(self.state_parts.values())


def plan_library(reference: ReferenceModel, graph: Graph, prefix: str = PREFIX) -> Library:
    """Return the parts of the library of one model.

    Args:
        reference: what the library computes, in Python.
        graph: the network.
        prefix: of names in C and of C files (`names.check_prefix`).

    Raises:
        KwsError: a network or decision settings that the library does not support.
    """
    card = reference.card
    calls = lower(graph)
    decided = decision(card)
    source, result = root(graph, graph.inputs[0]), root(graph, graph.outputs[0])
    return Library(
        card=card,
        prefix=prefix,
        calls=tuple(calls),
        call_names=_call_names(calls),
        input=source,
        output=result,
        plan=plan(_activations(calls, graph, {source, result})),
        decision=decided,
        tables=tables(card.front_end),
        quantiser=reference.quantiser,
        self_test=self_test_vectors(reference, decided),
    )


def _activations(calls: Sequence[Call], graph: Graph, external: set[int]) -> list[Buffer]:
    """Return the buffers of the activations, but for those that the caller provides."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for number, call in enumerate(calls):
        for tensor in call.outputs:
            first.setdefault(tensor, number)
            last[tensor] = number
        for tensor in call.inputs:
            last[tensor] = number
    return [
        Buffer(key=t, size=graph.tensors[t].size, first=first[t], last=last[t])
        for t in first.keys() - external
    ]


def _call_names(calls: Sequence[Call]) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    names = []
    for call in calls:
        names.append(f"{call.kernel}_{counts.get(call.kernel, 0)}")
        counts[call.kernel] = counts.get(call.kernel, 0) + 1
    return tuple(names)


def _aligned(size: int, to: int) -> int:
    return -(-size // to) * to
