"""Textbook convolutions over time and frequency.

After Sainath and Parada, "Convolutional Neural Networks for Small-footprint Keyword Spotting"
(Interspeech 2015), with an average over the clip in place of the large dense layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from kws.models.architecture import Architecture, Layers


@dataclass(frozen=True, kw_only=True)
class Cnn2d(Architecture):
    """(Conv2D 3 × 3 → MaxPool) … → mean over the clip → Dense."""

    name: ClassVar[str] = "cnn2d"
    whole_clip: ClassVar[str] = "it averages over the whole clip"

    conv_filters: tuple[int, ...] = (32, 64, 96)
    """Output channels of each convolution; time and frequency are halved between two of them."""
    dropout: float = 0.3
    """Share of the averages dropped in training."""

    def hidden(self, form: Layers, x: Any) -> Any:
        layers = form.keras.layers
        x = form.picture(x)
        for i, filters in enumerate(self.conv_filters):
            if i:
                x = layers.MaxPooling2D(2, name=f"pool_{i}")(x)
            x = form.normalised(x, layers.Conv2D, filters, 3, padding="same", name=f"conv_{i}")
        return form.dropout(form.mean_over_clip(x), self.dropout, "dropout")
