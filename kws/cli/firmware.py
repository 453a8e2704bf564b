"""`kws firmware`: a model as a C library for microcontrollers, checked against Python."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kws.cli.events import window_after_wake
from kws.cli.options import JSON, MODEL, THRESHOLD, WAKE_WINDOW
from kws.errors import KwsError

if TYPE_CHECKING:
    from firmware_export.boards.build import View
    from firmware_export.reference_model import ReferenceModel
    from firmware_export.verification import Verification
    from firmware_export.verify import AudioToCompare

FORMS = ("library", "tflm")


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("firmware")(firmware)


def firmware(
    model: str = MODEL,
    out: Path = typer.Option(
        ...,
        "--out",
        "-o",
        metavar="DIR",
        help="Folder to write: new, empty or written by this command before.",
    ),
    form: str = typer.Option(
        "library",
        "--form",
        metavar="FORM",
        help="library: C99 without an interpreter. tflm: files for TensorFlow Lite Micro.",
    ),
    wake: str | None = typer.Option(
        None,
        "--wake",
        metavar="MODEL",
        help="Model of a wake word, for one library of both: the other model's keywords count only "
        "just after it, and only the first. They have --threshold or their model's thresholds for "
        "after a wake word, if it has some; the wake word keeps its own.",
        show_default=False,
    ),
    wake_window: float | None = WAKE_WINDOW,
    threshold: float | None = THRESHOLD,
    after_wake: bool = typer.Option(
        False,
        "--after-wake",
        help="Use the model's thresholds for after a wake word, which something else hears.",
    ),
    prefix: str = typer.Option(
        "kws",
        "--prefix",
        metavar="NAME",
        help="Prefix of names in C. Of several models in one program each needs its own: kws_ and "
        "a word.",
    ),
    clips: Path | None = typer.Option(
        None,
        "--verify",
        metavar="CLIPS",
        help="Run the library on CLIPS/<label>/<clip> and compare every value with Python; also "
        "measure its cost on emulated boards.",
    ),
    stream: Path | None = typer.Option(
        None, "--stream", metavar="AUDIO", help="The same, on a long recording."
    ),
    most: int | None = typer.Option(
        None, "--clips", metavar="N", min=1, help="Compare on at most N clips."
    ),
    cores: str | None = typer.Option(
        None,
        "--cores",
        metavar="NAMES",
        help="Cores to compare on: host, m0, m3, m4, m7, m33, m55 (comma-separated). "
        "[default: all whose tools are installed]",
    ),
    as_json: bool = JSON,
) -> None:
    """Write a model as a C library for microcontrollers.

    The folder is at once a library for CMake, Arduino, PlatformIO, ESP-IDF and Zephyr, with
    examples and a self-test. --verify checks that it computes the same bits as Python.

    Example: kws firmware commands_en -o kws_commands_en

    Example: kws firmware commands_en -o kws_commands_en --verify validation --clips 200

    Example: kws firmware commands_en --wake computer -o kws_after_computer

    Example: kws firmware my_words.tflite -o kws_more --prefix kws_more
    """
    if form not in FORMS:
        raise typer.BadParameter(f"--form: unknown {form!r}. Use: {', '.join(FORMS)}.")
    verifying = clips is not None or stream is not None
    window_s = window_after_wake(wake, wake_window)
    if after_wake and threshold is not None:
        raise typer.BadParameter("Give either --threshold or --after-wake.")
    if wake is not None:
        _check_wake_options(after_wake, form, prefix)
    if form == "tflm" and (verifying or prefix != "kws"):
        raise typer.BadParameter("--verify, --stream and --prefix go with --form library.")
    if not verifying and (most is not None or cores is not None):
        raise typer.BadParameter("--clips and --cores go with --verify or --stream.")
    names = None if cores is None else [name.strip() for name in cores.split(",")]
    # Before anything is written, so that wrong input leaves an earlier library as it is.
    audio = _audio(model, clips, stream, most, names) if verifying else None
    thresholds = _after_wake(model) if after_wake else threshold
    if form == "tflm":
        facts, lines = _tflm(model, out, thresholds)
    elif wake is not None:
        facts, lines = _library_of_two(model, wake, out, thresholds, window_s)
    else:
        facts, lines = _library(model, out, thresholds, prefix)
    if audio is None:
        typer.echo(json.dumps(facts) if as_json else "\n".join(lines))
        return
    if not as_json:
        typer.echo("\n".join(lines) + "\n")
    if wake is not None:
        compared = _compare_two(model, wake, out, thresholds, window_s, audio, names)
    else:
        compared = _compare(model, out, thresholds, audio, names)
    equal, more, lines = _measure(model, out, compared, names)
    typer.echo(json.dumps(facts | more) if as_json else "\n".join(lines))
    if not equal:
        raise KwsError(
            f"{out} was written, but does not compute what Python does. Do not use it, and report "
            "this as a bug"
        )


def _check_wake_options(after_wake: bool, form: str, prefix: str) -> None:
    if after_wake:
        raise typer.BadParameter(
            "--after-wake is for a wake word that something else hears; --wake has the same "
            "thresholds. Leave it out."
        )
    if form == "tflm":
        raise typer.BadParameter("--wake goes with --form library. For TFLM write each model.")
    if prefix != "kws":
        raise typer.BadParameter(
            f"A library of two models has the prefix kws. Leave out --prefix {prefix}, and give "
            "another library in the same program one."
        )


_TITLES = {
    "wake": "the wake word, {}",
    "commands": "the commands, {}, where each recording begins as if a wake word had just come",
}
"""Above how each model of a library of two compares with Python."""

Report = tuple[dict[str, Any], list[str]]
"""What was done, as facts for JSON and as lines of text."""


Thresholds = float | Mapping[str, float] | None
"""In place of the model's own, for some keywords or one number for all."""


