"""Exchanged: what a server span says of the request of MCP that it is about, by OpenTelemetry's conventions for MCP.

The face tells plain words, since it knows nothing of spans: over HTTP to what `server_spans.py` leaves in the scope, over pipes to
what `tracing.py` makes of the first words, whose span is the server span itself.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import SpanKind, Status, StatusCode

from portico.telemetry import semconv
from portico.telemetry.spans import NOWHERE, Current, LiveSpan, placed, short

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from types import TracebackType

    from portico.telemetry.spans import Spans, UnsampledSpan

_CALLERS_FAULT: Final = frozenset({-32700, -32600, -32601, -32602})
"""Codes of JSON-RPC errors that say nothing bad of the server."""
_NAMES: Final[Mapping[str, str]] = {
    "method": semconv.MCP_METHOD,
    "protocol_version": semconv.MCP_VERSION,
    "session_id": semconv.MCP_SESSION,
    "request_id": semconv.JSONRPC_ID,
    "resource": semconv.MCP_RESOURCE,
    "transport": semconv.TRANSPORT,
}
"""Words of the face, and whose values they are."""


def name_of(exchange: Mapping[str, Any]) -> str:
    """What a span of its own is called. What is read is not in it: addresses are many."""
    return short(semconv.mcp_span(exchange["method"], exchange.get("tool") or exchange.get("prompt")))


def attributes_of(exchange: Mapping[str, Any]) -> dict[str, Any]:
    """Its attributes."""
    found: dict[str, Any] = {name: short(str(value)) for word, name in _NAMES.items() if (value := exchange.get(word)) is not None}
    if (tool := exchange.get("tool")) is not None:
        found[semconv.GEN_AI_OPERATION] = semconv.EXECUTE_TOOL
        found[semconv.GEN_AI_TOOL] = short(tool)
    if (prompt := exchange.get("prompt")) is not None:
        found[semconv.GEN_AI_PROMPT] = short(prompt)
    if (code := exchange.get("error_code")) is not None:
        found[semconv.RPC_STATUS] = found[semconv.ERROR_TYPE] = str(code)
    elif exchange.get("failed"):
        found[semconv.ERROR_TYPE] = semconv.TOOL_ERROR
    return found


class SpanExchange:
    """See `portico.runs.call_observer.Exchange`: what is told goes to a span when that ends."""

    __slots__ = ("_span", "_words")

    def __init__(self, span: LiveSpan | UnsampledSpan) -> None:
        self._span = span
        self._words: dict[str, Any] = {}

    def tell(self, **words: Any) -> None:
        """See `Exchange.tell`. Where the request of HTTP names no trace, but the one inside it does, the span belongs to that."""
        self._words.update(words)
        span = self._span
        if "traceparent" in words and isinstance(span, LiveSpan) and span.parent is None:
            span.adopt(placed(words["traceparent"], words.get("tracestate")))

    @contextmanager
    def within(self) -> Generator[None]:
        """See `Exchange.within`."""
        current = Current(self._span)
        current.enter()
        try:
            yield
        finally:
            current.leave()

    def end(self) -> None:
        """Say all that on the span, which is about to end."""
        words, span = self._words, self._span
        if not words or not isinstance(span, LiveSpan):
            return
        span.attributes.update(attributes_of(words))
        code = words.get("error_code")
        if (code is not None and code not in _CALLERS_FAULT) or (code is None and words.get("failed")):
            span.set_status(Status(StatusCode.ERROR))


class Exchanging:
    """Around one request over pipes: a span of its own, which is the current one inside."""

    __slots__ = ("_current", "_exchange", "_span")

    def __init__(self, spans: Spans, words: Mapping[str, Any]) -> None:
        parent = placed(words.get("traceparent"), words.get("tracestate"))
        self._span = spans.begin(name_of(words), SpanKind.SERVER, parent, attributes_of(words))
        self._current = Current(self._span)
        self._exchange = SpanExchange(self._span)
        self._exchange.tell(**words)

    def __enter__(self) -> SpanExchange:
        self._current.enter(NOWHERE)
        return self._exchange

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._current.leave()
        self._exchange.end()
        if isinstance(self._span, LiveSpan):
            self._span.end()
