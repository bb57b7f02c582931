"""Incarnation: one life of a process. It starts it, feeds it from its mailbox, and ends it.

    user module (AgentProcess)          generic (here)
    ---------------------------         ------------------------------------------------------------------
    on_start                     <----  start: load the state, start, tell the supervisor `Started`
    operation or handle          <----  receive: one message at a time, commit, reply
    on_error                     <----  a handler raised
    on_stop                      <----  the end, in the same task, bounded
                                        tell the supervisor `Ended(exit)`: a message, never a callback

Above: `supervision.py`, which makes incarnations and decides what an end means. An incarnation decides nothing about restarts.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from portico.errors import AgentCrashed, DeadlineExceeded, InvalidReply, NoReply, PorticoError
from portico.kernel import hooks
from portico.kernel.clock import sleep
from portico.kernel.events import EventKind
from portico.kernel.exits import Ended, Exit, ExitKind, Started
from portico.kernel.mailbox import YIELD_EVERY, Delivery, Mailbox
from portico.kernel.messages import Message
from portico.kernel.process import DEFERRED, ErrorAction, ProcessStatus
from portico.kernel.router import current

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from portico.kernel.clock import Timer
    from portico.kernel.inbox import Inbox
    from portico.kernel.process import AgentProcess
    from portico.kernel.protocols import Codec
    from portico.kernel.router import Router

logger = logging.getLogger("portico.kernel")

START = Message(type="portico.start", id="portico.start")
"""Stands for the start where a commit needs a message."""


class _CrashError(Exception):
    """Leaves the receive loop with what crashed it."""

    def __init__(self, exit_: Exit) -> None:
        super().__init__()
        self.exit = exit_


class HandleTimeoutError(Exception):
    """One handling took longer than `handle_timeout`."""


class StrayCancellationError(Exception):
    """A handler raised `asyncio.CancelledError` though nobody had cancelled it: it awaited something that was cancelled."""


class AgentExitError(Exception):
    """A handler raised `SystemExit`."""


class DeafError(Exception):
    """A handler ignored its cancellation for `shutdown_timeout`."""


class Incarnation:
    """One life of a process: a task in the runtime's group."""

    __slots__ = (
        "_begun",
        "_cancelling",
        "_deaf_timer",
        "_deferred",
        "_fault",
        "_in_hand",
        "_now",
        "_observers",
        "_operations",
        "_outlived",
        "_reports_to",
        "_router",
        "_stopping",
        "_task",
        "_tasks",
        "_watched",
        "handled",
        "mailbox",
        "max_attempts",
        "number",
        "process",
    )

    def __init__(self, process: AgentProcess, mailbox: Mailbox, router: Router, reports_to: Inbox, max_attempts: int) -> None:
        mailbox.incarnations += 1
        mailbox.process = process
        self.process = process
        self.mailbox = mailbox
        self.number = mailbox.incarnations
        self.max_attempts = max_attempts
        self.handled = False
        self._router = router
        # What every message needs, a step nearer.
        self._now = router.clock.now
        self._observers = router.services.observers
        self._operations = process.operations
        self._reports_to = reports_to
        self._task: asyncio.Task[None] | None = None
        self._tasks: dict[asyncio.Task[None], Coroutine[Any, Any, None]] = {}
        self._in_hand: Delivery | None = None
        self._deferred: dict[str, Delivery] | None = None
        self._begun = False
        self._cancelling = False
        self._stopping = False
        self._outlived = False
        self._fault: BaseException | None = None
        self._deaf_timer: Timer | None = None
        self._watched = process.handle_timeout is not None or router.strict is not None
        process.bind(router, self)

    # --- control: called by the supervisor ----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the process."""
        return self.process.name

    @property
    def start_timeout(self) -> float | None:
        """Seconds that the start may take."""
        return self.process.start_timeout

    @property
    def shutdown_timeout(self) -> float | None:
        """Seconds that the end may take before it is cancelled, and again before it is given up."""
        return self.process.shutdown_timeout

    def spawn(self) -> None:
        """Begin this life."""
        self.process.status = ProcessStatus.STARTING
        self._task = self._router.start_task(self._run(), self.process.id)

    def request_stop(self, *, final: bool) -> None:
        """Finish the message in hand, take no other, and end. `final` matters to supervisors only."""
        del final
        self._stopping = True
        if self.process.status is ProcessStatus.RUNNING:
            self.process.status = ProcessStatus.STOPPING
        self.mailbox.wake()

    def kill(self) -> None:
        """Cancel whatever it does."""
        self._stopping = True
        if self._task is not None and self._begun:  # a task cancelled before its first step would end without a word
            self._task.cancel()

    def give_up(self) -> Delivery | None:
        """It is deaf: what it does from now on counts for nothing. Returns what was in hand."""
        self._outlived = True
        self.process.status = ProcessStatus.FAILED
        delivery, self._in_hand = self._in_hand, None
        if delivery is not None:
            delivery.holder = None
        return delivery

    # --- the life -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            exit_ = await self._live()
        except Exception as error:  # noqa: BLE001  # whatever goes wrong here, the supervisor hears of it
            exit_ = Exit(ExitKind.CRASHED, error)
        if not self._outlived:
            self._outlived = True
            self._reports_to.put(Ended(self, exit_))

    async def _live(self) -> Exit:
        self._begun = True
        current.set(None)
        if self._stopping:
            return Exit(ExitKind.SHUTDOWN)
        try:
            await self._start()
        except asyncio.CancelledError:
            self._take_back_cancellation()
            await self._end_tasks()
            return Exit(ExitKind.SHUTDOWN)
        except Exception as error:  # noqa: BLE001  # the border of user code: any exception is a start failure
            await self._end_tasks()
            return Exit(ExitKind.START_FAILED, error)
        exit_ = await self._receive()
        await self._end(exit_)
        return exit_

    async def _start(self) -> None:
        process, commit = self.process, self._router.services.commit
        if commit is not None:
            process.kept_state = await commit.load(process.name) or process.kept_state
        await process.on_start()
        if process.state_touched:
            await self._commit(START, None)
        process.status = ProcessStatus.STOPPING if self._stopping else ProcessStatus.RUNNING
        self._reports_to.put(Started(self))

    async def _receive(self) -> Exit:
        mailbox, waiting = self.mailbox, self.mailbox.waiting
        in_a_row = 0
        try:
            while not self._stopping and self._fault is None:
                if not waiting:
                    in_a_row = 0
                    await mailbox.wait()
                    continue
                delivery = waiting.popleft()
                if not delivery.dropped and (delivery.future is None or not delivery.future.done()):  # `finished`, without the call
                    await self._handle(delivery)
                    in_a_row += 1
                    if in_a_row == YIELD_EVERY:
                        in_a_row = 0
                        await asyncio.sleep(0)
        except _CrashError as crash:
            return crash.exit
        except asyncio.CancelledError:
            self._take_back_cancellation()
            return self._exit_by_cancellation()
        if self._fault is not None:
            return Exit(ExitKind.CRASHED, self._fault)
        return Exit(ExitKind.SHUTDOWN)

    def _exit_by_cancellation(self) -> Exit:
        delivery = self._in_hand
        if self._fault is not None:
            return Exit(ExitKind.CRASHED, self._fault, delivery)
        return Exit(ExitKind.SHUTDOWN, None, delivery)

    async def _end(self, exit_: Exit) -> None:
        """Run `on_stop` and end the tasks: also after a crash or a cancellation, but never longer than `shutdown_timeout`."""
        self.process.status = ProcessStatus.STOPPING
        current.set(None)
        self._hears()
        try:
            await self._within_shutdown_timeout(self.process.on_stop())
        except Exception:
            logger.exception("on_stop of %r failed", self.name)
        await self._end_tasks()
        for delivery in reversed((self._deferred or {}).values()):
            if exit_.kind is ExitKind.NORMAL or delivery.one_way:
                delivery.fail(NoReply(self.name, delivery.message.type))
            elif self.may_repeat(delivery.message):
                self.mailbox.put_back(delivery)
            else:
                self._router.dead_letter(delivery, exit_.reason)
                delivery.fail(self.crashed(exit_.error, delivery.message))

    async def _end_tasks(self) -> None:
        tasks = [task for task in self._tasks if task.cancel()]
        if tasks:
            await self._within_shutdown_timeout(asyncio.wait(tasks))
        for task, coroutine in self._tasks.items():
            if task.done():
                coroutine.close()  # one whose task was cancelled before its first step would complain that nobody awaited it

    async def _within_shutdown_timeout(self, ending: Coroutine[Any, Any, Any]) -> None:
        """Await a part of the end; cancel it when `shutdown_timeout` has passed, and count as deaf if it does not obey."""
        timer = None
        if self.shutdown_timeout is not None:
            clock = self._router.clock
            timer = clock.call_at(clock.now() + self.shutdown_timeout, self._cancel_and_expect_obedience)
        try:
            await ending
        except asyncio.CancelledError:
            self._take_back_cancellation()
            logger.warning("%r took longer than shutdown_timeout to end, and was cut short", self.name)
        finally:
            if timer is not None:
                timer.cancel()
            self._hears()

    # --- one message --------------------------------------------------------------------------------------------------

    async def _handle(self, delivery: Delivery) -> None:  # noqa: C901  # every ask passes here: a call less is 2 % of it
        message, process = delivery.message, self.process
        deadline = message.deadline
        if deadline is not None and deadline <= self._now():
            self._too_late(delivery)
            return
        self._in_hand = delivery
        delivery.holder = self
        current.set(delivery)
        operation = self._operations.get(message.type)
        try:
            if self._watched or self._observers:
                result = await self._invoke_watched(message)
            elif operation is None:
                result = await process.handle(message)
            else:
                result = await operation.invoke(process, message)
        except BaseException as error:  # noqa: BLE001  # sorted one line further, nothing is swallowed
            await self._handling_failed(error, delivery)
        else:
            delivery.holder = None
            if not self._cancelling and not self._outlived:
                self.handled = True
                if result is None or result is DEFERRED or process.state_touched:
                    await self._finish(delivery, result)
                else:  # the usual end, without a detour
                    reply = result if result.__class__ is Message else Message("reply", result, self.name)
                    reply.recipient, reply.attempt = message.sender, message.attempt
                    if delivery.future is not None and not delivery.future.done():
                        delivery.future.set_result(reply)
        if self._outlived:
            raise asyncio.CancelledError
        if self._cancelling:
            self._cancelled_handling()
            await self._roll_back()
        self._in_hand = None

    def _too_late(self, delivery: Delivery) -> None:
        self._router.deadlines.discard(delivery)
        delivery.fail(DeadlineExceeded(delivery.message.recipient))
        self._router.emit(EventKind.MESSAGE_EXPIRED, self.name, message=delivery.message)

    async def _handling_failed(self, error: BaseException, delivery: Delivery) -> None:
        """Sort what a handler raised: a cancellation of this handling, an end that the caller gets, or a crash."""
        if self._outlived:
            return
        if isinstance(error, asyncio.CancelledError):
            if self._cancelling:
                return
            delivery.holder = None
            if self._task is None or self._task.cancelling():
                raise error  # somebody stops this process; what is in hand has no end yet
            error = StrayCancellationError("nobody cancelled the handler, but something that it awaited was cancelled")
        delivery.holder = None
        if isinstance(error, SystemExit):
            error = AgentExitError(f"the handler called sys.exit({error.code!r})")  # it ends its process, not the program
        if not isinstance(error, Exception):
            raise error
        await self._roll_back()
        if isinstance(error, PorticoError):
            self._refuse(delivery, error)
        else:
            await self._on_error(error, delivery)

    def _refuse(self, delivery: Delivery, error: PorticoError) -> None:
        """The caller gets the error; where nobody waits for an end, it is not lost without a trace."""
        if delivery.future is None:
            self._router.dead_letter(delivery, str(error))
        delivery.fail(error)

    async def _invoke_watched(self, message: Message) -> Any:
        process = self.process
        operation = process.operations.get(message.type)
        limit = process.handle_timeout
        timer = None
        if limit is not None:
            clock = self._router.clock
            timer = clock.call_at(clock.now() + limit, lambda: self._over_handle_timeout(limit))
        try:
            with ExitStack() as stack:
                for observer in self._router.services.observers:
                    traceparent = hooks.enter(stack, observer.handling, message)
                    if traceparent is not None and self._in_hand is not None:
                        self._in_hand.traceparent = traceparent
                result = await (process.handle(message) if operation is None else operation.invoke(process, message))
        finally:
            if timer is not None:
                timer.cancel()
                self._raise_handle_timeout()
        return result if self._router.strict is None else self._as_sent(message, result, self._router.strict)

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
            raise InvalidReply(self.name, message.type, [{"path": "", "message": str(error), "type": "json"}]) from error

    async def _finish(self, delivery: Delivery, result: Any) -> None:
        """Commit, then reply. A commit that fails is a crash."""
        message = delivery.message
        reply = None if result is DEFERRED else self._reply(delivery, result)
        try:
            if self.process.state_touched:
                await self._commit(message, reply)
        except Exception as error:
            raise _CrashError(Exit(ExitKind.CRASHED, error, delivery, charged=True)) from error
        if result is DEFERRED:
            self._defer(delivery)
        elif reply is None:
            delivery.fail(NoReply(self.name, message.type))
        else:
            delivery.resolve(reply)

    def _reply(self, delivery: Delivery, result: Any) -> Message | None:
        """What a handler returned, as the reply; None where it returned nothing though somebody waits."""
        if result is None and not delivery.one_way:
            operation = self.process.operations.get(delivery.message.type)
            if operation is None or not operation.none_is_a_reply:
                return None
        reply = result if isinstance(result, Message) else Message("reply", result, self.name)
        reply.recipient, reply.attempt = delivery.message.sender, delivery.message.attempt
        return reply

    def _defer(self, delivery: Delivery) -> None:
        waiting = self._deferred or {}
        if len(waiting) % 64 == 63:  # noqa: PLR2004  # now and then: those whose callers have left
            waiting = {key: other for key, other in waiting.items() if not other.finished}
        waiting[delivery.message.id] = delivery
        self._deferred = waiting

    async def _on_error(self, error: Exception, delivery: Delivery) -> None:
        if self._cancelling:  # nobody waits for it any more; what a cancelled handler raises on its way out is no crash
            logger.warning("a cancelled handler of %r raised", self.name, exc_info=error)
            return
        message = delivery.message
        delivery.holder = self  # a deadline or a caller who leaves ends this too
        try:
            action = await self._ask_on_error(error, message)
            again = action is ErrorAction.RETRY and message.attempt + 1 < self.max_attempts and self.may_repeat(message)
            if again:
                await sleep(self._router.clock, self.process.retry_delay)
        except asyncio.CancelledError:
            if self._cancelling:
                return
            raise
        finally:
            delivery.holder = None
        if self._cancelling:
            return
        if again:
            message.attempt += 1
            message.local = None
            await self._handle(delivery)
        elif action is ErrorAction.ESCALATE:
            raise _CrashError(Exit(ExitKind.CRASHED, error, delivery, charged=True))
        else:
            self._refuse(delivery, self.crashed(error, message))
            if action is ErrorAction.STOP:
                raise _CrashError(Exit(ExitKind.NORMAL))

    async def _ask_on_error(self, error: Exception, message: Message) -> ErrorAction:
        try:
            return await self.process.on_error(error, message)
        except Exception:
            logger.exception("on_error of %r failed", self.name)
            return ErrorAction.ESCALATE

    def may_repeat(self, message: Message) -> bool:
        """Whether a message may be handled again: not where its operation says `idempotent=False`."""
        operation = self.process.operations.get(message.type)
        return operation is None or operation.idempotent is not False

    def crashed(self, error: BaseException | None, message: Message) -> AgentCrashed:
        """What the caller of a message gets that crashed its handler."""
        return AgentCrashed(
            self.name,
            error or "stopped",
            attempts=message.attempt + 1,
            incarnation=self.number,
            restarts=self.mailbox.restarts,
        )

    # --- state --------------------------------------------------------------------------------------------------------

    async def _commit(self, message: Message, reply: Message | None) -> None:
        process, commit = self.process, self._router.services.commit
        if commit is None or self._outlived:
            return
        of_mine = message if message.recipient == process.name else Message(type=message.type, recipient=process.name)
        process.state_touched = False
        try:
            await commit.commit(of_mine, reply, process.kept_state, ())
        except BaseException:
            process.state_touched = True
            raise

    async def checkpoint(self) -> None:
        """Commit the state as it is now."""
        await self._commit(self._in_hand.message if self._in_hand else START, None)
        self.process.state_touched = True  # what the handler still holds may change again

    async def _roll_back(self) -> None:
        process, commit = self.process, self._router.services.commit
        if process.state_touched and commit is not None:
            process.kept_state = await commit.load(process.name)
            process.state_touched = False

    # --- deferred replies ---------------------------------------------------------------------------------------------

    def reply_to(self, message: Message, payload: Any) -> None:
        """Answer a message whose handler returned `defer()`."""
        delivery = (self._deferred or {}).pop(message.id, None)
        if delivery is not None:
            delivery.resolve(Message("reply", payload, self.name, message.sender, attempt=message.attempt))

    # --- tasks of its own ---------------------------------------------------------------------------------------------

    def start_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """See `AgentProcess.start_task`."""
        self._tasks = {task: running for task, running in self._tasks.items() if not task.done()}
        self._tasks[self._router.start_task(self._guard(coroutine), f"{self.process.id}/{name}")] = coroutine

    async def _guard(self, coroutine: Coroutine[Any, Any, None]) -> None:
        current.set(None)
        try:
            await coroutine
        except Exception as error:  # noqa: BLE001  # the border of user code: the process crashes
            self._fault = error
            if self._task is not None and self._in_hand is not None:
                self._task.cancel()
            self.mailbox.wake()

    # --- cancelling one handling --------------------------------------------------------------------------------------

    def cancel_handling(self, delivery: Delivery) -> None:
        """Cancel the handling of a delivery in hand; the process lives on. If it does not obey, it counts as crashed."""
        if delivery.holder is not self or self._cancelling or self._task is None:
            return
        self._cancelling = True
        self._cancel_and_expect_obedience()

    def _cancelled_handling(self) -> None:
        self._cancelling = False
        self._take_back_cancellation()
        self._hears()

    def _cancel_and_expect_obedience(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._expect_obedience()

    def _expect_obedience(self) -> None:
        if self.shutdown_timeout is not None and self._deaf_timer is None:
            clock = self._router.clock
            self._deaf_timer = clock.call_at(clock.now() + self.shutdown_timeout, self._is_deaf)

    def _hears(self) -> None:
        if self._deaf_timer is not None:
            self._deaf_timer.cancel()
            self._deaf_timer = None

    def _is_deaf(self) -> None:
        if not self._outlived:
            delivery = self.give_up()
            error = DeafError(f"ignored its cancellation for {self.shutdown_timeout:g} s")
            self._reports_to.put(Ended(self, Exit(ExitKind.CRASHED, error, delivery, charged=True)))

    def _over_handle_timeout(self, limit: float) -> None:
        if not self._cancelling:
            self._fault = HandleTimeoutError(f"one handling took longer than handle_timeout ({limit:g} s)")
            self._cancel_and_expect_obedience()

    def _raise_handle_timeout(self) -> None:
        """Also where the handler swallowed its cancellation, or made another exception of it."""
        if isinstance(self._fault, HandleTimeoutError) and not self._outlived:
            fault, self._fault = self._fault, None
            self._take_back_cancellation()
            self._hears()
            raise fault from None

    def _take_back_cancellation(self) -> None:
        task = self._task
        while task is not None and task.cancelling():
            task.uncancel()