def _after_wake(model: str) -> Mapping[str, float]:
    from kws.model_file import load_model

    thresholds = load_model(model).decision.after_wake
    if not thresholds:
        raise KwsError(
            f"{model} has no thresholds for after a wake word. Choose some with: kws calibrate "
            "MODEL --wake WAKE --positives AUDIO --labels TSV -o FILE; or give --threshold"
        )
    return thresholds


def _audio(
    model: str, clips: Path | None, stream: Path | None, most: int | None, cores: list[str] | None
) -> AudioToCompare:
    """Return what to compare on, if there is a core to do so."""
    from firmware_export.verify import cores_to_compare, read_audio_to_compare
    from kws.model_file import load_model

    cores_to_compare(cores)
    rate = load_model(model).front_end.sample_rate_hz
    return read_audio_to_compare(clips, stream, limit=most, sample_rate_hz=rate)


def _library(model: str, out: Path, thresholds: Thresholds, prefix: str) -> Report:
    from firmware_export.emit import generate

    written = generate(model, out, thresholds=thresholds, prefix=prefix)
    return written.to_dict(), written.lines()


def _library_of_two(
    model: str, wake: str, out: Path, thresholds: Thresholds, window_s: float
) -> Report:
    from firmware_export.emit import generate_after_wake

    written = generate_after_wake(model, wake, out, thresholds=thresholds, window_s=window_s)
    return written.to_dict(), written.lines()


def _tflm(model: str, out: Path, thresholds: Thresholds) -> Report:
    from firmware_export.emit import generate_tflm

    written = generate_tflm(model, out, thresholds=thresholds)
    facts = {"folder": str(out), "files": len(written.files), "arena_bytes": written.arena_bytes}
    arena = (
        f"{written.arena_bytes:,} bytes of arena on this computer"
        if written.arena_bytes
        else f"arena not measured: {written.not_measured}"
    )
    return facts | {"operators": list(written.operators)}, [
        f"{out}: {len(written.files)} files for TensorFlow Lite Micro",
        f"needs   {', '.join(written.operators)}; {arena}",
        f"next    {out}/README.md",
    ]


def _compare(
    model: str,
    out: Path,
    thresholds: Thresholds,
    audio: AudioToCompare,
    cores: list[str] | None,
) -> dict[str, Verification]:
    """Return how the library compares with Python, under an empty name."""
    from firmware_export.emit import open_reference_model
    from firmware_export.verify import verify_on
    from kws.model_file import resolve_model

    reference = open_reference_model(model, thresholds)
    content = resolve_model(model).read_bytes()
    return {"": verify_on(audio, reference, out, cores=cores, content=content, progress=True)}


def _compare_two(
    model: str,
    wake: str,
    out: Path,
    thresholds: Thresholds,
    window_s: float,
    audio: AudioToCompare,
    cores: list[str] | None,
) -> dict[str, Verification]:
    """Return how each model of the library compares with Python."""
    from firmware_export.emit import open_commands_after_wake
    from firmware_export.verify import verify_on
    from kws.model_file import resolve_model

    commands = open_commands_after_wake(model, wake, thresholds, window_s)
    commands.awake_at_start = True
    views: tuple[tuple[View, ReferenceModel, str], ...] = (
        ("wake", commands.wake, wake),
        ("commands", commands, model),
    )
    return {
        view: verify_on(
            audio,
            reference,
            out,
            view=view,
            cores=cores,
            content=resolve_model(path).read_bytes(),
            progress=True,
        )
        for view, reference, path in views
    }


def _measure(
    model: str, out: Path, compared: dict[str, Verification], cores: list[str] | None
) -> tuple[bool, dict[str, Any], list[str]]:
    """Measure the library, and put this and how it compares with Python into its README.

    Returns:
        Whether everything is equal, facts for JSON, and lines of text.
    """
    from firmware_export.emit import add_measurements
    from firmware_export.measure import measure
    from firmware_export.self_test_signal import signal
    from kws.model_file import load_model

    front_end = load_model(model).front_end
    cost = measure(
        out,
        signal(front_end.sample_rate_hz),
        sample_rate_hz=front_end.sample_rate_hz,
        hop_length=front_end.hop_length,
        cores=cores,
    )
    lines: list[str] = []
    for name, result in compared.items():
        lines += [_TITLES[name].format(result.model)] if name else []
        lines += [*result.lines(), ""]
    table = cost.markdown()
    add_measurements(out, ["```", *lines[:-1], "```", "", *table])
    facts: dict[str, Any] = {name: result.to_dict() for name, result in compared.items()}
    facts = {"verification": facts.get("", facts), "cost": cost.to_dict()}
    return all(result.equal for result in compared.values()), facts, [*lines, *table]
