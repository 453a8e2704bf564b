"""`kws run`: keywords in sound files or in raw samples from a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kws.cli.events import Listener, event_line
from kws.cli.options import (
    JSON_LINES,
    KEEP,
    KEEP_ALMOST,
    LISTENING_MODEL,
    THRESHOLD,
    WAKE,
    WAKE_WINDOW,
)
from kws.wording import counted

if TYPE_CHECKING:
    from kws.decide import Event

# Few NumPy calls, and little memory for files of any length.
_FILE_BLOCK = 16_000
# A pipe may be live: this delays events by at most 50 ms.
_PIPE_BLOCK = 800


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("run")(run)


def run(
    files: list[str] = typer.Argument(
        metavar="FILE",
        help="Sound files, or - for raw samples on stdin (16-bit, 16 kHz, one channel).",
    ),
    model: str = LISTENING_MODEL,
    threshold: float | None = THRESHOLD,
    wake: str | None = WAKE,
    wake_window: float | None = WAKE_WINDOW,
    keep: Path | None = KEEP,
    keep_almost: bool = KEEP_ALMOST,
    as_json: bool = JSON_LINES,
) -> None:
    """Print the keywords in sound files as they are detected.

    Unreadable files are reported and skipped; the exit status is then 1. Half a second of silence
    is added to each file, so that a word at its very end is detected.

    Listen to the clips from --keep. Use false alarms for training with
    `kws data add _unknown_ FILES --to DATA`, and missed words with `kws data add WORD FILES`.

    Example: kws run --model commands_en recording.wav

    Example: arecord -q -t raw -f S16_LE -r 16000 -c 1 | kws run --json -

    Example: kws run --wake computer --model commands_en recording.wav
    """
    import numpy as np

    from kws.errors import KwsError
    from kws.spotter import TAIL_SAMPLES

    listener = Listener(
        model, threshold, wake=wake, wake_window_s=wake_window, keep=keep, keep_almost=keep_almost
    )
    rate = listener.sample_rate_hz
    begun = failed = 0
    heard_samples = 0
    events = 0
    interrupted = None

    def tell_of(file: str, found: Sequence[Event]) -> None:
        nonlocal events
        events += len(found)  # before printing, which may be interrupted
        for event in found:
            typer.echo(event_line(event, as_json=as_json, file=file))  # which flushes each line

    try:
        for file in files:
            begun += 1
            listener.begin(None if file == "-" else file)
            try:
                for block in _blocks(file, rate):
                    heard_samples += len(block)
                    tell_of(file, listener.feed(block))
                if file != "-":  # a pipe just ends
                    silence = np.zeros(TAIL_SAMPLES, np.int16)
                    tell_of(file, listener.feed(silence, real=False))
            except KwsError as error:
                failed += 1
                typer.echo(f"kws: {error}", err=True)
            finally:
                listener.finish()
    except KeyboardInterrupt as error:  # the way to end a live pipe
        interrupted = error
    if failed < begun:
        typer.echo(
            f"{counted(begun - failed, 'file')}, {heard_samples / rate:.1f} s of audio, "
            f"{counted(events, 'event')}{f', {failed} not readable' if failed else ''}",
            err=True,
        )
    if kept := listener.kept():
        typer.echo(kept, err=True)
    if listener.failed:
        raise KwsError(listener.failed)
    if interrupted:
        raise interrupted
    if failed:
        raise typer.Exit(1)


def _blocks(file: str, sample_rate_hz: int) -> Iterable[Any]:
    if file == "-":
        from kws.audio.stream import pcm_chunks
        from kws.system.progress import tell

        if sys.stdin.isatty():
            tell(
                f"waiting for raw samples on stdin (16-bit, {sample_rate_hz / 1000:g} kHz, one "
                "channel)"
            )
        return pcm_chunks(sys.stdin.buffer, _PIPE_BLOCK)
    from kws.audio.files import iter_audio

    return iter_audio(file, _FILE_BLOCK, sample_rate_hz)
