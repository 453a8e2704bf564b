"""Every kernel in C against LiteRT's, bit for bit, with address and undefined-behaviour checks."""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from int8_graphs import NONE, RELU, RELU6, RELU_N1_TO_1, SAME, TANH, Int8Graph
from numpy.typing import ArrayLike, NDArray

import firmware_export
from firmware_export.lower.calls import ConstArray
from firmware_export.lower.graph import lower, root
from firmware_export.reader import read_graph
from kws.audio.files import read_audio
from kws.frontend import features_of
from kws.model_file import load_model
from kws.network import Network
from kws.runtime import open_interpreter

RUNTIME = Path(firmware_export.__file__).parent / "runtime"
DRIVER = Path(__file__).with_name("firmware_driver.c")
SHIPPED = Path(firmware_export.__file__).parent.parent / "kws/pretrained/commands_en.tflite"
FUNCTIONS = [
    f"kws_{name}_s8"
    for name in (
        *("conv", "depthwise", "max_pool", "average_pool", "add", "fully_connected", "lstm"),
        *("softmax", "lut", "mean", "strided_slice", "pad", "quantize"),
    )
]
Int8 = NDArray[np.int8]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that runs networks on the kernels, built with sanitizers."""
    cc = shutil.which("gcc") or shutil.which("clang")
    if cc is None:
        pytest.skip("needs a C compiler")
    program = tmp_path_factory.mktemp("driver") / "driver"
    sources = [str(p) for p in sorted(RUNTIME.glob("kws_*.c")) if p.name in _KERNELS]
    flags = "-std=c99 -Wall -Wextra -Wconversion -pedantic -Werror -O1 -g"
    checks = "-fsanitize=address,undefined -fno-sanitize-recover=all"
    subprocess.run(
        [cc, *flags.split(), *checks.split(), f"-I{RUNTIME}", str(DRIVER), *sources, "-o", program],
        check=True,
    )
    return program


_KERNELS = [
    f"kws_{name}.c"
    for name in (
        *("conv", "depthwise", "pool", "add", "fully_connected", "lstm", "softmax", "lut"),
        *("mean", "strided_slice", "pad", "quantize", "dot"),
    )
]


@dataclass
class Case:
    """A model and its input: for each input of the graph int8 [steps, ...]."""

    model: bytes
    inputs: list[Int8]
    what: str = ""
    expected: list[NDArray[np.generic]] = field(init=False)
    """LiteRT's results for each step after a reset: the output, then all state."""

    def __post_init__(self) -> None:
        self.graph = read_graph(self.model)
        self.calls = lower(self.graph)
        self.state = [v.tensor for call in self.calls for v in call.variables]
        interpreter = open_interpreter(self.model)
        interpreter.reset_all_variables()
        self.expected = []
        for step in range(len(self.inputs[0])):
            for index, values in zip(self.graph.inputs, self.inputs, strict=True):
                interpreter.set_tensor(index, values[step])
            interpreter.invoke()
            for tensor in (*self.graph.outputs, *self.state):
                self.expected.append(interpreter.get_tensor(tensor).copy())


def ints(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}i", *numbers)


