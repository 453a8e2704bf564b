"""`kws new`: a few questions, and a recipe for your own words."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from kws.cli.options import JSON
from kws.errors import KwsError

if TYPE_CHECKING:
    from kws.own_words.answers import NewWords

Answer = TypeVar("Answer")
_YES, _NONE = ("yes", "y"), ("no", "n", "none", "-")


def register(app: typer.Typer) -> None:
    """Add `new`."""
    app.command("new")(new)


def new(
    folder: Path | None = typer.Argument(
        None,
        metavar="[DIR]",
        help="Folder for the recipe and everything made from it. [default: the first word]",
        show_default=False,
    ),
    words: list[str] = typer.Option(
        [], "--word", "-w", metavar="WORD", help="What to listen for; may be given more than once."
    ),
    recordings: list[Path] = typer.Option(
        [],
        "--recordings",
        metavar="DIR",
        help="Recordings of it: a folder of sound files, or of one folder for each word. They are "
        "cut to the word as by kws data add; may be given more than once.",
    ),
    speaker: str | None = typer.Option(
        None,
        "--speaker",
        metavar="NAME",
        help="Who speaks in the recordings, if it is one person. By default every recording counts "
        "as a separate speaker, unless it is named <speaker>_nohash_<n>.",
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
        help="What generated voices say for a word that they mispronounce: another spelling, or "
        "phonemes, such as hello=[[h@l'oU]].",
    ),
    device: str | None = typer.Option(
        None,
        "--device",
        metavar="NAME",
        help="Where it will listen: laptop, pi, microcontroller or small-microcontroller (less "
        "than 256 kB of flash). [default: laptop]",
        show_default=False,
    ),
    yes: bool = typer.Option(False, "--yes", "-y", help="Ask nothing: take the defaults."),
    replace: bool = typer.Option(False, "--replace", help="Replace an existing recipe."),
    as_json: bool = JSON,
) -> None:
    """Write a recipe for words of your own.

    Asks for what is not given, writes DIR/recipe.toml, and prints the next commands.

    Run it again with --replace to change answers. Earlier recordings stay, and none is added twice;
    giving them again with --speaker names the speaker of clips that had none.

    Example: kws new --word computer --recordings my_recordings --device pi
    """
    from kws.data.recording.word_clips import check_speaker
    from kws.own_words.answers import (
        DEVICES,
        NewWords,
        check_device,
        find_recordings,
        folder_of,
    )
    from kws.own_words.recipe import write_recipe

    asking = sys.stdin.isatty() and not yes
    chosen = _words(words, asking)
    place = folder or Path(folder_of(chosen[0]))
    # What is given is checked before anything is asked.
    _check_place(place, replace)
    found = find_recordings(recordings, chosen)
    texts = _texts(say, chosen)
    if device is not None:
        if device.casefold() not in DEVICES:
            raise typer.BadParameter(f"--device: unknown {device!r}. Use: {', '.join(DEVICES)}.")
        device = check_device(device)
    spoken_in = _languages(languages, chosen, texts) if languages else None
    if speaker is not None:
        if not recordings and not asking:
            raise typer.BadParameter("--speaker needs recordings. Give them with --recordings.")
        check_speaker(speaker)

    if not recordings and asking and not _recorded(place, chosen):
        found, speaker = _ask_recordings(chosen, speaker)
    if spoken_in is None:
        if asking:
            spoken_in, texts = _ask_languages(chosen, texts)
        else:
            spoken_in = _languages(["en"], chosen, texts)
    if device is None:
        device = _ask_device() if asking else next(iter(DEVICES))

    wanted = NewWords(folder=place, words=chosen, texts=texts, languages=spoken_in, device=device)
    _add_recordings(found, wanted, speaker)
    write_recipe(wanted)
    typer.echo(f"wrote {wanted.recipe}", err=True)
    _tell_next_steps(wanted, as_json)


def _tell_next_steps(wanted: NewWords, as_json: bool) -> None:
    from kws.own_words.next_steps import missing_extras, next_steps

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
        return
    typer.echo("next:\n", err=True)
    for step in steps:
        typer.echo(f"# {'optional: ' if step.optional else ''}{step.why}")
        typer.echo(step.command)


def _words(words: Sequence[str], asking: bool) -> tuple[str, ...]:
    from kws.own_words.answers import check_words

    def split(answer: str) -> tuple[str, ...]:
        return check_words([word for word in answer.split(",") if word.strip()])

    if words:
        return check_words(words)
    if asking:
        return _ask("Which word should it listen for? (separate several with commas)", "", split)
    raise typer.BadParameter("Which word? Give it with --word WORD.")


def _check_place(folder: Path, replace: bool) -> None:
    from kws.own_words.answers import RECIPE

    if folder.exists() and not folder.is_dir():
        raise KwsError(f"DIR must be a folder. Received: {folder}, which is a file")
    if (folder / RECIPE).exists() and not replace:
        raise KwsError(
            f"{folder / RECIPE} already exists. Give another DIR, or --replace to write it again"
        )


def _recorded(folder: Path, words: Sequence[str]) -> bool:
    """Whether the folder already has recordings."""
    from kws.own_words.answers import RECORDINGS, sounds_in

    return any(sounds_in(folder / RECORDINGS / word) for word in words)


def _texts(say: Sequence[str], words: Sequence[str]) -> dict[str, str]:
    """Read WORD=TEXT pairs."""
    import unicodedata

    texts = {}
    for pair in say:
        word, _, text = (part.strip() for part in unicodedata.normalize("NFC", pair).partition("="))
        if not text:
            raise typer.BadParameter(f"--say needs WORD=TEXT. Received: {pair!r}.")
        if word not in words:
            raise typer.BadParameter(
                f"--say needs one of the words. Received: {word!r}; words: {', '.join(words)}."
            )
        texts[word] = text
    return texts


def _ask_recordings(
    words: Sequence[str], speaker: str | None
) -> tuple[dict[str, list[Path]], str | None]:
    """Ask for recordings, and for their speaker if that is not known."""
    from kws.own_words.answers import find_recordings

    def read(answer: str) -> dict[str, list[Path]]:
        none = answer.casefold() in _NONE
        folders = [] if none else [Path(answer.strip("'\"")).expanduser()]
        return find_recordings(folders, words)

    found = _ask("Folder of recordings of it? Press Enter if there are none yet", "none", read)
    if speaker is None and sum(map(len, found.values())) > 1:
        speaker = _ask("Are they all by one speaker? Give a name, or press Enter", "no", _speaker)
    return found, speaker


def _speaker(answer: str) -> str | None:
    """Read the speaker of all recordings: a name or "no"; "yes" asks for the name."""
    from kws.data.recording.word_clips import check_speaker

    if answer.casefold() in _YES:
        return _ask("The speaker's name", "", _speaker)
    return None if answer.casefold() in _NONE else check_speaker(answer)


def _languages(
    languages: Sequence[str], words: Sequence[str], texts: dict[str, str]
) -> tuple[str, ...]:
    """Check the languages that were given."""
    from kws.own_words.answers import UnsayableError, check_languages, check_spoken

    codes = check_languages(languages)
    try:
        check_spoken(words, texts, codes)
    except UnsayableError as error:
        say = shlex.join(["--say", f"{error.word}=TEXT"])
        raise KwsError(f"{error}. Another spelling or phonemes are given with {say}") from error
    return codes


def _ask_languages(
    words: Sequence[str], texts: dict[str, str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Ask for languages, and for another way to say each word that they cannot say as spelt."""
    import unicodedata

    from kws.own_words.answers import UnsayableError, check_languages, check_spoken

    while True:
        codes = _ask(
            "Language of the generated voices? (en, de, fr, …; separate several with commas)",
            "en",
            lambda answer: check_languages(answer.split(",")),
        )
        said = dict(texts)
        while True:
            try:
                check_spoken(words, said, codes)
            except UnsayableError as error:
                _tell_error(error)
                word = error.word
            else:
                return codes, said
            text = _ask(
                f"How should they say {word!r}? (another spelling, or phonemes such as "
                "[[h@l'oU]]; press Enter for another language)",
                "",
                str,
            )
            if not text:
                break
            said[word] = unicodedata.normalize("NFC", text)


