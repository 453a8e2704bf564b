"""`kws data record` and `kws data synth`: clips of a word from a person or a synthesiser."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import typer

from kws.cli.data import OWN_WORDS, data_app
from kws.cli.options import DEVICE


def register(app: typer.Typer) -> None:
    """Add `record` and `synth` to the `data` group."""
    data_app.command("record")(record)
    data_app.command("synth")(synth)


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
        help="Who speaks; only a short code of it is stored. [default: the user]",
    ),
    session: str | None = typer.Option(
        None,
        "--session",
        metavar="NAME",
        help="What these takes have in common, such as the room or the microphone; it stands "
        "beside each clip in DIR/WORD/recordings.tsv. [default: date and time]",
    ),
    seconds: float = typer.Option(
        2.0, "--seconds", metavar="S", min=1.0, max=10.0, help="Length of a take."
    ),
    device: str | None = DEVICE,
) -> None:
    """Record a word with the microphone, take by take.

    Each take is checked at once, and not kept if it is quiet, clipped, noisy or cut off. What is
    kept is cut to the word and 0.3 s around it.

    Example: kws data record marvin --to my_words --count 20 --speaker Ada --session kitchen
    """
    import getpass
    from datetime import datetime

    from kws.data.home import own_words
    from kws.data.lengths import word_lengths
    from kws.data.record import record_word, speaker_id

    to = own_words(folder)
    person = speaker_id(getpass.getuser() if speaker is None else speaker)
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
    meter.say(f"kept {len(kept)} clips of {word!r} by speaker {person} in {to / word}")
    if kept:
        meter.say(str(word_lengths(to, word)))


def synth(
    words: list[str] = typer.Argument(
        None,
        metavar="WORD",
        help="Words to say, also their labels; LABEL=TEXT says something else, such as a spelling "
        "that sounds right or phonemes: hello=[[h@l'oU]].",
    ),
    to: Path | None = typer.Option(
        None, "--to", metavar="DIR", help="The data set that they go to: DIR/<label>/<clip>."
    ),
    count: int = typer.Option(100, "--count", "-n", metavar="N", min=1, help="Clips of each word."),
    language: list[str] = typer.Option(
        ["en"],
        "--language",
        "-l",
        metavar="CODE",
        help="Language or accent; may be given more than once.",
    ),
    seed: int = typer.Option(
        0, "--seed", metavar="N", min=0, help="Another seed gives other clips."
    ),
    list_languages: bool = typer.Option(
        False, "--list-languages", help="Print the languages and accents, and stop."
    ),
) -> None:
    """Let espeak-ng say words in many voices.

    Pitch and speed vary, too; each clip lasts one second. Generated voices are no substitute for
    real ones: use them to try things out, or in addition.

    Example: kws data synth marvin sheila --to generated --count 200
    """
    from kws.data.synth import labelled_texts, languages, synthesise
    from kws.progress import Progress

    if list_languages:
        for code in languages():
            typer.echo(code)
        return
    if not words:
        raise typer.BadParameter("Which words? Give at least one WORD.")
    if to is None:
        raise typer.BadParameter("Where to? Give a folder with --to DIR.")
    texts = labelled_texts(words)
    start = time.monotonic()
    with Progress(len(texts) * count, "speaking", unit="clips") as progress:
        paths = synthesise(
            texts,
            to,
            clips_per_word=count,
            languages=language,
            seed=seed,
            on_clip=progress.advance,
        )
    for label in texts:
        typer.echo(f"{to / label}: {count} clips")
    speakers = len({path.name.split("_nohash_")[0] for path in paths})
    typer.echo(
        f"wrote {len(paths)} clips by {speakers} voices in {time.monotonic() - start:.1f} s. "
        f"Generated voices are no substitute for real ones: measure on recordings of people.",
        err=True,
    )


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