def program_of(case: Case, pointer: type = ctypes.c_void_p) -> bytes:
    """Return a case as firmware_driver.c reads it, on a machine with such pointers."""
    graph, calls = case.graph, case.calls
    buffers: dict[int, bytes] = {}  # tensor -> alignment, size and first content
    for call in calls:
        for t in (*call.inputs, *call.outputs):
            n = graph.tensors[t].size
            buffers[t] = ints(1, n) + bytes([0x55] * n)
        for v in call.variables:
            dtype = {"int8_t": np.int8, "int16_t": np.int16}[v.ctype]
            content = np.full(v.count, v.initial, dtype).tobytes()
            assert len(content) == v.n_bytes
            buffers[v.tensor] = ints(dtype().itemsize, v.n_bytes) + content
    roots = [root(graph, t) for t in graph.inputs]
    slots = {t: i for i, t in enumerate(buffers)}
    parts = [ints(len(buffers)), *buffers.values(), ints(len(calls))]
    for call in calls:
        members = [
            (name, pointer if isinstance(v, ConstArray) else ctypes.c_int32)
            for name, v in call.fields.items()
        ]
        layout = type("layout", (ctypes.Structure,), {"_fields_": members})
        parameters = layout(*(0 if isinstance(v, ConstArray) else v for v in call.fields.values()))
        raw = bytes(parameters)
        parts += [ints(FUNCTIONS.index(call.function), len(raw)), raw]
        arrays = {n: v for n, v in call.fields.items() if isinstance(v, ConstArray)}
        parts.append(ints(len(arrays)))
        for name, array in arrays.items():
            content = array.values.tobytes()
            offset = getattr(layout, name).offset
            parts += [ints(offset, array.values.itemsize, len(content)), content]
        args = (call.inputs[0], *call.outputs, *call.inputs[1:])
        args += tuple(v.tensor for v in call.variables)
        parts.append(ints(len(args), *(slots[t] for t in args)))
    watched = [*(root(graph, t) for t in graph.outputs), *case.state]
    parts.append(ints(len(roots), len(watched), *(slots[t] for t in watched)))
    parts.append(ints(len(case.inputs[0])))
    for step in range(len(case.inputs[0])):
        for t, values in zip(roots, case.inputs, strict=True):
            parts += [ints(slots[t]), values[step].tobytes()]
    return b"".join(parts)


