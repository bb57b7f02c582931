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

from portico.app.protocol import protocol_of
from portico.app.stalled import cut_stalled
from portico.app.websocket_protocol import WebSocketProtocol
from portico.errors import ConfigurationError

if TYPE_CHECKING:
    import signal
    from collections.abc import Generator

    from fastapi import FastAPI

    from portico.app.settings import GatewayConfig

logger = logging.getLogger("portico")


def bind(settings: GatewayConfig) -> socket.socket:
    """A listening socket on the settings' address. Raises `ConfigurationError` where the address cannot be had."""
    where = f"{settings.host}:{settings.port}"
    try:
        infos = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigurationError(f"The address {where} cannot be resolved: {error.strerror}.") from None
    family, kind, protocol, _, address = infos[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
        listener.setblocking(False)  # the socket module's own signature
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            text = f"The port {settings.port} of {settings.host} is taken. Choose another with --port, or 0 for any."
        else:
            text = f"The address {where} cannot be bound: {error.strerror}."
        raise ConfigurationError(text) from None
    return listener


class GatewayServer(uvicorn.Server):
    """Serves one application on one socket, until it is told to stop.

    The application's lifespan is not run here: whoever owns the runtime runs it. Signals stay with the host, unless it says
    `with server.heeding_signals()`.
    """

    def __init__(self, app: FastAPI, settings: GatewayConfig, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                http=protocol_of(settings.read_timeout),
                ssl_certfile=settings.tls_cert,
                ssl_keyfile=settings.tls_key,
                timeout_graceful_shutdown=max(1, int(settings.drain_timeout)),
                ws=WebSocketProtocol,
                ws_max_size=settings.body_limit,
                ws_ping_interval=settings.ping,
                ws_per_message_deflate=False,  # two zlib states per connection, for frames that are short
            )
        )
        try:
            self.config.load()
        except OSError as error:  # also what ssl raises
            files = f"{settings.tls_cert} and {settings.tls_key}"
            raise ConfigurationError(f"The TLS files {files} cannot be used: {error.strerror or error}.") from None
        self.accepting = asyncio.Event()
        self._listener = listener
        self._gateway = app.state.gateway

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Until `should_exit`, or a signal where signals are ours."""
        await super().serve([self._listener] if sockets is None else sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """The same as uvicorn's, after which connections are accepted."""
        await super().startup(sockets)
        self.accepting.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the streams end first: one of them would hold everything up for the whole grace time."""
        self._gateway.face.drain()
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
