"""`kws data part`: one part of a data set as a separate folder."""

from __future__ import annotations

from pathlib import Path

import typer

from kws.cli.data import data_app
from kws.cli.options import DATA_SET
from kws.wording import counted


def register(app: typer.Typer) -> None:
    """Add `part` to the `data` group."""
    data_app.command("part")(part)


def part(
    root: Path = DATA_SET,
    name: str = typer.Option(
        "validation", "--part", metavar="PART", help="training, validation, testing, or all."
    ),
    word: list[str] = typer.Option(
        [], "--word", metavar="WORD", help="Only clips of this label; may be given more than once."
    ),
    target: Path = typer.Option(..., "--to", metavar="NEW", help="New folder to write."),
    silence: int = typer.Option(
        0,
        "--silence",
        metavar="N",
        min=0,
        help="Add N _silence_ clips: background noise at -60 to -10 dBFS that is never trained on.",
    ),
) -> None:
    """Write one part of a data set to a folder, to measure models on.

    The speaker decides the part of a clip, as in training. Lists in the new folder keep its clips
    out of training. Clips are hard links where possible: changing one in place changes it in the
    data set, too.

    Example: kws data part speech_commands --silence 260 --to validation
    """
    from kws.data.part import write_part

    counts = write_part(root, name, target, words=word, silence=silence)
    typer.echo(
        f"{target}: {counted(sum(counts.values()), 'clip')} of {counted(len(counts), 'label')}"
    )
