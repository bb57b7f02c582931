"""Tracing: the observer that turns calls and handlings into OpenTelemetry spans, with W3C Trace Context between them.

Above: `exporting.py` makes it. Below: the kernel's `Observer` and the dispatcher's `CallObserver`, whose hooks it implements, and
`spans.py`, which makes the spans. It knows no exporter and no global provider.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.context import attach, detach
from opentelemetry.trace import INVALID_SPAN, Link, SpanKind, Status, StatusCode, get_current_span, set_span_in_context

from portico.errors import AgentError, Cancelled, ContractViolation, CrashBudgetSpent, PorticoError, UnknownAgent, UnknownOperation
from portico.kernel.current import current
from portico.kernel.detours import detour_of
from portico.kernel.events import EventKind
from portico.runs.kernel_event_view import front_of
from portico.telemetry import semconv
from portico.telemetry.error_type import error_type_of
from portico.telemetry.exchanged import Exchanging
from portico.telemetry.lives import Lives
from portico.telemetry.outgoing import CallbackSpan, ModelSpan, ToolSpan
from portico.telemetry.redaction import secrets_by
from portico.telemetry.spans import NOWHERE, Current, LiveSpan, UnsampledSpan, is_unsampled, place_of, placed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

    from portico.kernel.events import KernelEvent
    from portico.kernel.messages import Message
    from portico.kernel.protocols import ModelCall, ToolExecution
    from portico.kernel.router import Router
    from portico.runs.call import Call
    from portico.runs.call_observer import Exchange
    from portico.telemetry.spans import Place, Spans
    from portico.webhooks.attempt import Attempt

_CALLERS_FAULT = (ContractViolation, UnknownAgent, UnknownOperation, CrashBudgetSpent, Cancelled)
"""Ends that say nothing bad of the gateway or its agents."""
_SERVER_ERROR = 500


class Tracing:
    """One observer for both doors: `dispatching` around calls, `handling` around handlings."""

    def __init__(self, spans: Spans, *, captured: bool = False) -> None:
        """`captured`: whether spans have what was said to models and tools."""
        self._spans = spans
        self._captured = captured
        self._lives = Lives(spans)
        self._agent_of: Callable[[str], str] = str
        self.open: dict[str, LiveSpan] = {}
        """Those that have begun and not ended, by their traceparent."""

    def follow(self, router: Router) -> None:
        """It is this runtime's processes whose starts and stops are told, and whose agents are known."""
        self._lives.front_of = partial(front_of, router)
        self._agent_of = router.registry.agent_of

    # --- the dispatcher's hook ----------------------------------------------------------------------------------------

    def dispatching(self, call: Call) -> AbstractContextManager[str | None] | None:
        """A span around one call. It yields the traceparent that its message carries."""
        server = get_current_span()
        if isinstance(server, UnsampledSpan) and self._spans.follows and _is_within(call, server):
            call.traceparent = server.traceparent
            return None
        agent, operation = call.endpoint.agent, call.endpoint.operation.name
        if isinstance(server, LiveSpan) and server.ended is not None:
            server = INVALID_SPAN  # of an earlier request: this task has outlived it
        parent, link = _parent_of(call, place_of(server))
        attributes: dict[str, Any] = {semconv.AGENT: agent, semconv.OPERATION: operation, semconv.ONE_WAY: call.one_way}
        span = self._spans.begin(semconv.dispatch_span(agent, operation), SpanKind.INTERNAL, parent, attributes)
        if not isinstance(span, LiveSpan):
            call.traceparent = span.traceparent
            return None
        if link is not None:
            span.add_link(link.context)
        return Dispatching(self, span, call)

    def exchanging(self, **words: Any) -> AbstractContextManager[Exchange]:
        """A server span around one request that comes over no HTTP."""
        return Exchanging(self._spans, words)

    # --- the kernel's hooks -------------------------------------------------------------------------------------------

    def handling(self, message: Message) -> AbstractContextManager[str | None]:
        """A span around one handling. It yields the traceparent that outgoing messages carry."""
        traceparent = message.traceparent
        if traceparent is not None and self._spans.follows and is_unsampled(traceparent):
            return Unrecorded(UnsampledSpan(traceparent))
        agent = self._agent_of(message.recipient)
        attributes: dict[str, Any] = {
            semconv.AGENT: agent,
            semconv.OPERATION: message.type,
            semconv.ATTEMPT: message.attempt,
            semconv.INCARNATION: _incarnation(),
        }
        name = semconv.handle_span(agent, message.type)
        sender = self.open.get(traceparent or "")
        parent = placed(traceparent) if sender is None else sender.place  # which also knows its tracestate
        span = self._spans.begin(name, SpanKind.INTERNAL, parent, attributes)
        if not isinstance(span, LiveSpan):
            return Unrecorded(span)
        if message.sender:
            attributes[semconv.SENDER] = self._agent_of(message.sender)
        if message.origin is not None:
            attributes[semconv.RUN_ID] = message.origin.call_id
        return Handling(self, span, message)

    def calling_model(self, call: ModelCall) -> AbstractContextManager[None] | None:
        """A span around one call of a model. Whose handling it is part of is an agent in the sense of the conventions."""
        handling = self.open.get(call.delivery.traceparent or "") if call.delivery is not None else None
        if handling is not None:
            handling.attributes[semconv.GEN_AI_OPERATION] = semconv.INVOKE_AGENT
            handling.attributes[semconv.GEN_AI_AGENT] = call.agent
            handling.attributes[semconv.GEN_AI_PROVIDER] = call.identity.vendor
        return ModelSpan(self._spans, call, captured=self._captured)

    def calling_tool(self, call: ToolExecution) -> AbstractContextManager[str]:
        """A span around one call of a tool. It yields the traceparent that outgoing messages carry."""
        return ToolSpan(self._spans, call, captured=self._captured)

    def calling_back(self, attempt: Attempt) -> AbstractContextManager[str]:
        """A span around one attempt to tell somebody of a run's end, in the trace of the run."""
        return CallbackSpan(self._spans, attempt)

    def event(self, event: KernelEvent) -> None:
        """A start or a stop becomes a span; a dead letter an event on the span of whoever sent the message, while that is open."""
        if event.kind is EventKind.PROCESS_STATUS:
            self._lives.status(event)
            return
        if event.kind is not EventKind.DEAD_LETTER:
            return
        message: Message = event.data["message"]
        told = {semconv.AGENT: self._agent_of(event.name), semconv.REASON: str(event.data["reason"])}
        _tell(semconv.DEAD_LETTER, told, self.sender(message))

    def sender(self, message: Message) -> LiveSpan | None:
        """The span of whoever sent the message, while it is open."""
        return self.open.get(message.traceparent or "")


