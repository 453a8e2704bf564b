"""One export: convert a run, measure how well its forms agree, write the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.decide import DecisionConfig
from kws.errors import KwsError
from kws.export.agreement import Agreement, measure_agreement, quantise
from kws.export.card import run_card
from kws.export.convert import Forms, convert_float, convert_float_clip, convert_int8, windows
from kws.export.report import ExportReport
from kws.export.runtimes import check_runtimes
from kws.export.tf_keras_model import fold
from kws.model_file import write_card
from kws.model_file.card import FORMS
from kws.runtime import open_interpreter
from kws.system.files import atomic_write, check_output
from kws.system.native import heed_interrupts
from kws.train.run_folder import RunFolder, write_json
from kws.train.trained import TrainedRun, calibration_clips, load_run, validation_set

LARGEST_LSB = 1
"""Stream and clip form of an int8 file may differ by no more than this, at any step."""
LARGEST_FLOAT_DIFFERENCE = 1e-4
"""The same for a float file, in posteriors."""
RUNTIME_CLIPS = 20
"""Clips that the runtimes are compared on, the first half with a reset before each."""


def export_run(
    run_dir: str | Path,
    output: str | Path,
    *,
    quantised: bool = True,
    form: str | None = None,
    runtimes: Sequence[str] = (),
    max_clips: int | None = None,
    decision: DecisionConfig | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> ExportReport:
    """Turn a run into a model file, and measure how well all its forms agree.

    The figures are also saved as ``agreement.json`` in the run's folder. Nothing is written unless
    everything succeeded.

    Args:
        run_dir: folder written by `kws train`.
        output: the file to write.
        quantised: int8, else float32.
        form: ``"stream"`` (a step of R frames, state carried) or ``"clip"`` (a whole clip); by
            default the former where the network supports it.
        runtimes: also run the file on these, see `kws.export.runtimes.RUNTIMES`.
        max_clips: compare on at most this many validation clips, spread evenly.
        decision: thresholds and smoothing that go into the file; by default the recipe's.
        say: called with progress messages.

    Raises:
        KwsError: no such run, an unfinished or damaged one, a converter that does not do what it
            should, or stream and clip form that differ by more than 1 LSB at any step.

    Example:
        >>> export_run("runs/commands_en", "commands_en.tflite").summary  # doctest: +SKIP
        'int8 95.2 %, float 95.1 % on 3,534 clips; stream and clip form differ by 0 LSB; …'
    """
    started = time.monotonic()
    output = Path(output)
    if form not in (None, *FORMS):
        raise KwsError(f"Unknown form. Received: {form!r}. Use: {' or '.join(FORMS)}")
    check_output(output)
    with heed_interrupts():
        report, content = convert_run(
            run_dir,
            output,
            quantised=quantised,
            form=form,
            runtimes=runtimes,
            max_clips=max_clips,
            decision=decision,
            say=say,
        )
    report = replace(report, seconds=time.monotonic() - started)
    # The model file appears when the block ends: either both files are new, or neither is.
    with atomic_write(output) as file:
        file.write(content)
        file.flush()
        write_json(RunFolder(Path(run_dir)).agreement, report.to_dict())
    return report


def convert_run(
    run_dir: str | Path,
    output: Path,
    *,
    quantised: bool = True,
    form: str | None = None,
    runtimes: Sequence[str] = (),
    max_clips: int | None = None,
    decision: DecisionConfig | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> tuple[ExportReport, bytes]:
    """Do everything that `export_run` does except writing; `output` is only named in the report.

    Returns:
        The report, and the content of the file.
    """
    run = load_run(run_dir)
    form = _choose_form(run, form, say)
    pcm, labels = validation_set(run)
    if max_clips is not None:
        chosen = _spread(len(pcm), max_clips)
        pcm, labels = pcm[chosen], labels[chosen]
    calibration = calibration_clips(run) if quantised else None

    say(f"converting {run.recipe.name} to {'int8' if quantised else 'float32'}")
    if calibration is not None:
        forms = convert_int8(run, calibration)
        float_clip = convert_float_clip(run)
    else:
        forms = convert_float(run)
        float_clip = forms.clip
    say(f"comparing its forms on {len(pcm):,} validation clips")
    agreement = measure_agreement(
        run, pcm, labels, forms=forms, float_clip=float_clip, quantised=quantised
    )
    _check_stream_equals_clip(agreement)
    work = _work(run, forms, form, agreement.steps // agreement.clips)
    parameters = sum(w.size for layer in fold(run.weights).values() for w in layer)
    card = run_card(
        run,
        form=form,
        decision=decision,
        provenance={
            "macs_per_second": work.per_second,
            "parameters": parameters,
            "calibration_clips": 0 if calibration is None else len(calibration),
            "agreement": agreement.to_dict(),
        },
    )
    content = write_card(forms.content(form), card)

    features, resets = _runtime_inputs(run, pcm[_spread(len(pcm), RUNTIME_CLIPS)], form)
    inputs, invocation_us = _time_invocations(content, features)
    on_runtimes = None
    if runtimes:
        say(f"running the file on {', '.join(runtimes)}")
        on_runtimes = check_runtimes(content, inputs, resets, runtimes, say=say)
    report = ExportReport(
        path=output,
        card=card,
        quantised=quantised,
        size_bytes=len(content),
        parameters=parameters,
        macs_per_invocation=work.per_invocation,
        macs_per_second=work.per_second,
        macs_per_second_least=work.per_second_least,
        invocation_us=invocation_us,
        agreement=agreement,
        runtimes=on_runtimes,
        seconds=0.0,
    )
    return report, content


def _choose_form(run: TrainedRun, form: str | None, say: Callable[[str], None]) -> str:
    """Return the form to export: the one asked for, else the stream form if there is one.

    Raises:
        KwsError: the network has no stream form.
    """
    whole_clip, architecture = run.recipe.model.create().whole_clip, run.recipe.model.architecture
    if form == "stream" and whole_clip:
        raise KwsError(f"{architecture} has no stream form: {whole_clip}. Export it in clip form")
    if form is None and whole_clip:
        say(f"{architecture} is exported in clip form: {whole_clip}")
    return form or ("clip" if whole_clip else "stream")


def _check_stream_equals_clip(agreement: Agreement) -> None:
    lsb, difference = agreement.stream_clip_lsb, agreement.stream_clip_difference
    if difference is None:
        return
    if (lsb or 0) > LARGEST_LSB or (lsb is None and difference > LARGEST_FLOAT_DIFFERENCE):
        raise KwsError(
            "The stream form differs from the clip form, so the file would not do what was "
            f"trained. Received: a difference of {lsb or difference} "
            f"({'LSB' if lsb else 'in a posterior'}). Please report this with the run's recipe"
        )


@dataclass(frozen=True, kw_only=True)
class _Work:
    """Multiply-accumulates, see `ExportReport`."""

    per_invocation: int
    per_second: int
    per_second_least: int


def _work(run: TrainedRun, forms: Forms, form: str, steps_per_clip: int) -> _Work:
    """Count the multiply-accumulates of a form; a clip gives `steps_per_clip` steps."""
    from kws.export.graph import Graph, macs

    recipe = run.recipe
    clip = macs(Graph(forms.clip))
    if form == "clip":
        per_second = round(clip * 1000 / recipe.data.clip_ms)
        return _Work(per_invocation=clip, per_second=per_second, per_second_least=per_second)
    step = macs(Graph(forms.content(form)))
    frames_per_second = recipe.front_end.sample_rate_hz / recipe.front_end.hop_length
    steps_per_second = frames_per_second / recipe.stride_frames
    return _Work(
        per_invocation=step,
        per_second=round(step * steps_per_second),
        # Each further step of a clip computes only what is new.
        per_second_least=round((clip - step) / max(1, steps_per_clip - 1) * steps_per_second),
    )


def _spread(n: int, most: int) -> list[int]:
    """Return at most `most` positions among `n`, evenly spread (clips are ordered by word)."""
    most = min(n, most)
    return [i * n // most for i in range(most)]


def _runtime_inputs(
    run: TrainedRun, pcm: NDArray[np.int16], form: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return inputs [n, frames, n_features] and where to reset before an invocation [n].

    Each of the first half of the clips starts from zero state; the others form one stream.
    """
    features = run.features(pcm)
    if form == "clip":
        return features, np.ones(len(features), bool)
    reach, stride = run.recipe.receptive_field_frames, run.recipe.stride_frames
    per_clip = [windows(x, reach, stride)[:, 0] for x in features]
    resets = np.zeros((len(per_clip), len(per_clip[0])), bool)
    resets[: -(-len(per_clip) // 2), 0] = True
    return np.concatenate(per_clip), resets.reshape(-1)


def _time_invocations(
    content: bytes, features: NDArray[np.float32]
) -> tuple[NDArray[np.generic], float]:
    """Return features in the type of the input tensor, and the median time of an invocation in µs.

    Args:
        content: the file.
        features: normalised [n, frames, n_features].
    """
    interpreter = open_interpreter(content)
    source = interpreter.get_input_details()[0]
    inputs = quantise(features, source)
    microseconds = []
    for window in inputs:
        interpreter.set_tensor(source["index"], window[np.newaxis])
        before = time.perf_counter()
        interpreter.invoke()
        microseconds.append(1e6 * (time.perf_counter() - before))
    return inputs, float(np.median(microseconds))
