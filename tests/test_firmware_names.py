"""Prefixes: several models in one program, each as if it were alone."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from pathlib import Path

import pytest
from sounds import gusts
from test_firmware_emit import EXCITABLE, STRICT, STUBS, little_model, needs
from tiny_model import write_tiny

from firmware_export.boards.build import FOLDER, Program, missing_tools, run, tool
from firmware_export.boards.cores import HOST, cores_named
from firmware_export.emit import generate, open_reference_model
from firmware_export.names import check_prefix, renamed
from kws.cli import run as kws
from kws.decide import DecisionConfig
from kws.errors import KwsError
from kws.frontend import FrontEndConfig

PROGRAM = Path(__file__).resolve().parent / "firmware_two_models.c"
SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models that differ in everything, and a folder for each; read only."""
    room = tmp_path_factory.mktemp("two")
    write_tiny(room / "first.tflite", decision=EXCITABLE)
    front_end = FrontEndConfig(frame_length=256, hop_length=200, n_mels=20, n_mfcc=5)
    little_model(room / "second.tflite", frames=3, stride=2, front_end=front_end)
    generate(room / "first.tflite", room / "kws")
    generate(room / "second.tflite", room / "kws_hey", prefix="kws_hey", thresholds=0.9)
    # The first again, with other names.
    generate(room / "first.tflite", room / "kws_more", prefix="kws_more")
    return room


def linked(room: Path, core: str, to: Path) -> Program:
    """The program with both models, for a core."""
    (chosen,) = cores_named([core])
    if missing := missing_tools(chosen):
        pytest.skip(missing)
    if chosen == HOST:
        needs("gcc")
        compiler: tuple[str, ...] = ("gcc", *SANITIZERS)
        board, link = "board_host.c", []
    else:
        compiler = (tool("gcc"), f"-mcpu={chosen.cpu}", "-mthumb", "-mfloat-abi=soft")
        board = "board_cortex_m.c"
        link = ["-nostartfiles", "-specs=nano.specs", f"-L{FOLDER}", "-T", chosen.script]
    sources = [*(room / "kws" / "src").glob("*.c"), *(room / "kws_hey" / "src").glob("*.c")]
    include = [f"-I{path}" for path in (FOLDER, room / "kws" / "src", room / "kws_hey" / "src")]
    command = [*compiler, "-std=c99", "-O1", *include, PROGRAM, FOLDER / board, *sources, *link]
    subprocess.run([*map(str, command), "-o", "two"], cwd=to, check=True)
    return Program(core=chosen, path=to / "two", prefix="", objects={}, warnings="")


@pytest.mark.parametrize("core", ["host", "m4"])
def test_two_models_in_one_program_each_hear_what_they_hear_alone(
    room: Path, core: str, tmp_path: Path
) -> None:
    pcm = gusts(8)
    given = struct.pack("<I", len(pcm)) + pcm.tobytes()
    told = list(struct.iter_unpack("<4HQ", run(linked(room, core, tmp_path), given)))
    references = (
        open_reference_model(room / "first.tflite"),
        open_reference_model(room / "second.tflite", 0.9),
    )
    traces = [reference.trace(pcm).events for reference in references]
    for model, trace in enumerate(traces):
        want = [(e.time_samples, e.keyword, e.score_q15) for e in trace]
        assert len(want) >= 3
        assert [(at, word, score) for by, word, score, _, at in told if by == model] == want


def test_another_prefix_changes_nothing_but_names_and_the_mark(room: Path) -> None:
    def sources(prefix: str) -> dict[str, str]:
        return {
            path.name.replace(prefix, "kws"): re.sub(
                r"(STATE_MARK) \d+u", r"\1", path.read_text().replace(prefix, "kws")
            ).replace(prefix.upper(), "KWS")
            for path in (room / prefix / "src").iterdir()
        }

    assert {name: text.split() for name, text in sources("kws_more").items()} == {
        name: text.split() for name, text in sources("kws").items()
    }


