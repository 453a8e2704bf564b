"""The form for TFLM: the model is complete, and all that is written about it is true."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_model import STORED, write_tiny

from firmware_export.emit import generate
from firmware_export.reader import Graph, Op
from firmware_export.tflm import c_name, measure_arena, resolver_methods, write_tflm
from kws.errors import KwsError
from kws.export.probe import run_tflm
from kws.model_file import load_model, resolve_model
from kws.network import Network

NAME = "commands_en"

# The part of TFLM's interface that the generated headers use.
FAKE_RESOLVER = """
#pragma once
enum TfLiteStatus { kTfLiteOk, kTfLiteError };
namespace tflite {
template <unsigned int n> struct MicroMutableOpResolver {
    unsigned int added = 0;
    TfLiteStatus Add() { return ++added <= n ? kTfLiteOk : kTfLiteError; }
    TfLiteStatus AddConv2D() { return Add(); }
    TfLiteStatus AddFullyConnected() { return Add(); }
    TfLiteStatus AddReshape() { return Add(); }
    TfLiteStatus AddSoftmax() { return Add(); }
    TfLiteStatus AddUnidirectionalSequenceLSTM() { return Add(); }
};
}
"""
FAKE_INTERPRETER = """
#pragma once
#include <stdint.h>
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
struct TfLiteTensor { struct { int8_t* int8; } data; unsigned long bytes; };
namespace tflite {
struct MicroInterpreter {
    int8_t in[117], out[12];
    TfLiteTensor source = {{in}, sizeof in}, result = {{out}, sizeof out};
    const int8_t* answer;
    int apart;
    TfLiteTensor* input(int) { return &source; }
    TfLiteTensor* output(int) { return &result; }
    TfLiteStatus Reset() { return kTfLiteOk; }
    TfLiteStatus Invoke() {
        for (int i = 0; i < 12; i++) out[i] = (int8_t)(answer[i] + (i == 0 ? apart : 0));
        return kTfLiteOk;
    }
};
}
"""
MAIN = """
#include "commands_en_arena.h"
#include "commands_en_model_data.h"
#include "commands_en_op_resolver.h"
#include "commands_en_settings.h"
#include "commands_en_state_check.h"
using namespace commands_en;
int main() {
    OpResolver resolver;
    if (RegisterOps(resolver) != kTfLiteOk || resolver.added != kOperatorCount) return 1;
    if (reinterpret_cast<unsigned long>(g_commands_en_model_data) % 16) return 2;
    tflite::MicroInterpreter interpreter;
    interpreter.answer = kCheckOutput;
    const int sign = kCheckOutput[0] > 0 ? -1 : 1;
    interpreter.apart = 0;
    if (!StateIsKept(interpreter)) return 3;
    interpreter.apart = sign * kCheckTolerance;
    if (!StateIsKept(interpreter)) return 4;
    interpreter.apart = sign * (kCheckTolerance + 1);
    if (StateIsKept(interpreter)) return 5;
    return kFire[kLabelCount - 1] == 0.0f && kArenaBytes > 0 ? 0 : 6;
}
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tflm")
    write_tflm(NAME, folder)
    return folder


def array(text: str, name: str) -> NDArray[np.float64]:
    """The numbers of a C array."""
    found = re.search(rf"{name}\[\w*\] = {{(.*?)}};", text, re.DOTALL)
    assert found is not None, name
    return np.array([float(x.rstrip("f")) for x in found.group(1).split(",") if x.strip()])


def test_the_array_is_the_model_byte_by_byte(written: Path) -> None:
    text = (written / f"{NAME}_model_data.cc").read_text()
    content = bytes(int(byte, 16) for byte in re.findall(r"0x(\w\w),", text))
    assert content == resolve_model(NAME).read_bytes()
    assert f"alignas(16) const unsigned char g_{NAME}_model_data[]" in text
    assert f"g_{NAME}_model_data_size = {len(content)};" in text


