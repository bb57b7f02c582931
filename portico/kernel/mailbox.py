"""Mailbox: the bounded queue of one name. It outlives the incarnations that read it.

Above: the router puts deliveries in, an incarnation takes them out, a supervisor closes it when its process will not come
back. A closed mailbox answers everything that waited in it: nobody waits for a corpse.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from portico.errors import CallError, MailboxFull, ProcessExited

if TYPE_CHECKING:
    from portico.kernel.incarnation import Incarnation
    from portico.kernel.messages import Message
    from portico.kernel.process import AgentProcess
    from portico.kernel.protocols import Journal

YIELD_EVERY = 64
"""After so many messages in a row without waiting, a process lets the others run."""


class Delivery:
    """A message on its way, with whoever waits for its end. Lives in one process only.

    `future` is resolved with the reply message or fails with a `PorticoError`; None where nobody watches. `one_way` marks a
    send. `traceparent` is what messages sent during its handling carry: first the sender's span, then the handling's own.
    `journal` is where the events of the run go that it belongs to; messages sent while it is handled inherit it.
    """

    __slots__ = ("bucket", "dropped", "future", "holder", "journal", "message", "one_way", "traceparent")

    def __init__(
        self,
        message: Message,
        future: asyncio.Future[Message] | None = None,
        journal: Journal | None = None,
        *,
        one_way: bool = False,
    ) -> None:
        self.message = message
        self.future = future
        self.one_way = one_way
        self.journal = journal
        self.holder: Incarnation | None = None
        self.bucket: dict[Delivery, None] | None = None
        self.dropped = False
        self.traceparent = message.traceparent

    @property
    def finished(self) -> bool:
        """True when nobody waits for it any more: answered, expired, or its caller has left."""
        return self.dropped or (self.future is not None and self.future.done())

    def resolve(self, reply: Message) -> None:
        """Hand the reply to whoever waits. Later ends are ignored."""
        if self.future is not None and not self.future.done():
            self.future.set_result(reply)

    def fail(self, error: BaseException) -> None:
        """End it with an error. Later ends are ignored."""
        if self.future is not None and not self.future.done():
            self.future.set_exception(error)
        self.dropped = True

    def cancel(self, error: CallError) -> None:
        """End it with `error`, and cancel its handling where that has begun."""
        self.fail(error)
        if self.holder is not None:
            self.holder.cancel_handling(self)


class Mailbox:
    """What stays of a process when an incarnation ends: its waiting messages, and the count of its lives."""

    __slots__ = ("_closed", "_reader", "incarnations", "name", "process", "restarts", "size", "waiting")

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.incarnations = 0
        self.restarts = 0
        self.process: AgentProcess | None = None
        self.waiting: deque[Delivery] = deque()
        """What waits, the next one first; its reader takes from it."""
        self._reader: asyncio.Future[None] | None = None
        self._closed: str | None = None

    def __len__(self) -> int:
        return len(self.waiting)

    @property
    def closed(self) -> str | None:
        """Why the process will not come back; None while it lives or will live again."""
        return self._closed

    def put(self, delivery: Delivery) -> None:
        """Append a delivery; a higher priority goes before lower ones.

        Raises:
            MailboxFull: `size` messages wait already.
            ProcessExited: the process ended for good.
        """
        items = self.waiting
        if self._closed is not None:
            raise ProcessExited(self.name, self._closed)
        if len(items) >= self.size:
            raise MailboxFull(self.name, self.size)
        priority = delivery.message.priority
        if priority and items:
            at = len(items)
            while at and items[at - 1].message.priority < priority:
                at -= 1
            items.insert(at, delivery)
        else:
            items.append(delivery)
        if self._reader is not None:
            self.wake()

    def put_back(self, delivery: Delivery) -> None:
        """Put a delivery that was taken out before everything else; it has its place already, so no bound applies."""
        if self._closed is not None:
            delivery.fail(ProcessExited(self.name, self._closed))
            return
        self.waiting.appendleft(delivery)
        self.wake()

    async def wait(self) -> None:
        """Until something is there, or `wake()` was called. One reader at a time: a successor replaces its predecessor."""
        if self.waiting:
            return
        reader: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = reader
        try:
            await reader
        finally:
            if self._reader is reader:
                self._reader = None

    def wake(self) -> None:
        """Let the reader look up, for a message or for a control request."""
        reader = self._reader
        if reader is not None:
            self._reader = None
            if not reader.done():
                reader.set_result(None)

    def close(self, reason: str) -> list[Delivery]:
        """The process will not come back: answer all that waits with `ProcessExited`. Returns what waited."""
        self._closed = reason
        self.process = None
        left = [delivery for delivery in self.waiting if not delivery.finished]
        self.waiting.clear()
        for delivery in left:
            delivery.fail(ProcessExited(self.name, reason))
        return left

    def reopen(self) -> None:
        """A process of this name is started anew."""
        self._closed = None

    def snapshot(self) -> dict[str, Any]:
        """What there is to see from outside: JSON-able."""
        return {"depth": len(self.waiting), "size": self.size, "incarnation": self.incarnations, "restarts": self.restarts}
