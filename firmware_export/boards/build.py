"""Builds the C programs of this folder with a generated library, and runs them.

A program runs on this computer (``host``) or on a Cortex-M under QEMU, where it reads and writes
its files by semihosting. Start-up code and linker scripts come from this folder. From the compiler
come only the library functions that the generated code may use (`memcpy` and the like) and the
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
from typing import Literal

from firmware_export.boards.cores import HOST, Core
from firmware_export.names import PREFIX, renamed
from kws.errors import KwsError

FOLDER = Path(__file__).resolve().parent
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic")
"""Generated code must compile without a warning under these."""
COUNTING = ("-icount", "shift=0")
"""For QEMU: every instruction takes one nanosecond, so the board's timer counts instructions."""
_GCC = "arm-none-eabi-gcc"
_QEMU = "qemu-system-arm"
_STATUS = {
    1: "the library returned an error",
    2: "it did not understand its input",
    3: "it could not open or write a file",
    4: "the processor faulted",
}

View = Literal["", "wake", "commands"]
"""The model that ``"verify"`` writes about: the only one, or one of a library of two."""
_VIEWS: dict[View, str] = {
    "": """\
#include "kws_input.h"
#define MODEL state.detector
#define N_LABELS KWS_N_LABELS
#define FIRST_LABEL 0
#define quantise kws_input_quantise
#define BEGIN (void)0
""",
    "wake": """\
#include "kws_wake_input.h"
#define MODEL state.wake
#define N_LABELS KWS_WAKE_N_LABELS
#define FIRST_LABEL 0
#define quantise kws_wake_input_quantise
#define BEGIN (void)0
""",
    "commands": """\
#include "kws_commands_input.h"
#define MODEL state.commands
#define N_LABELS KWS_COMMANDS_N_LABELS
#define FIRST_LABEL KWS_N_WAKE_LABELS
#define quantise kws_commands_input_quantise
/* Most clips hold no wake word, so each begins as if one had just been heard. */
#define BEGIN kws_gate_wake(&state.gate, 0)
""",
}


class DoesNotFitError(KwsError):
    """The emulated board has too little memory for the program with the library."""


@lru_cache
def missing_tools(core: Core) -> str:
    """Return which tool is missing to build for a core and run on it, and how to get it; or ""."""
    if core == HOST:
        if _host_compiler() is None:
            return "no C compiler (cc, gcc or clang, or the one that the variable CC names)"
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
        return f"this {_QEMU} does not have the machine {core.machine}; version 7.2 does"
    return ""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program that has been built."""

    core: Core
    """What it runs on."""
    path: Path
    """The executable file."""
    prefix: str
    """What the library's names in C begin with."""
    objects: Mapping[str, Path]
    """The library's object files, by the names of their C files in `runtime/` without ``.c``."""
    warnings: str
    """The compiler's warnings about the library; empty if none."""


