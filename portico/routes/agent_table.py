"""AgentTable: every route to an agent, compiled, in front of FastAPI's own router and behind the middlewares.

A request whose path and method are in the table is answered here; everything else goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.errors import ConfigurationError
from portico.operations.catalogue import GATEWAY_PATHS, default_routes
from portico.routes.agent_route import AgentRoute
from portico.routes.exchange import route_path
from portico.routes.parameters import path_pattern
from portico.routes.run_events import RunEvents
from portico.routes.websocket import AgentSockets

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from portico.routes.face import Face


class Table:
    """Routes by path: a dictionary for the fixed ones, patterns for those with parameters, the more fixed the earlier."""

    def __init__(self, face: Face, reserved: Iterable[str] = ()) -> None:
        """Compile every declared and default route. `reserved`: paths of this gateway beside those of every gateway.

        Raises:
            ConfigurationError: two routes with one method and path, or one that hides the gateway's own.
            InvalidOperation: a path or a contract that cannot be compiled.
        """
        self.face = face
        self._fixed: dict[str, dict[str, AgentRoute]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, AgentRoute], str]] = []
        catalogue = face.dispatcher.catalogue
        own = (*GATEWAY_PATHS, *reserved)
        self._own = frozenset(own)
        self._below_own = tuple(f"{path}/" for path in own)
        for spec, endpoint in catalogue.routes:
            if any(spec.path == path or spec.path.startswith(path + "/") for path in own):
                raise ConfigurationError(f"The route {spec.method} {spec.path} would hide a path of the gateway itself.")
            self._add(AgentRoute(spec, endpoint, face))
        for spec, endpoint in default_routes(catalogue):
            self._add(AgentRoute(spec, endpoint, face))
        self._patterns.sort(key=lambda entry: (entry[2].count("{"), -len(entry[2])))

    def _add(self, route: AgentRoute) -> None:
        path, method = route.spec.path, route.spec.method
        if "{" not in path:
            methods = self._fixed.setdefault(path, {})
        else:
            pattern = path_pattern(path)
            shape = _shape(path)
            known = next((methods for _, methods, other in self._patterns if _shape(other) == shape), None)
            methods = {} if known is None else known
            if known is None:
                self._patterns.append((pattern, methods, path))
        if method in methods:
            raise ConfigurationError(
                f"Two routes are {method} {path}: {methods[method].endpoint.agent!r} and {route.endpoint.agent!r}."
            )
        methods[method] = route

    def __iter__(self) -> Iterator[AgentRoute]:
        for methods in (*self._fixed.values(), *(methods for _, methods, _ in self._patterns)):
            yield from methods.values()

    def find(self, path: str, method: str) -> tuple[AgentRoute, dict[str, str] | None] | None:
        """The route, with the path parameters; None where the table has none."""
        methods = self._fixed.get(path)
        if methods is not None and method in methods:
            return methods[method], None
        if self._is_own(path):
            return None
        for pattern, others, _ in self._patterns:
            if method in others:
                match = pattern.fullmatch(path)
                if match is not None:
                    return others[method], match.groupdict()
        return None

    def methods(self, path: str) -> list[str]:
        """The methods that the table has for a path."""
        found = set(self._fixed.get(path, {}))
        for pattern, methods, _ in () if self._is_own(path) else self._patterns:
            if pattern.fullmatch(path):
                found |= set(methods)
        return sorted(found)

    def _is_own(self, path: str) -> bool:
        """Whether a path is the gateway's own. No pattern takes it: `/{a}` would take `/livez`, which is open to everybody."""
        return path in self._own or path.startswith(self._below_own)


class AgentTable:
    """ASGI middleware: the innermost."""

    def __init__(self, app: ASGIApp, table: Table) -> None:
        self._app = app
        self._table = table
        self._run_events = RunEvents(table.face)
        self._sockets = AgentSockets(table.face)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or pass it on."""
        if scope["type"] == "http":
            path, method = route_path(scope), scope["method"]
            found = self._table.find(path, method)
            if found is not None:
                route, parameters = found
                scope["route"] = route.spec  # telemetry names its server span after it
                await route.serve(scope, receive, send, parameters)
                return
            run_id = self._run_events.find(path, method)
            if run_id is not None:
                scope["route"] = self._run_events.spec
                await self._run_events.serve(scope, receive, send, run_id)
                return
        elif scope["type"] == "websocket":
            agent = self._sockets.find(route_path(scope))
            if agent is not None:
                await self._sockets.serve(scope, receive, send, agent)
                return
        await self._app(scope, receive, send)


def _shape(path: str) -> str:
    """A template without the names of its parameters: two routes of one shape take the same paths."""
    pattern = path_pattern(path)
    shape = pattern.pattern
    for name in pattern.groupindex:
        shape = shape.replace(f"(?P<{name}>", "(")
    return shape
