"""LogContext: what a log line belongs to: the request, the run, the trace, the agent. Found where the line is written.

A handler's own task, its threads and what it calls have the delivery in hand (`kernel/current.py`); what serves a request has that,
where `RequestId` has noted it. Nothing is carried along for it. Below: the kernel. It knows no OpenTelemetry: where a program has
loaded that, the span that is current there counts.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portico.kernel.current import current

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.kernel.delivery import Delivery

request_in_hand: ContextVar[Mapping[str, Any] | None] = ContextVar("portico_request_in_hand", default=None)
"""The ASGI scope of the request that is served in this task. Like the kernel's `current`, it holds something per task only."""

_REQUEST_ID = "portico.request_id"
_PRINCIPAL = "portico.principal"
_CALL = "portico.call"
"""The scope's keys, as `routes/exchange.py` has them."""


@dataclass(frozen=True, slots=True)
class LogContext:
    """What a line belongs to. None: that is not known, or there is none."""

    request_id: str | None = None
    run_id: str | None = None
    trace_id: str | None = None
    """32 hex digits."""
    span_id: str | None = None
    """16 hex digits."""
    agent: str | None = None
    principal: str | None = None

    def known(self) -> dict[str, str]:
        """What is known, by name."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}


def log_context() -> LogContext:
    """That of a line which is written here and now."""
    delivery = current.get()
    if delivery is not None:
        return _of_delivery(delivery)
    scope = request_in_hand.get()
    trace_id, span_id = _current_span() or (None, None)
    if scope is None:
        return LogContext(trace_id=trace_id, span_id=span_id)
    call = scope.get(_CALL)
    run = call.run if call is not None else None
    if trace_id is None and call is not None:
        trace_id, span_id = _parts(call.traceparent)
    return LogContext(
        request_id=scope.get(_REQUEST_ID),
        run_id=run.run_id if run is not None else None,
        trace_id=trace_id,
        span_id=span_id,
        agent=call.endpoint.agent if call is not None else None,
        principal=scope.get(_PRINCIPAL),
    )


def trace_here() -> str | None:
    """The trace that OpenTelemetry says is current here; None without it."""
    found = _current_span()
    return found[0] if found is not None else None


def _of_delivery(delivery: Delivery) -> LogContext:
    message = delivery.message
    origin = message.origin
    trace_id, span_id = _current_span() or _parts(delivery.traceparent)
    return LogContext(
        request_id=origin.request_id if origin is not None else None,
        run_id=origin.call_id if origin is not None else None,
        trace_id=trace_id,
        span_id=span_id,
        agent=message.recipient,
        principal=origin.principal if origin is not None else None,
    )


def _current_span() -> tuple[str, str] | None:
    """The trace and the span that OpenTelemetry says are current here."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    return (f"{context.trace_id:032x}", f"{context.span_id:016x}") if context.is_valid else None


def _parts(traceparent: str | None) -> tuple[str | None, str | None]:
    """Trace and span of W3C Trace Context."""
    parts = (traceparent or "").split("-")
    fits = len(parts) >= 4 and len(parts[1]) == 32 and len(parts[2]) == 16  # noqa: PLR2004  # version, trace, span, flags
    return (parts[1], parts[2]) if fits else (None, None)
