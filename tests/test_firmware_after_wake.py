"""A library of two models: a wake word, and commands that count only just after it."""

from __future__ import annotations

import ctypes
import itertools
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sounds import gusts
from test_firmware_emit import (
    COMPILERS,
    DECISION,
    FRONT_END,
    NETWORK,
    NOT_INITIALISED,
    NULL,
    OK,
    STRICT,
    STUBS,
    THRESHOLD,
    TOO_LONG,
    Events,
    Library,
    little_model,
    needs,
)
from tiny_model import write_tiny

from firmware_export.boards.build import build, missing_tools
from firmware_export.boards.cores import cores_named
from firmware_export.emit import (
    generate,
    generate_after_wake,
    open_commands_after_wake,
    open_reference_model,
)
from firmware_export.measure import parts_of
from firmware_export.names import renamed
from firmware_export.reference_model import events_of_both
from firmware_export.verify import verify
from kws.after_wake import WakeGate
from kws.audio.files import write_wav
from kws.cli import run as kws
from kws.decide import DecisionConfig, Event
from kws.errors import KwsError
from kws.frontend import FrontEndConfig
from kws.model_file import load_model

RATE = 16_000
WINDOW_S = 0.4
WAKE = 0.1
"""Threshold of the wake word, so low that it is heard often."""
EXCITABLE = DecisionConfig(
    thresholds={"yes": 0.6, "no": 0.6},
    after_wake={"yes": 0.45, "no": 0.45},
    smoothing_ms=80,
    refractory_ms=80,
    release=0.9,
)


SEVERAL = DecisionConfig(thresholds={"hey": 0.7, "ho": 0.7}, smoothing_ms=0, refractory_ms=200)


def write_both(room: Path, *, several: bool = False) -> None:
    """Two models and their library `both`.

    One wake word is of a model that differs from the commands' in everything but the front end.
    With `several` its labels, all but keywords, are also of the commands, and a call takes more
    than one hop.
    """
    write_tiny(room / "commands.tflite", decision=EXCITABLE)
    if several:
        labels = ("_silence_", "yes", "hey", "ho")
        write_tiny(
            room / "wake.tflite",
            name="wakes",
            labels=labels,
            keywords=labels[2:],
            decision=SEVERAL,
        )
    else:
        little_model(
            room / "wake.tflite", frames=3, stride=2, front_end=FrontEndConfig(), threshold=WAKE
        )
    generate_after_wake(
        room / "commands.tflite", room / "wake.tflite", room / "both", window_s=WINDOW_S
    )


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `write_both` writes, with one wake word; read only."""
    room = tmp_path_factory.mktemp("both")
    write_both(room)
    return room


@pytest.fixture(scope="module", params=["one", "several"])
def room(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with one wake word and with several."""
    room = tmp_path_factory.mktemp(request.param)
    write_both(room, several=request.param == "several")
    return room


