"""The sockets of the wake-word service: one task for each client, none of them in another's way."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import Callable
from functools import partial

from wyoming.error import Error
from wyoming.event import Event as Message
from wyoming.server import AsyncEventHandler, AsyncServer

from kws.decide import Event
from kws.errors import KwsError
from kws.progress import tell
from kws.wake.service import Conversation, WakeService


@dataclasses.dataclass
class Served:
    """What a service has done so far."""

    clients: int = 0
    """Connections that brought audio; many only ask what there is."""
    heard_s: float = 0.0
    """Audio of all of them together, in seconds."""
    events: int = 0
    """Words that clients were told of."""


async def serve_until_interrupted(
    service: WakeService,
    uri: str,
    *,
    on_ready: Callable[[], None],
    on_event: Callable[[Event], None],
) -> Served:
    """Answer clients until Ctrl-C or SIGTERM.

    Args:
        service: what is offered.
        uri: ``tcp://HOST:PORT`` or ``unix://PATH``.
        on_ready: called once clients can connect.
        on_event: told of each event that a client is told of.

    Raises:
        KwsError: no such address, or it cannot be had.
    """
    served = Served()

    def count(event: Event) -> None:
        served.events += 1
        on_event(event)

    server = _server_at(uri)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends the loop instead
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        await server.start(partial(_Client, service, count, served))
    except OSError as error:
        raise KwsError(
            f"This address cannot be served. Received: {uri} ({error.strerror or error}). Choose "
            "another with --uri, or end what is running there"
        ) from error
    on_ready()
    await ended.wait()
    await server.stop()
    await asyncio.sleep(0.05)  # clients end in tasks of their own, and still count
    return served


def _server_at(uri: str) -> AsyncServer:
    try:
        # The protocol also knows stdio://, but our stdout is for events.
        if uri.startswith(("tcp://", "unix://")):
            return AsyncServer.from_uri(uri)
        reason = ""
    except ValueError as error:
        reason = f" ({error})"
    raise KwsError(
        f"This is no address to serve at. Received: {uri!r}{reason}. Give --uri tcp://HOST:PORT or "
        "unix://PATH"
    )


class _Client(AsyncEventHandler):
    """A connection: reads messages, lets the conversation answer, sends the answers."""

    def __init__(
        self,
        service: WakeService,
        on_event: Callable[[Event], None],
        served: Served,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        super().__init__(reader, writer)
        self._conversation = Conversation(service, on_event)
        self._served = served

    async def handle_event(self, event: Message) -> bool:
        """Answer one message; false ends the connection."""
        try:
            answers = self._conversation.take(event)
        except KwsError as error:
            tell(f"a client was refused: {error}")
            await self.write_event(Error(text=str(error)).event())
            return False
        for answer in answers:
            await self.write_event(answer)
        return True

    async def run(self) -> None:
        """Read messages until the client goes away."""
        try:
            await super().run()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # it went away in the middle of a message
        except (AttributeError, KeyError, TypeError):
            tell("a client was refused: what it sent is no message of the Wyoming protocol")
        finally:
            self._served.clients += self._conversation.heard_s > 0
            self._served.heard_s += self._conversation.heard_s
