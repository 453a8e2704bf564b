"""What export reads and overwrites inside a .tflite: operators, quantisation, constants, MACs.

Everything is done in place on the converter's own bytes, since nothing changes in length: all that
is not overwritten, including the alignment, stays exactly as the converter wrote it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

from kws.errors import KwsError

LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
_TYPES = schema.TensorType
_BYTES = {_TYPES.BOOL: 1, _TYPES.INT8: 1, _TYPES.UINT8: 1, _TYPES.INT16: 2, _TYPES.INT32: 4}
_BYTES |= {_TYPES.FLOAT32: 4, _TYPES.INT64: 8}
_ABSENT = -1
CELL_LIMIT = 10.0
"""The operator that a Keras LSTM becomes limits the cell state to ± this."""
# Slots of the LSTM operator, from the TFLite operator specification.
_LSTM_WEIGHTS = range(1, 9)
_LSTM_HIDDEN_STATE = 18
_LSTM_CELL_STATE = 19
_LSTM_HIDDEN = 4  # among the intermediates: o * tanh(c), before a projection if there is one


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator of the graph; tensors are given by number, -1 for an empty slot."""

    name: str
    """As in TFLite's schema, for example ``CONV_2D``."""
    inputs: tuple[int, ...]
    """Inputs, weights and states."""
    outputs: tuple[int, ...]
    """Results."""
    intermediates: tuple[int, ...]
    """Internal values with their own quantisation."""


class Graph:
    """The only subgraph of a .tflite; its arrays are writable views into `content`.

    Args:
        content: a model as the TFLite converter returns it; it is copied.
    """

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self._model = schema.Model.GetRootAs(self.content, 0)
        if self._model.SubgraphsLength() != 1:
            raise KwsError(
                "The converted network should be one graph without branches or loops. "
                f"Received: {self._model.SubgraphsLength()} graphs. Simplify the architecture"
            )
        self._graph = self._model.Subgraphs(0)

    @property
    def operators(self) -> list[Operator]:
        """All operators in order of execution."""
        return [_operator(self._model, self._graph.Operators(i)) for i in range(self.n_operators)]

    @property
    def n_operators(self) -> int:
        """The number of operators."""
        return int(self._graph.OperatorsLength())

    @property
    def inputs(self) -> tuple[int, ...]:
        """Tensors that the caller sets."""
        return _numbers(self._graph.InputsAsNumpy())

    @property
    def outputs(self) -> tuple[int, ...]:
        """Tensors that the caller reads."""
        return _numbers(self._graph.OutputsAsNumpy())

    def name(self, tensor: int) -> str:
        """Return a tensor's name."""
        return str(self._graph.Tensors(tensor).Name().decode())

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return a tensor's shape."""
        t = self._graph.Tensors(tensor)
        return _numbers(t.ShapeAsNumpy()) if t.ShapeLength() else ()

    def type(self, tensor: int) -> int:
        """Return a tensor's type, a number of `schema.TensorType`."""
        return int(self._graph.Tensors(tensor).Type())

    def size_bytes(self, tensor: int) -> int:
        """Return the memory that a tensor's values take."""
        return math.prod(self.shape(tensor)) * _BYTES[self.type(tensor)]

    def is_state(self, tensor: int) -> bool:
        """Whether the tensor keeps its value from one invocation to the next."""
        return bool(self._graph.Tensors(tensor).IsVariable())

    def scales(self, tensor: int) -> NDArray[np.float32] | None:
        """Return a view of the scales: one, or one per output channel; None for a float tensor."""
        q = self._graph.Tensors(tensor).Quantization()
        return None if q is None or q.ScaleIsNone() else q.ScaleAsNumpy()

    def zero_points(self, tensor: int) -> NDArray[np.int64] | None:
        """Return a view of the zero points, as many as scales."""
        q = self._graph.Tensors(tensor).Quantization()
        return None if q is None or q.ZeroPointIsNone() else q.ZeroPointAsNumpy()

    def data(self, tensor: int) -> NDArray[np.uint8] | None:
        """Return a view of a constant's bytes; None for a computed tensor."""
        buffer = self._model.Buffers(self._graph.Tensors(tensor).Buffer())
        return None if buffer.DataIsNone() else buffer.DataAsNumpy()

    def clear_unused(self) -> None:
        """Zero all buffers that no tensor refers to.

        The converter leaves two buffers for the LSTM's states, with uninitialised contents.
        """
        tensors = [self._graph.Tensors(i).Buffer() for i in range(self._graph.TensorsLength())]
        extras = [self._model.Metadata(i).Buffer() for i in range(self._model.MetadataLength())]
        for i in set(range(self._model.BuffersLength())) - set(tensors) - set(extras):
            buffer = self._model.Buffers(i)
            if not buffer.DataIsNone():
                buffer.DataAsNumpy()[:] = 0

    def buffer(self, tensor: int) -> int:
        """Return the number of the buffer with a tensor's constant; equal constants share one."""
        return int(self._graph.Tensors(tensor).Buffer())