@pytest.fixture(scope="module")
def library(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Library:
    needs("gcc")
    copy = tmp_path_factory.mktemp("compiled") / "library"
    shutil.copytree(room / "both", copy)
    return Library(copy)


def first_command(room: Path) -> int:
    """Where the commands' labels begin in those of the library."""
    return len(load_model(room / "wake.tflite").labels)


def keywords(room: Path) -> dict[str, int]:
    """The library's label of each keyword, wake words first."""
    wake, commands = (load_model(room / f"{name}.tflite") for name in ("wake", "commands"))
    found = {word: wake.labels.index(word) for word in wake.keywords}
    first = first_command(room)
    return found | {word: first + commands.labels.index(word) for word in commands.keywords}


def expected(room: Path, pcm: NDArray[np.int16], off: str = "") -> Events:
    """What each model detects alone, and of the commands those that the Python gate counts.

    Args:
        room: what `write_both` wrote.
        pcm: audio.
        off: a keyword that is never reached.
    """
    wake = load_model(room / "wake.tflite").decision.thresholds
    after = load_model(room / "commands.tflite").decision.after_wake
    wakes, said = (
        open_reference_model(
            room / f"{name}.tflite", {k: 1.0 if k == off else t for k, t in thresholds.items()}
        )
        .trace(pcm)
        .events
        for name, thresholds in (("wake", wake), ("commands", after))
    )
    gate = WakeGate(WINDOW_S)
    counted = gate.pick(
        *(
            [Event(keyword="", score=1, time_s=event.time_samples / RATE) for event in events]
            for events in (wakes, said)
        )
    )
    times = {round(event.time_s * RATE) for event in counted}
    both = [(e.time_samples, e.keyword, e.score_q15) for e in wakes]
    first = first_command(room)
    both += [
        (e.time_samples, first + e.keyword, e.score_q15) for e in said if e.time_samples in times
    ]
    assert len(counted) < len(said)
    return sorted(both, key=lambda event: event[0])


# The same as Python


@pytest.mark.parametrize("seed", range(3))
def test_wake_words_and_the_commands_that_count_are_those_of_python(
    library: Library, room: Path, seed: int
) -> None:
    pcm = gusts(20, seed)
    want = expected(room, pcm)
    first = first_command(room)
    assert {label < first for _, label, _ in want} == {False, True}
    assert library.hear(pcm, range(320, len(pcm), 320)) == want


def test_the_reference_reports_both_models_in_the_order_of_the_library(room: Path) -> None:
    pcm = gusts(20, seed=3)
    reference = open_commands_after_wake(
        room / "commands.tflite", room / "wake.tflite", window_s=WINDOW_S
    )
    events = [(e.time_samples, e.keyword, e.score_q15) for e in events_of_both(reference, pcm)]
    assert events == expected(room, pcm)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_how_the_stream_is_cut_changes_nothing(
    library: Library, room: Path, data: st.DataObject
) -> None:
    pcm = gusts(20, seed=3)
    want = expected(room, pcm)
    # Both models fire at one moment, so that an event has to wait for the next call.
    assert len({time for time, _, _ in want}) < len(want)
    lengths = data.draw(st.lists(st.integers(0, library.most), max_size=60))
    ends = [end for end in np.cumsum(lengths) if end < len(pcm)]
    rest = range((ends or [0])[-1] + 317, len(pcm), 317)
    assert library.hear(pcm, [*ends, *rest]) == want


def test_features_and_posteriors_are_those_of_each_model_alone(
    library: Library, room: Path
) -> None:
    pcm = gusts(5)
    frame = library.c.kws_last_frame
    library.c.kws_init(library.state)
    found: dict[str, list[list[int]]] = {"wake": [], "command": []}
    frames = []
    for start in range(0, len(pcm), 320):
        library.feed(pcm[start : start + 320])
        if library.c.kws_frames(library.state) > len(frames):
            frames.append(frame(library.state)[:13])
            for name, labels in (("wake", first_command(room)), ("command", 4)):
                last = getattr(library.c, f"kws_last_{name}_posteriors")
                last.restype = ctypes.POINTER(ctypes.c_int8)
                found[name].append(last(library.state)[:labels])
    for name, model in (("wake", "wake.tflite"), ("command", "commands.tflite")):
        card = load_model(room / model)
        trace = open_reference_model(room / model).trace(pcm)
        assert np.array_equal(frames, trace.mfcc_q16[: len(frames)])
        at_steps = found[name][card.receptive_field_frames - 1 :: card.stride_frames]
        assert np.array_equal(at_steps, trace.posteriors[: len(at_steps)]) and len(at_steps) > 50


def test_it_listens_from_a_wake_word_until_a_command_counts_or_the_window_ends(
    library: Library, room: Path
) -> None:
    pcm = gusts(20)
    window = round(WINDOW_S * RATE)
    events, first = expected(room, pcm), first_command(room)
    library.c.kws_init(library.state)
    seen = set()
    for start in range(0, len(pcm) - 320, 320):
        library.feed(pcm[start : start + 320])
        frames = library.c.kws_frames(library.state)
        if not frames:
            continue
        now = (frames - 1) * 320 + 512
        before = [(time, label) for time, label, _ in events if time <= now]
        wakes = [time for time, label in before if label < first]
        counted = [time for time, label in before if label >= first]
        # A command at the moment of a wake word belongs to the window before.
        is_open = bool(wakes) and not [time for time in counted if time > wakes[-1]]
        is_open = is_open and now + 320 - wakes[-1] <= window
        assert library.c.kws_is_listening(library.state) == is_open
        seen.add(is_open)
    assert seen == {False, True}
    assert not library.c.kws_is_listening(None)


class Gate(ctypes.Structure):
    _fields_ = (("woken", ctypes.c_uint64), ("open", ctypes.c_uint32))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans()), max_size=30),
    st.sampled_from([1, 2, 7, 100]),
)
def test_the_gate_counts_the_commands_that_the_python_gate_counts(
    library: Library, moments: list[tuple[int, bool, bool]], unit: int
) -> None:
    """Windows end with their last sample in both, whatever a time in seconds is rounded to."""
    window = round(WINDOW_S * RATE)
    library.c.kws_gate_command.argtypes = (ctypes.POINTER(Gate), ctypes.c_uint64)
    library.c.kws_gate_wake.argtypes = (ctypes.POINTER(Gate), ctypes.c_uint64)
    gate, other = Gate(), WakeGate(WINDOW_S)
    now = 0
    for steps, wake, command in moments:
        now += steps * window // unit
        wakes, said = (
            [Event(keyword="", score=1, time_s=now / RATE)] * happens for happens in (wake, command)
        )
        counts = command and library.c.kws_gate_command(gate, now)
        if wake:
            library.c.kws_gate_wake(gate, now)
        assert bool(other.pick(wakes, said)) == bool(counts)


