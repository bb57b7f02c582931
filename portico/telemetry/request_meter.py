"""RequestMeter: counts requests and how long they took, by method, route and status, as OpenTelemetry's conventions for HTTP say.

ASGI middleware around all others but the server span, so that it counts what clients see, on every path. It stands on the way of
every request: it looks at the clock twice and adds to one histogram.
"""

from __future__ import annotations

from bisect import bisect_left
from time import perf_counter
from typing import TYPE_CHECKING, Final

from portico.histogram import Histogram
from portico.operations.operation import RouteSpec
from portico.telemetry.bounded import OTHER, Bounded
from portico.telemetry.semconv import METHODS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds: the buckets that the convention advises."""
MOST: Final = 1000
"""How many routes, with method and status, have a series of their own."""
LEFT: Final = 499
"""The status under which a request counts whose client left before there was one (as web servers log it)."""


class Requests:
    """What is counted of the requests of one gateway."""

    def __init__(self) -> None:
        self.durations = Bounded(lambda: Histogram(BOUNDS), MOST, lambda key: (key[0], OTHER, key[2], key[3]))
        """Seconds, by method, route, status and scheme."""
        self._known: dict[tuple[str, str | None, int, str], Histogram] = {}
        """The same, by what a request itself says of these."""

    def ended(self, key: tuple[str, str | None, int, str], seconds: float, traceparent: str | None = None) -> None:
        """One request more: its method, route, status and scheme."""
        durations = self._known.get(key) or self._durations(key)
        if traceparent is None:  # `Histogram.add`, without the call
            durations.counts[bisect_left(BOUNDS, seconds)] += 1
            durations.total += seconds
        else:
            durations.add(seconds, traceparent)

    def _durations(self, key: tuple[str, str | None, int, str]) -> Histogram:
        method, route, status, scheme = key
        durations = self.durations[method if method in METHODS else "_OTHER", route or "", str(status), scheme]
        if len(self._known) < 2 * MOST:
            self._known[key] = durations
        return durations


class RequestMeter:
    """The middleware.

    Args:
        app: what it watches.
        requests: where they are counted.
        template: from a request's scope to the template of its route, once that is known.
        traceparent: that of the span which is current; None where there are no spans.
    """

    def __init__(
        self,
        app: ASGIApp,
        requests: Requests,
        template: Callable[[Scope], str | None],
        traceparent: Callable[[], str | None] | None = None,
    ) -> None:
        self._app = app
        self._requests = requests
        self._template = template
        self._traceparent = traceparent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = perf_counter(), 0

        def noted(message: Message) -> Awaitable[None]:  # not a coroutine of its own: each would cost as much as its work
            nonlocal status
            if not status:
                status = message.get("status", 0)
            return send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            status = status or 500
            raise
        finally:
            seconds, route, place = perf_counter() - began, scope.get("route"), self._traceparent
            path = route.path if isinstance(route, RouteSpec) else self._template(scope)
            key = scope["method"], path, status or LEFT, scope.get("scheme", "http")
            self._requests.ended(key, seconds, None if place is None else place())
