"""Writing whole files or none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kws.errors import KwsError
from kws.system.files import atomic_write, check_output, read_toml


def test_the_new_content_replaces_the_old(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    for text in ("old", "naïve"):
        with atomic_write(target, "w") as file:
            file.write(text)
    assert target.read_text(encoding="utf-8") == "naïve"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("fault", [OSError("disk full"), KeyboardInterrupt()])
def test_a_fault_leaves_the_old_content_and_nothing_else(
    fault: BaseException, tmp_path: Path
) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    with pytest.raises(type(fault)), atomic_write(target) as file:
        file.write(b"half of the ne")
        raise fault
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    target = tmp_path / "file.bin"
    with pytest.raises(OSError, match="No space") as caught, atomic_write(target):
        # An error without a file name, as a failed write to a full disk gives it.
        os.write(os.open(full, os.O_WRONLY), b"x")
    assert caught.value.filename == str(target)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["folder", ".", "n" * 250])
def test_what_cannot_be_written_is_named_not_the_temporary_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    with pytest.raises(OSError) as caught, atomic_write(name) as file:
        file.write(b"content")
    error = caught.value
    assert error.filename == name and error.filename2 is None
    assert error.errno and error.strerror == os.strerror(error.errno)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_or_device_is_written_to_and_stays_what_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_output(pipe)
    # A reader that does not wait: else opening the pipe for writing would.
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with atomic_write(pipe, "w") as file:
            file.write("naïve")
        assert os.read(reader, 100).decode() == "naïve"
    finally:
        os.close(reader)
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_an_error_about_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "a"):
        (tmp_path / "missing").read_bytes()
    assert caught.value.filename == str(tmp_path / "missing")


def test_settings_are_read_also_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes('\ufeffname = "Ä"'.encode())
    assert read_toml(path) == {"name": "Ä"}


@pytest.mark.parametrize("content", [b"name =", b"name = '\xff'"])
def test_what_is_no_toml_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(KwsError, match=r"a\.toml: is not valid TOML: "):
        read_toml(path)


def test_a_folder_is_no_file_of_settings(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="cannot be read: Is a directory"):
        read_toml(tmp_path)
