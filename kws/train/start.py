"""Starting training from the weights of another network.

The convolutions and the LSTM are taken over; the output layer too, if the labels are the same. Then
training starts with the output layer and unfreezes the layers below one by one (J. Howard, S.
Ruder, "Universal Language Model Fine-tuning for Text Classification", arXiv 1801.06146, section
3.3: gradual unfreezing), so that the large gradients of an untrained head do not spoil the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from kws.errors import KwsError
from kws.frontend import FrontEndConfig
from kws.recipe import TrainingRecipe

HEAD = "posteriors"
"""The output layer, in every architecture."""
_NORM = "_norm"
_OTHERWISE = 'Use the same [model], or start from scratch: [training] start = ""'


@dataclass(frozen=True, kw_only=True)
class Start:
    """A network to start from."""

    name: str
    """The name that the user gave."""
    labels: tuple[str, ...]
    """Its outputs."""
    head: str
    """``"softmax"`` or ``"sigmoid"``."""
    front_end: FrontEndConfig
    """The features it was trained on."""
    mean: npt.NDArray[np.float64]
    """Mean of each feature [n_features], with which they were normalised."""
    std: npt.NDArray[np.float64]
    """Standard deviation of each feature [n_features]."""
    weights: dict[str, list[npt.NDArray[np.float32]]]
    """Weights of each layer in Keras' order, batch normalisation folded."""

    def check(self, recipe: TrainingRecipe) -> None:
        """Make sure that a recipe can start from this network.

        Raises:
            KwsError: its front end, layers or sizes differ.
        """
        if self.front_end != recipe.front_end:
            raise KwsError(
                f"[front_end] must be that of {self.name} to start from it. "
                f"Received: {recipe.front_end}. Expected: {self.front_end}"
            )
        self.fitting(recipe.build_network(keras), recipe)

    def fitting(self, network: Any, recipe: TrainingRecipe) -> dict[str, list[Any]]:
        """Return the weights that a network takes over, by layer; those of the head only if the
        labels are the same.

        Args:
            network: as an architecture builds it for training.
            recipe: of the network.

        Raises:
            KwsError: the layers or sizes differ.
        """
        layers = {layer.name: layer for layer in network.layers}
        if strangers := [name for name in self.weights if name not in layers]:
            raise KwsError(
                f"[model] must have the layers of {self.name} to start from it. Received: none "
                f"named {', '.join(strangers)}. {_OTHERWISE}"
            )
        taken = {}
        for name, layer in layers.items():
            found = self.weights.get(name, [])
            if name == HEAD and not self.same_answers(recipe):
                continue
            if not found and (name.endswith(_NORM) or not layer.get_weights()):
                continue
            wanted = [tuple(w.shape) for w in layer.weights]
            # A normalisation after it has the bias.
            shapes = [w.shape for w in (found[:1] if name + _NORM in layers else found)]
            if wanted != shapes:
                raise KwsError(
                    f"[model] must have the sizes of {self.name} to start from it: its layer "
                    f"{name!r} has {shapes}. Received: {wanted}. {_OTHERWISE}"
                )
            taken[name] = found
        return taken

    def same_answers(self, recipe: TrainingRecipe) -> bool:
        """Whether the recipe's network has the same labels."""
        return (self.labels, self.head) == (recipe.labels.labels, recipe.data.head)


def start_from(
    network: Any, start: Start, recipe: TrainingRecipe, features: npt.NDArray[np.float32]
) -> None:
    """Set the weights of `network` to those of `start`; the head only if the labels are the same.

    A folded convolution has lost its batch normalisation. It gets a new one that changes nothing:
    with the mean and variance of its outputs on `features`, scaled and shifted back.

    Args:
        network: as an architecture builds it for training.
        start: the weights.
        recipe: of the network.
        features: normalised features to measure on [n, frames, n_features].

    Raises:
        KwsError: the sizes differ.
    """
    names = [layer.name for layer in network.layers]
    for name, weights in start.fitting(network, recipe).items():
        normalised = name + _NORM in names
        network.get_layer(name).set_weights(weights[:1] if normalised else weights)
        if normalised:
            _undo_norm(network, name, weights[1], features)


def thaw_steps(network: Any, every: int) -> list[int]:
    """Return when each layer of a network that starts from another is unfrozen.

    The head is trained from the beginning, the layer below it after `every` steps, the next after
    twice as many. A normalisation is unfrozen with its convolution.

    Returns:
        The step for each of the network's trainable variables, in their order.
    """
    steps: list[list[int]] = []
    at = 0
    for layer in reversed([layer for layer in network.layers if layer.trainable_variables]):
        steps.append([at] * len(layer.trainable_variables))
        if not layer.name.endswith(_NORM):
            at += every
    return [step for of_layer in reversed(steps) for step in of_layer]


def _undo_norm(
    network: Any,
    name: str,
    bias: npt.NDArray[np.float32],
    features: npt.NDArray[np.float32],
) -> None:
    """Make the normalisation after the convolution `name` only add `bias`."""
    norm = network.get_layer(name + _NORM)
    outputs = keras.Model(network.input, network.get_layer(name).output)
    values = np.asarray(outputs.predict_on_batch(features), np.float64)
    axes = tuple(range(values.ndim - 1))
    mean, variance = values.mean(axis=axes), values.var(axis=axes)
    norm.set_weights([np.sqrt(variance + norm.epsilon), bias + mean, mean, variance])
