"""`kws benchmark`: speed, memory and size of a model, or of several runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kws.cli.options import JSON

if TYPE_CHECKING:
    from kws.benchmark.soak import Soak
    from kws.benchmark.speed import Benchmark


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("benchmark")(benchmark)


def benchmark(
    models: list[str] = typer.Argument(
        ...,
        metavar="MODEL",
        help="A .tflite file or the name of a pretrained model; with --zoo, folders of runs.",
        show_default=False,
    ),
    seconds: float = typer.Option(
        60.0, "--seconds", metavar="S", min=1, max=3600, help="Length of the audio."
    ),
    runs: int = typer.Option(
        5, "--runs", metavar="N", min=1, max=100, help="Measurements for each median."
    ),
    soak: float | None = typer.Option(
        None,
        "--soak",
        metavar="HOURS",
        help="Instead, process this many hours of audio, in two kinds of chunks, and check that "
        "events, memory and speed stay the same.",
        show_default=False,
    ),
    audio: list[Path] | None = typer.Option(
        None,
        "--audio",
        metavar="FILE",
        help="With --soak: play this repeatedly instead of synthetic audio; may be repeated.",
        show_default=False,
    ),
    zoo: bool = typer.Option(
        False,
        "--zoo",
        help="Instead, compare finished runs: size, MACs, memory, accuracy and time of each, as a "
        "table, JSON and picture. Exports those that are not exported yet.",
    ),
    out: Path = typer.Option(
        Path("leaderboard.md"),
        "--out",
        "-o",
        metavar="FILE",
        help="With --zoo: the table; JSON and picture get the same name.",
    ),
    as_json: bool = JSON,
) -> None:
    """Measure a model's start-up time, speed, memory and size.

    On this computer, on one core and in fresh processes that do nothing else.

    \b
    Examples:
      kws benchmark commands_en
      kws benchmark commands_en --soak 24
      kws benchmark --zoo runs/* -o leaderboard.md
    """
    from dataclasses import asdict

    if zoo:
        if soak is not None or audio:
            raise typer.BadParameter("--zoo cannot be combined with --soak or --audio.")
        _zoo([Path(run) for run in models], out, as_json)
        return
    if len(models) > 1:
        raise typer.BadParameter("Give one model; to compare runs, use --zoo.")
    model = models[0]
    if soak is not None:
        _soak(model, soak, audio or [], as_json)
        return
    if audio:
        raise typer.BadParameter("--audio needs --soak.")

    from kws.benchmark.speed import run_benchmark

    typer.echo(f"kws: measuring {runs} starts and {seconds:g} s of audio", err=True)
    result = run_benchmark(model, seconds=seconds, runs=runs)
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
    else:
        typer.echo("\n".join(_lines(result)))


def _zoo(runs: list[Path], out: Path, as_json: bool) -> None:
    from kws.benchmark.leaderboard import measure_runs, table, to_dicts, write_leaderboard
    from kws.report.style import check_picture
    from kws.system.progress import tell

    if out.suffix != ".md":
        raise typer.BadParameter(f"--out: the table's name must end in .md. Received: {out}.")
    check_picture(out.with_suffix(".png"))
    entries = measure_runs(runs, say=tell)
    files = write_leaderboard(entries, out)
    typer.echo(json.dumps(to_dicts(entries)) if as_json else "\n".join(table(entries)))
    tell(f"written: {', '.join(str(file) for file in files)}")


def _soak(model: str, hours: float, audio: list[Path], as_json: bool) -> None:
    from dataclasses import asdict

    from kws.benchmark.soak import MEMORY_MB, soak
    from kws.errors import KwsError

    result = soak(model, hours, recordings=audio, progress=True)
    if as_json:
        facts = {"events": result.events, "grown_mb": result.grown_mb}
        typer.echo(json.dumps({**facts, **asdict(result)}))
    else:
        typer.echo("\n".join(_soak_lines(result)))
    different = [i for i, same in enumerate(result.same_events) if not same]
    if different:
        at = result.intervals[different[0]].hours
        raise KwsError(
            f"Other chunk sizes gave other events, first in the interval that ends at {at:g} h. "
            "This is a bug; please report it with the model"
        )
    if result.grown_mb is not None and result.grown_mb > MEMORY_MB:
        raise KwsError(
            f"Memory grew by {result.grown_mb:.1f} MB, more than {MEMORY_MB:g} MB. This is a bug; "
            "please report it with the model"
        )


def _soak_lines(s: Soak) -> list[str]:
    lines = [
        f"{s.model}: {s.hours:g} h of audio",
        f"{'until':>9}{'events':>9}{'times real time':>26}{'memory':>22}",
        f"{'':>9}{'':>9}{'100 ms':>13}{'any chunks':>13}{'100 ms':>11}{'any chunks':>11}",
    ]
    for even, other in zip(s.intervals, s.other_intervals, strict=True):
        memory = [
            "unknown" if one.resident_bytes is None else f"{one.resident_bytes / 1e6:.1f} MB"
            for one in (even, other)
        ]
        lines.append(
            f"{even.hours:>7.4g} h{even.events:>9,}{even.times_real_time:>13,.0f}"
            f"{other.times_real_time:>13,.0f}{memory[0]:>11}{memory[1]:>11}"
        )
    same = "the same" if all(s.same_events) else "not the same"
    lines.append(f"{s.events:,} events, {same} in chunks of 100 ms and of 1 to 32,000 samples")
    if s.grown_mb is not None:
        lines.append(f"memory grew by {s.grown_mb:.1f} MB from the first interval to the last")
    return lines


def _lines(b: Benchmark) -> list[str]:
    total = b.front_end_us + b.network_us + b.decision_us
    parts = (("front end", b.front_end_us), ("network", b.network_us), ("decision", b.decision_us))
    memory = "unknown" if b.resident_bytes is None else f"{b.resident_bytes / 1e6:.1f} MB"
    rows = [
        ("model", f"{b.model} ({b.file_bytes:,} bytes)"),
        ("runs on", f"{b.runtime}, one thread, {b.machine}"),
        (
            "ready in",
            f"{b.ready_s:.2f} s from process start (imports {b.import_s:.2f} s, "
            f"model {1000 * b.load_s:.1f} ms)",
        ),
        ("memory", f"{memory} peak resident"),
        *(
            (f"{ms} ms chunks", f"{speed:,.0f} times real time")
            for ms, speed in b.times_real_time.items()
        ),
        (
            f"a {b.step_ms:g} ms step",
            f"{total:.0f} µs: "
            + ", ".join(f"{name} {us:.0f} µs ({us / total:.0%})" for name, us in parts),
        ),
    ]
    width = max(len(name) for name, _ in rows)
    return [f"{name:{width}}  {text}" for name, text in rows]