def build(
    core: Core,
    library: Path,
    program: str,
    folder: Path,
    *,
    optimise: str = "-O2",
    view: View = "",
    wrap: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
) -> Program:
    """Compile a generated library and a program of this folder, and link them.

    Args:
        core: the core to build for.
        library: the generated folder, with the C files in ``src/``.
        program: ``"verify"`` or ``"measure"``.
        folder: where object files and the program go.
        optimise: optimisation level of the library.
        view: which model of a library of two ``"verify"`` writes about.
        wrap: functions of the library that the program times, and the part that each counts towards
            (`board_measure.c`).
        flags: additional flags for compiler and linker.

    Raises:
        DoesNotFitError: the board has too little memory.
        KwsError: no library in the folder, a missing tool, or a compiler error.
    """
    if missing := missing_tools(core):
        raise KwsError(f"Cannot build for {core.title}. Received: {missing}")
    sources = sorted((library / "src").glob("*.c"))
    self_tests = [source.stem for source in sources if source.stem.endswith("_self_test")]
    if not self_tests:
        raise KwsError(
            f"There is no generated library in {library}. Received: no *_self_test.c in src. "
            "Generate one with: kws firmware MODEL -o DIR"
        )
    prefix = self_tests[0].removesuffix("_self_test")
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"WRAP({function}, {part})\n" for function, part in (wrap or {}).items()]
    (folder / "parts.h").write_text("".join(lines), encoding="utf-8")
    (folder / "view.h").write_text(renamed(_VIEWS[view], prefix), encoding="utf-8")
    common = [
        *_compiler(core),
        *(WARNINGS if core == HOST else (*WARNINGS, "-ffunction-sections", "-fdata-sections")),
        *flags,
    ]
    include = (f"-I{library.resolve() / 'src'}", f"-I{FOLDER}", "-I.")
    warnings = []
    objects = {}
    for source in sources:
        # The linker scripts recognise the library's parts by the names of these object files.
        name = PREFIX + source.stem.removeprefix(prefix)
        objects[name] = folder / f"{name}.o"
        compile_it = [*common, optimise, *include, "-c", str(source.resolve())]
        warnings.append(_run([*compile_it, "-o", f"{name}.o"], folder))
    own = [f"board_{program}", "board_host" if core == HOST else "board_cortex_m"]
    for name in own:
        text = renamed((FOLDER / f"{name}.c").read_text(encoding="utf-8"), prefix)
        (folder / f"{name}.c").write_text(text, encoding="utf-8")
        # Warnings are dropped: -pedantic objects to ld's names of wrapped functions.
        _run([*common, "-O2", *include, "-c", f"{name}.c", "-o", f"{name}.o"], folder)
    executable = folder / (f"{program}.elf" if core != HOST else program)
    link = [*common, "-o", executable.name, *(f"{name}.o" for name in (*own, *objects))]
    if core != HOST:
        link += ["-nostartfiles", "-specs=nano.specs", f"-L{FOLDER}", "-T", core.script]
        link += ["-Wl,--gc-sections", *(f"-Wl,--wrap={name}" for name in wrap or ())]
    _link(link, folder)
    return Program(
        core=core, path=executable, prefix=prefix, objects=objects, warnings="".join(warnings)
    )


def run(
    program: Program, content: bytes, *, counting: bool = False, timeout_s: float = 3600.0
) -> bytes:
    """Run a program on its core and return what it wrote.

    Args:
        program: from `build`.
        content: its input file.
        counting: have QEMU's timer count instructions, which is slower.
        timeout_s: seconds after which it counts as hanging.

    Raises:
        KwsError: it failed or did not end in time.
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
    """Return the full name of a tool of the Arm compiler, for example of ``"size"``."""
    return _GCC.removesuffix("gcc") + name


def _link(command: Sequence[str], folder: Path) -> None:
    try:
        _run(command, folder)
    except KwsError as error:
        if over := re.search(r"(CODE|RAM)\W+overflowed( by \d+ bytes)?", str(error)):
            what = {"CODE": "flash", "RAM": "memory"}[over[1]]
            raise DoesNotFitError(
                f"more {what} than the emulated board has{over[2] or ''}"
            ) from error
        raise


def _compiler(core: Core) -> list[str]:
    if core == HOST:
        return list(_host_compiler() or ())
    # The library has no floating point, so this is the same on boards with and without an FPU.
    return [_GCC, f"-mcpu={core.cpu}", "-mthumb", "-mfloat-abi=soft"]


def _host_compiler() -> tuple[str, ...] | None:
    if given := os.environ.get("CC"):
        return tuple(shlex.split(given))
    found = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    return (found,) if found else None


def _run(command: Sequence[str], folder: Path) -> str:
    """Run a compiler or linker and return its messages."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise KwsError(f"{command[0]} does not start: {error.strerror}") from error
    if done.returncode:
        lines = [*done.stderr.splitlines(), f"status {done.returncode}"]
        signs = ("error:", "undefined reference", "overflowed")
        why = next((line for line in lines if any(sign in line for sign in signs)), lines[0])
        raise KwsError(f"{command[0]} failed. Received: {why.strip()}")
    return done.stderr
