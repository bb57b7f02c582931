"""Cors: lets pages of named origins call the gateway from a browser (the Fetch standard's CORS protocol).

In front of the other guards, where an origin is named at all: a preflight carries no credentials, so it is answered before
anybody asks for some, and refusals are readable for the page too. It lets nobody in who has no key; `HostGuard` refuses origins
that are not named here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from portico.operations.decorators import METHODS
from portico.routes.exchange import header

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

EXPOSED: Final = (
    "Agent-Attempt",
    "Agent-Incarnation",
    "Allow",
    "Content-Disposition",
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "MCP-Protocol-Version",
    "Mcp-Session-Id",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "traceparent",
    "WWW-Authenticate",
    "X-Overhead-Ms",
    "X-Request-ID",
)
"""What a page may read of a response, beside the few headers that it always may."""
ALLOWED: Final = (
    "Accept",
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "MCP-Protocol-Version",
    "Mcp-Session-Id",
    "Prefer",
    "Request-Timeout",
    "traceparent",
    "tracestate",
    "X-API-Key",
    "X-Request-ID",
)
"""What a page may send where its preflight names nothing."""
MAX_AGE: Final = 7200
"""Seconds that a browser remembers a preflight; the most that Chromium does."""

_NAMES: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:\s*,\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
"""A list of header names (RFC 9110 §5.6.2)."""


class Cors:
    """ASGI middleware.

    Args:
        app: what it stands in front of.
        origins: as browsers send them; `*` is every one.
        credentials: browsers may show the user's client certificate. Never together with `*`.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str], *, credentials: bool = False) -> None:
        self._app = app
        self._origins = frozenset(origin.lower() for origin in origins)
        self._every = "*" in origins and not credentials
        allowed = [(b"access-control-allow-credentials", b"true")] if credentials else []
        self._of_responses = [*allowed, (b"access-control-expose-headers", ", ".join(EXPOSED).encode("ascii"))]
        self._of_preflights = [
            *allowed,
            (b"access-control-allow-methods", ", ".join([*METHODS, "HEAD"]).encode("ascii")),
            (b"access-control-max-age", b"%d" % MAX_AGE),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight, or serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin = header(scope, b"origin")
        who = self._allowed(origin)
        if who is not None and scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method") is not None:
            await self._answer(scope, send, who)
            return
        added = [(b"access-control-allow-origin", who), *self._of_responses] if who is not None else []
        if not self._every:
            added.append((b"vary", b"Origin"))  # also where there is none: a cache must not give this response to a page

        def sending(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            return send(message)

        await self._app(scope, receive, sending)

    def _allowed(self, origin: str | None) -> bytes | None:
        """What `Access-Control-Allow-Origin` says; None where it is not there."""
        if origin is None:
            return None
        if self._every:
            return b"*"
        return origin.encode("latin-1") if origin.lower() in self._origins else None

    async def _answer(self, scope: Scope, send: Send, who: bytes) -> None:
        """Which headers a route takes depends on its contract, so those that are asked for are allowed."""
        asked = header(scope, b"access-control-request-headers") or ""
        names = asked if _NAMES.fullmatch(asked) else ", ".join(ALLOWED)
        headers = [
            (b"access-control-allow-origin", who),
            *self._of_preflights,
            (b"access-control-allow-headers", names.encode("ascii")),
            (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
        ]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
