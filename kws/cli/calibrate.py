"""`kws calibrate`: thresholds for an allowed number of false accepts, written to a model file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kws.cli.options import JSON, LABELS, MODEL, WORKERS
from kws.wording import counted, duration, percent

if TYPE_CHECKING:
    from kws.recordings.calibrate import Calibration


def register(app: typer.Typer) -> None:
    """Add `calibrate` to `app`."""
    app.command()(calibrate)


def calibrate(
    model: str = MODEL,
    negatives: list[Path] = typer.Argument(
        ..., metavar="NEGATIVE...", help="Recordings without keywords."
    ),
    out: Path = typer.Option(
        ..., "--out", "-o", metavar="FILE", help="The model file to write, with the new thresholds."
    ),
    per_hour: float = typer.Option(
        0.5,
        "--false-accepts-per-hour",
        metavar="N",
        help="How many are allowed, all keywords together.",
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
    lowest: float = typer.Option(
        0.2, "--lowest", metavar="SHARE", help="The lowest threshold allowed."
    ),
    workers: int | None = WORKERS,
    as_json: bool = JSON,
) -> None:
    """Choose thresholds for the false accepts you allow per hour.

    Measure the result on other recordings than these (kws evaluate). Without --positives, and if
    the audio is too short to show the rate (fewer than three false accepts at that rate),
    thresholds are only raised.

    \b
    Examples:
      kws calibrate commands_en quiet.wav -o calibrated.tflite
      kws calibrate model.tflite quiet.wav --positives day.wav --labels day.tsv -o model.tflite
    """
    from dataclasses import replace

    from kws.data.label_file import read_truth
    from kws.errors import KwsError
    from kws.model_file import load_model, resolve_model, write_card
    from kws.recordings.calibrate import calibrate as choose
    from kws.recordings.calibrate import check_wanted
    from kws.recordings.posteriors import run_recordings
    from kws.recordings.truth import check_fits, own_words
    from kws.system.files import atomic_write, check_output
    from kws.system.processes import usable_cores
    from kws.system.progress import tell

    spoken, tables = positives or [], labels or []
    if len(spoken) != len(tables):
        raise typer.BadParameter(
            f"Each --positives needs its --labels. Received: {len(spoken)} and {len(tables)}."
        )
    quiet = {path.resolve() for path in negatives}
    if both := next((path for path in spoken if path.resolve() in quiet), None):
        raise KwsError(
            "A NEGATIVE must not contain keywords, as each would count as a false accept. "
            f"Received: {both}, which is also one of --positives. Leave it out of the NEGATIVEs"
        )
    check_wanted(per_hour, lowest)
    check_output(out)
    card = load_model(model)
    content = resolve_model(model).read_bytes()
    old = card.decision
    decision = replace(
        old,
        smoothing_ms=old.smoothing_ms if smoothing_ms is None else smoothing_ms,
        refractory_ms=old.refractory_ms if refractory_ms is None else refractory_ms,
        release=old.release if release is None else release,
    )
    truths = [read_truth(table) for table in tables]
    ours, notes = own_words(card, truths)
    for note in notes:
        tell(note)
    posteriors = run_recordings(
        model, [*negatives, *spoken], workers=workers or usable_cores(), progress=True
    )
    n = len(negatives)
    for one, truth in zip(posteriors[n:], truths, strict=True):
        check_fits(one, truth)
    result = choose(
        card,
        posteriors[:n],
        per_hour,
        positives=list(zip(posteriors[n:], ours, strict=True)),
        decision=decision,
        lowest=lowest,
    )
    for note in result.notes:
        tell(note)
    new = replace(
        card,
        decision=result.decision,
        provenance={**card.provenance, "calibration": result.provenance()},
    )
    changed = write_card(content, new)
    with atomic_write(out) as file:
        file.write(changed)
    if as_json:
        typer.echo(json.dumps({"model": str(out), **result.to_json()}, allow_nan=False))
    else:
        typer.echo("\n".join([*_lines(result), f"{out}: written"]))


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
