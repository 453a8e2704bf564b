"""Builds the programs of this folder with a generated library, and runs them.

A program runs on this computer (``host``) or on a Cortex-M under QEMU, where it reads and writes
its files by semihosting. Start-up code and linker scripts are those of this folder; of the compiler
only the library functions are used that the generated code may use (`memcpy` and its kin) and the
arithmetic that a core has no instructions for.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from firmware_export.names import PREFIX, renamed
from kws.errors import KwsError

FOLDER = Path(__file__).resolve().parent
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic")
"""What generated code must be compiled with in silence."""
COUNTING = ("-icount", "shift=0")
"""QEMU: an instruction takes one nanosecond, so that the board's timer counts instructions."""
_GCC = "arm-none-eabi-gcc"
_QEMU = "qemu-system-arm"
_STATUS = {
    1: "the library returned an error",
    2: "it did not understand its input",
    3: "it could not open or write a file",
    4: "the processor faulted",
}


class DoesNotFitError(KwsError):
    """The emulated board has less memory than the program with the library needs."""


@dataclass(frozen=True, kw_only=True)
class Core:
    """Something that the library can run on."""

    name: str
    """Name for the command line."""
    title: str
    """Name for people."""
    cpu: str = ""
    """What gcc calls it (``-mcpu``); empty for this computer."""
    machine: str = ""
    """What QEMU calls the board."""
    script: str = ""
    """Linker script in this folder."""
    chip: str = ""
    """A microcontroller with this core, for which the load is told."""
    clock_mhz: int = 0
    """Its highest clock, in MHz."""
    cycles_per_instruction: float = 0.0
    """Assumed where instructions become a load: loads, taken branches and multiplications take
    more than one cycle, and a core with two pipelines runs pairs."""


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
    """Return cores by their names, all by default.

    Raises:
        KwsError: there is none of that name.
    """
    known = {core.name: core for core in CORES}
    for name in names or ():
        if name not in known:
            raise KwsError(f"Unknown core. Received: {name!r}. Use: {', '.join(known)}")
    return CORES if names is None else tuple(known[name] for name in dict.fromkeys(names))


@lru_cache
def missing_tools(core: Core) -> str:
    """Return what is missing to build for a core and run on it, and where to get it; or ""."""
    if core == HOST:
        if _host_compiler() is None:
            return "no C compiler (cc, gcc or clang; or name one in the variable CC)"
        return ""
    if shutil.which(_GCC) is None:
        return f"no {_GCC} (on Debian: apt install gcc-arm-none-eabi libnewlib-arm-none-eabi)"
    found = subprocess.run(
        [_GCC, "-print-file-name=nano.specs"], capture_output=True, text=True, check=False
    )
    if not Path(found.stdout.strip()).is_absolute():  # else gcc only repeats the name
        return f"no C library for {_GCC} (on Debian: apt install libnewlib-arm-none-eabi)"
    if shutil.which(_QEMU) is None:
        return f"no {_QEMU} (on Debian: apt install qemu-system-arm)"
    machines = subprocess.run([_QEMU, "-M", "help"], capture_output=True, text=True, check=False)
    if core.machine not in machines.stdout.split():
        return f"this {_QEMU} has no machine {core.machine}; 7.2 has"
    return ""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program that was built."""

    core: Core
    """What it runs on."""
    path: Path
    """The executable file."""
    prefix: str
    """What the library's names in C begin with."""
    objects: Mapping[str, Path]
    """The object files of the library by the names of their C files in `runtime/`, without
    ``.c``."""
    warnings: str
    """What the compilers said about the library; empty if nothing."""


