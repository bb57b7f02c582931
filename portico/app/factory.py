"""create_app: from a topology or a runtime to a FastAPI application. Wiring and lists, no logic.

The middlewares stand in one list, the outermost first. The compiled agent table is the innermost: in front of FastAPI's own
router and behind everything else.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from http.client import responses
from typing import TYPE_CHECKING, Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Match, Mount, Route
from starlette.staticfiles import StaticFiles

from portico.app.authentication import authenticator_of
from portico.app.door import imported, open_door
from portico.app.loading import data_directory_of, load_topology, server_settings
from portico.app.settings import GatewayConfig
from portico.errors import (
    BodyTooLarge,
    ConfigurationError,
    ContractViolation,
    MethodNotAllowed,
    PorticoError,
    RouteNotFound,
    nearest,
)
from portico.kernel.runtime import Runtime as KernelRuntime
from portico.mcp_bridge.http import MCPEndpoint
from portico.openapi.document import build_document
from portico.openapi.pages import STATIC_PATH, mount_pages
from portico.operations.catalogue import GATEWAY_PATHS
from portico.operations.contract import pointer
from portico.operations.decorators import METHODS
from portico.routes.access_log import AccessLog
from portico.routes.agent_table import AgentTable, Table
from portico.routes.agents import agents_router, lost_agent, lost_operation
from portico.routes.authentication import Authentication
from portico.routes.compression import Compression
from portico.routes.cors import Cors
from portico.routes.dead_letters import dead_letters_router
from portico.routes.exchange import REQUEST_ID, prefix, problem_of, respond_with_problem, route_path
from portico.routes.face import Face
from portico.routes.host_guard import LOOPBACK, HostGuard
from portico.routes.metrics import metrics_router
from portico.routes.probes import PATHS as PROBES
from portico.routes.probes import probes_router
from portico.routes.problem_pages import problem_pages_router
from portico.routes.problems import MEDIA_TYPE, STATUSES, headers_of, rendered, status_of
from portico.routes.protected_resource import PATH as PROTECTED_RESOURCE
from portico.routes.protected_resource import ProtectedResource, protected_resource_router
from portico.routes.request_id import RequestId
from portico.routes.run_batch import run_batch_router
from portico.routes.runs import runs_router
from portico.routes.websocket import refusing_sockets
from portico.runs.commit import StoreCommit
from portico.telemetry.metrics import Metrics
from portico.telemetry.route_templates import RouteTemplates
from portico.telemetry.setup import configure
from portico.topology.runtime import Runtime
from portico.topology.topology import Topology
from portico.version import __version__
from portico.webhooks.deliverer import Deliverer
from portico.webhooks.guard import Guard

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from pathlib import Path

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from portico.auth.principal import Authenticator
    from portico.runs.dispatcher import Dispatcher
    from portico.telemetry.exporting import Telemetry
    from portico.topology.checks import DeclaredRoute

logger = logging.getLogger("portico")

_COMES_WITH: Mapping[str, str] = {"HEAD": "GET", "OPTIONS": ""}
"""The methods that nobody declares, and the one that each comes with; OPTIONS comes with every one."""
_METHODS: Sequence[str] = sorted((*METHODS, *_COMES_WITH))
"""Every method that a path may have."""

HSTS_AGE = 365 * 86_400
"""Seconds for which browsers come by TLS alone, once they have (RFC 6797)."""

NATIVE_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own spans are off: ours are `portico.telemetry`'s, never both. Looking whether they are on costs 5 µs a request."""

DOCUMENT: Any = {"content": {"application/json": {"example": {"openapi": "3.1.0", "info": {}, "paths": {}}}}}
"""The answer of `GET /openapi.json`."""

TAGS: Any = [
    {"name": "agents", "description": "The supervision tree and the agents in it."},
    {"name": "runs", "description": "Calls that outlive their request: started, listed, followed, answered, cancelled."},
    {"name": "probes", "description": "For orchestrators: open to everybody."},
    {"name": "problems", "description": "What the `type` of a problem leads to."},
    {"name": "metrics", "description": "Figures for Prometheus."},
    {"name": "documentation", "description": "This document."},
]
"""What the gateway's own operations are sorted by."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """What stands behind one application; in `app.state.gateway`."""

    runtime: KernelRuntime
    """Whose agents are served."""
    dispatcher: Dispatcher
    """The one door."""
    face: Face
    """The HTTP face."""
    table: Table
    """The compiled routes."""
    settings: GatewayConfig
    """The settings."""
    mcp: MCPEndpoint | None
    """The MCP face; None where it is switched off."""
    telemetry: Telemetry | None
    """Where spans go; None where no endpoint is configured."""
    metrics: Metrics | None
    """What is counted; None where that is switched off."""

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncGenerator[None]:
        """The application's lifespan. A runtime that is started already is left alone."""
        owned = not self.runtime.started
        async with AsyncExitStack() as stack:
            if self.telemetry is not None:
                observers = self.runtime.services.observers
                observers.append(self.telemetry.observer)
                stack.callback(observers.remove, self.telemetry.observer)
                stack.push_async_callback(asyncio.to_thread, self.telemetry.shutdown)  # it may wait for a collector
            if self.metrics is not None:
                self.metrics.lag.start()
                stack.callback(self.metrics.lag.stop)
            if owned:
                await stack.enter_async_context(self.runtime)
            await self.dispatcher.recover()
            await stack.enter_async_context(self.face.callbacks.running())
            if self.mcp is not None:
                await stack.enter_async_context(self.mcp.lifespan())
            self.face.open()
            stack.callback(self.face.drain)
            yield


