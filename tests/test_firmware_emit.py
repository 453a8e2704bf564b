"""Generated libraries compile everywhere without a warning, and compute what Python computes."""

from __future__ import annotations

import ctypes
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sounds import gusts
from tiny_model import write_tiny

from firmware_export.c_source import c_string, identifiers
from firmware_export.emit import add_measurements, generate, open_reference_model
from firmware_export.names import renamed
from firmware_export.plan import Buffer, plan
from firmware_export.projects import library_name
from firmware_export.self_test_signal import signal
from kws.decide import DecisionConfig
from kws.errors import KwsError
from kws.frontend import FrontEndConfig
from kws.model_file import ModelCard, pretrained_models, write_card

ROOT = Path(__file__).resolve().parent.parent
STUBS = Path(__file__).resolve().parent / "firmware_stubs"
STRICT = ("-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
OK, EVENT, NULL, TOO_LONG, NOT_INITIALISED = 0, 1, -1, -2, -3
FRONT_END, NETWORK, DECISION, THRESHOLD = -4, -5, -6, -7
COMPILERS = {
    "gcc": ("gcc", "-fno-pic"),
    "clang": ("clang", "-fno-pic"),
    "Cortex-M0": ("arm-none-eabi-gcc", "-mthumb", "-mcpu=cortex-m0"),
    "Cortex-M4": ("arm-none-eabi-gcc", "-mthumb", "-mcpu=cortex-m4"),
    "Cortex-M55": ("arm-none-eabi-gcc", "-mthumb", "-mcpu=cortex-m55"),
    "RISC-V": ("riscv64-unknown-elf-gcc", "-march=rv32imac", "-mabi=ilp32", "-ffreestanding"),
}
Events = list[tuple[int, int, int]]

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def needs(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")


EXCITABLE = DecisionConfig(
    thresholds={"yes": 0.45, "no": 0.45}, smoothing_ms=80, refractory_ms=80, release=0.9
)


class Library:
    """A generated library, compiled for this computer."""

    def __init__(self, folder: Path, flags: Sequence[str] = ("-O2",)) -> None:
        sources = sorted(str(path) for path in (folder / "src").glob("*.c"))
        size = folder / "size.c"
        size.write_text(
            '#include "kws.h"\nint state_bytes(void);\nint most(void);\n'
            "int state_bytes(void) { return (int)sizeof(kws_state); }\n"
            "int most(void) { return KWS_MAX_FEED_SAMPLES; }\n"
        )
        output = folder / "kws.so"
        command = ["gcc", "-std=c99", *STRICT, *flags, "-shared", "-fPIC", f"-I{folder / 'src'}"]
        subprocess.run([*command, *sources, str(size), "-o", str(output)], check=True)
        size.unlink()
        self.c = ctypes.CDLL(str(output))
        self.c.kws_frames.restype = ctypes.c_uint64
        self.c.kws_last_frame.restype = ctypes.POINTER(ctypes.c_int32)
        if hasattr(self.c, "kws_steps"):  # not in a library of two models
            self.c.kws_steps.restype = ctypes.c_uint64
            self.c.kws_last_posteriors.restype = ctypes.POINTER(ctypes.c_int8)
        self.state = ctypes.create_string_buffer(self.c.state_bytes())
        self.event = ctypes.create_string_buffer(16)
        self.most: int = self.c.most()

    def feed(self, pcm: NDArray[np.int16]) -> int:
        samples = np.ascontiguousarray(pcm)
        where = ctypes.c_void_p(samples.ctypes.data)
        result: int = self.c.kws_feed(self.state, where, ctypes.c_size_t(len(samples)), self.event)
        return result

    def hear(self, pcm: NDArray[np.int16], ends: Sequence[int]) -> Events:
        """Time in samples, label and score of each event in audio that is cut at `ends`."""
        assert self.c.kws_init(self.state) == OK
        return self.hear_on(pcm, ends)

    def hear_on(self, pcm: NDArray[np.int16], ends: Sequence[int]) -> Events:
        """The same, without a beginning."""
        events = []
        # The last call may leave an event for another, if there are two models.
        for chunk in (*np.split(pcm, ends), pcm[:0]):
            result = self.feed(chunk)
            assert result in (OK, EVENT)
            if result == EVENT:
                time, label, score = np.frombuffer(
                    self.event.raw, np.dtype([("t", "<u8"), ("k", "<u2"), ("s", "<u2")]), 1
                )[0]
                events.append((int(time), int(label), int(score)))
        return events


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return write_tiny(folder / "model.tflite", decision=EXCITABLE)


@pytest.fixture(scope="module")
def folder(tiny_path: Path) -> Path:
    """A generated folder; read only."""
    out = tiny_path.with_name("library")
    generate(tiny_path, out)
    return out


@pytest.fixture(scope="module")
def library(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Library:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    copy = tmp_path_factory.mktemp("compiled") / "library"
    shutil.copytree(folder, copy)
    return Library(copy)


# The same as Python


def expected(model: str | Path, pcm: NDArray[np.int16]) -> Events:
    events = open_reference_model(model).trace(pcm).events
    return [(e.time_samples, e.keyword, e.score_q15) for e in events]


@pytest.mark.parametrize("seed", range(3))
def test_events_equal_those_of_python(library: Library, tiny_path: Path, seed: int) -> None:
    pcm = gusts(20, seed)
    want = expected(tiny_path, pcm)
    assert len(want) > 3
    assert library.hear(pcm, range(320, len(pcm), 320)) == want


def test_features_and_posteriors_equal_those_of_python(library: Library, tiny_path: Path) -> None:
    pcm = np.concatenate([gusts(5), np.full(4000, -32768, np.int16), np.zeros(4000, np.int16)])
    want = open_reference_model(tiny_path).trace(pcm)
    library.c.kws_init(library.state)
    frames, posteriors = [], []
    for start in range(0, len(pcm), 160):
        library.feed(pcm[start : start + 160])
        if library.c.kws_frames(library.state) > len(frames):
            frames.append(library.c.kws_last_frame(library.state)[: want.mfcc_q16.shape[1]])
        if library.c.kws_steps(library.state) > len(posteriors):
            row = library.c.kws_last_posteriors(library.state)[: want.posteriors.shape[1]]
            posteriors.append(row)
    assert np.array_equal(frames, want.mfcc_q16)
    assert np.array_equal(posteriors, want.posteriors)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_how_the_stream_is_cut_changes_nothing(
    library: Library, tiny_path: Path, data: st.DataObject
) -> None:
    pcm = gusts(6, seed=4)
    whole = library.hear(pcm, range(library.most, len(pcm), library.most))
    assert whole == expected(tiny_path, pcm) and whole
    lengths = data.draw(st.lists(st.integers(0, library.most), max_size=60))
    ends = [end for end in np.cumsum(lengths) if end < len(pcm)]
    rest = range((ends or [0])[-1] + 317, len(pcm), 317)
    assert library.hear(pcm, [*ends, *rest]) == whole


@pytest.mark.parametrize("name", [name for name in pretrained_models() if "commands" in name])
def test_pretrained_models_detect_the_words_of_the_self_test(name: str, tmp_path: Path) -> None:
    needs("gcc")
    written = generate(name, tmp_path / "library")
    assert written.golden_events >= (3 if name == "commands_en" else 1)
    assert written.state_bytes <= 12_000
    library = Library(tmp_path / "library")
    pcm = signal()
    assert library.hear(pcm, range(999, len(pcm), 999)) == expected(name, pcm)
    assert library.c.kws_self_test(library.state) == OK
    assert len(library.state) <= written.state_bytes


# Misuse


def test_wrong_calls_end_in_their_error_and_change_nothing(library: Library) -> None:
    c, state = library.c, library.state
    pcm = gusts(1)
    assert c.kws_init(None) == NULL
    assert c.kws_reset(None) == NULL
    assert c.kws_frames(None) == 0
    assert c.kws_steps(None) == 0
    assert not c.kws_last_frame(None)
    assert not c.kws_last_posteriors(None)
    assert c.kws_self_test(None) == NULL
    state.raw = b"\xa5" * len(state)
    assert c.kws_reset(state) == NOT_INITIALISED
    assert library.feed(pcm[:100]) == NOT_INITIALISED
    assert state.raw == b"\xa5" * len(state)
    c.kws_init(state)
    library.feed(pcm[:1000])
    before = state.raw
    assert library.feed(np.zeros(library.most + 1, np.int16)) == TOO_LONG
    assert c.kws_feed(state, None, ctypes.c_size_t(5), library.event) == NULL
    assert c.kws_feed(state, None, ctypes.c_size_t(0), library.event) == OK
    assert c.kws_feed(state, pcm.tobytes(), ctypes.c_size_t(5), None) == NULL
    assert c.kws_feed(None, pcm.tobytes(), ctypes.c_size_t(5), library.event) == NULL
    assert state.raw == before


def test_a_reset_makes_the_state_what_it_was_after_init(library: Library) -> None:
    library.c.kws_init(library.state)
    fresh = library.state.raw
    library.hear(gusts(2), range(500, 32_000, 500))
    assert library.state.raw != fresh
    assert library.c.kws_reset(library.state) == OK
    assert library.state.raw == fresh


# The self-test


def test_the_self_test_passes_and_leaves_a_fresh_state(library: Library) -> None:
    assert library.c.kws_self_test(library.state) == OK
    left = library.state.raw
    library.c.kws_init(library.state)
    assert library.state.raw == left


@pytest.mark.parametrize(
    ("file", "pattern", "error"),
    [
        ("kws_tables.c", r"(kws_cos_q31\[\d+\] = \{\s+\d+, )(\d+)", FRONT_END),
        ("kws_tables.c", r"(kws_dct\[\d+\] = \{\s+)(\d+)", FRONT_END),
        ("kws_input_tables.c", r"(kws_input_gain\[\d+\] = \{\s+)(\d+)", NETWORK),
        ("kws_model.c", r"(conv_0_bias\[\d+\] = \{\s+)(-?\d+)", NETWORK),
        ("kws_model.c", r"(lstm_0_hidden_multipliers\[\d+\] = \{\s+)(\d+)", NETWORK),
        ("kws_model.c", r"(kws_fire_from\[\d+\] = \{\s+)(\d+)", DECISION),
        ("kws_model.c", r"(kws_release_below\[\d+\] = \{\s+)(\d+)", DECISION),
        ("kws_model.h", r"(KWS_REFRACTORY_STEPS \d*)(\d)", DECISION),
        ("kws_model.h", r"(KWS_WINDOW_STEPS \d*)(\d)", DECISION),
    ],
)
@needs_gcc
def test_the_self_test_names_the_stage_that_is_wrong(
    folder: Path, tmp_path: Path, file: str, pattern: str, error: int
) -> None:
    broken = tmp_path / "library"
    shutil.copytree(folder, broken)
    path = broken / "src" / file
    text, count = re.subn(
        pattern,
        # A step more, or a tenth less.
        lambda m: m[1] + str(int(m[2]) + 1 if len(m[2]) == 1 else int(int(m[2]) * 0.9) - 1),
        path.read_text(),
        count=1,
    )
    assert count == 1
    path.write_text(text)
    library = Library(broken, ("-O0",))
    assert library.c.kws_self_test(library.state) == error


def test_a_threshold_outlasts_kws_reset_but_not_kws_init(library: Library, tiny_path: Path) -> None:
    pcm = gusts(20)
    want = expected(tiny_path, pcm)
    labels = open_reference_model(tiny_path).card.labels
    yes, no = labels.index("yes"), labels.index("no")
    assert {label for _, label, _ in want} == {yes, no}
    c, state = library.c, library.state
    assert c.kws_init(state) == OK
    assert c.kws_set_threshold(state, yes, 32768) == OK
    library.feed(pcm[:9000])
    assert c.kws_reset(state) == OK
    heard = []
    for chunk in np.split(pcm, range(640, len(pcm), 640)):
        if library.feed(chunk) == EVENT:
            heard.append(int.from_bytes(library.event.raw[8:10], "little"))
    assert set(heard) == {no}
    assert library.hear(pcm, range(640, len(pcm), 640)) == want  # begins with kws_init


def test_an_invalid_threshold_changes_nothing(library: Library, tiny_path: Path) -> None:
    c, state = library.c, library.state
    labels = open_reference_model(tiny_path).card.labels
    assert c.kws_init(state) == OK
    before = bytes(state)
    for label, threshold in (
        *((labels.index("yes"), t) for t in (0, 32769, 2**32 - 1)),
        *((label, 20000) for label in (labels.index("_silence_"), -1, len(labels))),
    ):
        assert c.kws_set_threshold(state, label, ctypes.c_uint32(threshold)) == THRESHOLD
    assert bytes(state) == before
    assert c.kws_set_threshold(None, 0, 1) == NULL
    assert c.kws_set_threshold(ctypes.create_string_buffer(len(state)), 0, 1) == NOT_INITIALISED


# Compilers


@pytest.mark.parametrize("target", COMPILERS)
def test_it_compiles_without_a_warning_and_needs_only_mem_functions(
    folder: Path, tmp_path: Path, target: str
) -> None:
    command = COMPILERS[target]
    needs(command[0])
    if target == "RISC-V":  # comes without a C library
        (tmp_path / "string.h").write_text(
            "#include <stddef.h>\nvoid *memcpy(void *, const void *, size_t);\n"
            "void *memmove(void *, const void *, size_t);\nvoid *memset(void *, int, size_t);\n"
            "int memcmp(const void *, const void *, size_t);\n"
        )
    sources = sorted(str(path) for path in (folder / "src").glob("*.c"))
    includes = [f"-I{tmp_path}", f"-I{folder / 'src'}"]
    subprocess.run(
        [*command, "-std=c99", *STRICT, "-Os", *includes, "-c", *sources], cwd=tmp_path, check=True
    )
    objects = sorted(str(path) for path in tmp_path.glob("*.o"))
    prefix = command[0].removesuffix("gcc") if "none" in command[0] or "elf" in command[0] else ""
    listed = subprocess.run(
        [f"{prefix}nm", *objects], capture_output=True, text=True, check=True
    ).stdout
    symbols = [line.split()[-2:] for line in listed.splitlines() if line.strip().count(" ")]
    # No changing globals: neither initialised nor zeroed data, nor common blocks.
    assert not [name for kind, name in symbols if kind in "bBdDcCgGsS"]
    ours = {name for kind, name in symbols if kind != "U"}
    needed = {name for kind, name in symbols if kind == "U"} - ours
    arithmetic = r"__aeabi_(u?idiv|u?idivmod|uldivmod|ldivmod|lmul|llsl|llsr|lasr|mem\w+)|__gnu_\w+"
    helpers = rf"mem(cpy|move|set|cmp)|{arithmetic}|_GLOBAL_OFFSET_TABLE_|__stack_chk_fail"
    helpers += r"|__(u?div|u?mod|clz|mul|ash[lr]|lshr)[sd]i[23]"
    assert not [name for name in needed if not re.fullmatch(helpers, name)]


@needs_gcc
def test_each_header_compiles_alone_as_cplusplus_98(folder: Path, tmp_path: Path) -> None:
    needs("g++")
    for header in sorted((folder / "src").glob("*.h")):
        source = tmp_path / "alone.cpp"
        source.write_text(f'#include "{header.name}"\n')
        flags = ["-std=c++98", "-Wall", "-Wextra", "-pedantic", "-Wno-long-long", "-Werror"]
        command = ["g++", *flags, f"-I{folder / 'src'}", "-fsyntax-only", str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        if re.search(r"^\w.*\);$", header.read_text(), re.MULTILINE):
            assert 'extern "C"' in header.read_text(), header.name


def test_the_library_links_into_cplusplus(folder: Path, tmp_path: Path) -> None:
    needs("gcc", "g++")
    (tmp_path / "main.cpp").write_text(
        "#include <kws.h>\n#include <kws_self_test.h>\n"
        "int main() {\n  static kws_state state;\n  return kws_self_test(&state);\n}\n"
    )
    sources = sorted(str(path) for path in (folder / "src").glob("*.c"))
    include = f"-I{folder / 'src'}"
    subprocess.run(["gcc", "-O1", include, "-c", *sources], cwd=tmp_path, check=True)
    objects = sorted(path.name for path in tmp_path.glob("*.o"))
    build = ["g++", "-std=c++11", "-Wall", "-Wextra", "-Werror", include, "main.cpp", *objects]
    subprocess.run([*build, "-o", "main"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


def test_no_file_of_the_library_mentions_floating_point_or_the_heap(folder: Path) -> None:
    for path in (folder / "src").iterdir():
        code = re.sub(r"/\*.*?\*/|//[^\n]*|\"[^\"]*\"", "", path.read_text(), flags=re.DOTALL)
        assert not re.search(r"\b(float|double|malloc|calloc|free|alloca)\b", code), path.name
        included = set(re.findall(r"#include <([^>]+)>", code))
        assert included <= {"limits.h", "stdint.h", "stddef.h", "string.h", "arm_acle.h"}, path.name


@pytest.mark.parametrize(
    ("source", "compiler"),
    [
        ("host/main.c", ("gcc", "-std=c99", "-Wconversion", "-pedantic")),
        ("bare_metal/main.c", ("gcc", "-std=c99", "-Wconversion", "-pedantic")),
        ("esp_idf/main/main.c", ("gcc", "-std=gnu11", "-Wconversion", "-pedantic")),
        ("zephyr/src/main.c", ("gcc", "-std=gnu11", "-Wconversion", "-pedantic")),
        ("PlatformIO/src/main.cpp", ("g++", "-std=gnu++14")),
        (
            "MicrophoneESP32/MicrophoneESP32.ino",
            ("g++", "-std=gnu++17", "-include", "Arduino.h", "-x", "c++"),
        ),
    ],
)
def test_examples_compile_against_the_vendors_interfaces(
    folder: Path, source: str, compiler: tuple[str, ...]
) -> None:
    needs(compiler[0])
    flags = ["-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{folder / 'src'}", f"-I{STUBS}"]
    subprocess.run([*compiler, *flags, str(folder / "examples" / source)], check=True)


def test_cmake_builds_the_self_test_and_the_host_example(
    folder: Path, tiny_path: Path, tmp_path: Path
) -> None:
    needs("cmake", "ctest", "gcc")
    build = tmp_path / "build"
    for command in (
        ["cmake", "-S", str(folder), "-B", str(build), "-DCMAKE_C_FLAGS=-Werror"],
        ["cmake", "--build", str(build)],
        ["ctest", "--test-dir", str(build), "--output-on-failure"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    pcm = gusts(20)
    done = subprocess.run(
        [build / "kws_host"], input=pcm.tobytes(), capture_output=True, check=True
    )
    labels = open_reference_model(tiny_path).card.labels
    want = [
        f"-  {time / 16000:.2f} s  {labels[label]}  {score / 32768:.2f}"
        for time, label, score in expected(tiny_path, pcm)
    ]
    assert done.stdout.decode().splitlines() == want
    assert len(want) > 3


def test_another_cmake_project_can_add_the_folder(folder: Path, tmp_path: Path) -> None:
    needs("cmake", "gcc")
    (tmp_path / "main.c").write_text(
        '#include "kws.h"\nint main(void) { return kws_init(0) != -1; }\n'
    )
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(firmware C)\n"
        f'add_subdirectory("{folder}" kws)\nadd_executable(firmware main.c)\n'
        "target_link_libraries(firmware PRIVATE kws)\n"
    )
    build = tmp_path / "build"
    subprocess.run(
        ["cmake", "-S", str(tmp_path), "-B", str(build)], check=True, capture_output=True
    )
    subprocess.run(["cmake", "--build", str(build)], check=True, capture_output=True)
    assert subprocess.run([build / "firmware"], check=False).returncode == 0
    # No build type was given, as is usual with a toolchain file.
    assert "-O2" in (build / "kws" / "CMakeFiles" / "kws.dir" / "flags.make").read_text()
    assert not (build / "kws_self_test").exists() and not (build / "kws" / "kws_host").exists()


# Packaging: the fields that each system requires


def test_arduino_finds_its_fields_and_its_example(folder: Path) -> None:
    lines = (folder / "library.properties").read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    required = "name version author maintainer sentence paragraph category url architectures"
    assert set(required.split()) <= fields.keys()
    assert all(fields.values())
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9 _.-]{0,62}", fields["name"])
    assert "arduino" not in fields["name"].lower()
    assert re.fullmatch(r"\d+\.\d+\.\d+", fields["version"])
    assert fields["includes"] == "kws.h" and (folder / "src" / "kws.h").is_file()
    assert not [path for path in (folder / "src").rglob("*") if path.is_dir()]
    assert [p.stem for p in folder.rglob("*.ino")] == [p.parent.name for p in folder.rglob("*.ino")]
    assert list((folder / "examples").glob("*/*.ino"))


def test_platformio_finds_its_fields(folder: Path) -> None:
    fields = json.loads((folder / "library.json").read_text())
    assert {"name", "version", "description", "keywords", "license"} <= fields.keys()
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", fields["name"]) and len(fields["name"]) <= 50
    assert re.fullmatch(r"[a-z0-9-]+(, [a-z0-9-]+)*", fields["keywords"])
    assert len(fields["description"]) <= 255
    assert fields["version"].count(".") == 2
    assert (folder / fields["build"]["srcDir"] / fields["headers"]).is_file()
    project = (folder / "examples" / "PlatformIO" / "platformio.ini").read_text()
    assert f"{fields['name']}=symlink://../.." in project


def test_esp_idf_and_zephyr_compile_every_source(folder: Path) -> None:
    sources = {path.name for path in (folder / "src").glob("*.c")}
    for build in ("CMakeLists.txt", "zephyr/CMakeLists.txt"):
        text = (folder / build).read_text()
        named = re.findall(r"^ +((?:\.\./)?src/\w+\.c)$", text, re.MULTILINE)
        assert {Path(name).name for name in named} == sources
        assert all((folder / build).parent.joinpath(name).is_file() for name in named)
    cmake = (folder / "CMakeLists.txt").read_text()
    assert re.search(r"if\(ESP_PLATFORM\)\s+idf_component_register\(SRCS", cmake)
    # ESP-IDF must return from the file before project() is called.
    assert cmake.index("return()") < cmake.index("project(")
    manifest = (folder / "idf_component.yml").read_text()
    assert re.search(r'^version: "\d+\.\d+\.\d+"$', manifest, re.MULTILINE)
    assert re.search(r'^  idf: ">=5\.0"$', manifest, re.MULTILINE)
    module = (folder / "zephyr" / "module.yml").read_text()
    assert module == "name: kws\nbuild:\n  cmake: zephyr\n  kconfig: zephyr/Kconfig\n"
    assert "zephyr_library()" in (folder / "zephyr" / "CMakeLists.txt").read_text()
    assert "config KWS\n" in (folder / "zephyr" / "Kconfig").read_text()


def test_the_readme_names_what_there_is(folder: Path) -> None:
    readme = (folder / "README.md").read_text()
    header = "".join(path.read_text() for path in (folder / "src").glob("*.h"))
    header += renamed(header, "kws_more")  # the other library of the section on several models
    for name in set(re.findall(r"\b(kws_[a-z_]+)\(|\b(KWS_[A-Z_]+[A-Z])\b", readme)):
        word = name[0] or name[1]
        assert re.search(rf"\b{word}\b", header), word
    for path in set(re.findall(r"`((?:src|examples)/[\w/.]+\w)`", readme)):
        assert (folder / path).exists(), path
    left = [p for p in folder.rglob("*") if p.is_file() and re.search("@[A-Z_]+@", p.read_text())]
    assert not left


def test_measurements_take_their_place_in_the_readme_and_the_folder_stays_ours(
    tiny_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "library"
    generate(tiny_path, out)
    for lines in (["| M4 |", "| 1 % |"], ["| M7 |"]):
        add_measurements(out, lines)
    readme = (out / "README.md").read_text()
    assert "| M7 |" in readme and "| M4 |" not in readme and "Not measured" not in readme
    assert readme.index("## Measured") < readme.index("| M7 |") < readme.index("## Is this build")
    generate(tiny_path, out, thresholds=0.5)  # the README counts as unedited
    assert "Not measured" in (out / "README.md").read_text()
    with pytest.raises(KwsError, match="was not written by kws firmware"):
        add_measurements(tmp_path, ["| M4 |"])


# Models


def little_model(
    path: Path, *, frames: int, stride: int, front_end: FrontEndConfig, threshold: float = 0.5
) -> Path:
    """A stateless wake-word network: fully connected, a sum with its input, sigmoid."""
    from int8_graphs import Int8Graph  # needs LiteRT's schema

    rng = np.random.default_rng(0)
    n = frames * front_end.n_mfcc
    g = Int8Graph()
    x = g.tensor((1, frames, front_end.n_mfcc), scale=0.05, zero=3)
    flat = g.tensor((1, n), scale=0.05, zero=3)
    g.op("RESHAPE", [x], [flat], {"newShape": [1, n]})

    def connected(source: int, units: int, scale: float, zero: int) -> int:
        weights = rng.integers(-127, 128, (units, n))
        w = g.tensor((units, n), scale=0.03 / np.sqrt(n), data=weights)
        y = g.tensor((1, units), scale=scale, zero=zero)
        g.op("FULLY_CONNECTED", [source, w, -1], [y], {"keepNumDims": True})
        return y

    inner = connected(flat, n, 0.06, -5)
    total = g.tensor((1, n), scale=0.1, zero=7)
    g.op("ADD", [inner, flat], [total])
    logit = connected(total, 1, 0.05, 0)
    p = g.tensor((1, 1), scale=1 / 256, zero=-128)
    g.op("LOGISTIC", [logit], [p])
    out = g.tensor((1, 1, 1), scale=1 / 256, zero=-128)
    g.op("RESHAPE", [p], [out], {"newShape": [1, 1, 1]})
    card = ModelCard(
        name="little",
        license="CC0-1.0",
        labels=("hey",),
        keywords=("hey",),
        head="sigmoid",
        form="stream",
        receptive_field_frames=frames,
        stride_frames=stride,
        clip_frames=40,
        front_end=front_end,
        feature_mean=(-4.0,) * front_end.n_mfcc,
        feature_std=(3.0,) * front_end.n_mfcc,
        decision=DecisionConfig(
            thresholds={"hey": threshold}, smoothing_ms=0, refractory_ms=0, release=0.99
        ),
    )
    path.write_bytes(write_card(g.build([x], [out]), card))
    return path


@pytest.mark.parametrize(
    ("frames", "stride", "front_end"),
    [
        # Neither frames nor steps overlap.
        (3, 3, FrontEndConfig(frame_length=256, hop_length=256, n_mels=20, n_mfcc=5)),
        # A step is one frame of the shortest kind; one coefficient.
        (1, 1, FrontEndConfig(frame_length=64, hop_length=63, n_mels=6, n_mfcc=1)),
        # The longest frame, at half the rate.
        (
            5,
            1,
            FrontEndConfig(
                sample_rate_hz=8000, frame_length=2048, hop_length=80, mel_high_hz=3800.0
            ),
        ),
    ],
    ids=["no overlap", "shortest", "longest"],
)
@needs_gcc
def test_models_at_the_limits(
    frames: int, stride: int, front_end: FrontEndConfig, tmp_path: Path
) -> None:
    model = little_model(
        tmp_path / "little.tflite", frames=frames, stride=stride, front_end=front_end
    )
    written = generate(model, tmp_path / "library")
    library = Library(tmp_path / "library", ("-O2", "-Wshadow"))
    assert library.c.kws_self_test(library.state) == OK
    assert len(library.state) <= written.state_bytes <= len(library.state) + 8
    assert library.most == stride * front_end.hop_length
    rate = front_end.sample_rate_hz
    for name in ("library.properties", "zephyr/Kconfig", "library.json", "README.md"):
        assert f"in {rate // 1000} kHz audio" in (tmp_path / "library" / name).read_text()
    assert f"-r {rate} -c 1" in (tmp_path / "library" / "examples/host/main.c").read_text()
    pcm = gusts(4)
    want = expected(model, pcm)
    assert want
    rng = np.random.default_rng(1)
    ends = np.cumsum(rng.integers(1, library.most + 1, 2 * len(pcm) // library.most))
    assert library.hear(pcm, [end for end in ends if end < len(pcm)]) == want


def test_names_in_a_card_cannot_break_the_c(tmp_path: Path) -> None:
    needs("gcc")
    labels = ('he said "no" \\', "*/ /* ??/", "Füße 水", "水")
    model = write_tiny(
        tmp_path / "nasty.tflite",
        name='a*/b "quoted" ünïcode @VERSION@',
        license="see */ NOTICE\\",
        labels=labels,
        keywords=labels[2:],
        decision=DecisionConfig(thresholds=dict.fromkeys(labels[2:], 0.5)),
    )
    out = tmp_path / "library"
    generate(model, out)
    library = Library(out)
    assert library.c.kws_self_test(library.state) == OK
    read = (ctypes.c_char_p * 4).in_dll(library.c, "kws_labels")
    assert [label.decode() for label in read if label] == list(labels)
    assert (
        json.loads((out / "library.json").read_text())["name"] == "kws-a-b-quoted-unicode-version"
    )


def test_thresholds_can_be_given(tiny_path: Path, tmp_path: Path) -> None:
    generate(tiny_path, tmp_path / "own")
    generate(tiny_path, tmp_path / "given", thresholds={"yes": 0.25})
    own, given_ = (
        (tmp_path / name / "src" / "kws_model.c").read_text() for name in ("own", "given")
    )
    limits = [re.search(r"kws_fire_from\[2\] = \{\s+(\d+), (\d+)", text) for text in (own, given_)]
    assert all(limits)
    # Two steps of at most 256 in the window.
    assert [m.groups() for m in limits if m] == [("231", "231"), ("128", "231")]


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ("stream float", "Export it without --float"),
        ("clip int8", "Export it in stream form"),
        ("clip float", "Export it in stream form"),
    ],
)
def test_other_models_are_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, model: str, complaint: str
) -> None:
    form, kind = model.split()
    path = write_tiny(tmp_path / "model.tflite", form=form, int8=kind == "int8")
    with pytest.raises(KwsError, match=complaint) as caught:
        generate(path, tmp_path / "library")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"decision": DecisionConfig(thresholds={"yes": 0.5, "no": 0.5}, refractory_ms=60_000)},
            "at most 2000 steps",
        ),
        (
            {"front_end": FrontEndConfig(sample_rate_hz=96_000, n_mels=13, mel_high_hz=40e3)},
            "4000 to 48000 Hz",
        ),
        ({"front_end": FrontEndConfig(frame_length=500)}, "a power of two"),
        (
            {"front_end": FrontEndConfig(features="log_mel", n_mels=13)},
            "MFCC features only",
        ),
        ({"feature_mean": (1e9,) * 13}, "does not fit"),
    ],
)
def test_cards_beyond_the_library_are_refused_in_one_line(
    tmp_path: Path, changes: dict[str, object], complaint: str
) -> None:
    if "decision" in changes:  # short steps, so that a minute is many of them
        changes = {"front_end": FrontEndConfig(hop_length=160), **changes}
    path = write_tiny(tmp_path / "model.tflite", **changes)
    with pytest.raises(KwsError, match=complaint) as caught:
        generate(path, tmp_path / "library")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "library").exists()


def test_a_damaged_model_is_refused_in_one_line(tiny_path: Path, tmp_path: Path) -> None:
    content = bytearray(tiny_path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "bad.tflite").write_bytes(content)
    (tmp_path / "text.tflite").write_text("no model")
    for name in ("bad.tflite", "text.tflite", "missing.tflite"):
        with pytest.raises(KwsError) as caught:
            generate(tmp_path / name, tmp_path / "library")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "library").exists()


