"""AgentTable: every route to an agent, compiled, in front of FastAPI's own router and behind the middlewares.

A request whose path and method are in the table is answered here; everything else goes on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from portico.errors import ConfigurationError, MalformedAddress, PorticoError
from portico.operations.catalogue import GATEWAY_PATHS, default_routes
from portico.routes.address import SLASH, path_of, without_slash
from portico.routes.agent_route import AgentRoute
from portico.routes.exchange import CALL, ENDPOINT, respond_with_problem, route_path
from portico.routes.gateway_events import PATH as GATEWAY_EVENTS
from portico.routes.gateway_events import GatewayEvents
from portico.routes.parameters import path_pattern
from portico.routes.run_events import RunEvents
from portico.routes.websocket import AgentSockets

if TYPE_CHECKING:
    import re
    from collections.abc import Awaitable, Iterable, Iterator, Mapping

    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from portico.operations.catalogue import Endpoint
    from portico.operations.operation import RouteSpec
    from portico.routes.face import Face

logger = logging.getLogger("portico.routes")


class Table:
    """Routes by path: a dictionary for the fixed ones, patterns for those with parameters, the more fixed the earlier.

    It follows the dispatcher's roster: agents that come at run time get their routes, and those that leave take theirs along.
    """

    def __init__(self, face: Face, reserved: Iterable[str] = ()) -> None:
        """Compile every declared and default route. `reserved`: paths of this gateway beside those of every gateway.

        Raises:
            ConfigurationError: two routes with one method and path, or one that hides the gateway's own.
            InvalidOperation: a path or a contract that cannot be compiled.
        """
        self.face = face
        own = (*GATEWAY_PATHS, *reserved)
        self._own = frozenset(own)
        self._below_own = tuple(f"{path}/" for path in own)
        self._clear()
        for declared in self._declared():
            self._add(self._compiled(*declared))
        self._sort()
        face.dispatcher.roster.on_change.append(self._renew)

    def _clear(self) -> None:
        self._fixed: dict[str, dict[str, AgentRoute]] = {}
        self._slashed: dict[str, dict[str, AgentRoute]] = {}
        """The same for agents with a slash in their names, as addresses encode it."""
        self._patterns: list[tuple[re.Pattern[str], dict[str, AgentRoute], str]] = []

    def _sort(self) -> None:
        self.paths = [*self._fixed, *(template for _, _, template in self._patterns)]
        """Every path and template."""
        self._patterns.sort(key=lambda entry: (entry[2].count("{"), -len(entry[2])))

    def _declared(self) -> Iterator[tuple[RouteSpec, Endpoint, bool]]:
        """Every route, and whether it is a default one."""
        catalogue = self.face.dispatcher.catalogue
        yield from ((spec, endpoint, False) for spec, endpoint in catalogue.routes)
        yield from ((spec, endpoint, True) for spec, endpoint in default_routes(catalogue))

    def _compiled(self, spec: RouteSpec, endpoint: Endpoint, default: bool) -> AgentRoute:  # noqa: FBT001  # as `_declared` gives it
        if not default and self._is_own(spec.path):
            raise ConfigurationError(f"The route {spec.method} {spec.path} would hide a path of the gateway itself.")
        return AgentRoute(spec, endpoint, self.face)

    def _renew(self) -> None:
        """Agents came or went. What was served and still is stays as it is; a newcomer's route that cannot be is left out."""
        former = {(route.spec.method, route.spec.path): route for route in self}
        self._clear()
        newcomers: list[tuple[RouteSpec, Endpoint, bool]] = []
        for spec, endpoint, default in self._declared():
            route = former.get((spec.method, spec.path))
            if route is not None and (route.spec, route.endpoint) == (spec, endpoint):
                self._add(route)
            else:
                newcomers.append((spec, endpoint, default))
        for newcomer in newcomers:
            try:
                self._add(self._compiled(*newcomer))
            except PorticoError as error:
                logger.error("a route of %r is not served: %s", newcomer[1].agent, error)  # noqa: TRY400  # one line says it all
        self._sort()

    def _add(self, route: AgentRoute) -> None:
        path, method = route.spec.path, route.spec.method
        if "{" not in path:
            methods = self._fixed.setdefault(path, {})
            agent = route.endpoint.agent
            if "/" in agent and path.startswith(own := f"/agents/{agent}"):
                self._slashed[f"/agents/{agent.replace('/', SLASH)}{path[len(own) :]}"] = methods
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
        methods = self._fixed.get(path) or self._slashed.get(path)
        if methods is not None and method in methods:
            return methods[method], None
        if self._is_own(path):
            return None
        for pattern, others, _ in self._patterns:
            if method in others:
                match = pattern.fullmatch(path)
                if match is not None:
                    return others[method], {name: text.replace(SLASH, "/") for name, text in match.groupdict().items()}
        return None

    def methods(self, path: str) -> list[str]:
        """The methods that the table has for a path. A slash at its end makes no difference."""
        path = without_slash(path)
        found = set(self._fixed.get(path) or self._slashed.get(path, {}))
        for pattern, methods, _ in () if self._is_own(path) else self._patterns:
            if pattern.fullmatch(path):
                found |= set(methods)
        return sorted(found)

    def _is_own(self, path: str) -> bool:
        """Whether a path is the gateway's own. No pattern takes it: `/{a}` would take `/livez`, which is open to everybody.

        A slash that was encoded counts as one: who guards the open paths looks at the decoded path.
        """
        path = path.replace(SLASH, "/")
        return path in self._own or path.startswith(self._below_own)


