"""Supervision: one life of a supervisor. Starts children, hears of their ends, restarts, escalates, stops.

    user module (Supervisor)            generic (here)
    ------------------------            --------------------------------------------------------------
    children, in order           ---->  start each, wait for `Started`; on a failure stop what was started
    strategy, delay()            ---->  `Ended`: settle what was in hand, count, wait, restart
    max_restarts, window         ---->  too many: stop all, end, and let the parent decide

Everything it is told comes through one inbox, so restarts never overlap; only their waits do.
Above: `runtime.py`. Below: `incarnation.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Protocol

from portico.errors import DuplicateName, LifecycleError, ProcessExited, StartError, StartTimeout
from portico.kernel.child import Child, Leaving, Then
from portico.kernel.current import current
from portico.kernel.delivery import Delivery
from portico.kernel.events import EventKind, SupervisorReport
from portico.kernel.exits import Ended, Exit, ExitKind, IntensityExceededError, Started, Unfinished, described, told_of
from portico.kernel.inbox import Inbox
from portico.kernel.incarnation import Incarnation
from portico.kernel.last_crash import crash_record
from portico.kernel.lifecycle import ProcessStatus, move
from portico.kernel.mailbox import Mailbox
from portico.kernel.messages import CHILD_TERMINATED, Message
from portico.kernel.process import AgentProcess, Restart
from portico.kernel.receiver import DeafError
from portico.kernel.supervisor import Strategy, Supervisor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from portico.kernel.router import Router

logger = logging.getLogger("portico.kernel")


SLICE: Final = 256
"""How many children are asked to stop, or heard of, before the others on the event loop have their turn."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The parent wants it to end. `final`: for good, so that what waits for its children is answered now."""

    final: bool


@dataclass(frozen=True, slots=True)
class Request:
    """Something that must not overlap with a restart; `done` gets its result."""

    action: Callable[[], Awaitable[Any]]
    done: asyncio.Future[Any]


class Ear(Protocol):
    """Whom children tell that they have started or ended."""

    def put(self, event: Any) -> None:
        """Tell. Never waits."""
        ...


class _StopError(Exception):
    """Leaves what is going on because a `Stop` came."""