def test_no_file_symbol_or_macro_of_one_library_is_also_of_another(
    room: Path, tmp_path: Path
) -> None:
    needs("gcc", "nm")
    seen: list[set[str]] = []
    for prefix in ("kws", "kws_hey", "kws_more"):
        src = room / prefix / "src"
        (to := tmp_path / prefix).mkdir()
        sources = sorted(map(str, src.glob("*.c")))
        subprocess.run(["gcc", "-std=c99", *STRICT, "-c", *sources], cwd=to, check=True)
        listed = subprocess.run(
            ["nm", "-g", "--defined-only", *sorted(map(str, to.glob("*.o")))],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        names = {line.split()[-1] for line in listed.splitlines() if line.count(" ") == 2}
        names |= {path.name for path in src.iterdir()}
        includes = "".join(f'#include "{path.name}"\n' for path in sorted(src.glob("*.h")))
        defined = subprocess.run(
            ["gcc", f"-I{src}", "-E", "-dM", "-xc", "-"],
            input=includes,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        nothing = subprocess.run(
            ["gcc", "-E", "-dM", "-xc", "-"],
            input="#include <limits.h>\n#include <stddef.h>\n#include <stdint.h>\n",
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        names |= {
            line.split()[1].split("(")[0]
            for line in set(defined.splitlines()) - set(nothing.splitlines())
        }
        assert all(name.startswith((prefix, prefix.upper())) for name in names)
        seen.append(names)
    assert len(seen[0]) > 100 and not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_a_cmake_project_can_add_two_libraries(room: Path, tmp_path: Path) -> None:
    needs("cmake", "gcc")
    (tmp_path / "main.c").write_text(
        '#include "kws_more.h"\n#include "kws_hey.h"\n'
        "int main(void)\n{\n    static kws_hey_state a;\n    static kws_more_state b;\n"
        "    return kws_hey_init(&a) || kws_more_init(&b);\n}\n"
    )
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(firmware C)\n"
        f'add_subdirectory("{room}/kws_hey" wake)\n'
        f'add_subdirectory("{room}/kws_more" commands)\n'
        "add_executable(firmware main.c)\n"
        "target_link_libraries(firmware PRIVATE kws_hey kws_more)\n"
    )
    for command in (["cmake", "-S", ".", "-B", "build"], ["cmake", "--build", "build"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert subprocess.run([tmp_path / "build" / "firmware"], check=False).returncode == 0


def test_examples_and_self_test_go_with_the_prefix(room: Path) -> None:
    needs("gcc", "g++")
    folder = room / "kws_hey"
    sources = [
        path for path in folder.rglob("*") if path.name in ("main.c", "main.cpp", "self_test.c")
    ]
    assert len(sources) == 6
    for source in sources:
        compiler = ["g++", "-std=gnu++14"] if source.suffix == ".cpp" else ["gcc", "-std=gnu11"]
        flags = ["-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
        include = [f"-I{folder / 'src'}", f"-I{STUBS}"]
        subprocess.run([*compiler, *flags, *include, str(source)], check=True)


def test_packaging_goes_with_the_prefix(room: Path) -> None:
    folder = room / "kws_hey"
    properties = (folder / "library.properties").read_text().splitlines()
    assert {"name=kws_hey", "includes=kws_hey.h"} <= set(properties)
    fields = json.loads((folder / "library.json").read_text())
    assert (fields["name"], fields["headers"]) == ("kws-hey", "kws_hey.h")
    assert (folder / "src" / "kws_hey.h").is_file()
    assert (folder / "zephyr" / "module.yml").read_text().startswith("name: kws_hey\n")
    assert "config KWS_HEY\n" in (folder / "zephyr" / "Kconfig").read_text()
    assert "if(CONFIG_KWS_HEY)\n" in (folder / "zephyr" / "CMakeLists.txt").read_text()
    assert "CONFIG_KWS_HEY=y\n" in (folder / "examples" / "zephyr" / "prj.conf").read_text()
    sources = {path.name for path in (folder / "src").glob("*.c")}
    for build in ("CMakeLists.txt", "zephyr/CMakeLists.txt"):
        assert set(re.findall(r"src/(\w+\.c)$", (folder / build).read_text(), re.M)) == sources
    readme = (folder / "README.md").read_text()
    assert "--prefix kws_hey`" in readme and "--prefix kws_more\n" in readme
    # Only the command has the short name, and the other model of the section on several models.
    assert set(re.findall(r"\bkws_[a-z]+", readme)) == {"kws_hey", "kws_more"}


def test_what_a_model_calls_itself_and_its_labels_is_not_renamed(tmp_path: Path) -> None:
    needs("gcc")
    labels = ("kws_init", "KWS_OK", "kws.h", "no")
    model = write_tiny(
        tmp_path / "m.tflite",
        name="kws_model",
        license="see kws_model.c",
        labels=labels,
        keywords=labels[2:],
        decision=DecisionConfig(thresholds=dict.fromkeys(labels[2:], 0.5)),
    )
    out = tmp_path / "out"
    generate(model, out, prefix="kws_hey")
    header, source = ((out / "src" / f"kws_hey_model.{end}").read_text() for end in "hc")
    assert '#define KWS_HEY_MODEL_NAME "kws_model"\n' in header
    assert '#define KWS_HEY_MODEL_LICENSE "see kws_model.c"\n' in header
    assert "KWS_HEY_LABEL_KWS_INIT = 0, /* kws_init */" in header
    assert '    "kws_init",\n    "KWS_OK",\n    "kws.h",\n    "no",\n' in source
    assert "Model: kws_model, licence see" in source and "Model: kws_model, licence see" in header
    assert "| `KWS_HEY_LABEL_KWS_INIT` | kws\\_init |" in (out / "README.md").read_text()


def test_an_edited_file_outlasts_a_change_of_the_prefix_and_is_reported(tmp_path: Path) -> None:
    model = write_tiny(tmp_path / "m.tflite")
    out = tmp_path / "out"
    generate(model, out)
    example = out / "examples" / "host" / "main.c"
    example.write_text(mine := example.read_text() + "/* mine */\n")
    same = generate(model, out).lines()
    assert any("main.c, as you edited it" in line for line in same)
    assert not any(line.startswith("edit ") for line in same)
    lines = generate(model, out, prefix="kws_hey").lines()
    assert "edit    the names in these files: kws_ is now kws_hey_" in lines
    assert example.read_text() == mine
    assert not list((out / "src").glob("kws.*"))


@pytest.mark.parametrize(
    ("prefix", "complaint"),
    [
        *((p, "A prefix is kws_") for p in ("", "wake", "kws_", "kws_A", "kws_a__b", "kws-a")),
        ("kws_" + "a" * 29, "at most 32 characters"),
        ("kws_wäk", "A prefix is kws_"),
        ("kws_model", "begin with kws_model"),
        ("kws_my_decide", "begin with kws_decide"),
    ],
)
def test_a_prefix_that_could_clash_is_refused_and_nothing_is_written(
    prefix: str, complaint: str, room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["firmware", str(room / "first.tflite"), "-o", str(tmp_path / "out")]
    assert kws([*command, "--prefix", prefix]) == 1
    err = capsys.readouterr().err
    assert complaint in err and repr(prefix) in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_prefixes_that_could_clash_are_refused(room: Path) -> None:
    """No accepted prefix continues another so that a name of the library results."""
    header = "".join(path.read_text() for path in (room / "kws" / "src").glob("*.h"))
    names = {name.lower() for name in re.findall(r"\bkws_(\w+)", header, re.I)}
    for name in names:
        for end in range(1, name.count("_") + 1):
            begin = "_".join(name.split("_")[:end])
            with pytest.raises(KwsError):
                check_prefix(f"kws_{begin}")


def test_verifying_works_under_any_prefix(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs("gcc")
    from kws.audio.files import write_wav

    (tmp_path / "clips" / "yes").mkdir(parents=True)
    write_wav(tmp_path / "clips" / "yes" / "a.wav", gusts(1))
    command = ["firmware", str(room / "first.tflite"), "-o", str(tmp_path / "out"), "--json"]
    command += ["--prefix", "kws_hey", "--verify", str(tmp_path / "clips"), "--cores", "host"]
    assert kws(command) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["prefix"] == "kws_hey" and facts["verification"]["equal"]


def test_only_names_are_renamed() -> None:
    text = "kws firmware makes kws.c, kws_x and KWS_X; not CONFIG_KWS, kws run, my_kws_x, kws.org"
    assert renamed(text, "kws_a") == (
        "kws firmware makes kws_a.c, kws_a_x and KWS_A_X; "
        "not CONFIG_KWS, kws run, my_kws_x, kws.org"
    )
    assert renamed(text, "kws") == text
