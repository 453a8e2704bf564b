"""`kws serve`: keywords for Home Assistant and its satellites, over the Wyoming protocol."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import typer

from kws.cli.events import event_line
from kws.cli.options import JSON_LINES, THRESHOLD
from kws.wording import counted, duration

if TYPE_CHECKING:
    from kws.decide import Event


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("serve")(serve)


def serve(
    model: list[str] = typer.Option(
        ["computer"],
        "--model",
        "-m",
        metavar="MODEL",
        help="A .tflite file or the name of a pretrained model. Repeat it to serve several.",
    ),
    uri: str = typer.Option(
        "tcp://127.0.0.1:10400",
        "--uri",
        metavar="URI",
        help="Address for clients: tcp://HOST:PORT or unix:///PATH. tcp://0.0.0.0:10400 also "
        "accepts other computers; the protocol has no passwords, so use it only in your own "
        "network.",
    ),
    threshold: float | None = THRESHOLD,
    as_json: bool = JSON_LINES,
) -> None:
    """Serve keywords to Home Assistant (Wyoming); Ctrl-C ends it.

    Each keyword becomes a wake word there: Settings, Devices & services, Add integration, Wyoming
    Protocol, then this computer's address and the port. After that it can be chosen in the voice
    assistant's settings. Satellites send the audio. Events are also printed here.

    Example: kws serve --model computer --uri tcp://0.0.0.0:10400
    """
    from kws.errors import require

    require("wyoming", extra="wyoming")
    from kws.wake.server import serve_until_interrupted
    from kws.wake.service import WakeService

    service = WakeService(model, threshold)

    def ready() -> None:
        typer.echo(f"serving {', '.join(service.keywords)} at {uri} (Ctrl-C ends)", err=True)

    def heard(event: Event) -> None:
        typer.echo(event_line(event, as_json=as_json))  # which flushes each line

    with contextlib.suppress(KeyboardInterrupt):  # where the event loop has no signal handlers
        served = asyncio.run(serve_until_interrupted(service, uri, on_ready=ready, on_event=heard))
        typer.echo(
            f"served {counted(served.clients, 'client')}, {duration(served.heard_s)} of audio, "
            f"{counted(served.events, 'event')}",
            err=True,
        )