class GatewayApp(FastAPI):
    """A FastAPI application with the agent table between its middlewares and everything of FastAPI's own."""

    def __init__(self, gateway: Gateway, **settings: Any) -> None:
        super().__init__(**settings)
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Once the stack is built, and with their telemetry off, FastAPI's and Starlette's own do no more; each costs a frame."""
        if self.middleware_stack is None or self.root_path or scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """The middlewares, those of `add_middleware` too; then the table; then FastAPI's own stack and router."""
        middlewares, self.user_middleware = self.user_middleware, []
        app: ASGIApp = super().build_middleware_stack()
        settings = self._gateway.settings
        if settings.compression:
            app = Compression(app, settings.mcp_path)
        app = AgentTable(app, self._gateway.table)
        self.user_middleware = middlewares
        for cls, args, kwargs in reversed(middlewares):
            app = cls(app, *args, **kwargs)
        return app


def create_app(source: KernelRuntime | Topology | Path | str | Mapping[str, Any], settings: GatewayConfig | None = None) -> FastAPI:
    """A FastAPI application that serves the agents of a runtime or a topology.

    A topology becomes a runtime that the application owns: its lifespan starts and stops it. A runtime that is already started
    is left alone; one that is not is started and stopped too. Mounted into a host application, whose lifespan is the only one
    that runs, hand it on: `async with gateway.router.lifespan_context(gateway): yield`.

    Args:
        source: a runtime, a loaded topology, or what `topology.load` takes.
        settings: by default those of the environment (`PORTICO_*`), and below them the topology's `server:`.

    Raises:
        TopologyError, ConfigurationError, InvalidOperation: before anything starts.
    """
    telemetry = configure(os.environ)
    observers = [telemetry.observer] if telemetry is not None else []
    routes: Sequence[DeclaredRoute] = ()
    if isinstance(source, KernelRuntime):
        runtime = source
        settings = (settings or GatewayConfig.from_environ(os.environ)).with_keys_of(data_directory_of(runtime))
        if settings.data is not None and not isinstance(runtime.services.commit, StoreCommit):
            raise ConfigurationError(f"The runtime stores nothing, so it cannot store in {settings.data}: Runtime(data=…).")
    else:
        topology = source if isinstance(source, Topology) else load_topology(source)
        settings = settings or GatewayConfig.from_environ(os.environ, server_settings(topology))
        settings = settings.with_keys_of(topology.data_directory)
        runtime = Runtime.from_topology(topology, data=settings.data)
        routes = topology.routes
    dispatcher = open_door(runtime, routes, settings, observers=observers)
    guard = Guard(settings.callback_allowed_hosts)
    face = Face(
        dispatcher,
        Deliverer(dispatcher.book, settings.callback_secret, guard),
        request_timeout=settings.request_timeout,
        run_timeout=settings.run_timeout,
        body_limit=settings.body_limit,
        ping=settings.ping,
        compression=settings.compression,
    )
    mcp = None
    if settings.mcp_path is not None:
        mcp = MCPEndpoint(dispatcher, allowed_hosts=None, run_timeout=settings.run_timeout, body_limit=settings.body_limit)
        face.on_drain.append(mcp.drain)
    authenticator = authenticator_of(settings)
    resource = _protected_resource(dispatcher, settings)
    gateway = Gateway(
        runtime,
        dispatcher,
        face,
        Table(face, (settings.docs_path, settings.mcp_path or "/mcp")),
        settings,
        mcp,
        telemetry,
        Metrics(dispatcher, lambda: len(face.streams)) if settings.metrics_enabled else None,
    )
    app = GatewayApp(
        gateway,
        title=settings.title,
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        openapi_tags=TAGS,
        redirect_slashes=False,  # a redirect is no problem document, and names the host that the client claims
        telemetry=NATIVE_TELEMETRY,
        lifespan=gateway.running,
        middleware=_middlewares(gateway, authenticator, resource),
        exception_handlers={
            Exception: _answer,
            PorticoError: _answer,
            HTTPException: _answer_http,
            RequestValidationError: _answer_invalid,
        },
    )
    app.state.gateway = gateway
    app.router.default = refusing_sockets(app.router.default)
    for router in (
        agents_router(face),
        run_batch_router(face),
        runs_router(face),
        dead_letters_router(face),
        probes_router(face, secured=lambda: settings.authenticates),
        protected_resource_router(resource),
        problem_pages_router(dispatcher.catalogue),
    ):
        app.include_router(router)
    if gateway.metrics is not None:
        app.include_router(metrics_router(gateway.metrics))
    if mcp is not None:
        app.router.routes.append(Route(str(settings.mcp_path), endpoint=mcp, methods=["GET", "POST", "DELETE"]))
    _document(app, gateway)
    if settings.access_log:
        app.add_middleware(cast("Any", AccessLog), RouteTemplates(app.router.routes))  # around all: it sees what clients see
    if telemetry is not None:
        telemetry.instrument(app)
    return app


