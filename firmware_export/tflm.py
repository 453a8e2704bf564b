"""The form of a model for TensorFlow Lite Micro (TFLM).

Writes the model as a C array, with what TFLM's interpreter does not tell a program around it:
labels, front end, how features become the input, decisions, which operators to register, and how
large the arena must be (measured with TFLM's interpreter).

TFLM's LSTM on Arm: CMSIS-NN's LSTM kernels began each call with a state of zero, so a stream was
processed in separate pieces of 40 ms. CMSIS-NN takes the state from the caller since 21 May 2026
(its pull request 219), but in June 2026 TFLM's ``kernels/cmsis_nn/unidirectional_sequence_lstm.cc``
did not pass it on yet (pull request 3607 sets it to zero; 3564, which would have helped, was
closed). TFLM's reference kernel keeps the state. The generated files include a check of the kernel
that a program is linked with, and their README says what to do.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray

from firmware_export.c_source import c_array, c_comment, c_string
from firmware_export.fixed_front_end.constants import require_mfcc
from firmware_export.projects import licence_files, spdx_license
from firmware_export.reader import Graph, read_graph
from kws.decide import decision_limits
from kws.errors import KwsError
from kws.model_file import ModelCard
from kws.model_file.card import load_model_bytes
from kws.runtime import open_interpreter
from kws.system.files import atomic_write
from kws.system.processes import child_environment

# Methods of TFLM's MicroMutableOpResolver that are not the operator's name in camel case.
_METHODS = {
    "ADD_N": "AddAddN",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "L2_POOL_2D": "AddL2Pool2D",
    "MAX_POOL_2D": "AddMaxPool2D",
    "PADV2": "AddPadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
}
# Operators that TFLM has and that a network on features may contain.
_PLAIN = """
ABS ADD ARG_MAX ARG_MIN BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_TO CAST CONCATENATION CUMSUM
DEPTH_TO_SPACE DEQUANTIZE DIV ELU EXP EXPAND_DIMS FILL FLOOR FULLY_CONNECTED GATHER HARD_SWISH
L2_NORMALIZATION LEAKY_RELU LOG LOGISTIC LOG_SOFTMAX MAXIMUM MEAN MINIMUM MUL NEG PACK PAD PRELU
QUANTIZE REDUCE_MAX RELU RELU6 RESHAPE RSQRT SHAPE SLICE SOFTMAX SPACE_TO_BATCH_ND SPLIT SPLIT_V
SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE TRANSPOSE_CONV
UNPACK
"""

# Words that cannot name a namespace here: C++20's keywords, and three names in use.
_TAKEN = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t
char32_t class co_await co_return co_yield compl concept const const_cast consteval constexpr
constinit continue decltype default delete do double dynamic_cast else enum explicit export extern
false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr
operator or or_eq private protected public register reinterpret_cast requires return short signed
sizeof static static_assert static_cast struct switch template this thread_local throw true try
typedef typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq
main std tflite
"""

_ARENA_STEP = 16
_CHECK_STEPS = 8
"""Steps of the check of the LSTM's state."""
_CHILD_S = 60

# Runs the model in an arena of a given size, in a separate process: too small an arena ends in a
# segmentation fault, not in an error.
_CHILD = """
import sys
from pathlib import Path
import numpy as np
from tflite_micro.python.tflite_micro import runtime
content, arena = Path(sys.argv[1]).read_bytes(), int(sys.argv[2])
interpreter = runtime.Interpreter.from_bytes(content, arena_size=arena)
details = interpreter.get_input_details(0)
for _ in range(3):
    interpreter.set_input(np.zeros(details["shape"], details["dtype"]), 0)
    interpreter.invoke()
interpreter.print_allocations()
"""


@dataclass(frozen=True, kw_only=True)
class TflmForm:
    """What was written."""

    folder: Path
    """Where it was written."""
    files: tuple[str, ...]
    """Names of the files."""
    operators: tuple[str, ...]
    """Operators to register, as the resolver's methods."""
    arena_bytes: int
    """Smallest arena for the model on this computer, to 16 bytes; 0 if not measured."""
    not_measured: str
    """Why the arena was not measured; empty if it was."""


