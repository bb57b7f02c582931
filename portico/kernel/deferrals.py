"""Deferrals: the messages that one incarnation has put off answering, until `reply_to` or until nobody waits any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from portico.kernel.delivery import Delivery
    from portico.kernel.incarnation import Incarnation
    from portico.kernel.messages import Message
    from portico.kernel.protocols import Invocable
    from portico.kernel.router import Router


class Deferrals:
    """Deliveries by message id, in the order in which they were put off. Their holder meanwhile."""

    __slots__ = ("_deliveries", "_life", "early")

    def __init__(self, life: Incarnation) -> None:
        self._life = life
        self._deliveries: dict[str, Delivery] = {}
        self.early: dict[str, Message] = {}
        """Replies that came before the handler had said that it defers, by message id."""

    def __len__(self) -> int:
        return len(self._deliveries)

    def __iter__(self) -> Iterator[Delivery]:
        return iter(self._deliveries.values())

    @property
    def router(self) -> Router:
        """See `Holder.router`."""
        return self._life.router

    @property
    def number(self) -> int:
        """See `Holder.number`."""
        return self._life.number

    @property
    def operations(self) -> Mapping[str, Invocable]:
        """See `Holder.operations`."""
        return self._life.process.operations

    @property
    def final(self) -> bool:
        """See `Holder.final`."""
        return False

    def add(self, delivery: Delivery) -> None:
        """Put one off; one that has been answered already is done."""
        reply = self.early.pop(delivery.message.id, None)
        if reply is not None:
            self._life.answer(delivery, reply)
        elif delivery.future is not None and not delivery.finished:  # else nobody waits for it
            delivery.holder = self
            self._deliveries[delivery.message.id] = delivery
            self._life.owes()

    def take(self, message: Message) -> Delivery | None:
        """The delivery of that message, now to be answered; None where nobody waits for it."""
        delivery = self._deliveries.pop(message.id, None)
        if delivery is not None:
            delivery.holder = None
        self._life.owes()
        return delivery

    def cancel_handling(self, delivery: Delivery) -> None:
        """See `Holder.cancel_handling`: its caller has left, or its deadline has passed."""
        self.take(delivery.message)
