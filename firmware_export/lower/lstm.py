"""Lowering of the fused LSTM with 8-bit hidden state and 16-bit cell state."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from firmware_export.lower.calls import Call, ConstArray, Variable
from firmware_export.lower.multiplier import quantise_multiplier
from firmware_export.lower.operator import Operator, whole_numbers
from firmware_export.lower.weights import fold_zero_point
from firmware_export.reader import Tensor

_CELL_INTEGER_BITS = 15


def lstm(op: Operator) -> Call:
    source, output = op.activation(0), op.output()
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
        if op.slot(slot) is not None:
            raise op.refuse(f"has {name}")
    if op.slot(1) is None:
        raise op.refuse("has coupled input and forget gates")
    if op.option("activation", 0, 255) != 4:
        raise op.refuse("has an activation other than tanh")
    if op.option("time_major", 0, 255) or op.option("diagonal", 0, 255):
        raise op.refuse("is time-major or has diagonal weights")
    if len(source.shape) != 3 or source.shape[0] != 1:
        raise op.refuse(f"has an input of shape {source.shape}, not [1, steps, n]")
    _, steps, n_input = source.shape
    # Gates in the order of the slots: input, forget, cell, output.
    w = [op.weights(slot, 2) for slot in range(1, 5)]
    r = [op.weights(slot, 2) for slot in range(5, 9)]
    units = w[0].shape[0]
    if any(t.shape != (units, n_input) for t in w) or any(t.shape != (units, units) for t in r):
        raise op.refuse("has weights whose shapes do not match")
    if output.shape != (1, steps, units):
        raise op.refuse(f"has an output of shape {output.shape}")
    biases = [whole_numbers(op.constant(slot, "int32", (units,))) for slot in range(12, 16)]
    hidden, cell, inner = _state(op, output, units)
    hidden_scale, hidden_zero = op.scale(hidden, "state"), int(hidden.zero_points[0])
    fraction_bits = -(math.frexp(float(cell.scales[0]))[1] - 1)

    fields: dict[str, int | ConstArray] = {
        "steps": steps,
        "inputs": n_input,
        "units": units,
        **_matrix(op, "input", w, biases, op.scale(source, "input"), source),
        **_matrix(op, "hidden", r, [0 * b for b in biases], hidden_scale, hidden),
        "product_shift": 30 - fraction_bits,
        "cell_integer_bits": _CELL_INTEGER_BITS - fraction_bits,
    }
    clip = np.float32(op.options["cell_clip"])
    if not clip >= 0 or op.options["proj_clip"]:
        raise op.refuse(f"clips its cell at {clip}, or a projection")
    if clip > 0:
        limit = int(min(clip / np.float32(cell.scales[0]), np.float32(32767.0)))
        # A limit that rounds to zero does not clip at all in LiteRT.
        fields["cell_min"], fields["cell_max"] = (-limit, limit) if limit else (-32768, 32767)
    else:
        fields["cell_min"], fields["cell_max"] = -32768, 32767
    real = float(np.float32(2.0**-15 / float(inner.scales[0]) * 2.0**-15))
    multiplier, shift = quantise_multiplier(real)
    if shift > 0:
        raise op.out_of_proportion()
    fields["output_multiplier"], fields["output_shift"] = multiplier, shift
    fields["output_zero_point"] = int(inner.zero_points[0])
    state = (
        Variable(tensor=hidden.index, ctype="int8_t", count=units, initial=hidden_zero),
        Variable(tensor=cell.index, ctype="int16_t", count=units, initial=0),
    )
    return Call(
        kernel="lstm",
        fields=fields,
        inputs=op.names(source),
        outputs=op.names(output),
        variables=state,
        macs=4 * units * (n_input + units) * steps,
        layer="lstm",
        label=f"LSTM {source.shape} -> {output.shape}",
    )


def _state(op: Operator, output: Tensor, units: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tensors of hidden state, cell state and o * tanh(c), once checked."""
    hidden, cell = op.slot(18), op.slot(19)
    number = op.intermediates[4] if len(op.intermediates) > 4 else -1
    if hidden is None or cell is None or number < 0:
        raise op.refuse("has no state of 8 and 16 bits")
    inner = op.tensors[number]
    for tensor, dtype in ((hidden, "int8"), (cell, "int16")):
        if tensor.dtype != dtype or tensor.size != units or not tensor.is_variable:
            raise op.refuse("has no state of 8 and 16 bits")
        op.claim_state(tensor)
    for tensor in (hidden, inner, output):
        op.scale(tensor, "state")
        op.zero_point(tensor, "state")
    if len(cell.scales) != 1 or cell.zero_points[0] != 0:
        raise op.refuse("has a cell state without a single scale, or with a zero point")
    if cell.scales[0] not in [np.float32(2.0**-bits) for bits in range(9, 16)]:
        raise op.refuse(f"has a cell state of scale {cell.scales[0]}")
    return hidden, cell, inner


def _matrix(
    op: Operator,
    name: str,
    gates: list[Tensor],
    biases: list[NDArray[np.int64]],
    scale: np.float32,
    source: Tensor,
) -> dict[str, int | ConstArray]:
    """Return the weight fields of the four gates for the input or the hidden state."""
    zero = int(source.zero_points[0])
    matrices = [whole_numbers(t) for t in gates]
    folded = [fold_zero_point(op, m, b, zero) for m, b in zip(matrices, biases, strict=True)]
    pairs = []
    for tensor, matrix, bias in zip(gates, matrices, folded, strict=True):
        # To Q3.12, all in float32.
        real = np.float32(tensor.scales[0]) * scale / np.float32(2.0**-12)
        multiplier, shift = quantise_multiplier(float(real))
        most = int((np.abs(bias.astype(np.int64)) + 128 * np.abs(matrix).sum(axis=1)).max())
        if most << max(shift, 0) >= 1 << 30:
            raise op.refuse("can overflow 32 bits: its scales are too large")
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
