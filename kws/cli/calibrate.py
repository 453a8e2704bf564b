"""`kws calibrate`: thresholds chosen on long recordings, written to a model file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kws.cli.events import window_after_wake
from kws.cli.options import JSON, LABELS, MODEL, WAKE_WINDOW, WORKERS
from kws.wording import counted, duration, percent

if TYPE_CHECKING:
    from kws.data.label_file import SpokenWord
    from kws.decide import DecisionConfig
    from kws.recordings.calibrate import Calibration
    from kws.recordings.curve import Point


def register(app: typer.Typer) -> None:
    """Add `calibrate` to `app`."""
    app.command()(calibrate)


def calibrate(
    model: str = MODEL,
    negatives: list[Path] | None = typer.Argument(
        None,
        metavar="NEGATIVE...",
        help="Recordings without keywords; with --wake they may be left out.",
        show_default=False,
    ),
    out: Path = typer.Option(
        ..., "--out", "-o", metavar="FILE", help="The model file to write, with the new thresholds."
    ),
    per_hour: float | None = typer.Option(
        None,
        "--false-accepts-per-hour",
        metavar="N",
        help="How many are allowed, all keywords together. [default: 0.5]",
        show_default=False,
    ),
    positives: list[Path] | None = typer.Option(
        None,
        "--positives",
        metavar="AUDIO",
        help="A recording with keywords, so that the allowed false accepts save the most misses; "
        "may be repeated, each with its --labels.",
        show_default=False,
    ),
    labels: list[Path] | None = LABELS,
    wake: str | None = typer.Option(
        None,
        "--wake",
        metavar="MODEL",
        help="Model of a wake word: choose the thresholds for keywords just after it, with the "
        "fewest errors in --positives. The thresholds for keywords alone stay.",
        show_default=False,
    ),
    wake_window: float | None = WAKE_WINDOW,
    smoothing_ms: float | None = typer.Option(
        None, "--smoothing", metavar="MS", help="Also change the length of the moving mean."
    ),
    refractory_ms: float | None = typer.Option(
        None,
        "--refractory",
        metavar="MS",
        help="Also change the time without events after an event.",
    ),
    release: float | None = typer.Option(
        None,
        "--release",
        metavar="SHARE",
        help="Also change the share of the threshold below which a keyword can fire again.",
    ),
    lowest: float | None = typer.Option(
        None,
        "--lowest",
        metavar="SHARE",
        help="The lowest threshold allowed. [default: 0.2]",
        show_default=False,
    ),
    workers: int | None = WORKERS,
    as_json: bool = JSON,
) -> None:
    """Choose thresholds for the false accepts you allow per hour.

    Measure the result on other recordings than these (kws evaluate). Without --positives, and if
    the audio is too short to show the rate (fewer than three false accepts at that rate),
    thresholds are only raised.

    With --wake, choose instead the thresholds for keywords just after a wake word, where misses and
    false accepts together are fewest.

    \b
    Examples:
      kws calibrate commands_en quiet.wav -o calibrated.tflite
      kws calibrate model.tflite quiet.wav --positives day.wav --labels day.tsv -o model.tflite
      kws calibrate model.tflite --wake computer --positives a.wav --labels a.tsv -o model.tflite
    """
    from dataclasses import replace

    from kws.data.label_file import read_truth
    from kws.errors import KwsError
    from kws.model_file import write_card
    from kws.model_file.card import load_model_bytes
    from kws.system.files import atomic_write, check_output
    from kws.system.processes import usable_cores
    from kws.system.progress import tell

    quiet, spoken, tables = negatives or [], positives or [], labels or []
    if len(spoken) != len(tables):
        raise typer.BadParameter(
            f"Each --positives needs its --labels. Received: {len(spoken)} and {len(tables)}."
        )
    if wake is None and not quiet:
        raise typer.BadParameter("Give recordings without keywords as NEGATIVE, or --wake MODEL.")
    if wake is not None and not spoken:
        raise typer.BadParameter("--wake needs --positives AUDIO.")
    for name, value in (
        ("--false-accepts-per-hour", per_hour),
        ("--smoothing", smoothing_ms),
        ("--refractory", refractory_ms),
        ("--release", release),
        ("--lowest", lowest),
    ):
        if wake is not None and value is not None:
            raise typer.BadParameter(f"{name} and --wake do not go together.")
    window_s = window_after_wake(wake, wake_window)
    silent = {path.resolve() for path in quiet}
    if both := next((path for path in spoken if path.resolve() in silent), None):
        raise KwsError(
            "A NEGATIVE must not contain keywords, as each would count as a false accept. "
            f"Received: {both}, which is also one of --positives. Leave it out of the NEGATIVEs"
        )
    check_output(out)
    card, content = load_model_bytes(model)
    recordings = _Recordings(
        quiet=quiet,
        spoken=[(path, read_truth(table)) for path, table in zip(spoken, tables, strict=True)],
        workers=workers or usable_cores(),
    )
    if wake is None:
        old = card.decision
        decision = replace(
            old,
            smoothing_ms=old.smoothing_ms if smoothing_ms is None else smoothing_ms,
            refractory_ms=old.refractory_ms if refractory_ms is None else refractory_ms,
            release=old.release if release is None else release,
        )
        chosen = _for_a_rate(
            model, recordings, decision, 0.5 if per_hour is None else per_hour, lowest
        )
    else:
        chosen = _after_wake(model, recordings, wake, window_s)
    for note in chosen.notes:
        tell(note)
    provenance = {**card.provenance, **chosen.provenance}
    changed = write_card(content, replace(card, decision=chosen.decision, provenance=provenance))
    with atomic_write(out) as file:
        file.write(changed)
    if as_json:
        typer.echo(json.dumps({"model": str(out), **chosen.facts}, allow_nan=False))
    else:
        typer.echo("\n".join([*chosen.lines, f"{out}: written"]))


@dataclass(frozen=True, kw_only=True)
class _Recordings:
    """What thresholds are chosen on."""

    quiet: Sequence[Path]
    """Recordings without keywords."""
    spoken: Sequence[tuple[Path, Sequence[SpokenWord]]]
    """Recordings with keywords, and the words in them."""
    workers: int
    """Processes to use."""


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """Settings, and what is said about them."""

    decision: DecisionConfig
    """The new settings."""
    provenance: Mapping[str, Any]
    """Their origin, for the model card."""
    facts: Mapping[str, Any]
    """Figures as JSON."""
    lines: Sequence[str]
    """Figures as text."""
    notes: Sequence[str]
    """Remarks."""


def _for_a_rate(
    model: str,
    recordings: _Recordings,
    decision: DecisionConfig,
    per_hour: float,
    lowest: float | None,
) -> _Chosen:
    """Choose thresholds for an allowed number of false accepts per hour."""
    from kws.model_file import load_model
    from kws.recordings.calibrate import LOWEST, check_wanted
    from kws.recordings.calibrate import calibrate as choose
    from kws.recordings.posteriors import run_recordings
    from kws.recordings.truth import check_fits, own_words
    from kws.system.progress import tell

    least = LOWEST if lowest is None else lowest
    check_wanted(per_hour, least)
    card = load_model(model)
    truths = [truth for _, truth in recordings.spoken]
    ours, notes = own_words(card, truths)
    for note in notes:  # before long work
        tell(note)
    paths = [*recordings.quiet, *(path for path, _ in recordings.spoken)]
    posteriors = run_recordings(model, paths, workers=recordings.workers, progress=True)
    n = len(recordings.quiet)
    for one, truth in zip(posteriors[n:], truths, strict=True):
        check_fits(one, truth)
    result = choose(
        card,
        posteriors[:n],
        per_hour,
        positives=list(zip(posteriors[n:], ours, strict=True)),
        decision=decision,
        lowest=least,
    )
    return _Chosen(
        decision=result.decision,
        provenance={"calibration": result.provenance()},
        facts=result.to_json(),
        lines=_lines(result),
        notes=result.notes,
    )


def _after_wake(model: str, recordings: _Recordings, wake: str, window_s: float) -> _Chosen:
    """Choose the thresholds for keywords after a wake word that give the fewest errors."""
    from dataclasses import replace

    from kws.errors import KwsError
    from kws.evaluate.streams import evaluate_streams
    from kws.model_file import load_model

    result = evaluate_streams(
        model,
        [*recordings.spoken, *((path, ()) for path in recordings.quiet)],
        wake=wake,
        wake_window_s=window_s,
        workers=recordings.workers,
        progress=True,
    )
    curve = result.curves["all"]
    before, now = curve.own, curve.fewest_errors()
    if not now.words:
        raise KwsError(
            f"No keyword follows the wake word within {window_s:g} s in the labels of --positives. "
            "Give recordings in which one does; kws data stream --wake builds some"
        )
    origin = {"wake": result.wake.model if result.wake else wake, "window_s": window_s}
    return _Chosen(
        decision=replace(load_model(model).decision, after_wake=dict(now.thresholds)),
        provenance={
            "calibration_after_wake": {
                **origin,
                "words": now.words,
                "rejected": now.rejected,
                "false_accepts": now.false_accepts,
            }
        },
        facts={
            **origin,
            "words": now.words,
            "hours": now.hours,
            "before": before.to_json(),
            "now": now.to_json(),
            "notes": list(result.notes),
        },
        lines=[_line_after_wake(name, point) for name, point in (("before", before), ("now", now))],
        notes=result.notes,
    )


def _line_after_wake(name: str, point: Point) -> str:
    return (
        f"{name:<6}  thresholds of {point.threshold_range()}: {point.rejected:,} of "
        f"{counted(point.words, 'word')} missed or taken for another, "
        f"{counted(point.false_accepts, 'false accept')}: command error rate "
        f"{percent(point.command_error_rate)}"
    )


def _lines(result: Calibration) -> list[str]:
    from kws.confidence import poisson_interval

    false = result.negatives.per_keyword()
    said = result.positives.per_keyword() if result.positives else {}
    width = max(len("keyword"), *(len(word) for word in result.before))
    head = f"{'keyword':<{width}}{'before':>10}{'threshold':>12}{'false':>8}"
    lines = [head + (f"{'said':>8}{'missed':>8}{'taken':>8}" if said else "")]
    for word, threshold in result.decision.thresholds.items():
        count = false.get(word, {"false_accepts": 0})["false_accepts"]
        line = f"{word:<{width}}{result.before[word]:>10.4g}{threshold:>12.4g}{count:>8,}"
        if said:
            zero = {"words": 0, "misses": 0, "substitutions": 0}
            words = said.get(word, zero)
            line += f"{words['words']:>8,}{words['misses']:>8,}{words['substitutions']:>8,}"
        lines.append(line)
    m = result.negatives
    low, high = (limit / m.hours for limit in poisson_interval(len(m.false_accepts)))
    lines += [
        "",
        f"{counted(len(m.false_accepts), 'false accept')} in {duration(m.duration_s)} without "
        f"keywords: {m.false_accepts_per_hour:.2f} per hour (95 % interval {low:.2f} to "
        f"{high:.2f}), allowed {result.wanted_per_hour:g}",
    ]
    if result.positives is not None and result.positives.words:
        p = result.positives
        rate = p.false_reject_rate or 0.0
        lines.append(
            f"{counted(p.words, 'word')}: {percent(rate)} missed or taken for another; "
            f"{counted(len(p.false_accepts), 'false accept')} among them in "
            f"{duration(p.duration_s)}"
        )
    return lines
