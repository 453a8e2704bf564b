"""How well the forms of a network agree, on real validation clips: Keras, float, int8, stream."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from kws.export.convert import Forms, windows
from kws.export.trained import TrainedRun
from kws.export.twin import build_twin
from kws.runtime import open_interpreter

STREAM_CLIPS = 200
"""Clips that are joined to one long stream."""
_KERAS_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class FormFigures:
    """One form of the network, compared with the float network in Keras."""

    form: str
    """What it is, for people."""
    accuracy: float
    """Share of clips whose answer, the last step's largest posterior, is right; 0 to 1."""
    largest_difference: float
    """Largest difference of a posterior over all steps, 0 to 1."""
    mean_difference: float
    """Mean absolute difference of the posteriors over all steps."""
    answers_changed: int
    """Clips that are answered otherwise than by Keras."""


@dataclass(frozen=True, kw_only=True)
class StreamFigures:
    """The streaming form on one long stream, compared with Keras that hears all of it at once."""

    seconds: float
    """Length of the stream."""
    largest_difference: float
    """Largest difference of a posterior, 0 to 1."""
    mean_difference: float
    """Mean absolute difference of the posteriors."""
    answers_changed: float
    """Share of the steps that are answered otherwise, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Figures on the same clips for every form of the network."""

    clips: int
    """Validation clips."""
    steps: int
    """LSTM steps in all of them."""
    forms: tuple[FormFigures, ...]
    """The float network in Keras first, then the others."""
    stream_clip_lsb: int | None
    """Largest difference between stream and clip form in steps of the int8 output; None: float."""
    stream_clip_difference: float
    """The same as a difference of posteriors."""
    stream: StreamFigures
    """What becomes of small differences when the state is carried on for minutes."""
    changes: dict[str, int]
    """Answers that the last form gives otherwise than Keras: ``"up → off"``: how often."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, numbers and strings, as JSON gives them back."""
        return cast("dict[str, Any]", json.loads(json.dumps(asdict(self))))

    def lines(self) -> list[str]:
        """Return a table for people."""
        width = max(len(f.form) for f in self.forms)
        head = f"{'':{width}}  accuracy  largest and mean difference  answers changed"
        lines = [f"on {self.clips:,} validation clips, {self.steps:,} steps", head]
        for i, f in enumerate(self.forms):
            figures = f"{f.form:{width}}  {100 * f.accuracy:6.2f} %"
            if i:
                figures += (
                    f"  {f.largest_difference:13.6f}  {f.mean_difference:12.6f}"
                    f"  {f.answers_changed:15d}"
                )
            lines.append(figures)
        apart = f"{self.stream_clip_difference:.1g}"
        if self.stream_clip_lsb is not None:
            apart = f"{self.stream_clip_lsb} LSB"
        lines.append(f"stream and clip form differ by {apart} at most, over every step")
        stream = self.stream
        lines.append(
            f"one stream of {stream.seconds:.0f} s without a reset: posteriors differ from Keras "
            f"by {stream.largest_difference:.6f} at most, {stream.mean_difference:.6f} on average, "
            f"{100 * stream.answers_changed:.2f} % of answers"
        )
        if self.changes:
            common = sorted(self.changes.items(), key=lambda change: (-change[1], change[0]))
            shown = ", ".join(f"{change} {n}" for change, n in common[:6])
            lines.append(f"changed answers: {shown}" + (", …" if len(common) > 6 else ""))
        return lines


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
        labels: their labels [n], see `kws.export.trained.validation_set`.
        forms: stream and clip form of the file to be.
        float_clip: the clip form in float32.
        quantised: whether `forms` are int8.
    """
    network, label_set = run.recipe.model.create(), run.recipe.labels
    features = run.features(pcm)
    twin = build_twin(run, frames=None, batch_size=None)
    keras = np.concatenate(
        [
            np.asarray(twin(features[i : i + _KERAS_BATCH], training=False))
            for i in range(0, len(features), _KERAS_BATCH)
        ]
    )
    clip, clip_steps, scale = run_form(forms.clip, features[:, np.newaxis])
    steps = np.stack(
        [windows(x, network.receptive_field_frames, network.stride_frames) for x in features]
    )
    stream, stream_steps, _ = run_form(forms.stream, steps[:, :, 0])
    kind = "int8" if quantised else "float32"
    found = {"Keras, float32": keras}
    if quantised:
        found["TFLite, float32, clip"] = run_form(float_clip, features[:, np.newaxis])[0]
    found |= {f"TFLite, {kind}, clip": clip, f"TFLite, {kind}, stream": stream}

    answers = {name: _answers(p[:, -1], label_set.head) for name, p in found.items()}
    ours, theirs = answers["Keras, float32"], answers[f"TFLite, {kind}, stream"]
    names = (*label_set.labels, "(not the word)")  # -1 picks the last one
    changes = Counter(
        f"{names[a]} → {names[b]}" for a, b in zip(ours, theirs, strict=True) if a != b
    )
    chosen = np.random.default_rng(0).permutation(len(pcm))[:STREAM_CLIPS]
    speech = run.features(pcm[chosen].reshape(-1))
    long_keras = np.asarray(twin(speech[np.newaxis], training=False))[0]
    long_steps = windows(speech, network.receptive_field_frames, network.stride_frames)
    long_stream = run_form(forms.stream, long_steps[np.newaxis, :, 0])[0][0]
    long_apart = np.abs(long_stream - long_keras)
    long_changed = _answers(long_stream, label_set.head) != _answers(long_keras, label_set.head)

    apart = clip_steps.astype(np.float64) - stream_steps.astype(np.float64)
    lsb = np.abs(apart).max()
    return Agreement(
        clips=len(pcm),
        steps=int(keras.shape[0] * keras.shape[1]),
        forms=tuple(
            FormFigures(
                form=name,
                accuracy=float((answers[name] == labels).mean()),
                largest_difference=float(np.abs(p - keras).max()),
                mean_difference=float(np.abs(p - keras).mean()),
                answers_changed=int((answers[name] != ours).sum()),
            )
            for name, p in found.items()
        ),
        stream_clip_lsb=int(lsb) if quantised else None,
        stream_clip_difference=float(lsb * scale),
        stream=StreamFigures(
            seconds=len(chosen) * run.recipe.data.clip_ms / 1000,
            largest_difference=float(long_apart.max()),
            mean_difference=float(long_apart.mean()),
            answers_changed=float(long_changed.mean()),
        ),
        changes=dict(changes),
    )


def run_form(
    content: bytes, inputs: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.generic], float]:
    """Run a .tflite over sequences, each from zero state and with the state carried inside it.

    Args:
        content: the model.
        inputs: normalised features [sequences, invocations, frames, n_mfcc].

    Returns:
        Posteriors float32 [sequences, steps, n_labels], the same as the output tensor holds them,
        and the output's scale (1 for a float one).
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
    """Return normalised features as the input tensor with these details takes them."""
    if np.dtype(details["dtype"]) != np.int8:
        return x
    scale, zero_point = details["quantization"]
    return np.clip(np.rint(x / np.float32(scale) + zero_point), -128, 127).astype(np.int8)


def _answers(posteriors: NDArray[np.float32], head: str) -> NDArray[np.intp]:
    """Return what each row [n, n_labels] answers; for a sigmoid head 0 is the word, -1 is not."""
    if head == "sigmoid":
        return np.where(posteriors[:, 0] >= 0.5, 0, -1)
    return posteriors.argmax(axis=-1)
