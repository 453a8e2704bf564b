"""Small Conv1D + LSTM models as .tflite, made with tf_keras for tests of the runner.

They are not trained: weights are random but fixed by a seed. One set of weights comes in four
files (stream or clip form, float or int8), so that each can be compared with the others and with
`reference`, a NumPy forward pass written from the layers' definitions. These four are stored in
tests/tiny_models, so that the runner can be tested where TensorFlow is not installed; make them
again with ``python tests/tiny_model.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.decide import DecisionConfig
from kws.frontend import FrontEndConfig
from kws.model_file import ModelCard, write_card

N_MFCC = 13
CLIP_FRAMES = 49
LABELS = ("_silence_", "_unknown_", "yes", "no")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Two convolutions (the second with stride 2), an LSTM and a softmax."""

    filters: int = 8
    """Channels of both convolutions."""
    kernel: int = 3
    """Width of both convolutions."""
    units: int = 8
    """Width of the LSTM's state."""
    labels: int = len(LABELS)
    """Outputs."""

    @property
    def receptive_field(self) -> int:
        """R in frames."""
        return 2 * self.kernel - 1

    stride = 2


STORED = Path(__file__).resolve().parent / "tiny_models"
Weights = dict[str, NDArray[np.float32]]


def weights(sizes: Sizes = Sizes(), seed: int = 0) -> Weights:
    """Random weights, large enough for posteriors that move."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int, gain: float) -> NDArray[np.float32]:
        fan_in = int(np.prod(shape[:-1]))
        return (gain * rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)

    f, k, u = sizes.filters, sizes.kernel, sizes.units
    return {
        "conv_0": normal(k, N_MFCC, f, gain=1.5),
        "conv_0_bias": normal(f, gain=0.3),
        "conv_1": normal(k, f, f, gain=1.5),
        "conv_1_bias": normal(f, gain=0.3),
        "lstm": normal(f, 4 * u, gain=2.0),
        "lstm_recurrent": normal(u, 4 * u, gain=1.0),
        "lstm_bias": normal(4 * u, gain=0.3),
        "dense": normal(u, sizes.labels, gain=6.0),
        "dense_bias": normal(sizes.labels, gain=0.3),
    }


def reference(x: NDArray[np.floating], w: Weights) -> NDArray[np.float64]:
    """Posteriors [steps, labels] of normalised features [T, n_mfcc], in float64 NumPy."""

    def conv(x: NDArray[np.float64], name: str, stride: int) -> NDArray[np.float64]:
        kernel = w[name].astype(np.float64)  # [k, in, out]
        windows = np.lib.stride_tricks.sliding_window_view(x, len(kernel), axis=0)[::stride]
        return np.maximum(np.einsum("tik,kio->to", windows, kernel) + w[f"{name}_bias"], 0)

    def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(-x))

    x = conv(conv(np.asarray(x, np.float64), "conv_0", 1), "conv_1", 2)
    units = len(w["lstm_recurrent"])
    h, c, outputs = np.zeros(units), np.zeros(units), []
    for row in x:
        # Keras' order of gates: input, forget, candidate, output.
        i, f, g, o = np.split(row @ w["lstm"] + h @ w["lstm_recurrent"] + w["lstm_bias"], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h @ w["dense"] + w["dense_bias"])
    logits = np.array(outputs).reshape(-1, w["dense"].shape[1])
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def tiny_tflite(*, form: str, int8: bool, sizes: Sizes = Sizes(), seed: int = 0) -> bytes:
    """One of the four files, without a card."""
    if (sizes, seed) == (Sizes(), 0):
        return (STORED / f"{form}_{'int8' if int8 else 'float'}.tflite").read_bytes()
    return convert(form=form, int8=int8, sizes=sizes, seed=seed)


@lru_cache(maxsize=8)
def convert(*, form: str, int8: bool, sizes: Sizes = Sizes(), seed: int = 0) -> bytes:
    """Make one of the four files (needs TensorFlow, takes seconds)."""
    import tensorflow as tf
    import tf_keras

    layers = tf_keras.layers
    frames = sizes.receptive_field if form == "stream" else CLIP_FRAMES
    inputs = tf_keras.Input((frames, N_MFCC), batch_size=1)
    y = layers.Conv1D(sizes.filters, sizes.kernel, activation="relu")(inputs)
    y = layers.Conv1D(sizes.filters, sizes.kernel, 2, activation="relu")(y)
    y = layers.LSTM(sizes.units, return_sequences=True)(y)
    y = layers.Dense(sizes.labels, activation="softmax")(y)
    model = tf_keras.Model(inputs, y)
    model.set_weights(list(weights(sizes, seed).values()))
    call = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        tf.TensorSpec((1, frames, N_MFCC), tf.float32)
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([call], model)
    if int8:
        rng = np.random.default_rng(1)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        converter.representative_dataset = lambda: (
            [rng.standard_normal((1, frames, N_MFCC)).astype(np.float32)] for _ in range(50)
        )
    return bytes(converter.convert())


def card(*, form: str, sizes: Sizes = Sizes(), **changes: object) -> ModelCard:
    """A card that fits the file of this form."""
    words = LABELS + tuple(f"word{i}" for i in range(len(LABELS), sizes.labels))
    values: dict[str, object] = {
        "name": "tiny",
        "license": "CC0-1.0",
        "labels": words,
        "keywords": words[2:],
        "head": "softmax",
        "form": form,
        "receptive_field_frames": sizes.receptive_field,
        "stride_frames": sizes.stride,
        "clip_frames": CLIP_FRAMES,
        "front_end": FrontEndConfig(),
        "feature_mean": (-10.0, 2.0, *(0.5,) * 11),
        "feature_std": (12.0, 3.0, *(2.0,) * 11),
        "decision": DecisionConfig(thresholds=dict.fromkeys(words[2:], 0.6)),
        "provenance": {"recipe": "none", "seed": 0},
    }
    return ModelCard(**(values | changes))  # type: ignore[arg-type]


def write_tiny(path: Path, *, form: str = "stream", int8: bool = True, **changes: object) -> Path:
    """Write a whole model file, card included."""
    path.write_bytes(write_card(tiny_tflite(form=form, int8=int8), card(form=form, **changes)))
    return path


if __name__ == "__main__":
    for wanted_form in ("stream", "clip"):
        for kind in ("int8", "float"):
            made = convert(form=wanted_form, int8=kind == "int8")
            (STORED / f"{wanted_form}_{kind}.tflite").write_bytes(made)
