"""How a network does on the validation clips while it is trained."""

from __future__ import annotations

from typing import Any

import numpy as np

from kws.frontend import features_of
from kws.recipe import TrainingRecipe
from kws.train.dataset import ClipSet


class Validation:
    """The validation clips as normalised features, and the network's figures on them."""

    def __init__(
        self, clips: ClipSet, recipe: TrainingRecipe, mean: np.ndarray, std: np.ndarray
    ) -> None:
        self.features = ((features_of(clips.pcm, recipe.front_end) - mean) / std).astype(np.float32)
        self.labels = clips.labels
        self.targets = one_hot(clips.labels, len(recipe.labels.labels))
        self.sigmoid = recipe.data.head == "sigmoid"

    def measure(self, network: Any) -> tuple[float, float]:
        """Return loss and accuracy of the clips' last steps.

        Accuracy is the share of clips that are answered rightly. A wake word's is the mean of two
        shares, that of its clips and that of all others: these are so many more that a network
        that never fires would pass for a good one.
        """
        posteriors = np.clip(posteriors_of(network, self.features), 1e-7, 1 - 1e-7)
        if self.sigmoid:
            right = np.where(self.targets > 0, posteriors, 1 - posteriors)[:, 0]
            wanted = self.labels == 0
            accuracy = np.mean(
                [(right[kind] > 0.5).mean() for kind in (wanted, ~wanted) if kind.any()]
            )
            return float(-np.log(right).mean()), float(accuracy)
        loss = -(self.targets * np.log(posteriors)).sum(axis=1).mean()
        return float(loss), float((posteriors.argmax(axis=1) == self.labels).mean())


def one_hot(labels: np.ndarray, n_labels: int) -> np.ndarray:
    """Return float32 [..., n_labels]; a label of -1 (not the wake word) is a row of zeros."""
    return (labels[..., None] == np.arange(n_labels)).astype(np.float32)


def posteriors_of(network: Any, features: np.ndarray, batch_size: int = 512) -> np.ndarray:
    """Return each clip's answer, its last step: [n, frames, n_features] → [n, n_labels]."""
    answers = [
        np.asarray(network.predict_on_batch(features[i : i + batch_size]))[:, -1]
        for i in range(0, len(features), batch_size)
    ]
    return np.concatenate(answers)
