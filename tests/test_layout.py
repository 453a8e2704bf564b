"""How the rooms of the package stand on each other, read from their imports."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_model import write_tiny

import kws
from kws.audio.files import write_wav

PACKAGE = Path(kws.__file__).parent

# From the top down. A room may import rooms of lower floors, none of its own floor.
FLOORS = (
    ("__main__",),
    ("cli",),
    ("benchmark", "demo", "own_words", "verdict"),
    ("export",),
    ("train",),
    ("report",),
    ("evaluate",),
    ("recipe", "recordings"),
    ("after_wake", "data", "keep", "models", "wake"),
    ("spotter",),
    ("network",),
    ("model_file", "runtime"),
    ("decide", "frontend"),
    ("audio",),
    ("labels", "system"),
    ("confidence", "wording"),
    ("errors",),
)

# The rooms of `kws.data` likewise; "" holds its modules that lie in none.
DATA_FLOORS = (("streams", "synthesis"), ("fetch", "recording"), ("",))

# What an application on a Raspberry Pi runs: the spotter and the commands that only listen.
RUNNERS = (
    *("kws.spotter", "kws.benchmark.speed_process"),
    *("kws.cli.run", "kws.cli.listen", "kws.cli.serve", "kws.cli.info"),
)
NOT_FOR_RUNNERS = {
    "data",
    "train",
    "export",
    "models",
    "recipe",
    "evaluate",
    "report",
    "demo",
    "own_words",
    "verdict",
}

OPTIONAL = (
    *("tensorflow", "keras", "tf_keras", "jax", "torch", "librosa", "scipy", "matplotlib"),
    *("soundfile", "soxr", "sounddevice", "espeakng_loader", "wyoming"),
)


def modules() -> dict[str, Path]:
    """Every module of the package and its file."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@functools.cache
def imports(module: str) -> set[str]:
    """Modules of the package that `module` imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} has a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else str(node.module))
    return found & MODULES.keys()


def room(module: str) -> str:
    """The room that a module lies in: `kws.data.clips` lies in `data`."""
    return module.split(".")[1] if "." in module else "kws"


def reached_from(module: str) -> set[str]:
    """All modules of the package that are imported from `module` on, itself included."""
    reached, waiting = set(), [module]
    while waiting:
        if (name := waiting.pop()) not in reached:
            reached.add(name)
            waiting += imports(name)
    return reached


def test_every_room_has_a_floor_and_every_floor_its_rooms() -> None:
    on_floors = [name for rooms in FLOORS for name in rooms]
    assert sorted(on_floors) == sorted({room(module) for module in MODULES} - {"kws"})


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"kws"}))
def test_imports_point_downwards(module: str) -> None:
    floors = {name: number for number, rooms in enumerate(FLOORS) for name in rooms}
    here = room(module)
    for imported in imports(module):
        # `kws` itself only passes names on; its version is for everybody.
        if imported != "kws" and room(imported) != here:
            assert floors[room(imported)] > floors[here], f"{module} imports {imported}"


def data_room(module: str) -> str:
    """The room of `kws.data` that a module lies in: `kws.data.fetch.home` lies in `fetch`."""
    return module.split(".")[2] if module.count(".") > 2 else ""


@pytest.mark.parametrize("module", sorted(name for name in MODULES if room(name) == "data"))
def test_imports_within_data_point_downwards(module: str) -> None:
    floors = {name: number for number, rooms in enumerate(DATA_FLOORS) for name in rooms}
    for imported in imports(module):
        if room(imported) == "data" and data_room(imported) != data_room(module):
            assert floors[data_room(imported)] > floors[data_room(module)], imported


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_imports_itself_in_a_circle(module: str) -> None:
    for imported in imports(module) - {"kws"}:
        assert module not in reached_from(imported), f"{module} and {imported} import each other"


@pytest.mark.parametrize("module", RUNNERS)
def test_what_listens_never_reaches_training_or_export(module: str) -> None:
    assert not {room(name) for name in reached_from(module)} & NOT_FOR_RUNNERS


def loaded_by(code: str, *arguments: str) -> tuple[set[str], str]:
    """Run code in a fresh Python; return the top packages it loaded, and what it printed."""
    report = "import sys, json; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    result = subprocess.run(
        [sys.executable, "-c", f"{code}; {report}", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    names = json.loads(result.stderr.splitlines()[-1])
    return {name.split(".")[0] for name in names}, result.stdout


COMMAND = "import sys; from kws.cli import run; run(sys.argv[1:])"


def test_importing_the_package_loads_nothing_else() -> None:
    loaded, _ = loaded_by("import kws")
    assert "kws" in loaded
    assert not loaded & {*OPTIONAL, "numpy", "typer", "ai_edge_litert", "tflite_runtime"}


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["data", "--help"]])
def test_help_loads_no_package_but_typer(arguments: list[str]) -> None:
    loaded, shown = loaded_by(COMMAND, *arguments)
    assert "Usage: kws" in shown
    assert not loaded & {*OPTIONAL, "numpy", "ai_edge_litert", "tflite_runtime"}


def test_spotting_in_a_wav_loads_numpy_and_one_runtime_alone(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-999, 999, 32000).astype(np.int16)
    write_wav(tmp_path / "noise.wav", noise)
    loaded, _ = loaded_by(COMMAND, "run", str(tmp_path / "noise.wav"))
    assert not loaded & set(OPTIONAL)
    assert len(loaded & {"ai_edge_litert", "tflite_runtime"}) == 1


# The second package writes firmware. It stands on the runner's rooms; comparing with the runner on
# real clips (`verify`, and `verification`, its result) needs those that read data sets and count
# answers, and the comparison of interpreters that export has.

FIRMWARE = PACKAGE.parent / "firmware_export"
UNDER_FIRMWARE = {"spotter", "network", "model_file", "runtime", "decide", "frontend", "audio"}
UNDER_FIRMWARE |= {"labels", "system", "errors", "wording", "after_wake"}
VERIFYING = {"verify", "verification"}
UNDER_VERIFICATION = UNDER_FIRMWARE | {"data", "evaluate", "export"}


def imported_names(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize(
    "path", sorted(FIRMWARE.rglob("*.py")), ids=lambda path: str(path.relative_to(FIRMWARE))
)
def test_firmware_stands_on_the_runner(path: Path) -> None:
    rooms = {room(name) for name in imported_names(path) & MODULES.keys()} - {"kws"}
    assert rooms <= (UNDER_VERIFICATION if path.stem in VERIFYING else UNDER_FIRMWARE)
    assert not {name.split(".")[0] for name in imported_names(path)} & {*OPTIONAL, "tflite_micro"}


def test_only_its_command_knows_the_firmware() -> None:
    users = {
        name
        for name, path in MODULES.items()
        if any(used.split(".")[0] == "firmware_export" for used in imported_names(path))
    }
    assert users == {"kws.cli.firmware"}


def test_writing_firmware_loads_no_optional_package(tmp_path: Path) -> None:
    model = write_tiny(tmp_path / "model.tflite")
    loaded, shown = loaded_by(COMMAND, "firmware", str(model), "-o", str(tmp_path / "library"))
    assert "C99 library" in shown
    assert not loaded & set(OPTIONAL)
