"""Conv1D layers, then a GRU (Cho et al., arXiv 1406.1078), then Dense.

TFLite has no operator for a GRU. Over a whole clip its steps are written out one after the other,
at 12 kB for each, so the convolutions in front leave it ten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from kws.models.architecture import Architecture, Layers, one_per_layer


@dataclass(frozen=True, kw_only=True)
class Gru(Architecture):
    """Conv1D → … → GRU → Dense."""

    whole_clip: ClassVar[str] = (
        "TFLite has no GRU that keeps its state: its steps are written out for a whole clip"
    )

    conv_filters: tuple[int, ...] = (64, 80)
    """Output channels of each convolution."""
    conv_kernels: tuple[int, ...] = (5, 5)
    """Frames (or, after a stride, steps) that each convolution sees."""
    conv_strides: tuple[int, ...] = (2, 2)
    """Stride of each convolution."""
    gru_units: int = 96
    """Width of the GRU's state."""
    dropout: float = 0.2
    """Share of the GRU's inputs and outputs that are dropped in training."""

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
        x = layers.GRU(self.gru_units, unroll=folded, name="gru")(x)
        x = form.dropout(x, self.dropout, "dropout_out")
        x = layers.Reshape((1, self.gru_units), name="answer")(x)
        outputs = layers.Dense(n_labels, activation=head, name="posteriors")(x)
        return keras.Model(inputs, outputs, name="gru")
