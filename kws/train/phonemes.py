"""Learning phonemes as a second task beside the words.

What distinguishes "on" from "one" is their phonemes, and a network trained on ten words has little
reason to learn more of them than it needs. Asked at every step for the current phoneme, it learns
all of them, from every sentence; the layer that answers is not exported. On learning several
related tasks in one network see R. Caruana's "Multitask Learning" (1997); on keyword spotting with
phonemes as the second task, S. Sigtia et al., arXiv 2001.09519.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kws.data.phones import PHONES
from kws.train.start import HEAD

PHONEMES = "phonemes"
"""The layer that classifies them."""


class PhonemeLoss(keras.layers.Layer):
    """Adds the error in classifying phonemes to the loss; passes the posteriors on unchanged."""

    def __init__(self, weight: float, **kwargs: Any) -> None:
        """`weight`: the factor on the mean cross-entropy of the steps."""
        super().__init__(**kwargs)
        self.weight = weight
        self.classifier = keras.layers.Dense(len(PHONES), name=PHONEMES)

    def build(self, posteriors_shape: Any, hidden_shape: Any, phones_shape: Any) -> None:
        """Build the layer that classifies phonemes."""
        self.classifier.build(hidden_shape)

    def call(self, posteriors: Any, hidden: Any, phones: Any) -> Any:
        """Add the loss.

        Args:
            posteriors: [sequences, steps, n_labels].
            hidden: input of the layer that gives the posteriors [sequences, steps, width].
            phones: int [sequences, steps]; negative ones do not count.
        """
        known = ops.cast(phones >= 0, "float32")
        wrong = keras.losses.sparse_categorical_crossentropy(
            ops.maximum(phones, 0), self.classifier(hidden), from_logits=True
        )
        mean = ops.sum(known * wrong) / ops.maximum(1.0, ops.sum(known))
        self.add_loss(self.weight * mean)
        return posteriors


def with_phones(network: Any, features: Any, phones: Any, weight: float) -> Any:
    """Apply a network, and train its last hidden layer to classify phonemes as well.

    Args:
        network: features [batch, frames, n_features] → posteriors [batch, steps, n_labels].
        features: its input, symbolic [sequences, frames, n_features].
        phones: the phoneme at each step, symbolic int [sequences, steps].
        weight: see `PhonemeLoss`.

    Returns:
        The posteriors, symbolic.
    """
    head = network.get_layer(HEAD)
    both = keras.Model(network.input, [network.output, head.input], name="with_hidden")
    posteriors, hidden = both(features)
    return PhonemeLoss(weight, name="phoneme_loss")(posteriors, hidden, phones)
