"""Fuzzing of the firmware: the C library's feed, and the generator.

    python tests/fuzz_firmware.py --minutes 60 [--only feed|generator] [--findings DIR]

`feed` builds generated libraries with clang's libFuzzer, AddressSanitizer and
UndefinedBehaviorSanitizer around `fuzz_feed.c`. `generator` damages model files at random; reading,
lowering and writing them must succeed or raise a KwsError. Occasionally it builds the library of a
damaged model and feeds it noise under the sanitizers. The exit status is 1 if anything was found,
and the inputs that led to it are kept in the folder of findings.

The generator runs a model in LiteRT's interpreter, which can crash on a damaged file (users' files
have a checksum, which is mostly removed here). So it works in a separate process. If that dies
after the Python part has accepted the model, the crash counts as LiteRT's and a new process
continues.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np

from firmware_export.emit import generate
from firmware_export.lower.graph import lower
from firmware_export.reader import read_graph
from kws.errors import KwsError
from kws.model_file import resolve_model

HERE = Path(__file__).resolve().parent
SANITIZERS = ("-g", "-O2", "-fno-sanitize-recover=all")
CASE_S = 30
"""Time limit for a damaged model in the generator."""
MEMORY_BYTES = 4 * 1024**3
WRITTEN = 0.1
"""Share of the models accepted by reader and lowering that are also written, which is slower."""
BUILD_EVERY = 40
"""Of those, every n-th is built and run."""
MARK = slice(8, 16)
"""Bytes that mark a model file as having a checksum (kws.model_file.flatbuffer)."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--only", choices=("feed", "generator"))
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--seed", type=int, default=0, help="0: a new one each time")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work_on(60 * arguments.minutes, arguments.findings, arguments.seed, arguments.worker)
        return 0
    parts = [arguments.only] if arguments.only else ["feed", "generator"]
    seed = arguments.seed or random.SystemRandom().randrange(1, 2**31)
    found = 0
    for part in parts:
        seconds = 60 * arguments.minutes / len(parts)
        print(f"{part}: {seconds:.0f} s, seed {seed}", flush=True)
        work = fuzz_feed if part == "feed" else fuzz_generator
        found += work(seconds, arguments.findings.resolve(), seed)
    print(f"{found} findings" + (f" in {arguments.findings}" if found else ""), flush=True)
    return int(found > 0)


def models(room: Path) -> Iterator[tuple[str, Path]]:
    """A tiny model, and the included one, which takes a hundred times as long."""
    sys.path.insert(0, str(HERE))
    from tiny_model import write_tiny

    yield "tiny", write_tiny(room / "tiny.tflite")
    yield "commands_en", resolve_model("commands_en")


def libraries(room: Path) -> Iterator[tuple[str, Path]]:
    """Name and folder of the library of each model, and of one of two models."""
    sys.path.insert(0, str(HERE))
    from test_firmware_after_wake import write_both

    for name, path in models(room):
        generate(path, room / name)
    write_both(room)
    yield from ((name, room / name) for name in ("tiny", "commands_en", "both"))


# --- feed ---------------------------------------------------------------------------------------


