"""The moving average of a network's weights, which is more accurate than the weights themselves."""

from __future__ import annotations

from typing import Any

import keras

from kws.recipe import TrainingRecipe

AVERAGED_SHARE = 0.1
"""The average reaches back over at most this share of the steps so far."""


class WeightAverage:
    """An exponential moving average of a network's weights over the training steps.

    Weights that fluctuate around an optimum are on average closer to it (B. Polyak and A. Juditsky,
    "Acceleration of stochastic approximation by averaging", 1992; A. Tarvainen and H. Valpola,
    arXiv 1703.01780, for the moving average). The statistics of normalisations are averaged along
    with the weights. The average reaches back `average_epochs`, but over at most a tenth of the
    steps so far (`AVERAGED_SHARE`): weights move far at first, and the average of weights that are
    far apart is useless.
    """

    def __init__(self, network: Any, recipe: TrainingRecipe, steps_per_epoch: int) -> None:
        """Start at the network's weights."""
        self.network = recipe.build_network(keras)
        self.network.set_weights(network.get_weights())
        self._pairs = list(zip(self.network.weights, network.weights, strict=True))
        self._steps = recipe.training.average_epochs * steps_per_epoch

    def update(self, step: int) -> None:
        """Add the weights after training step `step`, counted from 1."""
        share = 1 / max(1, min(step * AVERAGED_SHARE, self._steps))
        for mean, now in self._pairs:
            mean.assign(mean.value + (now.value - mean.value) * share)