def test_it_compiles_without_warnings_and_its_checks_check(written: Path, tmp_path: Path) -> None:
    compiler = next((c for c in ("g++", "clang++") if shutil.which(c)), None)
    if compiler is None:
        pytest.skip("no C++ compiler")
    headers = tmp_path / "tensorflow" / "lite" / "micro"
    headers.mkdir(parents=True)
    (headers / "micro_mutable_op_resolver.h").write_text(FAKE_RESOLVER)
    (headers / "micro_interpreter.h").write_text(FAKE_INTERPRETER)
    (tmp_path / "main.cc").write_text(MAIN)
    program = tmp_path / "program"
    subprocess.run(
        [
            *(compiler, "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"),
            *("-o", str(program), f"-I{tmp_path}", f"-I{written}", str(tmp_path / "main.cc")),
            str(written / f"{NAME}_model_data.cc"),
        ],
        check=True,
    )
    assert subprocess.run([program], check=False).returncode == 0


def test_neither_name_nor_licence_of_a_model_can_break_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    monkeypatch.setattr("firmware_export.tflm.measure_arena", lambda _: (0, "not asked for"))
    model = write_tiny(tmp_path / "m.tflite", name="switch", license="mine */ or yours \\")
    write_tflm(model, tmp_path / "out")
    for name in ("model_switch_model_data.cc", "model_switch_settings.h"):
        flags = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-xc++"]
        subprocess.run(["g++", *flags, str(tmp_path / "out" / name)], check=True)


def test_the_operators_are_those_that_the_interpreter_sees(tmp_path: Path) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    seen = interpreter.Interpreter(
        str(resolve_model(NAME)),
        experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    names = {op["op_name"].replace("_", "").lower() for op in seen._get_ops_details()}
    form = write_tflm(NAME, tmp_path)
    assert {method.removeprefix("Add").lower() for method in form.operators} == names


def test_the_settings_turn_features_into_the_input_as_the_runner_does(written: Path) -> None:
    text = (written / f"{NAME}_settings.h").read_text()
    gain = array(text, "kFeatureGain").astype(np.float32)
    offset = array(text, "kFeatureOffset").astype(np.float32)
    network = Network(NAME)
    features = np.random.default_rng(0).normal(0, 20, (500, len(gain))).astype(np.float32)
    ours = np.clip(np.rint(features * gain + offset), -128, 127).astype(np.int8)
    np.testing.assert_array_equal(ours, network.prepare(features))


def test_the_labels_and_limits_are_those_of_the_card(written: Path) -> None:
    text = (written / f"{NAME}_settings.h").read_text()
    card = load_model(NAME)
    labels = re.search(r"kLabels\[kLabelCount\] = {(.*?)};", text, re.DOTALL)
    assert labels is not None
    assert tuple(re.findall(r'"(.*?)"', labels.group(1))) == card.labels
    steps = round(card.decision.smoothing_ms / card.step_ms)
    assert f"kWindowSteps = {steps};" in text
    limit = card.decision.thresholds[card.keywords[0]] * steps
    assert array(text, "kFire")[card.labels.index(card.keywords[0])] == pytest.approx(limit)


def test_the_state_check_detects_a_kernel_that_drops_the_state(
    written: Path,
) -> None:
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
    text = (written / f"{NAME}_state_check.h").read_text()
    inputs = array(text, "kCheckInputs").astype(np.int8).reshape(-1, 1, 9, 13)
    expected = array(text, "kCheckOutput")
    tolerance = int(re.findall(r"kCheckTolerance = (\d+)", text)[0])
    interpreter = runtime.Interpreter.from_bytes(resolve_model(NAME).read_bytes())

    def apart(forgetful: bool) -> float:
        interpreter.reset()
        for window in inputs:
            if forgetful:
                interpreter.reset()
            interpreter.set_input(window, 0)
            interpreter.invoke()
        return float(np.abs(interpreter.get_output(0).ravel() - expected).max())

    assert apart(forgetful=False) <= tolerance / 2
    assert apart(forgetful=True) > tolerance


def test_the_readme_names_every_file_and_no_other(written: Path) -> None:
    readme = (written / "README.md").read_text()
    named = set(re.findall(rf"{NAME}_\w+\.h", readme))
    assert named == {path.name for path in written.glob("*.h")}
    assert "<!--" not in readme and "CMSIS-NN" in readme and "interpreter.Reset()" in readme


def test_the_arena_is_just_large_enough() -> None:
    pytest.importorskip("tflite_micro")
    content = (STORED / "stream_int8.tflite").read_bytes()
    arena, why = measure_arena(content)
    assert not why
    assert 1000 < arena < 20000
    # `used` is TFLM's report; at times it needs more.
    _, _, used = run_tflm(content, np.zeros((2, 5, 13), np.int8), np.zeros(2, bool))
    assert used <= arena <= 2 * used


def test_float_and_clip_models_are_supported(tmp_path: Path) -> None:
    for form, int8 in (("stream", False), ("clip", True)):
        model = write_tiny(tmp_path / "model.tflite", form=form, int8=int8)
        written = write_tflm(model, tmp_path / form, name="own")
        text = (tmp_path / form / "own_settings.h").read_text()
        assert "AddUnidirectionalSequenceLSTM" in written.operators
        assert ("kOutputScale" in text) == int8
        readme = (tmp_path / form / "README.md").read_text()
        assert "<!--" not in readme and "state_check" not in readme
        assert ("interpreter.Reset();   // else" in readme) == (form == "clip")
        assert f"kInputFrames = {5 if form == 'stream' else 49};" in text


def test_an_operator_that_tflm_lacks_is_refused_by_name() -> None:
    op = Op(name="WHILE", inputs=(), outputs=(), intermediates=(), options={})
    with pytest.raises(KwsError, match="WHILE"):
        resolver_methods(Graph(tensors=(), ops=(op,), inputs=(), outputs=()))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Hey Jarvis!", "hey_jarvis"),
        ("1st", "model_1st"),
        ("Grüß", "gr"),
        ("", "model"),
        ("switch", "model_switch"),  # a keyword of C++
        ("Auto", "model_auto"),
    ],
)
def test_any_name_becomes_a_valid_c_name(text: str, name: str) -> None:
    assert c_name(text) == name


