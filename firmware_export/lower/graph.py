"""Lowers a graph's operators to calls of the kernels in `runtime/`, with all their constants.

The constants make the kernels compute, bit for bit, what LiteRT's built-in kernels compute without
delegates (as `kws.runtime.open_interpreter` opens them on x86). Where LiteRT derives constants in
float32 or double, so does this, in the same order.

Each kernel has a function that takes an `Operator`, which checks the operator's properties as they
are read, and returns the `Call`; `_KERNELS` maps operators to these functions.

What is computed here and not on the device:

- Zero points of inputs are folded into the biases, b - z * sum(w), so that inner loops are plain
  products of int8. Padding takes the value of the zero point.
- A scale becomes a multiplier in Q31 and a shift, as in Jacob et al., "Quantization and Training of
  Neural Networks for Efficient Integer-Arithmetic-Only Inference" (arXiv 1712.05877).
- Functions of one int8 value become tables of 256 entries.
- RESHAPE, EXPAND_DIMS and SQUEEZE generate no code: their output is an alias of their input.
- No accumulator can overflow 32 bits, whatever the input; models where one could are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from firmware_export.lower.calls import Call
from firmware_export.lower.elements import add, quantize, softmax, table
from firmware_export.lower.fully_connected import fully_connected
from firmware_export.lower.lstm import lstm
from firmware_export.lower.operator import Operator, Written
from firmware_export.lower.shapes import mean, pad, strided_slice
from firmware_export.lower.windows import convolution, depthwise, pool
from firmware_export.reader import Graph
from kws.errors import KwsError

_ALIASES = ("RESHAPE", "EXPAND_DIMS", "SQUEEZE")
"""Operators whose output has the same bytes as their first input."""

_KERNELS: Mapping[str, Callable[[Operator], Call]] = {
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": depthwise,
    "MAX_POOL_2D": pool,
    "AVERAGE_POOL_2D": pool,
    "ADD": add,
    "FULLY_CONNECTED": fully_connected,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": lstm,
    "SOFTMAX": softmax,
    "LOGISTIC": table,
    "TANH": table,
    "RELU": table,
    "RELU6": table,
    "QUANTIZE": quantize,
    "MEAN": mean,
    "STRIDED_SLICE": strided_slice,
    "PAD": pad,
}


def lower(graph: Graph) -> list[Call]:
    """Return the calls that compute `graph`, in order.

    Raises:
        KwsError: an operator, an option or a type that no kernel supports.
    """
    calls = []
    roots = _roots(graph)
    written = Written(tensors=set(graph.inputs))
    for number, op in enumerate(graph.ops):
        operator = Operator(graph, number, roots, written)
        if op.name in _ALIASES:
            _check_alias(operator)
        elif op.name in _KERNELS:
            calls.append(_KERNELS[op.name](operator))
        else:
            raise KwsError(
                f"The firmware library has no kernel for {op.name}. Received: a model with it. "
                "Use only the operators of conv_lstm, or the interpreter: kws firmware --form tflm"
            )
        written.tensors.update(op.outputs)
    if not written.tensors.issuperset(graph.outputs):
        raise KwsError(
            "The firmware library cannot compute this model. Received: an output that no operator "
            "writes. Export it again with kws export"
        )
    return calls


def root(graph: Graph, tensor: int) -> int:
    """Return the tensor that `tensor` is an alias of; itself if it is not an alias."""
    return _roots(graph)[tensor]


def _roots(graph: Graph) -> list[int]:
    roots = list(range(len(graph.tensors)))
    for op in graph.ops:
        if op.name in _ALIASES and op.inputs and op.inputs[0] >= 0 and op.outputs:
            roots[op.outputs[0]] = roots[op.inputs[0]]
    return roots


def _check_alias(op: Operator) -> None:
    source, output = op.activation(0), op.output()
    if output.size != source.size:
        raise op.makes_another_shape(source, output)