# Thresholds


def test_commands_have_the_thresholds_for_after_a_wake_word_unless_others_are_given(
    room: Path, tmp_path: Path
) -> None:
    def thresholds(**options: float) -> dict[str, float]:
        out = tmp_path / "library"
        generate_after_wake(room / "commands.tflite", room / "wake.tflite", out, **options)  # type: ignore[arg-type]
        facts = json.loads((out / "kws_firmware.json").read_text())
        own = load_model(room / "wake.tflite").decision.thresholds
        assert facts["wake"]["thresholds"] == own
        assert facts["wake"]["window_samples"] == 80_000
        return dict(facts["thresholds"])

    assert thresholds() == {"yes": 0.45, "no": 0.45}
    assert thresholds(thresholds=0.7) == {"yes": 0.7, "no": 0.7}


def test_each_keyword_of_both_models_can_be_switched_off(library: Library, room: Path) -> None:
    pcm = gusts(20, seed=3)
    c, state = library.c, library.state
    for word, label in keywords(room).items():
        c.kws_init(state)
        assert c.kws_set_threshold(state, label, 32768) == OK
        assert library.hear_on(pcm, range(320, len(pcm), 320)) == expected(room, pcm, off=word)
        # It outlasts a new stream.
        assert c.kws_reset(state) == OK
        assert library.hear_on(pcm, range(320, len(pcm), 320)) == expected(room, pcm, off=word)


def test_an_invalid_threshold_changes_nothing(library: Library, room: Path) -> None:
    c, state = library.c, library.state
    c.kws_init(state)
    before = bytes(state)
    valid = keywords(room).values()
    others = [k for k in range(-1, first_command(room) + 5) if k not in valid]
    word = next(iter(valid))
    for label, threshold in (
        *((word, t) for t in (0, 32769)),
        *((k, 9) for k in (*others, -(2**31), 2**31 - 1)),
    ):
        assert c.kws_set_threshold(state, label, ctypes.c_uint32(threshold)) == THRESHOLD
    assert bytes(state) == before
    assert [bool(c.kws_is_wake_word(label)) for label in range(-1, 6)] == [
        0 <= label < first_command(room) for label in range(-1, 6)
    ]


