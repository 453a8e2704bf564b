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
from kws.wording import counted, duration, lowest_to_highest, percent

if TYPE_CHECKING:
    from kws.data.label_file import SpokenWord
    from kws.decide import DecisionConfig
    from kws.model_file import ModelCard
    from kws.recordings.calibrate import Calibration
    from kws.recordings.matching import Matches
    from kws.recordings.posteriors import RecordingPosteriors

PER_HOUR = 0.5
"""False accepts per hour that are allowed by default."""


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
        help=f"How many are allowed, all keywords together. [default: {PER_HOUR}]",
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
        help="Model of a wake word: choose the thresholds for keywords just after it; those for "
        "keywords alone stay.",
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

    With --wake, choose instead the thresholds for keywords just after a wake word: all are moved
    together to where misses, mistaken words and false accepts are fewest.

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
    from kws.recordings.calibrate import LOWEST, check_wanted
    from kws.system.files import atomic_write, check_output
    from kws.system.processes import usable_cores

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
    wanted = PER_HOUR if per_hour is None else per_hour
    least = LOWEST if lowest is None else lowest
    check_wanted(wanted, least)
    check_output(out)
    card, content = load_model_bytes(model)
    card.require_keywords()
    old = card.decision
    decision = replace(
        old,
        smoothing_ms=old.smoothing_ms if smoothing_ms is None else smoothing_ms,
        refractory_ms=old.refractory_ms if refractory_ms is None else refractory_ms,
        release=old.release if release is None else release,
    )
    given = _Given(
        model=model,
        card=card,
        paths=[*quiet, *spoken],
        said=[[] for _ in quiet] + [read_truth(table) for table in tables],
        n_quiet=len(quiet),
        workers=workers or usable_cores(),
    )
    if wake is None:
        chosen = _for_a_rate(given, decision, wanted, least)
    else:
        chosen = _after_wake(given, wake, window_s)
    provenance = {**card.provenance, **chosen.provenance}
    changed = write_card(content, replace(card, decision=chosen.decision, provenance=provenance))
    with atomic_write(out) as file:
        file.write(changed)
    if as_json:
        typer.echo(json.dumps({"model": str(out), **chosen.facts}, allow_nan=False))
    else:
        typer.echo("\n".join([*chosen.lines, f"{out}: written"]))


@dataclass(frozen=True, kw_only=True)
class _Given:
    """A model, and what its thresholds are chosen on."""

    model: str
    """Name or file of the model."""
    card: ModelCard
    """Its card."""
    paths: Sequence[Path]
    """The recordings, those without keywords first."""
    said: Sequence[Sequence[SpokenWord]]
    """The words labelled in each."""
    n_quiet: int
    """How many are without keywords."""
    workers: int
    """Processes to use."""

    def posteriors(self, model: str) -> list[RecordingPosteriors]:
        """Run a network over the recordings.

        Raises:
            KwsError: a label file of another recording.
        """
        from kws.recordings.truth import run_labelled

        return run_labelled(model, self.paths, self.said, workers=self.workers, progress=True)


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


def _for_a_rate(given: _Given, decision: DecisionConfig, per_hour: float, lowest: float) -> _Chosen:
    """Choose thresholds for an allowed number of false accepts per hour."""
    from kws.recordings.calibrate import calibrate as choose
    from kws.recordings.truth import own_words
    from kws.system.progress import tell

    n = given.n_quiet
    ours, notes = own_words(given.card, given.said[n:])
    for note in notes:
        tell(note)
    posteriors = given.posteriors(given.model)
    result = choose(
        given.card,
        posteriors[:n],
        per_hour,
        positives=list(zip(posteriors[n:], ours, strict=True)),
        decision=decision,
        lowest=lowest,
    )
    for note in result.notes:
        tell(note)
    if decision.after_wake and decision != given.card.decision:
        tell(
            "the thresholds for after a wake word stay, but were chosen with other settings: "
            "choose them again with --wake"
        )
    return _Chosen(
        decision=result.decision,
        provenance={"calibration": result.provenance()},
        facts=result.to_json(),
        lines=_lines(result),
    )


def _after_wake(given: _Given, wake: str, window_s: float) -> _Chosen:
    """Choose the thresholds for keywords after a wake word that give the fewest errors."""
    from kws.recordings.calibrate_after_wake import calibrate_after_wake, check_commands
    from kws.recordings.waking import Waking
    from kws.system.progress import tell

    given.card.require_stream_form()
    waking = Waking(wake, given.card, given.said, window_s)
    for note in check_commands(given.card, waking):
        tell(note)
    result = calibrate_after_wake(
        given.card, given.posteriors(given.model), waking, given.posteriors(wake)
    )
    return _Chosen(
        decision=result.decision,
        provenance={"after_wake": result.provenance()},
        facts=result.to_json(),
        lines=[
            _result_line("before", result.thresholds_before, result.before),
            _result_line("now", result.decision.after_wake, result.now),
        ],
    )


def _result_line(when: str, thresholds: Mapping[str, float], result: Matches) -> str:
    return (
        f"{when:<6}  thresholds of {lowest_to_highest(thresholds.values())}: "
        f"{result.words - len(result.hits):,} of {counted(result.words, 'word')} missed or taken "
        f"for another, {counted(len(result.false_accepts), 'false accept')}: command error rate "
        f"{percent(result.command_error_rate)}"
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