def write_tflm(
    model: str | Path,
    folder: Path,
    *,
    name: str | None = None,
    thresholds: float | Mapping[str, float] | None = None,
) -> TflmForm:
    """Write a model for TFLM's interpreter.

    Args:
        model: a .tflite with a card, in any form, or the name of a pretrained model.
        folder: where the files go; created if missing.
        name: prefix of the names in C; the model's name by default.
        thresholds: in place of the model's own, for some keywords or one number for all.

    Raises:
        KwsError: no such model, a damaged one, one on features other than MFCC, an operator that
            TFLM does not have, or thresholds that are not for its keywords.
    """
    card, content = load_model_bytes(model)
    card = replace(card, decision=card.decision.with_thresholds(thresholds))
    require_mfcc(card.front_end)
    graph = read_graph(content)
    name = c_name(name or card.name)
    operators = resolver_methods(graph)
    arena, not_measured = measure_arena(content)
    texts = {
        f"{name}_model_data.h": _model_header(name, content),
        f"{name}_model_data.cc": _model_source(name, content, card.license),
        f"{name}_settings.h": _settings(name, card, graph),
        f"{name}_op_resolver.h": _op_resolver(name, operators),
        f"{name}_arena.h": _arena(name, arena, not_measured),
    }
    parts = {card.form}
    if card.form == "stream" and (check := _state_check(name, content)):
        texts[f"{name}_state_check.h"] = check
        parts.add("state")
    if card.decision.is_after_wake_word:
        parts.add("after_wake")
    size = f"{arena:,} bytes, measured with TFLM's interpreter on a 64-bit computer"
    source = graph.tensors[graph.inputs[0]]
    texts["README.md"] = _readme(
        parts,
        name=name,
        title=card.name,
        license=card.license,
        operators=str(len(operators)),
        input=f"{source.dtype} {list(source.shape)}",
        arena=size if arena else f"not measured, {not_measured}",
        frames=str(card.receptive_field_frames),
    )
    texts |= licence_files(card, f"{card.name} for TensorFlow Lite Micro", f"{name}_model_data.cc")
    for file_name, text in texts.items():
        with atomic_write(folder / file_name, "w") as file:
            file.write(text)
    return TflmForm(
        folder=folder,
        files=tuple(sorted(texts)),
        operators=operators,
        arena_bytes=arena,
        not_measured=not_measured,
    )


def c_name(text: str) -> str:
    """Return a text as a name in C: lower-case letters, digits and underscores, a letter first.

    Example:
        >>> c_name("Hey, you!"), c_name("switch")
        ('hey_you', 'model_switch')
    """
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_").lower() or "model"
    return name if name[0].isalpha() and name not in _TAKEN.split() else f"model_{name}"


def resolver_methods(graph: Graph) -> tuple[str, ...]:
    """Return the methods of TFLM's MicroMutableOpResolver that register a graph's operators.

    Raises:
        KwsError: TFLM does not have one of them.
    """
    methods = []
    for name in dict.fromkeys(op.name for op in graph.ops):
        if name in _METHODS:
            methods.append(_METHODS[name])
        elif name in _PLAIN.split():
            methods.append("Add" + "".join(part.capitalize() for part in name.split("_")))
        else:
            raise KwsError(
                f"The model has an operator that TFLM is not known to support. Received: {name}. "
                "Use layers that convert to its operators: convolutions, pooling, LSTM, dense"
            )
    return tuple(sorted(methods))


