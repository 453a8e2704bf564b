"""`kws data`: which data sets there are, fetching one, and adding recordings of one's own words."""

from __future__ import annotations

import typer

data_app = typer.Typer(
    help="List, fetch and check data sets; add, record or synthesise words of your own.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the `data` group to `app`; kws.cli.voices adds `record` and `synth` to it."""
    app.add_typer(data_app, name="data")
