"""Export: from a run's folder to one self-describing .tflite, proven against what was trained."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kws.errors import KwsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kws.decide import DecisionConfig
    from kws.export.agreement import Agreement
    from kws.export.runtimes import RuntimeReport
    from kws.model_file import ModelCard
    from kws.train.trained import TrainedRun

FORMS = ("stream", "clip")
LARGEST_LSB = 1
"""Stream and clip form of an int8 file may differ by no more than this, at any step."""
LARGEST_FLOAT_DIFFERENCE = 1e-4
"""The same for a float file, in posteriors."""
RUNTIME_CLIPS = 20
"""Clips that the runtimes are compared on, the first half with a reset before each."""


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was exported, and how well its forms agree."""

    path: Path
    """The file."""
    card: ModelCard
    """What it says about itself."""
    quantised: bool
    """int8, else float32."""
    size_bytes: int
    """Length of the file."""
    parameters: int
    """Weights and biases, batch normalisation folded."""
    macs_per_invocation: int
    """Multiply-accumulates of one run of the network."""
    macs_per_second: int
    """Those for a second of audio, with everything that a step computes again; in clip form, those
    of clips one after the other, of which each is answered once."""
    macs_per_second_least: int
    """Those for a second of audio if no step computed a convolution again."""
    invocation_us: float
    """Median time of one run of the network on this computer, one thread, in µs."""
    agreement: Agreement
    """Keras, float, int8, clip and stream on the validation clips."""
    runtimes: RuntimeReport | None
    """The file on other runtimes; None where none was asked for."""
    seconds: float
    """Time for everything."""

    @property
    def summary(self) -> str:
        """One line on accuracy, agreement and size."""
        forms = self.agreement.forms
        return (
            f"{'int8' if self.quantised else 'float32'} {100 * forms[-1].accuracy:.1f} %, "
            f"float {100 * forms[0].accuracy:.1f} % on {self.agreement.clips:,} clips; "
            f"{self.agreement.stream_and_clip}; {self.size_bytes / 1000:.1f} kB"
        )

    def lines(self) -> list[str]:
        """Return the report for people."""
        card = self.card
        kind = "int8" if self.quantised else "float32"
        lines = [
            f"{self.path}: {card.name}, {kind}, {card.form} form, {self.size_bytes / 1000:.1f} kB, "
            f"{self.parameters:,} parameters",
            f"{self.macs_per_invocation / 1e6:.3f} million MACs and {self.invocation_us:.0f} µs a "
            f"run, {self.macs_per_second / 1e6:.2f} million MACs for a second of audio"
            + (
                f" ({self.macs_per_second_least / 1e6:.2f} without convolutions computed again)"
                if card.form == "stream"
                else ""
            ),
            "",
            *self.agreement.lines(),
        ]
        if self.runtimes is not None:
            lines += ["", *self.runtimes.lines()]
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, numbers and strings."""
        return {
            "model": str(self.path),
            "name": self.card.name,
            "type": "int8" if self.quantised else "float32",
            "form": self.card.form,
            "size_bytes": self.size_bytes,
            "parameters": self.parameters,
            "macs_per_invocation": self.macs_per_invocation,
            "macs_per_second": self.macs_per_second,
            "macs_per_second_least": self.macs_per_second_least,
            "invocation_us": self.invocation_us,
            "agreement": self.agreement.to_dict(),
            "runtimes": self.runtimes.to_dict() if self.runtimes else None,
            "seconds": self.seconds,
        }


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
    everything went well.

    Args:
        run_dir: folder that `kws train` made.
        output: the file to write.
        quantised: int8, else float32.
        form: ``"stream"`` (a step of R frames, state carried) or ``"clip"`` (a whole clip); by
            default the former for networks that can.
        runtimes: also run the file on these, see `kws.export.runtimes.RUNTIMES`.
        max_clips: compare on no more than so many validation clips, spread evenly.
        decision: thresholds and smoothing that go into the file; by default the recipe's.
        say: is told what is being done.

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
    from kws.system.files import atomic_write, check_output
    from kws.system.native import heed_interrupts
    from kws.train.run_folder import RunFolder, write_json

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
    report = dataclasses.replace(report, seconds=time.monotonic() - started)
    # The model gets its name when the block ends: there are both files, or neither is new.
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
    """Do all that `export_run` does but writing; `output` is what the report calls the file.

    Returns:
        The report, and what is to be the content of the file.
    """
    from kws.train.trained import calibration_clips, load_run, validation_set

    run = load_run(run_dir)
    whole_clip, architecture = run.recipe.model.create().whole_clip, run.recipe.model.architecture
    if form == "stream" and whole_clip:
        raise KwsError(f"{architecture} has no stream form: {whole_clip}. Export it in clip form")
    if form is None and whole_clip:
        say(f"{architecture} is exported in clip form: {whole_clip}")
    form = form or ("clip" if whole_clip else "stream")
    pcm, labels = validation_set(run)
    if max_clips is not None:
        chosen = _spread(len(pcm), max_clips)
        pcm, labels = pcm[chosen], labels[chosen]
    calibration = calibration_clips(run) if quantised else None

    import numpy as np

    from kws.export.agreement import measure_agreement, quantise
    from kws.export.convert import convert_float, convert_float_clip, convert_int8
    from kws.model_file import write_card
    from kws.runtime import open_interpreter

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

    from kws.export.graph import Graph, macs

    work = {name: macs(Graph(content)) for name, content in vars(forms).items() if content}
    per_second = least = work["clip"] * 1000 / run.recipe.data.clip_ms
    if form == "stream":
        front_end = run.recipe.front_end
        frames_per_second = front_end.sample_rate_hz / front_end.hop_length
        steps_per_second = frames_per_second / run.recipe.stride_frames
        clip_steps = agreement.steps // agreement.clips
        per_second = work["stream"] * steps_per_second
        least = (work["clip"] - work["stream"]) / max(1, clip_steps - 1) * steps_per_second
    parameters = _parameters(run)
    card = _card(
        run,
        form=form,
        decision=decision,
        provenance={
            "macs_per_second": round(per_second),
            "parameters": parameters,
            "calibration_clips": 0 if calibration is None else len(calibration),
            "agreement": agreement.to_dict(),
        },
    )
    content = write_card(vars(forms)[form], card)

    interpreter = open_interpreter(content)
    source = interpreter.get_input_details()[0]
    inputs, resets = _runtime_inputs(run, pcm[_spread(len(pcm), RUNTIME_CLIPS)], form)
    prepared = quantise(inputs, source)
    microseconds = []
    for window in prepared:
        interpreter.set_tensor(source["index"], window[np.newaxis])
        before = time.perf_counter()
        interpreter.invoke()
        microseconds.append(1e6 * (time.perf_counter() - before))

    report = None
    if runtimes:
        from kws.export.runtimes import check_runtimes

        say(f"running the file on {', '.join(runtimes)}")
        report = check_runtimes(content, prepared, resets, runtimes, say=say)
    result = ExportReport(
        path=output,
        card=card,
        quantised=quantised,
        size_bytes=len(content),
        parameters=parameters,
        macs_per_invocation=work[form],
        macs_per_second=round(per_second),
        macs_per_second_least=round(least),
        invocation_us=float(np.median(microseconds)),
        agreement=agreement,
        runtimes=report,
        seconds=0.0,
    )
    return result, content


def _check_stream_equals_clip(agreement: Agreement) -> None:
    lsb, difference = agreement.stream_clip_lsb, agreement.stream_clip_difference
    if difference is None:
        return
    if (lsb or 0) > LARGEST_LSB or (lsb is None and difference > LARGEST_FLOAT_DIFFERENCE):
        raise KwsError(
            "The streaming form does not equal the clip form, so the file would not do what was "
            f"trained. Received: a difference of {lsb or difference} "
            f"({'LSB' if lsb else 'in a posterior'}). Please report this with the run's recipe"
        )


def _spread(n: int, most: int) -> list[int]:
    """Return positions among `n`, `most` of them or fewer, evenly spread (clips lie by word)."""
    most = min(n, most)
    return [i * n // most for i in range(most)]


def _parameters(run: TrainedRun) -> int:
    from kws.export.twin import fold

    return sum(w.size for layer in fold(run.weights).values() for w in layer)


def _runtime_inputs(
    run: TrainedRun, pcm: NDArray[np.int16], form: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return invocations [n, frames, n_features] and where to reset before [n].

    The first half of the clips each begin from zero state, the others run on as one stream.
    """
    import numpy as np

    from kws.export.convert import windows

    features = run.features(pcm)
    if form == "clip":
        return features, np.ones(len(features), bool)
    reach, stride = run.recipe.receptive_field_frames, run.recipe.stride_frames
    per_clip = [windows(x, reach, stride)[:, 0] for x in features]
    resets = np.zeros((len(per_clip), len(per_clip[0])), bool)
    resets[: -(-len(per_clip) // 2), 0] = True
    return np.concatenate(per_clip), resets.reshape(-1)


def _card(
    run: TrainedRun,
    *,
    form: str,
    decision: DecisionConfig | None,
    provenance: dict[str, Any],
) -> ModelCard:
    import tensorflow as tf

    from kws import __version__
    from kws.decide import THRESHOLD, DecisionConfig
    from kws.model_file import ModelCard

    recipe, labels = run.recipe, run.recipe.labels
    decision = decision or recipe.decision
    thresholds = {word: decision.thresholds.get(word, THRESHOLD) for word in labels.keywords}
    return ModelCard(
        name=recipe.name,
        license=recipe.license,
        labels=labels.labels,
        keywords=labels.keywords,
        head=recipe.data.head,
        form=form,
        receptive_field_frames=recipe.receptive_field_frames,
        stride_frames=recipe.stride_frames,
        clip_frames=recipe.clip_frames,
        front_end=recipe.front_end,
        feature_mean=tuple(float(x) for x in run.mean),
        feature_std=tuple(float(x) for x in run.std),
        decision=DecisionConfig(
            **{
                f.name: getattr(decision, f.name)
                for f in dataclasses.fields(decision)
                if f.name != "thresholds"
            },
            thresholds=thresholds,
        ),
        provenance={
            "recipe": recipe.name,
            "description": recipe.description,
            "recipe_sha256": run.recipe_sha256,
            "dataset": ", ".join(recipe.data.folders),
            "architecture": recipe.model.architecture,
            "seed": recipe.seed,
            "kws_version": __version__,
            # Not that of the package of this name: tensorflow-cpu is another.
            "tensorflow_version": tf.__version__,
            "date": _date(),
            "training": run.metrics,
            **provenance,
        },
    )


def _date() -> str:
    """Return the time in UTC; that of $SOURCE_DATE_EPOCH where it is set, for equal files."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(given) if given.isdigit() else None))
