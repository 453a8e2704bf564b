"""Archives made by an enemy: nothing leaves the folder, nothing half-written stays."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import signal
import stat
import subprocess
import sys
import tarfile
import textwrap
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kws.data.fetch.archive import Extracted, safe_extract
from kws.errors import KwsError

CLIPS = {
    "./yes/a_nohash_0.wav": b"yes" * 1000,
    "./no/b_nohash_0.wav": b"no" * 1000,
    "./_background_noise_/pink.wav": b"noise" * 1000,
    "./README.md": b"",
}
NOISE = random.Random(3).randbytes(400_000)


def tar_bytes(files: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        top = tarfile.TarInfo(".")
        top.type = tarfile.DIRTYPE
        tar.addfile(top)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in more:
            tar.addfile(member)
    return buffer.getvalue()


def zip_bytes(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = link
    return member


@pytest.fixture
def unpack(tmp_path: Path) -> Callable[..., Extracted]:
    def run(content: bytes, **options: object) -> Extracted:
        archive = tmp_path / "speech.archive"
        archive.write_bytes(content)
        settings = {"limit_bytes": 1_000_000, "progress": False, **options}
        return safe_extract(archive, tmp_path / "home" / "speech", **settings)  # type: ignore[arg-type]

    return run


def left_in(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "home").iterdir())


@pytest.mark.parametrize(
    "pack",
    [
        tar_bytes,
        lambda files: gzip.compress(tar_bytes(files)),
        lambda files: bz2.compress(tar_bytes(files)),
        lambda files: lzma.compress(tar_bytes(files)),
        zip_bytes,
    ],
    ids=["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"],
)
def test_every_kind_of_archive_is_unpacked_whole(
    unpack: Callable[..., Extracted], tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    result = unpack(pack(CLIPS))
    folder = tmp_path / "home" / "speech"
    found = {
        "./" + path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert found == CLIPS
    assert (result.files, result.size_bytes) == (4, sum(map(len, CLIPS.values())))
    assert left_in(tmp_path) == ["speech"]


def test_only_what_is_asked_for_is_unpacked(
    unpack: Callable[..., Extracted], tmp_path: Path
) -> None:
    result = unpack(gzip.compress(tar_bytes(CLIPS)), include=["_background_noise_/*"])
    assert result.files == 1
    assert [path.name for path in result.folder.iterdir()] == ["_background_noise_"]


def test_permissions_in_the_archive_are_ignored(unpack: Callable[..., Extracted]) -> None:
    member = tarfile.TarInfo("tool")
    member.mode = 0o6777
    result = unpack(tar_bytes({}, member))
    assert stat.S_IMODE((result.folder / "tool").stat().st_mode) & 0o7111 == 0


UNSAFE_TARS = {
    "absolute": tar_bytes({"/etc/evil": b"x"}),
    "drive": tar_bytes({"C:/evil": b"x"}),
    "parent": tar_bytes({"../evil": b"x"}),
    "parent inside": tar_bytes({"yes/../../evil": b"x"}),
    "backslash": tar_bytes({"..\\evil": b"x"}),
    "control character": tar_bytes({"yes/\x1b[2Jevil": b"x"}),
    "symbolic link out": tar_bytes({}, special("yes", tarfile.SYMTYPE, "/etc")),
    "symbolic link inside": tar_bytes({"a": b"x"}, special("b", tarfile.SYMTYPE, "a")),
    "hard link": tar_bytes({}, special("yes", tarfile.LNKTYPE, "/etc/passwd")),
    "character device": tar_bytes({}, special("yes", tarfile.CHRTYPE)),
    "block device": tar_bytes({}, special("yes", tarfile.BLKTYPE)),
    "pipe": tar_bytes({}, special("yes", tarfile.FIFOTYPE)),
    "twice": tar_bytes({"yes/a": b"x", "./yes/a": b"y"}),
    "file as folder": tar_bytes({"yes": b"x", "yes/a": b"y"}),
    "absolute but not asked for": tar_bytes({"/etc/evil": b"x"}),
}


@pytest.mark.parametrize("kind", UNSAFE_TARS)
def test_unsafe_members_are_refused_and_nothing_is_kept(
    unpack: Callable[..., Extracted], tmp_path: Path, kind: str
) -> None:
    include = ["nothing/*"] if kind.endswith("asked for") else []
    reason = "is a link" if "link" in kind else ""
    with pytest.raises(KwsError, match=f"refused to unpack it: member .*{reason}") as caught:
        unpack(UNSAFE_TARS[kind], include=include)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).isprintable()
    assert left_in(tmp_path) == []
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "home" / "evil").exists()


def zip_member(name: str, mode: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, "/etc")
    return buffer.getvalue()


def encrypted_zip() -> bytes:
    content = bytearray(zip_bytes({"yes": b"x"}))
    content[6] |= 1  # flag of the member
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (zip_bytes({"/etc/evil": b"x"}), "absolute path"),
        (zip_bytes({"../evil": b"x"}), "leads out of the folder"),
        (zip_bytes({"a\\..\\..\\evil": b"x"}), "backslash"),
        (zip_member("yes", stat.S_IFLNK | 0o777), "is a link"),
        (zip_member("yes", stat.S_IFIFO | 0o777), "neither a plain file"),
        (encrypted_zip(), "encrypted"),
    ],
    ids=["absolute", "parent", "backslash", "link", "pipe", "encrypted"],
)
def test_unsafe_zip_members_are_refused(
    unpack: Callable[..., Extracted], tmp_path: Path, content: bytes, reason: str
) -> None:
    with pytest.raises(KwsError, match=f"refused to unpack it: member .*{reason}"):
        unpack(content)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("pack", [lambda f: gzip.compress(tar_bytes(f)), zip_bytes])
def test_an_archive_that_unpacks_to_too_much_is_refused(
    unpack: Callable[..., Extracted], tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    bomb = pack({f"yes/{i}": bytes(300_000) for i in range(4)})
    assert len(bomb) < 10_000
    with pytest.raises(KwsError, match="more than the limit of 1,000,000 bytes"):
        unpack(bomb)
    assert left_in(tmp_path) == []


def test_a_bomb_among_what_is_not_asked_for_is_not_read_through(
    unpack: Callable[..., Extracted], tmp_path: Path
) -> None:
    bomb = gzip.compress(tar_bytes({"big": bytes(100_000_000), "yes": b"x"}), 1)
    with pytest.raises(KwsError, match="excessive size"):
        unpack(bomb, include=["yes"])
    assert left_in(tmp_path) == []


def test_a_zip_that_lies_about_its_size_is_refused(
    unpack: Callable[..., Extracted], tmp_path: Path
) -> None:
    content = zip_bytes({"yes": bytes(3_000_000)})
    size = (3_000_000).to_bytes(4, "little")
    assert content.count(size) == 2
    with pytest.raises(KwsError):
        unpack(content.replace(size, (10).to_bytes(4, "little")))
    assert left_in(tmp_path) == []


def test_a_tar_member_of_absurd_size_is_refused_without_reading_it(
    unpack: Callable[..., Extracted], tmp_path: Path
) -> None:
    for kind in (tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        member = special("yes", kind)
        member.size = 1 << 42
        with pytest.raises(KwsError):
            unpack(member.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
        assert left_in(tmp_path) == []


def test_too_many_members_are_refused(unpack: Callable[..., Extracted], tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="more than 50 members"):
        unpack(tar_bytes({f"yes/{i}": b"" for i in range(60)}), limit_files=50)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize(
    "pack", [tar_bytes, lambda f: gzip.compress(tar_bytes(f)), zip_bytes], ids=["tar", "gz", "zip"]
)
def test_an_archive_that_is_cut_off_anywhere_is_refused(
    unpack: Callable[..., Extracted],
    tmp_path: Path,
    pack: Callable[[dict[str, bytes]], bytes],
    kept: float,
) -> None:
    # Twenty blocks of tar padding follow the last member; 0.999 cuts into what is before them.
    content = pack({f"yes/{i}": NOISE[i * 1000 : (i + 1) * 1000] for i in range(400)})
    end = int(kept * len(content.rstrip(b"\0")))
    with pytest.raises(KwsError, match="damaged"):
        unpack(content[:end])
    assert left_in(tmp_path) == []


def test_a_broken_header_in_the_middle_is_not_taken_for_the_end(
    unpack: Callable[..., Extracted], tmp_path: Path
) -> None:
    content = bytearray(tar_bytes({f"yes/{i}": b"x" for i in range(9)}))
    # One block for the top folder, two for each file: this is the fourth file's header.
    content[(1 + 2 * 3) * 512 + 20] ^= 0xFF
    with pytest.raises(KwsError, match="damaged"):
        unpack(bytes(content))


def test_a_flipped_bit_in_a_compressed_file_is_noticed(
    unpack: Callable[..., Extracted], tmp_path: Path
) -> None:
    for pack in (gzip.compress(tar_bytes({"yes/a": NOISE})), zip_bytes({"yes/a": NOISE})):
        content = bytearray(pack)
        content[200_000] ^= 1
        with pytest.raises(KwsError, match="damaged"):
            unpack(bytes(content))
        assert left_in(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"<html>Not found</html>" * 99, b"\x1f\x8bgarbage"])
def test_what_is_no_archive_is_one_line(unpack: Callable[..., Extracted], content: bytes) -> None:
    with pytest.raises(KwsError) as caught:
        unpack(content)
    assert "\n" not in str(caught.value)


def test_a_folder_with_content_is_never_touched(
    unpack: Callable[..., Extracted], tmp_path: Path
) -> None:
    mine = tmp_path / "home" / "speech" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(KwsError, match="already exists"):
        unpack(tar_bytes(CLIPS))
    assert mine.read_text() == "mine"
    assert left_in(tmp_path) == ["speech"]


def test_a_failing_last_check_leaves_nothing(
    unpack: Callable[..., Extracted], tmp_path: Path
) -> None:
    def finish(folder: Path) -> None:
        assert (folder / "yes").is_dir()
        raise KwsError("not the right one")

    with pytest.raises(KwsError, match="not the right one"):
        unpack(tar_bytes(CLIPS), finish=finish)
    assert left_in(tmp_path) == []


def test_ctrl_c_while_unpacking_leaves_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "speech.tar"
    with tarfile.open(archive, "w") as tar:
        for i in range(30_000):
            tar.addfile(tarfile.TarInfo(f"yes/{i}"))
    home = tmp_path / "home"
    program = textwrap.dedent(
        f"""
        from kws.data.fetch.archive import (safe_extract)
        safe_extract({str(archive)!r}, {str(home / "speech")!r}, limit_bytes=1000, progress=False)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    for _ in range(2000):
        if home.exists() and any(home.rglob("*")):
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=20)
    assert process.returncode != 0
    assert left_in(tmp_path) == []


def test_memory_does_not_grow_with_the_number_of_members(
    unpack: Callable[..., Extracted], tmp_path: Path
) -> None:
    import tracemalloc

    content = tar_bytes({f"yes/{i:05}.wav": b"" for i in range(3000)})
    tracemalloc.start()
    try:
        unpack(content, include=["no/*"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 600_000  # 3,000 members that were remembered would be 2 MB


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_the_new_folder_has_the_permissions_of_any_new_folder(
    unpack: Callable[..., Extracted], tmp_path: Path
) -> None:
    (tmp_path / "usual").mkdir()
    result = unpack(tar_bytes(CLIPS))
    assert result.folder.stat().st_mode == (tmp_path / "usual").stat().st_mode