def _ask_device() -> str:
    from kws.own_words.answers import DEVICES, check_device

    devices = "".join(f"\n  {name}: {what}" for name, what in DEVICES.items())
    return _ask(f"Where will it listen?{devices}\n", next(iter(DEVICES)), check_device)


def _add_recordings(found: dict[str, list[Path]], new: NewWords, speaker: str | None) -> None:
    """Cut recordings to their words and add them to the folder.

    Running the command again with a speaker's name gives the clips of the same recordings that
    name, rather than adding them twice.

    Raises:
        KwsError: none of a word's recordings holds it.
    """
    from kws.cli.add import tell_recording, tell_totals
    from kws.data.recording.add import Cutting, add_recordings
    from kws.data.recording.word_clips import WordFolder
    from kws.own_words.answers import RECORDINGS, sounds_in
    from kws.system.progress import Progress

    to = new.folder / RECORDINGS
    for word, files in found.items():
        # Files already in that folder are clips.
        files = [path for path in files if path.resolve().parent != (to / word).resolve()]
        if not files:
            continue
        clips = WordFolder(to, word)
        recordings = []
        with Progress(len(files), f"cutting {word}", unit="recordings") as progress:
            for one in add_recordings(files, clips, Cutting(), speaker=speaker, rename=True):
                tell_recording(one, show=lambda _: None)
                recordings.append(dataclasses.replace(one, pcm=None))
                progress.advance()
        try:
            tell_totals(recordings, clips)
        except KwsError as error:
            if not sounds_in(to / word):
                raise
            typer.echo(str(error), err=True)


def _ask(question: str, default: str, read: Callable[[str], Answer]) -> Answer:
    """Ask until `read` accepts an answer; an empty one means the default."""
    while True:
        sys.stderr.write(question + (f" [{default}]: " if default else ": "))
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            sys.stderr.write("\n")
            raise KwsError("Input ended before all questions were answered. Nothing was written")
        try:
            return read(line.strip() or default)
        except KwsError as error:
            _tell_error(error)


def _tell_error(error: KwsError) -> None:
    sys.stderr.write(f"{' '.join(str(error).split())}\n")
