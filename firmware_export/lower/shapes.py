"""Lowering of operators that work along axes: means, slices, padding."""

from __future__ import annotations

import math

import numpy as np

from firmware_export.lower.calls import Call
from firmware_export.lower.multiplier import quantise_multiplier
from firmware_export.lower.operator import Operator, whole_numbers


def mean(op: Operator) -> Call:
    source, output = op.activation(0), op.output()
    shape = source.shape
    axes = _axes(op, 1, len(shape))
    outer = math.prod(shape[: axes[0]])
    count = math.prod(shape[a] for a in axes)
    inner = math.prod(shape[axes[-1] + 1 :])
    if output.size != outer * inner:
        raise op.makes_another_shape(source, output)
    s, o = op.scale(source, "input"), op.scale(output, "output")
    z, zero = op.zero_point(source, "input"), op.zero_point(output, "output")
    if op.option("keep_dims", 0, 255) and len(shape) == 4 and axes == [1, 2]:
        # LiteRT has a separate kernel for images, which rounds the zero point separately.
        ratio = np.float32(z) * s / o
        ratio = ratio + np.float32(0.5) if ratio > 0 else ratio - np.float32(0.5)
        offset, bias, inner_up = 0, zero - int(ratio), inner // 16 * 16
        multiplier, shift = quantise_multiplier(float(s / (np.float32(count) * o)))
    else:
        offset, bias, inner_up = -z * count, zero, 0
        multiplier, shift = quantise_multiplier(float(s) / float(o))
        down = min(count.bit_length() - 1, 32, 31 + shift)
        if down < 0:
            raise op.out_of_proportion()
        multiplier, shift = (multiplier << down) // count, shift - down
    if (256 * count) << max(shift, 0) >= 1 << 31 or abs(bias) > 1 << 20:
        raise op.out_of_proportion()
    return Call(
        kernel="mean",
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
        inputs=op.names(source),
        outputs=op.names(output),
        label=f"mean {shape} -> {output.shape}",
    )


def strided_slice(op: Operator) -> Call:
    source, output = op.activation(0), op.output()
    n = len(source.shape)
    begin, end, stride = (
        [int(v) for v in whole_numbers(op.constant(slot, "int32", (n,)))] for slot in (1, 2, 3)
    )
    masks = {
        m: op.option(f"{m}_mask", 0, 255)
        for m in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    if masks["ellipsis"] or masks["new_axis"] or op.option("offset", 0, 255):
        raise op.refuse("has an ellipsis, a new axis or offsets")
    op.require_same_quantisation(source, output)
    counts, steps, first = [], [], 0
    for d in range(n):
        size = source.shape[d]
        if stride[d] < 1:
            raise op.refuse(f"has stride {stride[d]}")
        pitch = math.prod(source.shape[d + 1 :])
        low = 0 if masks["begin"] >> d & 1 else begin[d]
        low = min(max(low + (size if low < 0 else 0), 0), size)
        high = size if masks["end"] >> d & 1 else end[d]
        high = min(max(high + (size if high < 0 else 0), 0), size)
        if masks["shrink_axis"] >> d & 1:
            high = low + 1
        count = -(-(high - low) // stride[d])
        if count < 1 or low >= size:
            raise op.refuse("selects an empty part")
        first += low * pitch
        counts.append(count)
        steps.append(stride[d] * pitch)
    if math.prod(counts) != output.size:
        raise op.makes_another_shape(source, output)
    return Call(
        kernel="strided_slice",
        fields=_loops(op, first, counts, steps),
        inputs=op.names(source),
        outputs=op.names(output),
        label=f"slice {source.shape} -> {output.shape}",
    )


def pad(op: Operator) -> Call:
    source, output = op.activation(0), op.output()
    n = len(source.shape)
    pads = whole_numbers(op.constant(1, "int32", (n, 2)))
    if pads.min() < 0 or output.shape != tuple(
        int(s + p) for s, p in zip(source.shape, pads.sum(axis=1), strict=True)
    ):
        raise op.makes_another_shape(source, output)
    op.require_same_quantisation(source, output)
    pitches = [math.prod(output.shape[d + 1 :]) for d in range(n)]
    first = sum(int(p) * pitch for p, pitch in zip(pads[:, 0], pitches, strict=True))
    return Call(
        kernel="pad",
        fields={
            "size": output.size,
            "value": op.zero_point(output, "output"),
            **_loops(op, first, list(source.shape), pitches),
        },
        inputs=op.names(source),
        outputs=op.names(output),
        label=f"padding {source.shape} -> {output.shape}",
    )


def _axes(op: Operator, slot: int, n: int) -> list[int]:
    axes = sorted(
        {int(a) + (n if a < 0 else 0) for a in whole_numbers(op.constant(slot, "int32")).ravel()}
    )
    if axes != list(range(axes[0], axes[0] + len(axes))) or not 0 <= axes[0] <= axes[-1] < n:
        raise op.refuse(f"works along axes {axes}")
    return axes


def _loops(op: Operator, first: int, counts: list[int], steps: list[int]) -> dict[str, int]:
    """Return the fields of four nested loops over an array of up to four dimensions."""
    kept = [(c, s) for c, s in zip(counts, steps, strict=True) if c > 1]
    if len(kept) > 4:
        raise op.refuse("works on more than four dimensions")
    kept = [(1, 0)] * (4 - len(kept)) + kept
    fields = {"first": first}
    fields.update({f"count{i}": c for i, (c, _) in enumerate(kept)})
    fields.update({f"step{i}": s for i, (_, s) in enumerate(kept)})
    return fields
