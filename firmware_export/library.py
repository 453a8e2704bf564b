"""The C library of one model: its sizes, and the text of every file in it."""

from __future__ import annotations

import re
import textwrap
import zlib
from collections.abc import Iterable

from firmware_export.c_source import c_array, c_comment
from firmware_export.fixed_front_end import FixedTables, tables
from firmware_export.golden import Golden, golden, golden_source
from firmware_export.lower import Call, ConstArray, Variable, lower, root
from firmware_export.model_source import (
    GENERATED,
    Decision,
    c_string,
    decision,
    decision_arrays,
    guarded,
    identifiers,
    macros,
    tables_source,
)
from firmware_export.names import PREFIX, RUNTIME, filled, renamed
from firmware_export.plan import Buffer, Plan, plan
from firmware_export.projects import project_files, weights_too
from firmware_export.reader import Graph
from firmware_export.twin import Twin
from kws import __version__

_EVERYWHERE = ("kws.c", "kws_self_test.c")


class Library:
    """Everything that is known of one library before it is written.

    Args:
        twin: what it computes, in Python.
        graph: the network.
        prefix: what names in C and of C files begin with (`names.check_prefix`).

    Raises:
        KwsError: the library cannot compute this network, or not decide on it.
    """

    def __init__(self, twin: Twin, graph: Graph, prefix: str = PREFIX) -> None:
        card = self.card = twin.card
        self.twin = twin
        self.prefix = prefix
        self.calls = lower(graph)
        self.decision: Decision = decision(card)
        self.tables: FixedTables = tables(card.front_end)
        self.golden: Golden = golden(twin, self.decision)
        self.input = root(graph, graph.inputs[0])
        self.output = root(graph, graph.outputs[0])
        self.plan: Plan = plan(_activations(self.calls, graph, {self.input, self.output}))
        self.names = _call_names(self.calls)
        self.work_words = max(1, self.plan.size // 4)
        step_samples = card.stride_frames * card.front_end.hop_length
        self.max_feed_samples = (self.decision.refractory_steps + 1) * step_samples

    # Sizes

    @property
    def weights_bytes(self) -> int:
        """Flash: constants of the network."""
        fields = [value for call in self.calls for value in call.fields.values()]
        arrays = sum(f.values.nbytes for f in fields if isinstance(f, ConstArray))
        return arrays + 4 * len(fields)  # a pointer takes as much as a number

    @property
    def tables_bytes(self) -> int:
        """Flash: constants of front end and decisions."""
        arrays = [values for _, _, values in (*self.tables.arrays, *self.twin.quantiser.arrays)]
        labels = sum(len(label.encode()) + 1 + 4 for label in self.card.labels)
        return sum(a.nbytes for a in arrays) + 10 * len(self.decision.labels) + labels

    @property
    def golden_bytes(self) -> int:
        """Flash: what the self-test needs."""
        g = self.golden
        events = len(g.events) + len(g.decisions) + 2
        return 32 * len(g.sounds) + g.frames.nbytes + g.posteriors.nbytes + 8 * events

    @property
    def state_parts(self) -> dict[str, int]:
        """Bytes of `kws_state` by use; what alignment adds is counted with the counters."""
        card, front_end = self.card, self.card.front_end
        keywords, window = len(self.decision.labels), self.decision.window_steps
        parts = {
            "samples": 2 * front_end.frame_length,
            "features": card.receptive_field_frames * front_end.n_mfcc + 4 * front_end.n_mfcc,
            "scratch": 4 * max(front_end.frame_length, self.work_words),
            "network": self._variables_bytes,
            "decisions": _aligned(3 * 4 * keywords + 8 + keywords + window * keywords, 4),
        }
        # In the order of the fields: all that needs alignment stands before what does not.
        bytes_ = 2 * 8 + 3 * 4 + parts["decisions"] + 4 * front_end.n_mfcc + parts["scratch"]
        # The network's state may need two bytes of alignment in front and behind.
        bytes_ = _aligned(bytes_ + _aligned(parts["network"], 2), 2)
        bytes_ += parts["samples"] + card.receptive_field_frames * front_end.n_mfcc
        bytes_ = _aligned(bytes_ + len(card.labels), 8)
        return parts | {"counters": bytes_ - sum(parts.values())}

    @property
    def state_bytes(self) -> int:
        """RAM of one stream: `KWS_STATE_BYTES`."""
        return sum(self.state_parts.values())

    @property
    def _variables_bytes(self) -> int:
        variables = [v for call in self.calls for v in call.variables]
        return max(1, sum(v.n_bytes for v in variables))

    # Files

    def files(self) -> dict[str, str]:
        """Return all files by their paths."""
        tables = tables_source(
            [*self.tables.arrays, *self.twin.quantiser.arrays], self.tables.comments
        )
        sources = {
            "kws_model.h": self.model_header(),
            "kws_model.c": self.model_source(),
            "kws_tables.c": renamed(tables, self.prefix),
            "kws_golden.c": renamed(golden_source(self.golden), self.prefix),
        }
        for name in _library_files(call.source for call in self.calls):
            sources[name] = renamed((RUNTIME / name).read_text(encoding="utf-8"), self.prefix)
        sources = {renamed(name, self.prefix): text for name, text in sorted(sources.items())}
        return {
            **{f"src/{name}": text for name, text in sources.items()},
            **project_files(
                card=self.card,
                prefix=self.prefix,
                sources=sorted(name for name in sources if name.endswith(".c")),
                weights_bytes=self.weights_bytes,
                tables_bytes=self.tables_bytes,
                golden_bytes=self.golden_bytes,
                golden_events=[
                    (self.card.labels[e.keyword], e.time_samples) for e in self.golden.events
                ],
                state_bytes=self.state_bytes,
                state_parts=self.state_parts,
                max_feed_samples=self.max_feed_samples,
                label_names=self._label_names,
            ),
        }

    def model_header(self) -> str:
        """Return `kws_model.h`."""
        card, decided = self.card, self.decision
        front_end: dict[str, int | str] = {
            "KWS_SAMPLE_RATE_HZ": card.front_end.sample_rate_hz,
            **{name: _number(value) for name, value in self.tables.macros.items()},
        }
        network: dict[str, int | str] = {
            "KWS_RECEPTIVE_FRAMES": card.receptive_field_frames,
            "KWS_STRIDE_FRAMES": card.stride_frames,
            "KWS_N_LABELS": len(card.labels),
            "KWS_WORK_WORDS": self.work_words,
        }
        decisions: dict[str, int | str] = {
            "KWS_N_KEYWORDS": len(decided.labels),
            "KWS_WINDOW_STEPS": decided.window_steps,
            "KWS_REFRACTORY_STEPS": decided.refractory_steps,
            "KWS_RELEASE_Q15": round(32768 * card.decision.release),
        }
        memory: dict[str, int | str] = {
            "KWS_STATE_BYTES": self.state_bytes,
            "KWS_STATE_MARK": f"{zlib.crc32(self.prefix.encode())}u",
        }
        comments = {
            **self.tables.comments,
            "KWS_SAMPLE_RATE_HZ": "of the audio, 16 bits, one channel",
            "KWS_RECEPTIVE_FRAMES": "R: frames that one step of the network looks at",
            "KWS_STRIDE_FRAMES": "S: new frames for each step",
            "KWS_N_LABELS": "outputs",
            "KWS_WORK_WORDS": "int32 words of scratch for the activations",
            "KWS_N_KEYWORDS": "labels that fire events",
            "KWS_WINDOW_STEPS": "posteriors in the moving mean",
            "KWS_REFRACTORY_STEPS": "steps after an event in which nothing fires",
            "KWS_RELEASE_Q15": "share of a threshold below which a keyword may fire again, Q15",
            "KWS_STATE_BYTES": "kws_state is no larger; kws.c has the compiler check it",
            "KWS_STATE_MARK": "kws_init leaves it in a state; each prefix has its own",
        }
        names = self._label_names
        labels = "\n".join(
            # C++98 knows no comma after the last.
            f"    {name} = {i}{',' * (i + 1 < len(names))} {c_comment(c_string(label)[1:-1])}"
            for i, (name, label) in enumerate(zip(names, card.labels, strict=True))
        )
        body = [
            "/* The model this library was made from. */\n"
            "#define KWS_MODEL_NAME @NAME@\n"
            "#define KWS_MODEL_LICENSE @LICENSE@\n"
            f"#define KWS_VERSION {c_string(__version__)}",
            f"/* Front end */\n{macros(front_end, comments)}",
            f"/* Network */\n{macros(network, comments)}",
            f"/* Decisions: a mean over {card.decision.smoothing_ms:g} ms, "
            f"{card.decision.refractory_ms:g} ms of rest after an event */\n"
            f"{macros(decisions, comments)}",
            f"/* Memory */\n{macros(memory, comments)}",
            f"/* Self-test */\n{macros(self.golden.macros, comments)}",
            "/* What the outputs mean. */\nenum kws_label {\n@LABELS@\n};",
            "/* Names of the labels, UTF-8. */\nextern const char *const kws_labels[KWS_N_LABELS];",
            "/* Keywords in the order of their labels; limits are sums over the window, 1/256. */\n"
            "extern const uint16_t kws_keyword_label[KWS_N_KEYWORDS];\n"
            "extern const uint32_t kws_fire_from[KWS_N_KEYWORDS];\n"
            "extern const uint32_t kws_release_below[KWS_N_KEYWORDS];",
            "/* What the network carries from step to step. */\n" + self._state_struct(),
            "/* Set the network's state to that before the first step. */\n"
            "void kws_model_reset(kws_model_state *state);",
            "/*\n"
            " * Run the network for one step.\n"
            " *\n"
            " * state       carried from step to step\n"
            " * work        int32 [KWS_WORK_WORDS], overwritten\n"
            " * features    int8 [KWS_RECEPTIVE_FRAMES, KWS_N_MFCC], from kws_frontend_quantise\n"
            " * posteriors  int8 [KWS_N_LABELS], written: probability = (value + 128) / 256\n"
            " */\n"
            "void kws_model_invoke(kws_model_state *state, int32_t *work, const int8_t *features,\n"
            "                      int8_t *posteriors);",
        ]
        words = {"NAME": c_string(card.name), "LICENSE": c_string(card.license), "LABELS": labels}
        text = renamed(guarded("KWS_MODEL_H", "\n\n".join(body)), self.prefix)
        head = self._head("Sizes, labels and the network of this model.")
        return f"{head}\n" + filled(text, words)

    def model_source(self) -> str:
        """Return `kws_model.c`."""
        card = self.card
        labels = "\n".join(f"    {c_string(label)}," for label in card.labels)
        head = self._head(
            "The network of this model: its constants and the list of its calls.",
            weights_too(card.license),
        )
        blocks = [
            '#include "kws_model.h"\n\n#include <string.h>\n\n#include "kws_kernels.h"',
            "const char *const kws_labels[KWS_N_LABELS] = {\n@LABELS@\n};",
            decision_arrays(self.decision),
        ]
        for name, call in zip(self.names, self.calls, strict=True):
            blocks += _constants(name, call)
        blocks += [self._reset(), self._invoke(), ""]
        text = renamed("\n\n".join(blocks), self.prefix)
        return f"{head}\n\n" + filled(text, {"LABELS": labels})

    @property
    def _label_names(self) -> list[str]:
        return identifiers(self.card.labels, f"{self.prefix.upper()}_LABEL_")

    def _head(self, what: str, license: str = "Apache-2.0") -> str:
        card = self.card
        text = f"{what} {GENERATED} Model: {card.name}, licence {card.license}."
        text = text.replace("*/", "* /")
        lines = textwrap.wrap(text, 97)
        lines += ["", f"SPDX-License-Identifier: {license}"]
        return "\n".join(["/*", *(f" * {line}".rstrip() for line in lines), " */"])

    def _variables(self) -> list[tuple[str, Variable]]:
        """Return the network's state with its names in C, the strictest alignment first."""
        named = []
        for name, call in zip(self.names, self.calls, strict=True):
            for i, variable in enumerate(call.variables):
                what = {"int8_t": "hidden", "int16_t": "cell"}[variable.ctype]
                what = what if call.kernel == "lstm" else f"state{i}"
                named.append((f"{name}_{what}", variable))
        return sorted(named, key=lambda pair: -pair[1].n_bytes // pair[1].count)

    def _state_struct(self) -> str:
        fields = [
            f"    {v.ctype} {name}[{v.count}]; {c_comment(f'[unit], {v.initial} after a reset')}"
            for name, v in self._variables()
        ] or ["    int8_t nothing; /* this network carries nothing */"]
        return "typedef struct kws_model_state {\n" + "\n".join(fields) + "\n} kws_model_state;"

    def _reset(self) -> str:
        lines = ["    memset(state, 0, sizeof *state);"]
        for name, variable in self._variables():
            if variable.initial and variable.ctype == "int8_t":
                lines.append(
                    f"    memset(state->{name}, {variable.initial}, sizeof state->{name});"
                )
            elif variable.initial:
                raise AssertionError(f"{name} begins at {variable.initial} in 16 bits")
        body = "\n".join(lines)
        return f"void kws_model_reset(kws_model_state *state)\n{{\n{body}\n}}"

    def _invoke(self) -> str:
        state = {v.tensor: name for name, v in self._variables()}
        lines = []
        for name, call in zip(self.names, self.calls, strict=True):
            if call.label:
                lines.append(f"    {c_comment(call.label)}")
            arguments = [
                f"&{name}",
                self._place(call.inputs[0]),
                self._place(call.outputs[0]),
                *(self._place(t) for t in call.inputs[1:]),
                *(f"state->{state[v.tensor]}" for v in call.variables),
            ]
            text = f"{call.function}({', '.join(arguments)});"
            lines += textwrap.wrap(text, 100, initial_indent=" " * 4, subsequent_indent=" " * 8)
        body = "\n".join(lines)
        unused = [] if state else ["    (void)state;"]
        if "arena" in body:
            unused.insert(0, "    int8_t *const arena = (int8_t *)work;\n")
        else:
            unused.append("    (void)work;")
        head = (
            "void kws_model_invoke(kws_model_state *state, int32_t *work, const int8_t *features,\n"
            "                      int8_t *posteriors)\n{\n"
        )
        return head + "\n".join(unused) + f"\n{body}\n}}"

    def _place(self, tensor: int) -> str:
        if tensor == self.output:
            return "posteriors"
        if tensor == self.input:
            return "features"
        return f"arena + {self.plan.offsets[tensor]}"


def _library_files(kernels: Iterable[str]) -> set[str]:
    """Return the hand-written files of a library with these kernels.

    Those are taken that are named here, what they include, and with each header its C file.
    """
    found: set[str] = set()
    waiting = {*kernels, *_EVERYWHERE}
    while waiting:
        name = waiting.pop()
        if name in found or not (RUNTIME / name).is_file():  # those that are generated
            continue
        found.add(name)
        text = (RUNTIME / name).read_text(encoding="utf-8")
        headers = re.findall(r'^#include "(\w+)\.h"', text, re.MULTILINE)
        waiting |= {f"{stem}{ending}" for stem in headers for ending in (".h", ".c")}
    return found


def _activations(calls: list[Call], graph: Graph, external: set[int]) -> list[Buffer]:
    """Return the buffers that the calls need, with their lives."""
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


def _call_names(calls: list[Call]) -> list[str]:
    """Return a name for the parameters of each call: ``conv_0``, ``conv_1``, ``lstm_0`` …"""
    counts: dict[str, int] = {}
    names = []
    for call in calls:
        names.append(f"{call.kernel}_{counts.get(call.kernel, 0)}")
        counts[call.kernel] = counts.get(call.kernel, 0) + 1
    return names


def _constants(name: str, call: Call) -> list[str]:
    """Return the arrays of a call and the structure that points to them."""
    blocks, values = [], []
    for field, value in call.fields.items():
        if isinstance(value, ConstArray):
            array = f"{name}_{field}"
            blocks.append(c_array(array, value.values, comment=value.label))
            values.append((field, array))
        else:
            values.append((field, "INT32_MIN" if value == -(2**31) else str(value)))
    body = "\n".join(f"    .{field} = {value}," for field, value in values)
    return [*blocks, f"static const {call.struct} {name} = {{\n{body}\n}};"]


def _number(value: int) -> str:
    """Return a whole number as it may stand anywhere in C, the lowest and negative ones too."""
    if value == -(2**31):
        return "INT32_MIN"
    return f"({value})" if value < 0 else str(value)


def _aligned(size: int, to: int) -> int:
    return -(-size // to) * to
