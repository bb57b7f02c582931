"""ServerSpans: one server span for every HTTP request, by OpenTelemetry's conventions for HTTP, and for MCP where it is one of it.

The outermost ASGI middleware. Where a host's instrumentation has made the request's server span already, that one stands, and is
told the route. The query is not among the attributes: it may hold what nobody else is to read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import SpanKind, Status, StatusCode, get_current_span

from portico.runs.call_observer import EXCHANGE
from portico.telemetry import semconv
from portico.telemetry.exchanged import SpanExchange
from portico.telemetry.spans import Current, LiveSpan, UnsampledSpan, placed, short

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from portico.telemetry.spans import Spans

_SERVER_ERROR: Final = 500
_PORTS: Final = {"http": 80, "https": 443}


class ServerSpans:
    """ASGI middleware.

    Args:
        app: what it watches.
        spans: makes them.
        template: from a request's scope to the template of its route, once that is known.
        excluded: addresses that have no span; None for none.
    """

    def __init__(
        self, app: ASGIApp, spans: Spans, template: Callable[[Scope], str | None], excluded: re.Pattern[str] | None = None
    ) -> None:
        self.app = app
        self._spans = spans
        self._template = template
        self._excluded = excluded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind == "lifespan" or (self._excluded is not None and self._excluded.search(scope["path"])):
            await self.app(scope, receive, send)
            return
        host: Any = get_current_span()
        if host.is_recording() and getattr(host, "kind", None) is SpanKind.SERVER:
            await self._inside(host, scope, receive, send)
            return
        traceparent = state = None
        for name, value in scope["headers"]:
            if name == b"traceparent":
                traceparent = value.decode("latin-1")
            elif name == b"tracestate":
                state = value.decode("latin-1") if state is None else f"{state},{value.decode('latin-1')}"
        method: str = scope["method"] if kind == "http" else "GET"
        known = method in semconv.METHODS  # names are few
        span = self._spans.begin(
            method if known else "HTTP",
            SpanKind.SERVER,
            placed(traceparent, state),
            {semconv.HTTP_METHOD: method if known else "_OTHER", semconv.URL_PATH: short(scope["path"])},
        )
        current = Current(span)
        current.enter()
        exchange = scope[EXCHANGE] = SpanExchange(span)
        try:
            if kind == "websocket":
                await self._opened(span, scope, receive, send, current)
            elif isinstance(span, LiveSpan):
                await self._recorded(span, exchange, scope, receive, send)
            else:
                await self.app(scope, receive, send)
        finally:
            current.leave()

    async def _recorded(self, span: LiveSpan, exchange: SpanExchange, scope: Scope, receive: Receive, send: Send) -> None:
        _describe(span.attributes, scope)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._answered(span, scope, message["status"])
            await send(message)

        try:
            await self.app(scope, receive, named)
        except Exception as error:
            _raised(span, error)
            raise
        finally:
            exchange.end()
            span.end()

    async def _opened(self, span: LiveSpan | UnsampledSpan, scope: Scope, receive: Receive, send: Send, current: Current) -> None:
        """A WebSocket: the request is over with its handshake. What comes afterwards has traces of its own, sampled or not."""
        live = span if isinstance(span, LiveSpan) else None
        if live is not None:
            _describe(live.attributes, scope)

        async def named(message: Message) -> None:
            kind = message["type"]
            if kind in semconv.HANDSHAKES:
                if live is not None and live.ended is None:
                    self._answered(live, scope, message.get("status", semconv.HANDSHAKES[kind]))
                    live.end()
                current.leave()
            await send(message)

        try:
            await self.app(scope, receive, named)
        except Exception as error:
            if live is not None and live.ended is None:
                _raised(live, error)
            raise
        finally:
            span.end()

    async def _inside(self, host: Any, scope: Scope, receive: Receive, send: Send) -> None:
        """Another instrumentation has made the span; its names are its own, but the route only we know."""
        method: str = scope.get("method", "GET")

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start" and (path := self._template(scope)) is not None:
                host.set_attribute(semconv.HTTP_ROUTE, f"{scope.get('root_path', '')}{path}")
                host.update_name(f"{method if method in semconv.METHODS else 'HTTP'} {scope.get('root_path', '')}{path}")
            await send(message)

        await self.app(scope, receive, named)

    def _answered(self, span: LiveSpan, scope: Scope, status: int) -> None:
        attributes, path = span.attributes, self._template(scope)
        attributes[semconv.HTTP_STATUS] = status
        if path is not None:
            attributes[semconv.HTTP_ROUTE] = path
            span.name = f"{span.name} {path}"
        if status >= _SERVER_ERROR:
            attributes[semconv.ERROR_TYPE] = str(status)
            span.set_status(Status(StatusCode.ERROR))


def _raised(span: LiveSpan, error: Exception) -> None:
    span.attributes[semconv.ERROR_TYPE] = type(error).__qualname__
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
    span.record_exception(error)


def _describe(attributes: dict[str, Any], scope: Scope) -> None:
    """What is known of a request before it is answered."""
    scheme: str = scope.get("scheme", "http")
    scheme = {"ws": "http", "wss": "https"}.get(scheme, scheme)
    if attributes[semconv.HTTP_METHOD] == "_OTHER":
        attributes[semconv.HTTP_METHOD_ORIGINAL] = short(scope["method"])
    attributes[semconv.URL_SCHEME] = scheme
    attributes[semconv.PROTOCOL_VERSION] = scope.get("http_version", "1.1")
    client = scope.get("client")
    if client:
        attributes[semconv.CLIENT_ADDRESS] = client[0]
    host = None
    for name, value in scope["headers"]:
        if name == b"host":
            host = short(value.decode("latin-1"))
        elif name == b"user-agent":
            attributes[semconv.USER_AGENT] = short(value.decode("latin-1"))
    server = scope.get("server")
    if host:
        attributes[semconv.SERVER_ADDRESS], attributes[semconv.SERVER_PORT] = _split(host, _PORTS.get(scheme, 80))
    elif server:
        attributes[semconv.SERVER_ADDRESS], attributes[semconv.SERVER_PORT] = server[0], server[1] or 0


def _split(host: str, default: int) -> tuple[str, int]:
    """Name and port of a Host header (RFC 9110 §7.2)."""
    name, colon, port = host.rpartition(":")
    if colon and port.isdecimal() and port.isascii() and len(port) <= 5 and not (name.count(":") and not name.endswith("]")):  # noqa: PLR2004  # RFC 9293
        return name.strip("[]"), int(port)
    return host.strip("[]"), default


def pattern_of(excluded: str) -> re.Pattern[str] | None:
    """From a list of patterns, with commas between, to one; None for an empty list. Raises `re.error`."""
    patterns = [part.strip() for part in excluded.split(",") if part.strip()]
    return re.compile("|".join(patterns)) if patterns else None
