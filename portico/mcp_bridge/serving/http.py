"""MCPEndpoint: the MCP server as an ASGI application for exactly one path, both protocol eras.

    endpoint = MCPEndpoint(dispatcher, allowed_hosts=None)
    async with endpoint.lifespan():                     # in the application's lifespan, each time anew
        ... Route("/mcp", endpoint=endpoint) ...        # a Route, not a mount: a mount answers 307

Who may come in is decided in one place: by the guard in front (`allowed_hosts=None`: the gateway's HostGuard, for every route
alike), or, where there is none, here by exact comparison. Authentication stands in front too and leaves the principal in the scope.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.requests import Request
from starlette.responses import Response

from portico.errors import ConfigurationError
from portico.mcp_bridge.serving.caller import with_owner
from portico.mcp_bridge.serving.direct import Direct
from portico.mcp_bridge.serving.message_guard import MessageGuard
from portico.mcp_bridge.serving.served import Served
from portico.mcp_bridge.serving.server import build_server
from portico.mcp_bridge.serving.sessions import Sessions
from portico.mcp_bridge.serving.stepping_up import SteppingUp

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, MutableMapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from portico.mcp_bridge.serving.options import ServingOptions
    from portico.runs.dispatcher import Dispatcher

logger = logging.getLogger("portico.mcp")


class MCPEndpoint:
    """ASGI application.

    Args:
        dispatcher: the one door.
        allowed_hosts: the values of `Host` that are served, each with its port as clients write it; an `Origin` must be one of them
            after `http://` or `https://`. None: a guard in front has decided.
        options: the settings of the server.
        metadata_url: from a request's scope to where its client finds out how to get a token (RFC 9728); None where no tokens are
            taken.

    Raises:
        ConfigurationError: an allowed host with a wildcard.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        allowed_hosts: Iterable[str] | None,
        options: ServingOptions | None = None,
        metadata_url: Callable[[MutableMapping[str, Any]], str | None] | None = None,
    ) -> None:
        self.served = Served(dispatcher, options)
        self._stepping_up = SteppingUp(self.served, metadata_url) if metadata_url is not None else None
        self._security = _security(allowed_hosts)
        self._own_guard = allowed_hosts is not None
        self._hosts = None if allowed_hosts is None else frozenset(host.encode("latin-1") for host in self._security.allowed_hosts)
        self._manager: StreamableHTTPSessionManager | None = None
        self._sessions: Sessions | None = None
        self._direct: Direct | None = None
        self._drained = asyncio.Event()

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Serve for as long as it is entered; outside, every request is answered 503. Enter and leave it in one task."""
        server, options = build_server(self.served), self.served.options
        manager = StreamableHTTPSessionManager(
            server,
            security_settings=self._security,
            session_idle_timeout=None,
            max_request_body_size=options.body_limit,
        )
        sessions = Sessions(server, options, self._security)
        self._drained = asyncio.Event()
        async with manager.run(), sessions.running():
            self._manager, self._sessions = manager, sessions
            self._direct = Direct(self.served, server, sessions, self._hosts) if options.direct else None
            try:
                with self.served.watching():
                    yield
            finally:
                self._manager = self._sessions = self._direct = None
                self.drain()

    def drain(self) -> None:
        """End the streams that clients hold open for news; call it before the server waits for them. Calls go on."""
        self._drained.set()
        self.served.news.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self._direct is not None and scope["method"] == "POST":
            source = await self._direct.serve(scope, receive, send)
            if source is None:
                return
            receive = source
        scope = _trimmed(scope)
        refusal = await TransportSecurityMiddleware(self._security).validate_request(Request(scope)) if self._own_guard else None
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        manager, sessions = self._manager, self._sessions
        if manager is None or sessions is None or (self._drained.is_set() and scope["method"] == "GET"):
            await Response("The MCP endpoint is not running, or is about to stop.", status_code=503)(scope, receive, send)
            return
        handle = sessions.handle if _is_legacy(scope) else manager.handle_request
        if scope["method"] == "GET":
            await self._stream(handle, scope, receive, send)
        else:
            judge = self._stepping_up.judge if self._stepping_up is not None else None
            await MessageGuard(handle, self.served.options.body_limit, judge)(with_owner(scope), receive, send)

    async def _stream(self, handle: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """A stream that has no end of its own: it ends whole when the gateway drains, so that no client holds up the stop."""
        open_response = False

        async def watched(message: Message) -> None:
            nonlocal open_response
            open_response = message["type"] == "http.response.start" or bool(message.get("more_body", False))
            await send(message)

        async with anyio.create_task_group() as tasks:

            async def serve() -> None:
                await handle(with_owner(scope), receive, watched)
                tasks.cancel_scope.cancel()

            tasks.start_soon(serve)
            await self._drained.wait()
            tasks.cancel_scope.cancel()
        if open_response:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _trimmed(scope: Scope) -> Scope:
    """Whitespace around a header's value is no part of it (RFC 9110 §5.5); servers below leave what stands at its end."""
    headers: list[tuple[bytes, bytes]] = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
    return scope if headers == scope["headers"] else {**scope, "headers": headers}


def _is_legacy(scope: Scope) -> bool:
    """Whether a request speaks the old era, as the SDK tells them apart: by the version in its header, or that it has none."""
    version = next((value for name, value in scope["headers"] if name == b"mcp-protocol-version"), None)
    return version is None or version.decode("latin-1") in HANDSHAKE_PROTOCOL_VERSIONS


def _security(allowed_hosts: Iterable[str] | None) -> TransportSecuritySettings:
    if allowed_hosts is None:
        return TransportSecuritySettings(enable_dns_rebinding_protection=False)
    hosts = list(allowed_hosts)
    for host in hosts:
        if host.endswith(":*"):
            raise ConfigurationError(f"The allowed host {host!r} has a wildcard: hosts are compared whole, so give its port.")
    origins = [f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")]
    return TransportSecuritySettings(enable_dns_rebinding_protection=True, allowed_hosts=hosts, allowed_origins=origins)
