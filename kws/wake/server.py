"""The sockets of the wake-word service: one task for each client, none of them in another's way."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import signal
import socket
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from wyoming.error import Error
from wyoming.event import Event as Message
from wyoming.event import async_read_event
from wyoming.server import AsyncEventHandler, AsyncServer, AsyncTcpServer, AsyncUnixServer

from kws.decide import Event
from kws.errors import KwsError
from kws.system.progress import tell
from kws.wake.service import Conversation, WakeService

MOST_MESSAGE_BYTES = 16 << 20
"""No part of a client's message may be larger: nine minutes of 16 kHz mono, two seconds of the most
that is taken."""


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
        on_event: told of each event, after the client was told.

    Raises:
        KwsError: no such address, or it cannot be had.
        OSError: `on_event` raised it, which ends the service.
    """
    desk = _Desk(service, on_event)
    server = _server_at(uri)
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends the loop instead
            asyncio.get_running_loop().add_signal_handler(number, desk.ended.set)
    try:
        await server.start(partial(_Client, desk))
    except (OSError, UnicodeError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        raise KwsError(
            f"This address cannot be served. Received: {uri} "
            f"({getattr(error, 'strerror', None) or error}). "
            + ("End what is running there, or choose another" if taken else "Choose another")
            + " with --uri"
        ) from error
    on_ready()
    await desk.ended.wait()
    await server.stop()
    await asyncio.sleep(0.05)  # clients end in tasks of their own, and still count
    if desk.fault:
        raise desk.fault
    return desk.served


def _server_at(uri: str) -> AsyncServer:
    """Return the server for an address; ``stdio://`` is none here, for stdout is for events."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _no_address(uri, f" ({error})") from error
    if parts.scheme == "tcp" and host and port and parts.path in ("", "/"):
        return AsyncTcpServer(host, port)
    path = Path(parts.path)
    if parts.scheme == "unix" and not parts.netloc and path.is_absolute() and path.name:
        if not hasattr(socket, "AF_UNIX"):
            raise _no_address(uri, " (this system has no Unix sockets)")
        _make_room(path)
        return AsyncUnixServer(path)
    raise _no_address(uri)


def _no_address(uri: str, reason: str = "") -> KwsError:
    return KwsError(
        f"This is no address to serve at. Received: {uri!r}{reason}. Give --uri tcp://HOST:PORT or "
        "unix:///PATH"
    )


def _make_room(path: Path) -> None:
    """Refuse a path that is taken: the server would remove whatever is there."""
    try:
        mode = path.lstat().st_mode
    except OSError:  # nothing there; or what is wrong is said by the one who opens it
        return
    if not stat.S_ISSOCK(mode):
        raise KwsError(
            f"Something else than a socket is at {path}. Received: a file that would be lost. "
            "Choose another path with --uri"
        )
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as other:
        if other.connect_ex(str(path)) == 0:
            raise KwsError(
                f"Another service is running at {path}. Received: an answer from there. End it, or "
                "choose another path with --uri"
            )


class _Desk:
    """What all clients of a service share."""

    def __init__(self, service: WakeService, on_event: Callable[[Event], None]) -> None:
        self.service, self._on_event = service, on_event
        self.served = Served()
        self.ended = asyncio.Event()
        self.fault: OSError | None = None
        self._noted: set[str] = set()

    def report(self, event: Event) -> None:
        """Count an event and pass it on; where it cannot be, the service ends."""
        self.served.events += 1
        try:
            self._on_event(event)
        except OSError as error:
            self.fault = self.fault or error
            self.ended.set()

    def note(self, line: str) -> None:
        """Say a line on stderr, once: clients try again and again."""
        if line not in self._noted and len(self._noted) < 1000:
            self._noted.add(line)
            tell(line)


class _BoundedReader:
    """What `async_read_event` wants of a stream; a header cannot make us hold all that it says."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.readline = reader.readline  # which has a limit of its own
        self._readexactly = reader.readexactly

    async def readexactly(self, n: int) -> bytes:
        if n > MOST_MESSAGE_BYTES:
            raise KwsError(
                f"A message may hold {MOST_MESSAGE_BYTES:,} bytes at most. Received: a header that "
                f"announces {n:,}. Send audio in shorter chunks"
            )
        return await self._readexactly(n)


class _Client(AsyncEventHandler):
    """A connection: reads messages, lets the conversation answer, sends the answers."""

    def __init__(
        self, desk: _Desk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__(reader, writer)
        self._desk = desk
        self._conversation = Conversation(desk.service)
        own = writer.get_extra_info("socket")
        if own is not None:
            # A satellite that lost its power says no goodbye.
            own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def run(self) -> None:
        """Answer messages until the client goes away, sends nonsense, or the service ends."""
        self._is_running = True
        try:
            while self._is_running:
                message = await self._next()
                if message is None or not await self.handle_event(message):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass  # it went away, perhaps in the middle of a message
        except KwsError as error:
            self._desk.note(f"a client was refused: {error}")
            with contextlib.suppress(OSError):
                await self.write_event(Error(text=str(error)).event())
        finally:
            self._desk.served.clients += self._conversation.heard_s > 0
            self._desk.served.heard_s += self._conversation.heard_s
            self.writer.close()

    async def _next(self) -> Message | None:
        """Read a message; None at the end, and after what is no JSON at all."""
        try:
            return await async_read_event(_BoundedReader(self.reader))  # type: ignore[arg-type]
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise KwsError(
                "This is no message of the Wyoming protocol. Received: JSON of another form"
            ) from error

    async def handle_event(self, event: Message) -> bool:
        """Answer one message; the client first, for it is waiting."""
        reply = self._conversation.take(event)
        for message in reply.messages:
            try:
                await self.write_event(message)
            except UnicodeEncodeError as error:  # half of a character, sent back as it came
                raise KwsError(
                    f"This text cannot be sent back. Received: {error.object!r:.60}"
                ) from error
        for found in reply.events:
            self._desk.report(found)
        for line in reply.notes:
            self._desk.note(line)
        return True