class AgentTable:
    """ASGI middleware: the innermost.

    Args:
        app: what has everything else.
        table: the routes to agents.
        posts: routes of the application whose POSTs need nothing of what stands around them there, by path.
    """

    def __init__(self, app: ASGIApp, table: Table, posts: Mapping[str, Route] | None = None) -> None:
        self._app = app
        self._table = table
        self._posts = posts or {}
        self._run_events = RunEvents(table.face)
        self._gateway_events = GatewayEvents(table.face)
        self._sockets = AgentSockets(table.face)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or pass it on."""
        kind = scope["type"]
        if kind != "http" and kind != "websocket":  # noqa: PLR1714  # the quickest way to ask
            await self._app(scope, receive, send)
            return
        raw = scope.get("raw_path")
        if raw is not None and b"%" in raw:
            try:
                path = path_of(scope, raw)
            except MalformedAddress as error:
                await respond_with_problem(scope, send, error)
                return
        else:
            path = route_path(scope)
        if kind == "http":
            answer = self._answer(scope, receive, send, path)
            await (self._serve_otherwise(scope, receive, send, path) if answer is None else answer)
        elif (agent := self._sockets.find(without_slash(path))) is not None:
            scope["route"] = self._sockets.spec
            await self._sockets.serve(scope, receive, send, agent)
        else:
            await self._app(scope, receive, send)

    def _answer(self, scope: Scope, receive: Receive, send: Send, path: str) -> Awaitable[None] | None:
        """What is to be awaited for a request whose path and method stand here; None for any other."""
        found = self._table.find(path, scope["method"])
        if found is not None:
            route, parameters = found
            scope["route"] = route.spec  # telemetry names its server span after it
            scope[ENDPOINT] = route.endpoint
            if route.around is not None:
                scope["path_params"] = parameters
                return route.around(scope, receive, send)
            return route.serve(scope, receive, send, parameters)
        if path in self._posts and scope["method"] == "POST":
            beside = self._posts[path]
            scope["route"] = beside
            return beside.app(scope, receive, send)
        run_id = self._run_events.find(path, scope["method"])
        if run_id is not None:
            scope["route"] = self._run_events.spec
            return self._run_events.serve(scope, receive, send, run_id)
        if path == GATEWAY_EVENTS and scope["method"] == "GET":
            scope["route"] = self._gateway_events.spec
            return self._gateway_events.serve(scope, receive, send)
        return None

    async def _serve_otherwise(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        """What the table has under another name, or does not have, and passes on.

        A HEAD is a GET without its body (RFC 9110 §9.3.2), and a slash at the end of a path makes no difference: a redirect would
        lose the bodies of some clients. The same for what stands behind the table.
        """
        plain, served = without_slash(path), scope
        if scope["method"] == "HEAD":
            served, send = {**scope, "method": "GET"}, _headers_alone(send)
        if plain != path:
            served = {**served, "path": scope["path"][:-1]}
        answer = None if served is scope else self._answer(served, receive, send, plain)
        await (self._app(served, receive, send) if answer is None else answer)
        for found_out in ("route", "path_params", ENDPOINT, CALL):  # by what is further in, for what is further out
            if found_out in served:
                scope[found_out] = served[found_out]


def _headers_alone(send: Send) -> Send:
    """Sends a response without its body, with the Content-Length of the whole. A stream ends where it would begin."""
    ended = False

    async def send_headers(message: Message) -> None:
        nonlocal ended
        if message["type"] == "http.response.start" and not ended:
            ended = True
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_headers


def _shape(path: str) -> str:
    """A template without the names of its parameters: two routes of one shape take the same paths."""
    pattern = path_pattern(path)
    shape = pattern.pattern
    for name in pattern.groupindex:
        shape = shape.replace(f"(?P<{name}>", "(")
    return shape
