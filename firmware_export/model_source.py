"""The generated C of one model: `kws_model.h`, `kws_model.c` and `kws_tables.c`.

C is written here with the prefix ``kws`` and renamed as a whole; text from the model's card is
filled in afterwards, in place of ``@WORD@``, so that no label is renamed.
"""

from __future__ import annotations

import textwrap
import zlib

from firmware_export.c_source import (
    GENERATED,
    c_array,
    c_comment,
    c_number,
    c_string,
    header,
    macros,
)
from firmware_export.decision import decision_arrays
from firmware_export.library import Library
from firmware_export.lower.calls import Call, ConstArray
from firmware_export.names import filled, renamed
from firmware_export.projects import spdx_license
from kws import __version__

_COMMENTS = {
    "KWS_SAMPLE_RATE_HZ": "of the audio, 16 bits, one channel",
    "KWS_RECEPTIVE_FRAMES": "R: frames that one step of the network takes",
    "KWS_STRIDE_FRAMES": "S: new frames for each step",
    "KWS_N_LABELS": "outputs",
    "KWS_WORK_WORDS": "int32 words of scratch for the activations",
    "KWS_N_KEYWORDS": "labels that fire events",
    "KWS_WINDOW_STEPS": "posteriors in the moving mean",
    "KWS_REFRACTORY_STEPS": "steps after an event in which nothing fires",
    "KWS_RELEASE_Q15": "share of a threshold below which a keyword may fire again, Q15",
    "KWS_STATE_BYTES": "kws_state is no larger; checked when kws.c is compiled",
    "KWS_STATE_MARK": "marks an initialised state; differs for each prefix",
}
_INVOKE = """\
void kws_model_invoke(kws_model_state *state, int32_t *work, const int8_t *features,
                      int8_t *posteriors)"""


def model_header(library: Library) -> str:
    """Return `kws_model.h`."""
    card = library.card
    names = library.label_names
    labels = "\n".join(
        # C++98 has no comma after the last.
        f"    {name} = {i}{',' * (i + 1 < len(names))} {c_comment(c_string(label)[1:-1])}"
        for i, (name, label) in enumerate(zip(names, card.labels, strict=True))
    )
    body = [
        "/* The model that this library was made from. */\n"
        "#define KWS_MODEL_NAME @NAME@\n"
        "#define KWS_MODEL_LICENSE @LICENSE@\n"
        f"#define KWS_VERSION {c_string(__version__)}",
        *_sizes(library),
        "/* What the outputs mean. */\nenum kws_label {\n@LABELS@\n};",
        "/* Names of the labels, UTF-8. */\nextern const char *const kws_labels[KWS_N_LABELS];",
        "/* Keywords in the order of their labels; limits are sums over the window, 1/256. */\n"
        "extern const uint16_t kws_keyword_label[KWS_N_KEYWORDS];\n"
        "extern const uint32_t kws_fire_from[KWS_N_KEYWORDS];\n"
        "extern const uint32_t kws_release_below[KWS_N_KEYWORDS];",
        "/* What the network carries from step to step. */\n" + _state_struct(library),
        "/* Set the network's state to that before the first step. */\n"
        "void kws_model_reset(kws_model_state *state);",
        "/*\n"
        " * Run the network for one step.\n"
        " *\n"
        " * state       carried from step to step\n"
        " * work        int32 [KWS_WORK_WORDS], overwritten\n"
        " * features    int8 [KWS_RECEPTIVE_FRAMES, KWS_N_MFCC], from kws_frontend_quantise\n"
        " * posteriors  int8 [KWS_N_LABELS], written: probability = (value + 128) / 256\n"
        f" */\n{_INVOKE};",
    ]
    words = {"NAME": c_string(card.name), "LICENSE": c_string(card.license), "LABELS": labels}
    text = renamed(header("KWS_MODEL_H", "\n\n".join(body)), library.prefix)
    head = _head(library, "Sizes, labels and the network of this model.")
    return f"{head}\n" + filled(text, words)


def model_source(library: Library) -> str:
    """Return `kws_model.c`."""
    card = library.card
    labels = "\n".join(f"    {c_string(label)}," for label in card.labels)
    head = _head(
        library,
        "The network of this model: its constants and its kernel calls.",
        spdx_license(card.license),
    )
    blocks = [
        '#include "kws_model.h"\n\n#include <string.h>\n\n#include "kws_kernels.h"',
        "const char *const kws_labels[KWS_N_LABELS] = {\n@LABELS@\n};",
        decision_arrays(library.decision),
    ]
    for name, call in zip(library.call_names, library.calls, strict=True):
        blocks += _constants(name, call)
    blocks += [_reset(library), _invoke(library), ""]
    text = renamed("\n\n".join(blocks), library.prefix)
    return f"{head}\n\n" + filled(text, {"LABELS": labels})


