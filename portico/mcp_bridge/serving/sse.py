"""SSEEndpoint: the transport of 2024-11-05, for clients that know no other: a stream of events, and a path to post messages to.

    endpoint = SSEEndpoint(served, messages="/mcp/messages")
    ... Route("/mcp/sse", endpoint=endpoint.stream), Route("/mcp/messages", endpoint=endpoint.messages) ...

Above: the gateway, which serves it only where it is told to. What is served is what `MCPEndpoint` serves, and the same guards stand
in front. A session is its stream: it ends with that, and when the gateway drains.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from mcp.server.sse import SseServerTransport
from starlette.responses import Response

from portico.mcp_bridge.serving.caller import with_owner
from portico.mcp_bridge.serving.message_guard import MessageGuard
from portico.mcp_bridge.serving.open_stream import serve_until
from portico.mcp_bridge.serving.server import build_server

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from portico.mcp_bridge.serving.served import Served

MAX_STREAMS: Final = 1000
"""Sessions at once."""


class SSEEndpoint:
    """Two ASGI applications.

    Args:
        served: what is served.
        messages: the path of the second.
        prefix: what clients write before the gateway's paths; None for where it is mounted.
    """

    def __init__(self, served: Served, messages: str, prefix: str | None = None) -> None:
        self.stream = _Application(self._stream)
        self.messages = _Application(self._messages)
        self._served = served
        self._prefix = prefix
        self._server = build_server(served)
        self._transport = SseServerTransport(messages, max_request_body_size=served.options.body_limit)
        self._posting = MessageGuard(self._transport.handle_post_message, served.options.body_limit)
        self._drained = asyncio.Event()
        self._drained.set()
        self._open = 0

    def open(self) -> None:
        """Serve (again)."""
        self._drained = asyncio.Event()

    def drain(self) -> None:
        """End every stream, and open no other."""
        self._drained.set()

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._drained.is_set() or self._open >= MAX_STREAMS:
            reason = "is about to stop" if self._drained.is_set() else "has too many clients"
            await Response(f"The MCP endpoint {reason}.", status_code=503)(scope, receive, send)
            return
        self._open += 1
        try:
            await serve_until(self._drained, self._session, with_owner(scope), receive, send)
        finally:
            self._open -= 1

    async def _session(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._prefix is not None:
            scope = {**scope, "root_path": self._prefix}
        async with self._transport.connect_sse(scope, receive, send) as (incoming, outgoing):
            await self._server.run(incoming, outgoing, self._server.create_initialization_options())

    async def _messages(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._posting(with_owner(scope), receive, send)


class _Application:
    """A method as an ASGI application: Starlette takes a bare function for one of requests."""

    def __init__(self, serve: ASGIApp) -> None:
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(scope, receive, send)
