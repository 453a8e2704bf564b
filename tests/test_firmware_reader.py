"""The reader of .tflite files for firmware: any input gives a graph or an error of one line."""

from __future__ import annotations

import ctypes
import ctypes.util
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from int8_graphs import SAME, TANH, VALID, Int8Graph, schema

import kws
from firmware_export import reader
from firmware_export.float32 import exp_f32
from firmware_export.lower.calls import ConstArray
from firmware_export.lower.graph import lower, root
from firmware_export.lower.multiplier import multiply_quantised, quantise_multiplier
from firmware_export.reader import read_graph
from kws.errors import KwsError
from kws.runtime import open_interpreter

SHIPPED = Path(kws.__file__).parent / "pretrained/commands_en.tflite"
TINY = Path(__file__).parent / "tiny_models"


def bare(model: bytes) -> bytes:
    """Return a model of ours as the converter wrote it: without the card and its checksum."""
    assert model[8:16] == b"KWSmeta1"
    return model[int.from_bytes(model[16:20], "little") :]


def every_operator() -> bytes:
    """Return a small model with every operator that has a kernel, in a chain."""
    g = Int8Graph()
    rng = np.random.default_rng(0)

    def constant(*shape: int, scale: object = 0.01) -> int:
        return g.tensor(shape, scale=scale, data=rng.integers(-127, 128, shape))

    def numbers(values: list, *shape: int) -> int:
        return g.tensor(shape or (len(values),), dtype="int32", data=values)

    x = g.tensor((1, 6, 4), scale=0.1, zero=3)
    a = g.tensor((1, 1, 6, 4), scale=0.1, zero=3)
    g.op("EXPAND_DIMS", [x, numbers([1])], [a])
    b = g.tensor((1, 1, 6, 8), scale=0.2, zero=-128)
    bias = g.tensor((8,), scale=[0.001] * 8, dtype="int32", data=np.arange(8))
    options = {"padding": SAME, "strideW": 1, "strideH": 1, "fusedActivationFunction": 1}
    g.op("CONV_2D", [a, constant(8, 1, 3, 4, scale=np.full(8, 0.01)), bias], [b], options)
    c = g.tensor((1, 1, 6, 8), scale=0.2, zero=-128)
    weights = g.tensor((1, 1, 3, 8), scale=[0.01] * 8, data=np.ones((1, 1, 3, 8)), dimension=3)
    bias = g.tensor((8,), scale=[0.002] * 8, dtype="int32", data=np.arange(8))
    g.op("DEPTHWISE_CONV_2D", [b, weights, bias], [c], {**options, "depthMultiplier": 1})
    d = g.tensor((1, 1, 6, 8), scale=0.3, zero=0)
    g.op("ADD", [b, c], [d], {})
    pools = {"padding": VALID, "strideW": 1, "strideH": 1, "filterWidth": 2, "filterHeight": 1}
    e = g.tensor((1, 1, 5, 8), scale=0.3, zero=0)
    g.op("MAX_POOL_2D", [d], [e], pools)
    f = g.tensor((1, 1, 4, 8), scale=0.3, zero=0)
    g.op("AVERAGE_POOL_2D", [e], [f], pools)
    h = g.tensor((1, 1, 4, 8), scale=0.2, zero=4)
    g.op("QUANTIZE", [f], [h])
    i = g.tensor((1, 1, 4, 8), scale=1 / 128, zero=0)
    g.op("TANH", [h], [i])
    j = g.tensor((1, 1, 6, 8), scale=1 / 128, zero=0)
    g.op("PAD", [i, numbers([[0, 0], [0, 0], [1, 1], [0, 0]], 4, 2)], [j])
    k = g.tensor((1, 6, 8), scale=1 / 128, zero=0)
    g.op("RESHAPE", [j, numbers([1, 6, 8])], [k])
    y = g.tensor((1, 6, 5), scale=1 / 128, zero=0)
    w = [constant(5, 8) for _ in range(4)]
    r = [constant(5, 5) for _ in range(4)]
    biases = [g.tensor((5,), scale=1e-4, dtype="int32", data=np.arange(5)) for _ in range(4)]
    hidden = g.tensor((1, 5), scale=1 / 128, variable=True)
    cell = g.tensor((1, 5), scale=2.0**-11, dtype="int16", variable=True)
    nothing = [g.tensor((0,), dtype="float32") for _ in range(4)]
    inner = g.tensor((0,), scale=1 / 128)
    slots = [k, *w, *r, -1, -1, -1, *biases, -1, -1, hidden, cell, -1, -1, -1, -1]
    lstm = {"fusedActivationFunction": TANH, "cellClip": 10.0}
    g.op("UNIDIRECTIONAL_SEQUENCE_LSTM", slots, [y], lstm, [*nothing, inner])
    m = g.tensor((1, 5), scale=1 / 100, zero=7)
    g.op("MEAN", [y, numbers([1])], [m], {"keepDims": False})
    n = g.tensor((1, 3), scale=1 / 100, zero=7)
    ends = [numbers([0, 1]), numbers([1, 4]), numbers([1, 1])]
    g.op("STRIDED_SLICE", [m, *ends], [n], {})
    o = g.tensor((1, 4), scale=0.1, zero=0)
    bias = g.tensor((4,), scale=1e-4, dtype="int32", data=np.arange(4))
    g.op("FULLY_CONNECTED", [n, constant(4, 3), bias], [o], {})
    p = g.tensor((1, 4), scale=1 / 256, zero=-128)
    g.op("SOFTMAX", [o], [p], {"beta": 1.0})
    q = g.tensor((1, 4), scale=1 / 256, zero=-128)
    g.op("LOGISTIC", [p], [q])
    return g.build([x], [q])