def _protected_resource(dispatcher: Dispatcher, settings: GatewayConfig) -> ProtectedResource | None:
    """What clients are told that need a token; None where no tokens are taken."""
    if settings.jwt_issuer is None:
        return None
    return ProtectedResource(
        dispatcher.catalogue,
        issuer=settings.jwt_issuer,
        name=settings.title,
        public_url=settings.public_url,
        paths=(settings.mcp_path,) if settings.mcp_path is not None else (),
    )


def _middlewares(gateway: Gateway, authenticator: Authenticator | None, resource: ProtectedResource | None) -> list[Middleware]:
    """What a request passes before the agent table, the outermost first."""
    settings = gateway.settings
    stack: list[Middleware] = []
    if settings.cors_origins:
        credentials = settings.client_cert_mode != "none"
        stack.append(Middleware(cast("Any", Cors), settings.cors_origins, credentials=credentials))
    stack.append(Middleware(cast("Any", RequestId), _always(settings)))
    if _guards_hosts(settings):
        stack.append(Middleware(cast("Any", HostGuard), _allowed_hosts(settings), settings.cors_origins))
    if authenticator is not None:
        pages = (settings.docs_path, "/redoc") if settings.docs_enabled else ()
        open_paths = (*PROBES, PROTECTED_RESOURCE, *pages)
        open_prefixes = (STATIC_PATH + "/", PROTECTED_RESOURCE + "/")
        metadata_url = resource.url if resource is not None else None
        guard = (authenticator, open_paths, open_prefixes, metadata_url, settings.client_cert_scopes)
        stack.append(Middleware(cast("Any", Authentication), *guard))
    stack += [Middleware(imported(middleware, "middleware")) for middleware in settings.middleware]
    return stack


def _allowed_hosts(settings: GatewayConfig) -> Sequence[str]:
    """The names that a Host or Origin header may have; empty for any."""
    return settings.allowed_hosts or (_names_of_loopback(settings.host) if settings.loopback else ())


def _guards_hosts(settings: GatewayConfig) -> bool:
    """Whether foreign hosts or origins are refused. A browser shows its user's certificate whichever page asks it to."""
    return bool(_allowed_hosts(settings)) or settings.client_cert_mode != "none"


def _names_of_loopback(host: str) -> tuple[str, ...]:
    """This machine's names, and the address that is bound, which may be another of its own: 127.0.0.2."""
    return (*LOOPBACK, f"[{host}]" if ":" in host else host)


def _always(settings: GatewayConfig) -> list[tuple[bytes, bytes]]:
    """The headers that every response has."""
    headers = [(b"x-content-type-options", b"nosniff")]
    if settings.tls_cert is not None:
        headers.append((b"strict-transport-security", b"max-age=%d" % HSTS_AGE))
    return headers


