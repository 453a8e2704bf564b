"""Conv2D layers over time and frequency, then an LSTM: the CRNN in two dimensions.

After Arik et al., "Convolutional Recurrent Neural Networks for Small-Footprint Keyword Spotting"
(arXiv 1703.05390), but with a forward LSTM only and convolutions without padding, so that it
streams.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from kws.models.architecture import Architecture, Layers, one_per_layer


@dataclass(frozen=True, kw_only=True)
class CnnLstm(Architecture):
    """Conv2D → … → LSTM → Dense."""

    name: ClassVar[str] = "cnn_lstm"

    conv_filters: tuple[int, ...] = (32, 32)
    """Output channels of each convolution."""
    time_kernels: tuple[int, ...] = (5, 5)
    """Frames (or, after a stride, steps) that each convolution sees."""
    time_strides: tuple[int, ...] = (1, 2)
    """Stride over time of each convolution."""
    feature_kernels: tuple[int, ...] = (4, 3)
    """Neighbouring features that each convolution sees."""
    feature_strides: tuple[int, ...] = (2, 1)
    """Stride over the features of each convolution."""
    lstm_units: int = 96
    """Width of the LSTM's state."""
    dropout: float = 0.2
    """Share of the LSTM's inputs and outputs dropped in training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_per_layer(
            conv_filters=self.conv_filters,
            time_kernels=self.time_kernels,
            time_strides=self.time_strides,
            feature_kernels=self.feature_kernels,
            feature_strides=self.feature_strides,
        )

    @property
    def time_layers(self) -> tuple[tuple[int, int], ...]:
        return tuple(zip(self.time_kernels, self.time_strides, strict=True))

    def hidden(self, form: Layers, x: Any) -> Any:
        layers = form.keras.layers
        x = form.picture(x)
        kernels = zip(self.time_kernels, self.feature_kernels, strict=True)
        strides = zip(self.time_strides, self.feature_strides, strict=True)
        for i, sizes in enumerate(zip(self.conv_filters, kernels, strides, strict=True)):
            x = form.normalised(x, layers.Conv2D, *sizes, name=f"conv_{i}")
        x = layers.Reshape((-1, x.shape[2] * x.shape[3]), name="steps")(x)
        x = form.dropout(x, self.dropout, "dropout_in")
        x = layers.LSTM(self.lstm_units, return_sequences=True, name="lstm")(x)
        return form.dropout(x, self.dropout, "dropout_out")
