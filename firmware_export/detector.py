"""One model of a library before it is written: its network, its decisions and their sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from firmware_export.c_source import identifiers, struct_bytes
from firmware_export.decision import Decision, decision
from firmware_export.fixed_front_end.quantiser import InputQuantiser
from firmware_export.lower.calls import Call, ConstArray, Variable
from firmware_export.lower.graph import lower, root
from firmware_export.names import Naming
from firmware_export.plan import Buffer, Plan, plan
from firmware_export.reader import Graph
from firmware_export.reference_model import ReferenceModel
from firmware_export.self_test_vectors import DetectorVectors, detector_vectors
from kws.model_file import ModelCard


@dataclass(frozen=True, kw_only=True, eq=False)
class Detector:
    """What a library holds of one model, from which the files of that model follow."""

    card: ModelCard
    """Of the model, with the library's thresholds."""
    naming: Naming
    """Of its names in C and of its C files."""
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
    quantiser: InputQuantiser
    """Constants from features to the network's input."""
    test: DetectorVectors
    """What the self-test expects of it."""

    @property
    def label_names(self) -> list[str]:
        """Names of the labels in C; keywords come first to the plainest."""
        keywords = [label in self.card.keywords for label in self.card.labels]
        return identifiers(self.card.labels, f"{self.naming.prefix.upper()}_LABEL_", keywords)

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
    def samples_between_events(self) -> int:
        """Samples from one event to the next at least."""
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
        """Flash: constants of input and decisions, and labels."""
        labels = sum(len(label.encode()) + 1 + 4 for label in self.card.labels)
        arrays = sum(values.nbytes for _, _, values in self.quantiser.arrays)
        return arrays + 10 * len(self.decision.labels) + labels

    @property
    def golden_bytes(self) -> int:
        """Flash: golden vectors of the self-test."""
        return self.test.posteriors.nbytes + 8 * (len(self.test.decisions) + 1)

    @property
    def features_bytes(self) -> int:
        """RAM: frames for the next step."""
        return self.card.receptive_field_frames * self.card.front_end.n_mfcc

    @property
    def network_bytes(self) -> int:
        """RAM: what the network carries from step to step, `kws_model_state`."""
        fields = [(v.n_bytes, v.n_bytes // v.count) for _, v in self.variables]
        return struct_bytes(fields or [(1, 1)])

    @property
    def decisions_bytes(self) -> int:
        """RAM: `kws_decide_state`."""
        keywords, window = len(self.decision.labels), self.decision.window_steps
        return struct_bytes([(12 * keywords + 8, 4), (keywords + window * keywords, 1)])

    @property
    def bytes(self) -> int:
        """RAM: `kws_detector`."""
        return struct_bytes(
            [
                (8, 8),
                (self.decisions_bytes, 4),
                (4, 4),
                (self.network_bytes, 2),
                (self.features_bytes + len(self.card.labels), 1),
            ]
        )


def plan_detector(reference: ReferenceModel, graph: Graph, naming: Naming) -> Detector:
    """Return what a library holds of a model.

    Args:
        reference: what the library computes, in Python.
        graph: the network.
        naming: of its names in C and of its C files.

    Raises:
        KwsError: a network or decision settings that the library does not support.
    """
    calls = lower(graph)
    decided = decision(reference.card)
    source, result = root(graph, graph.inputs[0]), root(graph, graph.outputs[0])
    return Detector(
        card=reference.card,
        naming=naming,
        calls=tuple(calls),
        call_names=_call_names(calls),
        input=source,
        output=result,
        plan=plan(_activations(calls, graph, {source, result})),
        decision=decided,
        quantiser=reference.quantiser,
        test=detector_vectors(reference, decided),
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