def _document(app: FastAPI, gateway: Gateway) -> None:
    """`/openapi.json` and the pages that show it."""
    settings = gateway.settings
    made: list[dict[str, Any]] = []

    def openapi() -> dict[str, Any]:
        if not made:
            base = FastAPI.openapi(app)
            made.append(
                build_document(
                    gateway.dispatcher.catalogue,
                    title=settings.title,
                    version=__version__,
                    base=base,
                    statuses=STATUSES,
                    secured=settings.authenticates,
                    guarded=_guards_hosts(settings),
                )
            )
        return made[0]

    app.openapi = openapi

    printed: list[tuple[bytes, str]] = []

    @app.get(
        "/openapi.json",
        summary="The OpenAPI document",
        operation_id="read_openapi",
        tags=["documentation"],
        responses={200: DOCUMENT},
    )
    async def document(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        """This document: every operation of this gateway, with its schemas, examples and problems."""
        if not printed:
            body = to_json(openapi())
            printed.append((body, f'"{blake2b(body, digest_size=16).hexdigest()}"'))
        return _conditional(request, *printed[0])

    if settings.docs_enabled:
        mount_pages(app, title=settings.title, docs_path=settings.docs_path)


def _conditional(request: Request, body: bytes, tag: str) -> Response:
    """A JSON document that clients may keep as long as they ask whether it is still the same (RFC 9110 §13.1.2)."""
    headers = {"etag": tag, "cache-control": "no-cache"}
    known = [one.strip().removeprefix("W/") for one in ",".join(request.headers.getlist("if-none-match")).split(",")]
    if tag in known or "*" in known:
        return Response(status_code=304, headers={**headers, "vary": "Accept-Encoding"})
    return Response(body, headers=headers, media_type="application/json")


# --- errors of what FastAPI serves ------------------------------------------------------------------------------------


class _Problem(Response):
    """A problem, for FastAPI to return."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond_with_problem(scope, send, self._error, receive=receive)


async def _answer(request: Request, error: Exception) -> Response:
    """Any error as a problem; what is unexpected goes on to `RequestId`, which logs it."""
    if isinstance(error, BodyTooLarge):
        return _Problem(error)
    return Response(rendered(problem_of(request.scope, error)), status_of(error), headers_of(error))


async def _answer_http(request: Request, error: Exception) -> Response:
    """Starlette's own refusals. A path that only the agent table knows is known all the same."""
    path = route_path(request.scope)
    status = getattr(error, "status_code", 500)
    headers: Mapping[str, str] = getattr(error, "headers", None) or {}
    detail = getattr(error, "detail", "")
    methods = _methods(request, path) if (status, detail) in ((404, responses[404]), (405, responses[405])) else None
    if methods is not None and request.method == "OPTIONS" and (methods or path == "*"):  # RFC 9110 §9.3.7
        lost = lost_agent(request.app.state.gateway.dispatcher.catalogue, path)
        allow = Response(status_code=204, headers={"allow": ", ".join(methods or _METHODS)})
        return allow if lost is None else await _answer(request, lost)
    if methods is not None and (detail == responses[404] or request.method not in methods):  # not what somebody's own route raised
        return await _answer(request, _refusal(request, path, methods))
    about = {
        "type": "about:blank",
        "title": responses.get(status, "Error"),
        "status": status,
        "detail": str(detail),
    }
    body = rendered({**about, "request_id": request.scope.get(REQUEST_ID)})
    return Response(body, status, {**headers, "content-type": MEDIA_TYPE})


def _refusal(request: Request, path: str, methods: Sequence[str]) -> PorticoError:
    """Why nothing is served with this method at a path that has these."""
    gateway: Gateway = request.app.state.gateway
    catalogue = gateway.dispatcher.catalogue
    lost = lost_agent(catalogue, path)
    if lost is None and (request.method == "POST" or not methods):
        lost = lost_operation(catalogue, path)
    if lost is not None:
        return lost
    if methods and request.method not in methods:
        return MethodNotAllowed(request.method, path, methods)
    alike = nearest(path, [*gateway.table.paths, *GATEWAY_PATHS])
    return RouteNotFound(path, [one for one in alike if "{" in one or _methods(request, one)])


def _methods(request: Request, path: str) -> list[str]:
    """Every method that a path is served with, by the agent table or by a router; none where nothing is served.

    Starlette's own answer names the methods of one route alone.
    """
    gateway: Gateway = request.app.state.gateway
    below = prefix(request.scope)
    scope = {**request.scope, "root_path": below, "path": below + path}
    routes: Sequence[BaseRoute] = request.app.router.routes
    served = set(gateway.table.methods(path))
    for route in routes:
        refuses_most = isinstance(route, Mount) and isinstance(route.app, StaticFiles)  # though it takes any
        methods = ("GET",) if refuses_most else METHODS
        served.update(method for method in methods if route.matches({**scope, "method": method})[0] is Match.FULL)
    return [method for method in _METHODS if method in served or (served and _COMES_WITH.get(method) in (*served, ""))]


async def _answer_invalid(request: Request, error: Exception) -> Response:
    """A parameter or body of the gateway's own routes that breaks its contract."""
    details: Sequence[Mapping[str, Any]] = cast("RequestValidationError", error).errors()
    faults = [{"path": pointer(detail["loc"]), "message": detail["msg"], "type": detail["type"]} for detail in details]
    return await _answer(request, ContractViolation(f"{request.method} {route_path(request.scope)}", faults))
