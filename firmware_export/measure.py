"""Measures what the library costs: bytes of flash and memory, and instructions per hop of audio.

Bytes are those of a program linked for the core, as reported by ``arm-none-eabi-size`` (without
unused functions, but with arithmetic from the compiler's library). Instructions are counted by the
board's timer under ``qemu-system-arm -icount shift=0``, so they are the same on every computer. How
many cycles they take depends on the chip; the load in percent rests on an assumption, which is
stated beside it.
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_export.boards.build import DoesNotFitError, Program, build, missing_tools, run, tool
from firmware_export.boards.cores import HOST, Core, cores_named
from firmware_export.names import renamed
from firmware_export.verification_records import pack_clips
from kws.errors import KwsError
from kws.system.processes import thread_pool
from kws.wording import grouped_reasons

_RESULT = struct.Struct("<4s5IQ3Q")
_CALIBRATION = 2_000_000
"""Instructions of the loop that calibrates the timer."""


@dataclass(frozen=True, kw_only=True)
class CoreCost:
    """What the library costs on one core."""

    core: str
    """Name for the command line, for example ``m4``."""
    title: str
    """Name in reports."""
    code_bytes: int
    """Machine code."""
    weights_bytes: int
    """The model: weights, biases, quantisation, labels."""
    tables_bytes: int
    """The front end's tables."""
    constants_bytes: int
    """Other constants: tables of the kernels."""
    state_bytes: int
    """sizeof(kws_state)."""
    stack_bytes: int
    """The most that a call of kws_feed needs."""
    per_hop: int
    """Instructions for a hop, on average."""
    longest_hop: int
    """Instructions for the most expensive hop."""
    per_second: int
    """Instructions for a second of audio."""
    parts: dict[str, int]
    """Instructions for a second by part: front end, convolutions, LSTM, rest."""
    chip: str
    """A microcontroller with this core."""
    clock_mhz: int
    """Its highest clock, in MHz, for which the load is estimated."""
    cycles_per_instruction: float
    """An assumption."""
    hop_ms: float
    """Length of a hop, in milliseconds."""

    @property
    def load(self) -> float:
        """Estimated share of the time that the core is busy, 0 to 1."""
        return self.per_second * self.cycles_per_instruction / (self.clock_mhz * 1e6)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the library costs on each core."""

    optimise: str
    """Optimisation level of the library."""
    cores: tuple[CoreCost, ...]
    """Cores that were measured."""
    skipped: dict[str, str]
    """Cores that were not, and why."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, numbers and strings."""
        result = asdict(self)
        for plain, core in zip(result["cores"], self.cores, strict=True):
            plain["load"] = core.load
        return result

    def markdown(self) -> list[str]:
        """Return the table of the generated README."""
        not_measured = [f"Not measured: {line}" for line in grouped_reasons(self.skipped)]
        if not self.cores:
            return not_measured or ["Not measured: only emulated Cortex-M cores count instructions"]
        cores = self.cores

        def row(title: str, cell: Callable[[CoreCost], str]) -> list[str]:
            return [title, *map(cell, cores)]

        rows = [
            row("", lambda c: c.title),
            ["---", *("---:" for _ in cores)],
            row(f"code at {self.optimise}, bytes", lambda c: f"{c.code_bytes:,}"),
            row("weights, bytes", lambda c: f"{c.weights_bytes:,}"),
            row("tables, bytes", lambda c: f"{c.tables_bytes + c.constants_bytes:,}"),
            row("`kws_state`, bytes", lambda c: f"{c.state_bytes:,}"),
            row("stack, bytes", lambda c: f"{c.stack_bytes:,}"),
            row(
                f"instructions per {cores[0].hop_ms:g} ms, mean",
                lambda c: f"{c.per_hop / 1000:,.0f} k",
            ),
            row("the same, longest", lambda c: f"{c.longest_hop / 1000:,.0f} k"),
            row("instructions per second", lambda c: f"{c.per_second / 1e6:.2f} M"),
        ]
        for part in cores[0].parts:
            # Bind `part` now, not when the row is made.
            rows.append(row(f"– {part}", lambda c, part=part: f"{c.parts[part] / 1e6:.2f} M"))  # type: ignore[misc]
        rows += [
            row("load", lambda c: f"{100 * c.load:.1f} %"),
            row("on", lambda c: f"{c.chip}, {c.clock_mhz} MHz"),
            row("assumed cycles per instruction", lambda c: f"{c.cycles_per_instruction:g}"),
        ]
        lines = [f"| {' | '.join(cells)} |" for cells in rows]
        return lines + [f"\n{line}" for line in not_measured]


