"""Exporting: spans to an OTLP endpoint over HTTP, from a provider of our own: no global provider is set.

It imports OpenTelemetry's SDK and its exporter (`portico[otel]`); `setup.py` decides whether it is imported at all. Spans are made
by `spans.py`, for requests in `server_spans.py`, for calls and handlings in `tracing.py`.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import get_current_span

from portico.errors import ConfigurationError
from portico.telemetry.route_templates import RouteTemplates
from portico.telemetry.server_spans import ServerSpans, pattern_of
from portico.telemetry.spans import SAMPLED, Spans, place_of
from portico.telemetry.tracing import Tracing
from portico.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

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


@dataclass(slots=True)
class Telemetry:
    """The traces of one gateway, on their way to one endpoint."""

    observer: Tracing
    """For the runtime and the dispatcher."""
    _spans: Spans
    _excluded: re.Pattern[str] | None
    _provider: TracerProvider
    _exporter: OTLPSpanExporter
    _complaints: Complaints = field(default_factory=Complaints)

    def __post_init__(self) -> None:
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self._complaints)

    def instrument(self, app: FastAPI) -> None:
        """Give every request one server span. Before the first request; the application is made with FastAPI's own spans off.

        Not by the middleware of opentelemetry-instrumentation-asgi: it takes as long as everything else of a request together,
        and knows no route outside FastAPI's router.
        """
        app.add_middleware(cast("Any", ServerSpans), self._spans, RouteTemplates(app.router.routes), self._excluded)

    @staticmethod
    def traceparent() -> str | None:
        """That of the span which is current, where it is recorded."""
        place = place_of(get_current_span())
        return None if place is None or not place.flags & SAMPLED else place.traceparent

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


def export(endpoint: str, service_name: str | None, excluded: str = "") -> Telemetry:
    """Telemetry to an endpoint.

    Args:
        endpoint: where traces go.
        service_name: None where the environment's resource attributes have it.
        excluded: patterns of paths whose requests have no span, with commas between.

    Raises:
        ConfigurationError: a pattern that is none.
    """
    try:
        pattern = pattern_of(excluded)
    except re.error as error:
        raise ConfigurationError(f"The excluded URLs {excluded!r} are no regular expressions: {error}.") from None
    resource = {SERVICE_VERSION: __version__}
    if service_name is not None:
        resource[SERVICE_NAME] = service_name
    exporter = OTLPSpanExporter(endpoint)
    provider = TracerProvider(resource=Resource.create(resource), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    spans = Spans(provider)
    return Telemetry(Tracing(spans), spans, pattern, provider, exporter)
