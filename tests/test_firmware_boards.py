"""Six kinds of Cortex-M under QEMU: equal results, reported faults, and instruction counts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from test_firmware_emit import little_model

from firmware_export.boards.build import FOLDER, build, missing_tools, run
from firmware_export.boards.cores import CORES, HOST, cores_named
from firmware_export.emit import generate
from firmware_export.measure import Cost, measure, parts_of
from firmware_export.verification_records import pack_clips
from firmware_export.verify import verify
from kws.audio.files import write_wav
from kws.errors import KwsError
from kws.frontend import FrontEndConfig

MODEL = "commands_en"
BOARDS = [core for core in CORES if core != HOST]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("firmware") / "library"
    generate(MODEL, folder)
    return folder


@pytest.fixture(scope="module")
def pcm() -> np.ndarray:
    """A second of bursts of noise."""
    rng = np.random.default_rng(3)
    loudness = np.repeat(rng.uniform(0, 8000, 25), 640)
    return (rng.normal(size=16000) * loudness).clip(-32768, 32767).astype(np.int16)


def needs(name: str) -> None:
    (core,) = cores_named([name])
    if missing := missing_tools(core):
        pytest.skip(missing)


@pytest.fixture(scope="module")
def cost(library: Path, pcm: np.ndarray) -> Cost:
    needs("m3")
    needs("m4")
    return measure(library, pcm, cores=["m3", "m4"])


def with_line_in_feed(library: Path, to: Path, line: str) -> Path:
    """A copy of the library with one more line in kws_feed."""
    shutil.copytree(library, to)
    source = to / "src" / "kws.c"
    text = source.read_text()
    head, tail = text.split("    int result = KWS_OK;\n", 1)
    source.write_text(f"{head}    int result = KWS_OK;\n    {line}\n{tail}")
    return to


@pytest.mark.parametrize("core", [core.name for core in BOARDS])
def test_on_real_speech_the_board_computes_what_python_computes(
    core: str, library: Path, real_speech: Path, tmp_path: Path
) -> None:
    needs(core)
    for word in ("yes", "on"):
        (tmp_path / word).mkdir()
        for path in sorted((real_speech / "speech_commands" / word).glob("*.wav"))[:2]:
            shutil.copy(path, tmp_path / word)
    result = verify(MODEL, library, tmp_path, cores=[core])
    (told,) = result.cores
    assert result.equal, told.first_difference or told.failed
    assert (told.clips, told.warnings) == (4, "")
    assert 0 < told.state_bytes <= 12_000


def test_a_processor_that_faults_ends_in_one_line(library: Path, tmp_path: Path) -> None:
    needs("m0")
    (core,) = cores_named(["m0"])
    broken = with_line_in_feed(library, tmp_path / "broken", "__builtin_trap();")
    program = build(core, broken, "verify", tmp_path / "room")
    with pytest.raises(KwsError, match=r"Cortex-M0 failed.*the processor faulted"):
        run(program, pack_clips([np.zeros(400, np.int16)]), timeout_s=60)


def test_a_program_that_hangs_is_ended(library: Path, tmp_path: Path) -> None:
    needs("m4")
    (core,) = cores_named(["m4"])
    line = 'if (n > 0) for (;;) __asm__ volatile("");'
    program = build(
        core, with_line_in_feed(library, tmp_path / "b", line), "verify", tmp_path / "r"
    )
    with pytest.raises(KwsError, match="did not end within 2 s"):
        run(program, pack_clips([np.zeros(400, np.int16)]), timeout_s=2)


def test_input_that_is_cut_off_is_noticed_on_the_board(library: Path, tmp_path: Path) -> None:
    needs("m33")
    (core,) = cores_named(["m33"])
    program = build(core, library, "verify", tmp_path)
    with pytest.raises(KwsError, match="did not understand its input"):
        run(program, pack_clips([np.zeros(400, np.int16)])[:-1], timeout_s=60)


def test_a_library_that_does_not_compile_is_reported_with_the_compilers_message(
    library: Path, tmp_path: Path
) -> None:
    if missing := missing_tools(HOST):
        pytest.skip(missing)
    broken = with_line_in_feed(library, tmp_path / "broken", "no_such_thing = 1;")
    with pytest.raises(KwsError, match="no_such_thing"):
        build(HOST, broken, "verify", tmp_path / "room")


def test_the_figures_are_within_the_promise_and_add_up(cost: Cost) -> None:
    m3, m4 = cost.cores
    for told in (m3, m4):
        assert told.code_bytes <= 20_000
        assert told.state_bytes <= 12_000
        assert 100 < told.stack_bytes < 2_000
        assert sum(told.parts.values()) == pytest.approx(told.per_second, rel=1e-3)
        assert told.per_second == pytest.approx(50 * told.per_hop, rel=1e-3)
        assert min(told.parts.values()) > 0 and told.longest_hop > told.per_hop
    # 121,000 weights and biases, and constants beside them.
    assert 115_000 < m4.weights_bytes < 130_000
    # The M4 multiplies two pairs at once.
    assert m4.parts["convolutions"] < m3.parts["convolutions"]
    text = "\n".join(cost.markdown())
    assert "Cortex-M4" in text and "nRF52840, 64 MHz" in text and "assumed cycles" in text


def test_the_figures_are_the_same_in_every_run(cost: Cost, library: Path, pcm: np.ndarray) -> None:
    again = measure(library, pcm, cores=["m4"])
    assert again.cores[0] == cost.cores[1]


def test_the_figures_are_the_same_under_another_prefix(
    cost: Cost, pcm: np.ndarray, tmp_path: Path
) -> None:
    generate(MODEL, tmp_path / "library", prefix="kws_more")
    other = measure(tmp_path / "library", pcm, cores=["m4"])
    assert other.cores[0] == cost.cores[1]


def test_instructions_and_stack_that_are_added_are_counted(
    cost: Cost, library: Path, pcm: np.ndarray, tmp_path: Path
) -> None:
    # 20,000 instructions in a loop of two, and 512 bytes of stack.
    spin = (
        "{ uint32_t i = 10000; volatile uint8_t room[512]; room[0] = (uint8_t)n; "
        '__asm__ volatile(".syntax unified\\n1: subs %0, #1\\n\\tbne 1b" : "+l"(i)); }'
    )
    other = measure(with_line_in_feed(library, tmp_path / "more", spin), pcm, cores=["m4"]).cores[0]
    before = cost.cores[1]
    assert other.per_hop - before.per_hop == pytest.approx(20_000, abs=100)
    # The network, deeper down, decides about the stack; the room lies on top of it or beside it.
    assert 512 <= other.stack_bytes - before.stack_bytes <= 640
    assert other.parts["front end"] == pytest.approx(before.parts["front end"], rel=0.01)


def test_constants_that_are_added_are_found_in_the_bytes(
    cost: Cost, library: Path, pcm: np.ndarray, tmp_path: Path
) -> None:
    line = '{ static const uint8_t more[1000] = {1}; __asm__ volatile("" : : "r"(more)); }'
    other = measure(with_line_in_feed(library, tmp_path / "more", line), pcm, cores=["m4"]).cores[0]
    before = cost.cores[1]
    assert 1000 <= other.constants_bytes - before.constants_bytes < 1004
    assert other.weights_bytes == before.weights_bytes
    assert 0 < other.code_bytes - before.code_bytes < 100


def test_the_kernels_that_are_timed_are_those_that_the_model_calls(
    library: Path, tmp_path: Path
) -> None:
    needs("m4")
    (core,) = cores_named(["m4"])
    parts = parts_of(build(core, library, "measure", tmp_path))
    assert parts["kws_lstm_s8"] == "LSTM" and parts["kws_conv_s8"] == "CONVOLUTIONS"
    assert parts["kws_frontend_frame"] == "FRONT_END"


@pytest.mark.parametrize(
    ("what", "frames", "front_end"),
    [
        ("flash", 40, FrontEndConfig()),
        ("memory", 5, FrontEndConfig(frame_length=2048, hop_length=1024)),
    ],
)
def test_a_board_that_is_too_small_is_skipped_and_reported(
    what: str, frames: int, front_end: FrontEndConfig, tmp_path: Path
) -> None:
    needs("host")
    needs("m0")
    model = little_model(tmp_path / "m.tflite", frames=frames, stride=2, front_end=front_end)
    library = tmp_path / "library"
    generate(model, library)
    (tmp_path / "clips" / "hey").mkdir(parents=True)
    write_wav(tmp_path / "clips" / "hey" / "a.wav", np.arange(16000, dtype=np.int16))
    result = verify(model, library, tmp_path / "clips", cores=["host", "m0"])
    host, m0 = result.cores
    assert result.equal and host.equal and host.clips == 1
    assert f"more {what} than the emulated board has" in m0.skipped
    assert "Cortex-M0: SKIPPED, more" in "\n".join(result.lines())
    told = measure(library, np.zeros(2048, np.int16), cores=["m0"])
    assert f"Cortex-M0: more {what} than" in "\n".join(told.markdown())
    with pytest.raises(KwsError, match=rf"no core to run the library on.*more {what}"):
        verify(model, library, tmp_path / "clips", cores=["m0"])


def test_missing_tools_are_named_with_where_to_get_them(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    missing_tools.cache_clear()
    try:
        assert "apt install gcc-arm-none-eabi" in missing_tools(BOARDS[0])
        assert "no C compiler" in missing_tools(HOST)
        (tmp_path / "yes").mkdir()
        with pytest.raises(KwsError, match=r"no core to run the library on.*no C compiler"):
            verify(MODEL, library, tmp_path)
        told = measure(library, np.zeros(640, np.int16), cores=["m0"])
        assert "apt install" in "\n".join(told.markdown())
    finally:
        missing_tools.cache_clear()


def test_an_unknown_core_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(KwsError, match=r"'m99'.*host, m0, m3, m4, m7, m33, m55"):
        cores_named(["m99"])


def test_every_board_has_its_linker_script_in_the_package() -> None:
    for core in BOARDS:
        text = (FOLDER / core.script).read_text()
        assert "INCLUDE sections.ld" in text
