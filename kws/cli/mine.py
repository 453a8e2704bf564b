"""`kws mine`: false activations in long recordings, saved as training clips."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from kws.cli.options import JSON, MODEL, THRESHOLD, WORKERS
from kws.wording import counted, duration


def register(app: typer.Typer) -> None:
    """Add `mine` to `app`."""
    app.command()(mine)


def mine(
    model: str = MODEL,
    audio: list[Path] = typer.Argument(..., metavar="AUDIO...", help="Recordings to search."),
    out: Path = typer.Option(
        ..., "--out", "-o", metavar="DIR", help="Folder for the clips: DIR/_unknown_/<clip>."
    ),
    labels: list[Path] | None = typer.Option(
        None,
        "--labels",
        metavar="TSV",
        help="Words spoken in the first recording, the second, … (start_s, end_s, keyword). "
        "Without labels, no keyword is spoken and every event is false.",
        show_default=False,
    ),
    threshold: float | None = THRESHOLD,
    before: float | None = typer.Option(
        None,
        "--before",
        metavar="S",
        help="Length of a clip before the event. [default: that of the training clips]",
        show_default=False,
    ),
    after: float = typer.Option(
        0.0, "--after", metavar="S", help="Length of a clip after the event."
    ),
    workers: int | None = WORKERS,
    as_json: bool = JSON,
) -> None:
    """Save a model's false activations as training clips.

    Finished recordings are not run again, so an interrupted run can be continued. A recording that
    cannot be used is reported and skipped; the exit status is then 1. Put the clips into the data
    set, for example with -o speech_commands, and train again.

    \b
    Examples:
      kws mine commands_en radio/*.wav -o false_alarms
      kws mine model.tflite day.wav --labels day.tsv --threshold 0.5 -o speech_commands
    """
    from kws.data.label_file import read_truth
    from kws.recordings.mine import mine as run
    from kws.system.processes import usable_cores
    from kws.system.progress import tell

    tables = labels or []
    if tables and len(tables) != len(audio):
        raise typer.BadParameter(
            f"Give --labels for each recording or for none. Received: {len(tables)} for "
            f"{len(audio)}."
        )
    truths = [read_truth(table) for table in tables] or [[] for _ in audio]
    found = []
    failed = 0
    for one in run(
        model,
        list(zip(audio, truths, strict=True)),
        out,
        thresholds=threshold,
        before_s=before,
        after_s=after,
        workers=workers or usable_cores(),
        progress=True,
    ):
        if one.fault is not None:
            failed += 1
            tell(one.fault)
            continue
        found.append(one)
        if not as_json:
            since = f", {one.removed:,} removed since" if one.removed else ""
            again = f" (from an earlier run{since})" if one.done_before else ""
            typer.echo(
                f"{one.audio}: {duration(one.seconds)}, {counted(len(one.clips), 'clip')}{again}"
            )
    if not found:
        raise typer.Exit(1)
    clips = sum(len(one.clips) for one in found)
    seconds = sum(one.seconds for one in found)
    if as_json:
        rows = [
            {
                "audio": one.audio,
                "seconds": one.seconds,
                "clips": list(one.clips),
                "done_before": one.done_before,
            }
            for one in found
        ]
        typer.echo(json.dumps({"clips": clips, "hours": seconds / 3600, "recordings": rows}))
    else:
        unusable = f", {counted(failed, 'recording')} not usable" if failed else ""
        typer.echo(f"{out}: {counted(clips, 'false activation')} in {duration(seconds)}{unusable}")
    if not clips and not any(one.removed for one in found):
        tell("no false activations; a lower --threshold finds near ones")
    if failed:
        raise typer.Exit(1)
