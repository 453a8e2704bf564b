"""How well the forms of a network agree, on real validation clips: Keras, float, int8, stream."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from kws.export.convert import Forms, windows
from kws.export.tf_keras_model import build_tf_keras, import_tensorflow
from kws.runtime import open_interpreter
from kws.train.trained import TrainedRun
from kws.train.validation import answers_of, balanced_accuracy

STREAM_CLIPS = 200
"""Clips that are joined to one long stream."""
_KERAS_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class FormFigures:
    """One form of the network, compared with the float network in Keras."""

    form: str
    """Its name, for display."""
    accuracy: float
    """At the clips' last steps, 0 to 1: the share of right answers; for a wake word the mean of two
    shares, of its clips and of all others, whose number would otherwise decide."""
    largest_difference: float
    """Largest absolute difference of a posterior over all steps, 0 to 1."""
    mean_difference: float
    """Mean absolute difference of the posteriors over all steps."""
    answers_changed: int
    """Clips whose answer differs from that of Keras."""


@dataclass(frozen=True, kw_only=True)
class StreamFigures:
    """The stream form on one long stream, compared with Keras on all of it at once."""

    seconds: float
    """Length of the stream."""
    largest_difference: float
    """Largest difference of a posterior, 0 to 1."""
    mean_difference: float
    """Mean absolute difference of the posteriors."""
    answers_changed: float
    """Share of the steps with a different answer, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Figures on the same clips for every form of the network."""

    clips: int
    """Validation clips."""
    steps: int
    """Output steps in all of them."""
    forms: tuple[FormFigures, ...]
    """The float network in Keras first, then the others."""
    whole_clip: str
    """Why there is no stream form; empty if there is one."""
    stream_clip_lsb: int | None
    """Largest difference between stream and clip form in LSB of the int8 output; None for float,
    or without a stream form."""
    stream_clip_difference: float | None
    """The same as a difference of posteriors; None without a stream form."""
    stream: StreamFigures | None
    """How small differences develop when the state is carried on for minutes; None without a stream
    form."""
    changes: dict[str, int]
    """Answers of the last form that differ from Keras: ``"up → off"``: how often."""
    balanced: bool = False
    """Whether accuracy is the mean over the word and all others, as for a wake word."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, numbers and strings, as JSON gives them back."""
        return cast("dict[str, Any]", json.loads(json.dumps(asdict(self))))

    @property
    def stream_and_clip(self) -> str:
        """The difference between the two forms, or why there is only one."""
        if self.stream_clip_difference is None:
            return f"clip form only: {self.whole_clip}"
        apart = f"{self.stream_clip_difference:.1g}"
        if self.stream_clip_lsb is not None:
            apart = f"{self.stream_clip_lsb} LSB"
        return f"stream and clip form differ by {apart}"

    def lines(self) -> list[str]:
        """Return the figures as a table."""
        width = max(len(f.form) for f in self.forms)
        head = f"{'':{width}}  accuracy  largest and mean difference  answers changed"
        mean = "; accuracy is the mean of the word's clips and all others" if self.balanced else ""
        lines = [f"on {self.clips:,} validation clips, {self.steps:,} steps{mean}", head]
        for i, f in enumerate(self.forms):
            figures = f"{f.form:{width}}  {100 * f.accuracy:6.2f} %"
            if i:
                figures += (
                    f"  {f.largest_difference:13.6f}  {f.mean_difference:12.6f}"
                    f"  {f.answers_changed:15d}"
                )
            lines.append(figures)
        lines.append(f"{self.stream_and_clip} at most, over every step")
        stream = self.stream
        if stream is None:
            lines[-1] = self.stream_and_clip
        else:
            lines.append(
                f"one stream of {stream.seconds:.0f} s without a reset: posteriors differ from "
                f"Keras by {stream.largest_difference:.6f} at most, "
                f"{stream.mean_difference:.6f} on average, "
                f"{100 * stream.answers_changed:.2f} % of answers change"
            )
        if self.changes:
            common = sorted(self.changes.items(), key=lambda change: (-change[1], change[0]))
            shown = ", ".join(f"{change} {n}" for change, n in common[:6])
            lines.append(f"changed answers: {shown}" + (", …" if len(common) > 6 else ""))
        return lines


def _is_wake_word(labels: NDArray[np.int64]) -> bool:
    return bool((labels < 0).any())


