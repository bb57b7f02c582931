"""HostGuard: refuses requests whose Host or Origin names somebody else.

A page on any site can make a browser send requests to 127.0.0.1 (DNS rebinding, cross-site requests); the two headers give it
away. Names are compared whole, and ports must be numbers: a prefix match would let `localhost:1.evil.example` in.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from portico.errors import ForeignHost
from portico.loopback import is_loopback
from portico.routes.exchange import header, respond_with_problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""The names of this machine."""

MOST_SEEN: Final = 1000
"""How many hosts are remembered, allowed or not."""
LONGEST: Final = 255
"""Characters of a host that is remembered (RFC 1035 §2.3.4)."""

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\[\]:/@?#\s]+)(?::(?P<port>[0-9]{1,5}))?")
_ORIGIN = re.compile(r"https?://(?P<host>[^/?#@]+)")


def is_foreign_page(scope: Scope) -> bool:
    """Whether a page has sent this that is neither of the host that is asked nor of this machine, wherever such pages may call."""
    origin = header(scope, b"origin")
    if origin is None:
        return False
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None or match["host"] == (header(scope, b"host") or "").lower():
        return match is None
    host = _HOST.fullmatch(match["host"])
    return host is None or host["name"] not in LOOPBACK


def is_asked_as_this_machine(scope: Scope) -> bool:
    """Whether the `Host` of a request is a name that only this machine has for itself.

    Any other may be a page's own, which lets its name lead here (DNS rebinding), or that of a proxy, which speaks for strangers.
    """
    match = _HOST.fullmatch(header(scope, b"host") or "")
    return match is not None and is_loopback(match["name"].strip("[]"))


class HostGuard:
    """ASGI middleware.

    Args:
        app: what it guards.
        allowed: names, each with or without a port; one without a port allows every port. None at all: every name, but only pages
            of the very host that is asked.
        origins: whole origins that may call beside those names; `*` is every origin.
    """

    def __init__(self, app: ASGIApp, allowed: Iterable[str], origins: Collection[str] = ()) -> None:
        self._app = app
        self._origins = frozenset(origin.lower() for origin in origins)
        self._allowed = frozenset(name.lower() for name in allowed)
        self._seen: dict[str, bool] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or refuse it."""
        if scope["type"] in ("http", "websocket"):
            error = self._objection(header(scope, b"host") or "", header(scope, b"origin"))
            if error is not None:
                await respond_with_problem(scope, send, error)
                return
        await self._app(scope, receive, send)

    def _objection(self, host: str, origin: str | None) -> ForeignHost | None:
        if self._allowed and not self._is_allowed(host):
            return ForeignHost("Host", host)
        if origin is not None and "*" not in self._origins and origin.lower() not in self._origins:
            match = _ORIGIN.fullmatch(origin)
            if match is None or not (self._is_allowed(match["host"]) if self._allowed else match["host"].lower() == host.lower()):
                return ForeignHost("Origin", origin)
        return None

    def _is_allowed(self, host: str) -> bool:
        verdict = self._seen.get(host)
        if verdict is None:
            match = _HOST.fullmatch(host.lower())
            verdict = match is not None and (match["name"] in self._allowed or match[0] in self._allowed)
            if len(self._seen) < MOST_SEEN and len(host) <= LONGEST:  # strangers choose these strings
                self._seen[host] = verdict
        return verdict
