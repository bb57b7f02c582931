"""SSEEndpoint: the transport of 2024-11-05, for clients that know no other: a stream of events, and a path to post messages to.

    endpoint = SSEEndpoint(served, messages="/mcp/messages")
    ... Route("/mcp/sse", endpoint=endpoint.stream), Route("/mcp/messages", endpoint=endpoint.messages) ...

Above: the gateway, which serves it only where it is told to. What is served is what `MCPEndpoint` serves, and the same guards stand
in front. A session is its stream: it ends with that, and when the gateway drains.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import anyio
from mcp.server.sse import SseServerTransport
from starlette.responses import Response

from portico.mcp_bridge.serving.caller import PRINCIPAL, with_owner
from portico.mcp_bridge.serving.message_guard import MessageGuard
from portico.mcp_bridge.serving.server import build_server

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from portico.mcp_bridge.serving.served import Served


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
        self._open = Counter[str | None]()

    def open(self) -> None:
        """Serve (again)."""
        self._drained = asyncio.Event()

    def drain(self) -> None:
        """End every stream, and open no other."""
        self._drained.set()

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._drained.is_set():
            await Response("The MCP endpoint is about to stop.", status_code=503)(scope, receive, send)
            return
        client = scope.get("client")
        payer: str | None = scope.get(PRINCIPAL) or (client[0] if client else None)
        options = self._served.options
        if self._open[payer] >= options.sessions_per_caller:
            await Response("Too many open sessions of yours.", status_code=429)(scope, receive, send)
            return
        if self._open.total() >= options.max_sessions:
            await Response("Too many open sessions.", status_code=503)(scope, receive, send)
            return
        self._open[payer] += 1
        try:
            await self._session(with_owner(scope), receive, send)
        finally:
            self._open[payer] -= 1
            if not self._open[payer]:
                del self._open[payer]

    async def _session(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One stream. To drain is told to the SDK as the client's leaving: cancelled, it would leave its streams unclosed."""
        if self._prefix is not None:
            scope = {**scope, "root_path": self._prefix}
        response = _Open(send)
        leaving = _until(self._drained, receive)
        async with self._transport.connect_sse(scope, leaving, response.send) as (incoming, outgoing), incoming, outgoing:
            await self._server.run(incoming, outgoing, self._server.create_initialization_options())
        await response.end()

    async def _messages(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._posting(with_owner(scope), receive, send)


class _Application:
    """A method as an ASGI application: Starlette takes a bare function for one of requests."""

    def __init__(self, serve: ASGIApp) -> None:
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(scope, receive, send)


class _Open:
    """A response that may have begun, and not ended."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._is_open = False

    async def send(self, message: Message) -> None:
        self._is_open = message["type"] == "http.response.start" or bool(message.get("more_body", False))
        await self._send(message)

    async def end(self) -> None:
        """End it whole, where it is open."""
        if self._is_open:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})


def _until(drained: asyncio.Event, receive: Receive) -> Receive:
    """What a client says, until the gateway drains: then it has left."""

    async def receive_or_leave() -> Message:
        said: Message = {"type": "http.disconnect"}
        async with anyio.create_task_group() as tasks:

            async def hear() -> None:
                nonlocal said
                said = await receive()
                tasks.cancel_scope.cancel()

            tasks.start_soon(hear)
            await drained.wait()
            tasks.cancel_scope.cancel()
        return said

    return receive_or_leave
