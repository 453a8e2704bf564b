"""Conv1D layers, then a GRU (Cho et al., arXiv 1406.1078), then Dense.

TFLite has no GRU operator. Over a whole clip it is unrolled, at 12 kB per step, so the convolutions
before it reduce the clip to ten steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from kws.models.architecture import Conv1dFirst, Layers


@dataclass(frozen=True, kw_only=True)
class Gru(Conv1dFirst):
    """Conv1D → … → GRU → Dense."""

    name: ClassVar[str] = "gru"
    whole_clip: ClassVar[str] = (
        "TFLite has no GRU that keeps its state, so it is unrolled over a whole clip"
    )

    conv_filters: tuple[int, ...] = (64, 80)
    conv_kernels: tuple[int, ...] = (5, 5)
    conv_strides: tuple[int, ...] = (2, 2)
    gru_units: int = 96
    """Width of the GRU's state."""
    dropout: float = 0.2
    """Share of the GRU's inputs and outputs dropped in training."""

    def hidden(self, form: Layers, x: Any) -> Any:
        layers = form.keras.layers
        x = form.convolutions(x, self.conv_filters, self.conv_kernels, self.conv_strides)
        x = form.dropout(x, self.dropout, "dropout_in")
        x = layers.GRU(self.gru_units, unroll=form.folded, name="gru")(x)
        x = form.dropout(x, self.dropout, "dropout_out")
        return layers.Reshape((1, self.gru_units), name="answer")(x)