# Misuse


def test_wrong_calls_end_in_their_error_and_change_nothing(library: Library) -> None:
    c, state = library.c, library.state
    pcm = gusts(1)
    for call in (c.kws_init, c.kws_reset, c.kws_self_test):
        assert call(None) == NULL
    for last in (c.kws_last_wake_posteriors, c.kws_last_command_posteriors, c.kws_last_frame):
        assert not last(None)
    assert c.kws_frames(None) == 0
    state.raw = b"\xa5" * len(state)
    assert c.kws_reset(state) == NOT_INITIALISED
    assert library.feed(pcm[:100]) == NOT_INITIALISED
    assert state.raw == b"\xa5" * len(state)
    c.kws_init(state)
    library.feed(pcm[:300])
    before = state.raw
    assert library.feed(np.zeros(library.most + 1, np.int16)) == TOO_LONG
    assert c.kws_feed(state, None, ctypes.c_size_t(5), library.event) == NULL
    assert c.kws_feed(state, None, ctypes.c_size_t(0), library.event) == OK
    assert c.kws_feed(state, pcm.tobytes(), ctypes.c_size_t(5), None) == NULL
    assert state.raw == before


def test_a_reset_makes_the_state_what_it_was_after_init(library: Library, room: Path) -> None:
    pcm = gusts(20, seed=3)
    events = expected(room, pcm)
    # Where a window is open, and where an event is left for the next call.
    wake = next(time for time, label, _ in events if label < first_command(room))
    (both,) = [time for time, _, _ in events if [t for t, _, _ in events].count(time) > 1][:1]
    c, state = library.c, library.state
    c.kws_init(state)
    fresh = state.raw
    for end in (wake, both):
        for chunk in np.split(pcm[:end], range(320, end, 320)):
            library.feed(chunk)
        assert c.kws_is_listening(state)
        assert c.kws_reset(state) == OK
        assert state.raw == fresh
        assert library.feed(pcm[:0]) == OK
        assert not c.kws_is_listening(state)


# The self-test


def test_the_self_test_passes_and_leaves_a_fresh_state(library: Library) -> None:
    assert library.c.kws_self_test(library.state) == OK
    left = library.state.raw
    library.c.kws_init(library.state)
    assert library.state.raw == left


@pytest.mark.parametrize(
    ("file", "pattern", "changed", "error"),
    [
        ("kws_tables.c", r"(kws_dct\[\d+\] = \{\s+)(\d+)", r"\g<1>99", FRONT_END),
        ("kws_wake_input_tables.c", r"(gain\[\d+\] = \{\s+)(\d+)", r"\g<1>1", NETWORK),
        ("kws_wake_model.c", r"(_bias\[\d+\] = \{\s+)", r"\g<1>9999 + ", NETWORK),
        ("kws_commands_model.c", r"(conv_0_bias\[\d+\] = \{\s+)", r"\g<1>9999 + ", NETWORK),
        ("kws_wake_model.c", r"(fire_from\[\d+\] = \{\s+)", r"\g<1>250 + ", DECISION),
        ("kws_commands_model.c", r"(fire_from\[\d+\] = \{\s+)", r"\g<1>30 + ", DECISION),
        ("kws_commands_model.c", r"(release_below\[\d+\] = \{\s+)", r"\g<1>9 + ", DECISION),
        ("kws_gate.c", r"<= KWS_WINDOW", "< KWS_WINDOW", DECISION),
        ("kws_gate.c", r"gate->open = 0", "gate->open = 1", DECISION),
    ],
)
def test_the_self_test_names_the_stage_that_is_wrong(
    little: Path, tmp_path: Path, file: str, pattern: str, changed: str, error: int
) -> None:
    needs("gcc")
    shutil.copytree(little / "both", tmp_path / "library")
    path = tmp_path / "library" / "src" / file
    text, count = re.subn(pattern, changed, path.read_text(), count=1)
    assert count == 1
    path.write_text(text)
    library = Library(tmp_path / "library", ("-O0",))
    assert library.c.kws_self_test(library.state) == error


