"""The generated C of one model: `kws_model.h`, `kws_model.c` and `kws_input_tables.c`.

C is written here with the prefix ``kws`` and renamed as a whole; text from the model's card is
filled in afterwards, in place of ``@WORD@``, so that no label is renamed.
"""

from __future__ import annotations

import textwrap

from firmware_export.c_source import (
    GENERATED,
    c_array,
    c_comment,
    c_string,
    enumerators,
    header,
    macros,
)
from firmware_export.decision import decision_arrays
from firmware_export.detector import Detector
from firmware_export.fixed_front_end.quantiser import INPUT_COMMENTS
from firmware_export.lower.calls import Call, ConstArray
from firmware_export.names import filled
from firmware_export.projects import spdx_license

_COMMENTS = {
    "KWS_RECEPTIVE_FRAMES": "R: frames that one step of the network takes",
    "KWS_STRIDE_FRAMES": "S: new frames for each step",
    "KWS_N_LABELS": "outputs",
    "KWS_WORK_WORDS": "int32 words of scratch for the activations",
    "KWS_N_KEYWORDS": "labels that fire events",
    "KWS_WINDOW_STEPS": "posteriors in the moving mean",
    "KWS_REFRACTORY_STEPS": "steps after an event in which nothing fires",
    "KWS_RELEASE_Q15": "share of a threshold below which a keyword may fire again, Q15",
}
_INVOKE = """\
void kws_model_invoke(kws_model_state *state, int32_t *work, const int8_t *features,
                      int8_t *posteriors)"""


def model_header(model: Detector) -> str:
    """Return `kws_model.h`."""
    card = model.card
    labels = enumerators(model.label_names, card.labels)
    body = [
        "/* The model. */\n#define KWS_MODEL_NAME @NAME@\n#define KWS_MODEL_LICENSE @LICENSE@",
        *_sizes(model),
        "/* What the outputs mean. */\nenum kws_label {\n@LABELS@\n};",
        "/* Names of the labels, UTF-8. */\nextern const char *const kws_labels[KWS_N_LABELS];",
        "/* Keywords in the order of their labels; limits are sums over the window, 1/256. */\n"
        "extern const uint16_t kws_keyword_label[KWS_N_KEYWORDS];\n"
        "extern const uint32_t kws_fire_from[KWS_N_KEYWORDS];\n"
        "extern const uint32_t kws_release_below[KWS_N_KEYWORDS];",
        "/* What the network carries from step to step. */\n" + _state_struct(model),
        "/* Set the network's state to that before the first step. */\n"
        "void kws_model_reset(kws_model_state *state);",
        "/*\n"
        " * Run the network for one step.\n"
        " *\n"
        " * state       carried from step to step\n"
        " * work        int32 [KWS_WORK_WORDS], overwritten\n"
        " * features    int8 [KWS_RECEPTIVE_FRAMES, KWS_N_MFCC], from kws_input_quantise\n"
        " * posteriors  int8 [KWS_N_LABELS], written: probability = (value + 128) / 256\n"
        f" */\n{_INVOKE};",
    ]
    words = {"NAME": c_string(card.name), "LICENSE": c_string(card.license), "LABELS": labels}
    includes = ("<stdint.h>", '"kws_tables.h"')
    text = model.naming.renamed(header("KWS_MODEL_H", "\n\n".join(body), includes))
    head = _head(model, "Sizes, labels and the network of this model.")
    return f"{head}\n" + filled(text, words)


def model_source(model: Detector) -> str:
    """Return `kws_model.c`."""
    card = model.card
    labels = "\n".join(f"    {c_string(label)}," for label in card.labels)
    head = _head(
        model,
        "The network of this model: its constants and its kernel calls.",
        spdx_license(card.license),
    )
    blocks = [
        '#include "kws_model.h"\n\n#include <string.h>\n\n#include "kws_kernels.h"',
        "const char *const kws_labels[KWS_N_LABELS] = {\n@LABELS@\n};",
        decision_arrays(model.decision),
    ]
    for name, call in zip(model.call_names, model.calls, strict=True):
        blocks += _constants(name, call)
    blocks += [_reset(model), _invoke(model), ""]
    text = model.naming.renamed("\n\n".join(blocks))
    return f"{head}\n\n" + filled(text, {"LABELS": labels})