def build(
    core: Core,
    library: Path,
    program: str,
    folder: Path,
    *,
    optimise: str = "-O2",
    wrap: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
) -> Program:
    """Compile a generated library and a program of this folder, and link them.

    Args:
        core: what for.
        library: the generated folder, with the C files in ``src/``.
        program: ``"verify"`` or ``"measure"``.
        folder: where objects and the program are put.
        optimise: how the library is compiled.
        wrap: functions of the library that the program takes in hand, and in which part it counts
            them (`board_measure.c`).
        flags: more for compiler and linker.

    Raises:
        DoesNotFitError: the board has too little memory for it.
        KwsError: no library there, a tool is missing, or it does not compile.
    """
    if missing := missing_tools(core):
        raise KwsError(f"Nothing can be built for {core.title}. Received: {missing}")
    sources = sorted((library / "src").glob("*.c"))
    self_tests = [source.stem for source in sources if source.stem.endswith("_self_test")]
    if not self_tests:
        raise KwsError(
            f"There is no generated library in {library}. Received: no *_self_test.c in src. Make "
            "one with: kws firmware MODEL -o DIR"
        )
    prefix = self_tests[0].removesuffix("_self_test")
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"WRAP({function}, {part})\n" for function, part in (wrap or {}).items()]
    (folder / "parts.h").write_text("".join(lines), encoding="utf-8")
    common = [
        *_compiler(core),
        *(WARNINGS if core == HOST else (*WARNINGS, "-ffunction-sections", "-fdata-sections")),
        *flags,
    ]
    include = (f"-I{library.resolve() / 'src'}", f"-I{FOLDER}", "-I.")
    warnings = []
    objects = {}
    for source in sources:
        # Named as in the linker scripts, which tell the library's parts by their object files.
        name = PREFIX + source.stem.removeprefix(prefix)
        objects[name] = folder / f"{name}.o"
        compile_it = [*common, optimise, *include, "-c", str(source.resolve())]
        warnings.append(_run([*compile_it, "-o", f"{name}.o"], folder))
    own = [f"board_{program}", "board_host" if core == HOST else "board_cortex_m"]
    for name in own:
        text = renamed((FOLDER / f"{name}.c").read_text(encoding="utf-8"), prefix)
        (folder / f"{name}.c").write_text(text, encoding="utf-8")
        # ld's names for wrapped functions and the timer's addresses are no matter for pedants.
        _run([*common, "-O2", *include, "-c", f"{name}.c", "-o", f"{name}.o"], folder)
    names = [f"{name}.o" for name in (*own, *objects)]
    executable = folder / (f"{program}.elf" if core != HOST else program)
    link = [*common, "-o", executable.name, *names]
    if core != HOST:
        link += ["-nostartfiles", "-specs=nano.specs", f"-L{FOLDER}", "-T", core.script]
        link += ["-Wl,--gc-sections", *(f"-Wl,--wrap={name}" for name in wrap or ())]
    try:
        _run(link, folder)
    except KwsError as error:
        if over := re.search(r"(CODE|RAM)\W+overflowed( by \d+ bytes)?", str(error)):
            what = {"CODE": "flash", "RAM": "memory"}[over[1]]
            raise DoesNotFitError(
                f"more {what} than the emulated board has{over[2] or ''}"
            ) from error
        raise
    said = "".join(warnings)
    return Program(core=core, path=executable, prefix=prefix, objects=objects, warnings=said)


def run(
    program: Program, content: bytes, *, counting: bool = False, timeout_s: float = 3600.0
) -> bytes:
    """Run a program on its core and return what it wrote.

    Args:
        program: from `build`.
        content: its input file.
        counting: under QEMU, let the timer count instructions; slower.
        timeout_s: after this it hangs, in seconds.

    Raises:
        KwsError: it did not end well.
    """
    core = program.core
    folder = program.path.parent
    (folder / "input.bin").write_bytes(content)
    output = folder / "output.bin"
    output.unlink(missing_ok=True)
    command = [str(program.path.resolve())]
    if core != HOST:
        command = [_QEMU, "-M", core.machine, "-display", "none", "-monitor", "none"]
        command += ["-serial", "none", "-semihosting-config", "enable=on,target=native"]
        command += [*(COUNTING if counting else ()), "-kernel", program.path.name]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise KwsError(f"The program on {core.title} did not end within {timeout_s:.0f} s") from (
            error
        )
    if done.returncode or not output.is_file():
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = _STATUS.get(done.returncode, "") or f"status {done.returncode}"
        more = f": {' '.join(said[:3])}" if said else ""
        raise KwsError(f"The program on {core.title} failed. Received: {why}{more}")
    return output.read_bytes()


def tool(name: str) -> str:
    """Return a tool of the Arm compiler by its short name, for example ``"size"``."""
    return _GCC.removesuffix("gcc") + name


def _compiler(core: Core) -> list[str]:
    if core == HOST:
        return list(_host_compiler() or ())
    # No floating point anywhere, so no registers for it either: the same on boards without.
    return [_GCC, f"-mcpu={core.cpu}", "-mthumb", "-mfloat-abi=soft"]


def _host_compiler() -> tuple[str, ...] | None:
    if given := os.environ.get("CC"):
        return tuple(shlex.split(given))
    found = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    return (found,) if found else None


def _run(command: Sequence[str], folder: Path) -> str:
    """Run a compiler or linker and return what it said."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise KwsError(f"{command[0]} does not start: {error.strerror}") from error
    if done.returncode:
        lines = [*done.stderr.splitlines(), f"status {done.returncode}"]
        tell = ("error:", "undefined reference", "overflowed")
        why = next((line for line in lines if any(sign in line for sign in tell)), lines[0])
        raise KwsError(f"{command[0]} failed. Received: {why.strip()}")
    return done.stderr
