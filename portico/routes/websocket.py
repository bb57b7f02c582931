"""AgentSockets: `/agents/{name}/ws`, the WebSocket of every exposed agent (RFC 6455). Accepts a handshake, or refuses it.

A refusal is a problem, as any other response, by ASGI's extension for it. Above: the agent table. Below: the session.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from portico.errors import Draining, PorticoError, RouteNotFound
from portico.operations.operation import RouteSpec
from portico.routes.address import SLASH
from portico.routes.exchange import respond_with_problem, route_path
from portico.routes.socket_session import SocketSession

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from portico.routes.face import Face

_PATH: Final = re.compile(r"/agents/([^/]+)/ws")


class AgentSockets:
    """Serves them all."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self.spec = RouteSpec("GET", "/agents/{name}/ws")
        """For telemetry."""

    def find(self, path: str) -> str | None:
        """The name of the agent whose WebSocket that is; None where the path, with `SLASH` in it, is something else."""
        match = _PATH.fullmatch(path)
        return match[1].replace(SLASH, "/") if match is not None else None

    async def serve(self, scope: Scope, receive: Receive, send: Send, agent: str) -> None:
        """Serve one connection."""
        await receive()  # `websocket.connect`
        try:
            self._face.dispatcher.catalogue.check(agent)
            if self._face.drained.is_set():
                raise Draining
        except PorticoError as error:
            await respond_with_problem(scope, send, error)
            return
        await SocketSession(scope, receive, send, self._face, agent).serve()


def refusing_sockets(default: ASGIApp) -> ASGIApp:
    """What an application does with a path that it does not serve; a WebSocket there is refused with a problem."""

    async def unserved(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await default(scope, receive, send)
            return
        await receive()  # `websocket.connect`
        await respond_with_problem(scope, send, RouteNotFound(route_path(scope)))

    return unserved
