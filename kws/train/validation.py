"""Loss and balanced accuracy on the validation clips during training."""

from __future__ import annotations

from typing import Any

import numpy as np

from kws.frontend import features_of
from kws.recipe import TrainingRecipe
from kws.train.dataset import ClipSet


class Validation:
    """The validation clips as normalised features; measures a network on them."""

    def __init__(
        self, clips: ClipSet, recipe: TrainingRecipe, mean: np.ndarray, std: np.ndarray
    ) -> None:
        self.features = ((features_of(clips.pcm, recipe.front_end) - mean) / std).astype(np.float32)
        self.labels = clips.labels
        self.targets = one_hot(clips.labels, len(recipe.labels.labels))
        self.sigmoid = recipe.data.head == "sigmoid"

    def measure(self, network: Any) -> tuple[float, float]:
        """Return loss and balanced accuracy at the clips' last steps."""
        posteriors = np.clip(posteriors_of(network, self.features), 1e-7, 1 - 1e-7)
        if self.sigmoid:
            right = np.where(self.targets > 0, posteriors, 1 - posteriors)[:, 0]
            loss = -np.log(right).mean()
        else:
            loss = -(self.targets * np.log(posteriors)).sum(axis=1).mean()
        return float(loss), balanced_accuracy(answers_of(posteriors), self.labels)


def answers_of(posteriors: np.ndarray) -> np.ndarray:
    """Return the answer of each row [n, n_labels]; with one output, 0 is the word, -1 is not."""
    if posteriors.shape[1] == 1:
        return np.where(posteriors[:, 0] >= 0.5, 0, -1)
    return np.asarray(posteriors.argmax(axis=1))


def balanced_accuracy(answers: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over the labels of the share of right answers, 0 to 1.

    The best epoch is chosen by it. There are often so many more clips of other words than of the
    keywords that by the share of all right answers a network that never triggers would seem best.
    """
    right = answers == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


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
