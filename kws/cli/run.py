"""`kws run`: the keywords in sound files or in raw samples from a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from kws.spotter import Spotter

# Enough to keep NumPy's calls few, and little memory for any length of file.
_FILE_BLOCK = 16_000
# A pipe may be live: an event waits for at most 50 ms.
_PIPE_BLOCK = 800
# After a file's last sample the spotter hears this much silence, so that a word that ends with the
# file is still decided on. A pipe just ends.
_TAIL_SAMPLES = 8000


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("run")(run)


def run(
    files: list[str] = typer.Argument(
        metavar="FILE...",
        help="Sound files, or - for raw samples on stdin (16-bit, 16 kHz, one channel).",
    ),
    model: str = typer.Option(
        "commands_en", "--model", "-m", help="A .tflite file or the name of a pretrained model."
    ),
    threshold: float | None = typer.Option(
        None, "--threshold", help="For all keywords, above 0 to 1, instead of the model's own."
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON object per event and line."),
) -> None:
    """Print the keywords found in sound files, as they are found.

    A file that cannot be read is reported and the others still run; the exit status is then 1.
    After each file half a second of silence is heard, so that a word at its very end counts.

    Example: kws run --model commands_en recording.wav

    Example: arecord -q -t raw -f S16_LE -r 16000 -c 1 | kws run --json -
    """
    import numpy as np

    from kws.errors import KwsError
    from kws.spotter import Spotter

    if threshold is not None and not 0 < threshold <= 1:
        raise typer.BadParameter(f"It must be above 0 and at most 1. Received: {threshold}.")
    spotter = Spotter(model, thresholds=threshold)
    failed = 0
    heard_samples = 0
    events = 0
    for file in files:
        spotter.reset()
        try:
            for block in _blocks(file):
                heard_samples += len(block)
                events += _report(file, spotter, block, as_json)
            if file != "-":
                events += _report(file, spotter, np.zeros(_TAIL_SAMPLES, np.int16), as_json)
        except KwsError as error:
            failed += 1
            typer.echo(f"kws: {error}", err=True)
    if failed < len(files):
        seconds = heard_samples / spotter.card.front_end.sample_rate_hz
        typer.echo(
            f"{_count(len(files) - failed, 'file')}, {seconds:.1f} s of audio, "
            f"{_count(events, 'event')}{f', {failed} not readable' if failed else ''}",
            err=True,
        )
    if failed:
        raise typer.Exit(1)


def _blocks(file: str) -> Iterable[Any]:
    if file == "-":
        from kws.audio.stream import pcm_chunks

        return pcm_chunks(sys.stdin.buffer, _PIPE_BLOCK)
    from kws.audio.files import iter_audio

    return iter_audio(file, _FILE_BLOCK)


def _report(file: str, spotter: Spotter, block: Any, as_json: bool) -> int:
    """Feed one block, print its events (echo flushes each line) and return their number."""
    events = spotter.feed(block)
    for event in events:
        if as_json:
            fields = {
                "file": file,
                "time_s": round(event.time_s, 3),
                "keyword": event.keyword,
                "score": round(event.score, 4),
            }
            typer.echo(json.dumps(fields))
        else:
            typer.echo(f"{file}  {event.time_s:.2f} s  {event.keyword}  {event.score:.2f}")
    return len(events)


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
