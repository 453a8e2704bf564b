"""Learning the sounds of speech beside the words that are made of them.

What tells "on" from "one" is in the sounds, and a network that is asked for ten words only has
little reason to learn more of them than that. Asked at every step which sound it hears, it learns
all of them, from every sentence; the layer that answers is left out of what is exported. Learning
several related tasks in one network is R. Caruana's "Multitask Learning" (1997); for keyword
spotting with the sounds as the second task see S. Sigtia et al., arXiv 2001.09519.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from kws.data.phones import PHONES
from kws.train.start import HEAD

SOUNDS = "sounds"
"""The layer that tells them."""


class HeardSounds(keras.layers.Layer):
    """Adds to the loss how badly the sounds are told; passes the posteriors on unchanged."""

    def __init__(self, weight: float, **kwargs: Any) -> None:
        """`weight`: how much the mean cross-entropy of the steps counts."""
        super().__init__(**kwargs)
        self.weight = weight
        self.sounds = keras.layers.Dense(len(PHONES), name=SOUNDS)

    def build(self, posteriors_shape: Any, hidden_shape: Any, phones_shape: Any) -> None:
        """Build the layer that tells the sounds."""
        self.sounds.build(hidden_shape)

    def call(self, posteriors: Any, hidden: Any, phones: Any) -> Any:
        """Posteriors [sequences, steps, n_labels], what they are read off [sequences, steps, width]
        and phones int [sequences, steps], of which negative ones do not count.
        """
        known = ops.cast(phones >= 0, "float32")
        wrong = keras.losses.sparse_categorical_crossentropy(
            ops.maximum(phones, 0), self.sounds(hidden), from_logits=True
        )
        mean = ops.sum(known * wrong) / ops.maximum(1.0, ops.sum(known))
        self.add_loss(self.weight * mean)
        return posteriors


def with_phones(network: Any, features: Any, phones: Any, weight: float) -> Any:
    """Apply a network, and let it learn the sounds of speech from what its answers are read off.

    Args:
        network: features [batch, frames, n_features] → posteriors [batch, steps, n_labels].
        features: what it hears, symbolic [sequences, frames, n_features].
        phones: which sound is heard, symbolic int [sequences, steps].
        weight: see `HeardSounds`.

    Returns:
        The posteriors, symbolic.
    """
    head = network.get_layer(HEAD)
    both = keras.Model(network.input, [network.output, head.input], name="with_hidden")
    posteriors, hidden = both(features)
    return HeardSounds(weight, name="heard_sounds")(posteriors, hidden, phones)
