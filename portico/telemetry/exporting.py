"""Exporting: spans to an OTLP endpoint over HTTP, from a provider of our own: no global provider is set.

The one file that imports OpenTelemetry's SDK, its exporter and its ASGI middleware (`portico[otel]`). `setup.py` decides
whether it is imported at all; `tracing.py` makes the spans.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from fastapi.routing import iter_route_contexts
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware  # pyright: ignore[reportMissingTypeStubs]
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import get_current_span
from opentelemetry.util.http import get_excluded_urls, sanitize_method

from portico.operations.operation import RouteSpec
from portico.telemetry import semconv
from portico.telemetry.tracing import Tracing
from portico.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastapi import FastAPI
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGGERS: Final = (
    "opentelemetry.exporter.otlp.common.http",
    "opentelemetry.exporter.otlp.proto.http._common",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.sdk.trace",
    "opentelemetry.sdk.trace.export",
)
"""Who complains when an endpoint is down."""
QUIET: Final = 60.0
"""Seconds in which one complaint is enough."""
GRACE: Final = 1.0
"""Seconds that the exporter gets to give up."""


class Complaints(logging.Filter):
    """Lets one record per minute pass, of all loggers that share it. `now`: seconds on a clock that only goes on."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._silent_until = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes."""
        del record
        now = self._now()
        if now < self._silent_until:
            return False
        self._silent_until = now + QUIET
        return True


class RouteNames:
    """ASGI middleware: names the server span after the route, which is known when the response begins.

    The agent table leaves its `RouteSpec` in the scope as `route`, FastAPI its route object, without the prefixes of its routers.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self.app = app
        self._routes = routes
        self._paths: dict[int, str | None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        span = get_current_span()
        if scope["type"] != "http" or not span.is_recording():
            await self.app(scope, receive, send)
            return

        async def named(message: Message) -> None:
            path = self._path(scope.get("route")) if message["type"] == "http.response.start" else None
            if path is not None:
                span.update_name(f"{_method(scope)} {path}")
                span.set_attribute(semconv.HTTP_ROUTE, path)
            await send(message)

        await self.app(scope, receive, named)

    def _path(self, route: BaseRoute | RouteSpec | None) -> str | None:
        if isinstance(route, RouteSpec):
            return route.path
        if self._paths is None:
            self._paths = {id(context.original_route): context.path for context in iter_route_contexts(self._routes)}
        return self._paths.get(id(route))


def _method(scope: Scope) -> str:
    """The method, or `HTTP` for one that nobody knows: names of spans are few."""
    method = cast("str", sanitize_method(scope.get("method", "HTTP")))
    return "HTTP" if method == "_OTHER" else method


def _unrouted(scope: Scope) -> tuple[str, dict[str, str]]:
    """Name and attributes of a server span as long as its route is not known."""
    return _method(scope), {}


@dataclass(slots=True)
class Telemetry:
    """The traces of one gateway, on their way to one endpoint."""

    observer: Tracing
    """For the runtime and the dispatcher."""
    _provider: TracerProvider
    _exporter: OTLPSpanExporter
    _complaints: Complaints = field(default_factory=Complaints)

    def __post_init__(self) -> None:
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self._complaints)

    def instrument(self, app: FastAPI) -> None:
        """Give every request one server span. Before the first request; FastAPI's native spans then stay off.

        The middleware of opentelemetry-instrumentation-fastapi is used without its instrumentor: that one expects Starlette's own
        stack of middlewares, knows no route outside FastAPI's router, and patches background tasks for the whole process.
        """
        app.add_middleware(RouteNames, app.router.routes)
        app.add_middleware(
            cast("Any", OpenTelemetryMiddleware),
            tracer_provider=self._provider,
            exclude_spans=["receive", "send"],
            default_span_details=_unrouted,
            excluded_urls=get_excluded_urls("FASTAPI"),
        )

    def shutdown(self, timeout: float = 3.0) -> None:
        """Send what is left, and stop. Blocks, but not much longer than `timeout` seconds; what is not sent by then is lost."""
        ending = threading.Thread(target=self._provider.shutdown, name="portico-telemetry-shutdown", daemon=True)
        ending.start()
        ending.join(timeout)
        if ending.is_alive():
            self._exporter.shutdown()  # ends the wait between two tries, and with it the other thread
            ending.join(GRACE)
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(self._complaints)


def export(endpoint: str, service_name: str | None) -> Telemetry:
    """Telemetry to an endpoint. `service_name`: None where the environment's resource attributes have it."""
    resource = {SERVICE_VERSION: __version__}
    if service_name is not None:
        resource[SERVICE_NAME] = service_name
    exporter = OTLPSpanExporter(endpoint)
    provider = TracerProvider(resource=Resource.create(resource), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Telemetry(Tracing(provider.get_tracer(semconv.SCOPE, __version__)), provider, exporter)
