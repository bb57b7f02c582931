"""Router: puts a message into the mailbox of its recipient, and lets an ask wait for the reply.

Above: processes and the runtime, which both send through it. Below: registry, mailboxes, deadlines, bus.
It knows no supervision: what happens to a message when a process dies is decided in `supervision.py`.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from portico.errors import Cancelled, ProcessExited, ReservedType, RuntimeNotStarted
from portico.kernel.bus import Bus
from portico.kernel.deadlines import Deadlines
from portico.kernel.events import EventKind, KernelEvent
from portico.kernel.mailbox import Delivery
from portico.kernel.messages import RESERVED_PREFIX, Message
from portico.kernel.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from portico.errors import PorticoError
    from portico.kernel.clock import Clock
    from portico.kernel.protocols import Codec, Services
    from portico.kernel.runtime import Runtime

logger = logging.getLogger("portico.kernel")

current: ContextVar[Delivery | None] = ContextVar("portico_current_delivery", default=None)
"""The delivery that is handled in this task: what is sent meanwhile inherits its deadline, origin, trace and journal."""


class Router:
    """Everything that a process needs of its runtime to talk to others."""

    def __init__(self, runtime: Runtime, clock: Clock, services: Services, strict: Codec | None = None) -> None:
        self.runtime = runtime
        self.clock = clock
        self.services = services
        self.strict = strict
        self.registry = Registry()
        self.bus = Bus()
        self.deadlines = Deadlines(clock)
        self.tasks: asyncio.TaskGroup | None = None

    # --- sending ------------------------------------------------------------------------------------------------------

    def deliver(self, delivery: Delivery) -> None:
        """Put a delivery into its recipient's mailbox.

        Raises:
            RuntimeNotStarted, UnknownAgent, MailboxFull, ProcessExited: nothing was delivered.
            ValueError: in strict mode, a payload that is not JSON-able.
        """
        message = delivery.message
        if self.tasks is None:
            raise self.down(message.recipient)
        if self.strict is not None:
            message.payload = self.strict.decode(self.strict.encode(message.payload))
        self.registry.lookup(message.recipient).put(delivery)

    async def call(self, recipient: str, payload: Any, message_type: str, timeout: float | None, sender: str = "") -> Message:
        """Ask, with what the delivery in hand hands on: deadline, origin, trace and journal. `timeout` in seconds.

        A caller that is cancelled cancels the handling.

        Raises:
            CallError: as it ended. See `errors.py`.
        """
        deadline = None if timeout is None else self.clock.now() + timeout
        in_hand = current.get()
        if in_hand is None:
            message = self.message(recipient, payload, message_type, sender, None, deadline)
        else:
            inherited = in_hand.message.deadline
            if inherited is not None and (deadline is None or inherited < deadline):
                deadline = inherited
            message = self.message(recipient, payload, message_type, sender, in_hand, deadline)
        message.reply_to = sender
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        delivery = Delivery(message, future)
        if in_hand is not None:
            delivery.journal = in_hand.journal
        self.deliver(delivery)
        deadlines = self.deadlines
        deadlines.add(delivery)
        try:
            return await future
        except asyncio.CancelledError:
            delivery.cancel(Cancelled("Its caller was cancelled."))
            raise
        finally:
            deadlines.discard(delivery)

    def message(
        self, recipient: str, payload: Any, message_type: str, sender: str, in_hand: Delivery | None, deadline: float | None = None
    ) -> Message:
        """A message that inherits origin and trace from the delivery in hand. Raises `ReservedType`."""
        if message_type.startswith(RESERVED_PREFIX):
            raise ReservedType(message_type, RESERVED_PREFIX)
        message = Message(message_type, payload, sender, recipient, deadline=deadline)
        if in_hand is not None:
            message.origin = in_hand.message.origin
            message.traceparent = in_hand.traceparent
        return message

    def send(self, recipient: str, payload: Any, message_type: str, sender: str = "") -> None:
        """Send one way, with what the delivery in hand hands on: origin, trace and journal."""
        in_hand = current.get()
        message = self.message(recipient, payload, message_type, sender, in_hand)
        self.deliver(Delivery(message, one_way=True, journal=in_hand.journal if in_hand is not None else None))

    def down(self, recipient: str) -> PorticoError:
        """Why nothing is delivered: the runtime was not started, was stopped, or its root supervisor gave up."""
        report = self.runtime.report
        return RuntimeNotStarted() if report is None else ProcessExited(recipient, report)

    # --- telling ------------------------------------------------------------------------------------------------------

    def emit(self, kind: EventKind, name: str, **data: Any) -> None:
        """Tell the observers and the bus. An observer that raises is logged and forgotten."""
        event = KernelEvent(kind, name, data)
        self.bus.publish(kind.value, event)
        for observer in self.services.observers:
            try:
                observer.event(event)
            except Exception:
                logger.exception("observer %r failed on %s", observer, kind)

    def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Tell that a message will not be delivered (again)."""
        self.emit(EventKind.DEAD_LETTER, delivery.message.recipient, message=delivery.message, reason=reason)

    # --- running ------------------------------------------------------------------------------------------------------

    def start_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a coroutine in the runtime's task group, which it cannot outlive. It must not raise."""
        if self.tasks is None:
            coroutine.close()
            raise RuntimeNotStarted
        return self.tasks.create_task(coroutine, name=name)
