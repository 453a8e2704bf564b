"""The least that can spot a word: an LSTM on the features as they are, then Dense.

A step for every frame; clips of any length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kws.models.architecture import Architecture, Layers


@dataclass(frozen=True, kw_only=True)
class Lstm(Architecture):
    """One or more LSTMs → Dense."""

    lstm_units: tuple[int, ...] = (96,)
    """Width of each LSTM's state."""
    dropout: float = 0.2
    """Share of each LSTM's outputs that are dropped in training."""

    def build(
        self,
        keras: Any,
        *,
        n_features: int,
        n_labels: int,
        head: str,
        frames: int | None = None,
        batch_size: int | None = None,
        folded: bool = False,
    ) -> Any:
        layers, form = keras.layers, Layers(keras, folded)
        inputs = keras.Input((frames, n_features), batch_size=batch_size, name="features")
        x = inputs
        for i, units in enumerate(self.lstm_units):
            x = layers.LSTM(units, return_sequences=True, name=f"lstm_{i}")(x)
            x = form.dropout(x, self.dropout, f"dropout_{i}")
        outputs = layers.Dense(n_labels, activation=head, name="posteriors")(x)
        return keras.Model(inputs, outputs, name="lstm")
