"""DS-CNN, the keyword spotter of the MLPerf Tiny benchmark: depthwise-separable convolutions.

Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers" (arXiv 1711.07128), in the size of
MLPerf Tiny (Banbury et al., arXiv 2106.07597): a convolution of 64 channels over 10 frames and 4
features with stride 2, four separable blocks of 64, an average. The original has 49 × 10 MFCC;
here there are as many as the front end gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from kws.models.architecture import Architecture, Layers


@dataclass(frozen=True, kw_only=True)
class DsCnn(Architecture):
    """Conv2D → (DepthwiseConv2D 3 × 3 → Conv2D 1 × 1) … → mean over the clip → Dense."""

    name: ClassVar[str] = "ds_cnn"
    whole_clip: ClassVar[str] = "it averages over the whole clip"

    filters: int = 64
    """Channels of every layer."""
    first_kernel: tuple[int, int] = (10, 4)
    """Frames and features that the first convolution sees."""
    first_strides: tuple[int, int] = (2, 2)
    """Its strides."""
    blocks: int = 4
    """Depthwise-separable blocks."""
    dropout_first: float = 0.2
    """Share of the first convolution's outputs dropped in training."""
    dropout: float = 0.4
    """Share of the last block's outputs dropped in training."""

    def hidden(self, form: Layers, x: Any) -> Any:
        layers = form.keras.layers
        x = form.normalised(
            form.picture(x),
            layers.Conv2D,
            self.filters,
            self.first_kernel,
            self.first_strides,
            padding="same",
            name="first",
        )
        x = form.dropout(x, self.dropout_first, "dropout_first")
        for i in range(self.blocks):
            x = form.normalised(x, layers.DepthwiseConv2D, 3, padding="same", name=f"depthwise_{i}")
            x = form.normalised(x, layers.Conv2D, self.filters, 1, name=f"pointwise_{i}")
        return form.mean_over_clip(form.dropout(x, self.dropout, "dropout"))
