"""From the trained network to .tflite: float or int8, one step of a stream or a whole clip.

How an int8 file gets its ranges
--------------------------------
The streaming form is calibrated by what it will meet: the windows of one long stretch of speech
(hundreds of training clips joined), one step after the other. The converter's calibrator runs them
in one interpreter and never resets it, so the LSTM's state is carried on and every range is that
of a network in the middle of a stream. The clip form is then converted for its shapes only, and
takes over all scales, zero points, weights and biases of the streaming form, so that the two
compute the same numbers.

Calibrating a longer form instead and handing its ranges to the streaming form would be less safe:
the calibrator sees the cell state only where an invocation ends, so on clips that end in silence it
misses what the state was during the word. With one step for each invocation it sees all. What
that is worth, measured on 1,500 validation clips of Speech Commands with a network whose cell state
reaches ±10: room for ±1 only costs 1.7 points of accuracy, room for ±32 nothing (it has 16 bits).
Calibrating lone first steps, from zero state, costs 0.4 points and makes single posteriors wrong
by 0.5; with the ranges of a stream no posterior is off by more than 0.08.

The input's range leaves out one feature in 10,000 at either end, which is taken for the last value
inside: these few, where two clips are joined, would make all steps a quarter coarser. Of four
networks (conv_lstm_s and conv_lstm_m, two each) the mean difference between the posteriors in
float and in int8 fell by 5 to 8 %, and accuracy rose by 0.08 points in the mean, on 3,534 clips.

A network that takes whole clips has no stream; it is calibrated by clips, one after the other.

The operator that a Keras LSTM becomes holds the cell state within ±10, in float files too, which
Keras does not. The output is that of tanh, which is 1 there, so that all it does is to forget a
little sooner; `kws.export.agreement` measures it on a long stream.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError
from kws.export.twin import build_twin, import_tensorflow
from kws.system.native import heed_interrupts, quiet_stderr
from kws.train.trained import TrainedRun
from kws.wording import byte_size

TEMPORARY_BYTES = 32_000_000
"""Free space asked of the folder for temporary files."""
OUTER_TAIL = 1e-4
"""Share of the features at either end that int8 input need not tell apart."""


@dataclass(frozen=True, kw_only=True)
class Forms:
    """The same network for inputs of two lengths, as .tflite contents without a card."""

    stream: bytes | None
    """One step: [1, R, n_features] → [1, 1, n_labels], state carried from invoke to invoke; None
    for a network that takes whole clips."""
    clip: bytes
    """A whole clip: [1, clip_frames, n_features] → [1, steps, n_labels]."""


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
    """Convert the clip form alone to float32; raises as `convert_float` does."""
    return _convert(run, run.recipe.clip_frames, None)


def convert_int8(run: TrainedRun, calibration: NDArray[np.int16]) -> Forms:
    """Convert to int8 input, weights, activations and output (16-bit cell state, 32-bit biases).

    Args:
        run: what was trained.
        calibration: clips int16 [n, clip_samples] of training speakers, background among them.

    Raises:
        KwsError: the weights do not fit the recipe, the converter failed, or its graphs are not
            what they should be (alike in both forms, fused LSTMs, no operator that is not int8).
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
    """Hold the values of the outer tails at their beginning.

    Args:
        features: of any shape.

    Returns:
        The same shape; no value is below the `OUTER_TAIL` quantile or above the one from the top.
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
    """Refuse to begin where TensorFlow would crash: it keeps the network there meanwhile."""
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
            twin = build_twin(run, frames=frames)
            # A concrete function of fixed shape: from a Keras model the converter takes another
            # way, which leaves the LSTM in pieces.
            function = tf.function(
                lambda x: twin(x, training=False),
                input_signature=[tf.TensorSpec(shape, tf.float32, name="features")],
                autograph=False,
            ).get_concrete_function()
            # The converter saves the object that owns the variables. A bare one takes a third of
            # the time of a Keras model, which would trace every layer anew.
            owner = tf.Module()
            owner.owned = twin.variables
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
    except Exception as error:  # the converter raises many types, some of them its own
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise KwsError(
            f"TensorFlow {tf.__version__} could not convert the network: {reason[0][:300]}. "
            "Use tensorflow and tf-keras as pip install 'kws[train]' chooses them"
        ) from error
    graph = Graph(content)
    graph.clear_unused()
    return bytes(graph.content)
