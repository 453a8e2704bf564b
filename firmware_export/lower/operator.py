"""An operator while it is lowered, with checked access to its inputs, outputs and options.

A model file may come from elsewhere or be damaged. Kernels rely only on what is checked here; all
else ends in an error of one line that names the operator and what to do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from firmware_export.reader import Graph, Op, Tensor
from kws.errors import KwsError

_LARGEST = 1 << 24  # elements of an activation; no microcontroller has as much memory


@dataclass(kw_only=True)
class Written:
    """What the operators before this one have written."""

    tensors: set[int]
    """Tensors that hold a value: the model's inputs and all outputs so far."""
    states: set[int] = field(default_factory=set)
    """Variables that an operator has claimed."""


class Operator:
    """One operator of a graph, with the checks that all kernels share.

    Args:
        graph: the model.
        number: the operator's number in it.
        roots: for each tensor the one that it is an alias of.
        written: what earlier operators have written.
    """

    def __init__(self, graph: Graph, number: int, roots: list[int], written: Written) -> None:
        op: Op = graph.ops[number]
        self.tensors = graph.tensors
        self.name = op.name
        self.inputs = op.inputs
        self.outputs = op.outputs
        self.intermediates = op.intermediates
        self.options = op.options
        self._number = number
        self._roots = roots
        self._written = written

    def refuse(self, why: str) -> KwsError:
        """Return the error that says why firmware cannot compute this operator."""
        return KwsError(
            f"The firmware library cannot compute operator {self._number} ({self.name}): it "
            f"{why}. Use the interpreter instead: kws firmware --form tflm"
        )

    def out_of_proportion(self) -> KwsError:
        """Return the error about an output scale that a 32-bit multiplier cannot express."""
        return self.refuse("has an output scale that is out of range")

    def makes_another_shape(self, source: Tensor, output: Tensor) -> KwsError:
        """Return the error about an output of another shape than the kernel computes."""
        return self.refuse(f"turns shape {source.shape} into {output.shape}")

    def slot(self, slot: int) -> Tensor | None:
        """Return the tensor in an input slot; None if it is empty."""
        if slot >= len(self.inputs) or self.inputs[slot] < 0:
            return None
        return self.tensors[self.inputs[slot]]

    def activation(self, slot: int) -> Tensor:
        """Return an input that was computed before: int8 with a single scale."""
        tensor = self.slot(slot)
        if tensor is None:
            raise self.refuse(f"has no input {slot}")
        self._check(tensor, f"input {slot}")
        if tensor.data is not None:
            raise self.refuse(f"has a constant as input {slot}")
        if tensor.index not in self._written.tensors:
            raise self.refuse(f"reads input {slot} before it is computed")
        return tensor

    def output(self) -> Tensor:
        """Return the only output, not written before: int8 with a single scale."""
        if len(self.outputs) != 1:
            raise self.refuse(f"has {len(self.outputs)} outputs")
        tensor = self.tensors[self.outputs[0]]
        self._check(tensor, "output")
        if tensor.index in self._written.tensors or tensor.data is not None:
            raise self.refuse("writes a tensor that already has a value")
        return tensor

    def _check(self, tensor: Tensor, what: str) -> None:
        if tensor.dtype == "float32":
            raise KwsError(
                "Firmware needs an int8 model. Received: a float model "
                f"(operator {self._number}, {self.name}). Export it without --float"
            )
        if tensor.dtype != "int8":
            raise self.refuse(f"has an {what} of type {tensor.dtype}")
        if not 1 <= tensor.size <= _LARGEST:
            raise self.refuse(f"has an {what} of shape {tensor.shape}")
        if tensor.is_variable:
            raise self.refuse(f"has state as its {what}")
        self.scale(tensor, what)
        self.zero_point(tensor, what)

    def scale(self, tensor: Tensor, what: str) -> np.float32:
        """Return the single scale of a tensor, which `what` names in errors."""
        if len(tensor.scales) != 1 or not 1e-30 < float(tensor.scales[0]) < 1e30:
            raise self.refuse(f"has an {what} without a single scale")
        return np.float32(tensor.scales[0])

    def zero_point(self, tensor: Tensor, what: str) -> int:
        """Return the zero point that belongs to `scale`."""
        zero = int(tensor.zero_points[0])
        if not -128 <= zero <= 127:
            raise self.refuse(f"has an {what} with the zero point {zero}")
        return zero

    def constant(self, slot: int, dtype: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """Return a constant input of this type, and of this shape if one is given."""
        tensor = self.slot(slot)
        if tensor is None or tensor.data is None or tensor.dtype != dtype or not tensor.size:
            raise self.refuse(f"has no constant of type {dtype} as input {slot}")
        if shape is not None and tensor.shape != shape:
            raise self.refuse(f"has input {slot} of shape {tensor.shape}, not {shape}")
        return tensor

    def weights(self, slot: int, n_dimensions: int, channels: int | None = None) -> Tensor:
        """Return constant int8 weights with this many dimensions and no zero points.

        They have a single scale, or, if `channels` is given, one for each entry of that dimension.
        """
        weights = self.constant(slot, "int8")
        if len(weights.shape) != n_dimensions:
            raise self.refuse(f"has weights of shape {weights.shape}")
        if np.any(weights.zero_points != 0):
            raise self.refuse("has weights with a zero point")
        if not len(weights.scales) or not np.all(
            (weights.scales > 1e-30) & (weights.scales < 1e30)
        ):
            raise self.refuse("has weights without scales")
        if len(weights.scales) > 1 and channels is None:
            raise self.refuse("has weights with more than one scale")
        if len(weights.scales) > 1 and weights.quantised_dimension != channels:
            raise self.refuse("has scales along a dimension other than its output channels")
        return weights

    def bias(self, slot: int, count: int) -> NDArray[np.int64]:
        """Return biases [count]; zeros if the slot is empty."""
        if self.slot(slot) is None:
            return np.zeros(count, np.int64)
        return whole_numbers(self.constant(slot, "int32", (count,)))

    def option(self, name: str, lowest: int = 0, highest: int = 1 << 16) -> int:
        """Return an integer option within these bounds."""
        value = self.options[name]
        if not lowest <= value <= highest:
            raise self.refuse(f"has {name} {value}")
        return int(value)

    def image(self, tensor: Tensor) -> tuple[int, int, int]:
        """Return height, width and channels."""
        if len(tensor.shape) != 4 or tensor.shape[0] != 1:
            raise self.refuse(f"has a tensor of shape {tensor.shape}, not [1, height, width, n]")
        return tensor.shape[1:]

    def fused_range(self, output: Tensor) -> dict[str, int]:
        """Return the int8 range that the fused activation clamps to."""
        scale, zero = self.scale(output, "output"), self.zero_point(output, "output")

        def quantised(x: float) -> int:
            ratio = float(np.float32(x) / scale)
            return zero + int(math.copysign(math.floor(min(abs(ratio), 1e6) + 0.5), ratio))

        ends: dict[int, tuple[float | None, float | None]] = {
            0: (None, None),
            1: (0.0, None),
            2: (-1.0, 1.0),
            3: (0.0, 6.0),
        }
        activation = self.option("activation", 0, 255)
        if activation not in ends:
            raise self.refuse(f"has the fused activation {activation}")
        low, high = ends[activation]
        return {
            "output_min": -128 if low is None else max(-128, quantised(low)),
            "output_max": 127 if high is None else min(127, quantised(high)),
        }

    def require_same_quantisation(self, source: Tensor, output: Tensor) -> None:
        """Raise KwsError unless both tensors have the same scale and zero point."""
        if source.scales[0] != output.scales[0] or source.zero_points[0] != output.zero_points[0]:
            raise self.refuse("has an output quantised differently from its input")

    def claim_state(self, tensor: Tensor) -> None:
        """Claim a variable for this operator.

        Raises:
            KwsError: another operator uses it.
        """
        if tensor.index in self._written.states:
            raise self.refuse("shares its state with another operator")
        self._written.states.add(tensor.index)

    def names(self, *tensors: Tensor) -> tuple[int, ...]:
        """Return the numbers of tensors, with aliases resolved."""
        return tuple(self._roots[t.index] for t in tensors)


def whole_numbers(tensor: Tensor) -> NDArray[np.int64]:
    """Return the values of a constant as int64, wide enough to add and multiply."""
    assert tensor.data is not None
    return tensor.data.astype(np.int64)
