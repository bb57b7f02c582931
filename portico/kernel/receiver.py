"""Receiver: takes messages out of a mailbox and handles them, one at a time: invoke, commit, reply.

An incarnation has one, or `concurrency` of them. Above: `incarnation.py`, which begins and ends the life that this is a part of.
Below: the mailbox, and the user's handlers. What becomes of a message that crashed its handler, the supervisor decides.

The loop spells out what elsewhere would be a helper: every ask passes here, and a call less is 2 % of it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, cast

from portico.errors import DeadlineExceeded, InvalidReply, NoReply, PorticoError, StoreUnavailable
from portico.kernel import hooks
from portico.kernel.clock import sleep
from portico.kernel.current import current
from portico.kernel.detours import Parked, Transferred, detour_of
from portico.kernel.exits import Exit, ExitKind, Unfinished, crash_of
from portico.kernel.mailbox import SLOW
from portico.kernel.messages import Message, Sent, new_reply
from portico.kernel.process import DEFERRED, ErrorAction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.kernel.clock import Timer
    from portico.kernel.delivery import Delivery
    from portico.kernel.detours import Detour
    from portico.kernel.incarnation import Incarnation
    from portico.kernel.protocols import Codec, DurableJournal, Invocable
    from portico.kernel.router import Router

logger = logging.getLogger("portico.kernel")

YIELD_EVERY: Final = 64
"""After so many messages in a row without waiting, a process lets the others run."""


DROPPED: Final = object()
"""The result of a handling that never began: the run was not stored, or has ended meanwhile."""


class CrashError(Exception):
    """Leaves the receive loop with what crashed it, or with the wish to end."""

    def __init__(self, exit_: Exit) -> None:
        super().__init__()
        self.exit = exit_


class HandleTimeoutError(Exception):
    """One handling took longer than `handle_timeout`."""


class DeafError(Exception):
    """A handler ignored its cancellation for `shutdown_timeout`."""


class Receiver:
    """One of the hands of an incarnation."""

    __slots__ = ("_cancelling", "_deaf_timer", "_life", "_timeout", "in_hand", "task")

    def __init__(self, life: Incarnation) -> None:
        self._life = life
        self.task: asyncio.Task[None] | None = None
        """The task that runs `receive`."""
        self.in_hand: Delivery | None = None
        """What it handles now."""
        self._cancelling = False
        self._timeout: HandleTimeoutError | None = None
        self._deaf_timer: Timer | None = None

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

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def receive(self) -> None:  # noqa: C901, PLR0912, PLR0915  # the hot path of everything, see above
        """Handle what comes, until the incarnation has something else to attend to.

        Raises:
            CrashError: what was in hand crashed the process, or ended it.
        """
        life = self._life
        mailbox, process, router = life.mailbox, life.process, life.router
        waiting, source, operations, now = mailbox.waiting, mailbox.source, process.invocables, router.clock.now
        watched, observers, meters = life.watched, router.services.observers, router.services.meters
        in_a_row, began, quick, handled = 0, 0.0, False, ""
        again: Delivery | None = None
        while again is not None or not life.attention:
            if again is not None:
                delivery, again = again, None
            elif waiting:
                delivery = waiting.popleft()
            elif source is not None and source.waiting and not life.draining:
                delivery = source.waiting.popleft()
            else:
                if began:
                    if (took := now() - began) > SLOW or mailbox.service_time:
                        mailbox.measure(took, among_quick=quick)
                    quick = took <= SLOW
                    for meter in meters:
                        meter.handled(mailbox, handled, took)
                in_a_row, began = 0, 0.0
                if life.draining:
                    return
                if mailbox.drain is not None and mailbox.drain.is_over():
                    continue
                await mailbox.wait()
                if source is not None and source.waiting and waiting:
                    source.wake()  # it was woken for what all share, but has something of its own: another one takes that
                continue
            future = delivery.future
            if delivery.dropped or (future is not None and future.done()):  # `finished`, without the call
                continue
            message = delivery.message
            time_now = now()
            if began:
                if (took := time_now - began) > SLOW or mailbox.service_time:
                    mailbox.measure(took, among_quick=quick)
                quick = took <= SLOW
                for meter in meters:
                    meter.handled(mailbox, handled, took)
            deadline = message.deadline
            if deadline is not None and deadline <= time_now:
                began = 0.0
                self._too_late(delivery)
                continue
            began, handled = time_now, message.type
            self.in_hand = delivery
            delivery.holder = self
            current.set(delivery)
            operation = operations.get(message.type)
            journal = delivery.journal
            durable = None if journal is None else journal.durable
            try:
                if durable is not None:
                    result = await self._invoke_durable(delivery, durable)
                elif watched or observers:
                    result = await self._invoke_watched(delivery)
                elif operation is None:
                    result = await process.handle(message)
                else:
                    result = await operation.invoke(process, message)
            except BaseException as error:  # noqa: BLE001  # sorted there, nothing is swallowed
                again = await self._failed(error, delivery)
            else:
                delivery.holder = None
                if not self._cancelling and not life.outlived:
                    life.handled = True
                    if (
                        durable is not None
                        or process.state_touched
                        or result is DEFERRED
                        or (result is None and future is not None)
                    ):
                        self._finish(delivery, result)
                    elif (future := delivery.future) is not None and not future.done():  # the usual end, without a detour
                        kind = result.__class__
                        if kind is Sent or kind is Message:
                            reply: Message = result  # pyright: ignore[reportAssignmentType]  # it is one
                        else:
                            reply = new_reply(result, process.name)
                        reply.recipient, reply.attempt = message.sender, message.attempt
                        future.set_result(reply)
            if life.outlived:
                raise asyncio.CancelledError
            if self._cancelling:
                self._cancelled_handling()
                await self._life.roll_back()
            self.in_hand = None
            in_a_row += 1
            if in_a_row == YIELD_EVERY:
                in_a_row = 0
                await asyncio.sleep(0)
        if began:  # the last one, while which there came something to attend to
            if (took := now() - began) > SLOW or mailbox.service_time:
                mailbox.measure(took, among_quick=quick)
            for meter in meters:
                meter.handled(mailbox, handled, took)

    def _too_late(self, delivery: Delivery) -> None:
        router = self._life.router
        router.deadlines.discard(delivery)
        router.expired(delivery)
        delivery.fail(DeadlineExceeded(delivery.message.recipient))

    # --- what a handler raised ----------------------------------------------------------------------------------------

    async def _failed(self, error: BaseException, delivery: Delivery) -> Delivery | None:
        """Sort it: a cancellation of this handling, an end that the caller gets, or a crash.

        Returns the delivery where it is to be handled again at once.
        """
        life = self._life
        if life.outlived:
            return None
        if isinstance(error, asyncio.CancelledError) and self._cancelling:
            return None
        delivery.holder = None
        detour = detour_of(error)
        if detour is not None and not self._cancelling:
            await self._part(delivery, detour)
            return None
        error = crash_of(error, self.task)  # or somebody stops this process: then what is in hand has no end yet
        life.forget_early(delivery.message)
        await life.roll_back()
        ends = _ends_of(error)
        if ends:
            durable = delivery.durable
            if isinstance(ends[0], StoreUnavailable) and durable is not None:
                durable.again(delivery)  # it was accepted: it is handled when the store works again
            else:
                self._refuse(delivery, ends[0])
            return None
        return await self._on_error(error, delivery)

    async def _part(self, delivery: Delivery, detour: Detour) -> None:
        """A handler left its message without an end."""
        life = self._life
        life.forget_early(delivery.message)
        if isinstance(detour, Transferred):
            self._finish(delivery, detour)
            return
        await life.roll_back()  # what it changed, it will change when the message is handled again
        if isinstance(detour, Parked) and delivery.journal is not None:
            delivery.journal.park(delivery, detour)
        else:
            delivery.part(detour)

    def _refuse(self, delivery: Delivery, error: PorticoError) -> None:
        """The caller gets the error; where nobody waits for an end, it is not lost without a trace."""
        if delivery.future is None:
            logger.warning("%r refused a message of type %r: %s", self._life.name, delivery.message.type, error)
            self._life.router.dead_letter(delivery, str(error))
        delivery.fail(error)

    async def _on_error(self, error: Exception, delivery: Delivery) -> Delivery | None:
        life = self._life
        if self._cancelling:  # nobody waits for it any more; what a cancelled handler raises on its way out is no crash
            logger.warning("a cancelled handler of %r raised", life.name, exc_info=error)
            return None
        message = delivery.message
        delivery.holder = self  # a deadline or a caller who leaves ends this too
        try:
            action = await self._ask_on_error(error, message)
            again = action is ErrorAction.RETRY and message.attempt + 1 < life.max_attempts and life.may_repeat(message)
            if again:
                await sleep(life.router.clock, life.process.retry_delay)
        except asyncio.CancelledError:
            if self._cancelling:
                return None
            raise
        finally:
            delivery.holder = None
        if self._cancelling:
            return None
        if again:
            message.attempt += 1
            message.local = None
            return delivery
        if action is ErrorAction.ESCALATE:
            raise CrashError(Exit(ExitKind.CRASHED, error, (Unfinished(delivery, error),)))
        self._refuse(delivery, life.crashed(error, message))
        if action is ErrorAction.STOP:
            raise CrashError(Exit(ExitKind.NORMAL, from_outside=message.origin is not None))
        return None

    async def _ask_on_error(self, error: Exception, message: Message) -> ErrorAction:
        try:
            return await self._life.process.on_error(error, message)
        except BaseException as raised:
            if self._cancelling:
                raise
            crash_of(raised, self.task)
            logger.exception("on_error of %r failed", self._life.name)
            return ErrorAction.ESCALATE

    # --- ends that take more than a look ------------------------------------------------------------------------------

    def _finish(self, delivery: Delivery, result: Any) -> None:
        """Commit, then reply. What cannot be committed at all is a crash; what could not be stored, the caller hears of."""
        life = self._life
        if result is DROPPED:
            return
        try:
            if isinstance(result, Transferred):
                life.finish(delivery, None, result)
            elif result is DEFERRED:
                life.deferrals.add(delivery)
                life.keep_state()
            else:
                reply = self._reply(delivery, result)
                if reply is not None:
                    life.finish(delivery, reply)
                else:
                    life.keep_state()
                    delivery.fail(NoReply(life.name, delivery.message.type))
        except PorticoError as error:  # the store takes nothing more for now
            life.state_was_lost()
            if delivery.durable is not None:
                delivery.durable.again(delivery)
            else:
                self._refuse(delivery, error)
        except Exception as error:
            raise CrashError(Exit(ExitKind.CRASHED, error, (Unfinished(delivery, error),))) from error

    def _reply(self, delivery: Delivery, result: Any) -> Message | None:
        """What a handler returned, as the reply; None where it returned nothing though somebody waits."""
        process = self._life.process
        if result is None and not delivery.one_way:
            operation = process.operations.get(delivery.message.type)
            if operation is None or not operation.none_is_a_reply:
                return None
        reply = result if isinstance(result, Message) else new_reply(result, process.name)
        reply.recipient, reply.attempt = delivery.message.sender, delivery.message.attempt
        return reply

    # --- durable: what is kept in a store -----------------------------------------------------------------------------

    async def _invoke_durable(self, delivery: Delivery, journal: DurableJournal) -> Any:
        """The same, once the run is stored, and for `idempotent=False` also that its handling begins."""
        message, process = delivery.message, self._life.process
        operation = process.invocables.get(message.type)
        once = operation is not None and operation.idempotent is False
        if not await journal.begin(delivery, once=once) or delivery.finished:
            return DROPPED
        if self._life.watched or self._life.router.services.observers:
            return await self._invoke_watched(delivery)
        return await (process.handle(message) if operation is None else operation.invoke(process, message))

    # --- watched: observers, faults, handle_timeout, strict -----------------------------------------------------------

    async def _invoke_watched(self, delivery: Delivery) -> Any:
        message, process, router = delivery.message, self._life.process, self._life.router
        operation = process.invocables.get(message.type)
        faults, limit, timer = router.services.faults, process.handle_timeout, None
        if limit is not None:
            clock = router.clock
            timer = clock.call_at(clock.now() + limit, lambda: self._over_handle_timeout(limit))
        try:
            with ExitStack() as stack:
                for observer in router.services.observers:
                    traceparent = hooks.enter(stack, observer.handling, message)
                    if traceparent is not None:
                        delivery.traceparent = traceparent
                if faults is not None:
                    await faults.before(process, message)
                result = await (process.handle(message) if operation is None else operation.invoke(process, message))
        finally:
            if timer is not None:
                timer.cancel()
                self._raise_handle_timeout()
        return result if router.strict is None else self._as_sent(message, result, router.strict)

    def _as_sent(self, message: Message, result: Any, codec: Codec) -> Any:
        """The reply as it would come out of a wire. Raises `InvalidReply`."""
        if result is None or result is DEFERRED:
            return result
        try:
            if isinstance(result, Message):
                result.payload = codec.decode(codec.encode(result.payload))
                return result
            return codec.decode(codec.encode(result))
        except ValueError as error:
            fault = {"path": "", "message": str(error), "type": "json"}
            raise InvalidReply(self._life.name, message.type, [fault]) from error

    def _over_handle_timeout(self, limit: float) -> None:
        if not self._cancelling:
            self._timeout = HandleTimeoutError(f"one handling took longer than handle_timeout ({limit:g} s)")
            self.cancel_and_expect_obedience()

    def _raise_handle_timeout(self) -> None:
        """Also where the handler swallowed its cancellation, or made another exception of it."""
        if self._timeout is not None and not self._life.outlived:
            timeout, self._timeout = self._timeout, None
            self.take_back_cancellation()
            self.hears()
            raise timeout from None

    # --- cancelling one handling --------------------------------------------------------------------------------------

    def cancel_handling(self, delivery: Delivery) -> None:
        """Cancel the handling of a delivery in hand; the process lives on. If it does not obey, it counts as crashed."""
        if delivery.holder is not self or self._cancelling or self.task is None:
            return
        self._cancelling = True
        self.cancel_and_expect_obedience()

    def _cancelled_handling(self) -> None:
        self._cancelling = False
        self.take_back_cancellation()
        self.hears()

    def cancel_and_expect_obedience(self) -> None:
        """Cancel what it does; deaf is who has not obeyed within `shutdown_timeout`."""
        if self.task is None:
            return
        self.task.cancel()
        timeout = self._life.shutdown_timeout
        if timeout is not None and self._deaf_timer is None:
            clock = self._life.router.clock
            self._deaf_timer = clock.call_at(clock.now() + timeout, self._is_deaf)

    def hears(self) -> None:
        """It has obeyed."""
        if self._deaf_timer is not None:
            self._deaf_timer.cancel()
            self._deaf_timer = None

    def _is_deaf(self) -> None:
        self._life.deaf(self)

    def take_back_cancellation(self) -> None:
        """So that what it awaits next is not cancelled as well (`asyncio.Task.uncancel`)."""
        task = self.task
        while task is not None and task.cancelling():
            task.uncancel()


def _ends_of(error: Exception) -> list[PorticoError]:
    """The errors that the caller gets instead of a crash: one, or all that a task group in the handler has gathered.

    Empty where anything else is among them.
    """
    if isinstance(error, PorticoError):
        return [error]
    found: list[PorticoError] = []
    if isinstance(error, ExceptionGroup):
        for inner in cast("ExceptionGroup[Exception]", error).exceptions:
            ends = _ends_of(inner)
            if not ends:
                return []
            found += ends
    return found
