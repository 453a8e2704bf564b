"""The simplest word spotter: an LSTM directly on the features, then Dense.

One step per frame; clips of any length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from kws.models.architecture import Architecture, Layers


@dataclass(frozen=True, kw_only=True)
class Lstm(Architecture):
    """One or more LSTMs → Dense."""

    name: ClassVar[str] = "lstm"

    lstm_units: tuple[int, ...] = (96,)
    """Width of each LSTM's state."""
    dropout: float = 0.2
    """Share of each LSTM's outputs dropped in training."""

    def hidden(self, form: Layers, x: Any) -> Any:
        layers = form.keras.layers
        for i, units in enumerate(self.lstm_units):
            x = layers.LSTM(units, return_sequences=True, name=f"lstm_{i}")(x)
            x = form.dropout(x, self.dropout, f"dropout_{i}")
        return x