class Unrecorded:
    """Around a handling that is not sampled: what the handler or its libraries trace is not sampled either."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: UnsampledSpan) -> None:
        self._span = span

    def __enter__(self) -> str:
        self._token = attach(set_span_in_context(self._span, NOWHERE))
        return self._span.traceparent

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        detach(self._token)


class Dispatching:
    """The span of one call. It is not made the current one: nothing of anybody else's runs inside."""

    __slots__ = ("_call", "_span", "_traceparent", "_tracing")

    def __init__(self, tracing: Tracing, span: LiveSpan, call: Call) -> None:
        self._tracing = tracing
        self._span = span
        self._call = call
        self._traceparent = span.place.traceparent

    def __enter__(self) -> str:
        self._tracing.open[self._traceparent] = self._span
        return self._traceparent

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._tracing.open.pop(self._traceparent, None)
        if self._call.run is not None:
            self._span.attributes[semconv.RUN_ID] = self._call.run.run_id
        if error is not None:
            _blame(self._span, error, self._spoken(error))
        self._span.end()

    def _spoken(self, error: BaseException) -> str:
        """What it says. No message is in hand here, so the secrets are those of the call."""
        return self._span.clean(str(error), secrets_by(self._call.endpoint.operation.contract, self._call.payload))


class Handling:
    """The span of one handling. It is the current one inside, for what the handler itself, or its libraries, trace."""

    __slots__ = ("_current", "_message", "_span", "_traceparent", "_tracing")

    def __init__(self, tracing: Tracing, span: LiveSpan, message: Message) -> None:
        self._tracing = tracing
        self._span = span
        self._message = message
        self._traceparent = span.place.traceparent
        self._current = Current(span)

    def __enter__(self) -> str:
        self._tracing.open[self._traceparent] = self._span
        self._current.enter(NOWHERE)
        return self._traceparent

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._current.leave()
        self._tracing.open.pop(self._traceparent, None)
        span = self._span
        if error is not None and detour_of(error) is None:  # a run that waits, or that another agent goes on with, has not failed
            if _is_crash(error):
                told = {key: span.attributes.get(key) for key in (semconv.AGENT, semconv.ATTEMPT, semconv.INCARNATION)}
                _tell(
                    semconv.CRASHED, {**told, semconv.ERROR_TYPE: error_type_of(error)}, span, self._tracing.sender(self._message)
                )
            _blame(span, error, str(error))
        span.end()


def _tell(name: str, attributes: Mapping[str, Any], *spans: LiveSpan | None) -> None:
    for span in spans:
        if span is not None:
            span.add_event(name, attributes)


def _is_within(call: Call, server: UnsampledSpan) -> bool:
    """Whether a call belongs to the trace of the request that brought it: its characters 3 to 35 are the trace's identifier."""
    return call.traceparent is None or call.traceparent[3:35] == server.traceparent[3:35]


def _parent_of(call: Call, server: Place | None) -> tuple[Place | None, Link | None]:
    """What a call's span is a child of: the server span that is current, unless the call belongs to another trace.

    The server span is a child of what the request's `traceparent` names, and so is of one trace with the call. Where an MCP
    message names another trace than the request that brought it, the message is right, and the request is linked.
    """
    if server is None:
        return placed(call.traceparent), None
    if call.traceparent is not None and f"{server.trace_id:032x}" not in call.traceparent:
        caller = placed(call.traceparent)
        if caller is not None:
            return caller, Link(server.context)
    return server, None


def _incarnation() -> int:
    delivery = current.get()
    return delivery.holder.number if delivery is not None and delivery.holder is not None else 0


def _is_crash(error: BaseException) -> bool:
    return isinstance(error, Exception) and not isinstance(error, PorticoError)


def _blame(span: LiveSpan, error: BaseException, spoken: str) -> None:
    """Say on a span how it failed. What the caller did wrong, or wished, is told but is no failure."""
    if isinstance(error, asyncio.CancelledError):
        span.attributes[semconv.ERROR_TYPE] = Cancelled.slug
        return
    span.attributes[semconv.ERROR_TYPE] = error_type_of(error)
    if isinstance(error, _CALLERS_FAULT) or (isinstance(error, AgentError) and error.status < _SERVER_ERROR):
        return
    span.set_status(Status(StatusCode.ERROR, spoken))
    if _is_crash(error):
        span.record_exception(error)
