"""Reads the weights of a finished model, to start training from them or to learn from it.

The folder of a run has them in float. A .tflite has them in int8 with a scale per channel, at most
half a step off: as a start for training, or as a teacher, that is as good, and easier to come by.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kws.audio.samples import SAMPLE_RATE_HZ
from kws.data.labels import LabelSet
from kws.errors import KwsError, require
from kws.export.tf_keras_model import fold
from kws.model_file.card import ModelCard, load_model_bytes, pretrained_models
from kws.recipe import DataConfig, ModelConfig, TrainingRecipe
from kws.train.start import Start
from kws.train.trained import TrainedRun, load_run

if TYPE_CHECKING:
    from kws.export.graph import Graph, Operator

# Slots of the LSTM operator, gates in the order of Keras: input, forget, cell, output.
_INPUT_WEIGHTS = range(1, 5)
_RECURRENT_WEIGHTS = range(5, 9)
_BIASES = range(12, 16)


def load_start(path_or_name: str | Path) -> Start:
    """Load a network to start from: a run's folder, a .tflite of this kit, or a pretrained model.

    Raises:
        KwsError: no such model, or a file that does not hold a `conv_lstm`.
    """
    if _is_folder(path_or_name):
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
    card, content = _read(path_or_name)
    return Start(
        name=str(path_or_name),
        labels=card.labels,
        head=card.head,
        front_end=card.front_end,
        mean=np.array(card.feature_mean),
        std=np.array(card.feature_std),
        weights=_weights(_graph(content), str(path_or_name)),
    )


def load_teacher(path_or_name: str | Path) -> TrainedRun:
    """Load a network to learn from: a run's folder, a .tflite of this kit, or a pretrained model.

    Raises:
        KwsError: no such model, or a file that does not hold a `conv_lstm`.
    """
    if _is_folder(path_or_name):
        return load_run(path_or_name)
    card, content = _read(path_or_name)
    graph = _graph(content)
    folded = _weights(graph, str(path_or_name))
    recipe = _recipe(card, graph, folded)
    return TrainedRun(
        path=Path(path_or_name),
        recipe=recipe,
        recipe_sha256="",
        weights=_unfolded(recipe, folded),
        mean=np.array(card.feature_mean),
        std=np.array(card.feature_std),
        metrics={},
    )


def _is_folder(path_or_name: str | Path) -> bool:
    """Whether this is a folder; a pretrained model's bare name never is."""
    return path_or_name not in pretrained_models() and Path(path_or_name).is_dir()


def _read(path_or_name: str | Path) -> tuple[ModelCard, bytes]:
    """Read a model file; the error for a missing one also mentions folders of runs."""
    names = pretrained_models()
    if not Path(path_or_name).exists() and str(path_or_name) not in names:
        raise KwsError(
            "The network to start from or to learn from was not found. Received: "
            f"{str(path_or_name)!r}. Give the folder of a run of `kws train`, a .tflite of this "
            f"kit, or one of the pretrained models: {', '.join(names)}"
        )
    return load_model_bytes(path_or_name)


def _graph(content: bytes) -> Graph:
    """Read a file's graph; needs TensorFlow, which the folder of a run does not."""
    require("tensorflow.lite.python.schema_py_generated", extra="train")
    from kws.export.graph import Graph

    return Graph(content)


def _recipe(
    card: ModelCard, graph: Graph, weights: dict[str, list[NDArray[np.float32]]]
) -> TrainingRecipe:
    """Return a recipe for the network in a file; of its training, only the form of the data is
    known."""
    kernels = [w[0].shape for name, w in weights.items() if name.startswith("conv_")]
    strides: list[int] = []
    for op in (op for op in graph.operators if op.name == "CONV_2D"):
        before, after = (math.prod(graph.shape(t)[:-1]) for t in (op.inputs[0], op.outputs[0]))
        kernel = kernels[len(strides)][0]
        # A single step does not show the stride; then it is what remains of the network's.
        known = (before - kernel) // (after - 1) if after > 1 else 0
        strides.append(known or card.stride_frames // math.prod(strides))
    # The shortest clips with this many frames.
    clip_ms = math.ceil(card.front_end.n_samples(card.clip_frames) * 1000 / SAMPLE_RATE_HZ)
    all_words = card.labels == LabelSet.thirty_five().labels
    return TrainingRecipe(
        name=card.name,
        data=DataConfig(
            words="thirty_five" if all_words else card.keywords,
            head=card.head,
            clip_ms=clip_ms,
        ),
        front_end=card.front_end,
        model=ModelConfig(
            architecture="conv_lstm",
            sizes={
                "conv_filters": tuple(shape[2] for shape in kernels),
                "conv_kernels": tuple(shape[0] for shape in kernels),
                "conv_strides": tuple(strides),
                "lstm_units": len(weights["lstm"][1]),
            },
        ),
    )


def _unfolded(
    recipe: TrainingRecipe, folded: dict[str, list[NDArray[np.float32]]]
) -> dict[str, NDArray[np.float32]]:
    """Give each convolution a new normalisation that only adds its bias."""
    import keras

    weights = dict(folded)
    for layer in recipe.build_network(keras).layers:
        convolution = layer.name.removesuffix("_norm")
        if convolution != layer.name:
            kernel, bias = folded[convolution]
            one = np.ones_like(bias)
            weights[convolution] = [kernel]
            weights[layer.name] = [one, bias, 0 * one, one - np.float32(layer.epsilon)]
    return {f"{name}/{i}": value for name, w in weights.items() for i, value in enumerate(w)}


def _weights(graph: Graph, name: str) -> dict[str, list[NDArray[np.float32]]]:
    """Name the graph's constants as `kws.models.conv_lstm` names its layers."""
    from kws.export.graph import LSTM, lstms

    convolutions = [op for op in graph.operators if op.name == "CONV_2D"]
    dense = [op for op in graph.operators if op.name == "FULLY_CONNECTED"]
    recurrent = lstms(graph)
    used = {"CONV_2D", "FULLY_CONNECTED", LSTM, "RESHAPE", "EXPAND_DIMS", "SOFTMAX", "LOGISTIC"}
    strangers = sorted({op.name for op in graph.operators} - used - {"QUANTIZE", "DEQUANTIZE"})
    if strangers or (len(recurrent), len(dense)) != (1, 1):
        counts = f"{len(recurrent)} LSTM and {len(dense)} dense layers"
        raise KwsError(
            "A file to start from or to learn from must hold a conv_lstm network. Received: "
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
    """Return kernel [frames, in, out] and bias [out]; in the file the kernel is [out, 1, frames,
    in] or [out, frames, 1, in]."""
    kernel = _real(graph, op.inputs[1])
    kernel = kernel.reshape(kernel.shape[0], -1, kernel.shape[-1])
    return [kernel.transpose(1, 2, 0), _real(graph, op.inputs[2])]


_TYPES = {0: np.float32, 2: np.int32, 7: np.int16, 9: np.int8}
"""Types of constants by their number in TFLite's schema."""


def _real(graph: Graph, tensor: int) -> NDArray[np.float32]:
    """Return a constant's real values: (q - zero) * scale, with scales along the first axis."""
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
