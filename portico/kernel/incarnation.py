"""Incarnation: one life of a process. It starts it, lets its receivers work, attends to what comes between, and ends it.

    user module (AgentProcess)          generic (here, and in receiver.py)
    ---------------------------         ------------------------------------------------------------------
    on_start                     <----  start: load the state, start, tell the supervisor `Started`
    operation or handle          <----  receive: one message at a time (or `concurrency`), commit, reply
    on_error                     <----  a handler raised
    on_suspend, on_resume        <----  between two messages
    on_stop                      <----  the end, in the same task, bounded
                                        tell the supervisor `Ended(exit)`: a message, never a callback

How it can be ended, from the mildest to the last resort, and by whom:

    drain          soft stop of a dynamic child     handles what waits, then ends
    request_stop   the supervisor                   finishes the message in hand, then ends
    end_with       a task of its own, a link        cancels the message in hand; it is delivered again
    kill           the supervisor, out of patience  cancels whatever it does
    cut_short      a child that was asked to leave  the same; if it does not obey, it has ended as deaf
    give_up, deaf  the supervisor, a receiver       it does not obey: what it does from now on counts for nothing

Above: `supervision.py`, which makes incarnations and decides what an end means. An incarnation decides nothing about restarts.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from portico.errors import AgentCrashed, LifecycleError, NoReply, PorticoError, SpawnError, StoreUnavailable
from portico.kernel.current import current
from portico.kernel.deferrals import Deferrals
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.exits import Ended, Exit, ExitKind, LinkedExitError, Started, Unfinished, crash_of
from portico.kernel.lifecycle import ProcessStatus, move
from portico.kernel.messages import Message
from portico.kernel.protocols import Lineage
from portico.kernel.receiver import CrashError, DeafError, Receiver

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping

    from portico.kernel.delivery import Delivery
    from portico.kernel.detours import Transferred
    from portico.kernel.mailbox import Mailbox
    from portico.kernel.process import AgentProcess
    from portico.kernel.protocols import Ended as CommitEnded
    from portico.kernel.protocols import Invocable
    from portico.kernel.router import Router
    from portico.kernel.supervision import Ear

logger = logging.getLogger("portico.kernel")


class _OwnTask(NamedTuple):
    """Something that a process has started beside its mailbox."""

    coroutine: Coroutine[Any, Any, None]
    outside: bool
    """Whether a message with an outside origin led to it."""


class Committing:
    """Holds what has been handled, while that is being stored."""

    __slots__ = ("_life", "final")

    def __init__(self, life: Incarnation, *, final: bool) -> None:
        self._life = life
        self.final = final
        """See `Holder.final`: not where another agent is to go on."""

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

    def cancel_handling(self, delivery: Delivery) -> None:
        """See `Holder.cancel_handling`: there is nothing to cancel here any more."""


class Incarnation:
    """One life of a process: a task in the runtime's group, and one more for each pair of hands where it has several."""

    __slots__ = (
        "_alarm",
        "_approver",
        "_begun",
        "_committing",
        "_crashes",
        "_deferrals",
        "_dirty",
        "_hands",
        "_in_flight",
        "_reports_to",
        "_settled",
        "_stopping",
        "_task",
        "_tasks",
        "_verdict",
        "attention",
        "draining",
        "handled",
        "last_exit",
        "lineage",
        "mailbox",
        "max_attempts",
        "number",
        "outlived",
        "process",
        "router",
        "watched",
    )

    def __init__(self, process: AgentProcess, mailbox: Mailbox, router: Router, reports_to: Ear, max_attempts: int) -> None:
        mailbox.incarnations += 1
        mailbox.life = self
        mailbox.hands = process.concurrency
        self.process = process
        self.mailbox = mailbox
        self.router = router
        self.number = mailbox.incarnations
        self.max_attempts = max_attempts
        self.handled = False
        """Whether it has handled a message: then the next crash is the first in a row again."""
        self.attention = mailbox.suspended is not None
        """Whether there is something to attend to before the next message: a stop, a fault, a suspension."""
        self.draining = False
        """Whether it ends as soon as nothing waits."""
        self.outlived = False
        """Whether its end has been told: what it does from now on counts for nothing."""
        self.last_exit: Exit | None = None
        """How it ended; None while it lives."""
        services = router.services
        self.watched = process.handle_timeout is not None or router.strict is not None or services.faults is not None
        """Whether a handling takes the long way, with timers and hooks."""
        self._reports_to = reports_to
        self._hands = [Receiver(self) for _ in range(process.concurrency)]
        self._task: asyncio.Task[None] | None = None
        self._tasks: dict[asyncio.Task[None], _OwnTask] | None = None
        self._deferrals: Deferrals | None = None
        self._alarm: asyncio.Future[None] | None = None
        self._approver = ""
        self._begun = False
        self._stopping = False
        self._verdict: Exit | None = None
        self._crashes: list[Exit] = []
        self.lineage = Lineage()
        """What its commits build on each other."""
        self._committing = Committing(self, final=True)
        self._in_flight = 0
        self._settled: asyncio.Future[None] | None = None
        self._dirty = False
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

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end."""
        return self._stopping

    @property
    def busy(self) -> bool:
        """Whether something is in hand, or a deferred reply is owed."""
        return self.load > 0 or bool(self._deferrals)

    @property
    def load(self) -> int:
        """How many messages are in hand."""
        return sum(hand.in_hand is not None for hand in self._hands)

    @property
    def at_work(self) -> int:
        """How many messages are in hand, or have been put off and wait for their reply."""
        load = int(self._hands[0].in_hand is not None) if len(self._hands) == 1 else self.load
        return load if self._deferrals is None else load + len(self._deferrals)

    def spawn(self) -> None:
        """Begin this life."""
        self._move(ProcessStatus.STARTING)
        self._task = self._hands[0].task = self.router.start_task(self._run(), self.process.id)

    def request_stop(self, *, final: bool) -> None:
        """Finish the message in hand, take no other, and end. `final` matters to supervisors only."""
        del final
        self._stopping = True
        if self.process.status in (ProcessStatus.RUNNING, ProcessStatus.WAITING, ProcessStatus.SUSPENDED):
            self._move(ProcessStatus.STOPPING)
        self._alert()

    def drain(self) -> None:
        """Handle what waits, then end."""
        self.draining = True
        self.mailbox.wake_all()
        if self.mailbox.suspended is not None:  # nothing will be handled any more
            self.request_stop(final=True)

    def kill(self) -> None:
        """Cancel whatever it does."""
        self._stopping = True
        self.attention = True
        if self._task is not None and self._begun:  # a task cancelled before its first step would end without a word
            self._task.cancel()

    def cut_short(self) -> None:
        """Cancel whatever it does; if it does not obey within `shutdown_timeout`, it has ended as deaf."""
        if not self.outlived:
            self.kill()
            if self._begun and self._hands[0].task is self._task:  # else the hands have tasks of their own, and hear of it there
                self._hands[0].cancel_and_expect_obedience()

    def give_up(self) -> tuple[Unfinished, ...]:
        """It is deaf: what it does from now on counts for nothing. Returns what was in hand."""
        unfinished = self._unfinished()
        self._outlive(Exit(ExitKind.CRASHED, DeafError("it was given up"), unfinished))
        return unfinished

    def _outlive(self, exit_: Exit) -> None:
        self.outlived = True
        self.last_exit = exit_
        for left in exit_.unfinished:
            left.delivery.holder = None
        self._move(ProcessStatus.FAILED, even_outlived=True)
        self._hand_back_deferrals(exit_)
        for task in list(self._tasks or ()):
            task.cancel()
        self.router.monitors.ended(self, exit_)

    def end_with(self, exit_: Exit) -> None:
        """End for a reason that is none of the messages': a task of its own, or a process that it is linked to."""
        if self._verdict is None:
            self._verdict = exit_
            for hand in self._hands:
                if hand.in_hand is not None:
                    hand.cancel_and_expect_obedience()
            self._alert()

    def suspend(self) -> None:
        """The mailbox was suspended: attend to it after the message in hand."""
        if not self.busy and self.process.status is ProcessStatus.RUNNING:
            self._move(ProcessStatus.SUSPENDED)
        self._alert()

    def resume(self, approver: str) -> None:
        """The mailbox was resumed."""
        self._approver = approver
        self._alert()

    def _alert(self) -> None:
        self.attention = True
        self.mailbox.wake_all()
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    # --- the life -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            exit_ = await self._live()
        except Exception as error:  # noqa: BLE001  # whatever goes wrong here, the supervisor hears of it
            exit_ = Exit(ExitKind.CRASHED, error, self._unfinished())
        if not self.outlived:
            self.outlived = True
            self.last_exit = exit_
            self.router.monitors.ended(self, exit_)
            self._reports_to.put(Ended(self, exit_))

    async def _live(self) -> Exit:
        self._begun = True
        current.set(None)
        if self._stopping:
            return Exit(ExitKind.SHUTDOWN)
        try:
            await self._start()
        except BaseException as error:  # noqa: BLE001  # the border of user code: any exception is a start failure
            try:
                exit_ = Exit(ExitKind.START_FAILED, crash_of(error, self._task))
            except asyncio.CancelledError:
                self._hands[0].take_back_cancellation()
                exit_ = Exit(ExitKind.SHUTDOWN)
            await self._end_tasks()
            return exit_
        exit_ = await self._serve()
        await self._end(exit_)
        return exit_

    async def _start(self) -> None:
        process, commit = self.process, self.router.services.commit
        if commit is not None and process.concurrency == 1:
            process.kept_state = await commit.load(process.name) or process.kept_state
        for invocable in process.operations.values():
            invocable.prepare()
        await process.on_start()
        await self._commit_hook()
        if self._stopping:
            status = ProcessStatus.STOPPING
        else:
            status = ProcessStatus.RUNNING if self.mailbox.suspended is None else ProcessStatus.SUSPENDED
        self._move(status)
        self._reports_to.put(Started(self))

    async def _serve(self) -> Exit:
        """Receive, and attend to what comes between, until the end."""
        try:
            while True:
                if self._dirty:
                    await self._reload()
                if self.attention:
                    exit_ = await self._attend()
                    if exit_ is not None:
                        return exit_
                if len(self._hands) == 1:
                    await self._hands[0].receive()
                else:
                    await self._side_by_side()
                if not self.attention:
                    return Exit(ExitKind.SHUTDOWN)  # drained
                self._wake_others()
        except CrashError as crash:
            return crash.exit
        except asyncio.CancelledError:
            self._hands[0].take_back_cancellation()
            self._wake_others()
            verdict = self._verdict or Exit(ExitKind.SHUTDOWN)
            return replace(verdict, unfinished=self._unfinished())
        except Exception as error:  # noqa: BLE001  # not the user's code: a commit that cannot be read, say
            return Exit(ExitKind.CRASHED, error, self._unfinished())

    def _wake_others(self) -> None:
        """What this member of a pool was woken for, another one takes."""
        if self.mailbox.source is not None and self.mailbox.source.waiting:
            self.mailbox.source.wake()

    async def _attend(self) -> Exit | None:
        """What there is to do between two messages. Returns the exit where that is the end."""
        current.set(None)
        self._hands[0].take_back_cancellation()  # of a handler that swallowed it
        self._hands[0].hears()
        try:
            told = False
            while True:
                if self._verdict is not None:
                    return replace(self._verdict, unfinished=self._unfinished())
                if self._stopping:
                    return Exit(ExitKind.SHUTDOWN, None, self._unfinished())
                reason = self.mailbox.suspended
                if reason is None:
                    break
                if self.draining:
                    return Exit(ExitKind.SHUTDOWN, None, self._unfinished())
                if not told:
                    told = True
                    await self._rest(reason)
                else:
                    await self._wait_for_alarm()
            if told:
                await self.process.on_resume(self._approver)
                await self._commit_hook()
            if self.process.status is ProcessStatus.SUSPENDED:
                self._move(ProcessStatus.WAITING if self._deferrals else ProcessStatus.RUNNING)
        except BaseException as error:  # noqa: BLE001  # the border of user code: a hook that raises crashes the process
            return Exit(ExitKind.CRASHED, crash_of(error, self._task))
        self.attention = self._stopping or self._dirty or self._verdict is not None or self.mailbox.suspended is not None
        return None

    async def _rest(self, reason: str) -> None:
        self._move(ProcessStatus.SUSPENDED)
        await self.process.on_suspend(reason)
        await self._commit_hook()
        if self.mailbox.drain is not None:  # that of its front, which need not wait for this one any longer
            self.mailbox.drain.is_over()

    async def _wait_for_alarm(self) -> None:
        self._alarm = asyncio.get_running_loop().create_future()
        try:
            await self._alarm
        finally:
            self._alarm = None

    async def _end(self, exit_: Exit) -> None:
        """Run `on_stop` and end the tasks: also after a crash or a cancellation, but never longer than `shutdown_timeout`."""
        self._move(ProcessStatus.STOPPING)
        current.set(None)
        for hand in self._hands:
            hand.in_hand = None  # the exit has it
        hand = self._hands[0]
        hand.hears()
        try:
            await self._within_shutdown_timeout(self.process.on_stop())
        except BaseException as error:
            crash_of(error, self._task)
            logger.exception("on_stop of %r failed", self.name)
        await self._end_tasks()
        if self._in_flight:  # the next life begins with what this one has left behind
            await self._within_shutdown_timeout(self._let_commits_settle())
        if self.router.services.commit is not None:
            self.router.services.commit.forget(self.name)
        if not self.outlived:
            self._hand_back_deferrals(exit_)

    def _hand_back_deferrals(self, exit_: Exit) -> None:
        """What it has put off answering, the next life answers; nobody does where it ended of itself."""
        for delivery in reversed(list(self._deferrals or ())):
            delivery.holder = None
            if exit_.kind is ExitKind.NORMAL or delivery.one_way:
                delivery.fail(NoReply(self.name, delivery.message.type))
            elif self.may_repeat(delivery.message):
                self.mailbox.home_of(delivery).put_back(delivery)
            else:
                self.router.dead_letter(delivery, exit_.reason)
                delivery.fail(self.crashed(exit_.error, delivery.message))
        self._deferrals = None

    async def _end_tasks(self) -> None:
        running = self._tasks or {}
        tasks = [task for task in running if task.cancel()]
        if tasks:
            await self._within_shutdown_timeout(asyncio.wait(tasks))
        for task, own in running.items():
            if task.done():
                own.coroutine.close()  # one whose task was cancelled before its first step would complain that nobody awaited it

    async def _within_shutdown_timeout(self, ending: Coroutine[Any, Any, Any]) -> None:
        """Await a part of the end; cancel it when `shutdown_timeout` has passed, and count as deaf if it does not obey."""
        timer, hand = None, self._hands[0]
        if self.shutdown_timeout is not None:
            clock = self.router.clock
            timer = clock.call_at(clock.now() + self.shutdown_timeout, hand.cancel_and_expect_obedience)
        try:
            await ending
        except asyncio.CancelledError:
            hand.take_back_cancellation()
            logger.warning("%r took longer than shutdown_timeout to end, and was cut short", self.name)
        finally:
            if timer is not None:
                timer.cancel()
            hand.hears()

    def _move(self, status: ProcessStatus, *, even_outlived: bool = False) -> None:
        if not self.outlived or even_outlived:
            move(self.process, status, self.router)

    # --- several hands ------------------------------------------------------------------------------------------------

    async def _side_by_side(self) -> None:
        """Let every pair of hands receive in a task of its own, until all have ended.

        Raises:
            CrashError: one of them crashed. What the others had in hand and could not finish in time goes with it, uncharged.
        """
        self._crashes = []
        tasks: dict[asyncio.Task[None], Receiver] = {}
        idle, cut = list(self._hands), False
        while idle or tasks:
            for hand in idle:
                hand.task = self.router.start_task(self._hand(hand), f"{self.process.id}/{self._hands.index(hand)}")
                tasks[hand.task] = hand
            idle = []
            try:
                await self._any_of(tasks)
            except asyncio.CancelledError:
                cut = True
                for hand in tasks.values():
                    hand.cancel_and_expect_obedience()
            ended = [tasks.pop(task) for task in list(tasks) if task.done()]
            if tasks and not cut and self._resumed():
                idle = [hand for hand in self._hands if hand in ended or hand not in tasks.values()]
        self._hands[0].task = self._task  # what follows is the first one's work
        if cut:
            raise asyncio.CancelledError
        crashes = self._crashes
        if not crashes:
            return
        first, charged = crashes[0], [left for crash in crashes for left in crash.unfinished]
        blamed = {left.delivery for left in charged}
        others = [left for left in self._unfinished() if left.delivery not in blamed]
        raise CrashError(replace(first, unfinished=(*charged, *others)))

    async def _any_of(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        """Until one of these has ended, or the alarm is raised."""
        self._alarm = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait([*tasks, self._alarm], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._alarm.cancel()
            self._alarm = None

    def _resumed(self) -> bool:
        """Whether there is nothing to attend to any more, while some hands still work: then the others may begin again."""
        if self._stopping or self._verdict is not None or self._crashes or self.mailbox.suspended is not None or not self.attention:
            return False
        self.attention = False
        self._move(ProcessStatus.WAITING if self._deferrals else ProcessStatus.RUNNING)
        return True

    async def _hand(self, hand: Receiver) -> None:
        hand.task = asyncio.current_task()
        try:
            await hand.receive()
        except CrashError as crash:
            if crash.exit.kind is ExitKind.NORMAL:
                hand.in_hand = None
            if not self._crashes:
                self._expect_others()
            self._crashes.append(crash.exit)
            self._alert()
        except asyncio.CancelledError:
            hand.take_back_cancellation()  # what it had in hand stays there, and has no end yet
        except Exception as error:  # noqa: BLE001  # not the user's code, as in `_serve`
            self._crashes.append(Exit(ExitKind.CRASHED, error))
            self._alert()
        hand.hears()

    def _expect_others(self) -> None:
        """One crashed: the others may finish what they have in hand, within `shutdown_timeout`."""
        if self.shutdown_timeout is not None:
            clock = self.router.clock
            clock.call_at(clock.now() + self.shutdown_timeout, self._cut_others_short)

    def _cut_others_short(self) -> None:
        if not self.outlived:
            for hand in self._hands:
                if hand.in_hand is not None and hand.task is not self._task:
                    hand.cancel_and_expect_obedience()

    def deaf(self, hand: Receiver) -> None:
        """That one ignored its cancellation for `shutdown_timeout`: the process has crashed, whatever it still does."""
        if self.outlived:
            return
        error = DeafError(f"ignored its cancellation for {self.shutdown_timeout or 0:g} s")
        charged = {left.delivery: left for crash in self._crashes for left in crash.unfinished}
        if hand.in_hand is not None:
            charged[hand.in_hand] = Unfinished(hand.in_hand, error)
        exit_ = Exit(ExitKind.CRASHED, error, tuple(charged.get(left.delivery, left) for left in self._unfinished()))
        self._outlive(exit_)
        for other in self._hands:
            if other is not hand and other.task is not None:
                other.task.cancel()
        if self._task is not None and self._task is not hand.task:
            self._task.cancel()
        self._reports_to.put(Ended(self, exit_))

    def _unfinished(self) -> tuple[Unfinished, ...]:
        """What is in hand, uncharged."""
        return tuple(Unfinished(hand.in_hand) for hand in self._hands if hand.in_hand is not None)

    # --- what becomes of a message ------------------------------------------------------------------------------------

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

    def finish(self, delivery: Delivery, reply: Message | None, transferred: Transferred | None = None) -> None:
        """Make a handling final: its state, and (of a durable run) its sends, events and reply. Once stored, it is answered.

        The next message need not wait for that: what is stored later builds on what is stored earlier (`Lineage`).

        Raises:
            StoreUnavailable: the store takes nothing more for now.
            ValueError: something is not JSON-able.
        """
        process, durable, commit = self.process, delivery.durable, self.router.services.commit
        if self.outlived:
            return
        touched = process.state_touched and commit is not None
        process.state_touched = False
        self._in_flight += 1
        delivery.holder = self._committing if transferred is None else Committing(self, final=False)
        ended = partial(self._is_final, delivery, reply, transferred)
        try:
            if durable is not None:
                durable.commit(process.name, process.kept_state if touched else None, reply, ended, self.lineage, transferred)
            elif touched and commit is not None:
                commit.commit(process.name, process.kept_state, ended, self.lineage)
            else:
                ended(None)
        except BaseException:
            self._in_flight -= 1
            delivery.holder = None
            process.state_touched = touched
            raise

    def _is_final(
        self, delivery: Delivery, reply: Message | None, transferred: Transferred | None, error: Exception | None
    ) -> None:
        """What was handled is stored, or (`error`) could not be."""
        self._one_less_in_flight()
        delivery.holder = None
        if error is None:
            if transferred is not None:
                if delivery.journal is not None:
                    delivery.journal.moves(delivery, transferred)
                self.router.redirect(delivery, transferred)
            elif reply is not None:
                delivery.resolve(reply)
            return
        self.state_was_lost()
        if delivery.durable is not None:
            delivery.durable.again(delivery)
        else:
            if delivery.future is None:  # nobody else hears of it
                self.router.dead_letter(delivery, str(error))
            delivery.fail(error if isinstance(error, PorticoError) else StoreUnavailable(str(error)))

    def keep_state(self, ended: CommitEnded | None = None) -> None:
        """Store the state as it is now, where anybody had it in hand. Raises as `finish`."""
        process, commit = self.process, self.router.services.commit
        if commit is None or self.outlived or not process.state_touched:
            if ended is not None:
                ended(None)
            return
        process.state_touched = False
        self._in_flight += 1
        try:
            commit.commit(process.name, process.kept_state, partial(self._is_kept, ended), self.lineage)
        except BaseException:
            self._in_flight -= 1
            process.state_touched = True
            raise

    def _is_kept(self, ended: CommitEnded | None, error: Exception | None) -> None:
        self._one_less_in_flight()
        if error is not None:
            self.state_was_lost()
        if ended is not None:
            ended(error)

    def _one_less_in_flight(self) -> None:
        self._in_flight -= 1
        if not self._in_flight and self._settled is not None and not self._settled.done():
            self._settled.set_result(None)

    async def _let_commits_settle(self) -> None:
        while self._in_flight:
            self._settled = asyncio.get_running_loop().create_future()
            await self._settled

    def state_was_lost(self) -> None:
        """A commit was not stored: what this life has in hand as its state is not what it is. It is read again."""
        if self.process.concurrency > 1:  # it has no state, so nothing builds on what was lost
            self.lineage = Lineage()
            return
        self._dirty = True
        self._alert()

    async def _reload(self) -> None:
        self._dirty = False
        self.lineage = Lineage()
        self.process.state_touched = True
        await self.roll_back()

    async def _commit_hook(self) -> None:
        """Make final what a hook has changed in the state."""
        if self.process.state_touched:
            await self.store_state()

    async def store_state(self) -> None:
        """Store the state as it is now, and wait until it is. Raises what was in the way."""
        stored: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def ended(error: Exception | None) -> None:
            if not stored.done():
                stored.set_result(error)

        self.keep_state(ended)
        error = await stored
        if error is not None:
            raise error

    async def checkpoint(self) -> None:
        """Commit the state as it is now."""
        if self.process.concurrency == 1:
            self.process.state_touched = True
            await self.store_state()
            self.process.state_touched = True  # what the handler still holds may change again

    async def roll_back(self) -> None:
        """Forget what a handling changed in the state."""
        process, commit = self.process, self.router.services.commit
        if process.state_touched and commit is not None:
            process.kept_state = await commit.load(process.name)
            process.state_touched = False

    # --- deferred replies ---------------------------------------------------------------------------------------------

    @property
    def deferrals(self) -> Deferrals:
        """What it has put off answering."""
        if self._deferrals is None:
            self._deferrals = Deferrals(self)
        return self._deferrals

    def owes(self) -> None:
        """What it owes has changed: it is `waiting` as long as it owes anything."""
        if self.process.status is ProcessStatus.RUNNING and self._deferrals:
            self._move(ProcessStatus.WAITING)
        elif self.process.status is ProcessStatus.WAITING and not self._deferrals:
            self._move(ProcessStatus.RUNNING)
        if self.mailbox.drain is not None:
            self.mailbox.drain.is_over()

    def reply_to(self, message: Message, payload: Any) -> bool:
        """Answer a message whose handler returned `defer()`. Returns whether somebody still waited."""
        delivery = self._deferrals.take(message) if self._deferrals is not None else None
        reply = Message("reply", payload, self.name, message.sender, attempt=message.attempt)
        if delivery is not None:
            self.answer(delivery, reply)
            return True
        in_hand = [hand.in_hand.message for hand in self._hands if hand.in_hand is not None]
        if message not in in_hand:
            return False
        early = self.deferrals.early  # answered before its handler has said that it defers
        early[message.id] = reply
        for key in early.keys() - {other.id for other in in_hand}:
            del early[key]
        return True

    def answer(self, delivery: Delivery, reply: Message) -> None:
        """Give a deferred reply: of a durable run once it is stored."""
        if delivery.durable is not None:
            self.finish(delivery, reply)
        else:
            delivery.resolve(reply)

    def forget_early(self, message: Message) -> None:
        """A handling failed: what it has answered already counts for nothing."""
        if self._deferrals is not None:
            self._deferrals.early.pop(message.id, None)

    # --- tasks of its own ---------------------------------------------------------------------------------------------

    def start_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """See `AgentProcess.start_task`."""
        if self.outlived:
            coroutine.close()
            raise LifecycleError(f"{self.process.id} has ended: it starts no tasks.")
        if self._tasks is None:
            self._tasks = {}
        in_hand, task = current.get(), asyncio.current_task()
        starter = self._tasks.get(task) if task is not None else None
        outside = (in_hand is not None and in_hand.message.origin is not None) or (starter is not None and starter.outside)
        started = self.router.start_task(self._guard(coroutine, outside=outside), f"{self.process.id}/{name}")
        self._tasks[started] = _OwnTask(coroutine, outside)

    async def _guard(self, coroutine: Coroutine[Any, Any, None], *, outside: bool) -> None:
        """`outside`: it was started for a message with an outside origin; then its crash counts to no window."""
        current.set(None)
        task = asyncio.current_task()
        try:
            await coroutine
        except BaseException as error:  # noqa: BLE001  # the border of user code: the process crashes
            self.end_with(Exit(ExitKind.CRASHED, crash_of(error, task), from_outside=outside))
        finally:
            if self._tasks is not None and task is not None and not task.cancelling():
                self._tasks.pop(task, None)

    def nearest_dynamic(self) -> DynamicSupervisor:
        """The `DynamicSupervisor` that this process stands below, or the first one beside it, or beside what it stands below.

        Raises:
            SpawnError: there is none on the way to the root.
        """
        above = self.mailbox.parent
        while above is not None:
            beside = () if above.supervisor.dynamic else above.present()
            for node in (above.supervisor, *beside):
                if isinstance(node, DynamicSupervisor):
                    return node
            above = above.parent
        raise SpawnError(f"{self.name!r} cannot spawn: no DynamicSupervisor stands beside it or beside what it stands below.")

    def linked_ended(self, name: str, exit_: Exit) -> None:
        """A process that this one is linked to has ended, and this one does not trap exits."""
        kind = ExitKind.SHUTDOWN if exit_.kind is ExitKind.SHUTDOWN else ExitKind.CRASHED
        self.end_with(Exit(kind, LinkedExitError(name, self.router.registry.agent_of(name), exit_)))
