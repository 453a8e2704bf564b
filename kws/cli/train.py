"""`kws train`: a recipe and data in, a run's folder out."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from kws.cli.options import JSON
from kws.errors import KwsError


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
        help="Where the recipe's folders of recordings are, or the clips: DIR/<label>/<clip>. "
        "[default: beside the recipe, else among the fetched data sets]",
    ),
    out: Path | None = typer.Option(
        None,
        "--out",
        "-o",
        metavar="RUN",
        help="Folder for the run. [default: runs/<recipe's name>]",
    ),
    start: str | None = typer.Option(
        None,
        "--from",
        metavar="MODEL",
        help="Start from the weights of this network: a run's folder, a .tflite of this kit, or "
        "the name of a pretrained model. [default: the recipe's, which by default is none]",
    ),
    teacher: list[str] = typer.Option(
        [],
        "--teacher",
        metavar="MODEL",
        help="Learn the answers of this network, too, a larger one; named as for --from; may be "
        "given more than once. [default: the recipe's]",
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
        False, "--resume", help="Go on after the last whole epoch of an interrupted run."
    ),
    replace: bool = typer.Option(False, "--replace", help="Replace a run that is there already."),
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
        "[default: all GPUs or TPUs that can be used]",
    ),
    as_json: bool = JSON,
) -> None:
    """Train a network by a recipe.

    Uses a GPU where Keras finds one, and on jax several. Ctrl-C keeps every finished epoch;
    --resume goes on.

    Example: kws train commands_en --data ~/speech --out runs/commands_en
    """
    import dataclasses

    from kws.recipe import about_recipe, known_recipes, load_recipe, resolve_recipe
    from kws.train import choose_backend, run_training
    from kws.train.run_folder import RunFolder

    if show_list:
        known = known_recipes()
        width = max(map(len, known))
        for name, path in known.items():
            typer.echo(f"{name:{width}}  {about_recipe(path)}")
        return
    if recipe is None:
        raise typer.BadParameter("Which recipe? Give a file or a name; --list shows the names.")
    if resume and replace:
        raise typer.BadParameter("Give either --resume or --replace.")
    wanted = load_recipe(recipe)
    training = wanted.training
    if epochs is not None:
        training = dataclasses.replace(training, epochs=epochs)
    if start is not None:
        training = dataclasses.replace(training, start=start)
    if teacher:
        training = dataclasses.replace(training, teachers=tuple(teacher))
    wanted = dataclasses.replace(wanted, training=training)
    if seed is not None:
        wanted = dataclasses.replace(wanted, seed=seed)
    folder = out or Path("runs") / wanted.name
    if folder.is_file():
        raise KwsError(f"--out must be a folder. Received: {folder}, which is a file")
    run = RunFolder(folder)
    if (run.last.exists() or run.best.exists()) and not (resume or replace):
        raise KwsError(
            f"{folder} holds a run already. Give --resume to go on with it, --replace to start "
            "again, or another --out"
        )
    if data is None:
        beside = resolve_recipe(recipe).parent
        there = any((beside / name).is_dir() for name in wanted.data.folders)
        # Beside the recipes that come with the kit there are none but recipes.
        data = beside if there and recipe not in known_recipes() else None
    choose_backend(backend)
    begin, teachers = None, []
    if wanted.training.start or wanted.training.teachers:
        from kws.system.native import heed_interrupts, quiet_stderr

        with heed_interrupts(), quiet_stderr():
            from kws.export.recover import recover_start, recover_teacher

            if wanted.training.start:
                begin = recover_start(wanted.training.start)
            teachers = [recover_teacher(one) for one in wanted.training.teachers]
    result = run_training(
        wanted, data, folder, start=begin, teachers=teachers, resume=resume, devices=devices
    )
    if as_json:
        typer.echo(json.dumps({**dataclasses.asdict(result), "run": str(folder)}))
    else:
        # What hears streams gets thresholds and a proof on them; all else is measured on clips.
        follows = "export" if wanted.model.create().whole_clip else "verdict"
        typer.echo(
            f"{wanted.name}: validation accuracy {100 * result.val_accuracy:.2f} % (epoch "
            f"{result.best_epoch} of {result.epochs}), {result.clips_per_second:,.0f} clips/s\n"
            f"run: {folder}\nnext: kws {follows} {folder} -o {wanted.name}.tflite"
        )
