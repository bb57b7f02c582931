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
from portico.kernel.messages import DEFAULT_TYPE, RESERVED_PREFIX, Message
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
        self._now = clock.now
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
        mailbox = self.registry.mailboxes.get(message.recipient)
        if mailbox is None:
            raise self.registry.unknown(message.recipient)
        mailbox.put(delivery)

    async def call(self, recipient: str, payload: Any, message_type: str, timeout: float | None, sender: str = "") -> Message:
        """Ask, with what the delivery in hand hands on: deadline, origin, trace and journal. `timeout` in seconds.

        A caller that is cancelled cancels the handling.

        Raises:
            CallError: as it ended. See `errors.py`.
        """
        if message_type is not DEFAULT_TYPE:
            self.refuse_reserved(message_type)
        deadline = None if timeout is None else self._now() + timeout
        in_hand = current.get()
        if in_hand is None:
            message = Message(message_type, payload, sender, recipient, None, None, sender, None, deadline)
            journal = None
        else:
            cause, journal = in_hand.message, in_hand.journal
            if cause.deadline is not None and (deadline is None or cause.deadline < deadline):
                deadline = cause.deadline
            message = Message(
                message_type, payload, sender, recipient, None, None, sender, None, deadline, cause.origin, in_hand.traceparent
            )
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        delivery = Delivery(message, future, journal)
        self.deliver(delivery)
        self.deadlines.add(delivery)
        try:
            return await future
        except asyncio.CancelledError:
            delivery.cancel(Cancelled("Its caller was cancelled."))
            raise
        finally:
            if delivery.bucket is not None:  # `deadlines.discard`, without the call
                del delivery.bucket[delivery]
                delivery.bucket = None

    def send(self, recipient: str, payload: Any, message_type: str, sender: str = "") -> None:
        """Send one way, with what the delivery in hand hands on: origin, trace and journal.

        Raises:
            ReservedType, and as `deliver`.
        """
        self.refuse_reserved(message_type)
        message = Message(message_type, payload, sender, recipient)
        in_hand, journal = current.get(), None
        if in_hand is not None:
            message.origin, message.traceparent = in_hand.message.origin, in_hand.traceparent
            journal = in_hand.journal
        self.deliver(Delivery(message, None, journal, one_way=True))

    def refuse_reserved(self, message_type: str) -> None:
        """Raises `ReservedType` for a type that only the runtime may use."""
        if message_type.startswith(RESERVED_PREFIX):
            raise ReservedType(message_type, RESERVED_PREFIX)

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
