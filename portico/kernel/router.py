"""Router: puts a message into the mailbox of its recipient, and lets an ask wait for the reply.

Above: processes and the runtime, which both send through it. Below: registry, mailboxes, deadlines, bus.
It knows no supervision: what happens to a message when a process dies is decided in `supervision.py`.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from portico.errors import (
    Cancelled,
    InvalidPayload,
    ProcessExited,
    Refused,
    ReservedType,
    RuntimeNotStarted,
    RuntimeStopped,
    SelfAsk,
    TooManyKeys,
)
from portico.kernel.bus import Bus
from portico.kernel.current import current, trace_of
from portico.kernel.deadlines import Deadlines
from portico.kernel.delivery import Delivery, new_delivery
from portico.kernel.events import EventKind, KernelEvent
from portico.kernel.mailbox import Intake
from portico.kernel.messages import DEFAULT_TYPE, RESERVED_PREFIX, Message, new_message, reserved
from portico.kernel.monitors import Monitors
from portico.kernel.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from portico.errors import PorticoError
    from portico.kernel.clock import Clock
    from portico.kernel.detours import Transferred
    from portico.kernel.mailbox import Mailbox
    from portico.kernel.protocols import Codec, DurableJournal, Services
    from portico.kernel.runtime import Runtime
    from portico.kernel.supervision import Supervision

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("portico.kernel")

BLOCKING_THREADS = 64
"""How many blocking functions of one runtime run at once; more wait. They wait for networks as a rule, not for a processor."""


class Router:
    """Everything that a process needs of its runtime to talk to others."""

    def __init__(self, runtime: Runtime, clock: Clock, services: Services, strict: Codec | None = None) -> None:
        self.runtime = runtime
        self.clock = clock
        self._now = clock.now
        self.services = services
        self.strict = strict
        self.registry = Registry()
        self._mailboxes = self.registry.mailboxes
        self.supervisions: dict[str, Supervision] = {}
        """The present life of each supervisor, by name."""
        self.declared: set[str] = set()
        """Every name of the tree as it was given, also of what has not started yet."""
        self.bus = Bus()
        self.monitors = Monitors(self)
        self.deadlines = Deadlines(clock, self.expired)
        self.tasks: asyncio.TaskGroup | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop on which it was started."""
        self._new_future: Callable[[], asyncio.Future[Any]] = _no_loop
        self.stopping = False
        """Whether the tree is being stopped, or has ended: what ends now ends for that reason."""
        self._looks_twice = True
        """Whether a delivery needs more than its mailbox: the runtime is not started, or strict."""
        self._threads: ThreadPoolExecutor | None = None

    def knows(self, name: str) -> bool:
        """Whether a process or a supervisor of this runtime has that name."""
        return self.registry.has(name) or name in self.supervisions or name in self.declared

    def open(self, tasks: asyncio.TaskGroup) -> None:
        """The tree starts: messages are taken, and tasks run in this group."""
        self.tasks = tasks
        self.stopping = False
        self.loop = asyncio.get_running_loop()
        self._new_future = self.loop.create_future
        self._looks_twice = self.strict is not None

    # --- sending ------------------------------------------------------------------------------------------------------

    def deliver(self, delivery: Delivery) -> None:
        """Put a delivery into its recipient's mailbox.

        Raises:
            RuntimeNotStarted, UnknownAgent, MailboxFull, ProcessExited, Suspended: nothing was delivered.
            DeadlineUnreachable: what waits before it takes longer than its deadline allows.
            InvalidPayload: in strict mode, a payload that is not JSON-able.
        """
        message = delivery.message
        if self.tasks is None:
            raise self.down(message.recipient)
        if self.strict is not None:
            self._round_trip(message, self.strict)
        mailbox = self._mailboxes.get(message.recipient)
        if mailbox is None:
            raise self.registry.unknown(message.recipient)
        if message.ttl is not None and message.deadline is None:  # of a message that was made elsewhere, at `timestamp`
            message.deadline = self._now() + message.ttl - (time() - message.timestamp)
        if mailbox.service_time and message.deadline is not None and not delivery.one_way:
            mailbox.refuse_hopeless(message, self._now())
        mailbox.put(delivery)

    def _round_trip(self, message: Message, codec: Codec) -> None:
        try:
            message.payload = codec.decode(codec.encode(message.payload))
        except ValueError as error:
            raise InvalidPayload(message.recipient, str(error)) from error

    async def call(  # noqa: C901, PLR0912  # every ask passes here: a call less is 1 to 2 % of it
        self, recipient: str, payload: Any, message_type: str, timeout: float | None, sender: str = "", priority: int = 0
    ) -> Message:
        """Ask, with what the delivery in hand hands on: deadline, origin, trace and journal. `timeout` in seconds.

        A caller that is cancelled cancels the handling.

        Raises:
            CallError: as it ended. See `errors.py`.
        """
        if message_type is not DEFAULT_TYPE:
            self.refuse_reserved(message_type)
        try:
            deadline = None if timeout is None else self._now() + timeout
        except TypeError:
            raise TypeError(f"The timeout of an ask is a number of seconds, not {timeout!r}.") from None
        in_hand, deadlines = current.get(), self.deadlines
        if in_hand is None:
            message = new_message(message_type, payload, sender, recipient, sender, deadline)
            journal = None
        else:
            cause, journal, inherited = in_hand.message, in_hand.journal, self.deadline_of(in_hand)
            durable = None if journal is None else journal.durable
            if durable is not None:
                journal, recorded, onward = durable.asked(recipient, message_type, payload)
                if recorded is not None:
                    return recorded
                if onward is not None:
                    recipient, message_type, payload = onward.agent, onward.operation, onward.payload
            if inherited is not None and (deadline is None or inherited < deadline):
                deadline = inherited
            message = new_message(message_type, payload, sender, recipient, sender, deadline, cause.origin, trace_of(in_hand))
            if recipient == sender:
                self._refuse_self_ask(recipient)
        if priority:
            message.priority = priority
        future: asyncio.Future[Message] = self._new_future()
        delivery = new_delivery(message, future, journal, False)
        mailbox = self._mailboxes.get(recipient)
        if mailbox is None or mailbox.service_time or self._looks_twice:
            self.deliver(delivery)
        else:  # `deliver`, without the call
            mailbox.put(delivery)
        if deadline is not None:
            bucket = (
                deadlines.recent if deadlines.recent_from <= deadline < deadlines.recent_until else deadlines.bucket_of(deadline)
            )
            bucket[delivery] = None
            delivery.bucket = bucket
        try:
            return await future
        except asyncio.CancelledError:
            delivery.cancel(Cancelled("Its caller was cancelled."))
            raise
        finally:
            if delivery.bucket is not None:  # `deadlines.discard`, without the call
                del delivery.bucket[delivery]
                delivery.bucket = None

    def deadline_of(self, delivery: Delivery) -> float | None:
        """The deadline that a delivery in hand hands on, on this runtime's clock: the rest of it where it is another runtime's."""
        deadline, holder = delivery.message.deadline, delivery.holder
        if delivery.message.ttl is not None:
            return None  # it had to begin in time; it may take as long as it takes
        if deadline is None or holder is None or holder.router is self:
            return deadline
        return self._now() + deadline - holder.router.clock.now()

    def _refuse_self_ask(self, name: str) -> None:
        """A process with one pair of hands that asks itself would wait for itself until its deadline."""
        mailbox = self.registry.get(name)
        if mailbox is not None and mailbox.hands == 1:
            raise SelfAsk(name)

    def send(
        self, recipient: str, payload: Any, message_type: str, sender: str = "", priority: int = 0, ttl: float | None = None
    ) -> None:
        """Send one way, with what the delivery in hand hands on: origin, trace and journal. `ttl` in seconds.

        Raises:
            ReservedType, and as `deliver`.
        """
        if message_type is not DEFAULT_TYPE:
            self.refuse_reserved(message_type)
        in_hand = current.get()
        if in_hand is None:
            message = new_message(message_type, payload, sender, recipient)
            journal = None
        else:
            message = new_message(message_type, payload, sender, recipient, None, None, in_hand.message.origin, trace_of(in_hand))
            journal = in_hand.journal
        if priority:
            message.priority = priority
        if ttl is not None:
            message.ttl, message.deadline = ttl, self._now() + ttl
        mailbox = self._mailboxes.get(recipient)
        if journal is not None and journal.durable is not None:
            self._hold_back(message, mailbox, journal.durable)
        elif mailbox is None or self._looks_twice:
            self.deliver(new_delivery(message, None, journal, True))
        else:  # `deliver`, without the call
            mailbox.put(new_delivery(message, None, journal, True))

    def _hold_back(self, message: Message, mailbox: Mailbox | None, journal: DurableJournal) -> None:
        """Leave a send to the commit of the durable handling that makes it. What can be refused now, is refused now."""
        if self.tasks is None:
            raise self.down(message.recipient)
        if self.strict is not None:
            self._round_trip(message, self.strict)
        if mailbox is None:
            raise self.registry.unknown(message.recipient)
        if mailbox.closed is not None:
            raise ProcessExited(mailbox.name, mailbox.closed)
        journal.send(message)

    def redirect(self, delivery: Delivery, transferred: Transferred) -> None:
        """Let another agent handle it instead."""
        before, after = delivery.message, transferred
        delivery.message = Message(
            after.operation,
            after.payload,
            before.recipient,
            after.agent,
            before.id,
            reply_to=before.reply_to,
            deadline=before.deadline,
            origin=before.origin,
            traceparent=delivery.traceparent,
            priority=before.priority,
        )
        self.put_accepted(delivery)

    def put_accepted(self, delivery: Delivery) -> None:
        """Deliver what was accepted before: no bound applies. Where it cannot be delivered, it fails."""
        mailbox = self._mailboxes.get(delivery.message.recipient)
        try:
            if self.tasks is None:
                raise self.down(delivery.message.recipient)
            if mailbox is None:
                raise self.registry.unknown(delivery.message.recipient)
            mailbox.put_accepted(delivery)
        except TooManyKeys as error:
            self.clock.call_at(self._now() + error.retry_after, partial(self.put_accepted, delivery))
        except Refused as error:
            self.dead_letter(delivery, str(error))
            delivery.fail(error)

    def send_each(self, names: Iterable[str], payload: Any, message_type: str, sender: str = "") -> list[str]:
        """Send the same to several. Returns the names that it reached: who refuses it is left out."""
        self.refuse_reserved(message_type)
        reached: list[str] = []
        for name in names:
            with suppress(Refused):
                self.send(name, payload, message_type, sender)
                reached.append(name)
        return reached

    def refuse_reserved(self, message_type: str) -> None:
        """Raises `ReservedType` for a type that only the runtime may use."""
        if reserved(message_type):
            raise ReservedType(message_type, RESERVED_PREFIX)

    def down(self, recipient: str) -> PorticoError:
        """Why nothing is delivered: the runtime was not started, was stopped, or its root supervisor gave up."""
        report = self.runtime.report
        if report is not None:
            return ProcessExited(recipient, report)
        return RuntimeStopped() if self.runtime.was_started else RuntimeNotStarted()

    # --- telling ------------------------------------------------------------------------------------------------------

    @property
    def heard(self) -> bool:
        """Whether anybody listens: an observer, or a subscription of the bus."""
        return bool(self.services.observers) or self.bus.has_subscriptions

    def emit(self, kind: EventKind, name: str, **data: Any) -> None:
        """Tell the observers and the bus. An observer that raises is logged and forgotten."""
        if not self.heard:
            return
        event = KernelEvent(kind, name, data)
        self.bus.publish(kind.value, event)
        for observer in self.services.observers:
            try:
                observer.event(event)
            except Exception:
                logger.exception("observer %r failed on %s", observer, kind)

    def suspend(self, name: str, reason: str) -> None:
        """Suspend a process, and remember it. Raises `UnknownAgent`."""
        self.registry.lookup(name).suspend(reason)
        if self.services.commit is not None:
            self.services.commit.suspended(name, reason)

    def drain(self, name: str, reason: str) -> None:
        """Let a process work off what waits, and stand suspended then. Remembered from now on. Raises `UnknownAgent`."""
        mailbox = self.registry.lookup(name)
        if mailbox.intake is not Intake.OPEN:
            return
        if self.services.commit is not None:
            self.services.commit.suspended(name, reason)
        mailbox.begin_drain(reason)
        self.emit(EventKind.PROCESS_DRAINING, name, reason=reason)

    def resume(self, name: str, approver: str) -> None:
        """Resume a process, or all behind a name. Raises `UnknownAgent`."""
        self.registry.lookup(name).resume(approver)
        if self.services.commit is not None:
            self.services.commit.suspended(name, None)
            for mailbox in list(self._mailboxes.values()):
                if mailbox.behind == name:
                    self.services.commit.suspended(mailbox.name, None)

    def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Tell that a message will not be delivered (again)."""
        if self.services.buried is not None:
            self.services.buried(delivery, reason)
        self.emit(EventKind.DEAD_LETTER, delivery.message.recipient, message=delivery.message, reason=reason)

    def expired(self, delivery: Delivery) -> None:
        """Count and tell that a message was out of date before its handling began."""
        message = delivery.message
        mailbox = self.registry.get(message.recipient)
        if mailbox is not None:
            mailbox.expired += 1
        self.emit(EventKind.MESSAGE_EXPIRED, message.recipient, message=message)

    # --- running ------------------------------------------------------------------------------------------------------

    def start_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a coroutine in the runtime's task group, which it cannot outlive. It must not raise."""
        if self.tasks is None:
            coroutine.close()
            raise RuntimeNotStarted
        return self.tasks.create_task(coroutine, name=name)

    async def run_blocking(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a blocking function in a thread of this runtime. A caller that is cancelled leaves it to end by itself."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(BLOCKING_THREADS, thread_name_prefix="portico-blocking")
        call = partial(copy_context().run, _called, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def run_to_end(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The same for a handler: where it is cancelled, this waits until the thread has ended.

        What a handler still does in its thread must not meet the next message.
        """
        ended = asyncio.Event()

        def noted() -> R:
            try:
                return function(*args, **kwargs)
            finally:
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(ended.set)

        loop = asyncio.get_running_loop()
        begun = self.run_blocking(noted)
        try:
            return await begun
        except asyncio.CancelledError:
            await ended.wait()
            raise

    def close(self, reason: str) -> None:
        """The tree has ended: answer whatever is still open, start no further blocking function."""
        for mailbox in list(self.registry.mailboxes.values()):
            if mailbox.closed is None:
                for delivery in mailbox.close(reason):
                    self.dead_letter(delivery, reason)
        self.deadlines.close()
        self.tasks = None
        self._looks_twice = True
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None


def _no_loop() -> asyncio.Future[Any]:
    """Before the start: the runtime's loop is the one that it is started on."""
    return asyncio.get_running_loop().create_future()


def _called(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    try:
        return function(*args, **kwargs)
    except StopIteration as error:
        raise RuntimeError("the function raised StopIteration, which no future can hold") from error
