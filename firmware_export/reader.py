"""Reads a .tflite: its tensors with quantisation and constants, and its operators in order.

`kws.model_file.flatbuffer` describes the format and does the checked reading; the field numbers are
those of TFLite's schema.fbs, version 3. Any file yields a `Graph` or a KwsError, in time and memory
bounded by its length: nothing is copied, and what a file can refer to many times (shapes, lists of
tensors) must be short.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError
from kws.model_file.flatbuffer import View, check_sum

# The names of BuiltinOperator, in order from 0.
_OPERATOR_NAMES = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6
RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM
EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND
TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN
EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX
MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV
SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT
REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV
REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU
SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU
REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS
HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE
READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM
MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1
"""
_OPERATORS = _OPERATOR_NAMES.split()

# The names of TensorType, in order from 0.
_TYPE_NAMES = """
float32 float16 int32 uint8 int64 string bool int16 complex64 int8 float64 complex128 uint64
resource variant uint32 uint16 int4 bfloat16 int2 uint4
"""
_TYPES = _TYPE_NAMES.split()
# Types that NumPy lacks are kept as bytes.
_NUMPY = {"float32": "<f4", "int32": "<i4", "uint8": "u1", "int64": "<i8", "int16": "<i2"}
_NUMPY |= {"int8": "i1", "bool": "u1"}

_CUSTOM = _OPERATORS.index("CUSTOM")

# Operator: fields of its builtin options table: name -> (field number, kind, default).
_PADDING = {"padding": (0, "byte", 0)}
_OPTIONS: dict[str, dict[str, tuple[int, str, float]]] = {
    "CONV_2D": {
        **_PADDING,
        "stride_w": (1, "int", 0),
        "stride_h": (2, "int", 0),
        "activation": (3, "byte", 0),
        "dilation_w": (4, "int", 1),
        "dilation_h": (5, "int", 1),
    },
    "DEPTHWISE_CONV_2D": {
        **_PADDING,
        "stride_w": (1, "int", 0),
        "stride_h": (2, "int", 0),
        "depth_multiplier": (3, "int", 0),
        "activation": (4, "byte", 0),
        "dilation_w": (5, "int", 1),
        "dilation_h": (6, "int", 1),
    },
    "FULLY_CONNECTED": {
        "activation": (0, "byte", 0),
        "weights_format": (1, "byte", 0),
        "keep_num_dims": (2, "byte", 0),
    },
    "UNIDIRECTIONAL_SEQUENCE_LSTM": {
        "activation": (0, "byte", 0),
        "cell_clip": (1, "float", 0.0),
        "proj_clip": (2, "float", 0.0),
        "time_major": (3, "byte", 0),
        "diagonal": (5, "byte", 0),
    },
    "ADD": {"activation": (0, "byte", 0)},
    "SOFTMAX": {"beta": (0, "float", 0.0)},
    "MEAN": {"keep_dims": (0, "byte", 0)},
    "STRIDED_SLICE": {
        "begin_mask": (0, "int", 0),
        "end_mask": (1, "int", 0),
        "ellipsis_mask": (2, "int", 0),
        "new_axis_mask": (3, "int", 0),
        "shrink_axis_mask": (4, "int", 0),
        "offset": (5, "byte", 0),
    },
}
_OPTIONS["MAX_POOL_2D"] = _OPTIONS["AVERAGE_POOL_2D"] = {
    **_PADDING,
    "stride_w": (1, "int", 0),
    "stride_h": (2, "int", 0),
    "filter_w": (3, "int", 0),
    "filter_h": (4, "int", 0),
    "activation": (5, "byte", 0),
}

_MODEL_CODES, _MODEL_SUBGRAPHS = 1, 2
_CODE_OLD, _CODE_CUSTOM, _CODE_NEW = 0, 1, 3
_GRAPH_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS, _GRAPH_OPERATORS = 0, 1, 2, 3
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_NAME, _TENSOR_QUANTISATION = 0, 1, 2, 3, 4
_TENSOR_VARIABLE, _TENSOR_SPARSITY = 5, 6
_Q_SCALE, _Q_ZERO_POINT, _Q_DIMENSION = 2, 3, 6
_OP_CODE, _OP_INPUTS, _OP_OUTPUTS, _OP_OPTIONS, _OP_INTERMEDIATES = 0, 1, 2, 4, 8
_BUFFER_OFFSET = 1

