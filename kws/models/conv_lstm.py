"""The flagship: Conv1D layers over MFCC frames, one of them strided, then one LSTM, then Dense.

All convolutions are valid (no padding), so that a stretch of audio gives the same posteriors
whether it arrives as one clip or frame by frame: the network needs the last
`receptive_field_frames` frames for a step, and everything older lives in the LSTM's state.
The form follows the CRNN of Arik et al., "Convolutional Recurrent Neural Networks for
Small-Footprint Keyword Spotting" (arXiv 1703.05390), in one dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kws.models.architecture import Architecture, Layers, one_per_layer


@dataclass(frozen=True, kw_only=True)
class ConvLstm(Architecture):
    """Conv1D → … → LSTM → Dense; a softmax head for several words, a sigmoid for one."""

    conv_filters: tuple[int, ...] = (64, 64)
    """Output channels of each convolution."""
    conv_kernels: tuple[int, ...] = (5, 5)
    """Frames (or, after a stride, steps) that each convolution sees."""
    conv_strides: tuple[int, ...] = (1, 2)
    """Stride of each convolution; their product is the number of frames for one LSTM step."""
    lstm_units: int = 96
    """Width of the LSTM's state."""
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
        layers, form = keras.layers, Layers(keras, folded, momentum=0.99)
        inputs = keras.Input((frames, n_features), batch_size=batch_size, name="features")
        x = form.convolutions(inputs, self.conv_filters, self.conv_kernels, self.conv_strides)
        x = form.dropout(x, self.dropout, "dropout_in")
        x = layers.LSTM(self.lstm_units, return_sequences=True, name="lstm")(x)
        x = form.dropout(x, self.dropout, "dropout_out")
        outputs = layers.Dense(n_labels, activation=head, name="posteriors")(x)
        return keras.Model(inputs, outputs, name="conv_lstm")
