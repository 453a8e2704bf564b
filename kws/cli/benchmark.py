"""`kws benchmark`: speed, memory and size of a model on this computer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from kws.cli.options import JSON, MODEL

if TYPE_CHECKING:
    from kws.benchmark import Benchmark


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("benchmark")(benchmark)


def benchmark(
    model: str = MODEL,
    seconds: float = typer.Option(
        60.0, "--seconds", metavar="S", min=1, max=3600, help="Length of the audio."
    ),
    runs: int = typer.Option(
        5, "--runs", metavar="N", min=1, max=100, help="Measurements for each median."
    ),
    as_json: bool = JSON,
) -> None:
    """Measure a model's start-up time, speed, memory and size.

    On this computer, on one core and in processes that do nothing else.

    Example: kws benchmark commands_en
    """
    from dataclasses import asdict

    from kws.benchmark import run_benchmark

    typer.echo(f"kws: measuring {runs} starts and {seconds:g} s of audio", err=True)
    result = run_benchmark(model, seconds=seconds, runs=runs)
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
    else:
        typer.echo("\n".join(_lines(result)))


def _lines(b: Benchmark) -> list[str]:
    total = b.front_end_us + b.network_us + b.decision_us
    parts = (("front end", b.front_end_us), ("network", b.network_us), ("decision", b.decision_us))
    memory = "not known here" if b.resident_bytes is None else f"{b.resident_bytes / 1e6:.1f} MB"
    rows = [
        ("model", f"{b.model} ({b.file_bytes:,} bytes)"),
        ("runs on", f"{b.runtime}, one thread, {b.machine}"),
        (
            "ready in",
            f"{b.ready_s:.2f} s from process start (imports {b.import_s:.2f} s, "
            f"model {1000 * b.load_s:.1f} ms)",
        ),
        ("memory", f"{memory} resident at most"),
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
