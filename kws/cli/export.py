"""`kws export`: a run in, one self-describing .tflite out, checked against the run."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from kws.cli.options import JSON, RUN
from kws.errors import KwsError

ACCURACY_WARNING = 0.005
"""Warn if the accuracy of the file is this much below that of Keras."""


def register(app: typer.Typer) -> None:
    """Add `export`."""
    app.command("export")(export)


def export(
    run: Path = RUN,
    out: Path | None = typer.Option(
        None, "--out", "-o", metavar="FILE", help="The model. [default: <recipe's name>.tflite]"
    ),
    as_float: bool = typer.Option(False, "--float", help="Keep float32 instead of int8."),
    clip: bool = typer.Option(
        False,
        "--clip",
        help="Take a whole clip at once instead of one step of a stream. [default for networks "
        "that cannot follow a stream]",
    ),
    runtimes: str | None = typer.Option(
        None,
        "--runtimes",
        metavar="NAMES",
        help="Also run the file on litert, tflm, tflite-runtime (comma-separated, or none). "
        "[default: those installed]",
    ),
    check_all: bool = typer.Option(
        False,
        "--check-all",
        help="Run it on all of them; may install tflite-runtime in its own environment.",
    ),
    clips: int | None = typer.Option(
        None,
        "--clips",
        metavar="N",
        min=1,
        help="Compare on at most N validation clips.",
    ),
    as_json: bool = JSON,
) -> None:
    """Convert a trained network to one streaming int8 .tflite.

    The file contains everything needed to run it. Compares Keras, float, int8, clip and stream form
    on the validation clips, and the file on other runtimes; the figures are saved in
    RUN/agreement.json.

    Example: kws export runs/commands_en -o commands_en.tflite
    """
    from kws.export.run import export_run
    from kws.export.runtimes import RUNTIMES, default_runtimes
    from kws.system.progress import tell
    from kws.train.trained import load_run

    if runtimes is not None and check_all:
        raise typer.BadParameter("Give either --runtimes or --check-all.")
    names: tuple[str, ...]
    if check_all:
        names = RUNTIMES
    elif runtimes is None:
        names = default_runtimes()
    else:
        names = tuple(
            name.strip() for name in runtimes.split(",") if name.strip() not in ("", "none")
        )
        for name in names:
            if name not in RUNTIMES:
                raise typer.BadParameter(
                    f"--runtimes: unknown {name!r}. Use: {', '.join(RUNTIMES)}."
                )
    report = export_run(
        run,
        out or Path(f"{load_run(run).recipe.name}.tflite"),
        quantised=not as_float,
        form="clip" if clip else None,
        runtimes=names,
        max_clips=clips,
        say=tell,
    )
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
    else:
        typer.echo("\n".join(report.lines()))
    forms = report.agreement.forms
    lost = forms[0].accuracy - forms[-1].accuracy
    if lost > ACCURACY_WARNING:
        tell(
            f"warning: the accuracy of the file is {100 * lost:.2f} points below that of the "
            "network in Keras; see the changed answers"
        )
    if report.runtimes is not None and report.runtimes.disagreeing:
        worst = max(report.runtimes.disagreeing, key=lambda check: check.answers_changed)
        raise KwsError(
            f"{report.path} was written, but {worst.runtime} {worst.version} gives other answers "
            f"than LiteRT in {100 * worst.answers_changed:.1f} % of the clear steps. Do not use it "
            "there"
        )
