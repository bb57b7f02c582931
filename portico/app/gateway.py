"""HTTPGateway: the HTTP face as a process of the tree. It owns its socket and leaves signals to its host.

`Supervisor("root", children=[…, HTTPGateway("api", config=GatewayConfig(port=8080))])` serves the agents of its own runtime.
Stand it last among its siblings: it then stops first, and answers what is in flight while they still work.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from portico.app.settings import GatewayConfig
from portico.errors import StartError
from portico.kernel.process import AgentProcess

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from fastapi import FastAPI

    from portico.app.server import GatewayServer

STOP_MARGIN = 2.0
"""Seconds beyond `drain_timeout` for a stop: the server looks up ten times a second, and closes what is left."""


class HTTPGateway(AgentProcess):
    """Serves the agents of its runtime over HTTP and MCP.

    Args:
        name: its identity in the runtime.
        config: the settings; a mapping where it comes from YAML. By default 127.0.0.1:8080. Where they have no `api_key`, that of
            the environment counts: `PORTICO_API_KEY`.
        options: as of `AgentProcess`; `shutdown_timeout` is by default what the drain may take.

    Raises:
        ConfigurationError: settings that cannot be.
    """

    internal = True
    tag = "http"

    def __init__(self, name: str, config: GatewayConfig | Mapping[str, Any] | None = None, **options: Any) -> None:
        settings = config if isinstance(config, GatewayConfig) else GatewayConfig.from_mapping(config or {})
        options.setdefault("shutdown_timeout", settings.drain_timeout + STOP_MARGIN)
        super().__init__(name, **options)
        self.settings = settings
        self._socket: socket.socket | None = None
        self._server: GatewayServer | None = None
        self._ended = asyncio.Event()

    @property
    def port(self) -> int | None:
        """The port that is bound; None while it is not started."""
        return self._socket.getsockname()[1] if self._socket is not None else None

    async def on_start(self) -> None:
        """Binds the port and serves. When this returns, connections are accepted.

        Raises:
            ConfigurationError: the port is taken, or others would reach it without a key.
        """
        # The web framework is loaded here: importing this class does not.
        from portico.app.factory import create_app  # noqa: PLC0415
        from portico.app.loading import data_directory_of  # noqa: PLC0415  # it imports this module
        from portico.app.server import GatewayServer, bind  # noqa: PLC0415

        self.settings = self.settings.keyed(os.environ).with_keys_of(data_directory_of(self.router.runtime))
        self.settings.refuse_exposure()
        app = create_app(self.router.runtime, self.settings)
        self._socket = bind(self.settings)
        try:
            self._server = GatewayServer(app, self.settings, self._socket)
            self.start_task(self._serve(app, self._server), "serve")
            await self._server.accepting.wait()
            if not self._server.started:
                raise StartError(self.name, "its server ended before it served")
        except BaseException:
            self._close()
            raise

    async def on_stop(self) -> None:
        """Drains: no new calls, streams end, what is in flight is answered within `drain_timeout`."""
        if self._server is not None:
            self._server.should_exit = True
            await self._ended.wait()
        self._close()

    async def _serve(self, app: FastAPI, server: GatewayServer) -> None:
        try:
            async with app.router.lifespan_context(app):
                await server.serve()
        finally:
            self._ended.set()
            server.accepting.set()  # `on_start` learns that there is nothing to wait for

    def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
