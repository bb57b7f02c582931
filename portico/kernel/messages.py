"""Message: plain data sent to a process. The same in process and over a wire.

Below: nothing. Above: everything. A message never carries a live object, but for `local`, which no wire transports.
"""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RESERVED_PREFIX = "portico."
"""Message types that begin so belong to the runtime; no client can choose them."""

DEFAULT_TYPE = "message"
"""The type of a message that names no operation: it goes to `handle()`."""


def _id_maker() -> Callable[[], str]:
    prefix, numbers = os.urandom(8).hex(), itertools.count(1)
    return lambda: f"{prefix}-{next(numbers):x}"


new_id: Callable[[], str] = _id_maker()
"""An id that is unique among all processes: a random prefix of this one, and a number. Ten times cheaper than a UUID."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who outside caused a message. Inherited by every message that its handling sends."""

    call_id: str
    """The id of the call (and of its run) at the gateway's door."""
    principal: str | None = None
    """Who called, where the gateway knows."""
    address: str | None = None
    """The caller's network address, where there is one."""

    @property
    def payer(self) -> str:
        """Who answers for crashes: the principal, else the address, else the call itself."""
        return self.principal or self.address or self.call_id


@dataclass(slots=True, eq=False)
class Message:
    """Plain data for one process. Read-only by convention (frozen would make it six times dearer to build).

    `payload` is JSON-able data (any JSON value, or bytes). In one process it is neither copied nor serialised: once sent, it
    is given away.
    """

    type: str = DEFAULT_TYPE
    """The operation's name; `message` for a bare `handle()`."""
    payload: Any = None
    """The data."""
    sender: str = ""
    """The name of the sending process; empty for the outside."""
    recipient: str = ""
    """The name of the process that it is for."""
    id: str = field(default_factory=new_id)
    """Unique among all messages."""
    correlation_id: str | None = None
    """On a reply: the id of the message that it answers."""
    reply_to: str | None = None
    """The process that waits for the reply; None for a send."""
    timestamp: float = field(default_factory=time.time)
    """When it was made: seconds since the epoch."""
    deadline: float | None = None
    """When it is no longer wanted: seconds on the runtime's clock (monotonic)."""
    origin: Origin | None = None
    """Who outside caused it; None for what the tree does of itself."""
    traceparent: str | None = None
    """W3C Trace Context of the sender's span."""
    attempt: int = 0
    """How often it was delivered before: 0 the first time."""
    priority: int = 0
    """Higher is handled first."""
    ttl: float | None = None
    """Seconds after `timestamp` when it is dropped unhandled; None for never."""
    meta: Mapping[str, Any] | None = None
    """On a reply: hints for the face that translates it (`status`, `headers`, `media_type`)."""
    local: Any = None
    """A validated form of the payload that rides along in this process; never over a wire."""

    @property
    def trace_id(self) -> str | None:
        """The trace that this message belongs to: 32 hex digits, or None."""
        return self.traceparent.split("-")[1] if self.traceparent else None

    @property
    def parent_span_id(self) -> str | None:
        """The span that sent it: 16 hex digits, or None."""
        return self.traceparent.split("-")[2] if self.traceparent else None
