"""From operators to calls of the kernels in `runtime/`, with every constant that they need.

The constants make the kernels compute what LiteRT's built-in kernels compute without delegates
(as `kws.runtime.open_interpreter` opens them on x86), bit for bit. Where LiteRT works in float32
or double to find them, so does this, in the same order.

What is decided here and not on the device:

- Zero points of inputs are folded into the biases, b - z * sum(w), so that inner loops are plain
  products of int8. Padding substitutes the zero point.
- A scale becomes a multiplier in Q31 and a shift, as in Jacob et al., "Quantization and Training of
  Neural Networks for Efficient Integer-Arithmetic-Only Inference" (arXiv 1712.05877).
- Functions of one int8 value are tables of 256 entries.
- RESHAPE, EXPAND_DIMS and SQUEEZE become nothing: their output is another name of their input.
- No accumulator can leave 32 bits, whatever the input; a model where one could is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_export.float32 import exp_f32
from firmware_export.reader import Graph, Op, Tensor
from kws.errors import KwsError

ALIASES = ("RESHAPE", "EXPAND_DIMS", "SQUEEZE")
"""Operators whose output holds the very bytes of their first input."""

_LARGEST = 1 << 24  # elements of an activation; no microcontroller has as much memory
_CELL_INTEGER_BITS = 15


@dataclass(frozen=True, kw_only=True, eq=False)
class ConstArray:
    """A constant array in flash; the C field that takes it is a pointer."""

    values: NDArray[np.generic]
    """Whole numbers of a type with a fixed width, in the shape that `label` explains."""
    label: str
    """What it holds: shape, unit, Q format; for a comment."""


@dataclass(frozen=True, kw_only=True)
class Variable:
    """State that lives from one invocation to the next."""

    tensor: int
    """Its number in the graph."""
    ctype: str
    """Type of its elements in C: ``int8_t`` or ``int16_t``."""
    count: int
    """Number of elements."""
    initial: int
    """What every element is at the start and after a reset."""

    @property
    def n_bytes(self) -> int:
        """Bytes of memory."""
        return self.count * {"int8_t": 1, "int16_t": 2}[self.ctype]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a kernel.

    In C: ``function(&parameters, inputs[0], outputs[0], inputs[1:]…, variables…)``, where
    activations are ``int8_t *`` and variables pointers to their type. No two of an operator's
    buffers may overlap.
    """

    function: str
    """Name of the kernel, for example ``kws_conv_s8``."""
    struct: str
    """Name of the type of its parameters, for example ``kws_conv``."""
    source: str
    """File in `runtime/` that has it, for example ``kws_conv.c``."""
    fields: Mapping[str, int | ConstArray]
    """The parameters, in the order of the struct."""
    inputs: tuple[int, ...]
    """Tensors read: int8 activations; aliases are resolved."""
    outputs: tuple[int, ...]
    """The tensor written: an int8 activation."""
    variables: tuple[Variable, ...] = ()
    """State read and written."""
    scratch_bytes: int = 0
    """Memory needed meanwhile; no kernel needs any so far."""
    macs: int = 0
    """Multiply-accumulates of one call."""
    layer: str = "rest"
    """``conv``, ``lstm`` or ``rest``, for the breakdown of time."""
    label: str = ""
    """What it does, for a comment."""


def lower(graph: Graph) -> list[Call]:
    """Return the calls that compute `graph`, in order.

    Raises:
        KwsError: an operator, an option, or a type that no kernel here has; names it and the way
            out.
    """
    lowering = _Lowering(graph)
    for number, op in enumerate(graph.ops):
        lowering.take(number, op)
    for tensor in graph.outputs:
        lowering.require_known(tensor, "the output")
    return lowering.calls


def root(graph: Graph, tensor: int) -> int:
    """Return the tensor of which `tensor` is another name, itself if it is none."""
    return _roots(graph)[tensor]


def _roots(graph: Graph) -> list[int]:
    roots = list(range(len(graph.tensors)))
    for op in graph.ops:
        if op.name in ALIASES and op.inputs and op.inputs[0] >= 0 and op.outputs:
            roots[op.outputs[0]] = roots[op.inputs[0]]
    return roots


