"""`kws data synth`: clips of words, and of what sounds like them, from a synthesiser."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from kws.cli.data import data_app


def register(app: typer.Typer) -> None:
    """Add `synth` to the `data` group."""
    data_app.command("synth")(synth)


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
    count: int = typer.Option(
        100, "--count", "-n", metavar="N", min=0, help="Clips of each word; 0 with --near-misses."
    ),
    near_misses: int = typer.Option(
        0,
        "--near-misses",
        metavar="N",
        min=0,
        help="Also so many clips of what sounds like each word and is not it, in DIR/not_<label>.",
    ),
    seconds: float | None = typer.Option(
        None,
        "--seconds",
        metavar="S",
        help="Length of all clips; longer words are spoken faster. [default: as long as the "
        "longest word needs, at least 1]",
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

    Pitch and speed vary, too. Generated voices are no substitute for real ones: use them to try
    things out, or in addition.

    Example: kws data synth computer --near-misses 300 --to generated --count 200
    """
    from kws.data.near_misses import synthesise_with_near_misses
    from kws.data.synth import labelled_texts, languages
    from kws.progress import Progress

    if list_languages:
        for code in languages():
            typer.echo(code)
        return
    if not words:
        raise typer.BadParameter("Which words? Give at least one WORD.")
    if to is None:
        raise typer.BadParameter("Where to? Give a folder with --to DIR.")
    if not count and not near_misses:
        raise typer.BadParameter("Nothing to write: --count is 0. Give --near-misses N.")
    texts = labelled_texts(words)
    start = time.monotonic()
    with Progress(len(texts) * (count + near_misses), "speaking", unit="clips") as progress:
        paths = synthesise_with_near_misses(
            texts,
            to,
            clips_per_word=count,
            near_misses=near_misses,
            languages=language,
            seed=seed,
            clip_seconds=seconds,
            on_clip=progress.advance,
        )
    for label in texts:
        if count:
            typer.echo(f"{to / label}: {count} clips")
        if near_misses:
            typer.echo(f"{to / f'not_{label}'}: {near_misses} clips")
    speakers = len({path.name.split("_nohash_")[0] for path in paths})
    typer.echo(
        f"wrote {len(paths)} clips by {speakers} voices in {time.monotonic() - start:.1f} s. "
        f"Generated voices are no substitute for real ones: measure on recordings of people.",
        err=True,
    )
