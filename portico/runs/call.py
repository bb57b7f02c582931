"""Call: one incoming request, whatever face it came through. Faces make it, the dispatcher takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portico.operations.catalogue import Endpoint
    from portico.runs.run import Run


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
    address: str | None = None
    """The caller's network address."""
    traceparent: str | None = None
    """W3C Trace Context of the caller's span."""
    run: Run | None = None
    """Its record, once the dispatcher has accepted it."""
