"""Lowering of the fully connected layer."""

from __future__ import annotations

import numpy as np

from firmware_export.lower.calls import Call
from firmware_export.lower.operator import Operator, whole_numbers
from firmware_export.lower.weights import output_scales, weight_fields


def fully_connected(op: Operator) -> Call:
    source, output = op.activation(0), op.output()
    weights = op.weights(1, 2, channels=0)
    units, depth = weights.shape
    if op.option("weights_format", 0, 255) != 0:
        raise op.refuse("has shuffled weights")
    rows = source.size // depth
    if source.size != rows * depth or output.size != rows * units:
        raise op.makes_another_shape(source, output)
    matrix = whole_numbers(weights)
    scales = output_scales(op, source, weights, output)
    if len(scales) == 1:
        # With a single scale LiteRT multiplies input and weight scale in float32.
        product = op.scale(source, "input") * np.float32(weights.scales[0])
        scales = np.array([float(product) / float(op.scale(output, "output"))])
    return Call(
        kernel="fully_connected",
        fields={
            "rows": rows,
            "depth": depth,
            "units": units,
            "output_zero_point": op.zero_point(output, "output"),
            **op.fused_range(output),
            **weight_fields(op, matrix, source, scales, f"[{units}, {depth}]"),
        },
        inputs=op.names(source),
        outputs=op.names(output),
        macs=matrix.size * rows,
        label=f"fully connected {source.shape} -> {output.shape}",
    )
