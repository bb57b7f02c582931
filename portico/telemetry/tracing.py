"""Tracing: the observer that turns calls and handlings into OpenTelemetry spans, with W3C Trace Context between them.

Above: `exporting.py` gives it a tracer. Below: the kernel's `Observer` and the dispatcher's `CallObserver`, whose hooks it
implements. It knows OpenTelemetry's API only: no SDK, no exporter, no global provider.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, get_current_span, set_span_in_context, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from portico.errors import AgentError, Cancelled, ContractViolation, CrashBudgetSpent, PorticoError, UnknownAgent, UnknownOperation
from portico.kernel.current import current
from portico.kernel.events import EventKind
from portico.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from opentelemetry.trace import Span, Tracer

    from portico.kernel.events import KernelEvent
    from portico.kernel.messages import Message
    from portico.runs.call import Call

_W3C = TraceContextTextMapPropagator()
_CALLERS_FAULT = (ContractViolation, UnknownAgent, UnknownOperation, CrashBudgetSpent, Cancelled)
"""Ends that say nothing bad of the gateway or its agents."""
_SERVER_ERROR = 500


class Tracing:
    """One observer for both doors: `dispatching` around calls, `handling` around handlings."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._open: dict[str, Span] = {}

    # --- the dispatcher's hook ----------------------------------------------------------------------------------------

    @contextmanager
    def dispatching(self, call: Call) -> Generator[str | None]:
        """A span around one call. It yields the traceparent that its message carries."""
        agent, operation = call.endpoint.agent, call.endpoint.operation.name
        parent, links = _parent_of(call)
        attributes = {semconv.AGENT: agent, semconv.OPERATION: operation, semconv.ONE_WAY: call.one_way}
        with self._span(semconv.dispatch_span(agent, operation), parent, attributes, links) as (span, traceparent):
            try:
                yield traceparent
            finally:
                if call.run is not None:
                    span.set_attribute(semconv.RUN_ID, call.run.run_id)

    # --- the kernel's hooks -------------------------------------------------------------------------------------------

    @contextmanager
    def handling(self, message: Message) -> Generator[str | None]:
        """A span around one handling. It yields the traceparent that outgoing messages carry."""
        attributes: dict[str, Any] = {
            semconv.AGENT: message.recipient,
            semconv.OPERATION: message.type,
            semconv.ATTEMPT: message.attempt,
            semconv.INCARNATION: _incarnation(),
        }
        if message.sender:
            attributes[semconv.SENDER] = message.sender
        if message.origin is not None:
            attributes[semconv.RUN_ID] = message.origin.call_id
        name = semconv.handle_span(message.recipient, message.type)
        with self._span(name, _extracted(message.traceparent), attributes) as (span, traceparent):
            try:
                yield traceparent
            except Exception as error:
                if _is_crash(error):
                    told = {key: attributes[key] for key in (semconv.AGENT, semconv.ATTEMPT, semconv.INCARNATION)}
                    self._tell(semconv.CRASHED, {**told, semconv.ERROR_TYPE: _error_type(error)}, span, self._sender(message))
                raise

    def event(self, event: KernelEvent) -> None:
        """A dead letter becomes an event on the span of whoever sent the message, while that is open."""
        if event.kind is not EventKind.DEAD_LETTER:
            return
        message: Message = event.data["message"]
        told = {semconv.AGENT: event.name, semconv.REASON: str(event.data["reason"])}
        self._tell(semconv.DEAD_LETTER, told, self._sender(message))

    # --- inside -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _span(
        self, name: str, parent: Context, attributes: Mapping[str, Any], links: Sequence[Link] = ()
    ) -> Generator[tuple[Span, str | None]]:
        """A span that is current inside, and its traceparent."""
        span = self._tracer.start_span(name, parent, SpanKind.INTERNAL, attributes, links)
        traceparent = _traceparent(span)
        self._open[traceparent] = span
        try:
            with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
                try:
                    yield span, traceparent or None
                except BaseException as error:
                    _blame(span, error)
                    raise
        finally:
            self._open.pop(traceparent, None)

    def _sender(self, message: Message) -> Span | None:
        """The span of whoever sent the message, while it is open."""
        return self._open.get(message.traceparent or "")

    def _tell(self, name: str, attributes: Mapping[str, Any], *spans: Span | None) -> None:
        for span in spans:
            if span is not None:
                span.add_event(name, attributes)


def _parent_of(call: Call) -> tuple[Context, Sequence[Link]]:
    """What a call's span is a child of: the server span that is current, unless the call belongs to another trace.

    The server span is a child of what the request's `traceparent` names, and so is of one trace with the call. Where an MCP
    message names another trace than the request that brought it, the message is right, and the request is linked.
    """
    here, given = get_current_span(), _extracted(call.traceparent)
    server, caller = here.get_span_context(), get_current_span(given).get_span_context()
    if not server.is_valid:
        return given, ()
    if caller.is_valid and caller.trace_id != server.trace_id:
        return given, (Link(server),)
    return set_span_in_context(here, Context()), ()


def _extracted(traceparent: str | None) -> Context:
    """The context of a traceparent; an empty one where there is none or it is malformed. Never what happens to be current."""
    return _W3C.extract({"traceparent": traceparent} if traceparent else {}, context=Context())


def _traceparent(span: Span) -> str:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, context=set_span_in_context(span, Context()))
    return carrier.get("traceparent", "")


def _incarnation() -> int:
    delivery = current.get()
    return delivery.holder.number if delivery is not None and delivery.holder is not None else 0


def _is_crash(error: BaseException) -> bool:
    return isinstance(error, Exception) and not isinstance(error, PorticoError)


def _error_type(error: BaseException) -> str:
    return error.slug if isinstance(error, PorticoError) else type(error).__qualname__


def _blame(span: Span, error: BaseException) -> None:
    """Say on a span how it failed. What the caller did wrong, or wished, is told but is no failure."""
    if isinstance(error, asyncio.CancelledError):
        span.set_attribute(semconv.ERROR_TYPE, Cancelled.slug)
        return
    span.set_attribute(semconv.ERROR_TYPE, _error_type(error))
    if isinstance(error, _CALLERS_FAULT) or (isinstance(error, AgentError) and error.status < _SERVER_ERROR):
        return
    span.set_status(Status(StatusCode.ERROR, str(error)))
    if _is_crash(error):
        span.record_exception(error)