def measure_arena(content: bytes) -> tuple[int, str]:
    """Return the smallest arena, in bytes, for a model in TFLM here; or 0 and why it is unknown."""
    if find_spec("tflite_micro") is None:
        return 0, "the package tflite-micro is not installed (on Linux, x86-64: pip install it)"
    with tempfile.TemporaryDirectory(prefix="kws-arena-") as room:
        path = Path(room, "model.tflite")
        path.write_bytes(content)

        def output_with(arena: int) -> bytes | None:
            command = [sys.executable, "-c", _CHILD, str(path), str(arena)]
            done = subprocess.run(
                command, capture_output=True, timeout=_CHILD_S, env=child_environment(), check=False
            )
            return done.stdout + done.stderr if done.returncode == 0 else None

        low, high = 0, 4096  # in `low` it does not run, in `high` it does
        while (output := output_with(high)) is None:
            low, high = high, 2 * high
            if high > 2**26:
                return 0, "TFLM does not run it in any arena up to 64 MB"
        # TFLM needs a little more at times than it reports as used.
        if found := re.search(rb"Arena allocation total (\d+) bytes", output):
            used = int(found.group(1)) // _ARENA_STEP * _ARENA_STEP
            if low < used < high and output_with(used) is None:
                low = used
        while high - low > _ARENA_STEP:
            middle = (low + high) // 2 // _ARENA_STEP * _ARENA_STEP
            if output_with(middle) is None:
                low = middle
            else:
                high = middle
        return high, ""


def _model_header(name: str, content: bytes) -> str:
    return f"""{_banner(f"The model {name}, a .tflite of {len(content):,} bytes")}
#ifndef {name.upper()}_MODEL_DATA_H_
#define {name.upper()}_MODEL_DATA_H_

extern const unsigned char g_{name}_model_data[];
extern const unsigned int g_{name}_model_data_size;

#endif
"""


def _model_source(name: str, content: bytes, license: str) -> str:
    rows = [content[i : i + 16] for i in range(0, len(content), 16)]
    numbers = "\n".join("    " + " ".join(f"0x{byte:02x}," for byte in row) for row in rows)
    return f"""{_banner("The .tflite file, byte by byte", spdx_license(license))}
{c_comment(f"Licence of the weights: {license}")}
#include "{name}_model_data.h"

// TFLM reads the weights in place. The file begins at a multiple of 16; inside it the converter
// aligns constants to 4 bytes, which is enough for TFLM's and CMSIS-NN's kernels.
alignas(16) const unsigned char g_{name}_model_data[] = {{
{numbers}
}};
const unsigned int g_{name}_model_data_size = {len(content)};
"""


