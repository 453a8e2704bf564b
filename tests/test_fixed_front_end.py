"""The firmware's front end: C against NumPy bit for bit, NumPy against `kws.frontend`.

The C is built with sanitizers, so a sum that overflows or a read beyond a table ends the test.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from firmware_export.c_source import c_array
from firmware_export.fixed_front_end.mfcc import FixedFrontEnd, fixed_mfcc
from firmware_export.fixed_front_end.quantiser import (
    InputQuantiser,
    input_quantiser,
    quantise_features,
)
from firmware_export.fixed_front_end.tables import tables
from kws.audio.files import read_audio
from kws.errors import KwsError
from kws.frontend import FrontEndConfig, features_of
from kws.model_file import load_model

RUNTIME = Path(__file__).resolve().parent.parent / "firmware_export" / "runtime"
SOURCES = ("kws_fft", "kws_frontend", "kws_input")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
SANITIZERS = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all")
DEFAULT = FrontEndConfig()
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")

# Reads frames of int16; writes MFCC and the network's input for each.
MAIN = """
#include "kws_frontend.h"
#include "kws_input.h"
#include <stdio.h>

int main(void)
{
    int16_t frame[KWS_FRAME_LENGTH];
    while (fread(frame, sizeof frame, 1, stdin) == 1) {
        int32_t work[KWS_FRONTEND_WORK_WORDS], mfcc_q16[KWS_N_MFCC];
        int8_t input[KWS_N_MFCC];
        kws_frontend_frame(frame, work, mfcc_q16);
        kws_input_quantise(mfcc_q16, input);
        fwrite(mfcc_q16, sizeof mfcc_q16, 1, stdout);
        fwrite(input, sizeof input, 1, stdout);
    }
    return 0;
}
"""
# Frames of every length, longer than their hop; odd and even numbers of filters, one and the most;
# a filter that begins at 0 Hz and one that ends at half the rate; extreme floors.
OTHER_FRONT_ENDS = {
    "64": FrontEndConfig(
        frame_length=64, hop_length=64, n_mels=4, n_mfcc=4, mel_low_hz=0, mel_high_hz=8000
    ),
    "64 with one filter": FrontEndConfig(frame_length=64, hop_length=17, n_mels=1, n_mfcc=1),
    "128": FrontEndConfig(frame_length=128, hop_length=80, n_mels=11, n_mfcc=11),
    "256 at 8 kHz": FrontEndConfig(
        sample_rate_hz=8000, frame_length=256, hop_length=160, n_mels=23, mel_high_hz=4000
    ),
    "512 with one filter": FrontEndConfig(n_mels=1, n_mfcc=1, mel_low_hz=0, mel_high_hz=8000),
    "512 with a low floor": FrontEndConfig(log_floor=1e-30, n_mfcc=40),
    "512 with a high floor": FrontEndConfig(log_floor=1e6),
    "1024": FrontEndConfig(frame_length=1024, n_mels=64, n_mfcc=64),
    "2048": FrontEndConfig(frame_length=2048, n_mels=120, n_mfcc=20, log_floor=1e-6),
}


@dataclass(frozen=True)
class Built:
    """A program made of the C sources for one front end."""

    program: Path
    config: FrontEndConfig

    def __call__(self, pcm: NDArray[np.int16]) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        """Return the MFCC, Q16, and the network's input of a clip."""
        n = self.config.n_frames(len(pcm))
        frames = [pcm[i * self.config.hop_length :][: self.config.frame_length] for i in range(n)]
        run = subprocess.run(
            [self.program],
            input=b"".join(frame.tobytes() for frame in frames),
            capture_output=True,
            timeout=60,
        )
        assert run.returncode == 0, run.stderr.decode()
        k = self.config.n_mfcc
        both = np.frombuffer(run.stdout, np.uint8).reshape(n, 5 * k)
        return both[:, : 4 * k].copy().view("<i4"), both[:, 4 * k :].copy().view(np.int8)


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Built]:
    """Build the sources with gcc for a front end."""

    def make(config: FrontEndConfig, *flags: str, quantiser: InputQuantiser | None = None) -> Built:
        folder = tmp_path_factory.mktemp("front_end")
        sources = write_sources(folder, config, quantiser or plain_quantiser(config.n_mfcc))
        program = folder / "front_end"
        command = ["gcc", *STRICT, *flags, f"-I{folder}", f"-I{RUNTIME}", *sources, "-o", program]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode and "cannot find" in made.stderr and SANITIZERS[0] in flags:
            pytest.skip("gcc has no sanitizers here")
        assert made.returncode == 0, made.stderr
        return Built(program, config)

    return make


