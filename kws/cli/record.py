"""`kws data record`: clips of a word, recorded with the microphone."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from kws.cli.data import OWN_WORDS, data_app
from kws.cli.options import DEVICE
from kws.wording import counted


def register(app: typer.Typer) -> None:
    """Add `record` to the `data` group."""
    data_app.command("record")(record)


def record(
    word: str = typer.Argument(..., metavar="WORD", help="What to say; also the label."),
    folder: Path | None = OWN_WORDS,
    count: int = typer.Option(
        20, "--count", "-n", metavar="N", min=1, help="How many clips to keep."
    ),
    speaker: str | None = typer.Option(
        None,
        "--speaker",
        metavar="NAME",
        help="Who speaks; only a short code of the name is stored. [default: the user]",
    ),
    session: str | None = typer.Option(
        None,
        "--session",
        metavar="NAME",
        help="What these takes have in common, such as the room or the microphone; stored for "
        "each clip in DIR/WORD/recordings.tsv. [default: date and time]",
    ),
    seconds: float = typer.Option(
        2.0, "--seconds", metavar="S", min=1.0, max=10.0, help="Length of a take."
    ),
    device: str | None = DEVICE,
) -> None:
    """Record a word with the microphone, take by take.

    Each take is checked at once, and not kept if it is quiet, clipped, noisy or cut off. Kept takes
    are cut to the word with 0.3 s on either side.

    Example: kws data record marvin --to my_words --count 20 --speaker Ada --session kitchen
    """
    from datetime import datetime

    from kws.data.fetch.home import own_words
    from kws.data.recording.lengths import word_lengths
    from kws.data.recording.record import record_word
    from kws.data.recording.word_clips import speaker_id

    to = own_words(folder)
    person = speaker_id(_user() if speaker is None else speaker)
    meter = _LevelLine()
    kept = record_word(
        word,
        to,
        count=count,
        speaker=person,
        session=f"{datetime.now():%Y-%m-%d %H:%M}" if session is None else session,
        seconds=seconds,
        device=device,
        ask=meter.ask,
        say=meter.say,
        show_level=meter.show,
    )
    for path in kept:
        typer.echo(str(path))
    clips = counted(len(kept), "clip")
    meter.say(f"kept {clips} of {word!r} by speaker {person} in {to / word}")
    if kept:
        meter.say(str(word_lengths(to, word)))


def _user() -> str:
    import getpass

    from kws.errors import KwsError

    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError) as error:  # users in a container may have no name
        raise KwsError(
            f"A speaker needs a name, and the current user has none. Received: {error}. "
            "Give one with --speaker"
        ) from error


class _LevelLine:
    """Questions, lines and a level meter on one terminal, all on stderr."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._drawn = False

    def show(self, level_dbfs: float) -> None:
        if self._shown:
            self._write("\r  " + "#" * round(max(0.0, level_dbfs + 60) / 2) + "\x1b[K")
            self._drawn = True

    def say(self, line: str) -> None:
        self._write(("\r\x1b[K" if self._drawn else "") + line + "\n")
        self._drawn = False

    def ask(self, question: str) -> str:
        self._write(("\r\x1b[K" if self._drawn else "") + question)
        self._drawn = False
        answer = sys.stdin.readline()
        if not answer:
            self._write("\n")
            raise EOFError
        return answer

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
