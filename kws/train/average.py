"""The moving mean of a network's weights, which hears better than the weights themselves."""

from __future__ import annotations

from typing import Any

import keras

from kws.recipe import TrainingRecipe

AVERAGED_SHARE = 0.1
"""Share of the steps so far that averaged weights reach back over at most."""


class WeightAverage:
    """A moving mean of a network's weights over the steps of training.

    Weights that hop about a good place have their mean nearer to it (B. Polyak and A. Juditsky,
    "Acceleration of stochastic approximation by averaging", 1992; A. Tarvainen and H. Valpola,
    arXiv 1703.01780, for the moving mean). The statistics of normalisations are averaged like the
    weights that they belong to. The mean reaches back `average_epochs`, and over no more than a
    tenth of the steps so far (`AVERAGED_SHARE`): weights move far at first, and the mean of what
    lies far apart hears nothing.
    """

    def __init__(self, network: Any, recipe: TrainingRecipe, steps_per_epoch: int) -> None:
        """Begin at the network's weights."""
        self.network = recipe.build_network(keras)
        self.network.set_weights(network.get_weights())
        self._pairs = list(zip(self.network.weights, network.weights, strict=True))
        self._steps = recipe.training.average_epochs * steps_per_epoch

    def update(self, step: int) -> None:
        """Take in the weights after training step `step`, counted from 1."""
        share = 1 / max(1, min(step * AVERAGED_SHARE, self._steps))
        for mean, now in self._pairs:
            mean.assign(mean.value + (now.value - mean.value) * share)
