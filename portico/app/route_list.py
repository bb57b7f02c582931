"""RouteList: what a gateway serves, as plain rows, and what a request passes on its way there.

For people to read, by `portico routes`. It serves nothing: it reads the compiled table and what FastAPI says of its own routes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from starlette.routing import Mount, Route, WebSocketRoute

from portico.operations.catalogue import default_routes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.app.application import Gateway

DECLARED: Final = "declared"
"""By `@route`, by the topology or by the settings."""
DEFAULT: Final = "default"
"""What every exposed agent has."""
GATEWAY: Final = "gateway"
"""The gateway's own."""


@dataclass(frozen=True, slots=True)
class RouteRow:
    """One route. What the gateway's own routes do not have is None or empty."""

    kind: str
    """`declared`, `default` or `gateway`."""
    method: str
    """`*` for any; `WS` for a WebSocket."""
    path: str
    """The template."""
    agent: str | None = None
    """Whom it asks."""
    operation: str | None = None
    """What it asks; of the gateway's own routes the operation id."""
    mode: str | None = None
    """`ask` or `send`."""
    timeout: float | None = None
    """Seconds that a call may take."""
    scopes: tuple[str, ...] = ()
    """What a caller needs to be allowed."""
    interceptors: tuple[str, ...] = ()
    """Around each of its calls, the outermost first."""


def routes_of(app: FastAPI) -> list[RouteRow]:
    """Every route of an application of `create_app`: the declared ones, the default ones, the gateway's own, each by path."""
    rows = [*_agent_rows(app.state.gateway), *_own_rows(app)]
    kinds = (DECLARED, DEFAULT, GATEWAY)
    return sorted(rows, key=lambda row: (kinds.index(row.kind), row.path, row.method))


def middleware_of(app: FastAPI) -> list[str]:
    """The ASGI middlewares that a request passes before it meets its route, the outermost first."""
    return [named(middleware.cls) for middleware in app.user_middleware]


def named(thing: Any) -> str:
    """The dotted path of a class or function; what is one already, itself."""
    if isinstance(thing, str):
        return thing
    name: str = getattr(thing, "__qualname__", type(thing).__qualname__)
    return f"{thing.__module__}.{name}"


def _agent_rows(gateway: Gateway) -> Iterator[RouteRow]:
    catalogue = gateway.dispatcher.catalogue
    default = {(spec.method, spec.path) for spec, _ in default_routes(catalogue)}
    for route in gateway.table:
        spec, endpoint = route.spec, route.endpoint
        limit = gateway.settings.run_timeout if spec.mode == "send" else gateway.settings.request_timeout
        yield RouteRow(
            DEFAULT if (spec.method, spec.path) in default else DECLARED,
            spec.method,
            spec.path,
            endpoint.agent,
            endpoint.operation.name,
            spec.mode,
            limit if spec.timeout is None or spec.mode == "send" else spec.timeout,
            tuple(sorted(endpoint.scopes)),
            tuple(map(named, endpoint.interceptors)),
        )


def _own_rows(app: FastAPI) -> Iterator[RouteRow]:
    described: set[str] = set()
    for path, item in FastAPI.openapi(app).get("paths", {}).items():
        described.add(path)
        for method, about in item.items():
            yield RouteRow(GATEWAY, method.upper(), path, operation=about["operationId"])
    for route in app.router.routes:
        match route:
            case Mount():
                yield RouteRow(GATEWAY, "GET", f"{route.path}/…")
            case WebSocketRoute():
                yield RouteRow(GATEWAY, "WS", route.path)
            case Route() if route.path not in described:
                for method in sorted((route.methods or {"*"}) - {"HEAD"}):
                    yield RouteRow(GATEWAY, method, route.path)
            case _:
                pass
