"""RouteTemplates: from the route that served a request to its template, such as `/runs/{run_id}`.

The agent table leaves its `RouteSpec` in the scope as `route`, FastAPI its route object, without the prefixes of its routers, and
Starlette the endpoint alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.routing import iter_route_contexts
from starlette.routing import Route

from portico.operations.operation import RouteSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute
    from starlette.types import Scope


class RouteTemplates:
    """Those of one application. `routes`: of its own router; looked through at the first request, when all are there."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = routes
        self._paths: dict[int, str | None] | None = None

    def __call__(self, scope: Scope) -> str | None:
        """The template of the route in a scope; None where none has taken the request."""
        route: BaseRoute | RouteSpec | None = scope.get("route")
        if isinstance(route, RouteSpec):
            return route.path
        if self._paths is None:
            self._paths = {id(context.original_route): context.path for context in iter_route_contexts(self._routes)}
            plain = (one for one in self._routes if type(one) is Route)
            self._paths.update((id(one.endpoint), one.path) for one in plain)
        return self._paths.get(id(route if route is not None else scope.get("endpoint")))
