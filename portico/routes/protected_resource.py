"""`/.well-known/oauth-protected-resource`: how a client finds out where to get a token (RFC 9728). MCP clients begin here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Request

from portico.auth.principal import ADMIN
from portico.errors import RouteNotFound
from portico.routes.exchange import header, prefix, route_path

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from portico.operations.catalogue import Catalogue

PATH: Final = "/.well-known/oauth-protected-resource"

_HOST: Final = re.compile(r"[A-Za-z0-9.\-_\[\]:]{1,255}")
"""A Host that may be repeated: what else it has could end the quotes around it."""


class ProtectedResource:
    """What the gateway says of itself to clients that need a token.

    Args:
        catalogue: whose scopes are offered.
        issuer: who issues the tokens.
        name: what the gateway is called.
        public_url: what clients call the gateway; None: what each request says.
        paths: of the resources below it that have a description of their own, such as `/mcp`.
    """

    def __init__(self, catalogue: Catalogue, *, issuer: str, name: str, public_url: str | None, paths: tuple[str, ...]) -> None:
        self._catalogue = catalogue
        self._issuer = issuer
        self._name = name
        self._public_url = public_url.rstrip("/") if public_url is not None else None
        self._paths = paths

    @property
    def open_paths(self) -> list[str]:
        """Where it is served."""
        return [PATH, *(PATH + path for path in self._paths)]

    def url(self, scope: MutableMapping[str, Any]) -> str | None:
        """Where the description of what a request asks for is; None where the request does not say whom it calls."""
        base = self._base(scope)
        path = route_path(scope)
        return f"{base}{PATH}{path if path in self._paths else ''}" if base is not None else None

    def scopes(self, scope: MutableMapping[str, Any]) -> list[str]:
        """What a client should ask for that wants to use what a request asks for: of MCP, what its tools need, and no more.

        A client that is told nothing asks for all that the description offers (MCP 2025-11-25, authorization), `admin` too.
        """
        if route_path(scope) not in self._paths:
            return []
        return sorted(set[str]().union(*(endpoint.scopes for endpoint in self._catalogue.tools.values())))

    def described(self, scope: MutableMapping[str, Any], path: str) -> dict[str, Any]:
        """The description (RFC 9728 §2) of the gateway, or of one of its paths. Raises `RouteNotFound` for any other."""
        base = self._base(scope)
        if base is None or (path and path not in self._paths):
            raise RouteNotFound(route_path(scope))
        return {
            "resource": base + path,
            "resource_name": self._name,
            "authorization_servers": [self._issuer],
            "bearer_methods_supported": ["header"],
            "scopes_supported": self._scopes(),
        }

    def _base(self, scope: MutableMapping[str, Any]) -> str | None:
        if self._public_url is not None:
            return self._public_url
        host = header(scope, b"host") or ""
        if _HOST.fullmatch(host) is None:
            return None
        scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
        return f"{scheme}://{host}{prefix(scope)}"

    def _scopes(self) -> list[str]:
        routed = (endpoint for _, endpoint in self._catalogue.routes)
        return sorted({ADMIN}.union(*(endpoint.scopes for endpoint in (*self._catalogue, *routed))))


def protected_resource_router(resource: ProtectedResource | None) -> APIRouter:
    """The routes. None: no tokens are taken, so there is nothing to describe."""
    router = APIRouter(tags=["authentication"])

    @router.get(PATH, include_in_schema=False)
    @router.get(PATH + "/{path:path}", include_in_schema=False)
    async def describe(request: Request, path: str = "") -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        """Who issues the tokens that are taken here, and which scopes there are."""
        if resource is None:
            raise RouteNotFound(route_path(request.scope))
        return resource.described(request.scope, f"/{path}" if path else "")

    return router
