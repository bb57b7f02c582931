"""Refusals: what goes wrong behind the agent table, in what FastAPI serves, as problems; and its answer to OPTIONS.

Above: the factory, which hands `handlers` to FastAPI. A path that only the agent table knows is known here all the same.
"""

from __future__ import annotations

from http.client import responses
from typing import TYPE_CHECKING, Any, Final, cast

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles

from portico.errors import (
    BodyTooLarge,
    ContractViolation,
    InsufficientScope,
    MethodNotAllowed,
    PorticoError,
    RouteNotFound,
    nearest,
)
from portico.operations.catalogue import GATEWAY_PATHS
from portico.operations.contract import pointer
from portico.operations.decorators import METHODS
from portico.routes.agents import lost_agent, lost_operation
from portico.routes.audited import audit_refusal
from portico.routes.exchange import REQUEST_ID, prefix, problem_of, respond_with_problem, route_path
from portico.routes.problems import MEDIA_TYPE, headers_of, rendered, status_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

    from portico.routes.agent_table import Table

_COMES_WITH: Final[Mapping[str, str]] = {"HEAD": "GET", "OPTIONS": ""}
"""The methods that nobody declares, and the one that each comes with; OPTIONS comes with every one."""
_METHODS: Final[Sequence[str]] = sorted((*METHODS, *_COMES_WITH))
"""Every method that a path may have."""


class Refusals:
    """What FastAPI does with errors, where `table` stands in front of it."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._dispatcher = table.face.dispatcher
        self.handlers: Mapping[Any, Any] = {
            Exception: answer,
            PorticoError: self._answer_known,
            HTTPException: self._answer_http,
            RequestValidationError: _answer_invalid,
        }
        """By the class of the error."""

    async def _answer_known(self, request: Request, error: Exception) -> Response:
        """An error of the family."""
        if isinstance(error, InsufficientScope):
            audit_refusal(self._dispatcher.audit, request.scope, error)
        return await answer(request, error)

    async def _answer_http(self, request: Request, error: Exception) -> Response:
        """Starlette's own refusals."""
        path = route_path(request.scope)
        status = getattr(error, "status_code", 500)
        headers: Mapping[str, str] = getattr(error, "headers", None) or {}
        detail = getattr(error, "detail", "")
        methods = self._methods(request, path) if (status, detail) in ((404, responses[404]), (405, responses[405])) else None
        if methods is not None and request.method == "OPTIONS" and (methods or path == "*"):  # RFC 9110 §9.3.7
            lost = lost_agent(self._dispatcher.catalogue, path)
            allow = Response(status_code=204, headers={"allow": ", ".join(methods or _METHODS)})
            return allow if lost is None else await answer(request, lost)
        if methods is not None and (
            detail == responses[404] or request.method not in methods
        ):  # not what somebody's own route raised
            return await answer(request, self._refusal(request, path, methods))
        about = {
            "type": "about:blank",
            "title": responses.get(status, "Error"),
            "status": status,
            "detail": str(detail),
        }
        body = rendered({**about, "request_id": request.scope.get(REQUEST_ID)})
        return Response(body, status, {**headers, "content-type": MEDIA_TYPE})

    def _refusal(self, request: Request, path: str, methods: Sequence[str]) -> PorticoError:
        """Why nothing is served with this method at a path that has these."""
        lost = lost_agent(self._dispatcher.catalogue, path)
        if lost is None and (request.method == "POST" or not methods):
            lost = lost_operation(self._dispatcher.catalogue, path)
        if lost is not None:
            return lost
        if methods and request.method not in methods:
            return MethodNotAllowed(request.method, path, methods)
        alike = nearest(path, [*self._table.paths, *GATEWAY_PATHS])
        return RouteNotFound(path, [one for one in alike if "{" in one or self._methods(request, one)])

    def _methods(self, request: Request, path: str) -> list[str]:
        """Every method that a path is served with, by the agent table or by a router; none where nothing is served.

        Starlette's own answer names the methods of one route alone.
        """
        below = prefix(request.scope)
        scope = {**request.scope, "root_path": below, "path": below + path}
        routes: Sequence[BaseRoute] = request.app.router.routes
        served = set(self._table.methods(path))
        for route in routes:
            refuses_most = isinstance(route, Mount) and isinstance(route.app, StaticFiles)  # though it takes any
            methods = ("GET",) if refuses_most else METHODS
            served.update(method for method in methods if route.matches({**scope, "method": method})[0] is Match.FULL)
        return [method for method in _METHODS if method in served or (served and _COMES_WITH.get(method) in (*served, ""))]


class _Problem(Response):
    """A problem, for FastAPI to return."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond_with_problem(scope, send, self._error, receive=receive)


async def answer(request: Request, error: Exception) -> Response:
    """Any error as a problem; what is unexpected goes on to `RequestId`, which logs it."""
    if isinstance(error, BodyTooLarge):
        return _Problem(error)
    return Response(rendered(problem_of(request.scope, error)), status_of(error), headers_of(error))


async def _answer_invalid(request: Request, error: Exception) -> Response:
    """A parameter or body of the gateway's own routes that breaks its contract."""
    details: Sequence[Mapping[str, Any]] = cast("RequestValidationError", error).errors()
    faults = [
        {"path": pointer(detail["loc"][1:]), "message": detail["msg"], "type": detail["type"], "in": detail["loc"][0]}
        for detail in details
    ]
    return await answer(request, ContractViolation(f"{request.method} {route_path(request.scope)}", faults))
