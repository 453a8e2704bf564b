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

from kws.errors import KwsError


@dataclass(frozen=True, kw_only=True)
class ConvLstm:
    """Sizes of the network, as they stand in a recipe's ``[model]`` table."""

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
        lengths = {len(self.conv_filters), len(self.conv_kernels), len(self.conv_strides)}
        if len(lengths) != 1:
            raise KwsError(
                "conv_filters, conv_kernels and conv_strides need one entry for each convolution. "
                f"Received: {self.conv_filters}, {self.conv_kernels}, {self.conv_strides}"
            )
        sizes = (*self.conv_filters, *self.conv_kernels, *self.conv_strides, self.lstm_units)
        if min(sizes) < 1 or not 0 <= self.dropout < 1:
            raise KwsError(
                f"conv_lstm: sizes must be 1 or more, dropout in [0, 1). Received: {self}"
            )

    @property
    def receptive_field_frames(self) -> int:
        """MFCC frames that one LSTM step looks at."""
        frames, stride = 1, 1
        for kernel, step in zip(self.conv_kernels, self.conv_strides, strict=True):
            frames += (kernel - 1) * stride
            stride *= step
        return frames

    @property
    def stride_frames(self) -> int:
        """New MFCC frames for each LSTM step."""
        stride = 1
        for step in self.conv_strides:
            stride *= step
        return stride

    def build(
        self,
        keras: Any,
        *,
        n_mfcc: int,
        n_labels: int,
        head: str,
        frames: int | None = None,
        batch_size: int | None = None,
        folded: bool = False,
    ) -> Any:
        """Build the network with Keras 3 (to train) or tf_keras (to export).

        Args:
            keras: the module ``keras`` or ``tf_keras``; both have the layers used here.
            n_mfcc: coefficients in a frame.
            n_labels: outputs.
            head: ``"softmax"`` or ``"sigmoid"``.
            frames: length of the input; None for any length.
            batch_size: fixed batch size; None for any.
            folded: leave batch normalisation out and give the convolutions a bias instead.

        Returns:
            A model from normalised features [batch, frames, n_mfcc] to posteriors
            [batch, steps, n_labels], steps = (frames - R) // S + 1. A clip's answer is its last
            step. Weighted layers are named; the normalisation after ``X`` is named ``X_norm``.
        """
        layers = keras.layers
        inputs = keras.Input((frames, n_mfcc), batch_size=batch_size, name="features")
        x = inputs
        sizes = zip(self.conv_filters, self.conv_kernels, self.conv_strides, strict=True)
        for i, (filters, kernel, stride) in enumerate(sizes):
            x = layers.Conv1D(filters, kernel, stride, use_bias=folded, name=f"conv_{i}")(x)
            if not folded:
                x = layers.BatchNormalization(name=f"conv_{i}_norm")(x)
            x = layers.ReLU(name=f"conv_{i}_relu")(x)
        if self.dropout and not folded:
            x = layers.Dropout(self.dropout, name="dropout_in")(x)
        x = layers.LSTM(self.lstm_units, return_sequences=True, name="lstm")(x)
        if self.dropout and not folded:
            x = layers.Dropout(self.dropout, name="dropout_out")(x)
        outputs = layers.Dense(n_labels, activation=head, name="posteriors")(x)
        return keras.Model(inputs, outputs, name="conv_lstm")
