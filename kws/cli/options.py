"""Arguments and options that several commands share, so that they are named alike."""

from __future__ import annotations

from typing import Any

import typer

_MODEL = "A .tflite file or the name of a pretrained model. For a file of that name give ./NAME."


def _share(value: float | None) -> float | None:
    if value is not None and not 0 < value <= 1:
        raise typer.BadParameter(f"It must be above 0 and at most 1. Received: {value}.")
    return value


MODEL: Any = typer.Argument(metavar="MODEL", help=_MODEL)
"""The model that a command works on."""
LISTENING_MODEL: Any = typer.Option("commands_en", "--model", "-m", metavar="MODEL", help=_MODEL)
"""The model that a command listens with."""
RUN: Any = typer.Argument(..., metavar="RUN", help="Folder of a run, written by kws train.")
"""The trained network that a command works on."""
DATA_SET: Any = typer.Argument(..., metavar="DIR", help="A data set: DIR/<label>/<clip>.")
"""The data set that a command takes clips from."""
LABELS: Any = typer.Option(
    None,
    "--labels",
    metavar="TSV",
    help="Words in the recording: tab-separated start_s, end_s, keyword, with a header.",
    show_default=False,
)
"""The label file for each recording given by another option."""
WORKERS: Any = typer.Option(
    None,
    "--workers",
    metavar="N",
    help="Number of processes. [default: one for each CPU core]",
    min=1,
    show_default=False,
)
THRESHOLD: Any = typer.Option(
    None,
    "--threshold",
    metavar="SHARE",
    callback=_share,
    help="Threshold for all keywords of the model, above 0 to 1, instead of its own.",
)
WAKE: Any = typer.Option(
    None,
    "--wake",
    metavar="MODEL",
    help="Model of a wake word. Then the other model's keywords count only just after it, and only "
    "the first. They have --threshold or their model's thresholds for after a wake word, if it has "
    "some (see kws info); the wake word keeps its own.",
    show_default=False,
)
WAKE_WINDOW: Any = typer.Option(
    None,
    "--wake-window",
    metavar="S",
    help="With --wake: how long after the wake word a keyword counts, in s. [default: 5]",
    show_default=False,
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
    "is the time of day, or <file>-<hash>_<ms> for a sound file.",
    show_default=False,
)
KEEP_ALMOST: Any = typer.Option(
    False,
    "--keep-almost",
    help="With --keep, also keep what reached half of the threshold without being reported: "
    "DIR/almost/<keyword>/. With --wake, only where a keyword would count.",
)