def _settings(name: str, card: ModelCard, graph: Graph) -> str:
    front_end = card.front_end
    limits = decision_limits(card.decision, card.keywords, card.step_ms)
    labels = "\n".join(f"    {c_string(label)}," for label in card.labels)
    frames = card.receptive_field_frames if card.form == "stream" else card.clip_frames
    source, result = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    std = np.array(card.feature_std, np.float64)
    mean = np.array(card.feature_mean, np.float64)
    gain, zero_point = 1.0 / std, 0
    what = "input = feature * kFeatureGain + kFeatureOffset"
    if source.dtype == "int8":
        gain, zero_point = gain / float(source.scales[0]), int(source.zero_points[0])
        what += ",\n// rounded to nearest (ties to even), limited to -128 … 127"
    offset = zero_point - mean * gain
    fire = [limits.fire[card.keywords.index(k)] if k in card.keywords else 0.0 for k in card.labels]
    release = [
        limits.release[card.keywords.index(k)] if k in card.keywords else 0.0 for k in card.labels
    ]
    keeps_state = "; it keeps its state" if card.form == "stream" else ""
    output = ""
    if result.dtype == "int8":
        output = f"""
// posterior = (output - kOutputZeroPoint) * kOutputScale
constexpr float kOutputScale = {_f(float(result.scales[0]))};
constexpr int kOutputZeroPoint = {int(result.zero_points[0])};
"""
    return f"""{_banner("Settings for the program around the model")}
#ifndef {name.upper()}_SETTINGS_H_
#define {name.upper()}_SETTINGS_H_

namespace {name} {{

// Labels in the order of the outputs.
constexpr int kLabelCount = {len(card.labels)};
constexpr const char* kLabels[kLabelCount] = {{
{labels}
}};

// The front end: MFCC as in librosa with center=False, htk=True, norm=None and no padding:
// periodic Hann window, magnitude of the FFT, triangular mel filters, natural logarithm of
// max(mel, kLogFloor), orthonormal DCT-II. Audio is int16 / 32768.
constexpr int kSampleRateHz = {front_end.sample_rate_hz};
constexpr int kFrameLength = {front_end.frame_length};  // samples, also the length of the FFT
constexpr int kHopLength = {front_end.hop_length};  // samples from one frame to the next
constexpr int kMelFilters = {front_end.n_mels};
constexpr float kMelLowHz = {_f(front_end.mel_low_hz)};
constexpr float kMelHighHz = {_f(front_end.mel_high_hz)};
constexpr float kLogFloor = {_f(front_end.log_floor)};
constexpr int kMfccCount = {front_end.n_mfcc};

// The input holds kInputFrames frames of kMfccCount values, the oldest first. Invoke the model
// after every kStrideFrames new frames{keeps_state}.
constexpr int kInputFrames = {frames};
constexpr int kStrideFrames = {card.stride_frames};

// {what}
constexpr float kFeatureGain[kMfccCount] = {{{_floats(gain)}}};
constexpr float kFeatureOffset[kMfccCount] = {{{_floats(offset)}}};
{output}
// Decisions, for each label (0: not a keyword). Let `sum` be the sum of a label's last kWindowSteps
// posteriors. Below kRelease a keyword becomes armed (all start armed). Of the armed keywords at or
// above kFire the one with the largest sum fires and is no longer armed; then nothing fires for
// kRefractorySteps steps.
constexpr int kWindowSteps = {limits.window_steps};
constexpr int kRefractorySteps = {limits.refractory_steps};
constexpr float kFire[kLabelCount] = {{{_floats(fire)}}};
constexpr float kRelease[kLabelCount] = {{{_floats(release)}}};

}}  // namespace {name}

#endif
"""


def _op_resolver(name: str, operators: Sequence[str]) -> str:
    adds = "\n".join(
        f"    if ((status = resolver.{operator}()) != kTfLiteOk) return status;"
        for operator in operators
    )
    return f"""{_banner("The operators that the model needs, and no others")}
#ifndef {name.upper()}_OP_RESOLVER_H_
#define {name.upper()}_OP_RESOLVER_H_

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

namespace {name} {{

constexpr int kOperatorCount = {len(operators)};
using OpResolver = tflite::MicroMutableOpResolver<kOperatorCount>;

inline TfLiteStatus RegisterOps(OpResolver& resolver) {{
    TfLiteStatus status = kTfLiteOk;
{adds}
    return status;
}}

}}  // namespace {name}

#endif
"""


