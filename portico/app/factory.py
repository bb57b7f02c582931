"""create_app: from a topology or a runtime to a FastAPI application. Wiring and lists, no logic."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from starlette.routing import Route

from portico.app.application import Gateway, GatewayApp
from portico.app.auditing import key_changes, open_trail
from portico.app.authentication import authenticator_of
from portico.app.document_route import add_document
from portico.app.door import open_door
from portico.app.loading import data_directory_of, load_topology, server_settings
from portico.app.mcp import serving_options
from portico.app.middlewares import middlewares_of
from portico.app.settings import GatewayConfig
from portico.console.page import assets_path, mount_console
from portico.errors import ConfigurationError
from portico.kernel.runtime import Runtime as KernelRuntime
from portico.mcp_bridge.serving.http import MCPEndpoint
from portico.mcp_bridge.serving.sse import SSEEndpoint
from portico.routes.access_log import AccessLog
from portico.routes.agent_actions import agent_actions_router
from portico.routes.agent_table import Table
from portico.routes.agents import agents_router
from portico.routes.audit import audit_router
from portico.routes.dead_letters import dead_letters_router
from portico.routes.face import Face
from portico.routes.gateway_events import gateway_events_router
from portico.routes.metrics import metrics_router
from portico.routes.newsroom import Newsroom
from portico.routes.probes import probes_router
from portico.routes.problem_pages import problem_pages_router
from portico.routes.protected_resource import ProtectedResource, protected_resource_router
from portico.routes.refusals import Refusals
from portico.routes.run_batch import run_batch_router
from portico.routes.runs import runs_router
from portico.routes.usage import usage_router
from portico.routes.websocket import refusing_sockets
from portico.runs.commit import StoreCommit
from portico.telemetry.metrics import Metrics
from portico.telemetry.metrics_push import metrics_push
from portico.telemetry.outlets import Outlets
from portico.telemetry.pulse import Pulse
from portico.telemetry.request_meter import RequestMeter
from portico.telemetry.route_templates import RouteTemplates
from portico.telemetry.setup import logs, traces
from portico.topology.runtime import Runtime
from portico.topology.topology import Topology
from portico.version import __version__
from portico.webhooks.deliverer import Deliverer
from portico.webhooks.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fastapi import FastAPI

    from portico.runs.dispatcher import Dispatcher
    from portico.telemetry.exporting import Telemetry
    from portico.topology.checks import DeclaredRoute

NATIVE_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own spans are off: ours are `portico.telemetry`'s, never both. Looking whether they are on costs 5 µs a request."""

TAGS: Any = [
    {"name": "agents", "description": "The supervision tree and the agents in it."},
    {"name": "runs", "description": "Calls that outlive their request: started, listed, followed, answered, cancelled."},
    {"name": "usage", "description": "What models took: tokens and money."},
    {"name": "audit", "description": "Who did what to which agent, when, with what outcome."},
    {"name": "probes", "description": "For orchestrators: open to everybody."},
    {"name": "problems", "description": "What the `type` of a problem leads to."},
    {"name": "metrics", "description": "Figures for Prometheus."},
    {"name": "documentation", "description": "This document."},
]
"""What the gateway's own operations are sorted by."""


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
    outlets = Outlets(os.environ)
    runtime, settings, routes, directory = _sources(source, settings)
    telemetry = traces(outlets, settings.secrets)
    observers = [telemetry.observer] if telemetry is not None else []
    dispatcher = open_door(runtime, routes, settings, observers=observers)
    trail = open_trail(dispatcher, settings, outlets, directory)
    guard = Guard(settings.callback_allowed_hosts)
    face = Face(
        dispatcher,
        Deliverer(dispatcher.book, settings.callback_secret, guard, observers=observers),
        request_timeout=settings.request_timeout,
        run_timeout=settings.run_timeout,
        body_limit=settings.body_limit,
        ping=settings.ping,
        compression=settings.compression,
    )
    resource = _protected_resource(dispatcher, settings)
    mcp = _mcp(dispatcher, face, settings, resource)
    sse = _oldest_form(mcp, face, settings)
    authenticator = authenticator_of(settings, key_changes(trail))
    metrics = _metrics(dispatcher, face, telemetry) if settings.metrics_enabled else None
    gateway = Gateway(
        runtime,
        dispatcher,
        face,
        Table(face, (settings.docs_path, settings.console_path, assets_path(settings.console_path), settings.mcp_path or "/mcp")),
        settings,
        mcp,
        sse,
        telemetry,
        metrics,
        trail,
        logs(outlets, settings.secrets),
        metrics_push(outlets, metrics) if metrics is not None else None,
    )
    trail.on_entry.append(_open_newsroom(dispatcher, face, metrics).on_audit_entry)
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
        middleware=middlewares_of(settings, authenticator, resource, trail),
        exception_handlers=dict(Refusals(gateway.table).handlers),
    )
    app.state.gateway = gateway
    app.router.default = refusing_sockets(app.router.default)
    _include(app, gateway, resource)
    app.router.routes += _mcp_routes(mcp, sse, settings)
    add_document(app, gateway)
    if settings.console_enabled:
        mount_console(app, title=settings.title, console_path=settings.console_path)
    _watch(app, gateway)
    return app


