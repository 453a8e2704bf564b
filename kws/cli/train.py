"""`kws train`: a recipe and data in, the folder of a run out."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kws.cli.options import JSON
from kws.errors import KwsError

if TYPE_CHECKING:
    from kws.recipe import TrainingRecipe
    from kws.train.start import Start
    from kws.train.trained import TrainedRun


def register(app: typer.Typer) -> None:
    """Add `train`."""
    app.command("train")(train)


def train(
    recipe: str | None = typer.Argument(
        None,
        metavar="RECIPE",
        help="A recipe (.toml), or the name of one that comes with the kit (--list).",
    ),
    show_list: bool = typer.Option(
        False, "--list", help="Print the recipes that come with the kit, and stop."
    ),
    data: Path | None = typer.Option(
        None,
        "--data",
        metavar="DIR",
        help="Folder that holds the recipe's folders of recordings, or the clips themselves: "
        "DIR/<label>/<clip>. [default: the recipe's folder, else the fetched data sets]",
    ),
    out: Path | None = typer.Option(
        None,
        "--out",
        "-o",
        metavar="RUN",
        help="Folder for the run. [default: runs/<name of the recipe>]",
    ),
    start: str | None = typer.Option(
        None,
        "--from",
        metavar="MODEL",
        help="Start from the weights of this network: the folder of a run, a .tflite of this kit, "
        "or the name of a pretrained model. [default: as in the recipe]",
    ),
    teacher: list[str] = typer.Option(
        [],
        "--teacher",
        metavar="MODEL",
        help="Also learn from this (larger) network's outputs (distillation); given as for --from; "
        "may be repeated. [default: as in the recipe]",
    ),
    epochs: int | None = typer.Option(
        None,
        "--epochs",
        metavar="N",
        min=1,
        help="Train this many epochs instead of the recipe's number.",
    ),
    seed: int | None = typer.Option(
        None, "--seed", metavar="N", min=0, help="Use this seed instead of the recipe's."
    ),
    resume: bool = typer.Option(
        False, "--resume", help="Continue an interrupted run after its last whole epoch."
    ),
    replace: bool = typer.Option(False, "--replace", help="Replace an existing run."),
    backend: str | None = typer.Option(
        None,
        "--backend",
        metavar="NAME",
        help="tensorflow or jax. [default: $KERAS_BACKEND or tensorflow]",
    ),
    devices: int | None = typer.Option(
        None,
        "--devices",
        metavar="N",
        min=1,
        help="Share every batch among this many devices; several need jax. "
        "[default: all usable GPUs or TPUs]",
    ),
    as_json: bool = JSON,
) -> None:
    """Train a network according to a recipe.

    Uses a GPU if Keras finds one, and with jax several. Ctrl-C keeps every finished epoch; --resume
    continues.

    Example: kws train commands_en --data ~/speech --out runs/commands_en
    """
    from dataclasses import asdict

    from kws.recipe import load_recipe
    from kws.train.backend import choose_backend
    from kws.train.run import run_training

    if show_list:
        _print_recipes()
        return
    if recipe is None:
        raise typer.BadParameter("Which recipe? Give a file or a name; --list shows the names.")
    if resume and replace:
        raise typer.BadParameter("Give either --resume or --replace.")
    wanted = _overridden(load_recipe(recipe), epochs, seed, start, teacher)
    folder = out or Path("runs") / wanted.name
    _check_folder(folder, may_exist=resume or replace)
    data = data or _folder_beside(recipe, wanted)
    choose_backend(backend)
    begin, teachers = _load_networks(wanted)
    result = run_training(
        wanted, data, folder, start=begin, teachers=teachers, resume=resume, devices=devices
    )
    if as_json:
        typer.echo(json.dumps({**asdict(result), "run": str(folder)}))
    else:
        follows = "verdict" if _can_be_judged(wanted, data) else "export"
        # Beside a recipe of the user's own, as the commands of `kws new` have it.
        model = Path(recipe).parent / f"{wanted.name}.tflite"
        command = ["kws", follows, str(folder), "-o", str(model)]
        typer.echo(
            f"{wanted.name}: validation accuracy {100 * result.val_accuracy:.2f} %, mean over the "
            f"labels (epoch {result.best_epoch} of {result.epochs}), "
            f"{result.clips_per_second:,.0f} clips/s\n"
            f"run: {folder}\nnext: {shlex.join(command)}"
        )


def _can_be_judged(recipe: TrainingRecipe, data: Path | None) -> bool:
    """Whether `kws verdict` can measure a run: on streams, with other speech than the keywords."""
    from kws.verdict.streams import Sources

    if recipe.model.create().whole_clip:
        return False
    try:
        # Training has said which folders are missing.
        return Sources.find(recipe, data, say=lambda _: None).can_be_measured()
    except KwsError:  # such as a faulty table of transcripts: the verdict says what is wrong
        return True


def _print_recipes() -> None:
    from kws.recipe import about_recipe, known_recipes

    known = known_recipes()
    width = max(map(len, known))
    for name, path in known.items():
        typer.echo(f"{name:{width}}  {about_recipe(path)}")


def _overridden(
    recipe: TrainingRecipe,
    epochs: int | None,
    seed: int | None,
    start: str | None,
    teachers: list[str],
) -> TrainingRecipe:
    """Return the recipe with the settings given on the command line."""
    from dataclasses import replace

    training = recipe.training
    if epochs is not None:
        training = replace(training, epochs=epochs)
    if start is not None:
        training = replace(training, start=start)
    if teachers:
        training = replace(training, teachers=tuple(teachers))
    return replace(recipe, training=training, seed=recipe.seed if seed is None else seed)


def _check_folder(folder: Path, *, may_exist: bool) -> None:
    """Refuse a folder that cannot hold the run."""
    from kws.train.run_folder import RunFolder

    if folder.is_file():
        raise KwsError(f"--out must be a folder. Received: {folder}, which is a file")
    run = RunFolder(folder)
    if (run.last.exists() or run.best.exists()) and not may_exist:
        raise KwsError(
            f"{folder} already holds a run. Give --resume to continue it, --replace to start "
            "again, or another --out"
        )


def _folder_beside(name: str, recipe: TrainingRecipe) -> Path | None:
    """Return the folder of a recipe if it holds the recipe's recordings as well."""
    from kws.recipe import known_recipes, resolve_recipe

    if name in known_recipes():  # their folder holds only recipes
        return None
    beside = resolve_recipe(name).parent
    there = any((beside / folder).is_dir() for folder in recipe.data.folders)
    return beside if there else None


def _load_networks(recipe: TrainingRecipe) -> tuple[Start | None, list[TrainedRun]]:
    """Load the network to start from, if any, and the teachers."""
    if not (recipe.training.start or recipe.training.teachers):
        return None, []
    from kws.system.native import heed_interrupts, quiet_stderr

    with heed_interrupts(), quiet_stderr():
        from kws.export.load_weights import load_start, load_teacher

        start = load_start(recipe.training.start) if recipe.training.start else None
        return start, [load_teacher(one) for one in recipe.training.teachers]
