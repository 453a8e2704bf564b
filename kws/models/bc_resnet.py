"""BC-ResNet: residual blocks of convolutions over frequency and, averaged over it, over time.

Kim et al., "Broadcasted Residual Learning for Efficient Keyword Spotting" (arXiv 2106.04140), on
its 40 log-mel features: layers as in table 1, blocks as in figure 2, with normalisation and
activation in the order of the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from kws.errors import KwsError
from kws.models.architecture import Architecture, Layers

BANDS = 5
"""Frequency bands that are normalised separately (Chang et al., "SubSpectral Normalization for
Neural Audio Data Processing", arXiv 2103.13620)."""
STAGES = ((2, 8, 1, 1), (2, 12, 2, 2), (4, 16, 2, 4), (4, 20, 1, 8))
"""For each stage: blocks, channels at a scale of 1, stride over frequency, dilation in time."""


@dataclass(frozen=True, kw_only=True)
class BcResNet(Architecture):
    """Conv2D → 12 broadcasted-residual blocks in 4 stages → two convolutions → mean → Dense."""

    name: ClassVar[str] = "bc_resnet"
    whole_clip: ClassVar[str] = "it averages over the whole clip"
    features: ClassVar[str] = "log_mel"

    scale: int = 1
    """The number in the paper's names: 1, 2, 3, 6 or 8 times the channels of BC-ResNet-1."""
    dropout: float = 0.1
    """Share of the channels dropped in training at the end of each block."""

    def hidden(self, form: Layers, x: Any) -> Any:
        n_features = x.shape[2]
        if n_features % (8 * BANDS):
            raise KwsError(
                f"bc_resnet needs a multiple of {8 * BANDS} features: it halves them three times "
                f"and then splits them into {BANDS} bands. Received: {n_features}. Set [front_end] "
                f'features = "log_mel" and n_mels = {8 * BANDS}'
            )
        layers = form.keras.layers
        x = form.normalised(
            form.picture(x), layers.Conv2D, 16 * self.scale, 5, (1, 2), padding="same",
            name="first",
        )  # fmt: skip
        for number, (blocks, channels, stride, dilation) in enumerate(STAGES):
            for i in range(blocks):
                x = self._block(
                    form, x, channels * self.scale, stride if i == 0 else 1, dilation,
                    transition=i == 0, name=f"block_{number}_{i}",
                )  # fmt: skip
        # A kernel over all 5 remaining frequencies: padded only in time.
        x = layers.ZeroPadding2D(((2, 2), (0, 0)), name="last_pad")(x)
        x = layers.DepthwiseConv2D(5, use_bias=False, name="last_depthwise")(x)
        x = form.normalised(x, layers.Conv2D, 32 * self.scale, 1, name="last")
        return form.mean_over_clip(x)

    def _block(
        self, form: Layers, x: Any, channels: int, stride: int, dilation: int, *,
        transition: bool, name: str,
    ) -> Any:  # fmt: skip
        """Apply one block; with a change of channels (`transition`) it has no identity path."""
        layers = form.keras.layers
        start = x
        if transition:
            x = form.normalised(x, layers.Conv2D, channels, 1, name=f"{name}_change")
        x = layers.DepthwiseConv2D(
            (1, 3), padding="same", use_bias=False, name=f"{name}_frequency"
        )(x)
        if stride > 1:
            # Depthwise convolutions need equal strides: this picks every other frequency.
            x = layers.MaxPooling2D(1, (1, stride), name=f"{name}_stride")(x)
        x = self._by_band(form, x, f"{name}_bands")
        # The mean over frequency, convolved over time, is added to every frequency.
        y = layers.AveragePooling2D((1, x.shape[2]), name=f"{name}_mean")(x)
        y = form.normalised(
            y, layers.DepthwiseConv2D, (3, 1), padding="same", dilation_rate=(dilation, 1),
            relu=False, name=f"{name}_time",
        )  # fmt: skip
        y = layers.Activation("swish", name=f"{name}_swish")(y)
        y = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_mix")(y)
        if not form.folded and self.dropout:
            y = layers.SpatialDropout2D(self.dropout, name=f"{name}_dropout")(y)
        x = layers.Add(name=f"{name}_broadcast")([x, y])
        if not transition:
            x = layers.Add(name=f"{name}_sum")([x, start])
        return layers.ReLU(name=f"{name}_out")(x)

    def _by_band(self, form: Layers, x: Any, name: str) -> Any:
        """Normalise each channel of each frequency band: [batch, time, frequency, channels].

        It cannot be folded, since no convolution before it has separate weights per band.
        """
        layers = form.keras.layers
        frequencies, channels = x.shape[2:]
        each = frequencies // BANDS
        x = layers.Reshape((-1, BANDS, each, channels), name=f"{name}_split")(x)
        x = layers.Permute((1, 3, 2, 4), name=f"{name}_out")(x)
        x = layers.Reshape((-1, each, BANDS * channels), name=f"{name}_apart")(x)
        x = form.batch_normalisation(x, name)
        x = layers.Reshape((-1, each, BANDS, channels), name=f"{name}_joined")(x)
        x = layers.Permute((1, 3, 2, 4), name=f"{name}_back")(x)
        return layers.Reshape((-1, frequencies, channels), name=f"{name}_together")(x)
