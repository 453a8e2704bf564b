"""Lowering of operators that slide a window over an image: convolutions and pooling."""

from __future__ import annotations

from firmware_export.lower.calls import Call
from firmware_export.lower.operator import Operator, whole_numbers
from firmware_export.lower.weights import output_scales, weight_fields
from firmware_export.reader import Tensor


def convolution(op: Operator) -> Call:
    source, output = op.activation(0), op.output()
    weights = op.weights(1, 4, channels=0)
    channels, filter_h, filter_w, depth = weights.shape
    if depth != op.image(source)[2]:
        raise op.refuse("has an input and weights of different depth (groups)")
    fields = _window(op, source, output, filter_h, filter_w, channels)
    matrix = whole_numbers(weights).reshape(channels, -1)
    scales = output_scales(op, source, weights, output)
    return Call(
        kernel="conv",
        fields={
            **fields,
            "input_zero_point": op.zero_point(source, "input"),
            "output_zero_point": op.zero_point(output, "output"),
            **op.fused_range(output),
            **weight_fields(
                op, matrix, source, scales, f"[{channels}, {filter_h}, {filter_w}, {depth}]"
            ),
        },
        inputs=op.names(source),
        outputs=op.names(output),
        macs=matrix.size * fields["output_h"] * fields["output_w"],
        layer="conv",
        label=f"convolution {source.shape} -> {output.shape}",
    )


def depthwise(op: Operator) -> Call:
    source, output = op.activation(0), op.output()
    weights = op.weights(1, 4, channels=3)
    one, filter_h, filter_w, channels = weights.shape
    depth = op.image(source)[2]
    if one != 1 or channels % depth:
        raise op.refuse(f"has weights of shape {weights.shape} for {depth} channels")
    fields = _window(op, source, output, filter_h, filter_w, channels)
    matrix = whole_numbers(weights).reshape(-1, channels)
    scales = output_scales(op, source, weights, output)
    return Call(
        kernel="depthwise",
        fields={
            **fields,
            "input_zero_point": op.zero_point(source, "input"),
            "output_zero_point": op.zero_point(output, "output"),
            **op.fused_range(output),
            "channels_up": channels // 8 * 8,
            **weight_fields(
                op, matrix, source, scales, f"[{filter_h}, {filter_w}, {channels}]", channels=1
            ),
        },
        inputs=op.names(source),
        outputs=op.names(output),
        macs=matrix.size * fields["output_h"] * fields["output_w"],
        layer="conv",
        label=f"depthwise convolution {source.shape} -> {output.shape}",
    )


def pool(op: Operator) -> Call:
    source, output = op.activation(0), op.output()
    kind = "max" if op.name == "MAX_POOL_2D" else "average"
    op.require_same_quantisation(source, output)
    fields = _window(
        op,
        source,
        output,
        op.option("filter_h", 1),
        op.option("filter_w", 1),
        op.image(source)[2],
    )
    del fields["dilation_h"], fields["dilation_w"], fields["output_c"]
    return Call(
        kernel="pool",
        kind=kind,
        fields={**fields, **op.fused_range(output)},
        inputs=op.names(source),
        outputs=op.names(output),
        label=f"{kind} pooling {source.shape} -> {output.shape}",
    )


def _window(
    op: Operator, source: Tensor, output: Tensor, filter_h: int, filter_w: int, channels: int
) -> dict[str, int]:
    """Return the shape fields of an operator that slides a window over an image."""
    height, width, depth = op.image(source)
    out_h, out_w, out_c = op.image(output)
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
    same = op.option("padding", 0, 1) == 0
    for d, size, taps, out in (("h", height, filter_h, out_h), ("w", width, filter_w, out_w)):
        stride = op.option(f"stride_{d}", 1)
        dilation = op.option(f"dilation_{d}", 1) if "dilation_h" in op.options else 1
        reach = (taps - 1) * dilation + 1
        expected = -(-size // stride) if same else -(-(size - reach + 1) // stride)
        if out != expected:
            raise op.refuse(f"has an output of shape {output.shape}")
        fields[f"stride_{d}"] = stride
        fields[f"dilation_{d}"] = dilation
        fields[f"pad_{d}"] = max((out - 1) * stride + reach - size, 0) // 2 if same else 0
    if out_c != channels:
        raise op.refuse(f"has an output of {out_c} channels, not {channels}")
    return fields