# What it costs


def test_front_end_and_kernels_are_there_once(little: Path, tmp_path: Path) -> None:
    names = {path.name for path in (little / "both" / "src").iterdir()}
    of_both = {name for name in names if re.match("kws_(wake|commands)_", name)}
    # What belongs to one model is what a library of its own has; all else is there once.
    for model in ("wake", "commands"):
        generate(little / f"{model}.tflite", tmp_path / model, prefix="kws_alone")
        alone = {path.name for path in (tmp_path / model / "src").iterdir()}
        own = {name for name in of_both if name.startswith(f"kws_{model}_")}
        assert {name.replace(f"kws_{model}_", "kws_alone_") for name in own} < alone
        shared = {name.replace("kws_alone", "kws") for name in alone}
        shared -= {name.replace(f"kws_{model}_", "kws_") for name in own}
        assert shared <= names - of_both


@pytest.mark.parametrize("names", [("commands", "wake"), ("wake", "commands")])
def test_the_cost_of_both_models_is_measured(
    names: tuple[str, str], little: Path, tmp_path: Path
) -> None:
    (core,) = cores_named(["m4"])
    if missing := missing_tools(core):
        pytest.skip(missing)
    commands, wake = (little / f"{name}.tflite" for name in names)
    generate_after_wake(commands, wake, tmp_path / "both")
    program = build(core, tmp_path / "both", "measure", tmp_path / "room")
    # One of the networks has neither convolutions nor an LSTM.
    assert parts_of(program) == {
        "kws_frontend_frame": "FRONT_END",
        "kws_wake_input_quantise": "FRONT_END",
        "kws_commands_input_quantise": "FRONT_END",
        "kws_conv_s8": "CONVOLUTIONS",
        "kws_lstm_s8": "LSTM",
    }


def test_the_state_is_as_large_as_promised_and_smaller_than_two(
    room: Path, library: Library, tmp_path: Path
) -> None:
    written = generate_after_wake(
        room / "commands.tflite", room / "wake.tflite", tmp_path / "both", window_s=WINDOW_S
    )
    assert len(library.state) <= written.state_bytes <= len(library.state) + 8
    assert written.state_bytes == sum(written.state_parts.values())
    alone = [
        generate(room / f"{name}.tflite", tmp_path / name).state_bytes
        for name in ("wake", "commands")
    ]
    assert written.state_bytes < sum(alone) - 2048


# Compilers and projects


@pytest.mark.parametrize("target", ["gcc", "Cortex-M0"])
def test_it_compiles_without_a_warning(little: Path, tmp_path: Path, target: str) -> None:
    command = COMPILERS[target]
    needs(command[0])
    sources = sorted(map(str, (little / "both" / "src").glob("*.c")))
    include = f"-I{little / 'both' / 'src'}"
    subprocess.run(
        [*command, "-std=c99", *STRICT, "-Os", include, "-c", *sources], cwd=tmp_path, check=True
    )


