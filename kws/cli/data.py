"""`kws data`: listing and fetching data sets, and adding recordings of your own words."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kws.cli.options import JSON

if TYPE_CHECKING:
    from kws.data.fetch.catalog import DatasetRecipe

data_app = typer.Typer(
    help="List and fetch data sets; add, record or synthesise words.\n\n"
    "Example: kws data fetch speech_commands_v0.02",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the `data` group to `app`; other files of `kws.cli` add to it."""
    app.add_typer(data_app, name="data")


_Name = typer.Argument(
    ..., metavar="NAME", help="Name from `kws data list`, or a recipe's TOML file."
)
OWN_WORDS: Any = typer.Option(
    None,
    "--to",
    metavar="DIR",
    help="The data set that the clips are added to (default: own_words in the data home).",
)
_Home = typer.Option(
    None,
    "--to",
    metavar="DIR",
    help="The data home: the folder of all data sets, each under its name "
    "(default: $KWS_DATA, or data in the cache folder).",
)


@data_app.command("list")
def list_(
    home: Path | None = _Home,
    as_json: bool = typer.Option(False, "--json", help="Print one JSON list."),
) -> None:
    """List the data sets that can be fetched, and which are present.

    Example: kws data list
    """
    from kws.data.fetch.catalog import list_dataset_recipes
    from kws.wording import byte_size

    recipes = list_dataset_recipes()
    if as_json:
        typer.echo(json.dumps([_facts(recipe, home) for recipe in recipes], indent=1))
        return
    width = max(len(recipe.name) for recipe in recipes)
    for recipe in recipes:
        facts = _facts(recipe, home)
        size = byte_size(recipe.size_bytes) if recipe.size_bytes else "?"
        here = "here" if facts["present"] else "-"
        typer.echo(f"{recipe.name:<{width}}  {size:>8}  {here:<4}  {recipe.title}")


@data_app.command("info")
def info(
    name: str = _Name,
    home: Path | None = _Home,
    as_json: bool = JSON,
) -> None:
    """Print the facts about a data set.

    Source, size, checksum, licence, labels, split, and its folder if it is present.

    Example: kws data info speech_commands_v0.02
    """
    from kws.data.fetch.catalog import load_dataset_recipe
    from kws.wording import byte_size

    recipe = load_dataset_recipe(name)
    facts = _facts(recipe, home)
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    shown = {
        **facts,
        "size_bytes": f"{recipe.size_bytes:,} ({byte_size(recipe.size_bytes)})"
        if recipe.size_bytes
        else "unknown",
        "sha256": recipe.sha256 or f"none, cannot be verified: {recipe.unverified_because}",
        "clips": f"{recipe.clips:,}" if recipe.clips else None,
        "unpacked_limit_bytes": f"{recipe.unpacked_limit_bytes:,}",
        "labels": [f"{len(recipe.labels)}: {' '.join(recipe.labels)}"],
        "present": "yes" if facts["present"] else f"no (kws data fetch {name})",
    }
    for key, value in shown.items():
        for i, line in enumerate(value if isinstance(value, list) else [value]):
            if line not in (None, ""):
                typer.echo(f"{key if i == 0 else '':<21} {line}")


def _facts(recipe: DatasetRecipe, home: Path | None) -> dict[str, Any]:
    """Return all fields of a recipe and its folder, ready for JSON."""
    from kws.data.fetch.home import dataset_folder

    folder = dataset_folder(recipe, home)
    facts = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(recipe).items()
    }
    facts["recipe"] = str(facts.pop("path"))
    return {**facts, "present": folder is not None, "folder": str(folder) if folder else None}


