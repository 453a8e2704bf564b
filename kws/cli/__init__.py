"""The command line: one file per group of commands; heavy imports only when a command runs."""

from __future__ import annotations

import _thread
import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FrameType

import typer
from typer.core import TyperGroup

from kws.errors import KwsError
from kws.system.files import FULL_DISK

# Typer includes its own copy of Click from 0.26 on, the oldest supported version (older ones break
# with newer Clicks); its public `BadParameter` leads to the base classes.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]
_ClickException: type[Exception] = _UsageError.__bases__[0]

# Each file registers its commands on `app`, in the order of `kws --help`. `record`, `synth`, `part`
# and `stream` add to `data`.
_ROOMS = (
    *("demo", "new", "data", "record", "synth", "part", "stream", "train", "verdict"),
    *("export", "info", "evaluate", "calibrate", "mine", "run", "listen", "serve"),
    *("firmware", "benchmark"),
)


class _InOrder(TyperGroup):
    """Shows commands and groups together in the order of registration."""

    def list_commands(self, context: object) -> list[str]:
        """Return the names of all commands."""
        last = len(_ROOMS)
        return sorted(self.commands, key=lambda n: _ROOMS.index(n) if n in _ROOMS else last)


app = typer.Typer(
    cls=_InOrder,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from kws import __version__

        typer.echo(f"kws {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    """Train, quantise and run small keyword spotters.

    Example: kws run recording.wav
    """


for _room in _ROOMS:
    import_module(f"kws.cli.{_room}").register(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 success, 1 failure, 2 bad usage, 130 interrupted.

    SIGTERM interrupts like Ctrl-C, with status 143.
    """
    _open_closed_streams()
    _escape_what_cannot_be_encoded()
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status; an expected error is one line on stderr."""
    with _interrupted_by_sigterm() as numbers, _no_interrupt_is_lost():
        return _run(arguments, numbers)


def _run(arguments: list[str] | None, numbers: list[int]) -> int:
    """Run the command line; the last of the numbers is the signal that caused an interruption."""
    try:
        # Typer ends silently with status 1 if the reader of stdout closes it (`kws run … | head`).
        result = app(args=arguments, prog_name="kws", standalone_mode=False)
        # Typer silently turns Ctrl-C into this result.
        if result == 128 + signal.SIGINT:
            raise KeyboardInterrupt
        return int(result or 0)
    except _UsageError as error:
        message = error.format_message()  # type: ignore[attr-defined]
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(message, err=True)
            return 2
        context = getattr(error, "ctx", None)
        stop = "" if message.endswith((".", "?")) else "."
        _complain(f"{message}{stop} See: {context.command_path if context else 'kws'} --help")
        return 2
    except _ClickException as error:
        _complain(error.format_message())  # type: ignore[attr-defined]
        return 1
    except (typer.Abort, KeyboardInterrupt):
        _complain("interrupted")
        # After Ctrl-C inside an exec() of text (as in the creation of dataclasses, so often while
        # TensorFlow is imported), `python -m` ends by the signal, whatever the status. Another
        # exec() of text resets that.
        exec("")
        return 128 + numbers[-1]
    except KwsError as error:
        _complain(str(error))
        return 1
    except OSError as error:
        if error.errno in FULL_DISK:
            # If a copy failed, the second name is the one being written.
            target = error.filename2 or error.filename
            what = f": could not write {target}" if target else ""
            _complain(f"the disk is full{what}. Free some space and run it again")
        elif error.filename is not None:
            _complain(f"{error.filename}: {error.strerror}")
        else:
            raise
        return 1


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[list[int]]:
    """Let SIGTERM (systemd, `kill`) end work in the same orderly way as Ctrl-C.

    Yields:
        SIGINT, followed by SIGTERM once that has arrived.
    """
    numbers: list[int] = [signal.SIGINT]
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield numbers  # signals cannot be handled here, or already are
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        numbers.append(number)
        pressed = signal.getsignal(signal.SIGINT)
        if callable(pressed):  # handlers for Ctrl-C (`kws.system.native`) see this as well
            pressed(number, frame)
        else:  # Ctrl-C is ignored: the shell started this process in the background
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield numbers
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def _no_interrupt_is_lost() -> Iterator[None]:
    """Repeat a Ctrl-C that Python drops, as it does in a destructor or a weak reference's call.

    Such calls are frequent while modules are imported, and the command would go on as if nothing
    had been pressed.
    """
    complain = sys.unraisablehook
    timers: list[threading.Timer] = []

    def repeat(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # A moment later, when that call is over.
            timer = threading.Timer(0.01, _thread.interrupt_main)
            timer.daemon = True
            timer.start()
            timers.append(timer)
        else:
            complain(unraisable)

    sys.unraisablehook = repeat
    try:
        yield
    finally:
        sys.unraisablehook = complain
        for timer in timers:
            timer.cancel()


def _open_closed_streams() -> None:
    """Redirect closed standard streams (`2>&-`) to nowhere, since code fails on None.

    The next opened file would also get their number, and with it the output of libraries.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode)  # noqa: SIM115
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _escape_what_cannot_be_encoded() -> None:
    """Let output never fail for a character that the terminal's encoding lacks: show its code.

    Where names of files pass unchanged (UTF-8 in the locale C), they still do.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and (
            stream.errors == "strict" or stream.encoding.lower() != "utf-8"
        ):
            stream.reconfigure(errors="backslashreplace")


def _complain(message: str) -> None:
    typer.echo("kws: " + " ".join(message.split()), err=True)