def fuzz_feed(seconds: float, findings: Path, seed: int) -> int:
    """Run libFuzzer on each model's library; return how many of them failed."""
    clang = shutil.which("clang")
    if clang is None:
        raise SystemExit("fuzzing the feed needs clang (on Debian: apt install clang)")
    findings.mkdir(parents=True, exist_ok=True)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="kws-fuzz-") as name:
        room = Path(name)
        built = []
        for model, library in libraries(room):
            program = room / f"{model}-fuzz"
            build(clang, library, HERE / "fuzz_feed.c", program, "fuzzer,address,undefined")
            built.append((model, program))
        for model, program in built:
            corpus = room / f"{model}-corpus"
            corpus.mkdir()
            write_corpus(corpus, seed)
            options = {
                "max_total_time": round(seconds / len(built)),
                "seed": seed,
                "max_len": 8192,
                "timeout": 60,
                "report_slow_units": 60,
                "rss_limit_mb": 2048,
                "print_final_stats": 1,
                "artifact_prefix": f"{findings}/feed-{model}-",
            }
            done = subprocess.run(
                [program, *(f"-{key}={value}" for key, value in options.items()), corpus],
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            tail = done.stderr.splitlines()[-40 if done.returncode else -8 :]
            print(f"feed of {model}: status {done.returncode}", *tail, sep="\n  ", flush=True)
            failed += done.returncode != 0
    return failed


def build(clang: str, library: Path, program_source: Path, program: Path, sanitizers: str) -> None:
    """Compile a library and a program around it with sanitizers."""
    sources = sorted(map(str, (library / "src").glob("*.c")))
    subprocess.run(
        [
            *(clang, "-std=c99", *SANITIZERS, f"-fsanitize={sanitizers}"),
            *(f"-I{library / 'src'}", str(program_source), *sources, "-o", str(program)),
        ],
        check=True,
        capture_output=True,
    )


def write_corpus(folder: Path, seed: int) -> None:
    """Write initial inputs: all kinds of signal, short and long chunks, resets."""
    rng = random.Random(seed)
    for number in range(40):
        content = bytearray([rng.randrange(256)])
        for _ in range(rng.randrange(1, 30)):
            action = rng.choice([*range(1, 5), 255])
            content.append(action)
            if action < 250:
                content += struct.pack(
                    ">HHH", rng.randrange(900), rng.randrange(2**16), 1 << rng.randrange(16)
                )
                content += rng.randbytes(4)
        (folder / f"{number}").write_bytes(content)


# --- generator ----------------------------------------------------------------------------------


def fuzz_generator(seconds: float, findings: Path, seed: int) -> int:
    """Damage models until the time is over; return how many failed unexpectedly."""
    findings.mkdir(parents=True, exist_ok=True)
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="kws-fuzz-") as name:
        room = Path(name)
        while (left := end - time.monotonic()) > 0:
            worker = ("--worker", str(room), "--seed", str(seed), "--findings", str(findings))
            command = [sys.executable, __file__, *worker, "--minutes", str(left / 60)]
            done = subprocess.run(command, check=False)
            outcomes.update(json.loads((room / "outcomes.json").read_text()))
            if done.returncode == 0:
                break
            # The process recorded its stage before it died.
            stage = (room / "stage").read_text()
            outcomes[f"died in {stage}"] += 1
            shutil.copy(room / "damaged.tflite", findings / f"died-{seed}.tflite")
            if stage != "LiteRT" or done.returncode > 0:
                outcomes["found"] += 1
                print(f"FOUND died-{seed}.tflite: status {done.returncode} in {stage}", flush=True)
            seed += 1
    total = sum(n for what, n in outcomes.items() if what in ("accepted", "refused"))
    print(f"generator: {total:,} models,", dict(outcomes), flush=True)
    return outcomes["found"]


def work_on(seconds: float, findings: Path, seed: int, room: Path) -> None:
    """Damage models until the time is over, in a process that may crash."""
    rng = random.Random(seed)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.RLIM_INFINITY))
    clang = shutil.which("clang")
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + seconds
    originals = [path.read_bytes() for _, path in models(room)]
    path, out = room / "damaged.tflite", room / "out"
    while time.monotonic() < end:
        # The included model takes longer and has no other kinds of tables, so it is used rarely.
        content = damaged(originals[rng.random() < 0.05], rng)
        path.write_bytes(content)
        (room / "outcomes.json").write_text(json.dumps(outcomes))
        (room / "stage").write_text("Python")
        shutil.rmtree(out, ignore_errors=True)
        try:
            with alarm(CASE_S):
                lower(read_graph(content))
                outcomes["accepted"] += 1
                if rng.random() > WRITTEN:
                    continue
                (room / "stage").write_text("LiteRT")
                generate(path, out)
            outcomes["written"] += 1
            if clang and outcomes["written"] % BUILD_EVERY == 0:
                outcomes["built and run"] += 1
                hear_noise(clang, out, room / "program")
        except KwsError as error:
            if "\n" in str(error):
                outcomes["found"] += keep(content, findings, f"several lines: {str(error)!r}")
            outcomes["refused"] += 1
        except Exception as error:
            outcomes["found"] += keep(content, findings, failure(error))
    (room / "outcomes.json").write_text(json.dumps(outcomes))