def test_the_front_end_that_the_readme_names_compiles_on_its_own(tmp_path: Path) -> None:
    if shutil.which("g++") is None or shutil.which("gcc") is None:
        pytest.skip("needs gcc and g++")
    model = write_tiny(tmp_path / "model.tflite")
    write_tflm(model, tmp_path / "tflm")
    generate(model, tmp_path / "library")
    readme = (tmp_path / "tflm" / "README.md").read_text()
    paragraph = readme[readme.index("For a front end in C") :]
    named = set(re.findall(r"`(kws_\w+\.[ch])`", paragraph))
    (room := tmp_path / "room").mkdir()
    for name in named:
        shutil.copy(tmp_path / "library" / "src" / name, room)
    call = re.search(r"```cpp\n(.*?)```", paragraph, re.DOTALL)
    assert call is not None
    (room / "main.cc").write_text(
        '#include "kws_frontend.h"\n#include "kws_input.h"\n'
        "static int16_t frame[KWS_FRAME_LENGTH];\n"
        "static int32_t work[KWS_FRONTEND_WORK_WORDS], mfcc_q16[KWS_N_MFCC];\n"
        "static int8_t row[KWS_N_MFCC];\n"
        f"int main() {{\n{call[1]}return row[0] == 99;\n}}\n"
    )
    sources = sorted(name for name in named if name.endswith(".c"))
    subprocess.run(["gcc", "-std=c99", "-c", *sources], cwd=room, check=True)
    objects = [name.replace(".c", ".o") for name in sources]
    subprocess.run(["g++", "main.cc", *objects, "-o", "main"], cwd=room, check=True)
    assert subprocess.run(["./main"], cwd=room, check=False).returncode == 0


def test_licence_and_credits_come_with_it(tmp_path: Path) -> None:
    model = write_tiny(tmp_path / "model.tflite")
    written = write_tflm(model, tmp_path / "tflm")
    card = load_model(model)
    notice = (tmp_path / "tflm" / "NOTICE").read_text()
    assert card.license in notice and f"{c_name(card.name)}_model_data.cc" in notice
    assert "Apache License" in (tmp_path / "tflm" / "LICENSE").read_text()
    for name in written.files:
        if name.endswith((".h", ".cc")):
            assert "SPDX-License-Identifier" in (tmp_path / "tflm" / name).read_text(), name
