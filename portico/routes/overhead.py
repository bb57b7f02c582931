"""Overhead: how much of a request's time was the gateway's own, for a client that asks for it with `X-Overhead-Ms: 1`.

Only requests to agents are answered so, and only those that ask are measured. The response has `X-Overhead-Ms`, and
`Server-Timing` (W3C Server Timing, §3.1), which browsers and tools show.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from portico.kernel.timed_delivery import Timing
from portico.routes.exchange import BEGUN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Message, Scope, Send

NAME = b"x-overhead-ms"


def timed(scope: Scope, headers: Mapping[bytes, bytes], send: Send) -> tuple[Timing | None, Send]:
    """Where to note the times of the call, and a `send` that tells them when the response begins; None where `0` is said."""
    if headers[NAME].strip() == b"0":
        return None, send
    timing = Timing()
    begun: float = scope.get(BEGUN) or perf_counter()

    async def telling(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *_headers(timing, perf_counter() - begun)]
        await send(message)

    return timing, telling


def _headers(timing: Timing, total: float) -> list[tuple[bytes, bytes]]:
    """From seconds to milliseconds."""
    overhead = max(0.0, total - timing.handled)
    parts = b"total;dur=%.3f, queue;dur=%.3f, handle;dur=%.3f" % (total * 1000, timing.queued * 1000, timing.handled * 1000)
    return [(NAME, b"%.3f" % (overhead * 1000)), (b"server-timing", parts)]
