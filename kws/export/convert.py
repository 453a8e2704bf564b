"""From the trained network to .tflite: float or int8, one step of a stream or a whole clip.

How an int8 file gets its ranges
--------------------------------
The stream form is calibrated on realistic input: the windows of one long stretch of speech
(hundreds of training clips joined), step by step. The converter's calibrator runs them in one
interpreter and never resets it, so the LSTM's state is carried on and every range is that of a
network in the middle of a stream. The clip form is then converted only for its shapes, and takes
over all scales, zero points, weights and biases of the stream form, so that the two compute the
same numbers.

Calibrating a longer form and transferring its ranges to the stream form would be less safe: the
calibrator sees the cell state only at the end of an invocation, so on clips that end in silence it
misses the state during the word. With one step per invocation it sees every state. The effect,
measured on 1,500 validation clips of Speech Commands with a network whose cell state reaches ±10: a
range of only ±1 costs 1.7 points of accuracy, a range of ±32 nothing (it has 16 bits). Calibrating
single first steps, from zero state, costs 0.4 points and makes some posteriors wrong by 0.5; with
the ranges of a stream no posterior is off by more than 0.08.

The input range is clipped so that one feature in 10,000 at either end is outside: these few, where
two clips are joined, would make all steps a quarter coarser. For four networks (conv_lstm_s and
conv_lstm_m, two each) this reduced the mean difference between float and int8 posteriors by 5 to
8 %, and raised accuracy by 0.08 points on average, on 3,534 clips.

A network that takes whole clips has no stream; it is calibrated on clips, one after the other.

The operator that a Keras LSTM becomes limits the cell state to ±10, even in float files; Keras does
not. Since the output is the state's tanh, which is 1 there, the only effect is that it forgets a
little sooner; `kws.export.agreement` measures this on a long stream.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError
from kws.export.tf_keras_model import build_tf_keras, import_tensorflow
from kws.system.native import heed_interrupts, quiet_stderr
from kws.train.trained import TrainedRun
from kws.wording import byte_size

TEMPORARY_BYTES = 32_000_000
"""Free space required in the folder for temporary files."""
OUTER_TAIL = 1e-4
"""Share of the features at either end that the int8 input range leaves out."""


@dataclass(frozen=True, kw_only=True)
class Forms:
    """The same network for two lengths of input, as .tflite contents without a card."""

    stream: bytes | None
    """One step: [1, R, n_features] → [1, 1, n_labels], state carried from invoke to invoke; None
    for a network that takes whole clips."""
    clip: bytes
    """A whole clip: [1, clip_frames, n_features] → [1, steps, n_labels]."""

    def content(self, form: str) -> bytes:
        """Return the form of this name, ``"stream"`` or ``"clip"``; it must exist."""
        content = self.stream if form == "stream" else self.clip
        assert content is not None
        return content


def convert_float(run: TrainedRun) -> Forms:
    """Convert to float32.

    Raises:
        KwsError: the weights do not fit the recipe, or the converter failed.
    """
    stream = None
    if not run.recipe.model.create().whole_clip:
        stream = _convert(run, run.recipe.receptive_field_frames, None)
    return Forms(stream=stream, clip=convert_float_clip(run))


def convert_float_clip(run: TrainedRun) -> bytes:
    """Convert only the clip form to float32; raises as `convert_float` does."""
    return _convert(run, run.recipe.clip_frames, None)


def convert_int8(run: TrainedRun, calibration: NDArray[np.int16]) -> Forms:
    """Convert to int8 input, weights, activations and output (16-bit cell state, 32-bit biases).

    Args:
        run: what was trained.
        calibration: clips int16 [n, clip_samples] of training speakers, including background.

    Raises:
        KwsError: the weights do not fit the recipe, the converter failed, or its graphs are not as
            expected (the same in both forms, fused LSTMs, only int8 operators).
    """
    import_tensorflow()
    from kws.export.graph import Graph, copy_quantisation, mend_lstms

    recipe = run.recipe
    clip_frames = recipe.clip_frames
    if recipe.model.create().whole_clip:
        heard = without_outliers(run.features(calibration))
        clip = Graph(_convert(run, clip_frames, heard[:, np.newaxis]))
        mend_lstms(clip, whole_clip=True)
        return Forms(stream=None, clip=bytes(clip.content))
    frames = recipe.receptive_field_frames
    speech = without_outliers(run.features(calibration.reshape(-1)))
    stream = Graph(_convert(run, frames, windows(speech, frames, recipe.stride_frames)))
    mend_lstms(stream)
    # Its own ranges do not matter: they are replaced.
    clip = Graph(_convert(run, clip_frames, speech[np.newaxis, np.newaxis, :clip_frames]))
    copy_quantisation(stream, clip)
    return Forms(stream=bytes(stream.content), clip=bytes(clip.content))


def without_outliers(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Clip the outer tails of the values.

    Args:
        features: of any shape.

    Returns:
        The same shape, clipped to the quantiles `OUTER_TAIL` and 1 - `OUTER_TAIL`.
    """
    least, greatest = np.quantile(features, [OUTER_TAIL, 1 - OUTER_TAIL]).astype(features.dtype)
    return np.clip(features, least, greatest)


