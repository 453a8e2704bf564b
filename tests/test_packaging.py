"""What `pyproject.toml` promises against what the code asks for."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kws

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
SOURCES = sorted(Path(kws.__file__).parent.rglob("*.py"))


def brought_by(extra: str) -> set[str]:
    """The distributions that an extra installs, also through other extras."""
    found = set()
    for requirement in EXTRAS[extra]:
        if inner := re.fullmatch(r"kws\[(.+)\]", requirement):
            found |= set().union(*(brought_by(name) for name in inner[1].split(",")))
        else:
            found.add(re.split(r"[<>=;~! ]", requirement)[0])
    return found


def required() -> Iterator[tuple[str, str]]:
    """Each package that the code asks for at its first use, and the extra it says brings it."""
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
                module, extra = node.args[0], node.keywords[0].value
                assert isinstance(module, ast.Constant) and isinstance(extra, ast.Constant)
                yield str(module.value).split(".")[0].replace("_", "-"), str(extra.value)


@pytest.mark.parametrize(("package", "extra"), sorted(set(required())))
def test_an_error_names_an_extra_that_brings_the_package(package: str, extra: str) -> None:
    assert package in brought_by(extra)


def test_every_extra_that_any_message_names_exists() -> None:
    named = re.findall(r"kws\[([a-z,]+)\]", "".join(path.read_text("utf-8") for path in SOURCES))
    assert {name for names in named for name in names.split(",")} <= set(EXTRAS)


def test_the_runner_needs_no_more_than_numpy_typer_and_a_runtime() -> None:
    names = {re.split(r"[<>=;~! ]", requirement)[0] for requirement in PROJECT["dependencies"]}
    assert names == {"numpy", "typer", "ai-edge-litert", "tflite-runtime", "tomli"}


def test_who_develops_gets_what_every_other_extra_brings() -> None:
    assert set().union(*(brought_by(extra) for extra in EXTRAS)) == brought_by("dev")