def measure(
    library: Path,
    pcm: NDArray[np.int16],
    *,
    sample_rate_hz: int = 16000,
    hop_length: int = 320,
    cores: Sequence[str] | None = None,
    optimise: str = "-Os",
) -> Cost:
    """Measure a generated library.

    Args:
        library: the generated folder.
        pcm: input for the measurement, int16 [samples]: at least a second of speech.
        sample_rate_hz: of the audio.
        hop_length: samples from one frame to the next.
        cores: names from `boards.cores.CORES`; all by default. A core whose tools are missing or
            whose board is too small is skipped, and the result says so. This computer cannot count
            instructions and is left out.
        optimise: optimisation level of the library.

    Raises:
        KwsError: no library in the folder, or one that does not run.
    """
    chosen = [core for core in cores_named(cores) if core != HOST]
    skipped = {core.title: why for core in chosen if (why := missing_tools(core))}
    with tempfile.TemporaryDirectory(prefix="kws-measure-") as room:

        def one(core: Core) -> CoreCost | None:
            try:
                return _measured(
                    core, library, pcm, Path(room, core.name), optimise, sample_rate_hz, hop_length
                )
            except DoesNotFitError as error:
                skipped[core.title] = str(error)
                return None

        with thread_pool() as pool:
            done = list(pool.map(one, [core for core in chosen if core.title not in skipped]))
    return Cost(
        optimise=optimise, cores=tuple(cost for cost in done if cost is not None), skipped=skipped
    )


def _measured(
    core: Core,
    library: Path,
    pcm: NDArray[np.int16],
    room: Path,
    optimise: str,
    sample_rate_hz: int,
    hop_length: int,
) -> CoreCost:
    content = pack_clips([pcm])
    plain = build(core, library, "measure", room / "plain", optimise=optimise)
    _, state, stack, hops, calibration, longest, total, *_ = _counted(plain, content)
    wrap = parts_of(plain)
    divided = build(core, library, "measure", room / "parts", optimise=optimise, wrap=wrap)
    *_, front_end, convolutions, lstm = _counted(divided, content)
    sections = _sections(plain)
    seconds = hops * hop_length / sample_rate_hz

    def instructions(ticks: int) -> int:
        return round(ticks * _CALIBRATION / calibration)

    def per_second(ticks: int) -> int:
        return round(instructions(ticks) / seconds)

    return CoreCost(
        core=core.name,
        title=core.title,
        code_bytes=sections.get(".kws_code", 0),
        weights_bytes=sections.get(".kws_weights", 0),
        tables_bytes=sections.get(".kws_tables", 0),
        constants_bytes=sections.get(".kws_constants", 0),
        state_bytes=state,
        stack_bytes=stack,
        per_hop=round(instructions(total) / hops),
        longest_hop=instructions(longest),
        per_second=per_second(total),
        parts={
            "front end": per_second(front_end),
            "convolutions": per_second(convolutions),
            "LSTM": per_second(lstm),
            "rest": per_second(total - front_end - convolutions - lstm),
        },
        chip=core.chip,
        clock_mhz=core.clock_mhz,
        cycles_per_instruction=core.cycles_per_instruction,
        hop_ms=1000 * hop_length / sample_rate_hz,
    )


def parts_of(program: Program) -> dict[str, str]:
    """Return the functions that are timed, with the part that each counts towards.

    They are those of the front end, and the kernels that the models call.
    """
    front_end = ["kws_frontend_frame"]
    front_end += [f"{name}_quantise" for name in program.objects if name.endswith("_input")]
    wrap = {renamed(name, program.prefix): "FRONT_END" for name in front_end}
    models = [path for name, path in program.objects.items() if name.endswith("_model")]
    for name in (name for path in models for name in _names(path, "-u")):
        if "lstm" in name:
            wrap[name] = "LSTM"
        elif any(what in name for what in ("conv", "depthwise", "pool")):
            wrap[name] = "CONVOLUTIONS"
    return wrap


def _names(path: Path, *options: str) -> list[str]:
    output = _output_of("nm", *options, str(path))
    return [line.split()[-1] for line in output.splitlines() if "kws_" in line]


def _sections(program: Program) -> dict[str, int]:
    output = _output_of("size", "-A", str(program.path))
    return {name: int(size) for name, size in re.findall(r"^(\.\w+)\s+(\d+)", output, re.M)}


def _output_of(name: str, *arguments: str) -> str:
    done = subprocess.run([tool(name), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise KwsError(f"{tool(name)} failed. Received: {done.stderr.strip()[:200]}")
    return done.stdout


def _counted(program: Program, content: bytes) -> tuple[Any, ...]:
    output = run(program, content, counting=True)
    if len(output) != _RESULT.size:
        raise KwsError(
            f"The measuring program on {program.core.title} returned no result. "
            f"Received: {len(output)} bytes"
        )
    return _RESULT.unpack(output)