class Supervision:
    """One life of a supervisor: a task in the runtime's group."""

    start_timeout: float | None = None
    """Its children have their own; it has none."""
    shutdown_timeout: float | None = None
    """It ends when its children have; the runtime's `stop_timeout` is above all."""

    def __init__(self, supervisor: Supervisor, router: Router, reports_to: Ear, parent: Supervision | None = None) -> None:
        self.supervisor = supervisor
        self.parent = parent
        """The life of the supervisor above; None for a root."""
        self.children = {node.name: Child(node) for node in supervisor.children}
        """By name, in start order."""
        self.router = router
        self._clock = router.clock
        self._inbox = Inbox(router.clock)
        self._ear: Ear = self._inbox
        self.stopping = False
        """Whether it stops its children, or has stopped them."""
        self._requests: deque[Request] = deque()
        self._reports_to = reports_to
        self._due: list[tuple[float, int, Child]] = []
        self._numbers = count()
        self._counted: deque[float] = deque()
        self.forgetful = supervisor.dynamic
        """Whether no next life will know its children."""
        self._stop: Stop | None = None
        self._stop_asked = False
        """Whether a `Stop` is, or was, in the inbox."""
        self.ended = False
        """Whether this life is over."""
        supervisor.supervision = self
        router.supervisions[supervisor.name] = self

    # --- control ------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the supervisor."""
        return self.supervisor.name

    def spawn(self) -> None:
        """Begin this life."""
        self.router.start_task(self._run(), self.name)

    def request_stop(self, *, final: bool) -> None:
        """Stop the children in reverse order, then end."""
        self._stop_asked = True
        self._inbox.put(Stop(final))

    def kill(self) -> None:
        """Cancel everything below at once; for when `stop_timeout` has passed."""
        for child in self.children.values():
            if child.life is not None:
                child.life.kill()

    def give_up(self) -> tuple[Unfinished, ...]:
        """A supervisor has no message in hand."""
        return ()

    async def request(self, action: Callable[[], Awaitable[Any]]) -> Any:
        """Run `action` between two events of this supervisor, so that it overlaps with no restart."""
        if self.ended:
            raise LifecycleError(f"Supervisor {self.name!r} is not running.")
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._requests.append(Request(action, done))
        self._inbox.wake()
        return await done

    @property
    def restarts_in_window(self) -> int:
        """How many counted restarts there were within the window: above `max_restarts`, it gives up."""
        since = self._clock.now() - self.supervisor.restart_window
        return sum(at >= since for at in self._counted)

    def present(self) -> list[AgentProcess | Supervisor]:
        """What stands at each place now."""
        return [child.present for child in self.children.values()]

    def close_mailboxes(self, reason: str) -> None:
        """Nothing below will come back: answer everything that waits."""
        for child in self.children.values():
            self._close(child, reason)

    # --- the life -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            exit_ = await self._live()
        except Exception as error:
            logger.exception("supervisor %r failed", self.name)
            await self._stop_all()
            exit_ = Exit(ExitKind.CRASHED, error)
        self.ended = True
        for request in self._requests:
            if not request.done.done():
                request.done.set_exception(LifecycleError(f"Supervisor {self.name!r} is not running."))
        if self.router.supervisions.get(self.name) is self:
            del self.router.supervisions[self.name]
        self._reports_to.put(Ended(self, exit_))

    async def _live(self) -> Exit:
        try:
            for child in list(self.children.values()):
                await self._start(child)
            self._reports_to.put(Started(self))
            await self._watch()
        except _StopError:
            pass
        except StartError as error:
            await self._stop_all(ProcessStatus.FAILED)
            return Exit(ExitKind.START_FAILED, error)
        except IntensityExceededError as error:
            await self._stop_all(ProcessStatus.FAILED, f"supervisor {self.name!r} gave up: {error}")
            return Exit(ExitKind.CRASHED, error)
        await self._stop_all()
        return Exit(ExitKind.SHUTDOWN)

    async def _watch(self) -> None:
        """Take one event after another, what children tell before what others ask; and start those that are due."""
        while True:
            event = await self._inbox.get(until=self._clock.now() if self._requests else self._next_due(), wakes=True)
            if isinstance(event, Stop):
                self._stop = event
                return
            if isinstance(event, Ended):
                await self._child_ended(event)
            elif event is not None:
                await self._told(event)
            elif self._requests:
                await self._serve(self._requests.popleft())
            await self._restart_due()

    async def _told(self, event: Any) -> None:
        """Something that only a certain kind of supervisor is told."""

    def _next_due(self) -> float | None:
        """When there is something to do next, if nothing happens."""
        return self._next_start()

    def _next_start(self) -> float | None:
        """When the next child is due."""
        while self._due and self._due[0][2].due != self._due[0][0]:
            heappop(self._due)
        return self._due[0][0] if self._due else None

    def _set_due(self, child: Child, due: float) -> None:
        child.due = due
        heappush(self._due, (due, next(self._numbers), child))

    async def _serve(self, request: Request) -> None:
        try:
            result = await request.action()
        except (_StopError, IntensityExceededError):
            if not request.done.done():
                request.done.set_exception(self._is_stopping())
            raise
        except Exception as error:  # noqa: BLE001  # whoever asked gets it
            if not request.done.done():
                request.done.set_exception(error)
        else:
            if not request.done.done():
                request.done.set_result(result)

    def _is_stopping(self) -> LifecycleError:
        return LifecycleError(f"Supervisor {self.name!r} is stopping.")

    # --- starting -----------------------------------------------------------------------------------------------------

    async def _start(self, child: Child) -> None:
        """Build and start one child. Raises `StartError`; `_StopError` where a stop came in between."""
        stop = await self._inbox.get(lambda e: isinstance(e, Stop), until=self._clock.now()) if self._stop_asked else None
        if stop is not None:
            self._stop = stop
            raise _StopError
        before = len(self._inbox)  # where many have ended at a time, their ends are not looked through for each start
        life = self._begin(child)
        until = None if life.start_timeout is None else self._clock.now() + life.start_timeout
        event = await self._inbox.get(
            lambda e: isinstance(e, Stop) or (isinstance(e, Started | Ended) and e.child is life), until, behind=before
        )
        if isinstance(event, Started):
            self.router.emit(EventKind.PROCESS_STARTED, child.name)
            return
        if isinstance(event, Ended):
            child.life = None
            self._mark(child, ProcessStatus.FAILED)
            error = event.exit.error
            if isinstance(error, StartError):
                raise error
            raise StartError(child.name, event.exit.reason) from error
        await self._halt(child, at_once=True)
        if isinstance(event, Stop):
            self._stop = event
            raise _StopError
        self._mark(child, ProcessStatus.FAILED)
        raise StartTimeout(child.name, life.start_timeout or 0.0)

    def _begin(self, child: Child) -> Incarnation | Supervision:
        """Build the next life of a child and let it run. Raises `StartError`."""
        try:
            life = self._build(child)
        except DuplicateName:
            raise
        except Exception as error:
            raise StartError(child.name, described(error)) from error
        child.life = child.last = life
        child.due = None
        life.spawn()
        return life

    def _build(self, child: Child) -> Incarnation | Supervision:
        if child.present.spent:
            child.present = child.present.fresh()
        child.present.spent = True
        if isinstance(child.present, Supervisor):
            return child.present.supervise(self.router, self._ear, self)
        process, registry = child.present, self.router.registry
        mailbox = registry.get(process.name)
        if mailbox is None:
            mailbox = Mailbox(process.name, process.mailbox_size)
        mailbox.parent = self
        mailbox.reopen()
        self._enter(mailbox, process)
        return Incarnation(process, mailbox, self.router, self._ear, 1 + self.supervisor.max_restarts)

    def _enter(self, mailbox: Mailbox, process: AgentProcess) -> None:
        """Make a process known by its name, and by what it can do."""
        self.router.registry.register(mailbox, process.capabilities, process.capability_metadata)

    # --- ends ---------------------------------------------------------------------------------------------------------

    async def _child_ended(self, event: Ended) -> None:
        child = self._living(event.child)
        if child is None:
            return  # an end that was waited for elsewhere
        exit_, child.life = event.exit, None
        if child.leaving is not None and (exit_.wanted or child.leaving.then is Then.FORGET):
            await self._has_left(child, child.leaving, exit_)
            return
        self._tell(child, exit_)
        if child.restart is Restart.TEMPORARY or (child.restart is Restart.TRANSIENT and exit_.wanted):
            self._settle(child, exit_, None)
            self._finish(child, ProcessStatus.STOPPED if exit_.wanted else ProcessStatus.FAILED, exit_.reason, exit_.told)
            return
        if isinstance(event.child, Incarnation) and event.child.handled:
            child.crashes = 0
        child.crashes += 1
        delay = self.supervisor.delay(child.crashes)
        self._mark(child, ProcessStatus.RESTARTING)
        counts = exit_.counts
        self._settle(child, exit_, delay)
        if counts:
            self._count(exit_.told)
        await self._take_down_group(child, delay)

    def _living(self, life: object) -> Child | None:
        """The child whose present life that is."""
        name: str = getattr(life, "name", "")
        child = self.children.get(name)
        return child if child is not None and child.life is life else None

    def _count(self, told: str) -> None:
        now, window = self._clock.now(), self.supervisor.restart_window
        self._counted.append(now)
        while self._counted and self._counted[0] < now - window:
            self._counted.popleft()
        if len(self._counted) > self.supervisor.max_restarts:
            text = f"more than {self.supervisor.max_restarts} restarts within {window:g} s (last: {told})"
            self._report("shutdown", text, self.name)
            raise IntensityExceededError(text)

    async def _take_down_group(self, child: Child, delay: float) -> None:
        """Stop those that the strategy restarts together with `child`, and note when all of them are due."""
        if self.supervisor.strategy is Strategy.ONE_FOR_ONE:
            self._set_due(child, self._clock.now() + delay)
            return
        everybody = list(self.children.values())
        if self.supervisor.strategy is Strategy.ONE_FOR_ALL:
            group = [other for other in everybody if other is not child]
        else:
            group = everybody[everybody.index(child) + 1 :]
        for other in reversed(group):
            if other.life is None and other.due is None:
                continue  # ended for good
            exit_ = await self._halt(other)
            self._settle(other, exit_, delay)
            if other.restart is Restart.TEMPORARY:
                self._finish(other, ProcessStatus.STOPPED, "its supervisor restarted its group")
            else:
                self._mark(other, ProcessStatus.RESTARTING)
        due = self._clock.now() + delay
        for other in everybody:  # in start order
            together = other in group and other.name in self.children and other.restart is not Restart.TEMPORARY
            if other is child or (together and other.last is not None):
                self._set_due(other, due)

    async def _restart_due(self) -> None:
        """Start one child that is due: what has happened meanwhile comes before the next one."""
        due = self._next_start()
        if due is None or due > self._clock.now():
            return
        child = heappop(self._due)[2]
        child.due = None
        await self._restart(child)

    async def _restart(self, child: Child) -> None:
        try:
            await self._start(child)
        except StartError as error:
            await self._not_back(child, error)
        else:
            self._restarted(child)

    def _restarted(self, child: Child) -> None:
        if isinstance(child.life, Incarnation):
            for mailbox in self._counting(child.life.mailbox):
                mailbox.count_restart(self._clock.now())
        self.router.emit(EventKind.PROCESS_RESTARTED, child.name)
        if isinstance(child.life, Incarnation) and child.life.stopping:
            return  # this life is the one that is to leave: the next one ends the matter
        if child.leaving is not None:
            if child.leaving.former is not None:
                before, now = child.leaving.former.__qualname__, type(child.present).__qualname__
                self.router.emit(EventKind.PROCESS_REPLACED, child.name, before=before, now=now)
            self._end_leaving(child)

    async def _restart_failed(self, child: Child, error: StartError) -> None:
        """A start failure after the first start counts, and is tried again."""
        self._note_crash(child.name, error.__cause__ or error)
        self._report("start_error", error.reason, child.name)
        child.crashes += 1
        self._mark(child, ProcessStatus.RESTARTING)
        self._count(told_of(error.__cause__ or error))
        await self._take_down_group(child, self.supervisor.delay(child.crashes))

    def _settle(self, child: Child, exit_: Exit, delay: float | None) -> None:
        """Decide what becomes of the messages that were in hand; `delay` is the wait for the next life, None without one."""
        life = child.last
        if not isinstance(life, Incarnation):
            return
        for left in reversed(exit_.unfinished):
            left.delivery.holder = None
            left.delivery.crashed |= left.charged
            if not left.delivery.finished:
                self._settle_one(life, left, exit_, delay)

    def _settle_one(self, life: Incarnation, left: Unfinished, exit_: Exit, delay: float | None) -> None:
        delivery, message, now = left.delivery, left.delivery.message, self._clock.now()
        mailbox = life.mailbox.home_of(delivery)
        if mailbox is not life.mailbox:  # any other member of the pool may take it, at once
            delay = 0.0 if mailbox.closed is None else None
        again = (
            delay is not None
            and not (delivery.one_way and left.charged and delivery.durable is None)
            and life.may_repeat(message)
            and not (left.charged and message.attempt + 1 >= life.max_attempts)
            and not (message.deadline is not None and now + delay >= message.deadline)
        )
        if again:
            message.attempt += left.charged
            message.local = None  # the crashed handler may have changed it; the payload is validated anew
            mailbox.put_back(delivery)
            return
        error = life.crashed(left.error or exit_.error, message)
        self.router.dead_letter(delivery, str(error))
        delivery.fail(error)

    def _drop(self, child: Child, exit_: Exit, reason: str) -> None:
        """What was in hand will not be handled again."""
        for left in exit_.unfinished:
            left.delivery.holder = None
            if not left.delivery.finished:
                self.router.dead_letter(left.delivery, reason)
                left.delivery.fail(ProcessExited(child.name, reason))

    def _finish(self, child: Child, status: ProcessStatus, reason: str, told: str | None = None) -> None:
        """A child has ended for good. `told`: what callers hear instead of the reason."""
        child.due = None
        self._mark(child, status)
        self._close(child, told or reason)
        kind = EventKind.PROCESS_STOPPED if status is ProcessStatus.STOPPED else EventKind.PROCESS_FAILED
        self.router.emit(kind, child.name, reason=reason)
        if self.supervisor.dynamic:
            self._forget(child, reason)
        if child.leaving is not None:
            wanted = child.leaving.then is Then.FORGET
            self._end_leaving(child, None if wanted else LifecycleError(f"{child.name!r} has ended instead: {reason}"))

    def _forget(self, child: Child, reason: str) -> None:
        del self.children[child.name]
        self.router.registry.deregister(child.name)
        spawner = self.router.registry.get(child.spawner) if child.spawner else None
        if spawner is not None:
            message = Message(CHILD_TERMINATED, {"name": child.name, "reason": reason}, child.name, spawner.name)
            spawner.put_notice(Delivery(message, one_way=True))

    def _close(self, child: Child, reason: str) -> None:
        """Answer whatever waits below: also for those who were started in an earlier life of this supervisor only."""
        child.due = None
        below = child.present.walk() if isinstance(child.present, Supervisor) else [child.present]
        for node in below:
            mailbox = self.router.registry.get(node.name)
            for delivery in mailbox.close(reason) if mailbox is not None else ():
                self.router.dead_letter(delivery, reason)

    # --- stopping -----------------------------------------------------------------------------------------------------

    async def _stop_all(self, status: ProcessStatus = ProcessStatus.STOPPED, reason: str = "it was stopped") -> None:
        """Stop the children in reverse order; those that came at run time have none, and stop side by side.

        For good where the parent said so, or where no next life will know them; else their mailboxes wait for its decision.
        """
        self.stopping = True
        final = self.forgetful or (self._stop is not None and self._stop.final)
        if self.supervisor.dynamic:
            await self._stop_side_by_side(status, reason, final=final)
        for child in list(reversed(self.children.values())):
            child.due = None
            self._has_stopped(child, await self._halt(child, final=final), status, reason, final=final)

    async def _stop_side_by_side(self, status: ProcessStatus, reason: str, *, final: bool) -> None:
        """Ask all children at once, and take their ends as they come, as long as one may take to end."""
        alive, longest = await self._ask_all_to_stop()
        until = self._clock.now() + longest
        while alive:
            event = await self._inbox.get(lambda e: isinstance(e, Ended), until)
            if event is None:
                break
            child = alive.pop(event.child, None)
            if child is not None:
                child.life = None
                if event.exit.kind is ExitKind.CRASHED:
                    self._tell(child, event.exit)
                self._has_stopped(child, event.exit, status, reason, final=final)
            if len(alive) % SLICE == 0:
                await asyncio.sleep(0)
        for child in alive.values():
            if child.life is not None:
                child.life.kill()

    async def _ask_all_to_stop(self) -> tuple[dict[object, Child], float]:
        """Returns the lives that are to end, and the longest of their `shutdown_timeout`s."""
        alive: dict[object, Child] = {}
        longest = 0.0
        for number, child in enumerate(list(self.children.values())):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            if child.life is not None:
                alive[child.life] = child
                longest = max(longest, child.life.shutdown_timeout or 0.0)
                child.life.request_stop(final=True)
                if child.starting is not None:
                    child.life.kill()  # nobody waits for a start that is in vain
        return alive, longest

    def _has_stopped(self, child: Child, exit_: Exit, status: ProcessStatus, reason: str, *, final: bool) -> None:
        ended = ProcessStatus.FAILED if isinstance(exit_.error, DeafError) else status
        if final:
            self._drop(child, exit_, reason)
            self._finish(child, ended, reason)
            return
        self._settle(child, exit_, 0.0)
        self._mark(child, ended)
        if child.leaving is not None:
            self._end_leaving(child, self._is_stopping())

    async def _halt(self, child: Child, *, final: bool = False, at_once: bool = False) -> Exit:
        """Ask a child to stop, wait a bounded time, then cancel it, wait again, then give it up."""
        life = child.life
        if life is None:
            return Exit(ExitKind.SHUTDOWN)
        life.request_stop(final=final)
        event = None if at_once else await self._ended_within(life)
        if event is None:
            life.kill()
            event = await self._ended_within(life)
        child.life = None
        if event is not None:
            if event.exit.kind is ExitKind.CRASHED:
                self._tell(child, event.exit)
            return event.exit
        error = DeafError(f"ignored its cancellation for {life.shutdown_timeout or 0:g} s")
        unfinished = life.give_up()
        self._report("shutdown_error", str(error), child.name)
        return Exit(ExitKind.CRASHED, error, unfinished)

    async def _ended_within(self, life: Incarnation | Supervision) -> Ended | None:
        until = None if life.shutdown_timeout is None else self._clock.now() + life.shutdown_timeout
        return await self._inbox.get(lambda e: isinstance(e, Ended) and e.child is life, until)

    # --- one child leaves, while the others go on ---------------------------------------------------------------------

    def leave(self, child: Child, then: Then, timeout: float | None, *, drain: str | None) -> Leaving:
        """Let a child end, and go on meanwhile; its end comes as a message, like any other.

        `drain`: `current` lets it finish the message in hand, `all` what waits as well, None cancels it. After `timeout`
        seconds it is cancelled in any case. Returns what says how it went.
        """
        leaving = child.leaving
        if leaving is None:
            leaving = child.leaving = Leaving(then, asyncio.get_running_loop().create_future())
        elif then is Then.FORGET:
            leaving.then = then
        life = child.life
        if isinstance(life, Incarnation):
            if drain == "all":
                life.mailbox.bar("it is stopping")
                life.drain()
            elif drain == "current":
                life.request_stop(final=then is Then.FORGET)
            else:
                life.cut_short()
            if drain is not None and timeout is not None:
                leaving.timer = self._clock.call_at(self._clock.now() + timeout, life.cut_short)
        elif life is not None:
            life.request_stop(final=then is Then.FORGET)
        elif then is Then.FORGET:
            self._finish(child, ProcessStatus.STOPPED, "it was stopped")
        else:
            self._set_due(child, self._clock.now())
        return leaving

    async def _has_left(self, child: Child, leaving: Leaving, exit_: Exit) -> None:
        if exit_.kind is ExitKind.CRASHED:
            self._tell(child, exit_)
        if leaving.then is Then.FORGET:
            if any(left.charged for left in exit_.unfinished):
                self._settle(child, exit_, None)
            self._drop(child, exit_, "it was stopped")
            self._finish(child, ProcessStatus.STOPPED if exit_.wanted else ProcessStatus.FAILED, "it was stopped")
            return
        self._settle(child, exit_, 0.0)
        self._mark(child, ProcessStatus.RESTARTING)
        await self._restart(child)

    async def _not_back(self, child: Child, error: StartError) -> None:
        """A later life did not start. Where the class of the child was replaced, the former one returns."""
        leaving = child.leaving
        self._end_leaving(child, error)
        if leaving is not None and leaving.former is not None and isinstance(child.present, AgentProcess):
            child.present.recipe.kind = leaving.former
            self._report("start_error", f"{error.reason}; the former class comes back", child.name)
            self._mark(child, ProcessStatus.RESTARTING)
            self._set_due(child, self._clock.now())
        else:
            await self._restart_failed(child, error)

    def _end_leaving(self, child: Child, error: Exception | None = None) -> None:
        leaving, child.leaving = child.leaving, None
        if leaving is None:
            return
        if leaving.timer is not None:
            leaving.timer.cancel()
        if not leaving.done.done():
            if error is None:
                leaving.done.set_result(None)
            else:
                leaving.done.set_exception(error)

    # --- telling ------------------------------------------------------------------------------------------------------

    def _mark(self, child: Child, status: ProcessStatus) -> None:
        """Take a step of the lifecycle for a process; what has ended stays as it ended, unless a next life follows."""
        process = child.present
        if not isinstance(process, AgentProcess):
            return
        process.spent = True  # also one that never began: the next start makes a fresh instance
        if status is ProcessStatus.RESTARTING or process.status not in (ProcessStatus.STOPPED, ProcessStatus.FAILED):
            move(process, status, self.router)

    def _counting(self, mailbox: Mailbox) -> Iterator[Mailbox]:
        """Where the lives of a process are counted: with it, and with the name that it stands behind.

        That one outlives those behind it, so its counts only grow.
        """
        yield mailbox
        front = self.router.registry.get(mailbox.behind) if mailbox.behind else None
        if front is not None:
            yield front

    def _tell(self, child: Child, exit_: Exit) -> None:
        if exit_.kind is ExitKind.NORMAL or (exit_.wanted and child.restart is not Restart.PERMANENT):
            return
        if exit_.error is not None and exit_.kind is not ExitKind.SHUTDOWN:
            self._note_crash(child.name, exit_.error, exit_)
        if isinstance(child.last, Incarnation) and exit_.kind is ExitKind.CRASHED:
            for mailbox in self._counting(child.last.mailbox):
                mailbox.crashes += 1
        self.router.emit(EventKind.PROCESS_CRASHED, child.name, error=exit_.error, reason=exit_.reason)
        in_hand = exit_.unfinished[0].delivery if exit_.unfinished else None
        self._report("child_terminated", exit_.reason, child.name, exit_.error, in_hand)

    def _note_crash(self, name: str, error: BaseException, exit_: Exit | None = None) -> None:
        """Keep what a process crashed with, for who looks at it, or at the name behind which it stands."""
        mailbox = self.router.registry.get(name)
        if mailbox is not None:
            crash = crash_record(error, self._clock.time(), mailbox.incarnations, exit_)
            for one in self._counting(mailbox):
                one.last_crash = crash

    def _report(
        self, context: str, reason: str, offender: str, error: BaseException | None = None, in_hand: Delivery | None = None
    ) -> None:
        report = SupervisorReport(self.name, context, reason, offender)
        token = current.set(in_hand)  # whoever formats the line sees what it belongs to
        try:
            logger.warning("%s", report, exc_info=error, extra={"portico_router": self.router})  # for secret fields
        finally:
            current.reset(token)
        self.router.emit(EventKind.SUPERVISOR_REPORT, offender, report=report)

    # --- what others ask for ------------------------------------------------------------------------------------------

    def child(self, name: str) -> Child:
        """The place of that name. Raises `LifecycleError`."""
        child = self.children.get(name)
        if child is None:
            raise LifecycleError(f"Supervisor {self.name!r} has no child {name!r}.")
        return child

    async def part(
        self, name: str, then: Then, timeout: float | None, *, drain: str | None, kind: type[AgentProcess] | None = None
    ) -> None:
        """Let a child leave, and wait for what follows; `kind` is its class from then on.

        Raises:
            LifecycleError: there is no such child, or the supervisor stops meanwhile.
            StartError: its next life did not start. That counts, and is tried again; a replaced class comes back.
        """

        async def begin() -> Leaving:
            child = self.child(name)
            leaving = self.leave(child, then, timeout, drain=drain)
            if kind is not None and isinstance(child.present, AgentProcess):
                leaving.former = leaving.former or child.present.recipe.kind
                child.present.recipe.kind = kind
            return leaving

        leaving: Leaving = await self.request(begin)
        await asyncio.shield(leaving.done)

    async def replace_all(self, kind: type[AgentProcess], timeout: float) -> None:
        """Replace the class of those who stand behind this supervisor's name. Raises `LifecycleError` where nobody does."""
        del timeout
        raise LifecycleError(f"{self.name!r} is a supervisor: {kind.__name__} cannot replace it.")