_MOST_TABLES = 4096  # tensors or operators; no keyword spotter has more
_MOST_DIMENSIONS = 8
_MOST_SLOTS = 64  # inputs or outputs of an operator
_LONGEST_NAME = 1000


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One tensor of the graph."""

    index: int
    """Its number in the file."""
    name: str
    """Its name in the file, chosen by the converter."""
    shape: tuple[int, ...]
    """Its dimensions, each 0 or more."""
    dtype: str
    """NumPy's name of the type (``int8``), or else the schema's (``int4``)."""
    scales: NDArray[np.float32]
    """None, one, or one for each entry of the quantised dimension."""
    zero_points: NDArray[np.int64]
    """One for each scale."""
    quantised_dimension: int
    """The dimension that has a scale for each entry; matters only with several scales."""
    data: NDArray[np.generic] | None
    """A constant's values in its shape (bytes for types that NumPy lacks); None if computed."""
    is_variable: bool
    """Whether it keeps its value from one invocation to the next."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Op:
    """One operator of the graph; its tensors are given by number."""

    name: str
    """As in TFLite's schema, for example ``CONV_2D``."""
    inputs: tuple[int, ...]
    """Inputs, weights and states; -1 for an empty slot."""
    outputs: tuple[int, ...]
    """Results."""
    intermediates: tuple[int, ...]
    """Inner values with a quantisation of their own."""
    options: Mapping[str, float]
    """Options of the operators that firmware supports, by shortened names of the schema;
    enumerations as numbers."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The only subgraph of a model."""

    tensors: tuple[Tensor, ...]
    """All tensors, by number."""
    ops: tuple[Op, ...]
    """All operators in order of execution."""
    inputs: tuple[int, ...]
    """Tensors that the caller sets."""
    outputs: tuple[int, ...]
    """Tensors that the caller reads."""


def read_graph(model: bytes) -> Graph:
    """Read the graph of a .tflite.

    Args:
        model: content of the file.

    Raises:
        KwsError: not a .tflite, a damaged one, one with several graphs, or one whose weights are
            sparse or outside the FlatBuffer.
    """
    view = View(model)
    check_sum(model)
    graphs = view.tables(view.reference(view.root, _MODEL_SUBGRAPHS))
    if len(graphs) != 1:
        raise KwsError(
            "Firmware needs a model of one graph, without branches or loops. "
            f"Received: {len(graphs)} graphs. Simplify the architecture"
        )
    graph = int(graphs[0])
    buffers = view.buffers()
    tensor_tables = _tables(view, graph, _GRAPH_TENSORS, "tensors")
    tensors = tuple(_tensor(view, i, t, buffers) for i, t in enumerate(tensor_tables))
    codes = [_code(view, t) for t in _tables(view, view.root, _MODEL_CODES, "operator codes")]
    ops = []
    for i, table in enumerate(_tables(view, graph, _GRAPH_OPERATORS, "operators")):
        code = _unsigned(view, table, _OP_CODE, 0)
        if code >= len(codes):
            raise _damage(f"operator {i} of kind {code}, of {len(codes)}")
        ops.append(_op(view, table, codes[code], len(tensors)))
    return Graph(
        tensors=tensors,
        ops=tuple(ops),
        inputs=_numbers(view, graph, _GRAPH_INPUTS, len(tensors), lowest=0),
        outputs=_numbers(view, graph, _GRAPH_OUTPUTS, len(tensors), lowest=0),
    )


def _damage(what: str) -> KwsError:
    return KwsError(f"This .tflite is damaged. Received: {what}. Copy or export it again")


def _tables(view: View, table: int, field: int, what: str) -> list[int]:
    positions = view.tables(view.reference(table, field))
    if len(positions) > _MOST_TABLES:
        raise KwsError(
            f"Firmware supports graphs of at most {_MOST_TABLES} {what}. "
            f"Received: {len(positions)}. Simplify the architecture"
        )
    return [int(p) for p in positions]


def _code(view: View, table: int) -> str:
    """Return the name of the kind of operator at `table`."""
    number = max(
        _byte(view, table, _CODE_OLD, 0), _unsigned(view, table, _CODE_NEW, 0) & 0x7FFFFFFF
    )
    if number == _CUSTOM:
        return _text(view, table, _CODE_CUSTOM) or "CUSTOM"
    return _OPERATORS[number] if number < len(_OPERATORS) else f"operator {number}"


def _op(view: View, table: int, name: str, n_tensors: int) -> Op:
    options: dict[str, float] = {}
    if name in _OPTIONS:
        at = view.reference(table, _OP_OPTIONS)
        for key, (field, kind, default) in _OPTIONS[name].items():
            options[key] = default if at is None else _option(view, at, field, kind, default)
    return Op(
        name=name,
        inputs=_numbers(view, table, _OP_INPUTS, n_tensors, lowest=-1),
        outputs=_numbers(view, table, _OP_OUTPUTS, n_tensors, lowest=0),
        intermediates=_numbers(view, table, _OP_INTERMEDIATES, n_tensors, lowest=-1),
        options=options,
    )