def input_tables_source(model: Detector) -> str:
    """Return `kws_input_tables.c`: the constants from features to the network's input."""
    blocks = [
        c_comment(GENERATED),
        "/* Constants of the network's input, explained in kws_input.h.\n"
        " *\n * SPDX-License-Identifier: Apache-2.0\n */",
        '#include "kws_input.h"',
        *(
            c_array(name, values, static=False, comment=INPUT_COMMENTS[name])
            for name, _, values in model.quantiser.arrays
        ),
    ]
    return model.naming.renamed("\n\n".join(blocks) + "\n")


def _sizes(model: Detector) -> list[str]:
    """Return the macros of the header, a block for each part of the model."""
    card, decided = model.card, model.decision
    network: dict[str, int | str] = {
        "KWS_RECEPTIVE_FRAMES": card.receptive_field_frames,
        "KWS_STRIDE_FRAMES": card.stride_frames,
        "KWS_N_LABELS": len(card.labels),
        "KWS_WORK_WORDS": model.work_words,
    }
    decisions: dict[str, int | str] = {
        "KWS_N_KEYWORDS": len(decided.labels),
        "KWS_WINDOW_STEPS": decided.window_steps,
        "KWS_REFRACTORY_STEPS": decided.refractory_steps,
        "KWS_RELEASE_Q15": round(32768 * card.decision.release),
    }
    times = (
        f"Decisions: a mean over {card.decision.smoothing_ms:g} ms, no event for "
        f"{card.decision.refractory_ms:g} ms after one"
    )
    return [
        f"{c_comment(title)}\n{macros(values, _COMMENTS)}"
        for title, values in (
            ("Network", network),
            (times, decisions),
            ("Self-test", model.test.macros),
        )
    ]


def _head(model: Detector, what: str, license: str = "Apache-2.0") -> str:
    card = model.card
    text = f"{what} {GENERATED} Model: {card.name}, licence {card.license}."
    lines = textwrap.wrap(text.replace("*/", "* /"), 97)
    lines += ["", f"SPDX-License-Identifier: {license}"]
    return "\n".join(["/*", *(f" * {line}".rstrip() for line in lines), " */"])


def _state_struct(model: Detector) -> str:
    fields = [
        f"    {v.ctype} {name}[{v.count}]; {c_comment(f'[unit], {v.initial} after a reset')}"
        for name, v in model.variables
    ] or ["    int8_t nothing; /* this network has no state */"]
    return "typedef struct kws_model_state {\n" + "\n".join(fields) + "\n} kws_model_state;"


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


def _reset(model: Detector) -> str:
    lines = ["    memset(state, 0, sizeof *state);"]
    for name, variable in model.variables:
        if variable.initial and variable.ctype != "int8_t":
            raise AssertionError(f"{name} begins at {variable.initial} in 16 bits")
        if variable.initial:
            lines.append(f"    memset(state->{name}, {variable.initial}, sizeof state->{name});")
    body = "\n".join(lines)
    return f"void kws_model_reset(kws_model_state *state)\n{{\n{body}\n}}"


def _invoke(model: Detector) -> str:
    state = {v.tensor: name for name, v in model.variables}
    lines = []
    for name, call in zip(model.call_names, model.calls, strict=True):
        if call.label:
            lines.append(f"    {c_comment(call.label)}")
        arguments = [
            f"&{name}",
            _place(model, call.inputs[0]),
            _place(model, call.outputs[0]),
            *(_place(model, tensor) for tensor in call.inputs[1:]),
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
    return f"{_INVOKE}\n{{\n" + "\n".join(unused) + f"\n{body}\n}}"


def _place(model: Detector, tensor: int) -> str:
    if tensor == model.output:
        return "posteriors"
    if tensor == model.input:
        return "features"
    return f"arena + {model.plan.offsets[tensor]}"
