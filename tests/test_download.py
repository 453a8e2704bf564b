"""Downloads against a real web server on loopback that does everything wrong."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import Site, serve

from kws.data.fetch.download import Download, fetch
from kws.errors import KwsError

CONTENT = random.Random(1).randbytes(1_000_003)
CHANGED = random.Random(2).randbytes(1_000_003)
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    with serve(Site(CONTENT)) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "speech.tar.gz"


def get(site: Site, target: Path, **options: object) -> Download:
    settings: dict[str, object] = {
        "size_bytes": len(CONTENT),
        "sha256": SUM,
        "wait_s": 0.01,
        "timeout_s": 5.0,
        "progress": False,
    }
    return fetch(site.url(), target, **{**settings, **options})  # type: ignore[arg-type]


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_good_server_gives_the_file_verified_and_nothing_else_is_left(
    site: Site, target: Path
) -> None:
    result = get(site, target)
    assert target.read_bytes() == CONTENT
    assert (result.sha256, result.size_bytes, result.verified) == (SUM, len(CONTENT), True)
    assert files_in(target.parent) == ["speech.tar.gz"]


def test_a_file_that_is_there_and_right_is_not_asked_for_again(site: Site, target: Path) -> None:
    get(site, target)
    get(site, target)
    assert len(site.requests) == 1


def test_a_file_that_is_there_but_wrong_is_replaced(site: Site, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"something else")
    get(site, target)
    assert target.read_bytes() == CONTENT


def test_a_connection_that_breaks_off_is_continued_where_it_broke(site: Site, target: Path) -> None:
    site.faults = [{"break_after": 300_000}, {"break_after": 200_000}]
    get(site, target)
    assert target.read_bytes() == CONTENT
    assert [request.get("range") for request in site.requests] == [
        None,
        "bytes=300000-",
        "bytes=500000-",
    ]
    assert {request.get("if-range") for request in site.requests[1:]} == {'"one"'}


def test_a_later_call_continues_what_an_earlier_one_left(
    site: Site, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.faults = [{"break_after": 300_000}, *[{"status": 503}] * 4]
    with pytest.raises(KwsError, match=r"300\.0 kB are kept in .*speech\.tar\.gz\.part: the same"):
        get(site, target)
    assert not target.exists()
    result = get(site, target)
    assert target.read_bytes() == CONTENT
    assert result.continued_from == 300_000
    assert "continuing after 300.0 kB" in capsys.readouterr().err


def test_a_server_that_ignores_ranges_is_read_from_the_start_without_damage(
    site: Site, target: Path
) -> None:
    site.ranges = False
    site.faults = [{"break_after": 300_000}]
    get(site, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("checks_if_range", [True, False])
def test_a_file_that_changed_on_the_server_is_not_glued_to_the_old_part(
    site: Site, target: Path, checks_if_range: bool
) -> None:
    site.checks_if_range = checks_if_range
    site.faults = [{"break_after": 300_000}, *[{"status": 503}] * 4]
    with pytest.raises(KwsError):
        get(site, target)
    site.content, site.etag = CHANGED, '"two"'
    get(site, target, sha256=None)  # no sum that would notice it afterwards
    assert target.read_bytes() == CHANGED


def test_a_changed_file_without_etag_or_size_is_noticed_by_its_sum_and_fetched_whole(
    site: Site, target: Path
) -> None:
    site.etag = None
    site.faults = [{"break_after": 300_000}, *[{"status": 503}] * 4]
    with pytest.raises(KwsError):
        get(site, target)
    site.content = CHANGED
    get(site, target, sha256=hashlib.sha256(CHANGED).hexdigest(), size_bytes=None)
    assert target.read_bytes() == CHANGED
    assert site.requests[-1].get("range") is None


def test_without_etag_and_without_sum_nothing_is_continued(site: Site, target: Path) -> None:
    site.etag = None
    site.faults = [{"break_after": 300_000}]
    result = get(site, target, sha256=None)
    assert [request.get("range") for request in site.requests] == [None, None]
    assert target.read_bytes() == CONTENT
    assert not result.verified


def test_a_range_from_the_wrong_place_is_not_written(site: Site, target: Path) -> None:
    site.faults = [{"break_after": 300_000}, {"shift": 5}]
    get(site, target, sha256=None, size_bytes=None)  # nothing that would notice it afterwards
    assert target.read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_servers_file_is_thrown_away(
    site: Site, target: Path
) -> None:
    target.parent.mkdir()
    (target.parent / "speech.tar.gz.part").write_bytes(CHANGED + b"more")
    get(site, target, size_bytes=None)
    assert target.read_bytes() == CONTENT


def test_a_wrong_sum_removes_the_file_and_states_both_sums(site: Site, target: Path) -> None:
    site.content = CHANGED
    with pytest.raises(KwsError) as caught:
        get(site, target)
    line = str(caught.value)
    assert SUM in line
    assert hashlib.sha256(CHANGED).hexdigest() in line
    assert "\n" not in line
    assert files_in(target.parent) == []
    assert len(site.requests) == 1


def test_a_server_that_offers_another_size_is_refused_before_anything_is_downloaded(
    site: Site, target: Path
) -> None:
    site.content = CONTENT[:-3]
    with pytest.raises(KwsError, match=r"offers 1,000,000 bytes, but the file has 1,000,003"):
        get(site, target)
    assert files_in(target.parent) == []


def test_a_content_length_that_is_too_short_is_refused(site: Site, target: Path) -> None:
    site.faults = [{"length": 1000}]
    with pytest.raises(KwsError, match="offers 1,000 bytes"):
        get(site, target)


def test_a_content_length_that_is_too_short_ends_in_a_wrong_sum_if_the_size_is_not_known(
    site: Site, target: Path
) -> None:
    site.faults = [{"length": 1000}]
    with pytest.raises(KwsError, match="is not the right file"):
        get(site, target, size_bytes=None)
    assert files_in(target.parent) == []


def test_an_answer_without_a_length_that_breaks_off_is_continued(site: Site, target: Path) -> None:
    site.faults = [{"no_length": True, "break_after": 300_000}]
    get(site, target)
    assert target.read_bytes() == CONTENT


def test_an_endless_answer_is_cut_at_the_size_of_the_file(site: Site, target: Path) -> None:
    site.content = CONTENT + b"x" * 20_000_000
    site.faults = [{"no_length": True}]
    get(site, target)
    assert target.read_bytes() == CONTENT


def test_not_found_is_final_at_once(site: Site, target: Path) -> None:
    site.faults = [{"status": 404}]
    with pytest.raises(KwsError, match="answered 404"):
        get(site, target)
    assert len(site.requests) == 1
    assert files_in(target.parent) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_fault_of_the_server_is_tried_again_but_not_for_ever(
    site: Site, target: Path, status: int
) -> None:
    site.faults = [{"status": status}] * 3
    get(site, target)
    assert len(site.requests) == 4
    target.unlink()
    site.faults = [{"status": status}] * 9
    with pytest.raises(KwsError, match=f"answered {status}"):
        get(site, target)
    assert len(site.requests) == 8


def test_the_next_address_is_tried_and_continues_the_same_part(site: Site, target: Path) -> None:
    site.faults = [{"break_after": 400_000}, *[{"status": 500}] * 4]
    fetch(
        [site.url("first.tar.gz"), site.url("second.tar.gz")],
        target,
        size_bytes=len(CONTENT),
        sha256=SUM,
        wait_s=0.01,
        progress=False,
    )
    assert target.read_bytes() == CONTENT
    assert site.requests[-1]["path"] == "/second.tar.gz"
    assert site.requests[-1]["range"] == "bytes=400000-"


def test_a_server_that_falls_silent_is_given_up_in_bounded_time(site: Site, target: Path) -> None:
    site.faults = [{"hang": True}] * 2
    start = time.monotonic()
    with pytest.raises(KwsError, match="did not answer in time"):
        get(site, target, attempts=2, timeout_s=0.2)
    assert time.monotonic() - start < 3


def test_nobody_listening_is_one_line(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/speech.tar.gz"
        with pytest.raises(KwsError, match="refused") as caught:
            fetch(url, target, attempts=2, wait_s=0.01, progress=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["ftp://127.0.0.1/x", "file:///etc/hostname"])
def test_a_redirect_that_leaves_the_web_is_not_followed(
    site: Site, target: Path, place: str
) -> None:
    site.faults = [{"status": 302, "headers": {"Location": place}}]
    with pytest.raises(KwsError):
        get(site, target, size_bytes=None, sha256=None)
    assert not target.exists()


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "speech.tar.gz", "data:,x"])
def test_other_kinds_of_addresses_are_refused(target: Path, url: str) -> None:
    with pytest.raises(KwsError, match="Only http, https and file"):
        fetch(url, target)


def test_a_file_address_is_copied_and_verified(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "my archive.tar.gz"
    source.write_bytes(CONTENT)
    fetch(source.as_uri(), target, size_bytes=len(CONTENT), sha256=SUM, progress=False)
    assert target.read_bytes() == CONTENT
    source.write_bytes(CHANGED)
    with pytest.raises(KwsError, match="right file"):
        fetch(source.as_uri(), target.with_name("b"), sha256=SUM, progress=False)


def test_too_little_space_is_said_before_anything_is_written(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(KwsError, match=r"Not enough space .* needs 1\.0 MB .*1\.0 kB free"):
        get(site, target)
    assert files_in(target.parent) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_while_writing_is_one_line(site: Site, target: Path) -> None:
    target.parent.mkdir()
    (target.parent / "speech.tar.gz.part").symlink_to("/dev/full")
    with pytest.raises(KwsError, match="The disk is full") as caught:
        get(site, target)
    assert "\n" not in str(caught.value)
    assert not target.exists()


def test_ctrl_c_keeps_the_part_says_so_and_the_next_call_continues(
    site: Site, target: Path
) -> None:
    site.faults = [{"break_after": 300_000}, {"hang": True}]
    program = textwrap.dedent(
        f"""
        from kws.data.fetch.download import fetch
        fetch({site.url()!r}, {str(target)!r}, sha256={SUM!r}, wait_s=0.01)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    for _ in range(1000):
        if len(site.requests) == 2:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=20)
    assert process.returncode != 0
    assert "300.0 kB are kept in" in talk
    assert "the same command continues there" in talk
    get(site, target)
    assert target.read_bytes() == CONTENT
    assert site.requests[-1]["range"] == "bytes=300000-"
    assert files_in(target.parent) == ["speech.tar.gz"]


@pytest.mark.skipif(os.name != "posix", reason="needs file locks")
def test_two_downloads_of_one_file_do_not_mix(site: Site, target: Path) -> None:
    site.faults = [{"break_after": 300_000}, {"hang": True}]
    program = (
        "from kws.data.fetch.download import fetch\n"
        f"fetch({site.url()!r}, {str(target)!r}, wait_s=0.01)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    try:
        for _ in range(1000):
            if len(site.requests) == 2:
                break
            time.sleep(0.01)
        with pytest.raises(KwsError, match="Another process"):
            get(site, target)
    finally:
        process.kill()
        process.wait()