def _operator(model: Any, raw: Any) -> Operator:
    code = model.OperatorCodes(raw.OpcodeIndex())
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    return Operator(
        name=_NAMES.get(number, str(number)),
        inputs=_numbers(raw.InputsAsNumpy()),
        outputs=_numbers(raw.OutputsAsNumpy()),
        intermediates=() if raw.IntermediatesIsNone() else _numbers(raw.IntermediatesAsNumpy()),
    )


def _numbers(array: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in array)


def copy_quantisation(source: Graph, target: Graph) -> None:
    """Copy every scale, zero point, weight and bias of `source` to `target`.

    The two must be the same network for inputs of different length. Operators are paired in order
    of execution and tensors by the slot they fill, since names are arbitrary. Constants without
    quantisation are shapes, and are left as they are in `target`.

    Raises:
        KwsError: the two graphs do not correspond one to one.
    """
    pairs = dict(_pairs(source, target))
    if len(set(pairs.values())) != len(pairs):
        raise _differ("one tensor in one form corresponds to several in the other")
    written: dict[int, NDArray[np.uint8]] = {}
    for t, s in pairs.items():
        scales, new_scales = target.scales(t), source.scales(s)
        if target.type(t) != source.type(s) or (scales is None) != (new_scales is None):
            raise _differ(f"{target.name(t)} and {source.name(s)} have different types")
        if scales is None or new_scales is None:
            continue
        zeros, new_zeros = target.zero_points(t), source.zero_points(s)
        data, new_data = target.data(t), source.data(s)
        for old, new in ((scales, new_scales), (zeros, new_zeros), (data, new_data)):
            if (old is None) != (new is None) or (
                old is not None and new is not None and old.shape != new.shape
            ):
                raise _differ(f"{target.name(t)} and {source.name(s)} have different sizes")
        scales[:] = new_scales
        if zeros is not None and new_zeros is not None:
            zeros[:] = new_zeros
        if data is not None and new_data is not None:
            buffer = target.buffer(t)
            if buffer in written and not np.array_equal(written[buffer], new_data):
                raise _differ(f"{target.name(t)} shares its values with another tensor")
            written[buffer] = new_data
            data[:] = new_data


def _pairs(source: Graph, target: Graph) -> Iterator[tuple[int, int]]:
    """Yield pairs of a target and a source tensor, some of them repeatedly."""
    ours, theirs = target.operators, source.operators
    if [o.name for o in ours] != [o.name for o in theirs]:
        raise _differ(
            f"{' '.join(o.name for o in ours)} here and {' '.join(o.name for o in theirs)} there"
        )
    slots = [(target.inputs, source.inputs), (target.outputs, source.outputs)]
    for a, b in zip(ours, theirs, strict=True):
        slots += [(a.inputs, b.inputs), (a.outputs, b.outputs), (a.intermediates, b.intermediates)]
    known: dict[int, int] = {}
    for a_slots, b_slots in slots:
        if len(a_slots) != len(b_slots):
            raise _differ("an operator has more inputs or outputs in one form")
        for t, s in zip(a_slots, b_slots, strict=True):
            if (t == _ABSENT) != (s == _ABSENT) or known.setdefault(t, s) != s:
                raise _differ("operators are connected differently")
            if t != _ABSENT:
                yield t, s


def _differ(how: str) -> KwsError:
    return KwsError(
        f"The converter made different graphs of the stream and the clip form: {how}. "
        "Use the TensorFlow version that pip install 'kws[train]' chooses, and report this"
    )