def write_sources(folder: Path, config: FrontEndConfig, quantiser: InputQuantiser) -> list[Path]:
    fixed = tables(config)
    macros = [f"#define {name} ({value})" for name, value in fixed.macros.items()]
    guard = ["#ifndef KWS_TABLES_H", "#define KWS_TABLES_H", *macros, "#endif", ""]
    (folder / "kws_tables.h").write_text("\n".join(guard))
    arrays = [
        c_array(name, values, static=False)
        for name, _, values in (*fixed.arrays, *quantiser.arrays)
    ]
    includes = [f'#include "{name}.h"' for name in SOURCES]
    (folder / "kws_tables.c").write_text("\n".join([*includes, *arrays, ""]))
    (folder / "main.c").write_text(MAIN)
    return [
        folder / "main.c",
        folder / "kws_tables.c",
        *(RUNTIME / f"{name}.c" for name in SOURCES),
    ]


def plain_quantiser(n_mfcc: int) -> InputQuantiser:
    """Eight steps to a unit of MFCC, so that speech fills int8 and loud noise passes its ends."""
    return InputQuantiser(
        centre=np.full(n_mfcc, -12345, np.int32),
        gain=np.full(n_mfcc, 1 << 20, np.int32),
        shift=np.full(n_mfcc, 33, np.uint8),
    )


