"""Speed, memory and size of a model file on this computer, on one core.

Start-up time and memory belong to a process, so they are measured in fresh processes that only run
the model (`speed_process`): the figures are those of a program that uses `kws.Spotter`.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kws.errors import KwsError
from kws.model_file import resolve_model
from kws.system.processes import child_environment

_TIMEOUT_S = 600.0
_START = "from kws.benchmark.speed_process import main; main()"


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What was measured; medians of several runs."""

    model: str
    """Path of the model file."""
    file_bytes: int
    """Its size."""
    runtime: str
    """Name and version of the TFLite runtime."""
    machine: str
    """Processor architecture and operating system."""
    ready_s: float
    """From the start of the Python process to a spotter ready for its first sample, in s."""
    import_s: float
    """Part of this spent on imports, in s."""
    load_s: float
    """Part of this spent on opening the model, in s."""
    resident_bytes: int | None
    """Largest resident memory of the process, Python included; None if unknown."""
    times_real_time: dict[str, float]
    """Seconds of audio per second of processor time, by length of the chunks in ms."""
    front_end_us: float
    """Time for the MFCCs per step of the network, in µs."""
    network_us: float
    """Time for the network per step, in µs."""
    decision_us: float
    """Time for smoothing and thresholds per step, in µs."""
    step_ms: float
    """Audio per step of the network, in ms."""


def run_benchmark(model: str | Path, *, seconds: float = 60.0, runs: int = 5) -> Benchmark:
    """Measure a model file in fresh processes, each on one core with one thread.

    Args:
        model: a .tflite in stream form, or the name of a pretrained model.
        seconds: length of the generated audio.
        runs: number of measurements; the median is reported.

    Raises:
        KwsError: no such model, one that cannot follow a stream, a run that fails or takes minutes.
    """
    path = resolve_model(model)
    starts = [_fresh_process(path, 0.0, 0) for _ in range(runs)]
    speed = _fresh_process(path, seconds, runs)

    def median(name: str) -> float:
        return statistics.median(start[name] for start in starts)

    return Benchmark(
        model=str(path),
        file_bytes=path.stat().st_size,
        machine=f"{platform.machine()} {platform.system()}",
        ready_s=median("ready_s"),
        import_s=median("import_s"),
        load_s=median("load_s"),
        **speed["speed"],
    )


def _fresh_process(path: Path, seconds: float, runs: int) -> dict[str, Any]:
    environment = child_environment()
    # NumPy's BLAS would start a thread per core, each with its own memory.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[name] = "1"
    try:
        # time.time() is a clock that both processes share.
        result = subprocess.run(
            [sys.executable, "-c", _START, path, repr(time.time()), str(seconds), str(runs)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise KwsError(
            f"The benchmark of {path} took more than {_TIMEOUT_S:.0f} s. Use fewer --seconds"
        ) from error
    if result.returncode:
        lines = result.stderr.strip().splitlines()
        raise KwsError(
            lines[-1] if lines else f"The benchmark ended with exit status {result.returncode}"
        )
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer
