"""Core-specific kernels on random shapes: Thumb-1's loops and the DSP's pairs.

The driver of test_firmware_kernels.py runs on an emulated board, through a shell script that looks
like a program on this computer.
"""

from __future__ import annotations

import ctypes
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_firmware_kernels import (
    _KERNELS,
    DRIVER,
    RUNTIME,
    Case,
    add_case,
    check,
    conv_case,
    fully_connected_case,
    lstm_case,
    mean_case,
    pool_case,
    quantize_case,
    rng_of,
    slice_case,
    softmax_case,
    table_case,
)

from firmware_export.boards.build import FOLDER, WARNINGS, missing_tools, tool
from firmware_export.boards.cores import cores_named

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a shell script runs the emulator")

# The driver uses files and malloc. Under QEMU its files are the board's, and its memory is all
# between the variables and the stack. A Cortex-M3, which runs the M0's instructions and has enough
# memory, is configured to fault where an M0 would: at unaligned words.
SHIM = """
#include <stdio.h>
#include <stdlib.h>
#include "board.h"
static size_t read_all(void *to, size_t size)
{
    size_t done = 0, n = 1;
    while (done < size && (n = board_read((char *)to + done, size - done)) > 0) done += n;
    return done;
}
#define fread(to, size, n, file) (read_all(to, (size) * (n)) == (size) * (n) ? (n) : 0)
#define fwrite(from, size, n, file) board_write(from, (size) * (n))
#define fprintf(file, ...) ((void)0)
#define exit(status) board_exit(status)
#define main(...) driver_main(__VA_ARGS__)
"""
MAIN = """
#include <stddef.h>
#include <stdint.h>
extern char board_bss_end[], board_stack_top[];
int driver_main(void);
void *_sbrk(ptrdiff_t n)
{
    static char *end = board_bss_end;
    char *before = end;
    if (end + n > board_stack_top - 65536) return (void *)-1;
    end += n;
    return before;
}
int main(void)
{
    if (STRICT) *(volatile uint32_t *)0xE000ED14u |= 8; /* CCR.UNALIGN_TRP */
    return driver_main();
}
"""
# Name of the case: compiler's core, board.
TARGETS = {"m0": ("cortex-m0", "m3"), "m4": ("cortex-m4", "m4"), "m55": ("cortex-m55", "m55")}


@pytest.fixture(scope="module", params=TARGETS)
def driver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that runs networks on the kernels, on a board."""
    cpu, board = TARGETS[request.param]
    (core,) = cores_named([board])
    if missing := missing_tools(core):
        pytest.skip(missing)
    room = tmp_path_factory.mktemp("driver")
    (room / "shim.h").write_text(SHIM)
    (room / "main.c").write_text(MAIN)
    gcc = [tool("gcc"), f"-mcpu={cpu}", "-mthumb", "-mfloat-abi=soft", *WARNINGS, "-Werror", "-O2"]
    include = [f"-I{RUNTIME}", f"-I{FOLDER}"]
    objects = []
    for source in (*(RUNTIME / name for name in _KERNELS), FOLDER / "board_cortex_m.c"):
        objects.append(f"{source.stem}.o")
        subprocess.run([*gcc, *include, "-c", source, "-o", objects[-1]], cwd=room, check=True)
    strict = int(cpu == "cortex-m0")
    for source, more in (
        (room / "main.c", [f"-DSTRICT={strict}"]),
        (DRIVER, ["-include", "shim.h"]),
    ):
        objects.append(f"board_{source.stem}.o")
        relaxed = [*gcc, "-Wno-error", "-w", *more, *include]
        subprocess.run([*relaxed, "-c", source, "-o", objects[-1]], cwd=room, check=True)
    link = ["-nostartfiles", "-specs=nano.specs", f"-L{FOLDER}", "-T", core.script, "-o", "d.elf"]
    subprocess.run([*gcc, *objects, *link], cwd=room, check=True)
    script = room / "driver"
    script.write_text(
        f"#!/bin/sh\nset -e\ncd {shlex.quote(str(room))}\ncat > input.bin\n"
        f"timeout 120 qemu-system-arm -M {core.machine} -display none -monitor none -serial none "
        "-semihosting-config enable=on,target=native -kernel d.elf\ncat output.bin\n"
    )
    script.chmod(0o755)
    return script


def lengths(rng: np.random.Generator) -> int:
    """A length just below, at or above a multiple of the loops' block size."""
    return int(rng.choice([1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 112]))


CASES: dict[str, Callable[[np.random.Generator], Case]] = {
    "convolution": lambda rng: conv_case(rng),
    "depthwise": lambda rng: conv_case(rng, depthwise=True),
    "fully connected": lambda rng: fully_connected_case(
        rng, rows=int(rng.choice([1, 2])), depth=lengths(rng), units=lengths(rng)
    ),
    "lstm": lambda rng: lstm_case(
        rng, inputs=lengths(rng), units=lengths(rng), invokes=6, gain=float(rng.uniform(0.3, 3))
    ),
    "pooling": lambda rng: pool_case(rng, str(rng.choice(["MAX_POOL_2D", "AVERAGE_POOL_2D"]))),
    "add": lambda rng: add_case(rng),
    "softmax": lambda rng: softmax_case(rng, rows=1, depth=lengths(rng), scale=0.1),
    "logistic": lambda rng: table_case(rng, "LOGISTIC"),
    "mean": lambda rng: mean_case(rng),
    "strided slice": lambda rng: slice_case(rng),
    "quantise": lambda rng: quantize_case(rng, lengths(rng)),
}


@pytest.mark.parametrize("kind", CASES)
def test_random_shapes_equal_litert_on_the_board_too(driver: Path, kind: str) -> None:
    rng = rng_of(20 + list(CASES).index(kind))
    check(driver, [CASES[kind](rng) for _ in range(24)], pointer=ctypes.c_uint32)
