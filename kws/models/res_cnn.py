"""Residual convolutions over time and frequency.

After res8 in Tang and Lin, "Deep Residual Learning for Small-Footprint Keyword Spotting" (arXiv
1710.10361), but with normalisation right after each convolution, where it can be folded, and a
smaller pool, since there are 13 features instead of 40.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from kws.models.architecture import Architecture, Layers


@dataclass(frozen=True, kw_only=True)
class ResCnn(Architecture):
    """Conv2D → pool → (Conv2D → Conv2D, added to their input) … → mean → Dense."""

    name: ClassVar[str] = "res_cnn"
    whole_clip: ClassVar[str] = "it averages over the whole clip"

    filters: int = 45
    """Channels of every convolution (19 in the paper's narrow form)."""
    blocks: int = 3
    """Pairs of convolutions with a residual connection."""
    pool: tuple[int, int] = (4, 2)
    """Frames and features averaged after the first convolution."""
    dropout: float = 0.2
    """Share of the averages dropped in training."""

    def hidden(self, form: Layers, x: Any) -> Any:
        layers = form.keras.layers

        def convolution(x: Any, name: str, relu: bool = True) -> Any:
            sizes = (self.filters, 3)
            return form.normalised(x, layers.Conv2D, *sizes, padding="same", relu=relu, name=name)

        x = convolution(form.picture(x), "first")
        x = layers.AveragePooling2D(self.pool, name="pool")(x)
        for i in range(self.blocks):
            y = convolution(convolution(x, f"block_{i}_a"), f"block_{i}_b", relu=False)
            x = layers.ReLU(name=f"block_{i}_out")(layers.Add(name=f"block_{i}_sum")([x, y]))
        return form.dropout(form.mean_over_clip(x), self.dropout, "dropout")
