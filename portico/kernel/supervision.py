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
from typing import TYPE_CHECKING, Any

from portico.errors import LifecycleError, ProcessExited, StartError
from portico.kernel.events import EventKind, SupervisorReport
from portico.kernel.exits import Ended, Exit, ExitKind, Started, described
from portico.kernel.inbox import Inbox
from portico.kernel.incarnation import DeafError, Incarnation
from portico.kernel.mailbox import Delivery, Mailbox
from portico.kernel.process import AgentProcess, ProcessStatus, Restart
from portico.kernel.supervisor import Strategy, Supervisor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from portico.kernel.router import Router

logger = logging.getLogger("portico.kernel")


@dataclass(frozen=True, slots=True)
class Stop:
    """The parent wants it to end. `final`: for good, so that what waits for its children is answered now."""

    final: bool


@dataclass(frozen=True, slots=True)
class Request:
    """Something that must not overlap with a restart; `done` gets its result."""

    action: Callable[[], Awaitable[Any]]
    done: asyncio.Future[Any]


class _StopError(Exception):
    """Leaves what is going on because a `Stop` came."""


class IntensityExceededError(Exception):
    """More restarts within the window than the supervisor allows."""


class Child:
    """One place below a supervisor: what stands there, which life it is in, when the next one is due."""

    __slots__ = ("crashes", "due", "last", "life", "number", "present", "restart")

    def __init__(self, number: int, present: AgentProcess | Supervisor) -> None:
        self.number = number
        self.present = present
        self.restart = present.restart
        self.life: Incarnation | Supervision | None = None
        self.last: Incarnation | Supervision | None = None
        self.crashes = 0
        self.due: float | None = None

    @property
    def name(self) -> str:
        """The name of what stands there."""
        return self.present.name