def mend_lstms(graph: Graph, *, whole_clip: bool = False) -> None:
    """Correct what the converter's calibration gets wrong about quantised LSTMs, and check them.

    Without a projection the kernel writes o * tanh(c) with the quantisation of one of the
    operator's intermediates and reads it as the hidden state and output. The converter measures
    the intermediate separately and does not make its range include zero, so the two differ if no
    output ever comes near zero; the kernel is then wrong by the ratio of the scales.

    In a network that takes whole clips the calibrator sees the cell state only at the end of each
    clip. There the range is set to all that the operator allows (`CELL_LIMIT`).

    Raises:
        KwsError: an LSTM operator that is not quantised as kernels expect.
    """
    for op in lstms(graph):
        _mend_lstm(graph, op, whole_clip)


def _mend_lstm(graph: Graph, op: Operator, whole_clip: bool) -> None:
    scale, zero = graph.scales(op.outputs[0]), graph.zero_points(op.outputs[0])
    cell_scale = graph.scales(op.inputs[_LSTM_CELL_STATE])
    if scale is None or zero is None or cell_scale is None or len(op.intermediates) <= _LSTM_HIDDEN:
        raise KwsError(
            "The converter left the LSTM in float. Received: an LSTM without scales. Use the "
            "TensorFlow version that pip install 'kws[train]' chooses"
        )
    for tensor in (op.inputs[_LSTM_HIDDEN_STATE], op.intermediates[_LSTM_HIDDEN]):
        other_scale, other_zero = graph.scales(tensor), graph.zero_points(tensor)
        if other_scale is None or other_zero is None:
            raise KwsError(
                "The converter left a part of the LSTM without a scale. Received: "
                f"{graph.name(tensor)}. Use the TensorFlow version that pip install 'kws[train]' "
                "chooses"
            )
        other_scale[:] = scale
        other_zero[:] = zero
    if whole_clip:
        cell_scale[:] = 2 ** math.ceil(math.log2(CELL_LIMIT)) / 32768
    # Kernels shift by the exponent of the 16-bit cell state's scale, within these limits. The upper
    # one cannot be exceeded (`CELL_LIMIT`).
    if math.frexp(float(cell_scale[0]))[0] != 0.5 or not 2**-24 <= cell_scale[0] <= 2**-9:
        raise KwsError(
            "The LSTM has learnt nothing: its cell state hardly moves on training clips. Received: "
            f"a range of ±{32768 * float(cell_scale[0]):.2g}. Train again with a lower "
            "learning_rate or weight_decay"
        )


def lstms(graph: Graph) -> list[Operator]:
    """Return the LSTM operators in order of execution.

    An LSTM that the converter does not fuse into one operator is a loop, which `Graph` refuses.
    """
    return [op for op in graph.operators if op.name == LSTM]


def live_bytes(graph: Graph) -> int:
    """Return the largest total size of the tensors alive at one time, states included.

    An interpreter needs at least that for its tensors, and some more for itself.
    """
    operators = graph.operators
    born = dict.fromkeys(graph.inputs, 0)
    dies = dict.fromkeys(graph.outputs, len(operators))
    always: set[int] = set()
    for i, op in enumerate(operators):
        for tensor in {*op.inputs, *op.outputs} - {_ABSENT}:
            if graph.is_state(tensor):
                always.add(tensor)
            elif graph.data(tensor) is None:
                born.setdefault(tensor, i)
                dies[tensor] = max(i, dies.get(tensor, 0))
    kept = sum(graph.size_bytes(t) for t in always)
    return kept + max(
        sum(graph.size_bytes(t) for t in born if born[t] <= i <= dies.get(t, i))
        for i in range(len(operators))
    )


def macs(graph: Graph) -> int:
    """Return the multiply-accumulates of one invocation.

    Those of convolutions, dense layers, the LSTM's matrices and products of two matrices; as usual,
    activations, sums, averages and other element-wise operations are not counted.
    """
    total = 0
    for op in graph.operators:
        weights = [math.prod(graph.shape(t)) if t != _ABSENT else 0 for t in op.inputs]
        out = graph.shape(op.outputs[0])
        positions = math.prod(out[:-1])
        if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            total += weights[1] * positions
        elif op.name == "BATCH_MATMUL":
            # Attention: both factors are computed. Its options may transpose one of them, so the
            # length summed over is what the first holds for each row of the result.
            total += math.prod(out) * (weights[0] // positions)
        elif op.name == LSTM:
            total += sum(weights[i] for i in _LSTM_WEIGHTS) * positions
    return total
