"""The flagship: Conv1D layers over MFCC frames, one of them strided, then one LSTM, then Dense.

All convolutions are valid (no padding), so that audio gives the same posteriors whether it arrives
as one clip or frame by frame: a step needs the last `receptive_field_frames` frames, and everything
older is in the LSTM's state. The architecture follows the CRNN of Arik et al., "Convolutional
Recurrent Neural Networks for Small-Footprint Keyword Spotting" (arXiv 1703.05390), in one
dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from kws.models.architecture import Conv1dFirst, Layers


@dataclass(frozen=True, kw_only=True)
class ConvLstm(Conv1dFirst):
    """Conv1D → … → LSTM → Dense; a softmax head for several words, a sigmoid for one."""

    name: ClassVar[str] = "conv_lstm"
    norm_momentum: ClassVar[float] = 0.99

    conv_filters: tuple[int, ...] = (64, 64)
    conv_kernels: tuple[int, ...] = (5, 5)
    conv_strides: tuple[int, ...] = (1, 2)
    lstm_units: int = 96
    """Width of the LSTM's state."""
    dropout: float = 0.2
    """Share of the LSTM's inputs and outputs dropped in training."""

    def hidden(self, form: Layers, x: Any) -> Any:
        layers = form.keras.layers
        x = form.convolutions(x, self.conv_filters, self.conv_kernels, self.conv_strides)
        x = form.dropout(x, self.dropout, "dropout_in")
        x = layers.LSTM(self.lstm_units, return_sequences=True, name="lstm")(x)
        return form.dropout(x, self.dropout, "dropout_out")