def quantise_multiplier(real: float) -> tuple[int, int]:
    """Return (multiplier in Q31, shift) with real ≈ multiplier * 2^(shift - 31).

    As TFLite's QuantizeMultiplier: rounded half up, and zero below 2^-32.
    """
    if real == 0:
        return 0, 0
    mantissa, shift = math.frexp(real)
    multiplier = math.floor(mantissa * 2.0**31 + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = 1 << 30, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def multiply_quantised(x: int, multiplier: int, shift: int) -> int:
    """Return x * multiplier * 2^(shift - 31), rounded twice: halves up, then away from zero."""
    product = (x << max(shift, 0)) * multiplier
    high = (product + (1 << 30)) >> 31
    right = max(-shift, 0)
    if right == 0:
        return high
    return (high + (1 << (right - 1)) - (high < 0)) >> right


class _Lowering:
    """Collects calls; one method for each operator."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.calls: list[Call] = []
        self._roots = _roots(graph)
        self._known = set(graph.inputs)
        self._variables: set[int] = set()
        self._op = Op(name="", inputs=(), outputs=(), intermediates=(), options={})
        self._number = 0

    def take(self, number: int, op: Op) -> None:
        """Lower one operator."""
        self._op, self._number = op, number
        methods: dict[str, Callable[[], None]] = {
            "CONV_2D": self._conv,
            "DEPTHWISE_CONV_2D": self._depthwise,
            "MAX_POOL_2D": self._pool,
            "AVERAGE_POOL_2D": self._pool,
            "ADD": self._add,
            "FULLY_CONNECTED": self._fully_connected,
            "UNIDIRECTIONAL_SEQUENCE_LSTM": self._lstm,
            "SOFTMAX": self._softmax,
            "LOGISTIC": self._table,
            "TANH": self._table,
            "RELU": self._table,
            "RELU6": self._table,
            "QUANTIZE": self._quantize,
            "MEAN": self._mean,
            "STRIDED_SLICE": self._strided_slice,
            "PAD": self._pad,
        }
        methods.update(dict.fromkeys(ALIASES, self._alias))
        if op.name not in methods:
            raise KwsError(
                f"The firmware library has no kernel for {op.name}. Received: a model with it. "
                "Keep to the operators of conv_lstm, or use the interpreter: "
                "kws firmware --form tflm"
            )
        methods[op.name]()
        self._known.update(op.outputs)

    def require_known(self, tensor: int, what: str) -> None:
        """Raise KwsError unless `tensor` has been computed."""
        if tensor not in self._known:
            raise self._refuse(f"reads {what} before it is computed")

    def _refuse(self, why: str) -> KwsError:
        return KwsError(
            f"The firmware library cannot compute operator {self._number} ({self._op.name}): it "
            f"{why}. Use the interpreter instead: kws firmware --form tflm"
        )

    # What operators have in common

    def _slot(self, slot: int) -> Tensor | None:
        """Return the tensor in an input slot, None if it is empty."""
        if slot >= len(self._op.inputs) or self._op.inputs[slot] < 0:
            return None
        return self.graph.tensors[self._op.inputs[slot]]

    def _activation(self, slot: int) -> Tensor:
        """Return an input that was computed before, int8 with one scale."""
        tensor = self._slot(slot)
        if tensor is None:
            raise self._refuse(f"has no input {slot}")
        self._check_activation(tensor, f"input {slot}")
        if tensor.data is not None:
            raise self._refuse(f"has a constant as input {slot}")
        self.require_known(tensor.index, f"input {slot}")
        return tensor

    def _output(self) -> Tensor:
        if len(self._op.outputs) != 1:
            raise self._refuse(f"has {len(self._op.outputs)} outputs")
        tensor = self.graph.tensors[self._op.outputs[0]]
        self._check_activation(tensor, "output")
        if tensor.index in self._known or tensor.data is not None:
            raise self._refuse("writes what stands already")
        return tensor

    def _check_activation(self, tensor: Tensor, what: str) -> None:
        if tensor.dtype == "float32":
            raise KwsError(
                "Firmware is made of int8 models. Received: a float model "
                f"(operator {self._number}, {self._op.name}). Export with kws export --format int8"
            )
        if tensor.dtype != "int8":
            raise self._refuse(f"has an {what} of type {tensor.dtype}")
        if not 1 <= tensor.size <= _LARGEST:
            raise self._refuse(f"has an {what} of shape {tensor.shape}")
        if tensor.is_variable:
            raise self._refuse(f"has state as its {what}")
        self._scale(tensor, what)
        self._zero_point(tensor, what)

    def _scale(self, tensor: Tensor, what: str) -> np.float32:
        if len(tensor.scales) != 1 or not 1e-30 < float(tensor.scales[0]) < 1e30:
            raise self._refuse(f"has an {what} without one scale")
        return np.float32(tensor.scales[0])

    def _zero_point(self, tensor: Tensor, what: str) -> int:
        zero = int(tensor.zero_points[0])
        if not -128 <= zero <= 127:
            raise self._refuse(f"has an {what} with the zero point {zero}")
        return zero

    def _constant(self, slot: int, dtype: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """Return a constant input of this type, and of this shape if one is given."""
        tensor = self._slot(slot)
        if tensor is None or tensor.data is None or tensor.dtype != dtype or not tensor.size:
            raise self._refuse(f"has no constant of type {dtype} as input {slot}")
        if shape is not None and tensor.shape != shape:
            raise self._refuse(f"has input {slot} of shape {tensor.shape}, not {shape}")
        return tensor

    def _weights(self, slot: int, n_dimensions: int) -> Tensor:
        weights = self._constant(slot, "int8")
        if len(weights.shape) != n_dimensions:
            raise self._refuse(f"has weights of shape {weights.shape}")
        if np.any(weights.zero_points != 0):
            raise self._refuse("has weights with a zero point")
        if not len(weights.scales) or not np.all(
            (weights.scales > 1e-30) & (weights.scales < 1e30)
        ):
            raise self._refuse("has weights without scales")
        return weights

    def _bias(self, slot: int, count: int) -> NDArray[np.int64]:
        if self._slot(slot) is None:
            return np.zeros(count, np.int64)
        return self._data(self._constant(slot, "int32", (count,)))

    def _data(self, tensor: Tensor) -> NDArray[np.int64]:
        assert tensor.data is not None
        return tensor.data.astype(np.int64)

    def _option(self, name: str, lowest: int = 0, highest: int = 1 << 16) -> int:
        value = self._op.options[name]
        if not lowest <= value <= highest:
            raise self._refuse(f"has {name} {value}")
        return int(value)

    def _image(self, tensor: Tensor) -> tuple[int, int, int]:
        """Return height, width and channels."""
        if len(tensor.shape) != 4 or tensor.shape[0] != 1:
            raise self._refuse(f"has a tensor of shape {tensor.shape}, not [1, height, width, n]")
        return tensor.shape[1:]

    def _range(self, output: Tensor) -> dict[str, int]:
        """Return the range that the fused activation leaves, as int8."""
        scale, zero = self._scale(output, "output"), self._zero_point(output, "output")

        def quantised(x: float) -> int:
            ratio = float(np.float32(x) / scale)
            return zero + int(math.copysign(math.floor(min(abs(ratio), 1e6) + 0.5), ratio))

        ends: dict[int, tuple[float | None, float | None]] = {
            0: (None, None),
            1: (0.0, None),
            2: (-1.0, 1.0),
            3: (0.0, 6.0),
        }
        activation = self._option("activation", 0, 255)
        if activation not in ends:
            raise self._refuse(f"has the fused activation {activation}")
        low, high = ends[activation]
        return {
            "output_min": -128 if low is None else max(-128, quantised(low)),
            "output_max": 127 if high is None else min(127, quantised(high)),
        }

    def _window(
        self, source: Tensor, output: Tensor, filter_h: int, filter_w: int, channels: int
    ) -> dict[str, int]:
        """Return the fields about shapes of what slides a window over an image."""
        height, width, depth = self._image(source)
        out_h, out_w, out_c = self._image(output)
        fields = {
            "input_h": height,
            "input_w": width,
            "input_c": depth,
            "output_h": out_h,
            "output_w": out_w,
            "output_c": out_c,
            "filter_h": filter_h,
            "filter_w": filter_w,
        }
        same = self._option("padding", 0, 1) == 0
        for d, size, taps, out in (("h", height, filter_h, out_h), ("w", width, filter_w, out_w)):
            stride = self._option(f"stride_{d}", 1)
            dilation = self._option(f"dilation_{d}", 1) if "dilation_h" in self._op.options else 1
            reach = (taps - 1) * dilation + 1
            expected = -(-size // stride) if same else -(-(size - reach + 1) // stride)
            if out != expected:
                raise self._refuse(f"has an output of shape {output.shape}")
            fields[f"stride_{d}"] = stride
            fields[f"dilation_{d}"] = dilation
            fields[f"pad_{d}"] = max((out - 1) * stride + reach - size, 0) // 2 if same else 0
        if out_c != channels:
            raise self._refuse(f"has an output of {out_c} channels, not {channels}")
        return fields

    def _multipliers(self, scales: NDArray[np.float64], count: int) -> dict[str, ConstArray]:
        pairs = [quantise_multiplier(float(s)) for s in np.broadcast_to(scales, (count,))]
        if max(shift for _, shift in pairs) > 30:
            raise self._refuse("has an output whose scale is out of all proportion")
        multipliers, shifts = zip(*pairs, strict=True)
        return {
            "multipliers": ConstArray(
                values=np.array(multipliers, np.int32), label="output scales, Q31 [channels]"
            ),
            "shifts": ConstArray(
                values=np.array(shifts, np.int8), label="powers of two of these [channels]"
            ),
        }

    def _folded(
        self, weights: NDArray[np.int64], bias: NDArray[np.int64], zero: int
    ) -> NDArray[np.int32]:
        """Return biases with the input's zero point in them; weights [outputs, taps]."""
        folded = bias - zero * weights.sum(axis=1)
        most = np.abs(folded) + 128 * np.abs(weights).sum(axis=1)
        if int(most.max()) > 2**31 - 1:
            raise self._refuse("can overflow 32 bits: its biases or weights are too large")
        return folded.astype(np.int32)

    def _scales(self, source: Tensor, weights: Tensor, output: Tensor) -> NDArray[np.float64]:
        """Return what accumulators are multiplied by, one number or one for each channel."""
        scale, out = self._scale(source, "input"), self._scale(output, "output")
        return np.float64(scale) * weights.scales.astype(np.float64) / np.float64(out)

    def _emit(self, call: Call) -> None:
        self.calls.append(call)

    def _names(self, *tensors: Tensor) -> tuple[int, ...]:
        return tuple(self._roots[t.index] for t in tensors)

    # Operators

    def _alias(self) -> None:
        source, output = self._slot(0), self._op.outputs
        if source is None or len(output) != 1:
            raise self._refuse("has no input or no output")
        self._activation(0)
        result = self._output()
        if result.size != source.size:
            raise self._refuse(f"makes shape {result.shape} of {source.shape}")

    def _conv(self) -> None:
        source, output = self._activation(0), self._output()
        weights = self._weights(1, 4)
        channels, filter_h, filter_w, depth = weights.shape
        if len(weights.scales) > 1 and weights.quantised_dimension != 0:
            raise self._refuse("has scales that are not those of its output channels")
        if depth != self._image(source)[2]:
            raise self._refuse("has an input and weights of different depth (groups)")
        fields = self._window(source, output, filter_h, filter_w, channels)
        matrix = self._data(weights).reshape(channels, -1)
        zero = self._zero_point(source, "input")
        bias = self._folded(matrix, self._bias(2, channels), zero)
        self._emit(
            Call(
                function="kws_conv_s8",
                struct="kws_conv",
                source="kws_conv.c",
                fields={
                    **fields,
                    "input_zero_point": zero,
                    "output_zero_point": self._zero_point(output, "output"),
                    **self._range(output),
                    "weights": ConstArray(
                        values=matrix.astype(np.int8),
                        label=f"weights [{channels}, {filter_h}, {filter_w}, {depth}]",
                    ),
                    "bias": ConstArray(values=bias, label="biases less zero point * weights"),
                    **self._multipliers(self._scales(source, weights, output), channels),
                },
                inputs=self._names(source),
                outputs=self._names(output),
                macs=matrix.size * fields["output_h"] * fields["output_w"],
                layer="conv",
                label=f"convolution {source.shape} -> {output.shape}",
            )
        )

    def _depthwise(self) -> None:
        source, output = self._activation(0), self._output()
        weights = self._weights(1, 4)
        one, filter_h, filter_w, channels = weights.shape
        depth = self._image(source)[2]
        if one != 1 or channels % depth:
            raise self._refuse(f"has weights of shape {weights.shape} for {depth} channels")
        if len(weights.scales) > 1 and weights.quantised_dimension != 3:
            raise self._refuse("has scales that are not those of its output channels")
        fields = self._window(source, output, filter_h, filter_w, channels)
        matrix = self._data(weights).reshape(-1, channels)
        zero = self._zero_point(source, "input")
        bias = self._folded(matrix.T, self._bias(2, channels), zero)
        self._emit(
            Call(
                function="kws_depthwise_s8",
                struct="kws_depthwise",
                source="kws_depthwise.c",
                fields={
                    **fields,
                    "input_zero_point": zero,
                    "output_zero_point": self._zero_point(output, "output"),
                    **self._range(output),
                    "channels_up": channels // 8 * 8,
                    "weights": ConstArray(
                        values=matrix.astype(np.int8),
                        label=f"weights [{filter_h}, {filter_w}, {channels}]",
                    ),
                    "bias": ConstArray(values=bias, label="biases less zero point * weights"),
                    **self._multipliers(self._scales(source, weights, output), channels),
                },
                inputs=self._names(source),
                outputs=self._names(output),
                macs=matrix.size * fields["output_h"] * fields["output_w"],
                layer="conv",
                label=f"depthwise convolution {source.shape} -> {output.shape}",
            )
        )

    def _pool(self) -> None:
        source, output = self._activation(0), self._output()
        kind = "max" if self._op.name == "MAX_POOL_2D" else "average"
        self._same_quantisation(source, output)
        fields = self._window(
            source,
            output,
            self._option("filter_h", 1),
            self._option("filter_w", 1),
            self._image(source)[2],
        )
        del fields["dilation_h"], fields["dilation_w"], fields["output_c"]
        self._emit(
            Call(
                function=f"kws_{kind}_pool_s8",
                struct="kws_pool",
                source="kws_pool.c",
                fields={**fields, **self._range(output)},
                inputs=self._names(source),
                outputs=self._names(output),
                label=f"{kind} pooling {source.shape} -> {output.shape}",
            )
        )

    def _same_quantisation(self, source: Tensor, output: Tensor) -> None:
        if source.scales[0] != output.scales[0] or source.zero_points[0] != output.zero_points[0]:
            raise self._refuse("has an output quantised unlike its input")

    def _add(self) -> None:
        a, b, output = self._activation(0), self._activation(1), self._output()
        if not a.shape == b.shape == output.shape:
            raise self._refuse(f"has inputs of shapes {a.shape} and {b.shape}")
        scales = [float(self._scale(t, "input")) for t in (a, b)]
        out = self._scale(output, "output")
        left_shift = 20
        twice = 2.0 * max(scales)
        pairs = [quantise_multiplier(s / twice) for s in scales]
        # As in the kernel's preparation, the divisor is rounded to float32.
        real = twice / float(np.float32(1 << left_shift) * out)
        pairs.append(quantise_multiplier(real))
        if real >= 1 or pairs[2][1] > 0:
            raise self._refuse("has an output whose scale is out of all proportion")
        if 512 * max(scales) / float(out) > 32000:
            raise self._refuse("has an output whose scale is out of all proportion")
        fields: dict[str, int | ConstArray] = {
            "size": output.size,
            "size_up": output.size // 16 * 16,
        }
        names = ("input1", "input2", "output")
        for name, tensor, (multiplier, shift) in zip(names, (a, b, output), pairs, strict=True):
            fields[f"{name}_zero_point"] = self._zero_point(tensor, name)
            fields[f"{name}_multiplier"] = multiplier
            fields[f"{name}_shift"] = shift
        self._emit(
            Call(
                function="kws_add_s8",
                struct="kws_add",
                source="kws_add.c",
                fields={**fields, **self._range(output)},
                inputs=self._names(a, b),
                outputs=self._names(output),
                label=f"sum {output.shape}",
            )
        )

    def _fully_connected(self) -> None:
        source, output = self._activation(0), self._output()
        weights = self._weights(1, 2)
        units, depth = weights.shape
        if self._option("weights_format", 0, 255) != 0:
            raise self._refuse("has shuffled weights")
        if len(weights.scales) > 1 and weights.quantised_dimension != 0:
            raise self._refuse("has scales that are not those of its output channels")
        rows = source.size // depth
        if source.size != rows * depth or output.size != rows * units:
            raise self._refuse(f"makes shape {output.shape} of {source.shape}")
        matrix = self._data(weights)
        bias = self._folded(matrix, self._bias(2, units), self._zero_point(source, "input"))
        scales = self._scales(source, weights, output)
        if len(scales) == 1:
            # With one scale LiteRT multiplies those of input and weights in float32.
            product = self._scale(source, "input") * np.float32(weights.scales[0])
            scales = np.array([float(product) / float(self._scale(output, "output"))])
        self._emit(
            Call(
                function="kws_fully_connected_s8",
                struct="kws_fully_connected",
                source="kws_fully_connected.c",
                fields={
                    "rows": rows,
                    "depth": depth,
                    "units": units,
                    "output_zero_point": self._zero_point(output, "output"),
                    **self._range(output),
                    "weights": ConstArray(
                        values=matrix.astype(np.int8), label=f"weights [{units}, {depth}]"
                    ),
                    "bias": ConstArray(values=bias, label="biases less zero point * weights"),
                    **self._multipliers(scales, units),
                },
                inputs=self._names(source),
                outputs=self._names(output),
                macs=matrix.size * rows,
                label=f"fully connected {source.shape} -> {output.shape}",
            )
        )

    def _lstm(self) -> None:
        source, output = self._activation(0), self._output()
        names = {
            9: "peepholes",
            10: "peepholes",
            11: "peepholes",
            16: "a projection",
            17: "a projection",
            20: "layer normalisation",
            21: "layer normalisation",
            22: "layer normalisation",
            23: "layer normalisation",
        }
        for slot, name in names.items():
            if self._slot(slot) is not None:
                raise self._refuse(f"has {name}")
        if self._slot(1) is None:
            raise self._refuse("has input and forget gates in one")
        if self._option("activation", 0, 255) != 4:
            raise self._refuse("has another activation than tanh")
        if self._option("time_major", 0, 255) or self._option("diagonal", 0, 255):
            raise self._refuse("has time first, or diagonal weights")
        if len(source.shape) != 3 or source.shape[0] != 1:
            raise self._refuse(f"has an input of shape {source.shape}, not [1, steps, n]")
        _, steps, n_input = source.shape
        # Gates in the order of the slots: input, forget, cell, output.
        w = [self._weights(slot, 2) for slot in range(1, 5)]
        r = [self._weights(slot, 2) for slot in range(5, 9)]
        units = w[0].shape[0]
        if any(t.shape != (units, n_input) for t in w) or any(t.shape != (units, units) for t in r):
            raise self._refuse("has weights of shapes that do not fit each other")
        if any(len(t.scales) != 1 for t in (*w, *r)):
            raise self._refuse("has weights with more than one scale")
        if output.shape != (1, steps, units):
            raise self._refuse(f"has an output of shape {output.shape}")
        biases = [self._data(self._constant(slot, "int32", (units,))) for slot in range(12, 16)]
        hidden, cell, inner = self._lstm_state(output, units)
        hidden_scale, hidden_zero = self._scale(hidden, "state"), int(hidden.zero_points[0])
        fraction_bits = -(math.frexp(float(cell.scales[0]))[1] - 1)

        fields: dict[str, int | ConstArray] = {
            "steps": steps,
            "inputs": n_input,
            "units": units,
            **self._lstm_matrix("input", w, biases, self._scale(source, "input"), source),
            **self._lstm_matrix("hidden", r, [0 * b for b in biases], hidden_scale, hidden),
            "product_shift": 30 - fraction_bits,
            "cell_integer_bits": _CELL_INTEGER_BITS - fraction_bits,
        }
        clip = np.float32(self._op.options["cell_clip"])
        if not clip >= 0 or self._op.options["proj_clip"]:
            raise self._refuse(f"clips its cell at {clip}, or a projection")
        if clip > 0:
            limit = int(min(clip / np.float32(cell.scales[0]), np.float32(32767.0)))
            # A limit that rounds to zero does not clip at all in LiteRT.
            fields["cell_min"], fields["cell_max"] = (-limit, limit) if limit else (-32768, 32767)
        else:
            fields["cell_min"], fields["cell_max"] = -32768, 32767
        real = float(np.float32(2.0**-15 / float(inner.scales[0]) * 2.0**-15))
        multiplier, shift = quantise_multiplier(real)
        if shift > 0:
            raise self._refuse("has an output whose scale is out of all proportion")
        fields["output_multiplier"], fields["output_shift"] = multiplier, shift
        fields["output_zero_point"] = int(inner.zero_points[0])
        state = (
            Variable(tensor=hidden.index, ctype="int8_t", count=units, initial=hidden_zero),
            Variable(tensor=cell.index, ctype="int16_t", count=units, initial=0),
        )
        self._emit(
            Call(
                function="kws_lstm_s8",
                struct="kws_lstm",
                source="kws_lstm.c",
                fields=fields,
                inputs=self._names(source),
                outputs=self._names(output),
                variables=state,
                macs=4 * units * (n_input + units) * steps,
                layer="lstm",
                label=f"LSTM {source.shape} -> {output.shape}",
            )
        )

    def _lstm_state(self, output: Tensor, units: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tensors of hidden state, cell state and o * tanh(c), checked."""
        hidden, cell = self._slot(18), self._slot(19)
        number = self._op.intermediates[4] if len(self._op.intermediates) > 4 else -1
        if hidden is None or cell is None or number < 0:
            raise self._refuse("has no state, or not in 8 and 16 bits")
        inner = self.graph.tensors[number]
        for tensor, dtype in ((hidden, "int8"), (cell, "int16")):
            if tensor.dtype != dtype or tensor.size != units or not tensor.is_variable:
                raise self._refuse("has no state, or not in 8 and 16 bits")
            if tensor.index in self._variables:
                raise self._refuse("shares its state with another")
            self._variables.add(tensor.index)
        for tensor in (hidden, inner, output):
            self._scale(tensor, "state")
            self._zero_point(tensor, "state")
        if len(cell.scales) != 1 or cell.zero_points[0] != 0:
            raise self._refuse("has a cell state without one scale, or with a zero point")
        if cell.scales[0] not in [np.float32(2.0**-bits) for bits in range(9, 16)]:
            raise self._refuse(f"has a cell state of scale {cell.scales[0]}")
        return hidden, cell, inner

    def _lstm_matrix(
        self,
        name: str,
        gates: list[Tensor],
        biases: list[NDArray[np.int64]],
        scale: np.float32,
        source: Tensor,
    ) -> dict[str, int | ConstArray]:
        """Return the fields of the four gates' weights for one of the LSTM's two inputs."""
        zero = int(source.zero_points[0])
        matrices = [self._data(t) for t in gates]
        folded = [self._folded(m, b, zero) for m, b in zip(matrices, biases, strict=True)]
        pairs = []
        for tensor, matrix, bias in zip(gates, matrices, folded, strict=True):
            # To Q3.12, all in float32.
            real = np.float32(tensor.scales[0]) * scale / np.float32(2.0**-12)
            multiplier, shift = quantise_multiplier(float(real))
            most = int((np.abs(bias.astype(np.int64)) + 128 * np.abs(matrix).sum(axis=1)).max())
            if most << max(shift, 0) >= 1 << 30:
                raise self._refuse("can overflow 32 bits: its scales are too large")
            pairs.append((multiplier, shift))
        multipliers, shifts = zip(*pairs, strict=True)
        n = matrices[0].shape
        order = "input, forget, cell, output"
        return {
            f"{name}_weights": ConstArray(
                values=np.stack(matrices, axis=1).astype(np.int8),
                label=f"weights of the {name} [{n[0]} units, gates {order}, {n[1]}]",
            ),
            f"{name}_bias": ConstArray(
                values=np.stack(folded, axis=1).astype(np.int32),
                label=f"biases less zero point * weights [{n[0]} units, gates]",
            ),
            f"{name}_multipliers": ConstArray(
                values=np.array(multipliers, np.int32), label="to Q3.12, Q31 [gates]"
            ),
            f"{name}_shifts": ConstArray(
                values=np.array(shifts, np.int8), label="powers of two of these [gates]"
            ),
        }

    def _softmax(self) -> None:
        source, output = self._activation(0), self._output()
        depth = source.shape[-1] if source.shape else 0
        if output.shape != source.shape or not depth:
            raise self._refuse(f"makes shape {output.shape} of {source.shape}")
        if output.scales[0] != np.float32(1 / 256) or output.zero_points[0] != -128:
            raise self._refuse("has an output that is not quantised from 0 to 1")
        beta = np.float32(self._op.options["beta"])
        if not 1e-6 < beta < 1e6 or depth > 1 << 16:
            raise self._refuse(f"has beta {beta} and {depth} inputs")
        step = -self._scale(source, "input") * beta
        table = exp_f32(step * np.arange(256, dtype=np.float32))
        self._emit(
            Call(
                function="kws_softmax_s8",
                struct="kws_softmax",
                source="kws_softmax.c",
                fields={
                    "rows": source.size // depth,
                    "depth": depth,
                    "exponentials": ConstArray(
                        values=table.view(np.uint32),
                        label="bits of the float32 exp(-scale * n), n = 0 ... 255",
                    ),
                },
                inputs=self._names(source),
                outputs=self._names(output),
                label=f"softmax {source.shape}",
            )
        )

    def _table(self) -> None:
        source, output = self._activation(0), self._output()
        if source.size != output.size:
            raise self._refuse(f"makes shape {output.shape} of {source.shape}")
        s, o = self._scale(source, "input"), self._scale(output, "output")
        z, zero = self._zero_point(source, "input"), self._zero_point(output, "output")
        q = np.arange(-128, 128)
        low, high = -128, 127
        if self._op.name in ("LOGISTIC", "TANH"):
            # In float32, as LiteRT fills its tables.
            x = s * (q - z).astype(np.float32)
            if self._op.name == "LOGISTIC":
                y = np.float32(1) / (np.float32(1) + exp_f32(-x))
            else:
                # C libraries do not agree on the last bit of tanhf; in one entry of a million that
                # decides between two integers.
                y = np.tanh(x.astype(np.float64)).astype(np.float32)
            rescaled = np.float32(1) / o * y
            away = np.trunc(rescaled.astype(np.float64) + np.copysign(0.5, rescaled))
            values = np.clip(away, -1e6, 1e6).astype(np.int64) + zero
        else:
            real = float(s / o)
            low = max(low, zero)
            if self._op.name == "RELU6":
                high = min(high, zero + math.floor(min(float(np.float32(6) / o), 1e6) + 0.5))
            multiplier, shift = quantise_multiplier(real)
            if shift > 22:
                raise self._refuse("has an output whose scale is out of all proportion")
            values = np.array([multiply_quantised(int(i) - z, multiplier, shift) for i in q]) + zero
        self._emit(
            Call(
                function="kws_lut_s8",
                struct="kws_lut",
                source="kws_lut.c",
                fields={
                    "size": source.size,
                    "table": ConstArray(
                        values=np.clip(values, low, high).astype(np.int8),
                        label=f"{self._op.name.lower()} of -128 ... 127",
                    ),
                },
                inputs=self._names(source),
                outputs=self._names(output),
                label=f"{self._op.name.lower()} {source.shape}",
            )
        )

    def _quantize(self) -> None:
        source, output = self._activation(0), self._output()
        if source.size != output.size:
            raise self._refuse(f"makes shape {output.shape} of {source.shape}")
        s, o = self._scale(source, "input"), self._scale(output, "output")
        multiplier, shift = quantise_multiplier(float(s) / float(o))
        if shift > 22:
            raise self._refuse("has an output whose scale is out of all proportion")
        self._emit(
            Call(
                function="kws_quantize_s8",
                struct="kws_quantize",
                source="kws_quantize.c",
                fields={
                    "size": source.size,
                    "size_up": source.size // 16 * 16,
                    "input_zero_point": self._zero_point(source, "input"),
                    "output_zero_point": self._zero_point(output, "output"),
                    "multiplier": multiplier,
                    "shift": shift,
                },
                inputs=self._names(source),
                outputs=self._names(output),
                label=f"other scale {source.shape}",
            )
        )

    def _axes(self, slot: int, n: int) -> list[int]:
        axes = sorted(
            {
                int(a) + (n if a < 0 else 0)
                for a in self._data(self._constant(slot, "int32")).ravel()
            }
        )
        if axes != list(range(axes[0], axes[0] + len(axes))) or not 0 <= axes[0] <= axes[-1] < n:
            raise self._refuse(f"works along axes {axes}")
        return axes

    def _mean(self) -> None:
        source, output = self._activation(0), self._output()
        shape = source.shape
        axes = self._axes(1, len(shape))
        outer = math.prod(shape[: axes[0]])
        count = math.prod(shape[a] for a in axes)
        inner = math.prod(shape[axes[-1] + 1 :])
        if output.size != outer * inner:
            raise self._refuse(f"makes shape {output.shape} of {shape}")
        s, o = self._scale(source, "input"), self._scale(output, "output")
        z, zero = self._zero_point(source, "input"), self._zero_point(output, "output")
        if self._option("keep_dims", 0, 255) and len(shape) == 4 and axes == [1, 2]:
            # LiteRT has a kernel of its own for images, which rounds the zero point by itself.
            ratio = np.float32(z) * s / o
            ratio = ratio + np.float32(0.5) if ratio > 0 else ratio - np.float32(0.5)
            offset, bias, inner_up = 0, zero - int(ratio), inner // 16 * 16
            multiplier, shift = quantise_multiplier(float(s / (np.float32(count) * o)))
        else:
            offset, bias, inner_up = -z * count, zero, 0
            multiplier, shift = quantise_multiplier(float(s) / float(o))
            down = min(count.bit_length() - 1, 32, 31 + shift)
            if down < 0:
                raise self._refuse("has an output whose scale is out of all proportion")
            multiplier, shift = (multiplier << down) // count, shift - down
        if (256 * count) << max(shift, 0) >= 1 << 31 or abs(bias) > 1 << 20:
            raise self._refuse("has an output whose scale is out of all proportion")
        self._emit(
            Call(
                function="kws_mean_s8",
                struct="kws_mean",
                source="kws_mean.c",
                fields={
                    "outer": outer,
                    "count": count,
                    "inner": inner,
                    "inner_up": inner_up,
                    "offset": offset,
                    "multiplier": multiplier,
                    "shift": shift,
                    "bias": bias,
                },
                inputs=self._names(source),
                outputs=self._names(output),
                label=f"mean {shape} -> {output.shape}",
            )
        )

    def _strided_slice(self) -> None:
        source, output = self._activation(0), self._output()
        n = len(source.shape)
        begin, end, stride = (
            [int(v) for v in self._data(self._constant(slot, "int32", (n,)))] for slot in (1, 2, 3)
        )
        masks = {
            m: self._option(f"{m}_mask", 0, 255)
            for m in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
        }
        if masks["ellipsis"] or masks["new_axis"] or self._option("offset", 0, 255):
            raise self._refuse("has an ellipsis, a new axis or offsets")
        self._same_quantisation(source, output)
        counts, steps, first = [], [], 0
        for d in range(n):
            size = source.shape[d]
            if stride[d] < 1:
                raise self._refuse(f"has stride {stride[d]}")
            pitch = math.prod(source.shape[d + 1 :])
            low = 0 if masks["begin"] >> d & 1 else begin[d]
            low = min(max(low + (size if low < 0 else 0), 0), size)
            high = size if masks["end"] >> d & 1 else end[d]
            high = min(max(high + (size if high < 0 else 0), 0), size)
            if masks["shrink_axis"] >> d & 1:
                high = low + 1
            count = -(-(high - low) // stride[d])
            if count < 1 or low >= size:
                raise self._refuse("takes an empty part")
            first += low * pitch
            counts.append(count)
            steps.append(stride[d] * pitch)
        if math.prod(counts) != output.size:
            raise self._refuse(f"makes shape {output.shape} of {source.shape}")
        self._emit(
            Call(
                function="kws_strided_slice_s8",
                struct="kws_strided_slice",
                source="kws_strided_slice.c",
                fields=self._loops(first, counts, steps),
                inputs=self._names(source),
                outputs=self._names(output),
                label=f"slice {source.shape} -> {output.shape}",
            )
        )

    def _loops(self, first: int, counts: list[int], steps: list[int]) -> dict[str, int]:
        """Return the fields of four nested loops over an array of up to four dimensions."""
        kept = [(c, s) for c, s in zip(counts, steps, strict=True) if c > 1]
        if len(kept) > 4:
            raise self._refuse("works on more than four dimensions")
        kept = [(1, 0)] * (4 - len(kept)) + kept
        fields = {"first": first}
        fields.update({f"count{i}": c for i, (c, _) in enumerate(kept)})
        fields.update({f"step{i}": s for i, (_, s) in enumerate(kept)})
        return fields

    def _pad(self) -> None:
        source, output = self._activation(0), self._output()
        n = len(source.shape)
        pads = self._data(self._constant(1, "int32", (n, 2)))
        if pads.min() < 0 or output.shape != tuple(
            int(s + p) for s, p in zip(source.shape, pads.sum(axis=1), strict=True)
        ):
            raise self._refuse(f"makes shape {output.shape} of {source.shape}")
        self._same_quantisation(source, output)
        pitches = [math.prod(output.shape[d + 1 :]) for d in range(n)]
        first = sum(int(p) * pitch for p, pitch in zip(pads[:, 0], pitches, strict=True))
        self._emit(
            Call(
                function="kws_pad_s8",
                struct="kws_pad",
                source="kws_pad.c",
                fields={
                    "size": output.size,
                    "value": self._zero_point(output, "output"),
                    **self._loops(first, list(source.shape), pitches),
                },
                inputs=self._names(source),
                outputs=self._names(output),
                label=f"padding {source.shape} -> {output.shape}",
            )
        )
