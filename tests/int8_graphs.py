"""Small int8 models with arbitrary scales, built without a converter, to test kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
import pytest
from numpy.typing import ArrayLike

pytest.importorskip("ai_edge_litert", reason="needs LiteRT")
from ai_edge_litert import schema_py_generated as schema

NONE, RELU, RELU_N1_TO_1, RELU6, TANH = range(5)
SAME, VALID = range(2)
_TYPES = {"int8": 9, "int16": 7, "int32": 2, "float32": 0}
_OPTIONS = {
    "CONV_2D": schema.Conv2DOptionsT,
    "DEPTHWISE_CONV_2D": schema.DepthwiseConv2DOptionsT,
    "MAX_POOL_2D": schema.Pool2DOptionsT,
    "AVERAGE_POOL_2D": schema.Pool2DOptionsT,
    "ADD": schema.AddOptionsT,
    "FULLY_CONNECTED": schema.FullyConnectedOptionsT,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": schema.UnidirectionalSequenceLSTMOptionsT,
    "SOFTMAX": schema.SoftmaxOptionsT,
    "MEAN": schema.ReducerOptionsT,
    "STRIDED_SLICE": schema.StridedSliceOptionsT,
    "RESHAPE": schema.ReshapeOptionsT,
    "SQUEEZE": schema.SqueezeOptionsT,
    "EXPAND_DIMS": schema.ExpandDimsOptionsT,
    "PAD": schema.PadOptionsT,
    "QUANTIZE": schema.QuantizeOptionsT,
    "MUL": schema.MulOptionsT,
}
# The operator versions that have int8 kernels; for the others, 1.
_VERSIONS = {"UNIDIRECTIONAL_SEQUENCE_LSTM": 3, "FULLY_CONNECTED": 12}


class Int8Graph:
    """A model under construction; tensors and operators are numbered as they are added."""

    def __init__(self) -> None:
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.buffers = [schema.BufferT()]
        self._model.operatorCodes = []
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._model.subgraphs = [self._graph]

    def tensor(
        self,
        shape: Sequence[int],
        *,
        scale: ArrayLike | None = None,
        zero: int = 0,
        dtype: str = "int8",
        data: ArrayLike | None = None,
        dimension: int = 0,
        variable: bool = False,
    ) -> int:
        """Add a tensor; `scale` may be one number or one for each entry of `dimension`."""
        t = schema.TensorT()
        t.shape, t.type, t.isVariable = list(shape), _TYPES[dtype], variable
        t.name = f"t{len(self._graph.tensors)}"
        if scale is not None:
            q = schema.QuantizationParametersT()
            q.scale = np.atleast_1d(np.asarray(scale, np.float32))
            q.zeroPoint = np.full(len(q.scale), zero, np.int64)
            q.quantizedDimension = dimension
            t.quantization = q
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
            self._model.buffers.append(buffer)
            t.buffer = len(self._model.buffers) - 1
        self._graph.tensors.append(t)
        return len(self._graph.tensors) - 1

    def op(
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: Mapping[str, Any] | None = None,
        intermediates: Sequence[int] = (),
    ) -> None:
        """Add an operator; options have the names of the schema's object API."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = _VERSIONS.get(name, 1)
        self._model.operatorCodes.append(code)
        op = schema.OperatorT()
        op.opcodeIndex = len(self._model.operatorCodes) - 1
        op.inputs, op.outputs = list(inputs), list(outputs)
        if intermediates:
            op.intermediates = list(intermediates)
        if name in _OPTIONS:
            op.builtinOptions = _OPTIONS[name]()
            for key, value in (options or {}).items():
                assert hasattr(op.builtinOptions, key), key
                setattr(op.builtinOptions, key, value)
            table = _OPTIONS[name].__name__.removesuffix("T")
            op.builtinOptionsType = getattr(schema.BuiltinOptions, table)
        self._graph.operators.append(op)

    def build(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """Return the .tflite."""
        self._graph.inputs, self._graph.outputs = list(inputs), list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
