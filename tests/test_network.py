"""The network of a model file, against a NumPy forward pass and against LiteRT used by hand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from numpy.typing import NDArray

from kws.errors import KwsError
from kws.model_file import write_card
from kws.network import Network

CARD = tiny_model.card(form="stream")
MEAN = np.array(CARD.feature_mean)
STD = np.array(CARD.feature_std)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        f"{form}_{kind}": tiny_model.write_tiny(
            folder / f"{form}_{kind}.tflite", form=form, int8=kind == "int8"
        )
        for form in ("stream", "clip")
        for kind in ("int8", "float")
    }


def features(frames: int, seed: int = 0) -> NDArray[np.float32]:
    """Raw MFCC [frames, 13] that look like the training set of the tiny card."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((frames, tiny_model.N_MFCC)) * STD + MEAN).astype(np.float32)


def reference(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return tiny_model.reference((x - MEAN) / STD, tiny_model.weights())


def test_a_float_stream_equals_the_definition_of_the_layers(models: dict[str, Path]) -> None:
    x = features(300)
    posteriors = Network(models["stream_float"]).run(x)
    assert posteriors.shape == (148, 4)  # (300 - 5) // 2 + 1
    assert posteriors.std(axis=0).min() > 0.05  # it has something to say
    np.testing.assert_allclose(posteriors, reference(x), atol=2e-5)


def test_the_stored_models_are_what_tf_keras_makes(models: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("tf_keras")
    path = tmp_path / "new.tflite"
    path.write_bytes(write_card(tiny_model.convert(form="stream", int8=True), CARD))
    x = features(100)
    stored = Network(models["stream_int8"]).run(x)
    np.testing.assert_allclose(Network(path).run(x), stored, atol=1 / 256)


def test_an_int8_stream_is_close_to_the_definition_of_the_layers(models: dict[str, Path]) -> None:
    x = features(300)
    error = Network(models["stream_int8"]).run(x) - reference(x)
    assert np.abs(error).mean() < 0.02


def test_clip_and_stream_form_agree(models: dict[str, Path]) -> None:
    x = features(tiny_model.CLIP_FRAMES)
    clip = Network(models["clip_float"]).run(x)
    assert clip.shape == (23, 4)
    np.testing.assert_allclose(clip, Network(models["stream_float"]).run(x), atol=1e-5)


@pytest.mark.parametrize("kind", ["int8", "float"])
def test_a_second_clip_does_not_hear_the_first(models: dict[str, Path], kind: str) -> None:
    network = Network(models[f"clip_{kind}"])
    x = features(tiny_model.CLIP_FRAMES)
    first = network.run(x)
    assert not np.array_equal(network.run(features(tiny_model.CLIP_FRAMES, seed=1)), first)
    np.testing.assert_array_equal(network.run(x, reset=False), first)


@pytest.mark.parametrize("kind", ["int8", "float"])
def test_state_is_carried_between_runs_until_reset(models: dict[str, Path], kind: str) -> None:
    network = Network(models[f"stream_{kind}"])
    x = features(101)
    whole = network.run(x)
    # Step 20 starts at frame 40; the stretch before ends with the frames that step 19 needs.
    parts = [network.run(x[:43]), network.run(x[40:], reset=False)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    steps = []
    network.reset()
    for k in range(len(whole)):
        steps.append(network.step(x[2 * k : 2 * k + 5]))
    np.testing.assert_array_equal(np.array(steps), whole)
    # Without the reset the same frames give something else.
    assert np.abs(network.run(x, reset=False)[:3] - whole[:3]).max() > 0.01


def test_int8_input_and_output_are_the_tensors_own(models: dict[str, Path]) -> None:
    pytest.importorskip("ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    x = features(25)
    interpreter = Interpreter(
        model_path=str(models["stream_int8"]),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = inputs["quantization"]
    q = np.clip(np.rint((x.astype(np.float64) - MEAN) / STD / scale) + zero_point, -128, 127)
    expected = []
    for k in range(11):
        interpreter.set_tensor(inputs["index"], q[None, 2 * k : 2 * k + 5].astype(np.int8))
        interpreter.invoke()
        expected.append(interpreter.get_tensor(outputs["index"])[0, 0])
    scale, zero_point = outputs["quantization"]
    assert (scale, zero_point) == (1 / 256, -128)
    posteriors = Network(models["stream_int8"]).run(x)
    np.testing.assert_array_equal(posteriors, (np.array(expected) + 128.0) / 256)


def test_features_outside_the_int8_range_saturate(models: dict[str, Path]) -> None:
    network = Network(models["stream_int8"])
    huge = network.prepare(np.full((1, 13), 1e9, np.float32))
    tiny = network.prepare(np.full((1, 13), -1e9, np.float32))
    assert (huge == 127).all()
    assert (tiny == -128).all()


def test_int8_results_stay_within_a_few_steps_of_the_reference_kernels(
    models: dict[str, Path],
) -> None:
    """With XNNPACK, LiteRT's default, several times as many int8 outputs differ, and by more."""
    pytest.importorskip("ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    network = Network(models["stream_int8"])
    q = network.prepare(features(2000))
    interpreter = Interpreter(
        model_path=str(models["stream_int8"]),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
    )
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    differences = []
    for k in range(900):
        step = q[2 * k : 2 * k + 5]
        interpreter.set_tensor(inputs["index"], step[None])
        interpreter.invoke()
        expected = interpreter.get_tensor(outputs["index"])[0, 0].astype(float)
        differences.append(network.invoke(step)[0] * 256 - 128 - expected)
    assert np.abs(differences).max() <= 4
    assert np.mean(np.array(differences) != 0) < 0.02


def test_fewer_frames_than_a_step_needs_give_no_posteriors(models: dict[str, Path]) -> None:
    assert Network(models["stream_int8"]).run(features(4)).shape == (0, 4)


@pytest.mark.parametrize(
    ("form", "call", "complaint"),
    [
        ("stream", lambda n: n.run(features(9)[:, :12]), r"\[frames, 13\].*shape \(9, 12\)"),
        ("stream", lambda n: n.run(features(9)[None]), r"\[frames, 13\].*shape \(1, 9, 13\)"),
        ("stream", lambda n: n.step(features(6)), r"shape \(5, 13\).*shape \(6, 13\)"),
        ("clip", lambda n: n.run(features(50)), "whole clips of 49 frames. Received: 50"),
        ("clip", lambda n: n.step(features(5)), "takes whole clips and cannot run on a stream"),
    ],
)
def test_features_of_a_wrong_shape_are_refused(
    models: dict[str, Path], form: str, call: object, complaint: str
) -> None:
    with pytest.raises(KwsError, match=complaint):
        call(Network(models[f"{form}_int8"]))  # type: ignore[operator]


def test_a_card_that_does_not_fit_the_network_is_refused(tmp_path: Path) -> None:
    content = tiny_model.tiny_tflite(form="stream", int8=True)
    path = tmp_path / "m.tflite"
    path.write_bytes(write_card(content, replace(CARD, receptive_field_frames=6)))
    with pytest.raises(KwsError, match=r"does not match its model card.*\(1, 5, 13\).*\(1, 6, 13"):
        Network(path)
    three = tiny_model.card(
        form="stream", labels=("_silence_", "yes", "no"), keywords=("yes", "no")
    )
    path.write_bytes(write_card(content, three))
    with pytest.raises(KwsError, match="does not match its model card"):
        Network(path)


def test_a_model_that_is_cut_off_behind_its_card_is_refused(
    models: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "cut.tflite"
    path.write_bytes(models["stream_int8"].read_bytes()[:-200])
    with pytest.raises(KwsError) as caught:
        Network(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["invoke", "reset_all_variables"])
def test_a_model_that_its_interpreter_refuses_only_at_work_is_refused_in_one_line(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    network = Network(models["stream_int8"])
    features = np.zeros((9, network.card.front_end.n_mfcc), np.float32)
    network.run(features)

    class Unsound:
        """Fails as LiteRT does on tensors without memory."""

        def __getattr__(self, name: str) -> object:
            return refuse if name == method else getattr(interpreter, name)

    def refuse() -> None:
        raise RuntimeError("tflite/core/subgraph.cc:1092\ntensor.data.raw != nullptr was not true.")

    interpreter = network._interpreter
    monkeypatch.setattr(network, "_interpreter", Unsound())
    with pytest.raises(KwsError, match=r"damaged.*nullptr") as caught:
        network.run(features)
    assert "\n" not in str(caught.value)


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True
    )


def test_the_runtime_says_nothing_on_stderr(models: dict[str, Path]) -> None:
    code = "import sys; from kws.network import Network; Network(sys.argv[1])"
    result = python(code, models["stream_int8"])
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_without_any_runtime_one_line_says_what_to_install() -> None:
    code = """
import sys
for name in ("ai_edge_litert", "tflite_runtime", "tensorflow"):
    sys.modules[name] = None
from kws.errors import KwsError
from kws.runtime import which_runtime
try:
    which_runtime()
except KwsError as error:
    print(error)
"""
    result = python(code)
    assert result.stdout.startswith("No TFLite runtime was found")
    assert "pip install ai-edge-litert" in result.stdout
    assert result.stdout.count("\n") == 1


def test_a_runtime_built_for_another_numpy_is_one_line(
    models: dict[str, Path], tmp_path: Path
) -> None:
    # Behaves as tflite-runtime 2.14.0 does under NumPy 2.
    package = tmp_path / "tflite_runtime"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '2.14.0'\n")
    (package / "interpreter.py").write_text(
        """
import sys, types
OpResolverType = types.SimpleNamespace(BUILTIN_WITHOUT_DEFAULT_DELEGATES=0)
def Interpreter(**arguments):
    sys.stderr.write("A module that was compiled using NumPy 1.x cannot be run in\\nNumPy 2\\n")
    raise SystemError("returned a result with an exception set")
"""
    )
    code = """
import sys
sys.modules["ai_edge_litert"] = None
sys.path.insert(0, sys.argv[2])
from kws.cli import run
sys.exit(run(["info", sys.argv[1]]))
"""
    result = python(code, models["stream_int8"], tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("kws: tflite-runtime 2.14.0 was built for another NumPy. ")
    assert result.stderr.endswith("pip install 'numpy<2', or a newer runtime\n")
    assert result.stderr.count("\n") == 1


def test_tensorflows_own_interpreter_serves_when_it_is_the_only_one(
    models: dict[str, Path],
) -> None:
    pytest.importorskip("tensorflow")
    code = """
import sys
for name in ("ai_edge_litert", "tflite_runtime"):
    sys.modules[name] = None
import numpy as np
from kws.network import Network
from kws.runtime import which_runtime
print(which_runtime(), Network(sys.argv[1]).run(np.zeros((9, 13), np.float32)).shape)
"""
    result = python(code, models["stream_int8"])
    assert result.stdout.startswith("tensorflow 2."), result.stderr
    assert result.stdout.rstrip().endswith("(3, 4)")
