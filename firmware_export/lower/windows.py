"""What slides a window over an image: convolutions and pooling."""

from __future__ import annotations

import numpy as np

from firmware_export.lower.calls import Call, ConstArray
from firmware_export.lower.operator import Operator, whole_numbers
from firmware_export.lower.weights import channel_multipliers, fold_zero_point, output_scales
from firmware_export.reader import Tensor


def convolution(op: Operator) -> Call:
    source, output = op.activation(0), op.output()
    weights = op.weights(1, 4)
    channels, filter_h, filter_w, depth = weights.shape
    if len(weights.scales) > 1 and weights.quantised_dimension != 0:
        raise op.refuse("has scales that are not those of its output channels")
    if depth != op.image(source)[2]:
        raise op.refuse("has an input and weights of different depth (groups)")
    fields = _window(op, source, output, filter_h, filter_w, channels)
    matrix = whole_numbers(weights).reshape(channels, -1)
    zero = op.zero_point(source, "input")
    bias = fold_zero_point(op, matrix, op.bias(2, channels), zero)
    return Call(
        function="kws_conv_s8",
        struct="kws_conv",
        source="kws_conv.c",
        fields={
            **fields,
            "input_zero_point": zero,
            "output_zero_point": op.zero_point(output, "output"),
            **op.fused_range(output),
            "weights": ConstArray(
                values=matrix.astype(np.int8),
                label=f"weights [{channels}, {filter_h}, {filter_w}, {depth}]",
            ),
            "bias": ConstArray(values=bias, label="biases less zero point * weights"),
            **channel_multipliers(op, output_scales(op, source, weights, output), channels),
        },
        inputs=op.names(source),
        outputs=op.names(output),
        macs=matrix.size * fields["output_h"] * fields["output_w"],
        layer="conv",
        label=f"convolution {source.shape} -> {output.shape}",
    )


def depthwise(op: Operator) -> Call:
    source, output = op.activation(0), op.output()
    weights = op.weights(1, 4)
    one, filter_h, filter_w, channels = weights.shape
    depth = op.image(source)[2]
    if one != 1 or channels % depth:
        raise op.refuse(f"has weights of shape {weights.shape} for {depth} channels")
    if len(weights.scales) > 1 and weights.quantised_dimension != 3:
        raise op.refuse("has scales that are not those of its output channels")
    fields = _window(op, source, output, filter_h, filter_w, channels)
    matrix = whole_numbers(weights).reshape(-1, channels)
    zero = op.zero_point(source, "input")
    bias = fold_zero_point(op, matrix.T, op.bias(2, channels), zero)
    return Call(
        function="kws_depthwise_s8",
        struct="kws_depthwise",
        source="kws_depthwise.c",
        fields={
            **fields,
            "input_zero_point": zero,
            "output_zero_point": op.zero_point(output, "output"),
            **op.fused_range(output),
            "channels_up": channels // 8 * 8,
            "weights": ConstArray(
                values=matrix.astype(np.int8),
                label=f"weights [{filter_h}, {filter_w}, {channels}]",
            ),
            "bias": ConstArray(values=bias, label="biases less zero point * weights"),
            **channel_multipliers(op, output_scales(op, source, weights, output), channels),
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
        function=f"kws_{kind}_pool_s8",
        struct="kws_pool",
        source="kws_pool.c",
        fields={**fields, **op.fused_range(output)},
        inputs=op.names(source),
        outputs=op.names(output),
        label=f"{kind} pooling {source.shape} -> {output.shape}",
    )


def _window(
    op: Operator, source: Tensor, output: Tensor, filter_h: int, filter_w: int, channels: int
) -> dict[str, int]:
    """Return the fields about shapes of what slides a window over an image."""
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