def check(driver: Path, cases: Sequence[Case], pointer: type = ctypes.c_void_p) -> None:
    """Run all cases through the kernels and compare every value."""
    content = ints(len(cases)) + b"".join(program_of(case, pointer) for case in cases)
    done = subprocess.run([driver], input=content, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    at = 0
    for case in cases:
        for number, expected in enumerate(case.expected):
            received = np.frombuffer(done.stdout, expected.dtype, expected.size, at)
            at += expected.nbytes
            off = np.abs(received.astype(int) - expected.ravel())
            assert not off.any(), (
                f"{case.what}: {np.count_nonzero(off)} of {off.size} differ, by {off.max()} at "
                f"most, in result {number}"
            )
    assert at == len(done.stdout)


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def random_int8(rng: np.random.Generator, *shape: int) -> Int8:
    """Return values over the whole range, sometimes all at an end or constant."""
    values = rng.integers(-128, 128, shape, np.int8)
    if rng.random() < 0.2:
        values = rng.choice(np.array([-128, 127], np.int8), shape)
    return values


def random_zero(rng: np.random.Generator) -> int:
    return int(rng.choice([-128, 127, 0, int(rng.integers(-128, 128))]))


def power_of_two(x: ArrayLike) -> NDArray[np.float64]:
    """Return the powers of two next to x: scales that put many values exactly between integers."""
    return np.asarray(2.0 ** np.rint(np.log2(x)))


def spread(rng: np.random.Generator, taps: int, count: int) -> tuple[NDArray[np.float64], float]:
    """Return (scales from accumulators to outputs, size of biases) that use the output's range.

    Half of the time powers of two, for which many results are just between two integers.
    """
    size = 75.0 * 75.0 * float(np.sqrt(taps))
    effective = 60 / size * np.exp(rng.uniform(-1.5, 1.0) + rng.uniform(-0.7, 0.7, count))
    return (power_of_two(effective) if rng.random() < 0.5 else effective), size


def random_scale(rng: np.random.Generator) -> float:
    """Return a power of two, which keeps quotients of powers of two what they are."""
    return float(2.0 ** rng.integers(-10, -3))


def output_size(size: int, taps: int, stride: int, dilation: int, padding: int) -> int:
    reach = (taps - 1) * dilation + 1
    return -(-size // stride) if padding == SAME else -(-(size - reach + 1) // stride)


def conv_case(
    rng: np.random.Generator,
    *,
    depthwise: bool = False,
    left_shift: bool = False,
    steps: int = 2,
) -> Case:
    """Return a convolution of random shape, strides, dilations, padding, scales and activation."""
    while True:
        h, w, c = (int(n) for n in (rng.integers(1, 8), rng.integers(1, 12), rng.integers(1, 20)))
        fh, fw = int(rng.integers(1, 5)), int(rng.integers(1, 6))
        times = int(rng.integers(1, 4)) if depthwise else 1
        oc = c * times if depthwise else int(rng.integers(1, 18))
        sh, sw = (int(n) for n in rng.integers(1, 4, 2))
        dh, dw = (int(n) for n in rng.integers(1, 4, 2)) if rng.random() < 0.4 else (1, 1)
        padding = int(rng.integers(0, 2))
        if (dh, dw) != (1, 1) and rng.random() < 0.7:
            sh = sw = 1
        oh, ow = output_size(h, fh, sh, dh, padding), output_size(w, fw, sw, dw, padding)
        if oh > 0 and ow > 0:
            break
    effective, size = spread(rng, fh * fw * (1 if depthwise else c), oc)
    if left_shift:  # a scale above 1: whatever is summed, most outputs are at an end
        effective = rng.uniform(1, 6, oc)
        size = 30.0
    in_scale, out_scale = random_scale(rng), random_scale(rng)
    w_scales = effective * out_scale / in_scale
    if rng.random() < 0.1:
        w_scales = w_scales[:1]
    g = Int8Graph()
    shape = (1, fh, fw, oc) if depthwise else (oc, fh, fw, c)
    weights = random_int8(rng, *shape)
    if not left_shift:
        weights = np.maximum(weights, -127)
    x = g.tensor((1, h, w, c), scale=in_scale, zero=random_zero(rng))
    k = g.tensor(shape, scale=w_scales, data=weights, dimension=3 if depthwise else 0)
    values = rng.normal(0, size, oc).astype(np.int32)
    b_scale = np.float32(in_scale) * w_scales.astype(np.float32)
    inputs = [x, k, g.tensor((oc,), scale=b_scale, dtype="int32", data=values)]
    y = g.tensor((1, oh, ow, oc), scale=out_scale, zero=random_zero(rng))
    activation = int(rng.choice([NONE, RELU, RELU6, RELU_N1_TO_1]))
    options = {
        "padding": padding,
        "strideW": sw,
        "strideH": sh,
        "dilationWFactor": dw,
        "dilationHFactor": dh,
        "fusedActivationFunction": activation,
    }
    if depthwise:
        options["depthMultiplier"] = times
    g.op("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", inputs, [y], options)
    return Case(g.build([x], [y]), [random_int8(rng, steps, 1, h, w, c)], f"{shape} {options}")


def test_convolution_equals_litert_for_random_shapes_strides_dilations_and_padding(driver):
    rng = rng_of(1)
    check(driver, [conv_case(rng) for _ in range(250)])


def test_convolution_equals_litert_where_scales_are_above_one(driver):
    rng = rng_of(2)
    check(driver, [conv_case(rng, left_shift=True) for _ in range(30)])


def test_depthwise_convolution_equals_litert_for_random_shapes(driver):
    rng = rng_of(3)
    check(driver, [conv_case(rng, depthwise=True) for _ in range(200)])


def fully_connected_case(rng: np.random.Generator, *, rows: int, depth: int, units: int) -> Case:
    per_channel = rng.random() < 0.5
    effective, size = spread(rng, depth, units)
    in_scale, out_scale = random_scale(rng), random_scale(rng)
    w_scales = effective * out_scale / in_scale
    w_scales = w_scales if per_channel else w_scales[:1]
    g = Int8Graph()
    x = g.tensor((1, rows, depth), scale=in_scale, zero=random_zero(rng))
    weights = np.maximum(random_int8(rng, units, depth), -127)
    k = g.tensor((units, depth), scale=w_scales, data=weights)
    b_scale = np.float32(in_scale) * w_scales.astype(np.float32)
    values = rng.normal(0, size, units).astype(np.int32)
    b = g.tensor((units,), scale=b_scale, dtype="int32", data=values) if rng.random() < 0.8 else -1
    y = g.tensor((1, rows, units), scale=out_scale, zero=random_zero(rng))
    options = {
        "keepNumDims": True,
        "fusedActivationFunction": int(rng.choice([NONE, RELU, RELU6, RELU_N1_TO_1])),
    }
    g.op("FULLY_CONNECTED", [x, k, b], [y], options)
    what = f"{rows} {depth} {units} {per_channel} {options}"
    return Case(g.build([x], [y]), [random_int8(rng, 4, 1, rows, depth)], what)


def test_fully_connected_equals_litert_with_one_scale_and_with_one_for_each_channel(driver):
    rng = rng_of(4)
    cases = [
        fully_connected_case(
            rng,
            rows=int(rng.choice([1, 1, 1, 2, 5])),
            depth=int(rng.choice([1, 2, 3, 7, 16, 64, 112, 200])),
            units=int(rng.choice([1, 2, 3, 4, 5, 12, 35])),
        )
        for _ in range(300)
    ]
    check(driver, cases)


def pool_case(rng: np.random.Generator, name: str) -> Case:
    while True:
        h, w, c = (int(n) for n in (rng.integers(1, 10), rng.integers(1, 12), rng.integers(1, 20)))
        fh, fw, sh, sw = (int(n) for n in rng.integers(1, 5, 4))
        padding = int(rng.integers(0, 2))
        oh, ow = output_size(h, fh, sh, 1, padding), output_size(w, fw, sw, 1, padding)
        if oh > 0 and ow > 0:
            break
    g = Int8Graph()
    scale, zero = float(rng.uniform(1e-3, 0.1)), random_zero(rng)
    x = g.tensor((1, h, w, c), scale=scale, zero=zero)
    y = g.tensor((1, oh, ow, c), scale=scale, zero=zero)
    options = {
        "padding": padding,
        "strideW": sw,
        "strideH": sh,
        "filterWidth": fw,
        "filterHeight": fh,
        "fusedActivationFunction": int(rng.choice([NONE, RELU, RELU6])),
    }
    g.op(name, [x], [y], options)
    return Case(g.build([x], [y]), [random_int8(rng, 2, 1, h, w, c)], f"{name} {options}")


@pytest.mark.parametrize("name", ["MAX_POOL_2D", "AVERAGE_POOL_2D"])
def test_pooling_equals_litert_for_random_windows(driver, name):
    rng = rng_of(5)
    check(driver, [pool_case(rng, name) for _ in range(150)])


def add_case(rng: np.random.Generator, *, tiny: bool = False) -> Case:
    shape = tuple(int(n) for n in rng.integers(1, 9, rng.integers(1, 5)))
    g = Int8Graph()
    scales = np.exp(rng.uniform(-6, 1, 2))
    out = scales.max() * np.exp(rng.uniform(-2, 1.5))
    if tiny:  # half of the first input, and of the second just what can decide a tie
        scales = np.array([0.5, 0.5 * np.exp(rng.uniform(-17, -9))])[:: rng.choice([1, -1])]
        out = 1.0
    elif rng.random() < 0.5:
        scales, out = power_of_two(scales), power_of_two(out)
    a = g.tensor(shape, scale=scales[0], zero=random_zero(rng))
    b = g.tensor(shape, scale=scales[1], zero=random_zero(rng))
    y = g.tensor(shape, scale=out, zero=random_zero(rng))
    options = {"fusedActivationFunction": int(rng.choice([NONE, RELU, RELU6]))}
    g.op("ADD", [a, b], [y], options)
    return Case(g.build([a, b], [y]), [random_int8(rng, 6, *shape) for _ in "ab"], f"{scales}")


def test_add_equals_litert_for_random_scales(driver):
    rng = rng_of(6)
    check(driver, [add_case(rng) for _ in range(200)])


def test_add_equals_litert_in_whole_blocks_and_in_what_is_left_over(driver):
    rng = rng_of(16)
    check(driver, [add_case(rng, tiny=True) for _ in range(300)])


def softmax_case(rng: np.random.Generator, *, rows: int, depth: int, scale: float) -> Case:
    g = Int8Graph()
    x = g.tensor((1, rows, depth), scale=scale, zero=random_zero(rng))
    y = g.tensor((1, rows, depth), scale=1 / 256, zero=-128)
    g.op("SOFTMAX", [x], [y], {"beta": float(rng.choice([1.0, 1.0, 0.5, 1.7]))})
    n = 40
    values = random_int8(rng, n, 1, rows, depth)
    # Besides values from end to end, some that are close to each other, as those of doubt are.
    near = np.clip(rng.normal(rng.integers(-128, 128), 20, values.shape), -128, 127)
    values[::2] = near[::2].astype(np.int8)
    return Case(g.build([x], [y]), [values], f"softmax {rows} {depth} {scale}")


def test_softmax_equals_the_float_of_litert_in_every_bit(driver):
    rng = rng_of(7)
    depths = [1, 2, 3, 12, 35, 100, 300]
    cases = [
        softmax_case(
            rng,
            rows=int(rng.integers(1, 4)),
            depth=int(rng.choice(depths)),
            scale=float(np.exp(rng.uniform(-7, 1))),
        )
        for _ in range(200)
    ]
    check(driver, cases)


def test_softmax_of_large_scales_meets_zero_and_subnormal_exponentials(driver):
    rng = rng_of(8)
    cases = [softmax_case(rng, rows=3, depth=12, scale=s) for s in (0.35, 0.4, 0.41, 1, 9, 1000)]
    check(driver, cases)


def test_softmax_of_equal_inputs_is_one_share_each(driver):
    cases = []
    for depth in (1, 2, 3, 5, 64, 256, 257, 1000):
        g = Int8Graph()
        x = g.tensor((1, 1, depth), scale=0.1, zero=0)
        y = g.tensor((1, 1, depth), scale=1 / 256, zero=-128)
        g.op("SOFTMAX", [x], [y], {"beta": 1.0})
        values = np.repeat(np.array([-128, 0, 127], np.int8)[:, None, None, None], depth, 3)
        cases.append(Case(g.build([x], [y]), [values], f"{depth} equal"))
    check(driver, cases)


def table_case(rng: np.random.Generator, name: str) -> Case:
    g = Int8Graph()
    scale = float(np.exp(rng.uniform(-6, 0)))
    x = g.tensor((1, 256), scale=scale, zero=random_zero(rng))
    if name == "LOGISTIC":
        y = g.tensor((1, 256), scale=1 / 256, zero=-128)
    elif name == "TANH":
        y = g.tensor((1, 256), scale=1 / 128, zero=0)
    else:
        ratio = np.exp(rng.uniform(-2, 3))
        ratio = power_of_two(ratio) if rng.random() < 0.5 else ratio
        y = g.tensor((1, 256), scale=scale * ratio, zero=random_zero(rng))
    g.op(name, [x], [y])
    return Case(g.build([x], [y]), [np.arange(-128, 128, dtype=np.int8)[None, None]], name)


@pytest.mark.parametrize("name", ["LOGISTIC", "TANH", "RELU", "RELU6"])
def test_functions_of_one_value_equal_litert_for_all_256(driver, name):
    rng = rng_of(9)
    check(driver, [table_case(rng, name) for _ in range(200)])


def quantize_case(rng: np.random.Generator, size: int) -> Case:
    g = Int8Graph()
    scale, ratio = random_scale(rng), np.exp(rng.uniform(-2, 3))
    x = g.tensor((1, size), scale=scale, zero=random_zero(rng))
    ratio = power_of_two(ratio) if rng.random() < 0.7 else ratio
    y = g.tensor((1, size), scale=scale * ratio, zero=random_zero(rng))
    g.op("QUANTIZE", [x], [y])
    return Case(g.build([x], [y]), [random_int8(rng, 10, 1, size)], f"quantize {size} {ratio}")


def test_quantize_equals_litert_in_whole_blocks_and_in_what_is_left_over(driver):
    rng = rng_of(15)
    check(driver, [quantize_case(rng, int(rng.integers(1, 60))) for _ in range(200)])


def mean_case(rng: np.random.Generator) -> Case:
    n = int(rng.integers(2, 5))
    shape = (1, *(int(d) for d in rng.integers(1, 12, n - 2)), int(rng.integers(1, 40)))
    first = int(rng.integers(1, n))
    axes = list(range(first, int(rng.integers(first + 1, n + 1))))
    if n == 4 and rng.random() < 0.5:
        axes = [1, 2]
    keep = bool(rng.integers(0, 2))
    out = [1 if d in axes else s for d, s in enumerate(shape)]
    if not keep:
        out = [s for d, s in enumerate(shape) if d not in axes]
    g = Int8Graph()
    scale = float(rng.uniform(1e-3, 0.1))
    x = g.tensor(shape, scale=scale, zero=random_zero(rng))
    numbers = [a - n if rng.random() < 0.3 else a for a in axes]
    a = g.tensor((len(axes),), dtype="int32", data=numbers)
    zero = random_zero(rng)
    ratio = np.exp(rng.uniform(-1, 1))
    ratio = power_of_two(ratio) if rng.random() < 0.7 else ratio
    y = g.tensor(out, scale=scale * ratio, zero=zero)
    g.op("MEAN", [x, a], [y], {"keepDims": keep})
    return Case(g.build([x], [y]), [random_int8(rng, 3, *shape)], f"{shape} {axes} {keep}")


def test_mean_equals_litert_for_random_axes_and_scales(driver):
    rng = rng_of(10)
    check(driver, [mean_case(rng) for _ in range(250)])


def slice_case(rng: np.random.Generator) -> Case:
    n = int(rng.integers(1, 5))
    shape = tuple(int(d) for d in rng.integers(1, 9, n))
    stride = rng.integers(1, 4, n)
    low = np.array([rng.integers(0, s) for s in shape])
    high = np.array([rng.integers(a + 1, s + 1) for a, s in zip(low, shape, strict=True)])
    begin_mask, end_mask, shrink = (int(m) for m in rng.integers(0, 1 << n, 3))
    if rng.random() < 0.5:
        shrink = 0
    out = []
    for d in range(n):
        if shrink >> d & 1:
            continue
        a = 0 if begin_mask >> d & 1 else low[d]
        b = shape[d] if end_mask >> d & 1 else high[d]
        out.append(int(-(-(b - a) // stride[d])))
    stride = np.where([shrink >> d & 1 for d in range(n)], 1, stride)
    begin_mask &= ~shrink
    negative = rng.random(n) < 0.3
    low, high = (np.where(negative & (v != s), v - s, v) for v, s in ((low, shape), (high, shape)))
    g = Int8Graph()
    x = g.tensor(shape, scale=0.1, zero=3)
    ends = [g.tensor((n,), dtype="int32", data=v) for v in (low, high, stride)]
    y = g.tensor(out, scale=0.1, zero=3)
    options = {"beginMask": begin_mask, "endMask": end_mask, "shrinkAxisMask": shrink}
    g.op("STRIDED_SLICE", [x, *ends], [y], options)
    return Case(g.build([x], [y]), [random_int8(rng, 1, *shape)], f"{shape} {low} {high} {options}")


def test_strided_slice_equals_litert_for_random_masks(driver):
    rng = rng_of(11)
    check(driver, [slice_case(rng) for _ in range(200)])


def test_pad_equals_litert(driver):
    rng = rng_of(12)
    cases = []
    for _ in range(60):
        n = int(rng.integers(1, 5))
        shape = rng.integers(1, 7, n)
        pads = rng.integers(0, 4, (n, 2))
        g = Int8Graph()
        zero = random_zero(rng)
        x = g.tensor(shape.tolist(), scale=0.1, zero=zero)
        p = g.tensor((n, 2), dtype="int32", data=pads)
        y = g.tensor((shape + pads.sum(axis=1)).tolist(), scale=0.1, zero=zero)
        g.op("PAD", [x, p], [y])
        cases.append(Case(g.build([x], [y]), [random_int8(rng, 1, *shape)], f"{shape} {pads}"))
    check(driver, cases)


def lstm_case(
    rng: np.random.Generator,
    *,
    inputs: int,
    units: int,
    invokes: int,
    steps: int = 1,
    gain: float = 1.0,
    cell_bits: int = 11,
    clip: float = 10.0,
    still: Sequence[int] = (),
) -> Case:
    """Return an LSTM whose gates reach `gain` times a range of about ±4.

    The gates in `still` are 0 before their function, for ever.
    """
    g = Int8Graph()
    exact = bool(still) or rng.random() < 0.5  # many values just between two integers
    in_scale, in_zero = 2.0 ** int(rng.integers(-7, -3)), random_zero(rng)
    hidden_scale, hidden_zero = float(rng.uniform(0.9, 1.1) / 128), int(rng.integers(-20, 20))
    hidden_scale = 1 / 128 if exact else hidden_scale
    if rng.random() < 0.2:
        hidden_zero = int(rng.choice([-128, 127]))
    x = g.tensor((1, steps, inputs), scale=in_scale, zero=in_zero)

    def weights(gate: int, columns: int, scale: float) -> int:
        real = gain * 4 / (75 * 75 * np.sqrt(columns) * scale) * np.exp(rng.uniform(-0.5, 0.5))
        real = power_of_two(real) if exact else real
        values = np.maximum(random_int8(rng, units, columns), -127) * (gate not in still)
        return g.tensor((units, columns), scale=real, data=values)

    w = [weights(gate, inputs, in_scale) for gate in range(4)]
    r = [weights(gate, units, hidden_scale) for gate in range(4)]
    size = 75 * 75 * np.sqrt(inputs) / 4
    biases = [
        g.tensor(
            (units,),
            scale=1e-4,
            dtype="int32",
            data=rng.normal(0, size, units) * (gate not in still),
        )
        for gate in range(4)
    ]
    hidden = g.tensor((1, units), scale=hidden_scale, zero=hidden_zero, variable=True)
    cell = g.tensor((1, units), scale=2.0**-cell_bits, dtype="int16", variable=True)
    nothing = [g.tensor((0,), dtype="float32") for _ in range(4)]
    inner = g.tensor((0,), scale=hidden_scale, zero=hidden_zero)
    y = g.tensor((1, steps, units), scale=hidden_scale, zero=hidden_zero)
    slots = [x, *w, *r, -1, -1, -1, *biases, -1, -1, hidden, cell, -1, -1, -1, -1]
    options = {"fusedActivationFunction": TANH, "cellClip": clip}
    g.op("UNIDIRECTIONAL_SEQUENCE_LSTM", slots, [y], options, [*nothing, inner])
    values = random_int8(rng, invokes, 1, steps, inputs)
    what = f"lstm {inputs} {units} {gain} {cell_bits} {clip}"
    return Case(g.build([x], [y]), [values], what)


def test_lstm_equals_litert_over_many_steps_with_its_state_carried_on(driver):
    rng = rng_of(13)
    cases = [
        lstm_case(
            rng,
            inputs=int(rng.choice([1, 2, 5, 16, 80])),
            units=int(rng.choice([1, 3, 4, 17, 32])),
            invokes=60,
            gain=float(np.exp(rng.uniform(-2, 2))),
        )
        for _ in range(40)
    ]
    check(driver, cases)


def test_lstm_equals_litert_for_every_scale_and_limit_of_the_cell(driver):
    rng = rng_of(14)
    cases = [
        lstm_case(
            rng, inputs=6, units=24, invokes=80, gain=g, cell_bits=bits, clip=clip, steps=steps
        )
        for bits in range(9, 16)
        for clip in (0.0, 10.0, 0.3)
        for steps in (1, 3)
        for g in (0.5, 3.0)
    ]
    check(driver, cases)


@pytest.mark.parametrize("gate", [0, 1, 3])
def test_lstm_equals_litert_where_a_gate_is_exactly_half_open(driver, gate):
    rng = rng_of(17)
    cases = [
        lstm_case(rng, inputs=5, units=24, invokes=100, cell_bits=bits, still=[gate])
        for bits in range(9, 16)
    ]
    check(driver, cases)


def test_sigmoid_and_tanh_of_the_gates_equal_litert_for_all_65536_inputs(driver):
    """The cell, starting at 0, becomes i * g; one of them is open, the other goes through all."""
    cases = []
    for gate in (0, 2):
        g = Int8Graph()
        units, inputs = 256, 4
        x = g.tensor((1, 1, inputs), scale=1 / 64, zero=0)
        # What goes through all is 4 * 64 x + bias, in Q3.12 as it is; the others sit at an end.
        size = {gate: 64}
        shape = (units, inputs)
        w = [g.tensor(shape, scale=1 / 64, data=np.full(shape, size.get(i, 0))) for i in range(4)]
        shape = (units, units)
        r = [g.tensor(shape, scale=1 / 64, data=np.zeros(shape)) for _ in range(4)]
        ramp = np.arange(units)
        bias = [
            ramp if i == gate else np.full(units, -32768 if i == 1 else 32767) for i in range(4)
        ]
        b = [g.tensor((units,), scale=1 / 4096, dtype="int32", data=v) for v in bias]
        hidden = g.tensor((1, units), scale=1 / 128, variable=True)
        cell = g.tensor((1, units), scale=2.0**-15, dtype="int16", variable=True)
        nothing = [g.tensor((0,), dtype="float32") for _ in range(4)]
        inner = g.tensor((0,), scale=1 / 128)
        y = g.tensor((1, 1, units), scale=1 / 128)
        slots = [x, *w, *r, -1, -1, -1, *b, -1, -1, hidden, cell, -1, -1, -1, -1]
        options = {"fusedActivationFunction": TANH, "cellClip": 0.0}
        g.op("UNIDIRECTIONAL_SEQUENCE_LSTM", slots, [y], options, [*nothing, inner])
        every = np.arange(-128, 128, dtype=np.int8)
        values = np.repeat(every[:, None, None, None], inputs, axis=3)
        cases.append(Case(g.build([x], [y]), [values], f"gate {gate}"))
        cells = np.array(cases[-1].expected[2::3])
        assert len(np.unique(cells)) > 9_000  # they do go through all
    check(driver, cases)


def test_softmax_rounds_like_the_float_unit_for_millions_of_numbers(tmp_path):
    """Sums, reciprocals and products of kws_softmax.c against float32; short products as well."""
    cc = shutil.which("gcc") or shutil.which("clang")
    if cc is None:
        pytest.skip("needs a C compiler")
    program = tmp_path / "floats"
    source = Path(__file__).with_name("firmware_floats.c")
    checks = "-O2 -ffp-contract=off -fsanitize=undefined -fno-sanitize-recover=all"
    command = [cc, "-std=c99", *checks.split(), f"-I{RUNTIME}", str(source), "-lm"]
    subprocess.run([*command, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_network_of_the_shipped_model_equals_litert_step_by_step_on_real_speech(
    driver, real_speech
):
    card = load_model(SHIPPED)
    network = Network(SHIPPED)
    clips = [p for p in sorted(real_speech.glob("*/*/*.wav")) if p.stat().st_size < 100_000][:40]
    pcm = np.concatenate([read_audio(p)[:16000] for p in clips])
    features = network.prepare(features_of(pcm, card.front_end))
    assert len(features) > 1500
    frames, stride = card.receptive_field_frames, card.stride_frames
    steps = [features[k : k + frames] for k in range(0, len(features) - frames + 1, stride)]
    check(driver, [Case(SHIPPED.read_bytes(), [np.array(steps)[:, None]], "shipped")])


@pytest.mark.parametrize("name", ["stream_int8", "clip_int8"])
def test_converted_models_equal_litert_on_random_features(driver, name):
    model = (Path(__file__).parent / "tiny_models" / f"{name}.tflite").read_bytes()
    graph = read_graph(model)
    shape = graph.tensors[graph.inputs[0]].shape
    check(driver, [Case(model, [random_int8(rng_of(18), 50, *shape)], name)])
    check(driver, [Case(SHIPPED.read_bytes(), [random_int8(rng_of(19), 200, 1, 9, 13)])])


def test_every_kernel_and_header_is_clean_c99_for_every_compiler_that_is_here():
    commands = [
        "gcc",
        "clang -Wsign-conversion",
        "arm-none-eabi-gcc -mcpu=cortex-m0 -mthumb",
        "arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb",
        "arm-none-eabi-gcc -mcpu=cortex-m55 -mthumb",
    ]
    commands = [c for c in commands if shutil.which(c.split()[0])]
    if not commands:
        pytest.skip("needs a C compiler")
    flags = "-std=c99 -Wall -Wextra -Wconversion -pedantic -Werror -Os -fsyntax-only"
    for command in commands:
        sources = [str(RUNTIME / name) for name in _KERNELS]
        done = subprocess.run(
            [*command.split(), *flags.split(), *sources], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
