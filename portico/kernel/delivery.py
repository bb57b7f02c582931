"""Delivery: a message on its way, with whoever waits for its end. Lives in one process of the operating system only.

Made by the router and the dispatcher, kept in a mailbox, held by whoever handles it. What the message says is in `messages.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from portico.errors import PorticoError
    from portico.kernel.detours import Detour
    from portico.kernel.messages import Message
    from portico.kernel.protocols import DurableJournal, Invocable, Journal
    from portico.kernel.router import Router


class Holder(Protocol):
    """Who has a delivery in hand, or owes it a deferred reply."""

    @property
    def router(self) -> Router:
        """The runtime's router."""
        ...

    @property
    def number(self) -> int:
        """Which incarnation of its process that is: 1 for the first."""
        ...

    @property
    def operations(self) -> Mapping[str, Invocable]:
        """What that process can be asked."""
        ...

    @property
    def final(self) -> bool:
        """Whether its outcome is certain, and only being stored: then nothing can end it otherwise."""
        ...

    def cancel_handling(self, delivery: Delivery) -> None:
        """Nobody waits for it any more."""
        ...


class Delivery:
    """One delivery. The kernel makes it by `new_delivery`, which is the same without the cost of a constructor.

    `future` is resolved with the reply message or fails with a `PorticoError`; None where nobody watches. `one_way` marks a
    send. `traceparent` is what messages sent during its handling carry: first the sender's span, then the handling's own.
    `journal` is where the events of the run go that it belongs to; messages sent while it is handled inherit it. `crashed`: its
    handling has ended a life.
    """

    __slots__ = ("bucket", "crashed", "dropped", "future", "holder", "journal", "message", "one_way", "traceparent")

    def __init__(
        self,
        message: Message,
        future: asyncio.Future[Message] | None = None,
        journal: Journal | None = None,
        one_way: bool = False,  # noqa: FBT001, FBT002  # by position, as `new_delivery` has it
    ) -> None:
        self.message = message
        self.future = future
        self.one_way = one_way
        self.journal = journal
        self.holder: Holder | None = None
        self.bucket: dict[Delivery, None] | None = None
        self.crashed = False
        self.dropped = False
        self.traceparent = message.traceparent

    @property
    def durable(self) -> DurableJournal | None:
        """Its journal, where it belongs to a run that is kept in a store."""
        return None if self.journal is None else self.journal.durable

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

    def cancel(self, error: PorticoError) -> None:
        """End it with `error`, and cancel its handling where that has begun. Nothing where its outcome is being stored."""
        holder = self.holder
        if holder is None:
            self.fail(error)
        elif not holder.final:
            self.fail(error)
            holder.cancel_handling(self)

    def part(self, detour: Detour) -> None:
        """Whoever waits for it takes the same detour. Later ends are ignored."""
        if self.future is not None and not self.future.done():
            self.future.set_exception(detour)
        self.dropped = True


class Handed(Delivery):
    """A delivery as the kernel makes it. See `messages.Sent` for the reason."""

    __slots__ = ()
    __init__ = object.__init__  # pyright: ignore[reportAssignmentType]  # that is the point


def new_delivery(message: Message, future: asyncio.Future[Message] | None, journal: Journal | None, one_way: bool) -> Delivery:  # noqa: FBT001  # by position: it is made for every message
    """A delivery that is to be put into a mailbox."""
    delivery = Handed()  # pyright: ignore[reportCallIssue]  # see above
    delivery.message = message
    delivery.future = future
    delivery.one_way = one_way
    delivery.journal = journal
    delivery.holder = None
    delivery.bucket = None
    delivery.crashed = False
    delivery.dropped = False
    delivery.traceparent = message.traceparent
    return delivery
