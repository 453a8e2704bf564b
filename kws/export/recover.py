"""The weights of a finished model, read back so that training can go on from them.

A run's folder has them in float. A .tflite has them in int8 with a scale for each channel, half a
step off at most: as a start for training that is as good, and it is the file that everybody has.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError
from kws.export.graph import LSTM, Graph, Operator, lstms
from kws.export.twin import fold
from kws.model_file.card import load_model_bytes
from kws.train.start import Start
from kws.train.trained import load_run

# Slots of the LSTM operator, gates in the order of Keras: input, forget, cell, output.
_INPUT_WEIGHTS = range(1, 5)
_RECURRENT_WEIGHTS = range(5, 9)
_BIASES = range(12, 16)


def recover_start(path_or_name: str | Path) -> Start:
    """Read the weights of a run's folder, a .tflite of this kit, or a pretrained model.

    Raises:
        KwsError: no such model, or one that is not of the form of `conv_lstm`.
    """
    if Path(path_or_name).is_dir():
        run = load_run(path_or_name)
        return Start(
            name=str(path_or_name),
            labels=run.recipe.labels.labels,
            head=run.recipe.data.head,
            front_end=run.recipe.front_end,
            mean=run.mean,
            std=run.std,
            weights=fold(run.weights),
        )
    card, content = load_model_bytes(path_or_name)
    return Start(
        name=str(path_or_name),
        labels=card.labels,
        head=card.head,
        front_end=card.front_end,
        mean=np.array(card.feature_mean),
        std=np.array(card.feature_std),
        weights=_weights(Graph(content), str(path_or_name)),
    )


def _weights(graph: Graph, name: str) -> dict[str, list[NDArray[np.float32]]]:
    """Name the graph's constants as `kws.models.conv_lstm` names its layers."""
    convolutions = [op for op in graph.operators if op.name == "CONV_2D"]
    dense = [op for op in graph.operators if op.name == "FULLY_CONNECTED"]
    recurrent = lstms(graph)
    used = {"CONV_2D", "FULLY_CONNECTED", LSTM, "RESHAPE", "EXPAND_DIMS", "SOFTMAX", "LOGISTIC"}
    strangers = sorted({op.name for op in graph.operators} - used - {"QUANTIZE", "DEQUANTIZE"})
    if strangers or (len(recurrent), len(dense)) != (1, 1):
        counts = f"{len(recurrent)} LSTM and {len(dense)} dense layers"
        raise KwsError(
            "A file to start training from holds a conv_lstm network. Received: "
            f"{name} with {', '.join(strangers) or counts}. Give the folder of its run"
        )
    weights = {f"conv_{i}": _convolution(graph, op) for i, op in enumerate(convolutions)}
    lstm = recurrent[0]
    weights["lstm"] = [
        np.concatenate([_real(graph, lstm.inputs[i]).T for i in _INPUT_WEIGHTS], axis=1),
        np.concatenate([_real(graph, lstm.inputs[i]).T for i in _RECURRENT_WEIGHTS], axis=1),
        np.concatenate([_real(graph, lstm.inputs[i]) for i in _BIASES]),
    ]
    kernel, bias = dense[0].inputs[1:3]
    weights["posteriors"] = [_real(graph, kernel).T, _real(graph, bias)]
    return weights


def _convolution(graph: Graph, op: Operator) -> list[NDArray[np.float32]]:
    """Return kernel [frames, in, out] and bias [out]; in the file a kernel is [out, 1, frames, in]
    or [out, frames, 1, in]."""
    kernel = _real(graph, op.inputs[1])
    kernel = kernel.reshape(kernel.shape[0], -1, kernel.shape[-1])
    return [kernel.transpose(1, 2, 0), _real(graph, op.inputs[2])]


_TYPES = {0: np.float32, 2: np.int32, 7: np.int16, 9: np.int8}
"""Types of constants by their number in TFLite's schema."""


def _real(graph: Graph, tensor: int) -> NDArray[np.float32]:
    """Return a constant's real values: (q - zero) * scale; scales go along the first axis."""
    data, kind = graph.data(tensor), _TYPES.get(graph.type(tensor))
    if data is None or kind is None:
        raise KwsError(
            f"A weight of the model cannot be read. Received: {graph.name(tensor)}. Export it again"
        )
    values = data.view(kind).reshape(graph.shape(tensor)).astype(np.float64)
    scales, zeros = graph.scales(tensor), graph.zero_points(tensor)
    if scales is not None and zeros is not None and kind is not np.float32:
        along = (-1,) + (1,) * (values.ndim - 1)
        values = (values - zeros.reshape(along)) * scales.reshape(along)
    return values.astype(np.float32)
