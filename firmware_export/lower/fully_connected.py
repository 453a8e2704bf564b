"""The fully connected layer."""

from __future__ import annotations

import numpy as np

from firmware_export.lower.calls import Call, ConstArray
from firmware_export.lower.operator import Operator, whole_numbers
from firmware_export.lower.weights import channel_multipliers, fold_zero_point, output_scales


def fully_connected(op: Operator) -> Call:
    source, output = op.activation(0), op.output()
    weights = op.weights(1, 2)
    units, depth = weights.shape
    if op.option("weights_format", 0, 255) != 0:
        raise op.refuse("has shuffled weights")
    if len(weights.scales) > 1 and weights.quantised_dimension != 0:
        raise op.refuse("has scales that are not those of its output channels")
    rows = source.size // depth
    if source.size != rows * depth or output.size != rows * units:
        raise op.refuse(f"makes shape {output.shape} of {source.shape}")
    matrix = whole_numbers(weights)
    bias = fold_zero_point(op, matrix, op.bias(2, units), op.zero_point(source, "input"))
    scales = output_scales(op, source, weights, output)
    if len(scales) == 1:
        # With one scale LiteRT multiplies those of input and weights in float32.
        product = op.scale(source, "input") * np.float32(weights.scales[0])
        scales = np.array([float(product) / float(op.scale(output, "output"))])
    return Call(
        function="kws_fully_connected_s8",
        struct="kws_fully_connected",
        source="kws_fully_connected.c",
        fields={
            "rows": rows,
            "depth": depth,
            "units": units,
            "output_zero_point": op.zero_point(output, "output"),
            **op.fused_range(output),
            "weights": ConstArray(
                values=matrix.astype(np.int8), label=f"weights [{units}, {depth}]"
            ),
            "bias": ConstArray(values=bias, label="biases less zero point * weights"),
            **channel_multipliers(op, scales, units),
        },
        inputs=op.names(source),
        outputs=op.names(output),
        macs=matrix.size * rows,
        label=f"fully connected {source.shape} -> {output.shape}",
    )
