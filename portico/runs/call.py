"""Call: one incoming request, whatever face it came through. Faces make it, the dispatcher takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from portico.kernel.timed_delivery import Timing
    from portico.operations.catalogue import Endpoint
    from portico.runs.quota import Allowance
    from portico.runs.run import Run

EVERY_SCOPE: Final = "*"
"""The scope that is all of them."""


def permits(held: frozenset[str] | None, needed: frozenset[str]) -> bool:
    """Whether a caller with these scopes may do what needs those, all of them. None: no callers are known, and everybody may."""
    return held is None or EVERY_SCOPE in held or needed <= held


@dataclass(slots=True, eq=False)
class Call:
    """What is asked, by whom, until when. Read-only by convention, as `Message` is."""

    endpoint: Endpoint
    """What is asked of whom: from the catalogue, so that nothing else can be reached."""
    payload: Any = None
    """JSON-able data, or bytes."""
    raw: bytes | None = None
    """The payload as the JSON text that came in, if it is at hand: saves printing it again."""
    one_way: bool = False
    """A send: nobody waits for the reply."""
    timeout: float | None = None
    """Seconds until the deadline; None for the dispatcher's default."""
    principal: str | None = None
    """Who asks, where the gateway knows."""
    scopes: frozenset[str] | None = None
    """What the caller may do; None where the gateway knows no callers, and then everything."""
    address: str | None = None
    """The caller's network address."""
    face: str = "http"
    """How it came: `http`, `websocket`, `mcp`, `cli`."""
    request_id: str | None = None
    """The id of the request that brought it."""
    traceparent: str | None = None
    """W3C Trace Context of the caller's span."""
    idempotency_key: str | None = None
    """Calls of one principal to one operation with the same key are one call."""
    run_id: str | None = None
    """The id that its run is to have; chosen by the caller."""
    due: float | None = None
    """When it is to be delivered: seconds since the epoch; None for at once."""
    metadata: Mapping[str, Any] | None = None
    """What is to be kept with its run, and shown to the handler."""
    answerable: frozenset[str] | None = None
    """Which kinds of questions (`kernel/questions.py`) the caller's program answers; None where that is not known."""
    on_wait: Callable[[Run], object] | None = None
    """Called, on the event loop, each time that its run begins to wait for an input: for who would otherwise not notice."""
    callback_url: str | None = None
    """Where its run's end is to be told; the face has checked it."""
    redrive_of: str | None = None
    """The dead letter that it sends again."""
    timing: Timing | None = None
    """Where it is noted how long it waited and was handled; None where nobody wants to know."""
    run: Run | None = None
    """Its record, once the dispatcher has accepted it."""
    replayed: bool = False
    """Whether that record was there before: the same call came earlier."""
    allowance: Sequence[Allowance] = ()
    """What the caller's quotas have left after this call."""

    def put(self, payload: Any) -> None:
        """Replace the payload: for interceptors. It is checked against the contract afterwards."""
        self.payload, self.raw = payload, None
