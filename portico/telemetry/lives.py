"""Lives: the spans of processes that start and stop, each a trace of its own. Made of what the kernel tells afterwards.

Above: `tracing.py`, which hands on the kernel's events. Where a process does not start, or ends as nobody wanted, its span says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import SpanKind, Status, StatusCode

from portico.kernel.lifecycle import ProcessStatus
from portico.telemetry import semconv
from portico.telemetry.spans import LiveSpan

if TYPE_CHECKING:
    from portico.kernel.events import KernelEvent
    from portico.telemetry.spans import Spans

_ENDS: Final = (ProcessStatus.STOPPED, ProcessStatus.FAILED, ProcessStatus.RESTARTING)
_NANO: Final = 1_000_000_000


class Lives:
    """Those of one runtime."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._steps: dict[str, tuple[ProcessStatus, float]] = {}
        """The step that each process is taking, and since when."""

    def status(self, event: KernelEvent) -> None:
        """A process took a step of its lifecycle."""
        status = ProcessStatus(event.data["status"])
        before = self._steps.pop(event.name, None)
        if before is not None:
            self._end(event, before, status)
        if status in (ProcessStatus.STARTING, ProcessStatus.STOPPING):
            self._steps[event.name] = status, event.timestamp

    def _end(self, event: KernelEvent, before: tuple[ProcessStatus, float], status: ProcessStatus) -> None:
        step, since = before
        starting = step is ProcessStatus.STARTING
        name = semconv.start_span(event.name) if starting else semconv.stop_span(event.name)
        attributes: dict[str, Any] = {semconv.AGENT: event.name, semconv.STATUS: status.value}
        span = self._spans.begin(name, SpanKind.INTERNAL, None, attributes)
        if not isinstance(span, LiveSpan):
            return
        span.started = int(since * _NANO)
        if (status in _ENDS) if starting else (status is ProcessStatus.FAILED):
            attributes[semconv.ERROR_TYPE] = "start-failed" if starting else "agent-failed"
            span.set_status(Status(StatusCode.ERROR))
        span.end(max(span.started, int(event.timestamp * _NANO)))
