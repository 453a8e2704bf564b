"""The trained network in tf_keras, with batch normalisation folded, ready to convert.

Training uses Keras 3, whose LSTM the TFLite converter does not fuse. tf_keras has the same layers
and the same order of weights, and its LSTM becomes one operator.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError, require
from kws.system.native import heed_interrupts, quiet_stderr
from kws.train.trained import TrainedRun

NORM_EPSILON = 1e-3
"""Keras' default `epsilon` of BatchNormalization, used by all architectures."""
_NORM = "_norm"


def import_tensorflow() -> tuple[Any, Any]:
    """Import tensorflow and tf_keras without their start-up messages, on the CPU.

    Raises:
        KwsError: one of them is missing.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr(), heed_interrupts():
        tf = require("tensorflow", extra="train")
        tf_keras = require("tf_keras", extra="train")
        # Converting gains nothing from an accelerator, and TensorFlow would take all its memory.
        # If training in this process has already taken it, this fails without harm.
        with contextlib.suppress(RuntimeError, ValueError):
            tf.config.set_visible_devices([], "GPU")
    return tf, tf_keras


def fold(weights: dict[str, NDArray[np.float32]]) -> dict[str, list[NDArray[np.float32]]]:
    """Fold batch normalisation into the convolutions before it.

    A convolution ``X`` (kernel only) and its normalisation ``X_norm`` (gamma, beta, moving mean,
    moving variance) become one kernel and bias:
    ``kernel * g`` and ``beta - mean * g`` with ``g = gamma / sqrt(variance + 1e-3)``. A depthwise
    convolution's outputs are its kernel's last two axes, any other's the last. Normalisations of
    other names stay as they are.

    Args:
        weights: ``<layer>/<i>`` → array, as a run keeps them.

    Returns:
        The weights of each layer in Keras' order, without normalisations ``X_norm``.

    Raises:
        KwsError: names that are not ``<layer>/<i>``, or a normalisation without its convolution.
    """
    layers: dict[str, dict[int, NDArray[np.float32]]] = {}
    for key, value in weights.items():
        layer, _, number = key.rpartition("/")
        if not layer or not number.isdigit():
            raise KwsError(f"Weights should be named <layer>/<i>. Received: {key!r}. Train again")
        layers.setdefault(layer, {})[int(number)] = value
    listed = {layer: [found[i] for i in sorted(found)] for layer, found in layers.items()}
    folded = {layer: found for layer, found in listed.items() if not layer.endswith(_NORM)}
    for layer in listed.keys() - folded.keys():
        convolution = layer.removesuffix(_NORM)
        if len(listed[layer]) != 4 or len(folded.get(convolution, [])) != 1:
            raise KwsError(
                f"The normalisation {layer!r} needs 4 arrays and a convolution without bias named "
                f"{convolution!r}. Received: {len(listed[layer])} arrays. Train again"
            )
        gamma, beta, mean, variance = (w.astype(np.float64) for w in listed[layer])
        gain = gamma / np.sqrt(variance + NORM_EPSILON)
        (kernel,) = folded[convolution]
        depthwise = kernel.shape[-1] != len(gain)
        scaled = kernel * (gain.reshape(kernel.shape[-2:]) if depthwise else gain)
        folded[convolution] = [w.astype(np.float32) for w in (scaled, beta - mean * gain)]
    return folded


def build_tf_keras(run: TrainedRun, *, frames: int | None, batch_size: int | None = 1) -> Any:
    """Build the run's network in tf_keras, folded and with the trained weights.

    Args:
        run: what was trained.
        frames: length of the input; None for any.
        batch_size: fixed batch size; None for any.

    Returns:
        A tf_keras model, [batch, frames, n_features], normalised → [batch, steps, n_labels].

    Raises:
        KwsError: the weights do not fit the architecture in the run's recipe.
    """
    _, tf_keras = import_tensorflow()
    recipe = run.recipe
    network = recipe.build_network(tf_keras, frames=frames, batch_size=batch_size, folded=True)
    folded = fold(run.weights)
    for layer in network.layers:
        wanted = [w.shape for w in layer.get_weights()]
        found = folded.pop(layer.name, [])
        if wanted != [w.shape for w in found]:
            raise KwsError(
                f"The weights do not fit the recipe of {run.path}: layer {layer.name!r} takes "
                f"{wanted}. Received: {[w.shape for w in found]}. Train again"
            )
        if not all(np.isfinite(w).all() for w in found):
            raise KwsError(
                f"The weights of {run.path} are broken: layer {layer.name!r} holds NaN or infinite "
                "values. Train again with a lower learning_rate"
            )
        layer.set_weights(found)
    if folded:
        raise KwsError(
            f"The weights do not fit the recipe of {run.path}. Received: a layer "
            f"{min(folded)!r} that the architecture does not have. Train again"
        )
    return network