def windows(features: NDArray[np.float32], frames: int, stride: int) -> NDArray[np.float32]:
    """Return the inputs of consecutive steps as a view.

    Args:
        features: [T, n_features].
        frames: R.
        stride: S.

    Returns:
        [steps, 1, R, n_features], steps = (T - R) // S + 1.
    """
    view = np.lib.stride_tricks.sliding_window_view(features, frames, axis=0)[::stride]
    return np.swapaxes(view, 1, 2)[:, np.newaxis]


def _check_temporary_folder() -> None:
    """Refuse to start if TensorFlow would crash: it stores the network there meanwhile."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < TEMPORARY_BYTES:
        raise KwsError(
            f"Export needs {byte_size(TEMPORARY_BYTES)} for temporary files. Received: "
            f"{byte_size(free)} free in {folder}. Free some space, or set TMPDIR to another folder"
        )


def _convert(run: TrainedRun, frames: int, samples: NDArray[np.float32] | None) -> bytes:
    """Convert for one length of input; `samples` [n, 1, frames, n_features] make it int8."""
    _check_temporary_folder()
    tf, _ = import_tensorflow()
    from kws.export.graph import Graph

    shape = (1, frames, run.recipe.front_end.n_features)

    def representative() -> Iterator[list[NDArray[np.float32]]]:
        assert samples is not None
        for sample in samples:
            yield [np.ascontiguousarray(sample)]

    try:
        with quiet_stderr(), heed_interrupts():
            network = build_tf_keras(run, frames=frames)
            # A concrete function of fixed shape: from a Keras model the converter takes another
            # path, which does not fuse the LSTM.
            function = tf.function(
                lambda x: network(x, training=False),
                input_signature=[tf.TensorSpec(shape, tf.float32, name="features")],
                autograph=False,
            ).get_concrete_function()
            # The converter saves the object that owns the variables. A plain module takes a third
            # of the time of a Keras model, which would trace every layer again.
            owner = tf.Module()
            owner.owned = network.variables
            converter = tf.lite.TFLiteConverter.from_concrete_functions([function], owner)
            if samples is not None:
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.representative_dataset = representative
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
                converter.inference_input_type = tf.int8
                converter.inference_output_type = tf.int8
            content = bytes(converter.convert())
    except (KwsError, OSError, MemoryError):
        raise
    except Exception as error:  # the converter raises many types
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise KwsError(
            f"TensorFlow {tf.__version__} could not convert the network: {reason[0][:300]}. "
            "Use the versions of tensorflow and tf-keras that pip install 'kws[train]' chooses"
        ) from error
    graph = Graph(content)
    graph.clear_unused()
    return bytes(graph.content)
