"""HTTP/3: Hypercorn's QUIC server (on aioquic) beside the TCP server, in the same event loop, for the same application.

Below: `hypercorn`, of the extra `http3`; this is the only file that imports it. Above: `server.py`, which starts and drains both.
Hypercorn's own loop is not used: it serves no other way than until the end of its process, tells no application that its client
has left, and one connection's mistake ends it for all.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    ConnectionTerminated,
    ProtocolNegotiated,
    StopSendingReceived,
    StreamReset,
)
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import RawData
from hypercorn.protocol.events import Body, EndBody, Response, StreamClosed
from hypercorn.protocol.h3 import H3Protocol
from hypercorn.protocol.quic import QuicProtocol
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr  # pyright: ignore[reportUnknownVariableType]  # a bare `tuple`

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from aioquic.quic.events import QuicEvent
    from hypercorn.events import Event
    from hypercorn.protocol.events import Event as StreamEvent
    from starlette.types import ASGIApp

    from portico.app.settings import GatewayConfig

logger = logging.getLogger("portico.http3")

DATAGRAMS = 1000
"""How many datagrams may wait; more are dropped, and sent again by their senders."""
OF_CONNECTIONS = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
"""Headers about a TCP connection, which no response over HTTP/3 may have (RFC 9114 §4.2)."""


class Http3Server(asyncio.DatagramProtocol):
    """Serves one application on one UDP socket, as long as `serve` runs."""

    def __init__(self, app: ASGIApp, settings: GatewayConfig, listener: socket.socket) -> None:
        self._app = ASGIWrapper(cast("Any", app))
        self._config = _config(settings)
        self._drain_timeout = settings.drain_timeout
        self._listener = listener
        self._context = WorkerContext(None)
        self._received: asyncio.Queue[RawData] = asyncio.Queue(DATAGRAMS)
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """One has come. They are handled one after another, by `serve`."""
        if not self._received.full():
            self._received.put_nowait(RawData(data=data, address=addr))

    async def serve(self, stop: asyncio.Event) -> None:
        """Until `stop`; then no new request is taken, and what is in flight is answered within `drain_timeout`."""
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, sock=self._listener)
        try:
            async with TaskGroup(asyncio.get_running_loop()) as group:
                server = parse_socket_addr(self._listener.family, self._listener.getsockname())
                state = ConnectionState(cast("Any", {}))
                connections = _Connections(self._app, self._config, self._context, cast("Any", group), state, server, self._send)
                async with asyncio.TaskGroup() as own:
                    handling = own.create_task(self._handle(connections))
                    await stop.wait()
                    await self._context.terminated.set()
                    await connections.end(self._drain_timeout)
                    handling.cancel()
        finally:
            transport.close()

    async def _handle(self, connections: _Connections) -> None:
        while True:
            await connections.handle(await self._received.get())

    async def _send(self, event: Event) -> None:
        if isinstance(event, RawData) and self._transport is not None:
            self._transport.sendto(event.data, event.address)


def _config(settings: GatewayConfig) -> Config:
    config = Config()
    config.certfile, config.keyfile = settings.tls_cert, settings.tls_key
    config.include_server_header = False
    config.errorlog = logger
    config.max_app_queue_size = 0  # an application that reads no body must not hold up everybody's datagrams
    return config


class _Connections(QuicProtocol):
    """Every QUIC connection of the socket."""

    async def handle(self, event: Event) -> None:
        """Handle a datagram. What a stranger sends ends nothing but their own connection."""
        try:
            await super().handle(event)
        except Exception:
            logger.exception("a datagram could not be handled")

    async def end(self, patience: float) -> None:
        """Wait until what is in flight is answered, for at most `patience` seconds; then close the connections."""
        try:
            async with asyncio.timeout(patience):
                while any(one.h3 is not None and one.h3.streams for one in self.connections.values()):  # noqa: ASYNC110  # Hypercorn tells no end
                    await asyncio.sleep(0.02)
        except TimeoutError:
            logger.warning("requests over HTTP/3 were not answered within the drain and are cut short")
        for connection in {id(one): one for one in self.connections.values()}.values():
            if isinstance(connection.h3, _Streams):
                await connection.h3.leave(list(connection.h3.streams))
            connection.quic.close(error_code=0x100, reason_phrase="the gateway ends")  # H3_NO_ERROR, RFC 9114 §8.1
            for data, address in connection.quic.datagrams_to_send(now=self.context.time()):
                await self.send(RawData(data=data, address=address))
            await connection.task.stop()

    async def _handle_events(self, connection: Any, client: tuple[str, int] | None = None) -> None:
        cids: set[bytes] = connection.cids
        while (event := connection.quic.next_event()) is not None:
            if isinstance(event, ConnectionTerminated):
                await connection.task.stop()
                for cid in cids:
                    self.connections.pop(cid, None)
                cids.clear()
            elif isinstance(event, ProtocolNegotiated):
                connection.h3 = _Streams(
                    self.app,
                    self.config,
                    self.context,
                    self.task_group,
                    self.state,
                    client,
                    self.server,
                    connection.quic,
                    lambda: self.send_all(connection),
                )
            elif isinstance(event, ConnectionIdIssued):
                cids.add(event.connection_id)
                self.connections[event.connection_id] = connection
            elif isinstance(event, ConnectionIdRetired):
                cids.discard(event.connection_id)
                self.connections.pop(event.connection_id, None)
            if connection.h3 is not None:
                await connection.h3.handle(event)
        if cids:
            await self.send_all(connection)

    async def _handle_timer(self, timer: float, connection: Any) -> None:
        try:
            await super()._handle_timer(timer, connection)
        except Exception:
            logger.exception("a connection could not be kept")


class _Streams(H3Protocol):
    """The requests of one connection."""

    async def handle(self, quic_event: QuicEvent) -> None:
        """Hand what has come to its request. What comes for one that has been answered is dropped."""
        if isinstance(quic_event, StreamReset | StopSendingReceived):
            await self.leave([quic_event.stream_id])
        elif isinstance(quic_event, ConnectionTerminated):
            await self.leave(list(self.streams))
        for event in self.connection.handle_event(quic_event):
            if isinstance(event, HeadersReceived) and event.stream_id not in self.streams:
                await self._begin(event)
            stream = self.streams.get(getattr(event, "stream_id", -1))
            if stream is None:
                continue
            if isinstance(event, DataReceived) and event.data:
                await stream.handle(Body(stream_id=event.stream_id, data=event.data))
            if isinstance(event, DataReceived | HeadersReceived) and event.stream_ended:
                await stream.handle(EndBody(stream_id=event.stream_id))

    async def _begin(self, event: HeadersReceived) -> None:
        """A new request, unless the server ends or the request is none: WebSockets and tunnels are for HTTP/1.1."""
        about = dict(event.headers)
        if self.context.terminated.is_set():
            status = b"503"
        elif about.get(b":method", b"CONNECT").upper() == b"CONNECT" or not about.get(b":path", b"").isascii():
            status = b"400"
        else:
            await self._create_stream(event)
            return
        self.connection.send_headers(event.stream_id, [(b":status", status), (b"content-length", b"0")], end_stream=True)
        await self.send()

    async def leave(self, streams: Iterable[int]) -> None:
        """The client of these requests has left: so the application is told."""
        for number in streams:
            stream = self.streams.pop(number, None)
            if stream is not None:
                await stream.handle(StreamClosed(stream_id=number))

    async def stream_send(self, event: StreamEvent) -> None:
        """Send, unless the client has left."""
        if event.stream_id not in self.streams:
            return
        if isinstance(event, Response):
            event = replace(event, headers=[(name, value) for name, value in event.headers if name not in OF_CONNECTIONS])
        await super().stream_send(event)
