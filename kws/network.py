"""The neural network of a model file: MFCC frames in, posteriors out, state carried in between.

"MFCC" here stands for whatever features the file's front end computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError
from kws.model_file import ModelCard
from kws.model_file.card import load_model_bytes
from kws.runtime import open_interpreter


class Network:
    """Runs a model file on raw (not normalised) MFCC.

    The file's input is the normalised feature (x - mean) / std. For an int8 file, this and the
    input tensor's quantisation are one multiplication and one addition in float32,
    ``q = rint(x * gain + offset)`` with ``gain = 1 / (std * scale)`` and
    ``offset = zero_point - mean * gain``, ties to even, saturated to -128…127.

    Example:
        >>> network = Network("model.tflite")  # doctest: +SKIP
        >>> features = features_of(pcm, network.card.front_end)  # doctest: +SKIP
        >>> network.run(features)[-1]  # a clip's answer  # doctest: +SKIP
    """

    card: ModelCard
    """The file's model card."""

    def __init__(self, path_or_name: str | Path, threads: int = 1) -> None:
        """Load a model file, or a pretrained model by its name.

        Raises:
            KwsError: no such model, it has no card, its tensors do not match the card, no runtime.
        """
        self.card, content = load_model_bytes(path_or_name)
        self._interpreter = open_interpreter(content, threads)
        try:
            inputs = self._interpreter.get_input_details()
            outputs = self._interpreter.get_output_details()
        except ValueError as error:  # a tensor's name is not UTF-8
            raise KwsError(
                f"{path_or_name} is damaged: {error}. Copy or export it again"
            ) from error
        card = self.card
        frames = card.receptive_field_frames if card.form == "stream" else card.clip_frames
        expected = (
            (1, frames, card.front_end.n_features),
            (1, card.n_steps(frames), len(card.labels)),
        )
        received = tuple(
            tuple(int(n) for n in details[0]["shape"]) if len(details) == 1 else ()
            for details in (inputs, outputs)
        )
        types = {np.dtype(details[0]["dtype"]) for details in (inputs, outputs)}
        if received != expected or types not in ({np.dtype(np.int8)}, {np.dtype(np.float32)}):
            raise KwsError(
                f"{path_or_name}: the network does not match its model card. "
                f"Received: input and output {received[0]}, {received[1]} of type "
                f"{' and '.join(sorted(t.name for t in types))}; expected "
                f"{expected[0]}, {expected[1]} of int8 or float32. Export the model again"
            )
        self.input_tensor = _tensor_info(inputs[0])
        """Type, shape and quantisation of the input."""
        self.output_tensor = _tensor_info(outputs[0])
        """Type, shape and quantisation of the output."""
        self._input_index = inputs[0]["index"]
        self._output_index = outputs[0]["index"]
        self._input_frames = frames
        self.quantised = np.dtype(np.int8) in types
        """Whether input and output are int8."""
        mean = np.array(card.feature_mean, np.float64)
        gain = 1.0 / np.array(card.feature_std, np.float64)
        zero_point = 0
        if self.quantised:
            scale, zero_point = inputs[0]["quantization"]
            gain /= scale
            self._output_scale, self._output_zero_point = outputs[0]["quantization"]
        self._gain = gain.astype(np.float32)
        self._offset = (zero_point - mean * gain).astype(np.float32)

    def reset(self) -> None:
        """Set the LSTM's state to zero."""
        try:
            self._interpreter.reset_all_variables()
        except RuntimeError as error:
            raise self._damaged(error) from error

    def prepare(self, features: NDArray[np.floating]) -> NDArray[np.generic]:
        """Return raw MFCC [..., n_features] as input: normalised, quantised if int8."""
        x = np.asarray(features, np.float32) * self._gain + self._offset
        if not self.quantised:
            return x
        return np.clip(np.rint(x), -128, 127).astype(np.int8)

    def invoke(self, prepared: NDArray[np.generic]) -> NDArray[np.float32]:
        """Run the network once.

        Args:
            prepared: from `prepare`; [R, n_features] in stream form, else
                [clip_frames, n_features].

        Returns:
            Posteriors, float32 [steps, labels] (one step in stream form).
        """
        self._interpreter.set_tensor(self._input_index, prepared[np.newaxis])
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise self._damaged(error) from error
        return self.as_posteriors(self._interpreter.get_tensor(self._output_index)[0])

    def as_posteriors(self, output: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return the output tensor's values [steps, labels] as posteriors, dequantised if int8."""
        if not self.quantised:
            return np.asarray(output, np.float32)
        return (output.astype(np.float32) - self._output_zero_point) * np.float32(
            self._output_scale
        )

    def _damaged(self, error: RuntimeError) -> KwsError:
        """Return the error for a file whose faults show only when it runs."""
        return KwsError(
            f"The model {self.card.name!r} is damaged: the interpreter cannot run it "
            f"({' '.join(str(error).split())[:200]}). Copy or export it again"
        )

    def step(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Run one step on the last R frames, carrying the state on.

        Args:
            features: raw MFCC [R, n_features].

        Returns:
            Posteriors, float32 [labels].

        Raises:
            KwsError: a model in clip form, or features of another shape.
        """
        self.card.require_stream_form()
        expected = (self._input_frames, self.card.front_end.n_features)
        if np.shape(features) != expected:
            raise KwsError(
                f"A step takes MFCC of shape {expected}. Received: shape {np.shape(features)}"
            )
        return self.invoke(self.prepare(features))[0]

    def run(self, features: NDArray[np.floating], reset: bool = True) -> NDArray[np.float32]:
        """Run over consecutive MFCC frames.

        Args:
            features: raw MFCC [T, n_features]; T must be the card's clip_frames in clip form.
            reset: start from zero state. Otherwise the state carries on from the previous call,
                whose last R - S frames must be repeated.

        Returns:
            Posteriors, float32 [steps, labels] with steps = (T - R) // S + 1 (none when T < R).

        Raises:
            KwsError: features of another shape.
        """
        card = self.card
        features = np.asarray(features)
        if features.ndim != 2 or features.shape[1] != card.front_end.n_features:
            raise KwsError(
                f"Need MFCC of shape [frames, {card.front_end.n_features}]. "
                f"Received: shape {features.shape}"
            )
        if card.form == "clip" and len(features) != card.clip_frames:
            raise KwsError(
                f"This model takes whole clips of {card.clip_frames} frames. "
                f"Received: {len(features)}. Export it in stream form for any length"
            )
        if reset or card.form == "clip":
            self.reset()
        prepared = self.prepare(features)
        return self.invoke(prepared) if card.form == "clip" else NetworkStream(self).feed(prepared)


class NetworkStream:
    """Runs a network in stream form step by step, holding the frames that later steps need."""

    def __init__(self, network: Network) -> None:
        """Start without frames; the network's state stays as it is.

        Raises:
            KwsError: a model in clip form.
        """
        network.card.require_stream_form()
        self._network = network
        # Always fewer than R + S frames between calls: [n, n_features].
        self._frames = self._no_frames()

    def reset(self) -> None:
        """Start a new stream: no frames, zero state."""
        self._network.reset()
        self._frames = self._no_frames()

    def feed(self, prepared: NDArray[np.generic]) -> NDArray[np.float32]:
        """Run the steps that the next frames complete.

        Args:
            prepared: frames from `Network.prepare` [n, n_features], any n including 0.

        Returns:
            Posteriors, float32 [steps, labels].
        """
        network, card = self._network, self._network.card
        frames = np.concatenate([self._frames, prepared]) if len(self._frames) else prepared
        width, stride = card.receptive_field_frames, card.stride_frames
        posteriors = np.empty((card.n_steps(len(frames)), len(card.labels)), np.float32)
        for k in range(len(posteriors)):
            posteriors[k] = network.invoke(frames[k * stride : k * stride + width])[0]
        self._frames = frames[len(posteriors) * stride :]
        return posteriors

    def _no_frames(self) -> NDArray[np.generic]:
        n_features = self._network.card.front_end.n_features
        return self._network.prepare(np.zeros((0, n_features), np.float32))


def _tensor_info(details: Mapping[str, Any]) -> dict[str, Any]:
    scale, zero_point = details["quantization"]
    return {
        "type": np.dtype(details["dtype"]).name,
        "shape": [int(n) for n in details["shape"]],
        "scale": float(scale),
        "zero_point": int(zero_point),
    }