def damaged(original: bytes, rng: random.Random) -> bytes:
    """Return a model with some bytes changed, lost, or moved."""
    content = bytearray(original)
    # Mostly without the checksum, with which a file is refused at once.
    if rng.random() < 0.97:
        content[MARK] = bytes(8)
    interesting = (0, 1, 2, 3, 4, 127, 128, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 4)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(content))
        kind = rng.random()
        if kind < 0.35:
            content[at] ^= 1 << rng.randrange(8)
        elif kind < 0.5:
            content[at] = rng.randrange(256)
        elif kind < 0.75:
            at = at // 4 * 4
            content[at : at + 4] = struct.pack("<I", rng.choice(interesting))[: len(content) - at]
        elif kind < 0.85:
            # Floats that are not valid scales.
            value = rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e-40, 1e30, 1e-8, 300.0))
            at = at // 4 * 4
            content[at : at + 4] = struct.pack("<f", value)[: len(content) - at]
        elif kind < 0.93:
            size = rng.randrange(1, 64)
            other = rng.randrange(len(content))
            content[at : at + size] = content[other : other + size][: len(content) - at]
        elif kind < 0.96:
            del content[rng.randrange(len(content)) :]
            if not content:
                break
        else:
            size = rng.randrange(1, 64)
            del content[at : at + size]
            if not content:
                break
    return bytes(content)


def hear_noise(clang: str, library: Path, program: Path) -> None:
    """Build the library of a damaged model and run it under the sanitizers."""
    room = program.parent
    main = room / "noise.c"
    main.write_text(NOISE)
    build(clang, library, main, program, "address,undefined")

    def unlimited() -> None:
        # The sanitizer maps terabytes of addresses.
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    subprocess.run([program], check=True, capture_output=True, timeout=CASE_S, preexec_fn=unlimited)


NOISE = """
#include "kws.h"
#include <stdlib.h>
int main(void)
{
    kws_state *state = malloc(sizeof *state);
    uint32_t seed = 1;
    kws_init(state);
    for (int i = 0; i < 100; i++) {
        int16_t pcm[KWS_HOP_LENGTH];
        kws_event event;
        for (int k = 0; k < KWS_HOP_LENGTH; k++) {
            seed = seed * 1664525u + 1013904223u;
            pcm[k] = (int16_t)((int32_t)seed >> (16 + i % 12));
        }
        if (kws_feed(state, pcm, KWS_HOP_LENGTH, &event) < 0) {
            return 1;
        }
    }
    free(state);
    return 0;
}
"""


@contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the block after some seconds."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def failure(error: BaseException) -> str:
    """Return an error's traceback and output."""
    said = getattr(error, "stderr", None) or b""
    return "".join(traceback.format_exception(error)) + said.decode(errors="replace")


def keep(content: bytes, findings: Path, what: str) -> int:
    """Save a model that led to a failure, with a description of the failure."""
    findings.mkdir(parents=True, exist_ok=True)
    name = findings / f"generator-{os.getpid()}-{time.time_ns()}"
    name.with_suffix(".tflite").write_bytes(content)
    name.with_suffix(".txt").write_text(what)
    print(f"FOUND {name}: {what.strip().splitlines()[-1]}", flush=True)
    return 1


if __name__ == "__main__":
    np.seterr(all="ignore")
    sys.exit(main())