class Supervision:
    """One life of a supervisor: a task in the runtime's group."""

    start_timeout: float | None = None
    """Its children have their own; it has none."""
    shutdown_timeout: float | None = None
    """It ends when its children have; the runtime's `stop_timeout` is above all."""

    def __init__(self, supervisor: Supervisor, router: Router, reports_to: Inbox) -> None:
        self.supervisor = supervisor
        self.children = [Child(number, template) for number, template in enumerate(supervisor.children)]
        self._router = router
        self._clock = router.clock
        self._inbox = Inbox(router.clock)
        self._reports_to = reports_to
        self._counted: deque[float] = deque()
        self._stop: Stop | None = None
        self._ended = False
        supervisor.supervision = self

    # --- control ------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the supervisor."""
        return self.supervisor.name

    def spawn(self) -> None:
        """Begin this life."""
        self._router.start_task(self._run(), self.name)

    def request_stop(self, *, final: bool) -> None:
        """Stop the children in reverse order, then end."""
        self._inbox.put(Stop(final))

    def kill(self) -> None:
        """Cancel everything below at once; for when `stop_timeout` has passed."""
        for child in self.children:
            if child.life is not None:
                child.life.kill()

    def give_up(self) -> Delivery | None:
        """A supervisor has no message in hand."""
        return None

    async def request(self, action: Callable[[], Awaitable[Any]]) -> Any:
        """Run `action` between two events of this supervisor, so that it overlaps with no restart."""
        if self._ended:
            raise LifecycleError(f"Supervisor {self.name!r} is not running.")
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._inbox.put(Request(action, done))
        return await done

    def present(self) -> list[AgentProcess | Supervisor]:
        """What stands at each place now."""
        return [child.present for child in self.children]

    def close_mailboxes(self, reason: str) -> None:
        """Nothing below will come back: answer everything that waits."""
        for child in self.children:
            self._close(child, reason)

    # --- the life -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            exit_ = await self._live()
        except Exception as error:
            logger.exception("supervisor %r failed", self.name)
            await self._stop_all()
            exit_ = Exit(ExitKind.CRASHED, error)
        self._ended = True
        while (left := await self._inbox.get(until=self._clock.now())) is not None:
            if isinstance(left, Request) and not left.done.done():
                left.done.set_exception(LifecycleError(f"Supervisor {self.name!r} is not running."))
        self._reports_to.put(Ended(self, exit_))

    async def _live(self) -> Exit:
        try:
            for child in self.children:
                await self._start(child)
            self._reports_to.put(Started(self))
            while True:
                event = await self._inbox.get(until=min((c.due for c in self.children if c.due is not None), default=None))
                if event is None:
                    await self._restart_due()
                elif isinstance(event, Stop):
                    self._stop = event
                    break
                elif isinstance(event, Ended):
                    await self._child_ended(event)
                elif isinstance(event, Request):
                    await self._serve(event)
        except _StopError:
            pass
        except StartError as error:
            await self._stop_all(ProcessStatus.FAILED)
            return Exit(ExitKind.START_FAILED, error)
        except IntensityExceededError as error:
            await self._stop_all(ProcessStatus.FAILED)
            return Exit(ExitKind.CRASHED, error)
        await self._stop_all()
        return Exit(ExitKind.SHUTDOWN)

    async def _serve(self, request: Request) -> None:
        try:
            result = await request.action()
        except (_StopError, IntensityExceededError):
            if not request.done.done():
                request.done.set_exception(LifecycleError(f"Supervisor {self.name!r} is stopping."))
            raise
        except Exception as error:  # noqa: BLE001  # whoever asked gets it
            if not request.done.done():
                request.done.set_exception(error)
        else:
            if not request.done.done():
                request.done.set_result(result)

    # --- starting -----------------------------------------------------------------------------------------------------

    async def _start(self, child: Child) -> None:
        """Build and start one child. Raises `StartError`; `_StopError` where a stop came in between."""
        stop = await self._inbox.get(lambda e: isinstance(e, Stop), until=self._clock.now())
        if stop is not None:
            self._stop = stop
            raise _StopError
        try:
            life = self._build(child)
        except Exception as error:
            raise StartError(child.name, described(error)) from error
        child.life = child.last = life
        child.due = None
        life.spawn()
        until = None if life.start_timeout is None else self._clock.now() + life.start_timeout
        event = await self._inbox.get(lambda e: isinstance(e, Stop) or (isinstance(e, Started | Ended) and e.child is life), until)
        if isinstance(event, Started):
            self._router.emit(EventKind.PROCESS_STARTED, child.name)
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
        raise StartError(child.name, f"on_start took longer than start_timeout ({life.start_timeout:g} s)")

    def _build(self, child: Child) -> Incarnation | Supervision:
        if child.present.spent:
            child.present = child.present.fresh()
        child.present.spent = True
        if isinstance(child.present, Supervisor):
            return Supervision(child.present, self._router, self._inbox)
        process, registry = child.present, self._router.registry
        mailbox = registry.get(process.name)
        if mailbox is None:  # `or` would not do: an empty mailbox is false
            mailbox = Mailbox(process.name, process.mailbox_size)
        mailbox.reopen()
        registry.register(mailbox, process.capabilities, process.capability_metadata)
        return Incarnation(process, mailbox, self._router, self._inbox, 1 + self.supervisor.max_restarts)

    # --- ends ---------------------------------------------------------------------------------------------------------

    async def _child_ended(self, event: Ended) -> None:
        child = next((child for child in self.children if child.life is event.child), None)
        if child is None:
            return  # an end that was waited for elsewhere
        exit_, child.life = event.exit, None
        wanted = exit_.kind is ExitKind.NORMAL
        self._tell(child, exit_)
        if child.restart is Restart.TEMPORARY or (child.restart is Restart.TRANSIENT and wanted):
            self._settle(child, exit_, None)
            self._finish(child, ProcessStatus.STOPPED if wanted else ProcessStatus.FAILED, exit_.reason)
            return
        if isinstance(event.child, Incarnation) and event.child.handled:
            child.crashes = 0
        child.crashes += 1
        delay = self.supervisor.delay(child.crashes)
        self._mark(child, ProcessStatus.RESTARTING)
        counts = self._counts(exit_)
        self._settle(child, exit_, delay)
        if counts:
            self._count(exit_.reason)
        await self._take_down_group(child, delay)

    def _counts(self, exit_: Exit) -> bool:
        """Who pays: a crash that an outside origin caused counts to no window, the repeated crashes of one message once."""
        if not exit_.charged or exit_.delivery is None:
            return True
        message = exit_.delivery.message
        return message.origin is None and message.attempt == 0

    def _count(self, reason: str) -> None:
        now, window = self._clock.now(), self.supervisor.restart_window
        self._counted.append(now)
        while self._counted and self._counted[0] < now - window:
            self._counted.popleft()
        if len(self._counted) > self.supervisor.max_restarts:
            text = f"more than {self.supervisor.max_restarts} restarts within {window:g} s (last: {reason})"
            self._report("shutdown", text, self.name)
            raise IntensityExceededError(text)

    async def _take_down_group(self, child: Child, delay: float) -> None:
        """Stop those that the strategy restarts together with `child`, and note when all of them are due."""
        match self.supervisor.strategy:
            case Strategy.ONE_FOR_ONE:
                group: list[Child] = []
            case Strategy.ONE_FOR_ALL:
                group = [other for other in self.children if other is not child]
            case Strategy.REST_FOR_ONE:
                group = self.children[self.children.index(child) + 1 :]
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
        child.due = due
        for other in group:
            if other in self.children and other.restart is not Restart.TEMPORARY and (other.last is not None):
                other.due = due

    async def _restart_due(self) -> None:
        for child in list(self.children):
            if child.due is None or child.due > self._clock.now():
                continue
            try:
                await self._start(child)
            except StartError as error:
                await self._restart_failed(child, error)
            else:
                self._restarted(child)

    def _restarted(self, child: Child) -> None:
        if isinstance(child.life, Incarnation):
            child.life.mailbox.restarts += 1
        self._router.emit(EventKind.PROCESS_RESTARTED, child.name)

    async def _restart_failed(self, child: Child, error: StartError) -> None:
        """A start failure after the first start counts, and is tried again."""
        self._report("start_error", error.reason, child.name)
        child.crashes += 1
        self._mark(child, ProcessStatus.RESTARTING)
        self._count(error.reason)
        await self._take_down_group(child, self.supervisor.delay(child.crashes))

    def _settle(self, child: Child, exit_: Exit, delay: float | None) -> None:
        """Decide what becomes of the message that was in hand; `delay` is the wait for the next life, None without one."""
        delivery, life = exit_.delivery, child.last
        if delivery is None or not isinstance(life, Incarnation):
            return
        delivery.holder = None
        if delivery.finished:
            return
        message, now = delivery.message, self._clock.now()
        again = (
            delay is not None
            and not (delivery.one_way and exit_.charged)
            and life.may_repeat(message)
            and not (exit_.charged and message.attempt + 1 >= life.max_attempts)
            and not (message.deadline is not None and now + delay >= message.deadline)
        )
        if again:
            message.attempt += exit_.charged
            message.local = None  # the crashed handler may have changed it; the payload is validated anew
            life.mailbox.put_back(delivery)
            return
        error = life.crashed(exit_.error, message)
        self._router.dead_letter(delivery, str(error))
        delivery.fail(error)

    def _drop(self, child: Child, delivery: Delivery | None, reason: str) -> None:
        """What was in hand will not be handled again."""
        if delivery is not None and not delivery.finished:
            self._router.dead_letter(delivery, reason)
            delivery.fail(ProcessExited(child.name, reason))

    def _finish(self, child: Child, status: ProcessStatus, reason: str) -> None:
        """A child has ended for good."""
        child.due = None
        self._mark(child, status)
        self._close(child, reason)
        kind = EventKind.PROCESS_STOPPED if status is ProcessStatus.STOPPED else EventKind.PROCESS_FAILED
        self._router.emit(kind, child.name, reason=reason)
        if self.supervisor.dynamic:
            self.children.remove(child)
            self._router.registry.deregister(child.name)

    def _close(self, child: Child, reason: str) -> None:
        """Answer whatever waits below: also for those who were started in an earlier life of this supervisor only."""
        child.due = None
        below = child.present.walk() if isinstance(child.present, Supervisor) else [child.present]
        for node in below:
            mailbox = self._router.registry.get(node.name)
            for delivery in mailbox.close(reason) if mailbox is not None else ():
                self._router.dead_letter(delivery, reason)

    # --- stopping -----------------------------------------------------------------------------------------------------

    async def _stop_all(self, status: ProcessStatus = ProcessStatus.STOPPED) -> None:
        """Stop the children in reverse order.

        For good where the parent said so, or where no next life will know them; else their mailboxes wait for its decision.
        """
        final = self.supervisor.dynamic or (self._stop is not None and self._stop.final)
        for child in list(reversed(self.children)):
            child.due = None
            exit_ = await self._halt(child, final=final)
            ended = ProcessStatus.FAILED if isinstance(exit_.error, DeafError) else status
            if final:
                self._drop(child, exit_.delivery, "it was stopped")
                self._finish(child, ended, "it was stopped")
            else:
                self._settle(child, exit_, 0.0)
                self._mark(child, ended)

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
        delivery = life.give_up()
        error = DeafError(f"ignored its cancellation for {life.shutdown_timeout or 0:g} s")
        self._report("shutdown_error", str(error), child.name)
        self._mark(child, ProcessStatus.FAILED)
        return Exit(ExitKind.CRASHED, error, delivery)

    async def _ended_within(self, life: Incarnation | Supervision) -> Ended | None:
        until = None if life.shutdown_timeout is None else self._clock.now() + life.shutdown_timeout
        return await self._inbox.get(lambda e: isinstance(e, Ended) and e.child is life, until)

    # --- telling ------------------------------------------------------------------------------------------------------

    def _mark(self, child: Child, status: ProcessStatus) -> None:
        if isinstance(child.present, AgentProcess):
            child.present.status = status

    def _tell(self, child: Child, exit_: Exit) -> None:
        if exit_.kind is ExitKind.NORMAL:
            return
        self._router.emit(EventKind.PROCESS_CRASHED, child.name, error=exit_.error, reason=exit_.reason)
        self._report("child_terminated", exit_.reason, child.name, exit_.error)

    def _report(self, context: str, reason: str, offender: str, error: BaseException | None = None) -> None:
        report = SupervisorReport(self.name, context, reason, offender)
        logger.warning("%s", report, exc_info=error)
        self._router.emit(EventKind.SUPERVISOR_REPORT, offender, report=report)

    # --- children at run time (DynamicSupervisor) ---------------------------------------------------------------------

    async def add(self, process: AgentProcess) -> None:
        """Start one more child. Raises `StartError`; then it is not kept."""
        child = Child(len(self.children), process)
        self.children.append(child)
        try:
            await self._start(child)
        except StartError:
            self.children.remove(child)
            self._close(child, "it did not start")
            self._router.registry.deregister(process.name)
            raise

    async def remove(self, name: str, *, at_once: bool) -> None:
        """Stop a child for good and forget its name."""
        child = self.child(name)
        exit_ = await self._halt(child, final=True, at_once=at_once)
        self._drop(child, exit_.delivery, "it was stopped")
        self._finish(child, ProcessStatus.STOPPED, "it was stopped")

    def knows(self, name: str) -> bool:
        """Whether the name is taken in this runtime."""
        return self._router.registry.has(name)

    def child(self, name: str) -> Child:
        """The place of that name. Raises `LifecycleError`."""
        for child in self.children:
            if child.name == name:
                return child
        raise LifecycleError(f"Supervisor {self.name!r} has no child {name!r}.")

    async def restart_child(self, name: str) -> None:
        """Stop a child and start it again; counts to no window. Raises `StartError`; that counts, and is tried again."""
        child = self.child(name)
        exit_ = await self._halt(child)
        self._settle(child, exit_, 0.0)
        try:
            await self._start(child)
        except StartError as error:
            await self._restart_failed(child, error)
            raise
        self._restarted(child)
