"""`kws firmware`: a model as a C library for microcontrollers, checked against Python."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kws.cli.options import JSON, MODEL, THRESHOLD
from kws.errors import KwsError

if TYPE_CHECKING:
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
    threshold: float | None = THRESHOLD,
    after_wake: bool = typer.Option(
        False,
        "--after-wake",
        help="Use the model's thresholds for after a wake word, which another model hears.",
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

    Example: kws firmware computer -o kws_wake --prefix kws_wake

    Example: kws firmware commands_en -o kws_commands --prefix kws_commands --after-wake
    """
    if form not in FORMS:
        raise typer.BadParameter(f"--form: unknown {form!r}. Use: {', '.join(FORMS)}.")
    verifying = clips is not None or stream is not None
    if after_wake and threshold is not None:
        raise typer.BadParameter("Give either --threshold or --after-wake.")
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
    else:
        facts, lines = _library(model, out, thresholds, prefix)
    if audio is None:
        typer.echo(json.dumps(facts) if as_json else "\n".join(lines))
        return
    if not as_json:
        typer.echo("\n".join(lines) + "\n")
    equal, more, lines = _verify(model, out, thresholds, audio, names)
    typer.echo(json.dumps(facts | more) if as_json else "\n".join(lines))
    if not equal:
        raise KwsError(
            f"{out} was written, but does not compute what Python does. Do not use it, and report "
            "this as a bug"
        )


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


def _verify(
    model: str,
    out: Path,
    thresholds: Thresholds,
    audio: AudioToCompare,
    cores: list[str] | None,
) -> tuple[bool, dict[str, Any], list[str]]:
    """Compare and measure, and put the results into the library's README.

    Returns:
        Whether everything is equal, facts for JSON, and lines of text.
    """
    from firmware_export.emit import add_measurements, open_reference_model
    from firmware_export.measure import measure
    from firmware_export.self_test_signal import signal
    from firmware_export.verify import verify_on
    from kws.model_file import resolve_model

    reference = open_reference_model(model, thresholds)
    compared = verify_on(
        audio,
        reference,
        out,
        cores=cores,
        content=resolve_model(model).read_bytes(),
        progress=True,
    )
    front_end = reference.card.front_end
    cost = measure(
        out,
        signal(front_end.sample_rate_hz),
        sample_rate_hz=front_end.sample_rate_hz,
        hop_length=front_end.hop_length,
        cores=cores,
    )
    table = cost.markdown()
    add_measurements(out, ["```", *compared.lines(), "```", "", *table])
    facts = {"verification": compared.to_dict(), "cost": cost.to_dict()}
    return compared.equal, facts, [*compared.lines(), "", *table]
