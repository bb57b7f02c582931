"""GatewayApp: the FastAPI application of one gateway, and the gateway that stands behind it.

Above: the factory, which puts both together. Below: the runtime, the door, the faces. It decides nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.routing import Route

from portico.app.auditing import auditing
from portico.routes.agent_table import AgentTable
from portico.routes.compression import Compression

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from portico.app.settings import GatewayConfig
    from portico.audit.trail import AuditTrail
    from portico.kernel.runtime import Runtime
    from portico.mcp_bridge.serving.http import MCPEndpoint
    from portico.mcp_bridge.serving.sse import SSEEndpoint
    from portico.routes.agent_table import Table
    from portico.routes.face import Face
    from portico.runs.dispatcher import Dispatcher
    from portico.telemetry.exporting import Telemetry
    from portico.telemetry.log_export import LogExport
    from portico.telemetry.metrics import Metrics
    from portico.telemetry.metrics_push import MetricsPush


@dataclass(frozen=True, slots=True)
class Gateway:
    """What stands behind one application; in `app.state.gateway`."""

    runtime: Runtime
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
    sse: SSEEndpoint | None
    """The same in its oldest form; None unless it is switched on."""
    telemetry: Telemetry | None
    """Where spans go; None where no endpoint is configured."""
    metrics: Metrics | None
    """What is counted; None where that is switched off."""
    audit: AuditTrail
    """Who did what."""
    logs: LogExport | None
    """Where log records go; None where no endpoint for them is configured."""
    push: MetricsPush | None
    """What sends the figures; None where no endpoint is configured for metrics."""

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncGenerator[None]:
        """The application's lifespan. A runtime that is started already is left alone."""
        owned = not self.runtime.started
        async with AsyncExitStack() as stack:
            if self.telemetry is not None:
                observers = self.runtime.services.observers
                self.telemetry.start()
                self.telemetry.observer.follow(self.runtime.router)
                observers.append(self.telemetry.observer)
                stack.callback(observers.remove, self.telemetry.observer)
                stack.push_async_callback(asyncio.to_thread, self.telemetry.shutdown)  # it may wait for a collector
            if self.logs is not None:
                self.logs.start()
                stack.push_async_callback(asyncio.to_thread, self.logs.stop)
            if self.push is not None:
                await stack.enter_async_context(self.push.running())
            if self.metrics is not None:
                stack.enter_context(self.metrics.counting())
            if owned:
                await stack.enter_async_context(self.runtime)
            await stack.enter_async_context(auditing(self.audit, self.dispatcher))
            await self.dispatcher.recover()
            self.dispatcher.roster.follow()
            await stack.enter_async_context(self.face.callbacks.running())
            if self.mcp is not None:
                await stack.enter_async_context(self.mcp.lifespan())
            if self.sse is not None:
                self.sse.open()
                stack.callback(self.sse.drain)
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
            app = Compression(app, settings.mcp_paths)
        posts = {
            route.path: route for route in self.router.routes if isinstance(route, Route) and route.endpoint is self._gateway.mcp
        }
        app = AgentTable(app, self._gateway.table, posts)
        self.user_middleware = middlewares
        for cls, args, kwargs in reversed(middlewares):
            app = cls(app, *args, **kwargs)
        return app
