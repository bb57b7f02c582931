"""AccessLog: one line of JSON for every request and every WebSocket, written at its end, on the logger `portico.access`.

Around all middlewares but the spans, so that it sees what the client sees. It never writes credentials, bodies or queries.
Everything beyond ASCII and every control character is escaped: no path and no user agent can break a line, or a terminal.
"""

from __future__ import annotations

import json
import logging
from time import perf_counter, time
from typing import TYPE_CHECKING, Any, Final

from portico.audit.watches import trace_of
from portico.routes.exchange import CALL, ENDPOINT, PRINCIPAL, REQUEST_ID, header
from portico.runs.run_view import rfc3339
from portico.telemetry.log_context import trace_here

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("portico.access")

LONGEST: Final = 1024
"""Characters of a path or a user agent that are written."""
SWITCHING: Final = 101
"""The status of a WebSocket that was accepted (RFC 6455 §4.2.2)."""
FORBIDDEN: Final = 403
"""The status of one that was not (ASGI, WebSocket connection scope)."""


class Exchanged:
    """What went to and fro on one connection."""

    __slots__ = ("received", "sent", "status")

    def __init__(self) -> None:
        self.status: int | None = None
        self.received = 0
        """Bytes of bodies or frames."""
        self.sent = 0

    def came(self, message: Message) -> None:
        """Something came from the client."""
        self.received += len(message.get("body") or message.get("bytes") or (message.get("text") or "").encode())

    def goes(self, message: Message) -> None:
        """Something goes to the client."""
        kind = message["type"]
        if kind in ("http.response.body", "websocket.http.response.body"):
            self.sent += len(message.get("body") or b"")
        elif kind in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
        elif kind == "websocket.send":
            self.sent += len(message.get("bytes") or (message.get("text") or "").encode())
        elif kind == "websocket.accept":
            self.status = SWITCHING
        elif kind == "websocket.close" and self.status is None:
            self.status = FORBIDDEN


class AccessLog:
    """ASGI middleware. `template`: from the route in a scope to its template."""

    def __init__(self, app: ASGIApp, template: Callable[[Scope], str | None]) -> None:
        self._app = app
        self._template = template

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, and write its line."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        at, begun, exchanged = time(), perf_counter(), Exchanged()

        async def receiving() -> Message:
            message = await receive()
            exchanged.came(message)
            return message

        async def sending(message: Message) -> None:
            exchanged.goes(message)
            await send(message)

        try:
            await self._app(scope, receiving, sending)
        finally:
            logger.info("%s", self._line(scope, exchanged, at, perf_counter() - begun))

    def _line(self, scope: Scope, exchanged: Exchanged, at: float, seconds: float) -> str:
        call = scope.get(CALL)
        endpoint = call.endpoint if call is not None else scope.get(ENDPOINT)
        run = call.run if call is not None else None
        client = scope.get("client")
        about: dict[str, Any] = {
            "time": rfc3339(at, "milliseconds"),
            "request_id": scope.get(REQUEST_ID),
            "run_id": run.run_id if run is not None else _asked_about(scope),
            "trace_id": trace_here() or trace_of(header(scope, b"traceparent")),
            "method": scope.get("method", "GET"),
            "path": scope["path"][:LONGEST],
            "route": self._template(scope),
            "status": exchanged.status,
            "duration_ms": round(seconds * 1000, 3),
            "bytes_in": exchanged.received,
            "bytes_out": exchanged.sent,
            "client": client[0] if client else None,
            "principal": scope.get(PRINCIPAL),
            "agent": endpoint.agent if endpoint is not None else None,
            "operation": endpoint.operation.name if endpoint is not None else None,
            "user_agent": (header(scope, b"user-agent") or "")[:LONGEST] or None,
            "protocol": f"HTTP/{scope.get('http_version', '1.1')}" if scope["type"] == "http" else "WebSocket",
        }
        return json.dumps(about).replace("\x7f", "\\u007f")


def _asked_about(scope: Scope) -> str | None:
    """The run that a path names, where the request has made none."""
    named: str | None = scope.get("path_params", {}).get("run_id")
    return named[:LONGEST] if named is not None else None
