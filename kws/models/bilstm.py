"""A bidirectional LSTM with attention over its steps.

After de Andrade et al., "A neural attention model for speech command recognition"
(arXiv 1808.08929): convolutions, a bidirectional LSTM, and a query made of its middle step that
weighs all steps by their dot product with it. Here the convolutions are in one dimension and there
is one LSTM each way instead of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from kws.models.architecture import Architecture, Layers, one_per_layer


@dataclass(frozen=True, kw_only=True)
class BiLstm(Architecture):
    """Conv1D → … → bidirectional LSTM → attention → Dense → Dense."""

    whole_clip: ClassVar[str] = "one of its LSTMs reads the clip from the end"

    conv_filters: tuple[int, ...] = (48, 64)
    """Output channels of each convolution."""
    conv_kernels: tuple[int, ...] = (5, 5)
    """Frames (or, after a stride, steps) that each convolution sees."""
    conv_strides: tuple[int, ...] = (1, 2)
    """Stride of each convolution."""
    lstm_units: int = 64
    """Width of the LSTM's state, each way."""
    dense_units: int = 64
    """Width of the hidden dense layer."""
    dropout: float = 0.2
    """Share of the LSTM's inputs and outputs that are dropped in training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_per_layer(
            conv_filters=self.conv_filters,
            conv_kernels=self.conv_kernels,
            conv_strides=self.conv_strides,
        )

    @property
    def time_layers(self) -> tuple[tuple[int, int], ...]:
        return tuple(zip(self.conv_kernels, self.conv_strides, strict=True))

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
        x = form.convolutions(inputs, self.conv_filters, self.conv_kernels, self.conv_strides)
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
        x = layers.Dense(self.dense_units, activation="relu", name="dense")(x)
        outputs = layers.Dense(n_labels, activation=head, name="posteriors")(x)
        return keras.Model(inputs, outputs, name="bilstm")
