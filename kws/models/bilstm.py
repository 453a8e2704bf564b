"""A bidirectional LSTM with attention over its steps.

After de Andrade et al., "A neural attention model for speech command recognition"
(arXiv 1808.08929): convolutions, a bidirectional LSTM, and a query computed from its middle step
that weights all steps by their dot product with it. Here the convolutions are one-dimensional, and
there is one LSTM in each direction instead of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from kws.models.architecture import Conv1dFirst, Layers


@dataclass(frozen=True, kw_only=True)
class BiLstm(Conv1dFirst):
    """Conv1D → … → bidirectional LSTM → attention → Dense → Dense."""

    name: ClassVar[str] = "bilstm"
    whole_clip: ClassVar[str] = "one of its LSTMs reads the clip from the end"

    conv_filters: tuple[int, ...] = (48, 64)
    conv_kernels: tuple[int, ...] = (5, 5)
    conv_strides: tuple[int, ...] = (1, 2)
    lstm_units: int = 64
    """Width of the LSTM's state in each direction."""
    dense_units: int = 64
    """Width of the hidden dense layer."""
    dropout: float = 0.2
    """Share of the LSTM's inputs and outputs dropped in training."""

    def hidden(self, form: Layers, x: Any) -> Any:
        layers = form.keras.layers
        x = form.convolutions(x, self.conv_filters, self.conv_kernels, self.conv_strides)
        x = form.dropout(x, self.dropout, "dropout_in")
        lstm = layers.LSTM(self.lstm_units, return_sequences=True, name="lstm")
        x = layers.Bidirectional(lstm, name="bilstm")(x)  # [batch, steps, 2 x units]
        x = form.dropout(x, self.dropout, "dropout_out")
        steps, width = x.shape[1:]
        middle = layers.Cropping1D((steps // 2, steps - steps // 2 - 1), name="middle")(x)
        query = layers.Dense(width, name="query")(middle)
        scores = layers.Dot(axes=2, name="scores")([query, x])  # [batch, 1, steps]
        weights = layers.Softmax(name="attention")(scores)
        x = layers.Dot(axes=(2, 1), name="attended")([weights, x])  # [batch, 1, 2 x units]
        return layers.Dense(self.dense_units, activation="relu", name="dense")(x)
