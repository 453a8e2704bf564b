"""`kws new`: a few questions, and a recipe for words of one's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from kws.cli.options import JSON
from kws.errors import KwsError

if TYPE_CHECKING:
    from kws.new_words import NewWords, Step

Answer = TypeVar("Answer")
_YES, _NONE = ("yes", "y"), ("no", "n", "none", "-")


def register(app: typer.Typer) -> None:
    """Add `new`."""
    app.command("new")(new)


def new(
    folder: Path | None = typer.Argument(
        None,
        metavar="[DIR]",
        help="Folder for the recipe and all that comes after it. [default: the first word]",
        show_default=False,
    ),
    words: list[str] = typer.Option(
        [], "--word", "-w", metavar="WORD", help="What to listen for; may be given more than once."
    ),
    recordings: list[Path] = typer.Option(
        [],
        "--recordings",
        metavar="DIR",
        help="Recordings of it: a folder of sound files, or one with a folder for each word. They "
        "are cut to the word as by kws data add; may be given more than once.",
    ),
    speaker: str | None = typer.Option(
        None,
        "--speaker",
        metavar="NAME",
        help="Who speaks in the recordings, if it is one person. By default every recording counts "
        "as a speaker of its own, unless its name says it: <speaker>_nohash_<n>.",
    ),
    languages: list[str] = typer.Option(
        [],
        "--language",
        "-l",
        metavar="CODE",
        help="Language of the generated voices (kws data synth --list-languages); may be given "
        "more than once. [default: en]",
        show_default=False,
    ),
    say: list[str] = typer.Option(
        [],
        "--say",
        metavar="WORD=TEXT",
        help="What generated voices say for a word, where its spelling sounds wrong: another "
        "spelling, or phonemes, such as hello=[[h@l'oU]].",
    ),
    device: str | None = typer.Option(
        None,
        "--device",
        metavar="NAME",
        help="What it will listen on: laptop, pi, microcontroller or small-microcontroller (less "
        "than 256 kB of flash). [default: laptop]",
        show_default=False,
    ),
    yes: bool = typer.Option(False, "--yes", "-y", help="Ask nothing: take the defaults."),
    replace: bool = typer.Option(
        False, "--replace", help="Replace a recipe that is there already."
    ),
    as_json: bool = JSON,
) -> None:
    """Write a recipe for words of your own.

    Asks for what is not given, writes DIR/recipe.toml, and prints the commands that come next.

    With --replace it can be run again with other answers. Recordings from before stay, and none is
    added twice: of those that are given again with --speaker, what had no speaker's name takes it.

    Example: kws new --word computer --recordings my_recordings --device pi
    """
    from kws.data.recording.word_clips import check_speaker
    from kws.new_words import (
        DEVICES,
        NewWords,
        check_device,
        check_spoken,
        check_words,
        find_recordings,
        folder_of,
        missing_extras,
        next_steps,
        write_recipe,
    )

    asking = sys.stdin.isatty() and not yes
    if words:
        chosen = check_words(words)
    elif asking:
        chosen = _ask("Which word shall it hear? (several: with commas between)", "", _split_words)
    else:
        raise typer.BadParameter("Which word? Give it with --word WORD.")
    place = folder or Path(folder_of(chosen[0]))
    _check_place(place, replace)
    found = find_recordings(recordings, chosen)
    texts = _texts(say, chosen)
    if device is not None:
        if device.casefold() not in DEVICES:
            raise typer.BadParameter(f"--device: unknown {device!r}. Use: {', '.join(DEVICES)}.")
        device = check_device(device)
    if languages:
        spoken_in = check_spoken(chosen, texts, languages)
    if speaker is not None:
        if not recordings and not asking:
            raise typer.BadParameter("--speaker is about recordings. Give them with --recordings.")
        check_speaker(speaker)

    if not recordings and asking and not _recorded(place, chosen):
        found = _ask(
            "Where are recordings of it? A folder, or nothing if there are none yet",
            "none",
            lambda answer: find_recordings(_folders(answer), chosen),
        )
        if speaker is None and sum(map(len, found.values())) > 1:
            speaker = _ask(
                "Are they all by one speaker? A name, or nothing if they are not", "no", _speaker
            )
    if not languages:
        spoken_in = (
            _ask(
                "Which language are the generated voices to speak? (en, de, fr, …; several: with "
                "commas between)",
                "en",
                lambda answer: check_spoken(chosen, texts, answer.split(",")),
            )
            if asking
            else check_spoken(chosen, texts, ["en"])
        )
    if device is None:
        devices = "".join(f"\n  {name}: {what}" for name, what in DEVICES.items())
        default = next(iter(DEVICES))
        device = (
            _ask(f"What will it listen on?{devices}\n", default, check_device)
            if asking
            else default
        )

    wanted = NewWords(folder=place, words=chosen, texts=texts, languages=spoken_in, device=device)
    _bring(found, wanted, speaker)
    write_recipe(wanted)
    typer.echo(f"wrote {wanted.recipe}", err=True)
    if missing := missing_extras():
        typer.echo(
            f"the commands need more packages: pip install 'kws[{','.join(missing)}]'", err=True
        )
    steps = next_steps(wanted)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "recipe": str(wanted.recipe),
                    "next": [step.command for step in steps if not step.optional],
                    "optional": [step.command for step in steps if step.optional],
                }
            )
        )
    else:
        typer.echo("next:\n", err=True)
        typer.echo("\n".join(_lines(steps)))


def _lines(steps: Sequence[Step]) -> list[str]:
    return [
        line
        for step in steps
        for line in (f"# {'optional: ' if step.optional else ''}{step.why}", step.command)
    ]


def _check_place(folder: Path, replace: bool) -> None:
    from kws.new_words import RECIPE

    if folder.exists() and not folder.is_dir():
        raise KwsError(f"DIR must be a folder. Received: {folder}, which is a file")
    if (folder / RECIPE).exists() and not replace:
        raise KwsError(
            f"{folder / RECIPE} is there already. Give another DIR, or --replace to write it anew"
        )


def _recorded(folder: Path, words: Sequence[str]) -> bool:
    """Whether the folder holds recordings from before."""
    from kws.new_words import RECORDINGS, sounds_in

    return any(sounds_in(folder / RECORDINGS / word) for word in words)


def _texts(say: Sequence[str], words: Sequence[str]) -> dict[str, str]:
    """Read WORD=TEXT pairs."""
    import unicodedata

    texts = {}
    for pair in say:
        word, _, text = (part.strip() for part in unicodedata.normalize("NFC", pair).partition("="))
        if not text:
            raise typer.BadParameter(f"--say is WORD=TEXT. Received: {pair!r}.")
        if word not in words:
            raise typer.BadParameter(
                f"--say is about a word that is not there. Received: {word!r}; words: "
                f"{', '.join(words)}."
            )
        texts[word] = text
    return texts


def _split_words(answer: str) -> tuple[str, ...]:
    from kws.new_words import check_words

    return check_words([word for word in answer.split(",") if word.strip()])


def _folders(answer: str) -> list[Path]:
    return [] if answer.casefold() in _NONE else [Path(answer.strip("'\"")).expanduser()]


def _speaker(answer: str) -> str | None:
    """Read who speaks in all recordings: a name, no for nobody; yes is asked for the name."""
    from kws.data.recording.word_clips import check_speaker

    if answer.casefold() in _YES:
        return _ask("The speaker's name", "", _speaker)
    return None if answer.casefold() in _NONE else check_speaker(answer)


def _bring(found: dict[str, list[Path]], new: NewWords, speaker: str | None) -> None:
    """Cut recordings to their words and add them to the folder.

    Who writes the recipe anew and now says who speaks means the same recordings: clips of them
    that are there take the name, rather than being added under it once more.

    Raises:
        KwsError: none of a word's recordings holds it.
    """
    from kws.cli.add import add_files
    from kws.new_words import RECORDINGS, sounds_in
    from kws.system.progress import Progress

    to = new.folder / RECORDINGS
    for word, files in found.items():
        # Those that lie there already are clips.
        files = [path for path in files if path.resolve().parent != (to / word).resolve()]
        if not files:
            continue
        with Progress(len(files), f"cutting {word}", unit="recordings") as progress:
            try:
                add_files(
                    word,
                    files,
                    to,
                    speaker=speaker,
                    several=False,
                    model=None,
                    uncut=False,
                    longest_s=3.0,
                    pause_s=0.25,
                    plot=None,
                    dry_run=False,
                    rename=True,
                    show=lambda _: progress.advance(),
                )
            except KwsError as error:
                if not sounds_in(to / word):
                    raise
                typer.echo(str(error), err=True)


def _ask(question: str, default: str, read: Callable[[str], Answer]) -> Answer:
    """Ask until there is an answer that `read` can take; nothing means the default."""
    while True:
        sys.stderr.write(question + (f" [{default}]: " if default else ": "))
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            sys.stderr.write("\n")
            raise KwsError("The input ended before all questions were answered. Nothing is written")
        try:
            return read(line.strip() or default)
        except KwsError as error:
            sys.stderr.write(f"{' '.join(str(error).split())}\n")
