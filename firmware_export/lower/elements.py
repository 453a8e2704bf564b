"""Lowering of operators that keep a tensor's shape: sums, tables, rescaling, softmax."""

from __future__ import annotations

import math

import numpy as np

from firmware_export.float32 import exp_f32
from firmware_export.lower.calls import Call, ConstArray
from firmware_export.lower.multiplier import multiply_quantised, quantise_multiplier
from firmware_export.lower.operator import Operator


def add(op: Operator) -> Call:
    a, b, output = op.activation(0), op.activation(1), op.output()
    if not a.shape == b.shape == output.shape:
        raise op.refuse(f"has inputs of shapes {a.shape} and {b.shape}")
    scales = [float(op.scale(t, "input")) for t in (a, b)]
    out = op.scale(output, "output")
    left_shift = 20
    twice = 2.0 * max(scales)
    pairs = [quantise_multiplier(s / twice) for s in scales]
    # As LiteRT does when it prepares the kernel, round the divisor to float32.
    real = twice / float(np.float32(1 << left_shift) * out)
    pairs.append(quantise_multiplier(real))
    if real >= 1 or pairs[2][1] > 0:
        raise op.out_of_proportion()
    if 512 * max(scales) / float(out) > 32000:
        raise op.out_of_proportion()
    fields: dict[str, int | ConstArray] = {
        "size": output.size,
        "size_up": output.size // 16 * 16,
    }
    names = ("input1", "input2", "output")
    for name, tensor, (multiplier, shift) in zip(names, (a, b, output), pairs, strict=True):
        fields[f"{name}_zero_point"] = op.zero_point(tensor, name)
        fields[f"{name}_multiplier"] = multiplier
        fields[f"{name}_shift"] = shift
    return Call(
        kernel="add",
        fields={**fields, **op.fused_range(output)},
        inputs=op.names(a, b),
        outputs=op.names(output),
        label=f"sum {output.shape}",
    )


def table(op: Operator) -> Call:
    source, output = op.activation(0), op.output()
    if source.size != output.size:
        raise op.makes_another_shape(source, output)
    s, o = op.scale(source, "input"), op.scale(output, "output")
    z, zero = op.zero_point(source, "input"), op.zero_point(output, "output")
    q = np.arange(-128, 128)
    low, high = -128, 127
    if op.name in ("LOGISTIC", "TANH"):
        # In float32, as LiteRT fills its tables.
        x = s * (q - z).astype(np.float32)
        if op.name == "LOGISTIC":
            y = np.float32(1) / (np.float32(1) + exp_f32(-x))
        else:
            # C libraries disagree on the last bit of tanhf, which decides between two integers in
            # one entry of a million.
            y = np.tanh(x.astype(np.float64)).astype(np.float32)
        rescaled = np.float32(1) / o * y
        away = np.trunc(rescaled.astype(np.float64) + np.copysign(0.5, rescaled))
        values = np.clip(away, -1e6, 1e6).astype(np.int64) + zero
    else:
        real = float(s / o)
        low = max(low, zero)
        if op.name == "RELU6":
            high = min(high, zero + math.floor(min(float(np.float32(6) / o), 1e6) + 0.5))
        multiplier, shift = quantise_multiplier(real)
        if shift > 22:
            raise op.out_of_proportion()
        values = np.array([multiply_quantised(int(i) - z, multiplier, shift) for i in q]) + zero
    return Call(
        kernel="lut",
        fields={
            "size": source.size,
            "table": ConstArray(
                values=np.clip(values, low, high).astype(np.int8),
                label=f"{op.name.lower()} of -128 ... 127",
            ),
        },
        inputs=op.names(source),
        outputs=op.names(output),
        label=f"{op.name.lower()} {source.shape}",
    )


def quantize(op: Operator) -> Call:
    source, output = op.activation(0), op.output()
    if source.size != output.size:
        raise op.makes_another_shape(source, output)
    s, o = op.scale(source, "input"), op.scale(output, "output")
    multiplier, shift = quantise_multiplier(float(s) / float(o))
    if shift > 22:
        raise op.out_of_proportion()
    return Call(
        kernel="quantize",
        fields={
            "size": source.size,
            "size_up": source.size // 16 * 16,
            "input_zero_point": op.zero_point(source, "input"),
            "output_zero_point": op.zero_point(output, "output"),
            "multiplier": multiplier,
            "shift": shift,
        },
        inputs=op.names(source),
        outputs=op.names(output),
        label=f"other scale {source.shape}",
    )


def softmax(op: Operator) -> Call:
    source, output = op.activation(0), op.output()
    depth = source.shape[-1] if source.shape else 0
    if output.shape != source.shape or not depth:
        raise op.makes_another_shape(source, output)
    if output.scales[0] != np.float32(1 / 256) or output.zero_points[0] != -128:
        raise op.refuse("has an output that is not quantised from 0 to 1")
    beta = np.float32(op.options["beta"])
    if not 1e-6 < beta < 1e6 or depth > 1 << 16:
        raise op.refuse(f"has beta {beta} and {depth} inputs")
    step = -op.scale(source, "input") * beta
    table = exp_f32(step * np.arange(256, dtype=np.float32))
    return Call(
        kernel="softmax",
        fields={
            "rows": source.size // depth,
            "depth": depth,
            "exponentials": ConstArray(
                values=table.view(np.uint32),
                label="bits of the float32 exp(-scale * n), n = 0 ... 255",
            ),
        },
        inputs=op.names(source),
        outputs=op.names(output),
        label=f"softmax {source.shape}",
    )
