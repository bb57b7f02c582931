"""Exporting: spans on their way to an OTLP endpoint, or to the console, from a provider of our own: no global provider is set.

It imports OpenTelemetry's SDK (`portico[otel]`); `setup.py` decides whether it is imported at all. Spans are made by `spans.py`,
for requests in `server_spans.py`, for calls and handlings in `tracing.py`.
"""

from __future__ import annotations

import re
import sys
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.trace import get_current_span

from portico.errors import ConfigurationError
from portico.telemetry.otlp import exporter_of
from portico.telemetry.route_templates import RouteTemplates
from portico.telemetry.server_spans import ServerSpans, pattern_of
from portico.telemetry.spans import SAMPLED, Spans, place_of
from portico.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastapi import FastAPI
    from opentelemetry.sdk.trace import ReadableSpan

    from portico.telemetry.outlets import Outlets
    from portico.telemetry.redaction import Redaction
    from portico.telemetry.target import Target

GRACE: Final = 1.0
"""Seconds that the exporter gets to give up."""


class Counted(SpanExporter):
    """An exporter, with how much of what it was given it has lost."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.lost = 0
        """Spans that could not be sent."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter`."""
        try:
            result = self._exporter.export(spans)
        except BaseException:
            self.lost += len(spans)
            raise
        if result is not SpanExportResult.SUCCESS:
            self.lost += len(spans)
        return result

    def shutdown(self) -> None:
        """See `SpanExporter`."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """See `SpanExporter`."""
        return self._exporter.force_flush(timeout_millis)


class Batches(BatchSpanProcessor):
    """The SDK's processor, with how many spans it had no room for: its queue is bounded, and an endpoint may be slow."""

    def __init__(self, exporter: SpanExporter) -> None:
        super().__init__(exporter)
        self.dropped = 0
        """Spans that were pushed out of the queue."""
        self._full = getattr(getattr(self, "_batch_processor", None), "_queue", ())

    def on_end(self, span: ReadableSpan) -> None:
        """See `SpanProcessor`."""
        queue = self._full
        if len(queue) == getattr(queue, "maxlen", None):
            self.dropped += 1
        super().on_end(span)


class Way:
    """Where spans go, from a start to its end.

    Args:
        outlets: what all signals share.
        target: where traces go; None for nowhere but the console.
        printed: whether they are printed.

    Raises:
        ConfigurationError: limits that cannot be.
        MissingExtra: the exporter's package is not installed.
    """

    def __init__(self, outlets: Outlets, target: Target | None, *, printed: bool) -> None:
        self.exporters = [Counted(exporter_of(target))] if target is not None else []
        if printed:
            self.exporters.append(Counted(ConsoleSpanExporter(out=sys.stderr)))
        self.provider = TracerProvider(resource=outlets.resource, shutdown_on_exit=False)
        try:
            self.batches = [Batches(exporter) for exporter in self.exporters]
        except ValueError as error:
            raise ConfigurationError(f"The limits of OTEL_BSP_* cannot be: {error}") from None
        for one in self.batches:
            self.provider.add_span_processor(one)

    @property
    def lost(self) -> int:
        """Spans that nobody has got."""
        return sum(one.dropped for one in self.batches) + sum(one.lost for one in self.exporters)


@dataclass(slots=True)
class Telemetry:
    """The traces of one gateway, on their way to one endpoint. It is started already."""

    observer: Tracing
    """For the runtime and the dispatcher."""
    _spans: Spans
    _excluded: re.Pattern[str] | None
    _way: Way
    _make: Callable[[], Way]
    """One that was shut down does not begin again."""
    _outlets: Outlets
    _ended: bool = False
    _lost_before: int = 0

    def __post_init__(self) -> None:
        self._outlets.complaints.hear()

    def start(self) -> None:
        """Begin again, where it was shut down: an application may live more than once."""
        if self._ended:
            self._ended = False
            self._lost_before += self._way.lost
            self._way = self._make()
            self._spans.hand_to(self._way.provider)
            self._outlets.complaints.hear()

    @property
    def lost(self) -> int:
        """Spans that nobody has got: there was no room for them, or they could not be sent."""
        return self._lost_before + self._way.lost

    def instrument(self, app: FastAPI) -> None:
        """Give every request one server span. Before the first request; the application is made with FastAPI's own spans off.

        Not by the middleware of opentelemetry-instrumentation-fastapi, not even for what FastAPI serves: a request's span begins
        before anybody knows who will serve or refuse it, that middleware takes as long as everything else of a request together,
        and it writes the query down. Where a program was started by `opentelemetry-instrument`, it is taken off this application.
        """
        instrumentation: Any = sys.modules.get("opentelemetry.instrumentation.fastapi")
        if instrumentation is not None and getattr(app, "_is_instrumented_by_opentelemetry", False):
            instrumentation.FastAPIInstrumentor.uninstrument_app(app)
            app.middleware_stack = None  # which that has built
        app.add_middleware(cast("Any", ServerSpans), self._spans, RouteTemplates(app.router.routes), self._excluded)

    @staticmethod
    def traceparent() -> str | None:
        """That of the span which is current, where it is recorded."""
        place = place_of(get_current_span())
        return None if place is None or not place.flags & SAMPLED else place.traceparent

    def shutdown(self, timeout: float = 3.0) -> None:
        """Send what is left, and stop. Blocks, but not much longer than `timeout` seconds; what is not sent by then is lost."""
        self._ended = True
        ending = threading.Thread(target=self._way.provider.shutdown, name="portico-telemetry-shutdown", daemon=True)
        ending.start()
        ending.join(timeout)
        if ending.is_alive():
            for exporter in self._way.exporters:
                exporter.shutdown()  # ends the wait between two tries, and with it the other thread
            ending.join(GRACE)
        self._outlets.complaints.stop()


def export(
    outlets: Outlets,
    target: Target | None,
    *,
    printed: bool = False,
    excluded: str = "",
    captured: bool = False,
    redaction: Redaction | None = None,
) -> Telemetry:
    """Telemetry to an endpoint.

    Args:
        outlets: what all signals share.
        target: where traces go; None for nowhere but the console.
        printed: whether they are printed, to standard error: standard output may be a wire.
        excluded: patterns of paths whose requests have no span, with commas between.
        captured: whether spans have what was said to models and tools.
        redaction: takes secrets out of what errors say.

    Raises:
        ConfigurationError: a pattern that is none, or limits that cannot be.
        MissingExtra: the exporter's package is not installed.
    """
    try:
        pattern = pattern_of(excluded)
    except re.error as error:
        raise ConfigurationError(f"The excluded URLs {excluded!r} are no regular expressions: {error}.") from None
    make = partial(Way, outlets, target, printed=printed)
    way = make()
    spans = Spans(way.provider, redaction)
    return Telemetry(Tracing(spans, captured=captured), spans, pattern, way, make, outlets)
