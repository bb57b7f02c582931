"""Outgoing: the spans of what agents call, by OpenTelemetry's conventions for generative AI and for MCP.

Above: `tracing.py`, whose hooks `calling_model` and `calling_tool` lead here. Below: `spans.py`. A tool of an external server has
one span for both conventions, as they ask for where one program makes both: `tools/call …`, with what belongs to an execution.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry.trace import SpanKind, Status, StatusCode, get_current_span

from portico.errors import Cancelled, ModelError
from portico.kernel.current import trace_of
from portico.kernel.detours import detour_of
from portico.runs.ledger import tokens_of
from portico.telemetry import semconv
from portico.telemetry.content import Content, secrets_given
from portico.telemetry.error_type import error_type_of
from portico.telemetry.spans import Current, LiveSpan, UnsampledSpan, place_of, placed, short

if TYPE_CHECKING:
    from types import TracebackType

    from portico.kernel.delivery import Delivery
    from portico.kernel.protocols import Exchange, ModelCall, ToolExecution
    from portico.telemetry.spans import Place, Spans
    from portico.webhooks.attempt import Attempt

_PORTS = {"http": 80, "https": 443}
_CALLBACK = "POST"
"""The method by which somebody is told of a run's end."""


class ModelSpan:
    """Around one call of a model. Only where the answer is not streamed is its span the current one."""

    __slots__ = ("_call", "_captured", "_current", "_span")

    def __init__(self, spans: Spans, call: ModelCall, *, captured: bool) -> None:
        identity = call.identity
        attributes: dict[str, Any] = {
            semconv.GEN_AI_OPERATION: semconv.CHAT,
            semconv.GEN_AI_PROVIDER: identity.vendor,
            semconv.GEN_AI_AGENT: call.agent,
        }
        if identity.model:
            attributes[semconv.GEN_AI_REQUEST_MODEL] = short(identity.model)
        if call.streamed:
            attributes[semconv.GEN_AI_STREAM] = True
        if identity.url:
            url = urlsplit(identity.url)
            attributes[semconv.SERVER_ADDRESS] = url.hostname or ""
            attributes[semconv.SERVER_PORT] = url.port or _PORTS.get(url.scheme, 443)
        self._call = call
        self._captured = captured
        parent = above(call.delivery)
        self._span = spans.begin(semconv.chat_span(short(identity.model)), SpanKind.CLIENT, parent, attributes)
        self._current = None if call.streamed else Current(self._span)

    def __enter__(self) -> None:
        if self._current is not None:
            self._current.enter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._current is not None:
            self._current.leave()
        span, call = self._span, self._call
        if isinstance(span, LiveSpan):
            try:
                self._describe(span.attributes, call)
                if call.error is not None:
                    _blame_model(span, call.error)
            finally:
                span.end()

    def _describe(self, attributes: dict[str, Any], call: ModelCall) -> None:
        response = call.response
        if call.first_piece_after is not None:
            attributes[semconv.GEN_AI_FIRST_CHUNK] = call.first_piece_after
        taken = dict(zip((semconv.GEN_AI_TOKENS_IN, semconv.GEN_AI_TOKENS_OUT), tokens_of(call) or (), strict=False))
        attributes.update({name: count for name, count in taken.items() if count is not None})
        if response is not None:
            found = {
                semconv.GEN_AI_RESPONSE_MODEL: short(response.model) if response.model else None,
                semconv.GEN_AI_RESPONSE_ID: short(response.id) if response.id is not None else None,
                semconv.GEN_AI_FINISH_REASONS: (short(response.finish_reason),) if response.finish_reason else None,
            }
            attributes.update({name: value for name, value in found.items() if value is not None})
        if self._captured:
            content = Content.said(call)
            attributes[semconv.GEN_AI_INPUT] = content.input(call.messages)
            if (instructions := content.instructions(call.messages)) is not None:
                attributes[semconv.GEN_AI_INSTRUCTIONS] = instructions
            if response is not None:
                attributes[semconv.GEN_AI_OUTPUT] = content.output(response)


