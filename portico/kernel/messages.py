"""Message: plain data sent to a process. The same in process and over a wire.

Below: nothing. Above: everything. A message never carries a live object, but for `local`, which no wire transports.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RESERVED_PREFIX = "portico."
"""Message types that begin so belong to the runtime; no client can choose them."""

DOWN = "DOWN"
"""The type of the message that a monitor gets; OTP's word, and reserved as well."""

EXIT = "EXIT"
"""The type of the message that a linked process gets which traps exits; OTP's word, and reserved as well."""

CHILD_TERMINATED = f"{RESERVED_PREFIX}child_terminated"
"""The type of the message that tells a process of the end of a child that it has spawned."""


def reserved(message_type: str) -> bool:
    """Whether only the runtime may send messages of this type."""
    return message_type.startswith(RESERVED_PREFIX) or message_type in (DOWN, EXIT)


DEFAULT_TYPE = "message"
"""The type of a message that names no operation: it goes to `handle()`."""


def _id_maker() -> Callable[[], str]:
    prefix, numbers = os.urandom(8).hex(), itertools.count(1)
    return lambda: f"{prefix}-{next(numbers):x}"


new_id: Callable[[], str] = _id_maker()
"""An id that is unique among all processes: a random prefix of this one, and a number. Ten times cheaper than a UUID."""


@dataclass(slots=True)
class Origin:
    """Who outside caused a message. Inherited by what its handling sends. Read-only by convention, as `Message` is."""

    call_id: str
    """The id of the call (and of its run) at the gateway's door."""
    principal: str | None = None
    """Who called, where the gateway knows."""
    address: str | None = None
    """The caller's network address, where there is one."""
    request_id: str | None = None
    """The id of the request that brought the call, where there is one."""

    @property
    def payer(self) -> str:
        """Who answers for crashes: the principal, else the address, else the call itself."""
        return self.principal or self.address or self.call_id


class Message:
    """Plain data for one process. Read-only by convention.

    `payload` is JSON-able data (any JSON value, or bytes). In one process it is neither copied nor serialised: once sent, it
    is given away. Written by hand rather than as a dataclass, since one is made for every ask and every reply: `id` is made
    when somebody looks, which most of the time nobody does.
    """

    __slots__ = (
        "attempt",
        "correlation_id",
        "deadline",
        "id",
        "local",
        "meta",
        "origin",
        "payload",
        "priority",
        "recipient",
        "reply_to",
        "sender",
        "timestamp",
        "traceparent",
        "ttl",
        "type",
    )

    type: str
    """The operation's name; `message` for a bare `handle()`."""
    payload: Any
    """The data."""
    sender: str
    """The name of the sending process; empty for the outside."""
    recipient: str
    """The name of the process that it is for."""
    id: str
    """Unique among all messages."""
    correlation_id: str | None
    """On a reply over a wire: the id of the message that it answers."""
    reply_to: str | None
    """The process that waits for the reply; None for a send, empty for the outside."""
    timestamp: float
    """When it was made: seconds since the epoch."""
    deadline: float | None
    """When it is no longer wanted: seconds on the runtime's clock (monotonic)."""
    origin: Origin | None
    """Who outside caused it; None for what the tree does of itself."""
    traceparent: str | None
    """W3C Trace Context of the sender's span."""
    attempt: int
    """How often it was delivered before: 0 the first time."""
    priority: int
    """Higher is handled first."""
    ttl: float | None
    """Seconds after `timestamp` when a send is dropped unhandled; None for never. An ask has its deadline instead."""
    meta: Mapping[str, Any] | None
    """On a reply: hints for the face that translates it (`status`, `headers`, `media_type`)."""
    local: Any
    """A validated form of the payload that rides along in this process; never over a wire."""

    def __init__(  # noqa: PLR0917  # the seed's order; the kernel gives the first four by position
        self,
        type: str = DEFAULT_TYPE,  # noqa: A002  # the seed's name
        payload: Any = None,
        sender: str = "",
        recipient: str = "",
        id: str | None = None,  # noqa: A002  # the seed's name
        correlation_id: str | None = None,
        reply_to: str | None = None,
        timestamp: float | None = None,
        deadline: float | None = None,
        origin: Origin | None = None,
        traceparent: str | None = None,
        attempt: int = 0,
        priority: int = 0,
        ttl: float | None = None,
        meta: Mapping[str, Any] | None = None,
        local: Any = None,
    ) -> None:
        self.type = type
        self.payload = payload
        self.sender = sender
        self.recipient = recipient
        if id is not None:
            self.id = id
        self.correlation_id = correlation_id
        self.reply_to = reply_to
        self.timestamp = time() if timestamp is None else timestamp
        self.deadline = deadline
        self.origin = origin
        self.traceparent = traceparent
        self.attempt = attempt
        self.priority = priority
        self.ttl = ttl
        self.meta = meta
        self.local = local

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Make on first use what nobody looks at as a rule: the id, and most of a reply."""
            if name == "id":
                self.id = new_id()
                return self.id
            if name == "timestamp":
                self.timestamp = time()
                return self.timestamp
            if name not in Message.__slots__:
                raise AttributeError(f"a message has no {name!r}")
            return 0 if name == "priority" else None

    def __repr__(self) -> str:
        who = f"{self.sender or 'outside'} -> {self.recipient or '?'}"
        return f"Message({self.type!r}, {who}, payload={self.payload!r}, attempt={self.attempt})"

    @property
    def trace_id(self) -> str | None:
        """The trace that this message belongs to: 32 hex digits, or None."""
        return self.traceparent.split("-")[1] if self.traceparent else None

    @property
    def span_id(self) -> str | None:
        """The span that sent it: 16 hex digits, or None."""
        return self.traceparent.split("-")[2] if self.traceparent else None


class Sent(Message):
    """A message that the kernel makes itself, for every ask, send and reply: the same, without the cost of a constructor.

    Calling a class whose `__init__` is written in Python costs as much as fifteen assignments; `new_message` spells these out.
    """

    __slots__ = ()
    __init__ = object.__init__  # pyright: ignore[reportAssignmentType]  # that is the point


def new_message(  # noqa: PLR0917  # by position: it is made for every message
    message_type: str,
    payload: Any,
    sender: str,
    recipient: str,
    reply_to: str | None = None,
    deadline: float | None = None,
    origin: Origin | None = None,
    traceparent: str | None = None,
) -> Message:
    """A message with nothing unusual about it."""
    message = Sent()
    message.type = message_type
    message.payload = payload
    message.sender = sender
    message.recipient = recipient
    message.correlation_id = None
    message.reply_to = reply_to
    message.timestamp = time()
    message.deadline = deadline
    message.origin = origin
    message.traceparent = traceparent
    message.attempt = 0
    message.priority = 0
    message.ttl = None
    message.meta = None
    message.local = None
    return message


def new_reply(payload: Any, sender: str) -> Message:
    """A reply, which is looked at by one caller and then forgotten: what is the same for all replies is not even assigned."""
    reply = Sent()
    reply.type = "reply"
    reply.payload = payload
    reply.sender = sender
    reply.recipient = ""
    reply.attempt = 0
    reply.meta = None
    return reply