def _arena(name: str, arena: int, not_measured: str) -> str:
    if arena:
        comment = (
            f"// TFLM's interpreter with reference kernels needs {arena:,} bytes on a 64-bit "
            "computer. With 32-bit\n// pointers it needs less; optimised kernels (CMSIS-NN, "
            "ESP-NN) need more, for scratch memory. So a\n// quarter is added. On the device "
            "interpreter.arena_used_bytes() returns what is in use; AllocateTensors\n// needs a "
            "little more."
        )
        size = (arena * 5 // 4 + 1023) // 1024 * 1024
        measured = f"constexpr int kArenaBytesMeasured = {arena};\n"
    else:
        comment = (
            f"// A guess, not measured: {not_measured}.\n// Print interpreter.arena_used_bytes() "
            "after the first Invoke on the device and correct it."
        )
        size, measured = 32768, ""
    return f"""{_banner("Memory for the interpreter")}
#ifndef {name.upper()}_ARENA_H_
#define {name.upper()}_ARENA_H_

namespace {name} {{

{comment}
{measured}constexpr int kArenaBytes = {size};

}}  // namespace {name}

#endif
"""


def _state_check(name: str, content: bytes) -> str | None:
    """Return a header with a few steps and their outputs; None without a state, or in float."""
    interpreter = open_interpreter(content)
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    if source["dtype"] != np.int8 or result["dtype"] != np.int8:
        return None
    rng = np.random.default_rng(5)
    # Slow waves plus noise, about as large as normalised features.
    shape = tuple(int(n) for n in source["shape"])
    waves = np.cumsum(rng.normal(0, 12, (_CHECK_STEPS, *shape)), axis=0)
    inputs = np.clip(np.rint(waves + rng.normal(0, 20, waves.shape)), -128, 127).astype(np.int8)

    def outputs(forgetful: bool) -> NDArray[np.int8]:
        found = []
        interpreter.reset_all_variables()
        for window in inputs:
            if forgetful:
                interpreter.reset_all_variables()
            interpreter.set_tensor(source["index"], window)
            interpreter.invoke()
            found.append(interpreter.get_tensor(result["index"]).ravel().copy())
        return np.array(found)

    kept, forgotten = outputs(False), outputs(True)
    apart = np.abs(kept.astype(int) - forgotten.astype(int)).max(axis=1)
    step = int(apart.argmax())
    if apart[step] < 4:
        return None
    inputs, expected = inputs[: step + 1], kept[step]
    return f"""{_banner("Checks whether the LSTM's state is kept from one Invoke to the next")}
#ifndef {name.upper()}_STATE_CHECK_H_
#define {name.upper()}_STATE_CHECK_H_

#include <stdint.h>
#include <string.h>

#include "tensorflow/lite/micro/micro_interpreter.h"

namespace {name} {{

{c_array("kCheckInputs", inputs, comment=f"{step + 1} inputs of the model, one after the other")}
{c_array("kCheckOutput", expected, comment="Its output for the last of them, if its state is kept")}
// Without the state the output is {int(apart[step])} off; kernels differ by a few.
constexpr int kCheckTolerance = {int(apart[step]) // 2};

// Call it after AllocateTensors. Returns false if the LSTM's kernel begins each Invoke with a state
// of zero (README.md says what to do). Leaves the interpreter reset.
inline bool StateIsKept(tflite::MicroInterpreter& interpreter) {{
    const size_t size = interpreter.input(0)->bytes;
    bool kept = interpreter.Reset() == kTfLiteOk;
    for (size_t at = 0; at + size <= sizeof kCheckInputs; at += size) {{
        memcpy(interpreter.input(0)->data.int8, kCheckInputs + at, size);
        kept = interpreter.Invoke() == kTfLiteOk && kept;
    }}
    for (size_t i = 0; i < sizeof kCheckOutput; i++) {{
        const int apart = interpreter.output(0)->data.int8[i] - kCheckOutput[i];
        kept = kept && apart <= kCheckTolerance && -apart <= kCheckTolerance;
    }}
    return interpreter.Reset() == kTfLiteOk && kept;
}}

}}  // namespace {name}

#endif
"""


def _readme(parts: Collection[str], **values: str) -> str:
    """Fill in `tflm_readme.md`; of its marked parts, only these stay."""
    text = Path(__file__).with_name("tflm_readme.md").read_text(encoding="utf-8")
    marked = re.compile(r"^<!-- (\w+) -->\n(.*?)^<!-- end -->\n", re.MULTILINE | re.DOTALL)
    text = marked.sub(lambda found: found[2] if found[1] in parts else "", text)
    return Template(text).substitute(values)


def _banner(what: str, license: str = "Apache-2.0") -> str:
    return (
        f"// {what}.\n// Generated by `kws firmware --form tflm`; do not edit.\n"
        f"// SPDX-License-Identifier: {license}"
    )


def _f(value: float) -> str:
    return f"{np.float32(value)!s}f" if "." in str(np.float32(value)) else f"{value:.9g}f"


def _floats(values: Sequence[float] | NDArray[np.floating]) -> str:
    """Return the elements of an array, wrapped."""
    text = ", ".join(_f(float(value)) for value in values)
    return "\n" + textwrap.fill(text, 100, initial_indent="    ", subsequent_indent="    ")
