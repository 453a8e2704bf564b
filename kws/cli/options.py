"""Arguments and options that several commands share, so that they are called and read alike."""

from __future__ import annotations

from typing import Any

import typer

_MODEL = "A .tflite file or the name of a pretrained model. A file called like one is ./NAME."


def _share(value: float | None) -> float | None:
    if value is not None and not 0 < value <= 1:
        raise typer.BadParameter(f"It must be above 0 and at most 1. Received: {value}.")
    return value


MODEL: Any = typer.Argument(metavar="MODEL", help=_MODEL)
"""The model that a command is about."""
LISTENING_MODEL: Any = typer.Option("commands_en", "--model", "-m", metavar="MODEL", help=_MODEL)
"""The model that a command listens with."""
RUN: Any = typer.Argument(..., metavar="RUN", help="A run's folder, made by kws train.")
"""The trained network that a command is about."""
DATA_SET: Any = typer.Argument(..., metavar="DIR", help="A data set: DIR/<label>/<clip>.")
"""The data set that a command takes clips from."""
LABELS: Any = typer.Option(
    None,
    "--labels",
    metavar="TSV",
    help="What is said in it: tab-separated start_s, end_s, keyword, with a header.",
    show_default=False,
)
"""The table of each recording that another option gives."""
WORKERS: Any = typer.Option(
    None,
    "--workers",
    metavar="N",
    help="Processes; by default one for each CPU core.",
    min=1,
    show_default=False,
)
THRESHOLD: Any = typer.Option(
    None,
    "--threshold",
    metavar="SHARE",
    callback=_share,
    help="For all keywords, above 0 to 1, instead of the model's own.",
)
DEVICE: Any = typer.Option(
    None,
    "--device",
    "-d",
    metavar="DEVICE",
    help="Number of the microphone, or part of its name (kws listen --list-devices).",
)
JSON: Any = typer.Option(False, "--json", help="Print one JSON object.")
JSON_LINES: Any = typer.Option(False, "--json", help="Print one JSON object per event and line.")
KEEP: Any = typer.Option(
    None,
    "--keep",
    metavar="DIR",
    help="Keep the sound around each event, 2 s or more: DIR/<keyword>/<when>_<score>.wav. <when> "
    "is the time of day; for a sound file it is <file>-<hash>_<ms>.",
    show_default=False,
)
KEEP_ALMOST: Any = typer.Option(
    False,
    "--keep-almost",
    help="With --keep, keep also what came to half of the threshold and was not reported: "
    "DIR/almost/<keyword>/.",
)
