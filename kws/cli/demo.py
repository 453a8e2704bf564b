"""`kws demo`: the whole chain on generated speech."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from kws.cli.options import JSON
from kws.errors import KwsError
from kws.wording import percent

ENOUGH = 0.9
"""Share of the words that must be detected for the demo to succeed."""


def register(app: typer.Typer) -> None:
    """Add `demo`."""
    app.command("demo")(demo)


def demo(
    out: Path = typer.Option(
        Path("kws-demo"), "--out", "-o", metavar="DIR", help="Folder to work in."
    ),
    seed: int = typer.Option(1, "--seed", metavar="N", help="Of the voices and the noise."),
    minutes: float = typer.Option(
        3.0, "--minutes", metavar="MIN", min=0.5, max=60, help="Length of the stream."
    ),
    as_json: bool = JSON,
) -> None:
    """Run the whole chain on generated speech: about two minutes.

    Synthesises words in many voices, trains on them, exports an int8 model and runs it on new
    voices. Needs no data and no internet connection. Everything stays in the folder: data, run,
    model, pictures.

    Example: kws demo --out kws-demo
    """
    from kws.train.backend import choose_backend

    choose_backend(extra="demo")
    from kws.demo import run_demo, table

    result = run_demo(out, seed=seed, minutes=minutes)
    matches = result.matches
    if as_json:
        typer.echo(
            json.dumps({**matches.to_json(), "model": str(result.model), "seconds": result.seconds})
        )
    else:
        typer.echo(table(matches))
        typer.echo(
            f"detected {len(matches.hits)} of {matches.words} words "
            f"({percent(result.detected_share)}), {len(matches.false_accepts)} false alarms in "
            f"{matches.duration_s / 60:.1f} minutes; {result.seconds:.0f} s in all\n"
            f"model: {result.model}\npictures: {out}/run/curves.png, {out}/timeline.png\n"
            f"try: kws run --model {result.model} {out}/stream.wav"
        )
    if result.detected_share < ENOUGH:
        raise KwsError(
            f"Only {percent(result.detected_share)} of the words were detected, expected "
            f"{100 * ENOUGH:.0f} % or more. Look at the pictures, or try another --seed"
        )
