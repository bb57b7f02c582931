"""The server: uvicorn around the gateway's application, with a port that is bound before anything starts, and a drain.

Order of a shutdown: readiness flips and no new call is taken, open streams get their last event, requests in flight are
answered; then the tree stops. All within bounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from portico.app.peer_protocol import PeerProtocol
from portico.app.protocol import GatewayProtocol, protocol_of
from portico.app.stalled import cut_stalled
from portico.app.tls import tls_context
from portico.app.websocket_protocol import WebSocketProtocol
from portico.errors import ConfigurationError, MissingExtra

if TYPE_CHECKING:
    import signal
    import ssl
    from collections.abc import Callable, Generator

    from fastapi import FastAPI

    from portico.app.http3 import Http3Server
    from portico.app.settings import GatewayConfig

logger = logging.getLogger("portico")

LAST_WORDS = 0.5
"""Seconds that a client which has just connected gets for its request when the server ends."""
ALTERNATIVE_AGE = 86_400
"""Seconds for which clients may remember that there is HTTP/3."""


def bind(settings: GatewayConfig) -> socket.socket:
    """A listening socket on the settings' address. Raises `ConfigurationError` where the address cannot be had.

    And where others would reach it without a key: only now it is known what a name stands for.
    """
    return _bound(settings, settings.port, socket.SOCK_STREAM)


def bind_quic(settings: GatewayConfig, port: int) -> socket.socket:
    """A UDP socket for HTTP/3, on the same address; `port` is that of TCP. Raises `ConfigurationError` where it cannot be had."""
    return _bound(settings, port if settings.port_quic is None else settings.port_quic, socket.SOCK_DGRAM)


def _bound(settings: GatewayConfig, port: int, kind: socket.SocketKind) -> socket.socket:
    where = f"{settings.host}:{port}"
    try:
        infos = socket.getaddrinfo(settings.host or None, port, type=kind, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no name"
        raise ConfigurationError(f"The address {where} cannot be resolved: {reason}.") from None
    family, kind, protocol, _, address = infos[0]
    settings.refuse_exposure(str(address[0]))
    listener = socket.socket(family, kind, protocol)
    try:
        if kind is socket.SOCK_STREAM:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        if kind is socket.SOCK_STREAM:
            listener.listen(2048)
        listener.setblocking(False)  # the socket module's own signature
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            text = f"The port {port} of {settings.host} is taken. Choose another with --port, or 0 for any."
            if kind is socket.SOCK_DGRAM:
                text = f"The UDP port {port} of {settings.host} is taken. Choose another with port_quic, or 0 for any."
        else:
            text = f"The address {where} cannot be bound: {error.strerror}."
        raise ConfigurationError(text) from None
    return listener


def http3_server() -> type[Http3Server]:
    """The server of HTTP/3. Raises `MissingExtra` where its library is not installed."""
    try:
        from portico.app.http3 import Http3Server  # noqa: PLC0415  # only where it is wanted
    except ImportError as error:
        raise MissingExtra("HTTP/3", "http3") from error
    return Http3Server


def check_server(settings: GatewayConfig) -> None:
    """Raises what `GatewayServer` would for its settings: `ConfigurationError`, `MissingExtra`. Opens no socket."""
    tls_context(settings)
    if settings.enable_http3:
        http3_server()


def _giving(context: ssl.SSLContext) -> Callable[[uvicorn.Config, Callable[[], ssl.SSLContext]], ssl.SSLContext]:
    """Uvicorn asks for its context this way."""

    def give(_: uvicorn.Config, __: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        return context

    return give


class GatewayServer(uvicorn.Server):
    """Serves one application on one socket, until it is told to stop.

    The application's lifespan is not run here: whoever owns the runtime runs it. Signals stay with the host, unless it says
    `with server.heeding_signals()`.
    """

    def __init__(self, app: FastAPI, settings: GatewayConfig, listener: socket.socket) -> None:
        context = tls_context(settings)
        self._stopping = asyncio.Event()
        self._quic: socket.socket | None = None
        self._http3: Http3Server | None = None
        if settings.enable_http3:
            kind = http3_server()
            self._quic = bind_quic(settings, listener.getsockname()[1])
            self._http3 = kind(app, settings, self._quic)
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                http=protocol_of(settings.read_timeout, GatewayProtocol if settings.client_cert_mode == "none" else PeerProtocol),
                ssl_context_factory=_giving(context) if context is not None else None,
                timeout_graceful_shutdown=max(1, int(settings.drain_timeout)),
                ws=WebSocketProtocol,
                ws_max_size=settings.body_limit,
                ws_ping_interval=settings.ping,
                ws_per_message_deflate=False,  # two zlib states per connection, for frames that are short
                headers=self._alternatives(),
            )
        )
        self.config.load()
        self.accepting = asyncio.Event()
        self._listener = listener
        self._gateway = app.state.gateway

    def _alternatives(self) -> list[tuple[str, str]]:
        """Where else the gateway is (RFC 7838)."""
        if self._quic is None:
            return []
        return [("alt-svc", f'h3=":{self._quic.getsockname()[1]}"; ma={ALTERNATIVE_AGE}')]

    def close(self) -> None:
        """Let go of the sockets: also where `serve` never ran."""
        self._listener.close()
        if self._quic is not None:
            self._quic.close()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Until `should_exit`, or a signal where signals are ours."""
        async with asyncio.TaskGroup() as group:
            if self._http3 is not None:
                group.create_task(self._http3.serve(self._stopping))
            try:
                await super().serve([self._listener] if sockets is None else sockets)
            finally:
                self._stopping.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """The same as uvicorn's, after which connections are accepted."""
        await super().startup(sockets)
        self.accepting.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the streams end first: one of them would hold everything up for the whole grace time.

        And before that, hear out who has connected and not asked yet: their request may be on its way.
        """
        for server in self.servers:
            server.close()
        until = asyncio.get_running_loop().time() + LAST_WORDS
        while asyncio.get_running_loop().time() < until and any(  # noqa: ASYNC110  # uvicorn tells nobody
            isinstance(one, GatewayProtocol) and one.silent for one in self.server_state.connections
        ):
            await asyncio.sleep(0.02)
        self._gateway.face.drain()
        self._stopping.set()
        async with asyncio.TaskGroup() as group:
            cutting = group.create_task(cut_stalled(self._transports))
            await super().shutdown(sockets)
            cutting.cancel()

    def _transports(self) -> list[asyncio.Transport]:
        return [connection.transport for connection in list(self.server_state.connections)]

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Nothing, where uvicorn takes all signals while it serves: ours are heeded for longer, or by somebody else."""
        yield

    @contextlib.contextmanager
    def heeding_signals(self) -> Generator[None]:
        """Ctrl-C and SIGTERM are ours, also while the tree starts or stops: one drains, another ends the process."""
        loop = asyncio.get_running_loop()
        for number in HANDLED_SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)
        try:
            yield
        finally:
            for number in HANDLED_SIGNALS:
                loop.remove_signal_handler(number)

    def _signalled(self, number: signal.Signals) -> None:
        if self.should_exit:
            logger.warning("ended at once by a second signal")
            logging.shutdown()
            os._exit(128 + number)  # whoever asks twice does not want to wait for anything that might be stuck
        self.should_exit = True
