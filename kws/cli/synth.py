"""`kws data synth`: words, similar-sounding words, and speech without them, from a synthesiser."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kws.cli.data import data_app
from kws.wording import counted

if TYPE_CHECKING:
    from kws.data.synthesis.rooms import Rooms


def register(app: typer.Typer) -> None:
    """Add `synth` to the `data` group."""
    data_app.command("synth")(synth)


def synth(
    words: list[str] = typer.Argument(
        [],
        metavar="WORD",
        help="Words to say, also their labels. LABEL=TEXT says another text, such as a spelling "
        "that sounds right, or phonemes: hello=[[h@l'oU]]. With --speech: words to avoid.",
    ),
    to: Path | None = typer.Option(
        None,
        "--to",
        metavar="DIR",
        help="The data set to add clips to: DIR/<label>/<clip>.",
    ),
    count: int = typer.Option(
        100,
        "--count",
        "-n",
        metavar="N",
        min=0,
        help="Clips of each word; 0: only near-misses.",
    ),
    near_misses: int = typer.Option(
        0,
        "--near-misses",
        metavar="N",
        min=0,
        help="Also N clips of similar-sounding words for each word, in DIR/not_<label>.",
    ),
    seconds: float | None = typer.Option(
        None,
        "--seconds",
        metavar="S",
        help="Length of all clips; longer words are spoken faster. [default: as long as the "
        "longest word needs, at least 1]",
    ),
    speech: float | None = typer.Option(
        None,
        "--speech",
        metavar="MINUTES",
        min=0.01,
        help="Instead of words, this much running speech without them: DIR/<voice>/<n>.wav and "
        "DIR/transcripts.tsv, as for --sentences.",
    ),
    text: Path | None = typer.Option(
        None,
        "--text",
        metavar="FILE",
        help="With --speech: UTF-8 file of lines to speak. [default: nonsense words]",
    ),
    avoid: list[str] = typer.Option(
        [],
        "--avoid",
        metavar="WORD",
        help="With --speech: another word to avoid; may be given more than once.",
    ),
    room_share: float = typer.Option(
        0.5,
        "--room-share",
        metavar="SHARE",
        min=0.0,
        max=1.0,
        help="Share of clips with room acoustics, 0.3 to 4 m from the microphone.",
    ),
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

    Also similar-sounding words, or sentences without the words. Pitch, speed and rooms vary, too.
    Generated voices cannot replace real ones: use them for experiments or in addition.

    Example: kws data synth computer --near-misses 300 --to generated --count 200
    """
    from kws.data.synthesis.voices import languages

    if list_languages:
        for code in languages():
            typer.echo(code)
        return
    if not words and speech is None:
        raise typer.BadParameter("Which words? Give at least one WORD.")
    if to is None:
        raise typer.BadParameter("Where to? Give a folder with --to DIR.")
    if speech is None and (text or avoid):
        raise typer.BadParameter("--text and --avoid need --speech MINUTES.")
    if speech is not None and (near_misses or seconds):
        raise typer.BadParameter("--speech writes only sentences. Run it again for words.")
    if speech is None and not count and not near_misses:
        raise typer.BadParameter("Nothing to write: --count is 0. Give --near-misses N.")

    from kws.data.synthesis.rooms import Rooms

    start = time.monotonic()
    rooms = Rooms(share=room_share, seed=seed)
    if speech is None:
        paths = _words(words, to, count, near_misses, seconds, rooms, language, seed)
        speakers = {path.name.split("_nohash_")[0] for path in paths}
    else:
        paths = _speech(to, speech, text, [*words, *avoid], rooms, language, seed)
        speakers = {path.parent.name for path in paths}
    typer.echo(
        f"wrote {counted(len(paths), 'clip')} by {counted(len(speakers), 'voice')} in "
        f"{time.monotonic() - start:.1f} s. "
        f"Generated voices cannot replace real ones: measure on recordings of people.",
        err=True,
    )


def _words(
    words: list[str],
    to: Path,
    count: int,
    near_misses: int,
    seconds: float | None,
    rooms: Rooms,
    languages: list[str],
    seed: int,
) -> list[Path]:
    from kws.data.synthesis.spoken_clips import labelled_texts
    from kws.data.synthesis.spoken_words import synthesise
    from kws.system.progress import Progress

    texts = labelled_texts(words)
    with Progress(len(texts) * (count + near_misses), "speaking", unit="clips") as progress:
        paths = synthesise(
            texts,
            to,
            clips_per_word=count,
            near_misses=near_misses,
            languages=languages,
            seed=seed,
            clip_seconds=seconds,
            varied=True,
            rooms=rooms,
            on_clip=progress.advance,
        )
    for label in texts:
        if count:
            typer.echo(f"{to / label}: {counted(count, 'clip')}")
        if near_misses:
            typer.echo(f"{to / f'not_{label}'}: {counted(near_misses, 'clip')}")
    return paths


def _speech(
    to: Path,
    minutes: float,
    text: Path | None,
    avoid: list[str],
    rooms: Rooms,
    languages: list[str],
    seed: int,
) -> list[Path]:
    from kws.data.synthesis.running_speech import synthesise_speech
    from kws.system.progress import Progress

    total = max(1, round(60 * minutes))
    done = 0.0
    with Progress(total, "speaking", unit="seconds of speech") as progress:

        def advance(seconds: float) -> None:
            nonlocal done
            before, done = int(done), min(done + seconds, total)
            progress.advance(int(done) - before)

        paths = synthesise_speech(
            to,
            minutes,
            text=text,
            avoid=avoid,
            languages=languages,
            seed=seed,
            rooms=rooms,
            on_speech=advance,
        )
    typer.echo(f"{to}: {counted(len(paths), 'sentence')}")
    return paths