EVERY = every_operator()


def test_shipped_model_reads_as_its_interpreter_sees_it():
    graph = read_graph(SHIPPED.read_bytes())
    interpreter = open_interpreter(SHIPPED.read_bytes())
    assert graph.inputs == tuple(d["index"] for d in interpreter.get_input_details())
    assert graph.outputs == tuple(d["index"] for d in interpreter.get_output_details())
    details = {d["index"]: d for d in interpreter.get_tensor_details()}
    for tensor in graph.tensors:
        known = details[tensor.index]
        assert tensor.shape == tuple(known["shape"])
        assert tensor.dtype == np.dtype(known["dtype"]).name
        assert tensor.name == known["name"]
        quantisation = known["quantization_parameters"]
        assert np.array_equal(tensor.scales, quantisation["scales"])
        assert np.array_equal(tensor.zero_points, quantisation["zero_points"])
        if tensor.data is not None:
            assert np.array_equal(tensor.data, interpreter.get_tensor(tensor.index))
    assert [op.name for op in graph.ops] == [
        *("RESHAPE", "CONV_2D", "CONV_2D", "RESHAPE", "UNIDIRECTIONAL_SEQUENCE_LSTM"),
        *("FULLY_CONNECTED", "SOFTMAX"),
    ]
    assert [t.index for t in graph.tensors if t.is_variable] == list(graph.ops[4].inputs[18:20])


def test_operators_have_the_names_of_the_schema():
    for name, number in vars(schema.BuiltinOperator).items():
        if name.isupper() and number < len(reader._OPERATORS):
            assert reader._OPERATORS[number] == name


def test_every_operator_with_a_kernel_is_lowered_and_aliases_cost_nothing():
    graph = read_graph(EVERY)
    calls = lower(graph)
    assert len(calls) == len(graph.ops) - 2  # EXPAND_DIMS and RESHAPE
    assert calls[0].inputs == (root(graph, graph.ops[0].outputs[0]),) == graph.inputs
    assert calls[-1].outputs == graph.outputs
    assert [c.layer for c in calls].count("conv") == 2
    (lstm,) = (c for c in calls if c.layer == "lstm")
    assert [(v.ctype, v.n_bytes, v.initial) for v in lstm.variables] == [
        ("int8_t", 5, 0),
        ("int16_t", 10, 0),
    ]
    assert lstm.macs == 4 * 5 * (8 + 5) * 6


def test_shipped_model_has_the_multiply_accumulates_that_its_shapes_say():
    calls = lower(read_graph(SHIPPED.read_bytes()))
    lstm = 4 * 112 * (80 + 112)
    assert sum(c.macs for c in calls) == 5 * 64 * 65 + 80 * 320 + lstm + 12 * 112
    weights = [v for c in calls for v in c.fields.values() if isinstance(v, ConstArray)]
    assert sum(
        v.values.size for v in weights if v.values.dtype == np.int8 and v.values.ndim > 1
    ) == (64 * 65 + 80 * 320 + lstm + 12 * 112)


@pytest.mark.parametrize("name", ["stream_float", "clip_float"])
def test_float_models_are_refused_in_one_line(name):
    with pytest.raises(KwsError, match=r"an int8 model\. Received: a float model") as caught:
        lower(read_graph((TINY / f"{name}.tflite").read_bytes()))
    assert "\n" not in str(caught.value)


def test_operator_without_a_kernel_is_named_with_the_way_out():
    g = Int8Graph()
    x, y = (g.tensor((1, 4), scale=0.1) for _ in "xy")
    g.op("MUL", [x, x], [y], {})
    with pytest.raises(KwsError, match=r"no kernel for MUL.*kws firmware --form tflm"):
        lower(read_graph(g.build([x], [y])))