# The folder


def test_the_same_model_gives_the_same_files(folder: Path, tiny_path: Path, tmp_path: Path) -> None:
    generate(tiny_path, tmp_path / "again")
    names = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert names == sorted(
        p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file()
    )
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_writing_again_keeps_other_files(tiny_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "library"
    generate(tiny_path, out)
    (out / "build" / "deep").mkdir(parents=True)
    (out / "build" / "deep" / "cache.txt").write_text("mine")
    (out / "notes.txt").write_text("mine too")
    generate(tiny_path, out, thresholds=0.3)
    assert (out / "build" / "deep" / "cache.txt").read_text() == "mine"
    assert (out / "notes.txt").read_text() == "mine too"
    assert [path.name for path in tmp_path.iterdir()] == ["library"]


def test_a_folder_with_other_files_is_refused_and_left_alone(
    tiny_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    (tmp_path / "empty").mkdir()
    for name, complaint in (("home", "did not write"), ("file", "is a file")):
        with pytest.raises(KwsError, match=complaint):
            generate(tiny_path, tmp_path / name)
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["thesis.txt"]
    generate(tiny_path, tmp_path / "empty")
    assert (tmp_path / "empty" / "src" / "kws.c").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "home"]


def test_the_current_directory_is_not_replaced(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(tiny_path, tmp_path / "library")
    for place in ("library", "library/src"):
        monkeypatch.chdir(tmp_path / place)
        with pytest.raises(KwsError, match="Run it from outside"):
            generate(tiny_path, tmp_path / "library")
        assert Path.cwd() == tmp_path / place


def test_an_edited_file_is_refused_and_kept(tiny_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "library"
    generate(tiny_path, out)
    (out / "src" / "kws.c").write_text("/* improved */")
    with pytest.raises(KwsError, match=r"kws\.c was edited"):
        generate(tiny_path, out)
    assert (out / "src" / "kws.c").read_text() == "/* improved */"
    (out / "src" / "kws.c").unlink()
    # The same while files that may be edited were edited as well.
    (out / "library.properties").write_text("author=me")
    (out / "CMakeLists.txt").write_text("# mine")
    with pytest.raises(KwsError, match=r"CMakeLists\.txt was edited"):
        generate(tiny_path, out)
    shutil.rmtree(out)
    generate(tiny_path, out)
    (out / "kws_firmware.json").write_text("{}")
    with pytest.raises(KwsError, match="is damaged"):
        generate(tiny_path, out)


def test_edits_to_examples_and_packaging_files_are_kept(tiny_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "library"
    assert generate(tiny_path, out).kept == ()
    mine = {"examples/esp_idf/main/main.c": "/* my pins */", "library.properties": "author=me"}
    for name, text in mine.items():
        (out / name).write_text(text)
    for threshold in (0.3, 0.4):  # the second time as well
        before = (out / "src" / "kws_model.c").read_text()
        written = generate(tiny_path, out, thresholds=threshold)
        assert written.kept == tuple(sorted(mine))
        assert any("main.c, library.properties, as you edited" in t for t in written.lines())
        assert {name: (out / name).read_text() for name in mine} == mine
        assert (out / "src" / "kws_model.c").read_text() != before
    assert "kws.h" in (out / "examples" / "host" / "main.c").read_text()


@pytest.mark.parametrize("interrupted", range(6))
def test_an_interrupt_while_folders_are_exchanged_leaves_the_old_one_unchanged(
    interrupted: int, tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "library"
    generate(tiny_path, out)
    (out / "build").mkdir()
    for name in ("build/a.o", "build/b.o", "notes.txt", "library.properties"):
        (out / name).write_text("mine")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    rename, count = Path.rename, itertools.count()

    def interrupting(self: Path, target: Path) -> Path:
        if next(count) == interrupted:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupting)
    with pytest.raises(KeyboardInterrupt):
        generate(tiny_path, out, thresholds=0.9)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["library"]


def test_other_line_endings_are_not_an_edit(tiny_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "library"
    generate(tiny_path, out)
    for path in out.rglob("*.[ch]"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert generate(tiny_path, out, thresholds=0.9).kept == ()
    assert b"\r" not in (out / "src" / "kws.c").read_bytes()


def test_licences_and_credits_come_with_the_library(tmp_path: Path) -> None:
    for license, expression in (
        ("CC-BY-4.0", "Apache-2.0 AND CC-BY-4.0"),
        ("Apache-2.0", "Apache-2.0"),
        ("ask me first", "Apache-2.0 AND LicenseRef-weights"),
    ):
        model = write_tiny(tmp_path / "model.tflite", license=license)
        out = tmp_path / "library"
        generate(model, out)
        assert f"SPDX-License-Identifier: {expression}\n" in (out / "src/kws_model.c").read_text()
        assert "SPDX-License-Identifier: Apache-2.0\n" in (out / "src/kws.c").read_text()
        assert json.loads((out / "library.json").read_text())["license"] == expression
        assert f'\nlicense: "{expression}"\n' in (out / "idf_component.yml").read_text()
        assert (out / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
        assert f"Their licence: {license}." in (out / "NOTICE").read_text()


def test_a_failure_while_writing_leaves_the_old_folder(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "library"
    generate(tiny_path, out)
    before = (out / "src" / "kws_model.c").read_bytes()
    write_text = Path.write_text

    def failing(self: Path, *arguments: object, **options: object) -> int:
        if self.name == "kws_tables.c":
            raise KeyboardInterrupt
        return write_text(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "write_text", failing)
    with pytest.raises(KeyboardInterrupt):
        generate(tiny_path, out, thresholds=0.9)
    assert (out / "src" / "kws_model.c").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["library"]


# Parts


@given(
    st.lists(
        st.tuples(st.integers(1, 500), st.integers(0, 12), st.integers(0, 4)),
        min_size=1,
        max_size=14,
    )
)
def test_no_two_buffers_that_live_at_the_same_time_share_a_byte(
    lives: list[tuple[int, int, int]],
) -> None:
    buffers = [
        Buffer(key=i, size=size, first=first, last=first + more)
        for i, (size, first, more) in enumerate(lives)
    ]
    planned = plan(buffers)
    for a in buffers:
        start = planned.offsets[a.key]
        assert start % 4 == 0 and start >= 0 and start + a.size <= planned.size
        for b in buffers:
            if a is not b and a.overlaps(b):
                other = planned.offsets[b.key]
                assert start + a.size <= other or other + b.size <= start


def test_a_chain_takes_the_memory_of_its_two_largest_neighbours() -> None:
    sizes = (100, 400, 60, 320, 200, 8)
    chain = [Buffer(key=i, size=s, first=i, last=i + 1) for i, s in enumerate(sizes)]
    assert plan(chain).size == max(a + b for a, b in itertools.pairwise(sizes))


def test_c_names_of_labels_are_valid_and_differ() -> None:
    labels = ["_silence_", "yes", "Yes", "turn on", "3", "水", "火", "Füße", "a-b", "a b"]
    labels += ["yes 12", "a b 10", "YES"]  # names made distinct for other labels
    names = identifiers(labels, "KWS_LABEL_")
    assert len(set(names)) == len(labels)
    assert all(re.fullmatch(r"KWS_LABEL_[A-Z0-9_]+", name) for name in names)
    assert names[:2] == ["KWS_LABEL_SILENCE", "KWS_LABEL_YES"]


@pytest.mark.parametrize("text", ['"', "\\", "??/", "a\u00e91", "tab", "水9"])
def test_a_c_string_is_read_back_as_it_was(text: str, tmp_path: Path) -> None:
    needs("gcc")
    (tmp_path / "a.c").write_text(
        f"#include <stdio.h>\nint main(void) {{ fputs({c_string(text)}, stdout); return 0; }}\n"
    )
    subprocess.run(["gcc", "-std=c99", *STRICT, "a.c", "-o", "a"], cwd=tmp_path, check=True)
    out = subprocess.run([tmp_path / "a"], capture_output=True, check=True).stdout
    assert out.decode() == text


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("commands_en", "kws_commands_en"),
        ("Füße & 水", "kws_Fue"),
        ("水", "kws_model"),
        ("x" * 200, "kws_" + "x" * 46),
    ],
)
def test_library_names_fit_every_packaging(model: str, name: str) -> None:
    assert library_name(model) == name
