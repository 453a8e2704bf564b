"""Packages that are asked for at their first use: missing, broken, interrupted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kws.errors import KwsError, require


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty package that can be imported; its file."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "optional_package", raising=False)
    file = tmp_path / "optional_package" / "__init__.py"
    file.parent.mkdir()
    file.touch()
    return file


def test_a_package_that_is_there_is_returned(package: Path) -> None:
    assert require("optional_package", extra="audio").__file__ == str(package)


def test_a_missing_package_names_the_extra_that_brings_it() -> None:
    with pytest.raises(KwsError) as caught:
        require("no_such_package.part", extra="audio")
    assert str(caught.value) == (
        "The package 'no_such_package' is required and cannot be imported. "
        "Install it with: pip install 'kws[audio]'"
    )


def test_a_package_that_lacks_something_itself_says_what(package: Path) -> None:
    package.write_text("import no_such_package")
    with pytest.raises(KwsError, match=r"No module named 'no_such_package'.*kws\[audio\]"):
        require("optional_package", extra="audio")


def test_ctrl_c_while_a_native_module_loads_is_no_missing_package(package: Path) -> None:
    # Extension modules (pybind11) turn whatever comes while they start into an ImportError.
    package.write_text("raise ImportError('initialization failed') from KeyboardInterrupt()")
    with pytest.raises(KeyboardInterrupt):
        require("optional_package", extra="audio")
