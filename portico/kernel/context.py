"""MessageContext: the handle that a handler gets as `ctx: Context`, made from the delivery in hand.

It writes to the journal that the delivery carries; `runs` implements that journal. Outside any run, events go nowhere.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portico.kernel.clock import Clock
    from portico.kernel.delivery import Delivery


class MessageContext:
    """See `protocols.Context`."""

    __slots__ = ("_clock", "_delivery", "_loop")

    def __init__(self, clock: Clock, delivery: Delivery | None) -> None:
        """Its methods may be called from a thread, such as that of a blocking handler, and it may be made there."""
        self._loop = _loop_of(delivery)
        self._clock = clock
        self._delivery = delivery

    @property
    def run_id(self) -> str:
        """See `Context.run_id`."""
        journal = self._delivery.journal if self._delivery else None
        return journal.run_id if journal else ""

    @property
    def principal(self) -> str | None:
        """See `Context.principal`."""
        origin = self._delivery.message.origin if self._delivery else None
        return origin.principal if origin else None

    @property
    def attempt(self) -> int:
        """See `Context.attempt`."""
        return self._delivery.message.attempt if self._delivery else 0

    @property
    def cancelled(self) -> bool:
        """See `Context.cancelled`."""
        delivery = self._delivery
        return delivery is not None and (delivery.finished or (delivery.journal is not None and delivery.journal.cancelled))

    def remaining(self) -> float | None:
        """See `Context.remaining`."""
        message = self._delivery.message if self._delivery else None
        deadline = message.deadline if message is not None and message.ttl is None else None
        return None if deadline is None else max(0.0, deadline - self._clock.now())

    def emit(self, event_type: str, data: Any = None) -> None:
        """See `Context.emit`."""
        journal = self._delivery.journal if self._delivery is not None else None
        if journal is None:
            return
        if _running_loop() is not None:
            journal.append(event_type, data)
        elif self._loop is not None:
            self._loop.call_soon_threadsafe(journal.append, event_type, data)

    def delta(self, text: str) -> None:
        """See `Context.delta`."""
        self.emit("delta", {"text": text})

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """See `Context.progress`."""
        self.emit("progress", {"done": done, "total": total, "note": note})


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop of this thread; None in a thread of its own."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _loop_of(delivery: Delivery | None) -> asyncio.AbstractEventLoop | None:
    """The loop on which the run's journal is written."""
    loop = _running_loop()
    if loop is None and delivery is not None and delivery.holder is not None:
        return delivery.holder.router.loop
    return loop
