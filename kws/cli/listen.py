"""`kws listen`: events from a microphone, live."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kws.cli.events import Listener, event_line
from kws.cli.options import (
    DEVICE,
    JSON_LINES,
    KEEP,
    KEEP_ALMOST,
    LISTENING_MODEL,
    THRESHOLD,
    WAKE,
    WAKE_WINDOW,
)
from kws.wording import counted

if TYPE_CHECKING:
    from kws.audio.microphone import Device, Microphone
    from kws.decide import Event

# More simultaneous commands than this are assumed to be a runaway.
_MOST_COMMANDS = 8


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("listen")(listen)


def listen(
    model: str = LISTENING_MODEL,
    device: str | None = DEVICE,
    list_devices: bool = typer.Option(
        False, "--list-devices", help="Print the microphones and stop."
    ),
    command: str | None = typer.Option(
        None,
        "--exec",
        metavar="CMD",
        help="Run CMD in the shell for each keyword of --model, with $KWS_KEYWORD, $KWS_SCORE and "
        "$KWS_TIME_S in its environment. Its output goes to stderr.",
    ),
    threshold: float | None = THRESHOLD,
    wake: str | None = WAKE,
    wake_window: float | None = WAKE_WINDOW,
    keep: Path | None = KEEP,
    keep_almost: bool = KEEP_ALMOST,
    meter: bool | None = typer.Option(
        None, "--meter/--no-meter", help="Level meter on stderr. [default: on a terminal]"
    ),
    as_json: bool = JSON_LINES,
) -> None:
    """Print the keywords detected by a microphone; Ctrl-C ends it.

    Put CMD in single quotes, so that your shell does not replace the variables.

    Listen to the clips from --keep. Use false alarms for training with
    `kws data add _unknown_ FILES --to DATA`, and missed words with `kws data add WORD FILES`.

    \b
    Examples:
      kws listen --exec 'notify-send "$KWS_KEYWORD"'
      kws listen --wake computer
      kws listen --keep kept --keep-almost
      kws data add _unknown_ kept/yes/20260131-0712*.wav --to my_words
      kws data add yes kept/almost/yes/20260131-0800*.wav --to my_words
    """
    if list_devices:
        _print_devices(as_json)
        return

    from kws.audio.microphone import open_microphone

    listener = Listener(
        model, threshold, wake=wake, wake_window_s=wake_window, keep=keep, keep_almost=keep_almost
    )
    display = _Meter(sys.stderr.isatty() if meter is None else meter)
    session = _Session(display, command, as_json, listener)
    with open_microphone(device) as microphone:
        display.say(f"listening to {_describe(microphone)} for: {listener.words} (Ctrl-C ends)")
        listener.begin()
        try:
            session.run(microphone)
        except KeyboardInterrupt:
            pass  # the way to end it
        finally:
            session.finish(microphone)


class _Session:
    """One run of `kws listen`: its events and messages."""

    def __init__(
        self, display: _Meter, command: str | None, as_json: bool, listener: Listener
    ) -> None:
        self._display = display
        self._listener = listener
        self._told_of_failure = False
        self._commands = _Commands(command, display.say) if command else None
        self._as_json = as_json
        self._counts: Counter[str] = Counter()
        self._heard_s = 0.0
        self._overflows = 0
        self._lost_s = 0.0

    def run(self, microphone: Microphone) -> None:
        """Listen to blocks until the microphone or the user stops."""
        from kws.audio.level import level_dbfs
        from kws.audio.microphone import InputWatch
        from kws.audio.samples import SAMPLE_RATE_HZ

        watch = InputWatch()
        for block in microphone:
            self._heard_s += len(block) / SAMPLE_RATE_HZ
            for event in self._listener.feed(block):
                self._tell(event)
            fault = watch.feed(block)
            if fault:
                self._display.say(f"kws: {fault}")
            self._check_losses(microphone)
            self._check_keeping()
            if self._commands:
                self._commands.check()
            self._display.show(level_dbfs(block))

    def _tell(self, event: Event) -> None:
        self._counts[event.keyword] += 1
        self._display.clear()
        typer.echo(event_line(event, as_json=self._as_json))  # which flushes each line
        if self._commands and self._listener.is_command(event):
            self._commands.start(event)

    def _check_keeping(self) -> None:
        """Report once if clips can no longer be kept; listening goes on."""
        failed = self._listener.failed
        if failed and not self._told_of_failure:
            self._told_of_failure = True
            self._display.say(f"kws: {failed}")

    def _check_losses(self, microphone: Microphone) -> None:
        if microphone.overflows > self._overflows:
            self._overflows = microphone.overflows
            self._display.say(f"kws: the device lost audio (overflow {self._overflows})")
        # At most once for each lost second; a slow computer may lose every block.
        if microphone.lost_s >= self._lost_s + 1 or (microphone.lost_s and not self._lost_s):
            self._lost_s = microphone.lost_s
            self._display.say(
                f"kws: this computer is too slow and dropped {self._lost_s:.1f} s of audio so far"
            )

    def finish(self, microphone: Microphone) -> None:
        """Print a summary of the session."""
        heard = ", ".join(f"{keyword} {n}" for keyword, n in self._counts.most_common())
        events = sum(self._counts.values())
        lost = f"{counted(microphone.overflows, 'overflow')}, {microphone.lost_s:.1f} s dropped"
        self._display.say(
            f"listened {self._heard_s:.1f} s, {counted(events, 'event')}"
            f"{f' ({heard})' if heard else ''}, {lost}"
        )
        if self._commands:
            self._commands.finish()
        self._listener.finish()
        self._check_keeping()
        if kept := self._listener.kept():
            self._display.say(kept)


class _Commands:
    """Runs the user's command for each event that it is given, without waiting for it."""

    def __init__(self, command: str, say: Callable[[str], None]) -> None:
        self._command = command
        self._say = say
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, event: Event) -> None:
        """Run the command in the shell; its stdout goes to stderr, to keep stdout for events."""
        self.check()
        if len(self._running) >= _MOST_COMMANDS:
            self._say(
                f"kws: {_MOST_COMMANDS} commands are still running; none is started for "
                f"{event.keyword!r}"
            )
            return
        environment = dict(os.environ)
        environment["KWS_KEYWORD"] = event.keyword
        environment["KWS_SCORE"] = f"{event.score:.4f}"
        environment["KWS_TIME_S"] = f"{event.time_s:.3f}"
        try:
            process = subprocess.Popen(
                self._command,
                shell=True,
                stdin=subprocess.DEVNULL,
                stdout=2,
                env=environment,
                # Ctrl-C must not reach it.
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as error:
            self._say(f"kws: the command cannot be started: {error}")
            return
        self._running.append((event.keyword, process))

    def check(self) -> None:
        """Collect commands that have ended and report those that failed."""
        ended = [(k, process) for k, process in self._running if process.poll() is not None]
        for keyword, process in ended:
            self._running.remove((keyword, process))
            status = process.returncode
            if status > 0:
                self._say(f"kws: the command for {keyword!r} failed with status {status}")
            elif status < 0:
                name = signal.strsignal(-status) or "unknown"
                self._say(
                    f"kws: the command for {keyword!r} was killed by signal {-status} ({name})"
                )

    def finish(self) -> None:
        """Give the last commands a moment; longer ones keep running."""
        deadline = time.monotonic() + 1.0
        while self._running and time.monotonic() < deadline:
            self.check()
            time.sleep(0.01)
        if self._running:
            are = "is" if len(self._running) == 1 else "are"
            self._say(f"kws: {counted(len(self._running), 'command')} {are} still running")


class _Meter:
    """A level meter on one line of stderr, cleared before other lines are printed."""

    _WIDTH = 30
    _FLOOR_DBFS = -60.0
    _EVERY_S = 0.1

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._drawn = False
        self._next = 0.0
        self._loudest = -math.inf

    def show(self, level_dbfs: float) -> None:
        """Draw the loudest level since the last redraw."""
        self._loudest = max(self._loudest, level_dbfs)
        now = time.monotonic()
        if not self._shown or now < self._next:
            return
        filled = round(self._WIDTH * (1 - max(self._loudest, self._FLOOR_DBFS) / self._FLOOR_DBFS))
        number = "silence" if self._loudest == -math.inf else f"{self._loudest:.0f} dBFS"
        bar = "#" * filled + "-" * (self._WIDTH - filled)
        self._write(f"\r[{bar}] {number:<9}")
        self._drawn, self._next, self._loudest = True, now + self._EVERY_S, -math.inf

    def clear(self) -> None:
        """Remove the meter, so that a line can be printed on the same terminal."""
        if self._drawn:
            self._write("\r" + " " * (self._WIDTH + 12) + "\r")
            self._drawn = False

    def say(self, line: str) -> None:
        """Print a separate line."""
        self.clear()
        self._write(line + "\n")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _describe(microphone: Microphone) -> str:
    rate = f"{microphone.capture_rate_hz / 1000:g} kHz"
    return f"{microphone.device.name!r} at {rate}"


def _print_devices(as_json: bool) -> None:
    from dataclasses import asdict

    from kws.audio.microphone import list_devices

    devices: list[Device] = list_devices()
    if as_json:
        typer.echo(json.dumps([asdict(device) for device in devices], indent=2))
        return
    if not devices:
        typer.echo("kws: this computer has no microphone", err=True)
    for device in devices:
        mark = "*" if device.is_default else " "
        typer.echo(
            f"{mark} {device.index:3}  {device.name}  ({device.host_api}, "
            f"{counted(device.channels, 'channel')}, {device.default_rate_hz / 1000:g} kHz)"
        )