@data_app.command("fetch")
def fetch(
    name: str = _Name,
    home: Path | None = _Home,
    mirror: str | None = typer.Option(
        None,
        "--mirror",
        metavar="URL",
        envvar="KWS_MIRROR",
        help="Take the archive from this address or folder instead; its file name is appended.",
    ),
    archive: Path | None = typer.Option(
        None, "--from", metavar="FILE", help="The archive, if you already have it; works offline."
    ),
    keep_archive: bool = typer.Option(
        False, "--keep-archive", help="Keep the downloaded archive after unpacking it."
    ),
) -> None:
    """Download a data set, verify it and unpack it.

    Prints its folder. A partial download stays after Ctrl-C or a broken connection, and the same
    command continues it. A data set that is already present is left alone.

    Example: kws data fetch speech_commands_v0.02
    """
    from kws.data.fetch.catalog import load_dataset_recipe
    from kws.data.fetch.home import fetch_dataset

    recipe = load_dataset_recipe(name)
    done = fetch_dataset(
        recipe, home=home, mirror=mirror, archive=archive, keep_archive=keep_archive
    )
    if done.already:
        typer.echo(f"{recipe.name} is already there; nothing was done", err=True)
    else:
        verified = ", verified" if done.verified else ""
        typer.echo(
            f"{recipe.name}: {done.files:,} files from {done.source}{verified}. "
            f"Licence {recipe.licence}; please cite: {recipe.citation}",
            err=True,
        )
    typer.echo(str(done.folder))


@data_app.command("add")
def add(
    word: str = typer.Argument(
        ..., metavar="WORD", help="The word that is said; also the name of its folder."
    ),
    files: list[Path] = typer.Argument(
        ...,
        metavar="FILE",
        help="Recordings of it: WAV, FLAC, OGG, Opus, MP3 or AIFF, of any rate and length.",
    ),
    folder: Path | None = OWN_WORDS,
    speaker: str | None = typer.Option(
        None,
        "--speaker",
        metavar="NAME",
        help="Who says it. All clips of a speaker go to the same part of the data, so that a "
        "model is measured on unfamiliar voices. By default every recording counts as a separate "
        "speaker, unless it is named <speaker>_nohash_<n>. For someone who also used "
        "`kws data record`, give the code that it printed.",
    ),
    several: bool = typer.Option(
        False, "--several", help="The word is said several times in each file: cut all of them."
    ),
    model: str | None = typer.Option(
        None,
        "--model",
        "-m",
        metavar="MODEL",
        help="A .tflite file or the name of a pretrained model. WORD is one of its keywords, "
        "cut where it is detected, even within running speech.",
    ),
    whole: bool = typer.Option(
        False, "--whole", help="The files are already clips: add them unchanged."
    ),
    longest: float | None = typer.Option(
        None,
        "--longest",
        metavar="S",
        min=0.2,
        max=60.0,
        help="Longest word; longer sounds are rejected. [default: 3; with --model 1.5]",
        show_default=False,
    ),
    pause: float = typer.Option(
        0.25,
        "--pause",
        metavar="S",
        min=0.0,
        max=5.0,
        help="A pause of this length ends a word; use more for words that contain pauses.",
    ),
    plot: Path | None = typer.Option(
        None,
        "--plot",
        metavar="FILE",
        help="Draw what was cut: .png, .pdf or .svg.",
        show_default=False,
    ),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Only print (and draw) what would be cut; write no clips."
    ),
) -> None:
    """Cut recordings to the word and add them to a data set.

    In each recording the word is the sound that stands out most from the background; with --several
    all similar sounds, with --model where the model detects it. It is cut with 0.3 s on either
    side, at least a second, and stored as 16 kHz mono WAV: DIR/<word>/<speaker>_nohash_<n>.wav.
    Existing clips are never overwritten or duplicated. Recordings without a word are refused by
    name, the others are added.

    Add false alarms of a model to the label _unknown_, for training: no word is looked for, and
    they are cut into seconds and, up to four seconds, also taken whole. Add words that it missed to
    their own label.

    \b
    Examples:
      kws data add computer recordings/*.wav --to my_words --plot cuts.png
      kws data add computer session.flac --several --speaker anna --to my_words
      kws data add _unknown_ kept/computer/*.wav --to my_words
      kws data add computer kept/almost/computer/*.wav --to my_words
    """
    from kws.cli.add import add_files
    from kws.data.recording.add import Cutting

    if whole and (several or model is not None):
        raise typer.BadParameter("--whole cuts nothing: leave out --several and --model.")
    cutting = Cutting(
        several=several,
        whole=whole,
        longest_s=longest if longest is not None else 3.0 if model is None else 1.5,
        pause_s=pause,
    )
    add_files(
        word, files, folder, cutting, speaker=speaker, model=model, plot=plot, dry_run=dry_run
    )
