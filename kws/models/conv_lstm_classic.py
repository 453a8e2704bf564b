"""The textbook network that the kit started from: Conv1D, pooling, LSTM, two dense layers.

As in tutorials, without batch normalisation, on 13 MFCC; kept for comparison with the flagship.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from kws.models.architecture import Architecture, Layers


@dataclass(frozen=True, kw_only=True)
class ConvLstmClassic(Architecture):
    """Conv1D → MaxPool → LSTM → Dropout → Dense → Dense."""

    name: ClassVar[str] = "conv_lstm_classic"

    conv_filters: int = 64
    """Output channels of the convolution."""
    conv_kernel: int = 3
    """Frames that the convolution sees."""
    pool: int = 2
    """Steps over which the maximum is taken; also the stride."""
    lstm_units: int = 64
    """Width of the LSTM's state."""
    dropout: float = 0.5
    """Share of the LSTM's outputs dropped in training."""
    dense_units: int = 64
    """Width of the hidden dense layer."""

    @property
    def time_layers(self) -> tuple[tuple[int, int], ...]:
        return (self.conv_kernel, 1), (self.pool, self.pool)

    def hidden(self, form: Layers, x: Any) -> Any:
        layers = form.keras.layers
        x = layers.Conv1D(self.conv_filters, self.conv_kernel, activation="relu", name="conv")(x)
        x = layers.MaxPooling1D(self.pool, name="pool")(x)
        x = layers.LSTM(self.lstm_units, return_sequences=True, name="lstm")(x)
        x = form.dropout(x, self.dropout, "dropout")
        return layers.Dense(self.dense_units, activation="relu", name="dense")(x)
