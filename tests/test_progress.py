"""Progress lines: what a terminal and a log get to see."""

from __future__ import annotations

import io

import pytest

import kws.system.progress
from kws.system.progress import Progress


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(kws.system.progress.time, "monotonic", lambda: self.now)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_short_work_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, out = Clock(monkeypatch), Terminal()
    with Progress(10, "decoding", stream=out) as progress:
        for _ in range(10):
            clock.now += 0.01
            progress.advance()
    assert out.getvalue() == ""


def test_a_terminal_gets_one_rewritten_line_with_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, out = Clock(monkeypatch), Terminal()
    with Progress(2000, "decoding clips", unit="clips", stream=out) as progress:
        clock.now += 1
        progress.advance(500)
        first = out.getvalue()
        clock.now += 3
        progress.advance(1500)
    assert "decoding clips: 500 of 2,000 clips (25 %), 500 clips/s, 3 s left" in first
    assert "\n" not in first
    assert out.getvalue().count("\n") == 1
    assert "(100 %), 500 clips/s, took 4 s" in out.getvalue()


def test_a_log_gets_few_lines_and_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, out = Clock(monkeypatch), io.StringIO()
    with Progress(3600, "training", stream=out) as progress:
        for _ in range(3600):
            clock.now += 1
            progress.advance()
    lines = out.getvalue().splitlines()
    assert 10 < len(lines) < 80
    assert "\r" not in out.getvalue() and "\x1b" not in out.getvalue()
    assert lines[-1].startswith("training: 3,600 of 3,600 (100 %)")


def test_what_a_resumed_download_had_before_does_not_count_towards_the_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, out = Clock(monkeypatch), Terminal()
    with Progress(3_000_000, "fetching", unit="B", done=1_000_000, stream=out) as progress:
        clock.now += 1
        progress.advance(1_000_000)
    assert "fetching: 2.0 MB of 3.0 MB (66 %), 1.0 MB/s, 1 s left" in out.getvalue()


def test_without_a_total_the_count_and_rate_are_still_said(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, out = Clock(monkeypatch), Terminal()
    with Progress(None, "scanning", unit="files", stream=out) as progress:
        clock.now += 2
        progress.advance(5000)
    assert "scanning: 5,000 files, 2,500 files/s" in out.getvalue()
