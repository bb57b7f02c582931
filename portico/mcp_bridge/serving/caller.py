"""Who calls, and with which trace: from what a request of MCP carries to a `Call`.

Authentication stands in front and leaves the principal in the scope of the HTTP request; over stdio there is none of both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken

from portico.mcp_bridge.serving.input_requests import answerable
from portico.runs.call import Call
from portico.traceparent import well_formed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.connection import Connection
    from mcp.server.context import ServerRequestContext
    from starlette.types import Scope

    from portico.operations.catalogue import Endpoint

PRINCIPAL = "portico.principal"
"""The ASGI scope key under which authentication leaves who calls: a string, or None."""
SCOPES = "portico.scopes"
"""The ASGI scope key of what the caller may do: a frozenset of strings, or None where the gateway knows no callers."""
REQUEST_ID = "portico.request_id"
"""The ASGI scope key of the request's id."""


def call_of(endpoint: Endpoint, payload: Any, context: ServerRequestContext[Any], *, timeout: float) -> Call:
    """The call that a request makes. `timeout`: seconds that it may take."""
    scope = scope_of(context)
    client = scope.get("client")
    return Call(
        endpoint,
        payload,
        timeout=timeout,
        principal=scope.get(PRINCIPAL),
        scopes=scope.get(SCOPES),
        address=client[0] if client else None,
        face="mcp",
        request_id=scope.get(REQUEST_ID),
        traceparent=traceparent_of(cast("Mapping[str, Any] | None", context.meta)),
        answerable=answerable(context.session.client_capabilities),
    )


def principal_of(context: ServerRequestContext[Any]) -> str | None:
    """Who calls, where the gateway knows."""
    return scope_of(context).get(PRINCIPAL)


def scopes_of(context: ServerRequestContext[Any]) -> frozenset[str] | None:
    """What the caller may do; None where the gateway knows no callers, and then everything."""
    return scope_of(context).get(SCOPES)


def scope_of(context: ServerRequestContext[Any]) -> Mapping[str, Any]:
    """The scope of the HTTP request; empty over stdio."""
    return context.request.scope if context.request is not None else {}


def is_known(context: ServerRequestContext[Any]) -> bool:
    """Whether the gateway knows who calls, so that what it answers is for that one alone."""
    scope = scope_of(context)
    return scope.get(PRINCIPAL) is not None or scope.get(SCOPES) is not None


def traceparent_of(meta: Mapping[str, Any] | None) -> str | None:
    """The caller's trace context, where it is well formed."""
    value = (meta or {}).get("traceparent")
    return well_formed(value) if isinstance(value, str) else None


def connection_of(context: ServerRequestContext[Any]) -> Connection:
    """The SDK makes a session for each message; what lasts is the connection below, which it shows to nobody."""
    return context.session._connection  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def with_owner(scope: Scope) -> Scope:
    """A scope in which the SDK finds who calls: it binds a session to who opened it; for everybody else it does not exist."""
    principal: str | None = scope.get(PRINCIPAL)
    if principal is None:
        return scope
    # The SDK asks for a token's owner and what it may do, not for the token.
    scopes: list[str] = sorted(scope.get(SCOPES) or ())
    return {**scope, "user": AuthenticatedUser(AccessToken(token="", client_id=principal, scopes=scopes))}