def test_each_header_compiles_alone_as_cplusplus_98(little: Path, tmp_path: Path) -> None:
    needs("g++")
    for header in sorted((little / "both" / "src").glob("*.h")):
        source = tmp_path / "alone.cpp"
        source.write_text(f'#include "{header.name}"\n')
        flags = ["-std=c++98", "-Wall", "-Wextra", "-pedantic", "-Wno-long-long", "-Werror"]
        command = ["g++", *flags, f"-I{little / 'both' / 'src'}", "-fsyntax-only", str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_examples_compile_as_they_are(room: Path) -> None:
    needs("gcc", "g++")
    sources = [p for p in (room / "both" / "examples").rglob("*") if p.suffix in (".c", ".cpp")]
    assert len(sources) == 5
    for source in sources:
        compiler = ["g++", "-std=gnu++14"] if source.suffix == ".cpp" else ["gcc", "-std=gnu11"]
        flags = ["-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
        include = [f"-I{room / 'both' / 'src'}", f"-I{STUBS}"]
        subprocess.run([*compiler, *flags, *include, str(source)], check=True)


def test_the_host_example_prints_wake_words_and_commands(little: Path, tmp_path: Path) -> None:
    needs("cmake", "ctest", "gcc")
    for command in (
        ["cmake", "-S", str(little / "both"), "-B", str(tmp_path), "-DCMAKE_C_FLAGS=-Werror"],
        ["cmake", "--build", str(tmp_path)],
        ["ctest", "--test-dir", str(tmp_path), "--output-on-failure"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    pcm = gusts(20)
    done = subprocess.run([tmp_path / "kws_host"], input=pcm.tobytes(), capture_output=True)
    labels = [
        *load_model(little / "wake.tflite").labels,
        *load_model(little / "commands.tflite").labels,
    ]
    want = [
        f"-  {time / RATE:.2f} s  {labels[label]}  {score / 32768:.2f}"
        for time, label, score in expected(little, pcm)
    ]
    assert done.stdout.decode().splitlines() == want


def test_an_example_in_the_readme_is_of_a_command(room: Path) -> None:
    readme = (room / "both" / "README.md").read_text()
    number = keywords(room)["yes"]
    assert f"| {number} | `KWS_LABEL_YES` | yes | from 0.45 |" in readme
    assert "for example KWS_LABEL_YES */" in readme
    assert "`kws_set_threshold(&state, KWS_LABEL_YES, 26214)`" in readme


def test_comments_name_only_what_there_is(room: Path) -> None:
    generate(room / "commands.tflite", room / "alone")
    for folder in (room / "both", room / "alone"):
        texts = [path.read_text() for path in (folder / "src").iterdir()]
        files = {path.stem for path in (folder / "src").iterdir()}
        code = "".join(re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL) for text in texts)
        known = files | set(re.findall(r"\bkws_\w+", code, re.I))
        comments = "".join(c for text in texts for c in re.findall(r"/\*.*?\*/", text, re.DOTALL))
        assert set(re.findall(r"\bkws_\w*\w\b", comments, re.I)) <= known


def test_packaging_and_readme_name_both(little: Path) -> None:
    folder = little / "both"
    properties = (folder / "library.properties").read_text()
    assert "name=kws_tiny_after_little\n" in properties
    assert "sentence=Detects yes, no after hey in 16 kHz audio.\n" in properties
    assert "Apache-2.0 AND" in json.loads((folder / "library.json").read_text())["license"]
    notice = (folder / "NOTICE").read_text()
    for file, model in (("wake", "little"), ("commands", "tiny")):
        assert f'src/kws_{file}_model.c are those of the model "{model}"' in notice
        assert (folder / "src" / f"kws_{file}_model.c").is_file()
    readme = (folder / "README.md").read_text()
    assert "yes, no, just after hey." in readme
    assert "| 0 | `KWS_LABEL_HEY` | hey | from 0.10 |" in readme
    assert "| 4 | `KWS_LABEL_NO` | no | from 0.45 |" in readme
    assert f"within\n  {WINDOW_S:g} s after it counts" in readme
    header = "".join(path.read_text() for path in (folder / "src").glob("*.h"))
    for name in set(re.findall(r"\b(kws_[a-z_]+)\(|\b(KWS_[A-Z_]+[A-Z])\b", readme)):
        assert re.search(rf"\b{name[0] or name[1]}\b", header), name
    for path in set(re.findall(r"`((?:src|examples)/[\w/.]+\w)`", readme)):
        assert (folder / path).exists(), path
    left = [p for p in folder.rglob("*") if p.is_file() and re.search("@[A-Z_]+@", p.read_text())]
    assert not left


def test_a_third_model_may_be_in_the_same_program(little: Path, tmp_path: Path) -> None:
    needs("gcc")
    generate(little / "commands.tflite", tmp_path / "more", prefix="kws_more")
    (tmp_path / "main.c").write_text(
        '#include "kws_more_self_test.h"\n#include "kws_self_test.h"\n'
        "static kws_state state;\nstatic kws_more_state more;\n"
        "int main(void)\n{\n"
        "    return kws_self_test(&state) || kws_more_self_test(&more);\n}\n"
    )
    folders = (little / "both" / "src", tmp_path / "more" / "src")
    sources = [str(path) for folder in folders for path in sorted(folder.glob("*.c"))]
    include = [f"-I{folder}" for folder in folders]
    subprocess.run(
        ["gcc", "-std=c99", *STRICT, *include, "main.c", *sources, "-o", "main"],
        cwd=tmp_path,
        check=True,
    )
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


@pytest.mark.parametrize("prefix", ["kws_gate", "kws_audio", "kws_detector"])
def test_a_prefix_that_could_clash_with_it_is_refused(
    prefix: str, little: Path, tmp_path: Path
) -> None:
    with pytest.raises(KwsError, match=f"begin with {prefix}"):
        generate(little / "commands.tflite", tmp_path / "out", prefix=prefix)


# The command


@pytest.fixture
def command(little: Path, tmp_path: Path) -> list[str]:
    model, wake = str(little / "commands.tflite"), str(little / "wake.tflite")
    return ["firmware", model, "--wake", wake, "-o", str(tmp_path / "out")]


def test_verify_compares_each_model_and_writes_the_result_into_the_readme(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs("gcc")
    (tmp_path / "clips" / "yes").mkdir(parents=True)
    write_wav(tmp_path / "clips" / "yes" / "a.wav", gusts(1))
    write_wav(tmp_path / "stream.wav", gusts(20))
    options = ["--wake-window", str(WINDOW_S), "--verify", str(tmp_path / "clips")]
    options += ["--stream", str(tmp_path / "stream.wav"), "--cores", "host"]
    assert kws([*command, *options, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["model"], facts["wake"]) == ("tiny", "little")
    for name, model in (("wake", "little"), ("commands", "tiny")):
        result = facts["verification"][name]
        assert result["equal"] and result["model"] == model
        (host,) = result["cores"]
        assert host["events"] > 3 and host["clips"] == 2
        assert result["events_alike"] == result["runner_events"] > 3
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "\nthe wake word, little\n" in readme
    assert "\nthe commands, tiny, where each recording begins as if a wake word had" in readme


@pytest.mark.parametrize("name", ["host", "m4"])
def test_an_event_left_for_another_call_at_the_end_is_compared_too(
    name: str, little: Path, tmp_path: Path
) -> None:
    (core,) = cores_named([name])
    if missing := missing_tools(core):
        pytest.skip(missing)
    pcm = gusts(20, seed=3)
    times = [time for time, _, _ in expected(little, pcm)]
    both = next(time for time in times if times.count(time) > 1)
    write_wav(tmp_path / "stream.wav", pcm[:both])
    reference = open_commands_after_wake(
        little / "commands.tflite", little / "wake.tflite", window_s=WINDOW_S
    )
    reference.awake_at_start = True
    stream = tmp_path / "stream.wav"
    result = verify(reference, little / "both", stream=stream, view="commands", cores=[name])
    assert result.equal and result.events_alike == result.runner_events > 0


def test_a_library_with_another_window_fails(
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs("gcc")
    write_wav(tmp_path / "stream.wav", gusts(20))
    from firmware_export.library import Library as Planned
    from firmware_export.library_source import config_header

    def broken(library: Planned) -> str:
        return config_header(replace(library, window_samples=library.window_samples // 2))

    monkeypatch.setattr("firmware_export.files.config_header", broken)
    options = ["--wake-window", str(WINDOW_S), "--stream", str(tmp_path / "stream.wav")]
    assert kws([*command, *options, "--cores", "host"]) == 1
    shown, err = capsys.readouterr()
    tables = shown.split("the commands, tiny")
    assert "first difference" not in tables[0] and "first difference at" in tables[1]
    assert "does not compute what Python does" in err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--prefix", "kws_a"], "has the prefix kws. Leave out --prefix kws_a"),
        (["--form", "tflm"], "--wake goes with --form library"),
        (["--after-wake"], "--wake has the same thresholds. Leave it out"),
        (["--wake-window", "0"], "must be above 0 s"),
        (["--wake-window", "0.03"], "at least one step of its network after a wake word, 40 ms"),
        (["--wake-window", "9999"], "at most 3600 s"),
        (["--threshold", "2"], "above 0 and at most 1"),
    ],
)
def test_options_that_do_not_go_together_are_refused_and_nothing_is_written(
    command: list[str],
    tmp_path: Path,
    options: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert kws([*command, *options]) != 0
    err = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert complaint in err
    assert not list(tmp_path.iterdir())


def test_models_that_do_not_go_together_are_refused_in_one_line(
    little: Path, tmp_path: Path
) -> None:
    other = FrontEndConfig(n_mels=20)
    slow = DecisionConfig(thresholds={"hey": 0.5}, smoothing_ms=0, refractory_ms=0)
    little_model(tmp_path / "other.tflite", frames=3, stride=2, front_end=other)
    little_model(tmp_path / "dense.tflite", frames=3, stride=1, front_end=FrontEndConfig())
    assert load_model(tmp_path / "dense.tflite").decision.refractory_ms == slow.refractory_ms
    commands = little / "commands.tflite"
    for wake, complaint in (
        (tmp_path / "other.tflite", "one front end. Received: .* n_mels 20 for 40"),
        (tmp_path / "dense.tflite", "at least 40 ms apart. Received: refractory_ms 0 and 80"),
        (commands, "must not be a command, too"),
        (tmp_path / "missing.tflite", "missing.tflite"),
    ):
        with pytest.raises(KwsError, match=complaint) as caught:
            generate_after_wake(commands, wake, tmp_path / "out")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_writing_again_follows_the_rules_of_one_model(little: Path, tmp_path: Path) -> None:
    out, commands, wake = tmp_path / "out", little / "commands.tflite", little / "wake.tflite"
    generate(commands, out)
    (out / "examples" / "host" / "main.c").write_text("/* mine */")
    written = generate_after_wake(commands, wake, out)
    assert written.kept == ("examples/host/main.c",) and written.replaced == "'tiny'"
    assert not (out / "src" / "kws_model.c").exists()
    assert "`kws firmware COMMANDS --wake WAKE -o DIR" in (out / "README.md").read_text()
    assert not generate_after_wake(commands, wake, out).replaced
    lines = generate(commands, out).lines()
    assert "instead of the library of 'tiny' after 'little' there" in lines
    assert not list((out / "src").glob("kws_wake*"))


def test_shared_names_are_those_of_files_that_know_no_model(room: Path) -> None:
    """Otherwise two models' names would clash, or a shared file would need one of them."""
    sources = {path.name: path.read_text() for path in (room / "both" / "src").iterdir()}
    own = {name: text for name, text in sources.items() if re.match("kws_(wake|commands)_", name)}
    for name, text in sources.items():
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        if name not in own and name not in ("kws.h", "kws.c", "kws_check.c"):
            assert not re.search(r"kws_(wake|commands)_", code, re.I), name
    defined = [
        set(re.findall(rf"\b{prefix}_\w+", renamed("".join(own.values()), "kws")))
        for prefix in ("kws_wake", "kws_commands")
    ]
    assert not any(a & b for a, b in itertools.combinations(defined, 2)) and all(defined)