def _tensor(view: View, index: int, table: int, buffers: NDArray[np.int64]) -> Tensor:
    shape = _vector(view, table, _TENSOR_SHAPE, "<i4")
    if len(shape) > _MOST_DIMENSIONS or (len(shape) and int(shape.min()) < 0):
        raise _damage(f"tensor {index} of shape {shape[:_MOST_DIMENSIONS].tolist()}")
    dimensions = tuple(int(n) for n in shape)
    kind = _byte(view, table, _TENSOR_TYPE, 0)
    if kind >= len(_TYPES):
        raise _damage(f"tensor {index} of type {kind}")
    if view.field(table, _TENSOR_SPARSITY) is not None:
        raise KwsError(
            f"Firmware does not support sparse weights. Received: tensor {index}. Convert them to "
            "dense ones"
        )
    scales: NDArray[np.float32] = np.zeros(0, np.float32)
    zero_points: NDArray[np.int64] = np.zeros(0, np.int64)
    dimension = 0
    q = view.reference(table, _TENSOR_QUANTISATION)
    if q is not None:
        scales = _vector(view, q, _Q_SCALE, "<f4")
        zero_points = _vector(view, q, _Q_ZERO_POINT, "<i8")
        if not len(zero_points):  # as in the schema: absent means zero
            zero_points = np.zeros(len(scales), np.int64)
        dimension = _unsigned(view, q, _Q_DIMENSION, 0)
        if len(zero_points) != len(scales):
            raise _damage(
                f"tensor {index} with {len(scales)} scales and {len(zero_points)} zero points"
            )
        per_entry = dimensions[dimension] if dimension < len(dimensions) else 1
        if len(scales) > 1 and len(scales) != per_entry:
            raise _damage(f"tensor {index} of shape {dimensions} with {len(scales)} scales")
    return Tensor(
        index=index,
        name=_text(view, table, _TENSOR_NAME),
        shape=dimensions,
        dtype=_TYPES[kind],
        scales=scales,
        zero_points=zero_points,
        quantised_dimension=dimension,
        data=_data(view, index, table, buffers, _TYPES[kind], dimensions),
        is_variable=_byte(view, table, _TENSOR_VARIABLE, 0) != 0,
    )


def _data(
    view: View,
    index: int,
    table: int,
    buffers: NDArray[np.int64],
    dtype: str,
    shape: tuple[int, ...],
) -> NDArray[np.generic] | None:
    """Return the constant of the tensor at `table`; None if it is computed."""
    number = _unsigned(view, table, _TENSOR_BUFFER, 0)
    if number >= len(buffers):
        raise _damage(f"tensor {index} in buffer {number} of {len(buffers)}")
    buffer = int(buffers[number])
    if view.field(buffer, _BUFFER_OFFSET) is not None:
        raise KwsError(
            "Firmware does not support weights outside the FlatBuffer. "
            f"Received: tensor {index}. Convert a smaller network"
        )
    raw = view.buffer_content(buffer)
    if not raw:
        return None
    if dtype not in _NUMPY:
        return np.frombuffer(raw, np.uint8)
    array = np.frombuffer(raw, _NUMPY[dtype]) if not len(raw) % _item(dtype) else None
    if array is None or len(array) != math.prod(shape):
        raise _damage(f"tensor {index} of shape {shape} and type {dtype} in {len(raw)} bytes")
    return array.reshape(shape)


def _item(dtype: str) -> int:
    return np.dtype(_NUMPY[dtype]).itemsize


def _vector(view: View, table: int, field: int, dtype: str) -> NDArray[Any]:
    """Return a view of the vector of numbers that `field` refers to (empty if absent)."""
    at = view.reference(table, field)
    if at is None:
        return np.zeros(0, dtype)
    count, item = view.unsigned(at), np.dtype(dtype).itemsize
    if item * count > len(view.bytes) - at - 4:
        raise view.damage(at + 4 + item * count)
    return np.frombuffer(view.bytes, dtype, count, at + 4)


def _numbers(view: View, table: int, field: int, n: int, *, lowest: int) -> tuple[int, ...]:
    """Return a short vector of tensor numbers, each from `lowest` to n - 1."""
    numbers = _vector(view, table, field, "<i4")
    if len(numbers) > _MOST_SLOTS:
        raise _damage(f"a list of {len(numbers)} tensors, more than {_MOST_SLOTS}")
    result = tuple(int(i) for i in numbers)
    if result and not (min(result) >= lowest and max(result) < n):
        raise _damage(f"tensors {result} of {n}")
    return result


def _text(view: View, table: int, field: int) -> str:
    """Return a name, replaced if it is absurdly long."""
    at = view.reference(table, field)
    if at is None:
        return ""
    if view.unsigned(at) > _LONGEST_NAME:
        return "(a very long name)"
    return " ".join(view.content(at).decode("utf-8", "replace").split())


def _unsigned(view: View, table: int, field: int, default: int) -> int:
    at = view.field(table, field)
    return default if at is None else view.unsigned(at)


def _byte(view: View, table: int, field: int, default: int) -> int:
    at = view.field(table, field)
    if at is None:
        return default
    if not 0 <= at < len(view.bytes):
        raise view.damage(at)
    return view.bytes[at]


def _option(view: View, table: int, field: int, kind: str, default: float) -> float:
    if kind == "byte":
        return _byte(view, table, field, int(default))
    at = view.field(table, field)
    if at is None:
        return default
    bits = view.unsigned(at).to_bytes(4, "little")
    return float(struct.unpack("<f" if kind == "float" else "<i", bits)[0])