def signals(config: FrontEndConfig = DEFAULT) -> dict[str, NDArray[np.int16]]:
    """Signals that provoke overflow, underflow or rounding errors: a few frames of each."""
    n = config.frame_length + 5 * config.hop_length
    t = np.arange(n)
    rng = np.random.default_rng(0)
    impulse, step = np.zeros(n), np.zeros(n)
    impulse[n // 2], step[n // 2 :] = 32767, -32768
    found = {
        "silence": np.zeros(n),
        "lowest": np.full(n, -32768),
        "highest": np.full(n, 32767),
        "minus one": np.full(n, -1),
        "highest frequency": np.where(t % 2, 32767, -32768),
        "square wave": np.where(np.sin(0.1727 * t) >= 0, 32767, -32768),
        "tone": 32767 * np.sin(0.1717 * t),
        "sweep": 32767 * np.sin(np.pi * t * t / n / 2),
        "impulse": impulse,
        "negative impulse": -impulse - (impulse > 0),
        "least impulse": impulse / 32767,
        "step": step,
        "any bits": rng.integers(-32768, 32768, n),
        "ends only": rng.choice([-32768, 32767], n),
    }
    for level_db in (-60, -40, -20, 0):
        noise = 32767 * 10 ** (level_db / 20) * rng.uniform(-1, 1, n)
        found[f"noise at {level_db} dB"] = noise
    return {name: np.rint(x).astype(np.int16) for name, x in found.items()}


def assert_loudest_agree(in_c: Built) -> None:
    """Frames that maximise single bins: the signs of their cosines, at three phases."""
    length = in_c.config.frame_length
    k, t = np.arange(0, length // 2 + 1, max(1, length // 512))[:, None], np.arange(length)
    angle = 2 * np.pi * k * t / length
    signs = np.concatenate([np.cos(angle), np.cos(angle + 0.7), -np.sin(angle)])
    pcm = np.where(signs > 0, 32767, -32768).astype(np.int16).ravel()
    # Frames that do not overlap; C never looks at the hop.
    config = replace(in_c.config, hop_length=length)
    np.testing.assert_array_equal(Built(in_c.program, config)(pcm)[0], fixed_mfcc(pcm, config))


def speech(real_speech: Path, clips: int = 30) -> list[NDArray[np.int16]]:
    files = sorted((real_speech / "speech_commands").glob("[a-z]*/*.wav"))
    return [read_audio(path) for path in files[:: max(1, len(files) // clips)]]


def at_level(pcm: NDArray[np.int16], peak_db: float) -> NDArray[np.int16]:
    """The same with its peak at a level, in dB below full scale."""
    peak = max(1, int(np.abs(pcm.astype(np.int32)).max()))
    return np.rint(pcm * (32767 / peak * 10 ** (peak_db / 20))).astype(np.int16)


def error(pcm: NDArray[np.int16], config: FrontEndConfig = DEFAULT) -> float:
    """The largest difference from `kws.frontend`, in units of MFCC."""
    return float(np.abs(fixed_mfcc(pcm, config) / 65536 - features_of(pcm, config)).max(initial=0))


# C against NumPy


@needs_gcc
@pytest.mark.parametrize(
    "flags",
    [("-O2",), ("-Os", *SANITIZERS), ("-Os", *SANITIZERS, "-DKWS_SHORT_PRODUCTS=1")],
    ids=["as it is", "sanitized", "short products, sanitized"],
)
def test_c_and_numpy_agree_in_every_bit(
    build: Callable[..., Built], real_speech: Path, flags: tuple[str, ...]
) -> None:
    quantiser = plain_quantiser(DEFAULT.n_mfcc)
    in_c = build(DEFAULT, *flags, quantiser=quantiser)
    clips = [*signals().values(), *speech(real_speech)]
    clips += [at_level(clip, peak_db) for clip in clips[-3:] for peak_db in (-60, -30, 0)]
    for clip in clips:
        features, inputs = in_c(clip)
        np.testing.assert_array_equal(features, fixed_mfcc(clip, DEFAULT))
        np.testing.assert_array_equal(inputs, quantise_features(features, quantiser))
    assert_loudest_agree(in_c)


@needs_gcc
@pytest.mark.parametrize("name", OTHER_FRONT_ENDS)
def test_c_and_numpy_agree_for_any_front_end(build: Callable[..., Built], name: str) -> None:
    config = OTHER_FRONT_ENDS[name]
    # Half of them with the products of a Cortex-M0, which the test above compares.
    short = ("-DKWS_SHORT_PRODUCTS=1",) * (config.frame_length in (64, 256, 2048))
    in_c = build(config, *SANITIZERS, *short)
    for clip in signals(config).values():
        np.testing.assert_array_equal(in_c(clip)[0], fixed_mfcc(clip, config))
    assert_loudest_agree(in_c)


@needs_gcc
def test_quantiser_saturates_and_rounds_alike_at_both_ends(build: Callable[..., Built]) -> None:
    rng = np.random.default_rng(1)
    steep = InputQuantiser(
        centre=rng.integers(-(2**31), 2**31, 13).astype(np.int32),
        gain=rng.integers(1, 2**30, 13).astype(np.int32),
        shift=np.array([1, 62, 5, 46, 40, 41, 42, 43, 44, 47, 50, 55, 60], np.uint8),
    )
    in_c = build(DEFAULT, "-O1", *SANITIZERS, quantiser=steep)
    seen = set()
    for clip in signals().values():
        features, inputs = in_c(clip)
        np.testing.assert_array_equal(inputs, quantise_features(features, steep))
        seen |= set(inputs.ravel().tolist())
    assert {-128, 127} <= seen


# NumPy against the definition


def test_mfcc_lie_within_a_thousandth_of_the_definition() -> None:
    worst = {name: error(clip) for name, clip in signals().items()}
    assert max(worst.values()) < 0.001, worst


def test_speech_at_any_level_lies_within_a_thousandth_of_the_definition(real_speech: Path) -> None:
    for clip in speech(real_speech, 12):
        for peak_db in (-60, -40, -20, -6, 0):
            assert error(at_level(clip, peak_db)) < 0.001
        clipped = np.clip(8 * clip.astype(np.int32), -32768, 32767).astype(np.int16)
        assert error(clipped) < 0.001


@st.composite
def front_ends(draw: st.DrawFn) -> FrontEndConfig:
    rate = draw(st.sampled_from([8000, 16000, 44100]))
    length = 2 ** draw(st.integers(6, 11))
    n_mels = draw(st.integers(1, 64))
    try:
        config = FrontEndConfig(
            sample_rate_hz=rate,
            frame_length=length,
            hop_length=draw(st.integers(1, length)),
            n_mels=n_mels,
            n_mfcc=draw(st.integers(1, n_mels)),
            mel_low_hz=draw(st.sampled_from([0.0, 20.0, 125.0])),
            mel_high_hz=rate * draw(st.sampled_from([0.25, 0.45, 0.5])),
            log_floor=10 ** draw(st.floats(-4, 1)),
        )
        tables(config)
    except KwsError:
        assume(False)
    return config


@settings(deadline=None, max_examples=60)
@given(config=front_ends(), level=st.floats(0, 1), seed=st.integers(0, 99))
def test_any_front_end_lies_within_two_thousandths_of_the_definition(
    config: FrontEndConfig, level: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n = config.frame_length + 3 * config.hop_length
    # Louder and softer, so that neighbouring frames differ in block exponent.
    noise = rng.standard_normal(n) * 8000 * level ** rng.uniform(0, 4)
    pcm = np.clip(np.rint(noise), -32768, 32767).astype(np.int16)
    assert error(pcm, config) < 0.002


def test_silence_is_the_floor_and_nothing_else() -> None:
    features = fixed_mfcc(np.zeros(512, np.int16), DEFAULT)[0]
    assert features[0] == round(65536 * np.sqrt(40) * np.log(np.float32(DEFAULT.log_floor)))
    assert not features[1:].any()


# Streams


@settings(deadline=None, max_examples=40)
@given(chunks=st.lists(st.integers(0, 900), max_size=12))
def test_any_chunks_give_the_same_frames(chunks: list[int]) -> None:
    pcm = np.random.default_rng(2).integers(-3000, 3000, sum(chunks)).astype(np.int16)
    front_end = FixedFrontEnd(DEFAULT)
    for _ in range(2):  # and again after a reset
        parts = np.split(pcm, np.cumsum(chunks))
        fed = np.concatenate([front_end.feed(part) for part in parts])
        np.testing.assert_array_equal(fed, fixed_mfcc(pcm, DEFAULT))
        front_end.reset()


# The quantiser against the runner


def test_speech_quantises_as_in_the_runner(real_speech: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="the runner needs a TFLite runtime")
    from kws.network import Network

    network = Network("commands_en")
    facts = network.input_tensor
    quantiser = input_quantiser(network.card, facts["scale"], facts["zero_point"])
    different = total = 0
    for clip in speech(real_speech, 60):
        ours = quantise_features(fixed_mfcc(clip, network.card.front_end), quantiser)
        runner = network.prepare(features_of(clip, network.card.front_end)).astype(np.int32)
        assert np.abs(ours - runner).max() <= 1
        different += np.count_nonzero(ours != runner)
        total += ours.size
    assert total > 30_000
    assert different < total / 1000


@settings(deadline=None)
@given(
    std=st.floats(1e-6, 1e6),
    mean=st.floats(-500, 500),
    scale=st.floats(1e-4, 10),
    zero_point=st.integers(-128, 127),
)
def test_quantiser_follows_the_formula_for_any_card(
    std: float, mean: float, scale: float, zero_point: int
) -> None:
    card = replace(load_model("commands_en"), feature_std=(std,) * 13, feature_mean=(mean,) * 13)
    assume(abs(mean - zero_point * std * scale) < 30000)
    quantiser = input_quantiser(card, scale, zero_point)
    features = np.arange(-(2**25), 2**25, 65521, dtype=np.int32)[:, None] * np.ones(13, np.int32)
    exact = (features / 65536 - mean) / (std * scale) + zero_point
    got = quantise_features(features, quantiser)
    # Half a step of rounding, and the centre is right to half a unit of Q16.
    slack = 0.5 + 0.51 / 65536 / (std * scale) + 1e-6 * np.abs(exact)
    assert (np.abs(got - np.clip(exact, -128, 127)) <= slack).all()


@pytest.mark.parametrize(("std", "mean", "word"), [(1e-20, 0.0, "1e-20"), (1.0, 1e6, "1000000.0")])
def test_an_extreme_normalisation_is_refused(std: float, mean: float, word: str) -> None:
    card = replace(load_model("commands_en"), feature_std=(std,) * 13, feature_mean=(mean,) * 13)
    with pytest.raises(KwsError, match=re.escape(word)):
        input_quantiser(card, 0.05, 3)


# Refused input


@pytest.mark.parametrize("length", [32, 400, 640, 4096])
def test_an_unsupported_frame_length_is_named(length: int) -> None:
    config = FrontEndConfig(frame_length=length, hop_length=20, n_mels=3, n_mfcc=2)
    with pytest.raises(KwsError, match=f"power of two.*Received: {length}"):
        tables(config)
    with pytest.raises(KwsError, match=f"Received: {length}"):
        FixedFrontEnd(config)


def test_a_filter_that_hardly_touches_a_bin_is_named() -> None:
    # Its only bin is at 31.25 Hz, just before its upper end.
    config = FrontEndConfig(n_mels=1, n_mfcc=1, mel_low_hz=20, mel_high_hz=31.3)
    with pytest.raises(KwsError, match=r"Mel filter 0 .*n_mels 1, frame_length 512"):
        tables(config)


@pytest.mark.parametrize(
    ("audio", "received"),
    [
        (np.zeros(512, np.float32), "float32"),
        (np.zeros((2, 512), np.int16), r"\(2, 512\)"),
        ([0] * 512, "int64"),
    ],
)
def test_other_audio_is_refused_by_name(audio: NDArray[np.int16], received: str) -> None:
    for call in (lambda: fixed_mfcc(audio, DEFAULT), lambda: FixedFrontEnd(DEFAULT).feed(audio)):
        with pytest.raises(KwsError, match=f"Received: .*{received}"):
            call()


# Compilers

ARM = "arm-none-eabi-gcc -mthumb -mcpu="
COMPILERS = [
    "gcc",
    "clang",
    *(ARM + cpu for cpu in ("cortex-m0", "cortex-m3", "cortex-m4", "cortex-m33", "cortex-m55")),
    "riscv64-unknown-elf-gcc -march=rv32imac -mabi=ilp32 -ffreestanding",
]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_it_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    objects = compiled(compiler, tmp_path)
    if shutil.which(f"{compiler.split()[0].removesuffix('gcc')}nm") is None:
        return
    needed = symbols(compiler, objects)
    # No division, no floating point, no heap, no libc; of the compiler's own functions those for
    # 64-bit products and shifts and for leading zeros, where a core has none.
    foreign = {name for name in needed if not name.startswith("kws_")}
    allowed = {"__clzsi2", "__aeabi_lmul", "__aeabi_lasr", "__aeabi_llsl", "__aeabi_llsr"}
    allowed |= {"__muldi3", "__ashrdi3", "__ashldi3", "__clz_tab", "_GLOBAL_OFFSET_TABLE_"}
    assert foreign <= allowed, foreign - allowed


def compiled(compiler: str, folder: Path) -> list[Path]:
    command = compiler.split()
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    write_sources(folder, DEFAULT, plain_quantiser(DEFAULT.n_mfcc))
    objects = []
    for source in (*(RUNTIME / f"{name}.c" for name in SOURCES), folder / "kws_tables.c"):
        objects.append(folder / f"{source.stem}.o")
        arguments = ["-Os", *STRICT, f"-I{folder}", f"-I{RUNTIME}", "-c", source, "-o", objects[-1]]
        made = subprocess.run([*command, *arguments], capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
    return objects


def symbols(compiler: str, objects: list[Path]) -> set[str]:
    """Undefined names in the objects; fails if they have mutable memory."""
    nm = compiler.split()[0].removesuffix("gcc").removesuffix("clang") + "nm"
    lines = subprocess.run([nm, *objects], capture_output=True, text=True, check=True).stdout
    found = re.findall(r" ([A-Za-z]) (\S+)$", lines, re.MULTILINE)
    assert not {name for kind, name in found if kind in "bBdDC"}
    return {name for kind, name in found if kind == "U"}
