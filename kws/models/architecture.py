"""The interface of an architecture to training and export, and what several architectures share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from kws.errors import KwsError


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes of a network, as given in a recipe's ``[model]`` table, and how to build it.

    A network that can follow a stream uses no padding over time: each step looks at the last
    `receptive_field_frames` frames, and everything older is in the state of its LSTMs. One that
    cannot takes a clip as a whole and answers once; `whole_clip` gives the reason.
    """

    name: ClassVar[str]
    """Its name in recipes."""
    whole_clip: ClassVar[str] = ""
    """Why this network takes whole clips and cannot follow a stream; empty if it can."""
    features: ClassVar[str] = "any"
    """The kind of features it needs (`kws.frontend.FEATURES`), or ``"any"``."""
    norm_momentum: ClassVar[float] = 0.9
    """How much of its old statistics a normalisation keeps with each batch. With Keras' 0.99 those
    of a deep network lag so far behind its weights that validation is meaningless for many epochs
    (`ds_cnn` after three: 11 % of clips right, but 69 % with the batches' own statistics)."""

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            for number in value if isinstance(value, tuple) else (value,):
                share = f.name.startswith("dropout")
                if not (0 <= number < 1 if share else number >= 1):
                    allowed = "in [0, 1)" if share else "1 or more"
                    raise KwsError(f"[model] {f.name} must be {allowed}. Received: {value}")

    @property
    def time_layers(self) -> tuple[tuple[int, int], ...]:
        """Kernel and stride over time of each layer before the first LSTM, in order."""
        return ()

    @property
    def receptive_field_frames(self) -> int:
        """Frames that one output step looks at; for a network that takes whole clips, the fewest
        that give its first LSTM a step."""
        frames, stride = 1, 1
        for kernel, step in self.time_layers:
            frames += (kernel - 1) * stride
            stride *= step
        return frames

    @property
    def stride_frames(self) -> int:
        """New frames for each output step of a streaming network."""
        stride = 1
        for _, step in self.time_layers:
            stride *= step
        return stride

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
        """Build the network with Keras 3 (to train) or tf_keras (to export).

        Args:
            keras: the module ``keras`` or ``tf_keras``; both have the layers used here.
            n_features: features per frame.
            n_labels: outputs.
            head: ``"softmax"`` or ``"sigmoid"``.
            frames: length of the input; None for any length. Required for a network that takes
                whole clips.
            batch_size: fixed batch size; None for any.
            folded: without dropout, and with a bias in the convolutions instead of batch
                normalisation.

        Returns:
            A model from normalised features [batch, frames, n_features] to posteriors
            [batch, steps, n_labels]. Steps are (frames - R) // S + 1, of which the last is a clip's
            answer; a network that takes whole clips has one. Weighted layers are named; the
            normalisation after ``X`` is named ``X_norm``.
        """
        form = Layers(keras, folded, self.norm_momentum)
        inputs = keras.Input((frames, n_features), batch_size=batch_size, name="features")
        answer = keras.layers.Dense(n_labels, activation=head, name="posteriors")
        return keras.Model(inputs, answer(self.hidden(form, inputs)), name=self.name)

    def hidden(self, form: Layers, x: Any) -> Any:
        """Apply all layers except the output layer.

        Args:
            form: what to build them with.
            x: normalised features [batch, frames, n_features].

        Returns:
            Input of the output layer, [batch, steps, width].
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Conv1dFirst(Architecture):
    """A network that starts with convolutions over time."""

    conv_filters: tuple[int, ...]
    """Output channels of each convolution."""
    conv_kernels: tuple[int, ...]
    """Frames (or, after a stride, steps) that each convolution sees."""
    conv_strides: tuple[int, ...]
    """Stride of each convolution; their product is the number of frames per step after them."""

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


@dataclass(frozen=True)
class Layers:
    """Layers in the forms that most architectures use."""

    keras: Any
    """The Keras to build with."""
    folded: bool
    """Without normalisation and dropout, see `Architecture.build`."""
    momentum: float
    """How much of its old statistics a normalisation keeps with each batch."""

    def normalised(self, x: Any, layer: Any, *sizes: Any, relu: bool = True, **options: Any) -> Any:
        """Apply a convolution ``X``, batch normalisation ``X_norm`` and optionally ReLU."""
        name = options["name"]
        x = layer(*sizes, use_bias=self.folded, **options)(x)
        if not self.folded:
            x = self.batch_normalisation(x, f"{name}_norm")
        return self.keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x

    def batch_normalisation(self, x: Any, name: str) -> Any:
        """Apply a batch normalisation on its own."""
        return self.keras.layers.BatchNormalization(momentum=self.momentum, name=name)(x)

    def convolutions(
        self, x: Any, filters: Sequence[int], kernels: Sequence[int], strides: Sequence[int]
    ) -> Any:
        """Apply Conv1D layers without padding, ``conv_0``, ``conv_1``, …"""
        for i, sizes in enumerate(zip(filters, kernels, strides, strict=True)):
            x = self.normalised(x, self.keras.layers.Conv1D, *sizes, name=f"conv_{i}")
        return x

    def dropout(self, x: Any, share: float, name: str) -> Any:
        """Apply dropout of this share."""
        if self.folded or not share:
            return x
        return self.keras.layers.Dropout(share, name=name)(x)

    def picture(self, x: Any) -> Any:
        """Reshape features [batch, time, features] to an image with one channel."""
        return self.keras.layers.Reshape((-1, x.shape[2], 1), name="picture")(x)

    def mean_over_clip(self, x: Any) -> Any:
        """Average over time and frequency, [batch, time, frequency, channels] → [batch, 1, …]."""
        layers = self.keras.layers
        x = layers.AveragePooling2D(tuple(x.shape[1:3]), name="mean")(x)
        return layers.Reshape((1, x.shape[-1]), name="mean_flat")(x)


def one_per_layer(**sizes: tuple[int, ...]) -> None:
    """Refuse sizes that are not all given for the same number of layers."""
    if len({len(values) for values in sizes.values()}) != 1:
        raise KwsError(
            f"[model] {', '.join(sizes)} need one entry for each layer. "
            f"Received: {', '.join(str(list(values)) for values in sizes.values())}"
        )