def refused(g: Int8Graph, inputs: list[int], outputs: list[int]) -> str:
    with pytest.raises(KwsError) as caught:
        lower(read_graph(g.build(inputs, outputs)))
    assert "kws firmware --form tflm" in str(caught.value)
    return str(caught.value)


def test_what_a_kernel_cannot_do_is_refused_by_operator_and_reason():
    g = Int8Graph()
    x, y = g.tensor((1, 4), scale=0.1), g.tensor((1, 4), scale=0.1)
    g.op("SOFTMAX", [x], [y], {"beta": 1.0})
    assert "SOFTMAX): it has an output that is not quantised from 0 to 1" in refused(g, [x], [y])

    g = Int8Graph()
    a, b, y = (g.tensor(s, scale=0.1) for s in ((1, 4), (1, 1), (1, 4)))
    g.op("ADD", [a, b], [y], {})
    assert "ADD): it has inputs of shapes (1, 4) and (1, 1)" in refused(g, [a, b], [y])

    g = Int8Graph()
    x, y = g.tensor((1, 4), scale=0.1), g.tensor((1, 2), scale=0.1)
    w = g.tensor((2, 4), scale=0.1, data=np.ones((2, 4)))
    bias = g.tensor((2,), scale=0.01, dtype="int32", data=[2**31 - 1, 0])
    g.op("FULLY_CONNECTED", [x, w, bias], [y], {})
    assert "can overflow 32 bits" in refused(g, [x], [y])

    g = Int8Graph()
    x, y = g.tensor((1, 4), scale=0.1), g.tensor((1, 4), scale=0.1)
    g.op("TANH", [y], [x])
    assert "before it is computed" in refused(g, [x], [y])


def test_multiplier_and_shift_give_back_the_scale_to_31_bits():
    rng = np.random.default_rng(3)
    for real in [1.0, 0.5, 2.0**-31, 1 - 2.0**-40, *np.exp(rng.uniform(-20, 3, 200))]:
        multiplier, shift = quantise_multiplier(float(real))
        assert 2**30 <= multiplier < 2**31
        assert math.isclose(math.ldexp(multiplier, shift - 31), real, rel_tol=2**-30)
    assert quantise_multiplier(2.0**-33) == quantise_multiplier(0.0) == (0, 0)
    assert [multiply_quantised(x, 1 << 30, 0) for x in (-3, -1, 1, 3)] == [-1, 0, 1, 2]
    assert [multiply_quantised(x, 1 << 30, -1) for x in (-6, -2, 2, 6)] == [-2, -1, 1, 2]


def test_exponential_is_that_of_glibc_in_every_bit():
    x = -np.abs(np.random.default_rng(4).uniform(0, 105, 20_000)).astype(np.float32)
    x[:3] = [0, -103.97, -104]
    exact = np.exp(x.astype(np.float64))
    spacing = np.spacing(exact.astype(np.float32)).astype(np.float64)
    assert np.all(np.abs(exp_f32(x) - exact) <= 0.51 * spacing)
    library = ctypes.util.find_library("m")
    if library is None or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        pytest.skip("this is not glibc")
    expf = ctypes.CDLL(library).expf
    expf.argtypes, expf.restype = [ctypes.c_float], ctypes.c_float
    assert np.array_equal(exp_f32(x), np.array([expf(float(v)) for v in x], np.float32))


def read_and_lower(model: bytes) -> None:
    """Read and lower; only a KwsError of one line may be raised."""
    try:
        lower(read_graph(model))
    except KwsError as error:
        assert "\n" not in str(error)


_SEEDS = [EVERY, bare(SHIPPED.read_bytes()), (TINY / "stream_float.tflite").read_bytes()]
_FUZZ = settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))


@_FUZZ
@given(data=st.data())
def test_damaged_models_give_a_graph_or_one_line(data):
    seed = data.draw(st.sampled_from(_SEEDS))
    model = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, min(len(model), 20_000) - 1))
        # From either end: tables are at both, weights in between.
        at = at if data.draw(st.booleans()) else len(model) - 1 - at
        model[at] = data.draw(st.sampled_from([0, 1, 2, 3, 4, 127, 128, 255, model[at] ^ 1]))
    read_and_lower(bytes(model))


@_FUZZ
@given(data=st.data())
def test_models_that_are_cut_off_give_a_graph_or_one_line(data):
    model = data.draw(st.sampled_from(_SEEDS))
    read_and_lower(model[: data.draw(st.integers(0, len(model)))])


def test_single_bytes_of_a_small_model_may_be_anything():
    rng = np.random.default_rng(5)
    for at in range(0, len(EVERY), 6):
        model = bytearray(EVERY)
        model[at] = int(rng.integers(0, 256))
        read_and_lower(bytes(model))


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_give_one_line(content):
    for model in (content, b"\x10\0\0\0TFL3" + content):
        read_and_lower(model)