def tables_source(library: Library) -> str:
    """Return `kws_tables.c`: the front end's constants."""
    tables = library.tables
    blocks = [
        c_comment(GENERATED),
        "/* Constants of the front end, explained in kws_frontend.h and kws_fft.h.\n"
        " *\n * SPDX-License-Identifier: Apache-2.0\n */",
        '#include "kws_fft.h"\n#include "kws_frontend.h"',
    ]
    for name, ctype, values in (*tables.arrays, *library.quantiser.arrays):
        if f"{values.dtype.name}_t" != ctype:
            raise AssertionError(f"{name} is {values.dtype}, not {ctype}")
        blocks.append(c_array(name, values, static=False, comment=tables.comments.get(name)))
    return renamed("\n\n".join(blocks) + "\n", library.prefix)


def _sizes(library: Library) -> list[str]:
    """Return the macros of the header, a block for each part of the library."""
    card, decided = library.card, library.decision
    front_end: dict[str, int | str] = {
        "KWS_SAMPLE_RATE_HZ": card.front_end.sample_rate_hz,
        **{name: c_number(value) for name, value in library.tables.macros.items()},
    }
    network: dict[str, int | str] = {
        "KWS_RECEPTIVE_FRAMES": card.receptive_field_frames,
        "KWS_STRIDE_FRAMES": card.stride_frames,
        "KWS_N_LABELS": len(card.labels),
        "KWS_WORK_WORDS": library.work_words,
    }
    decisions: dict[str, int | str] = {
        "KWS_N_KEYWORDS": len(decided.labels),
        "KWS_WINDOW_STEPS": decided.window_steps,
        "KWS_REFRACTORY_STEPS": decided.refractory_steps,
        "KWS_RELEASE_Q15": round(32768 * card.decision.release),
    }
    memory: dict[str, int | str] = {
        "KWS_STATE_BYTES": library.state_bytes,
        "KWS_STATE_MARK": f"{zlib.crc32(library.prefix.encode())}u",
    }
    times = (
        f"Decisions: a mean over {card.decision.smoothing_ms:g} ms, no event for "
        f"{card.decision.refractory_ms:g} ms after one"
    )
    comments = {**library.tables.comments, **_COMMENTS}
    return [
        f"{c_comment(title)}\n{macros(values, comments)}"
        for title, values in (
            ("Front end", front_end),
            ("Network", network),
            (times, decisions),
            ("Memory", memory),
            ("Self-test", library.self_test.macros),
        )
    ]


def _head(library: Library, what: str, license: str = "Apache-2.0") -> str:
    card = library.card
    text = f"{what} {GENERATED} Model: {card.name}, licence {card.license}."
    lines = textwrap.wrap(text.replace("*/", "* /"), 97)
    lines += ["", f"SPDX-License-Identifier: {license}"]
    return "\n".join(["/*", *(f" * {line}".rstrip() for line in lines), " */"])


def _state_struct(library: Library) -> str:
    fields = [
        f"    {v.ctype} {name}[{v.count}]; {c_comment(f'[unit], {v.initial} after a reset')}"
        for name, v in library.variables
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


def _reset(library: Library) -> str:
    lines = ["    memset(state, 0, sizeof *state);"]
    for name, variable in library.variables:
        if variable.initial and variable.ctype != "int8_t":
            raise AssertionError(f"{name} begins at {variable.initial} in 16 bits")
        if variable.initial:
            lines.append(f"    memset(state->{name}, {variable.initial}, sizeof state->{name});")
    body = "\n".join(lines)
    return f"void kws_model_reset(kws_model_state *state)\n{{\n{body}\n}}"


def _invoke(library: Library) -> str:
    state = {v.tensor: name for name, v in library.variables}
    lines = []
    for name, call in zip(library.call_names, library.calls, strict=True):
        if call.label:
            lines.append(f"    {c_comment(call.label)}")
        arguments = [
            f"&{name}",
            _place(library, call.inputs[0]),
            _place(library, call.outputs[0]),
            *(_place(library, tensor) for tensor in call.inputs[1:]),
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


def _place(library: Library, tensor: int) -> str:
    if tensor == library.output:
        return "posteriors"
    if tensor == library.input:
        return "features"
    return f"arena + {library.plan.offsets[tensor]}"