class ToolSpan:
    """Around one call of a tool. Its span is the current one, and what the tool asks belongs below it."""

    __slots__ = ("_call", "_captured", "_current", "_span")

    def __init__(self, spans: Spans, call: ToolExecution, *, captured: bool) -> None:
        server = call.server
        tool = call.tool if server is None else call.tool.rpartition("/")[2]
        attributes: dict[str, Any] = {
            semconv.GEN_AI_OPERATION: semconv.EXECUTE_TOOL,
            semconv.GEN_AI_TOOL: tool,
            semconv.GEN_AI_TOOL_TYPE: semconv.FUNCTION if server is None else semconv.EXTENSION,
            semconv.GEN_AI_AGENT: call.agent,
        }
        if call.call_id is not None:
            attributes[semconv.GEN_AI_CALL_ID] = short(call.call_id)
        if server is not None:
            attributes[semconv.MCP_METHOD] = semconv.TOOLS_CALL
            attributes[semconv.MCP_SERVER] = server
        elif call.description:
            attributes[semconv.GEN_AI_TOOL_DESCRIPTION] = short(call.description)
        name = semconv.tool_span(tool) if server is None else semconv.mcp_span(semconv.TOOLS_CALL, tool)
        kind = SpanKind.INTERNAL if server is None else SpanKind.CLIENT
        self._call = call
        self._captured = captured
        self._span = spans.begin(name, kind, above(call.delivery), attributes)
        self._current = Current(self._span)
        place = self._span.place
        call.tracestate = place.state.to_header() if place.state else None

    def __enter__(self) -> str:
        self._current.enter()
        return self._span.place.traceparent

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._current.leave()
        span, call = self._span, self._call
        if isinstance(span, LiveSpan):
            try:
                if call.exchange is not None:
                    _exchanged(span.attributes, call.exchange)
                if self._captured:
                    content = Content.done(call)
                    span.attributes[semconv.GEN_AI_ARGUMENTS] = content.arguments(call.arguments, call.schema)
                    if call.error is None:
                        span.attributes[semconv.GEN_AI_RESULT] = content.result(call.result)
                if call.error is not None:
                    _blame_tool(span, call)
            finally:
                span.end()


class CallbackSpan:
    """Around one attempt to tell somebody of a run's end. Of its address, only what is no secret: neither path nor query."""

    __slots__ = ("_attempt", "_span")

    def __init__(self, spans: Spans, attempt: Attempt) -> None:
        url = urlsplit(attempt.url)
        attributes: dict[str, Any] = {
            semconv.HTTP_METHOD: _CALLBACK,
            semconv.SERVER_ADDRESS: url.hostname or "",
            semconv.SERVER_PORT: url.port or _PORTS.get(url.scheme, 443),
            semconv.URL_SCHEME: url.scheme,
            semconv.AGENT: attempt.agent,
            semconv.RUN_ID: attempt.run_id,
        }
        if attempt.number:
            attributes[semconv.HTTP_RESEND] = attempt.number
        self._attempt = attempt
        self._span = spans.begin(semconv.callback_span(_CALLBACK), SpanKind.CLIENT, placed(attempt.traceparent), attributes)

    def __enter__(self) -> str:
        return self._span.place.traceparent

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        span, outcome = self._span, self._attempt.outcome
        if not isinstance(span, LiveSpan):
            return
        if outcome is None:
            span.attributes[semconv.ERROR_TYPE] = Cancelled.slug
        else:
            if outcome.status is not None:
                span.attributes[semconv.HTTP_STATUS] = outcome.status
            if outcome.error is not None:
                span.attributes[semconv.ERROR_TYPE] = str(outcome.status) if outcome.status is not None else "_OTHER"
                span.set_status(Status(StatusCode.ERROR, outcome.error))
        span.end()


def above(delivery: Delivery | None) -> Place | None:
    """What a call that is made now is a child of: the span that is current, else what the delivery in hand says."""
    current = get_current_span()
    if isinstance(current, LiveSpan | UnsampledSpan):
        return current.place
    found = place_of(current)
    if found is not None or delivery is None:
        return found
    return placed(trace_of(delivery))


def _exchanged(attributes: dict[str, Any], exchange: Exchange) -> None:
    found = {
        semconv.TRANSPORT: exchange.transport or None,
        semconv.SERVER_ADDRESS: exchange.address,
        semconv.SERVER_PORT: exchange.port,
        semconv.MCP_VERSION: exchange.protocol_version,
        semconv.MCP_SESSION: exchange.session_id,
        semconv.JSONRPC_ID: exchange.request_id,
        semconv.RPC_STATUS: str(exchange.error_code) if exchange.error_code is not None else None,
        semconv.HTTP_RESEND: exchange.sent - 1 if exchange.sent > 1 else None,
    }
    attributes.update(
        {name: short(value) if isinstance(value, str) else value for name, value in found.items() if value is not None}
    )


def _blame_model(span: LiveSpan, error: BaseException) -> None:
    span.attributes[semconv.ERROR_TYPE] = error_type_of(error)
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return
    if isinstance(error, ModelError) and error.status is not None:
        span.attributes[semconv.HTTP_STATUS] = error.status
    span.set_status(Status(StatusCode.ERROR, str(error)))


def _blame_tool(span: LiveSpan, call: ToolExecution) -> None:
    error, exchange = call.error, call.exchange
    if error is None or detour_of(error) is not None:
        return
    if isinstance(error, asyncio.CancelledError):
        span.attributes[semconv.ERROR_TYPE] = error_type_of(error)
        return
    if exchange is not None and exchange.failed:
        found = semconv.TOOL_ERROR
    elif exchange is not None and exchange.error_code is not None:
        found = str(exchange.error_code)
    else:
        found = error_type_of(error)
    span.attributes[semconv.ERROR_TYPE] = found
    # What a tool's result says is content, even where it is an error.
    spoken = None if found == semconv.TOOL_ERROR else span.clean(str(error), secrets_given(call))
    span.set_status(Status(StatusCode.ERROR, spoken))
