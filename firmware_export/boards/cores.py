"""The cores that a library is checked and measured on: this computer and six kinds of Cortex-M."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kws.errors import KwsError


@dataclass(frozen=True, kw_only=True)
class Core:
    """A processor that the library can be run on."""

    name: str
    """Name for the command line."""
    title: str
    """Name in reports."""
    cpu: str = ""
    """gcc's ``-mcpu``; empty for this computer."""
    machine: str = ""
    """QEMU's name of the board."""
    script: str = ""
    """Linker script in this folder."""
    chip: str = ""
    """A microcontroller with this core, for which the load is estimated."""
    clock_mhz: int = 0
    """Its highest clock, in MHz."""
    cycles_per_instruction: float = 0.0
    """Assumed when a load is estimated: memory loads, taken branches and multiplications take more
    than one cycle, and a core with two pipelines runs instructions in pairs."""


CORES = (
    Core(name="host", title="this computer"),
    Core(
        name="m0",
        title="Cortex-M0",
        cpu="cortex-m0",
        machine="microbit",
        script="microbit.ld",
        chip="RP2040",
        clock_mhz=133,
        cycles_per_instruction=1.5,
    ),
    Core(
        name="m3",
        title="Cortex-M3",
        cpu="cortex-m3",
        machine="mps2-an385",
        script="mps2.ld",
        chip="STM32F103",
        clock_mhz=72,
        cycles_per_instruction=1.5,
    ),
    Core(
        name="m4",
        title="Cortex-M4",
        cpu="cortex-m4",
        machine="mps2-an386",
        script="mps2.ld",
        chip="nRF52840",
        clock_mhz=64,
        cycles_per_instruction=1.5,
    ),
    Core(
        name="m7",
        title="Cortex-M7",
        cpu="cortex-m7",
        machine="mps2-an500",
        script="mps2.ld",
        chip="STM32F746",
        clock_mhz=216,
        cycles_per_instruction=1.0,
    ),
    Core(
        name="m33",
        title="Cortex-M33",
        cpu="cortex-m33",
        machine="mps2-an505",
        script="mps2-an505.ld",
        chip="nRF5340",
        clock_mhz=128,
        cycles_per_instruction=1.5,
    ),
    Core(
        name="m55",
        title="Cortex-M55",
        cpu="cortex-m55",
        machine="mps3-an547",
        script="mps3-an547.ld",
        chip="Alif E3",
        clock_mhz=160,
        cycles_per_instruction=1.5,
    ),
)
HOST = CORES[0]


def cores_named(names: Sequence[str] | None = None) -> tuple[Core, ...]:
    """Return the cores of these names; all by default.

    Raises:
        KwsError: an unknown name.
    """
    known = {core.name: core for core in CORES}
    for name in names or ():
        if name not in known:
            raise KwsError(f"Unknown core. Received: {name!r}. Use: {', '.join(known)}")
    return CORES if names is None else tuple(known[name] for name in dict.fromkeys(names))
