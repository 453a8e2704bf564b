"""Training on top of a network that was trained before: what it heard is not learnt again.

The convolutions and the LSTM are taken over; the answers too, if they have the same labels. Then
training begins with the answers and goes downwards layer by layer (J. Howard, S. Ruder, "Universal
Language Model Fine-tuning for Text Classification", arXiv 1801.06146, section 3.3: gradual
unfreezing), so that the first large gradients of a head that knows nothing do not spoil the rest.
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
"""The layer that answers, in every architecture."""
_NORM = "_norm"
_OTHERWISE = 'Leave [model] as it is there, or start from nothing: [training] start = ""'


@dataclass(frozen=True, kw_only=True)
class Start:
    """A network to start from."""

    name: str
    """How the user named it."""
    labels: tuple[str, ...]
    """Its outputs."""
    head: str
    """``"softmax"`` or ``"sigmoid"``."""
    front_end: FrontEndConfig
    """The features it was trained on."""
    mean: npt.NDArray[np.float64]
    """Mean of each of them [n_mfcc], with which they were normalised."""
    std: npt.NDArray[np.float64]
    """Standard deviation of each of them [n_mfcc]."""
    weights: dict[str, list[npt.NDArray[np.float32]]]
    """For each layer its weights in Keras' order, batch normalisation folded."""

    def check(self, recipe: TrainingRecipe) -> None:
        """Make sure that a recipe can start here.

        Raises:
            KwsError: its front end, layers or sizes are others.
        """
        if self.front_end != recipe.front_end:
            raise KwsError(
                f"[front_end] must be that of {self.name} to start from it. "
                f"Received: {recipe.front_end}. Expected: {self.front_end}"
            )
        self.fitting(recipe.build_network(keras), recipe)

    def fitting(self, network: Any, recipe: TrainingRecipe) -> dict[str, list[Any]]:
        """Return the weights that a network takes over, by layer; the head only if it has the same
        labels.

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
        """Whether the recipe's network answers with the very same labels."""
        return (self.labels, self.head) == (recipe.labels.labels, recipe.data.head)


def start_from(
    network: Any, start: Start, recipe: TrainingRecipe, features: npt.NDArray[np.float32]
) -> None:
    """Give `network` the weights of `start`; the head only if it has the same labels.

    A folded convolution has no batch normalisation left. It gets one again that changes nothing:
    with the mean and variance that its outputs have on `features`, scaled and shifted back.

    Args:
        network: as an architecture builds it for training.
        start: the weights.
        recipe: of the network.
        features: normalised features to measure on [n, frames, n_mfcc].

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
    """Say when each layer of a network that starts from another joins in.

    The head is trained from the beginning, the layer below it after `every` steps, the next after
    twice as many. A normalisation joins in with its convolution.

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
    """Let the normalisation after the convolution `name` add `bias` and nothing else."""
    norm = network.get_layer(name + _NORM)
    outputs = keras.Model(network.input, network.get_layer(name).output)
    values = np.asarray(outputs.predict_on_batch(features), np.float64)
    axes = tuple(range(values.ndim - 1))
    mean, variance = values.mean(axis=axes), values.var(axis=axes)
    norm.set_weights([np.sqrt(variance + norm.epsilon), bias + mean, mean, variance])
