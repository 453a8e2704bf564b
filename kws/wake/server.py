"""The sockets of the wake-word service, with an independent task for each client."""

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
"""Largest part of a client's message: nine minutes of 16 kHz mono, or two seconds of the highest
rate and number of channels."""
_FAREWELL_S = 1.0
"""A refused client has this long to read why."""
_FAREWELL_BYTES = 64 << 20
"""The most that is read from it meanwhile."""


@dataclasses.dataclass
class Served:
    """What a service has done."""

    clients: int = 0
    """Connections that sent audio; many only ask what is available."""
    heard_s: float = 0.0
    """Total audio of all clients, in seconds."""
    events: int = 0
    """Detections sent to clients."""


async def serve_until_interrupted(
    service: WakeService,
    uri: str,
    *,
    on_ready: Callable[[], None],
    on_event: Callable[[Event], None],
) -> Served:
    """Answer clients until Ctrl-C or SIGTERM.

    Args:
        service: the models that are served.
        uri: ``tcp://HOST:PORT`` or ``unix://PATH``.
        on_ready: called once clients can connect.
        on_event: called with each event, after the client has received it.

    Raises:
        KwsError: an invalid address, or one that is not available.
        OSError: raised by `on_event`, which ends the service.
    """
    state = _ServerState(service, on_event)
    server = _server_at(uri)
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends the loop instead
            asyncio.get_running_loop().add_signal_handler(number, state.ended.set)
    try:
        await server.start(partial(_Client, state))
    except (OSError, UnicodeError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        raise KwsError(
            f"Cannot serve at this address. Received: {uri} "
            f"({getattr(error, 'strerror', None) or error}). "
            + ("Stop the program that uses it, or choose another" if taken else "Choose another")
            + " with --uri"
        ) from error
    on_ready()
    await state.ended.wait()
    await server.stop()
    await asyncio.sleep(0.05)  # clients end in their own tasks and are still counted
    if state.fault:
        raise state.fault
    return state.served


def _server_at(uri: str) -> AsyncServer:
    """Return the server for an address. ``stdio://`` is not supported: stdout is for events."""
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
        _refuse_taken_path(path)
        return AsyncUnixServer(path)
    raise _no_address(uri)


def _no_address(uri: str, reason: str = "") -> KwsError:
    return KwsError(
        f"Not a valid address. Received: {uri!r}{reason}. Give --uri tcp://HOST:PORT or "
        "unix:///PATH"
    )


def _refuse_taken_path(path: Path) -> None:
    """Refuse a path that is in use, because the server would remove what is there."""
    try:
        mode = path.lstat().st_mode
    except OSError:  # nothing there; other problems are reported when it is opened
        return
    if not stat.S_ISSOCK(mode):
        raise KwsError(
            f"{path} is not a socket. Received: a file that would be lost. Choose another path "
            "with --uri"
        )
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as other:
        if other.connect_ex(str(path)) == 0:
            raise KwsError(
                f"Another service is running at {path}. Received: an answer from it. Stop it, or "
                "choose another path with --uri"
            )


class _ServerState:
    """What all clients of a running service share."""

    def __init__(self, service: WakeService, on_event: Callable[[Event], None]) -> None:
        self.service, self._on_event = service, on_event
        self.served = Served()
        self.ended = asyncio.Event()
        self.fault: OSError | None = None
        self._noted: set[str] = set()

    def report(self, event: Event) -> None:
        """Count an event and pass it on; if that fails, the service ends."""
        self.served.events += 1
        try:
            self._on_event(event)
        except OSError as error:
            self.fault = self.fault or error
            self.ended.set()

    def note(self, line: str) -> None:
        """Print a line on stderr once, because clients keep retrying."""
        if line not in self._noted and len(self._noted) < 1000:
            self._noted.add(line)
            tell(line)


class _BoundedReader:
    """The interface `async_read_event` needs, with a limit on the sizes that a header announces."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.readline = reader.readline  # has its own limit
        self._readexactly = reader.readexactly

    async def readexactly(self, n: int) -> bytes:
        if n > MOST_MESSAGE_BYTES:
            raise KwsError(
                f"A message may hold at most {MOST_MESSAGE_BYTES:,} bytes. Received: a header that "
                f"announces {n:,}. Send audio in shorter chunks"
            )
        return await self._readexactly(n)


class _Client(AsyncEventHandler):
    """A connection: reads messages, passes them to the conversation, sends its answers."""

    def __init__(
        self, state: _ServerState, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__(reader, writer)
        self._state = state
        self._conversation = Conversation(state.service)
        own = writer.get_extra_info("socket")
        if own is not None:
            # A satellite that loses power does not close its connection.
            own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def run(self) -> None:
        """Answer messages until the client leaves, sends an invalid one, or the service ends."""
        self._is_running = True
        try:
            while self._is_running:
                message = await self._next()
                if message is None or not await self.handle_event(message):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client left, perhaps in the middle of a message
        except KwsError as error:
            self._state.note(f"refused a client: {error}")
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(self._refuse(str(error)), _FAREWELL_S)
        finally:
            self._state.served.clients += self._conversation.heard_s > 0
            self._state.served.heard_s += self._conversation.heard_s
            self.writer.close()

    async def _refuse(self, reason: str) -> None:
        """Tell the client why, and discard what it still sends until it closes the connection.

        Closing with unread input would reset the connection, and the reason could be lost.
        """
        await self.write_event(Error(text=reason).event())
        if self.writer.can_write_eof():
            self.writer.write_eof()
        left = _FAREWELL_BYTES
        while left > 0 and (discarded := await self.reader.read(1 << 16)):
            left -= len(discarded)

    async def _next(self) -> Message | None:
        """Read a message; None at the end, or after anything that is not JSON."""
        try:
            return await async_read_event(_BoundedReader(self.reader))  # type: ignore[arg-type]
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise KwsError(
                "Not a message of the Wyoming protocol. Received: JSON of another form"
            ) from error

    async def handle_event(self, event: Message) -> bool:
        """Answer one message; the client first, because it is waiting."""
        reply = self._conversation.take(event)
        for message in reply.messages:
            try:
                await self.write_event(message)
            except UnicodeEncodeError as error:  # half a character, sent back unchanged
                raise KwsError(
                    f"This text cannot be sent back. Received: {error.object!r:.60}"
                ) from error
        for found in reply.events:
            self._state.report(found)
        for line in reply.notes:
            self._state.note(line)
        return True
