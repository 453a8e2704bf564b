"""Biases and output scales, prepared alike for all kernels with weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firmware_export.lower.calls import ConstArray
from firmware_export.lower.multiplier import quantise_multiplier
from firmware_export.lower.operator import Operator
from firmware_export.reader import Tensor


def fold_zero_point(
    op: Operator, weights: NDArray[np.int64], bias: NDArray[np.int64], zero: int
) -> NDArray[np.int32]:
    """Return biases with the input's zero point folded in; weights are [outputs, taps]."""
    folded = bias - zero * weights.sum(axis=1)
    most = np.abs(folded) + 128 * np.abs(weights).sum(axis=1)
    if int(most.max()) > 2**31 - 1:
        raise op.refuse("can overflow 32 bits: its biases or weights are too large")
    return folded.astype(np.int32)


def output_scales(
    op: Operator, source: Tensor, weights: Tensor, output: Tensor
) -> NDArray[np.float64]:
    """Return the factors from accumulators to outputs: one, or one for each channel."""
    scale, out = op.scale(source, "input"), op.scale(output, "output")
    return np.float64(scale) * weights.scales.astype(np.float64) / np.float64(out)


def weight_fields(
    op: Operator,
    matrix: NDArray[np.int64],
    source: Tensor,
    scales: NDArray[np.float64],
    shape: str,
    *,
    channels: int = 0,
) -> dict[str, ConstArray]:
    """Return the fields `weights`, `bias`, `multipliers` and `shifts` of a kernel.

    Args:
        op: the operator, whose bias is in slot 2.
        matrix: the weights as stored in C: [channels, taps] or [taps, channels].
        source: the input.
        scales: from `output_scales`; a single one applies to all channels.
        shape: of the weights, for a comment.
        channels: the dimension of `matrix` that holds the output channels.
    """
    taps = np.moveaxis(matrix, channels, 0)
    bias = fold_zero_point(op, taps, op.bias(2, len(taps)), op.zero_point(source, "input"))
    pairs = [quantise_multiplier(float(s)) for s in np.broadcast_to(scales, (len(taps),))]
    if max(shift for _, shift in pairs) > 30:
        raise op.out_of_proportion()
    multipliers, shifts = zip(*pairs, strict=True)
    return {
        "weights": ConstArray(values=matrix.astype(np.int8), label=f"weights {shape}"),
        "bias": ConstArray(values=bias, label="biases less zero point * weights"),
        "multipliers": ConstArray(
            values=np.array(multipliers, np.int32), label="output scales, Q31 [channels]"
        ),
        "shifts": ConstArray(
            values=np.array(shifts, np.int8), label="powers of two of these [channels]"
        ),
    }
