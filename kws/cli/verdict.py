"""`kws verdict`: export a run with calibrated thresholds, and measure the model."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from kws.cli.options import JSON, RUN


def register(app: typer.Typer) -> None:
    """Add `verdict`."""
    app.command("verdict")(verdict)


def verdict(
    run: Path = RUN,
    out: Path = typer.Option(
        ..., "--out", "-o", metavar="MODEL", help="The model file to write (.tflite)."
    ),
    data: Path | None = typer.Option(
        None,
        "--data",
        metavar="DIR",
        help="Where the recipe's folders are. [default: as in training]",
    ),
    per_hour: float = typer.Option(
        0.5,
        "--false-accepts-per-hour",
        metavar="N",
        min=0.0,
        help="False accepts allowed per hour of other speech.",
    ),
    hours: float | None = typer.Option(
        None,
        "--hours",
        metavar="N",
        help="Length of each of two streams of other speech, repeated as needed. [default: enough "
        "for three false accepts, from 1 to 6]",
    ),
    worst: int = typer.Option(
        5, "--worst", metavar="N", min=0, help="List up to N of the worst clips."
    ),
    det: Path | None = typer.Option(
        None, "--det", metavar="FILE", help="Draw misses over false accepts (.png, .pdf or .svg)."
    ),
    seed: int = typer.Option(1, "--seed", metavar="N", min=0, help="Of the streams."),
    as_json: bool = JSON,
) -> None:
    """Export a run with calibrated thresholds and judge it.

    Recordings that were not trained on are mixed into streams of other speech and noise. Reports
    misses, false accepts per hour, the worst clips, and what would help most. An hour of audio
    takes about ten seconds and 115 MB of temporary files.

    Example: kws verdict runs/computer -o computer.tflite
    """
    from kws.system.progress import tell
    from kws.verdict.judge import judge

    if det is not None:
        from kws.report.style import check_picture

        check_picture(det)
    result = judge(run, out, data_dir=data, per_hour=per_hour, hours=hours, seed=seed, say=tell)
    # Before the picture: results must not be lost if it cannot be drawn or stored.
    if as_json:
        typer.echo(json.dumps(result.to_json(), allow_nan=False))
    else:
        typer.echo("\n".join(result.lines(worst=worst)))
    if det is not None:
        from kws.report.trade_off import plot_trade_off

        plot_trade_off(result.curves, out.name, det)
        tell(f"wrote {det}")