def _accuracy(answers: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    if _is_wake_word(labels):
        return balanced_accuracy(answers, labels)
    return float((answers == labels).mean())


def measure_agreement(
    run: TrainedRun,
    pcm: NDArray[np.int16],
    labels: NDArray[np.int64],
    *,
    forms: Forms,
    float_clip: bytes,
    quantised: bool,
) -> Agreement:
    """Run every form over the same clips, each from zero state.

    Args:
        run: what was trained.
        pcm: clips int16 [n, clip_samples].
        labels: their labels [n], see `kws.train.trained.validation_set`.
        forms: the clip form, and the stream form if there is one.
        float_clip: the clip form in float32.
        quantised: whether `forms` are int8.
    """
    label_set = run.recipe.labels
    features = run.features(pcm)
    network = build_tf_keras(run, frames=None, batch_size=None)
    tf, _ = import_tensorflow()
    # As a graph: executed eagerly, an LSTM takes ten times as long.
    infer = tf.function(
        lambda x: network(x, training=False), reduce_retracing=True, autograph=False
    )
    keras = np.concatenate(
        [
            np.asarray(infer(features[i : i + _KERAS_BATCH]))
            for i in range(0, len(features), _KERAS_BATCH)
        ]
    )
    clip, clip_steps, scale = run_form(forms.clip, features[:, np.newaxis])
    kind = "int8" if quantised else "float32"
    found = {"Keras, float32": keras}
    if quantised:
        found["TFLite, float32, clip"] = run_form(float_clip, features[:, np.newaxis])[0]
    found[f"TFLite, {kind}, clip"] = clip
    lsb, long_figures = None, None
    if forms.stream is not None:
        reach, stride = run.recipe.receptive_field_frames, run.recipe.stride_frames
        steps = np.stack([windows(x, reach, stride) for x in features])
        stream, stream_steps, _ = run_form(forms.stream, steps[:, :, 0])
        found[f"TFLite, {kind}, stream"] = stream
        apart = clip_steps.astype(np.float64) - stream_steps.astype(np.float64)
        lsb = float(np.abs(apart).max())
        long_figures = _long_stream(run, pcm, infer, forms.stream)

    answers = {name: answers_of(p[:, -1]) for name, p in found.items()}
    ours, theirs = answers["Keras, float32"], answers[list(found)[-1]]
    names = (*label_set.labels, "(not the word)")  # -1 picks the last one
    changes = Counter(
        f"{names[a]} → {names[b]}" for a, b in zip(ours, theirs, strict=True) if a != b
    )
    return Agreement(
        clips=len(pcm),
        steps=int(keras.shape[0] * keras.shape[1]),
        forms=tuple(
            FormFigures(
                form=name,
                accuracy=_accuracy(answers[name], labels),
                largest_difference=float(np.abs(p - keras).max()),
                mean_difference=float(np.abs(p - keras).mean()),
                answers_changed=int((answers[name] != ours).sum()),
            )
            for name, p in found.items()
        ),
        whole_clip=run.recipe.model.create().whole_clip,
        stream_clip_lsb=int(lsb) if quantised and lsb is not None else None,
        stream_clip_difference=None if lsb is None else lsb * scale,
        stream=long_figures,
        changes=dict(changes),
        balanced=_is_wake_word(labels),
    )


def _long_stream(
    run: TrainedRun, pcm: NDArray[np.int16], infer: Any, content: bytes
) -> StreamFigures:
    """Join some of the clips and run the stream form over them without a reset."""
    recipe = run.recipe
    chosen = np.random.default_rng(0).permutation(len(pcm))[:STREAM_CLIPS]
    speech = run.features(pcm[chosen].reshape(-1))
    expected = np.asarray(infer(speech[np.newaxis]))[0]
    steps = windows(speech, recipe.receptive_field_frames, recipe.stride_frames)
    received = run_form(content, steps[np.newaxis, :, 0])[0][0]
    apart = np.abs(received - expected)
    return StreamFigures(
        seconds=len(chosen) * recipe.data.clip_ms / 1000,
        largest_difference=float(apart.max()),
        mean_difference=float(apart.mean()),
        answers_changed=float((answers_of(received) != answers_of(expected)).mean()),
    )


def run_form(
    content: bytes, inputs: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.generic], float]:
    """Run a .tflite over sequences, each from zero state and with the state carried inside it.

    Args:
        content: the model.
        inputs: normalised features [sequences, invocations, frames, n_features].

    Returns:
        Posteriors float32 [sequences, steps, n_labels], the same values in the type of the output
        tensor, and the output's scale (1 for float).
    """
    interpreter = open_interpreter(content)
    source = interpreter.get_input_details()[0]
    result = interpreter.get_output_details()[0]
    prepared = quantise(inputs, source)
    raw = []
    for sequence in prepared:
        interpreter.reset_all_variables()
        for window in sequence:
            interpreter.set_tensor(source["index"], window[np.newaxis])
            interpreter.invoke()
            raw.append(interpreter.get_tensor(result["index"])[0])
    values = np.array(raw).reshape(len(inputs), -1, raw[0].shape[-1])
    if values.dtype != np.int8:
        return values, values, 1.0
    scale, zero_point = result["quantization"]
    return ((values.astype(np.float32) - zero_point) * np.float32(scale), values, float(scale))


def quantise(x: NDArray[np.float32], details: dict[str, Any]) -> NDArray[np.generic]:
    """Return normalised features in the type of the input tensor with these details."""
    if np.dtype(details["dtype"]) != np.int8:
        return x
    scale, zero_point = details["quantization"]
    return np.clip(np.rint(x / np.float32(scale) + zero_point), -128, 127).astype(np.int8)
