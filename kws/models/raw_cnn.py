"""Convolutions on the samples themselves, without a front end.

A narrow M5 from Dai et al., "Very Deep Convolutional Neural Networks for Raw Waveforms" (arXiv
1610.00087): a long kernel in place of the filter bank, then short ones, each followed by pooling,
then an average. Quantised, the samples have 8 bits, which hurts quiet speech.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from kws.models.architecture import Conv1dFirst, Layers


@dataclass(frozen=True, kw_only=True)
class RawCnn(Conv1dFirst):
    """(Conv1D → MaxPool) … → mean over the clip → Dense, on frames laid end to end.

    The front end's frames must not overlap (``hop_length = frame_length``), or samples are used
    twice.
    """

    name: ClassVar[str] = "raw_cnn"
    whole_clip: ClassVar[str] = "it averages over the whole clip"
    features: ClassVar[str] = "samples"

    conv_filters: tuple[int, ...] = (32, 32, 64, 64)
    """Output channels of each convolution."""
    conv_kernels: tuple[int, ...] = (80, 3, 3, 3)
    """Samples (or, after a stride, steps) that each convolution sees."""
    conv_strides: tuple[int, ...] = (8, 1, 1, 1)
    """Stride of each convolution."""
    pool: int = 4
    """Steps over which the maximum is taken after each convolution."""
    dropout: float = 0.2
    """Share of the averages dropped in training."""

    @property
    def time_layers(self) -> tuple[tuple[int, int], ...]:
        return ()  # its kernels and strides count samples, not frames

    def hidden(self, form: Layers, x: Any) -> Any:
        layers = form.keras.layers
        x = layers.Reshape((-1, 1), name="waveform")(x)
        sizes = zip(self.conv_filters, self.conv_kernels, self.conv_strides, strict=True)
        for i, each in enumerate(sizes):
            x = form.normalised(x, layers.Conv1D, *each, name=f"conv_{i}")
            x = layers.MaxPooling1D(self.pool, name=f"pool_{i}")(x)
        x = layers.Reshape((x.shape[1], 1, x.shape[2]), name="steps")(x)
        return form.dropout(form.mean_over_clip(x), self.dropout, "dropout")