def _sources(
    source: KernelRuntime | Topology | Path | str | Mapping[str, Any], settings: GatewayConfig | None
) -> tuple[KernelRuntime, GatewayConfig, Sequence[DeclaredRoute], Path | None]:
    """The runtime, its settings, the routes that were declared outside the classes, and the topology's directory."""
    if isinstance(source, KernelRuntime):
        settings = (settings or GatewayConfig.from_environ(os.environ)).with_keys_of(data_directory_of(source))
        _refuse_data(source, settings)
        return source, settings, (), None
    topology = source if isinstance(source, Topology) else load_topology(source)
    settings = settings or GatewayConfig.from_environ(os.environ, server_settings(topology))
    settings = settings.with_keys_of(topology.data_directory)
    return Runtime.from_topology(topology, data=settings.data), settings, topology.routes, topology.directory


def _include(app: FastAPI, gateway: Gateway, resource: ProtectedResource | None) -> None:
    """The gateway's own routes."""
    face, metrics = gateway.face, gateway.metrics
    for router in (
        agents_router(face),
        agent_actions_router(face),
        gateway_events_router(),
        run_batch_router(face),
        runs_router(face),
        dead_letters_router(face),
        usage_router(face),
        audit_router(face),
        probes_router(face, secured=lambda: gateway.settings.authenticates),
        protected_resource_router(resource),
        problem_pages_router(gateway.dispatcher.catalogue),
        *([metrics_router(metrics)] if metrics is not None else ()),
    ):
        app.include_router(router)


def _watch(app: FastAPI, gateway: Gateway) -> None:
    """What stands around all the middlewares, and so sees what clients see; the last is the outermost."""
    if gateway.settings.access_log:
        app.add_middleware(cast("Any", AccessLog), RouteTemplates(app.router.routes))
    if gateway.metrics is not None:
        if gateway.mcp is not None:
            gateway.mcp.served.meter = gateway.metrics.served
        traceparent = gateway.telemetry.traceparent if gateway.telemetry is not None else None
        app.add_middleware(cast("Any", RequestMeter), gateway.metrics.requests, RouteTemplates(app.router.routes), traceparent)
    if gateway.telemetry is not None:
        gateway.telemetry.instrument(app)


def _metrics(dispatcher: Dispatcher, face: Face, telemetry: Telemetry | None) -> Metrics:
    """What is counted of the gateway."""
    lost = (lambda: telemetry.lost) if telemetry is not None else None
    return Metrics(dispatcher, streams=lambda: len(face.streams), sockets=lambda: len(face.sockets), spans_lost=lost)


def _open_newsroom(dispatcher: Dispatcher, face: Face, metrics: Metrics | None) -> Newsroom:
    """What is told of the gateway as it happens, at `GET /events`."""
    calls, lag = (metrics.calls, metrics.lag) if metrics is not None else (None, None)
    newsroom = face.newsroom = Newsroom(dispatcher, Pulse(dispatcher, calls, lag, lambda: len(face.streams)))
    face.on_drain.append(newsroom.close)
    return newsroom


def _mcp(dispatcher: Dispatcher, face: Face, settings: GatewayConfig, resource: ProtectedResource | None) -> MCPEndpoint | None:
    """The MCP face, where it is switched on."""
    if settings.mcp_path is None:
        return None
    told = resource.url if resource is not None else None
    mcp = MCPEndpoint(dispatcher, allowed_hosts=None, options=serving_options(settings), metadata_url=told)
    face.on_drain.append(mcp.drain)
    return mcp


def _refuse_data(runtime: KernelRuntime, settings: GatewayConfig) -> None:
    """Raises `ConfigurationError` where a directory is named for a runtime that was made without one."""
    if settings.data is not None and not isinstance(runtime.services.commit, StoreCommit):
        raise ConfigurationError(f"The runtime stores nothing, so it cannot store in {settings.data}: Runtime(data=…).")


def _oldest_form(mcp: MCPEndpoint | None, face: Face, settings: GatewayConfig) -> SSEEndpoint | None:
    """MCP as HTTP with SSE, where it is switched on."""
    if mcp is None or not settings.mcp_sse:
        return None
    sse = SSEEndpoint(mcp.served, settings.mcp_paths[2], settings.public_path)
    face.on_drain.append(sse.drain)
    return sse


def _mcp_routes(mcp: MCPEndpoint | None, sse: SSEEndpoint | None, settings: GatewayConfig) -> list[Route]:
    """Where MCP is served."""
    if mcp is None:
        return []
    endpoint, *more = settings.mcp_paths
    routes = [Route(endpoint, endpoint=mcp, methods=["GET", "POST", "DELETE"])]
    if sse is not None:
        stream, messages = more
        routes += [Route(stream, endpoint=sse.stream, methods=["GET"]), Route(messages, endpoint=sse.messages, methods=["POST"])]
    return routes


def _protected_resource(dispatcher: Dispatcher, settings: GatewayConfig) -> ProtectedResource | None:
    """What clients are told that need a token; None where no tokens are taken."""
    if settings.jwt_issuer is None:
        return None
    return ProtectedResource(
        dispatcher.catalogue,
        issuer=settings.jwt_issuer,
        name=settings.title,
        public_url=settings.public_url,
        paths=settings.mcp_paths,
    )
