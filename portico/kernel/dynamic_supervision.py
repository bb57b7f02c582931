"""DynamicSupervision: one life of a supervisor whose children come at run time. It waits for no start and for no end.

A child begins in the turn of whoever asked for it, and its start and its end come as messages: so one child that starts slowly
holds up neither the others' starts nor their restarts. Everything else is as in `supervision.py`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from portico.errors import StartError, StartTimeout
from portico.kernel.child import Child, Starting, Then
from portico.kernel.events import EventKind
from portico.kernel.exits import Ended, ExitKind, Started
from portico.kernel.incarnation import Incarnation
from portico.kernel.lifecycle import ProcessStatus
from portico.kernel.supervision import Supervision

if TYPE_CHECKING:
    from portico.kernel.exits import Exit
    from portico.kernel.process import AgentProcess
    from portico.kernel.router import Router
    from portico.kernel.supervision import Ear
    from portico.kernel.supervisor import Supervisor


class DynamicSupervision(Supervision):
    """See above. It stands between its children and its inbox: a start is noted at once, an end waits for its turn."""

    def __init__(self, supervisor: Supervisor, router: Router, reports_to: Ear, parent: Supervision | None = None) -> None:
        super().__init__(supervisor, router, reports_to, parent)
        self._ear = self

    def put(self, event: Any) -> None:
        """Called by a child: `Started` or `Ended`."""
        if isinstance(event, Started):
            child = self._living(event.child)
            if child is not None and child.starting is not None:
                self._has_started(child)
        else:
            self._inbox.put(event)

    # --- starting -----------------------------------------------------------------------------------------------------

    async def add(self, process: AgentProcess, spawner: str = "") -> None:
        """Start one more child.

        Raises:
            StartError: it did not start, and is not kept.
            LifecycleError: the supervisor is stopping.
        """
        if self.stopping:
            raise self._is_stopping()
        child = self.children[process.name] = Child(process, spawner)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        error = self._launch(child, done)
        if error is not None:
            self._unborn(child, error)
        await asyncio.shield(done)

    def _launch(self, child: Child, done: asyncio.Future[None] | None = None) -> StartError | None:
        """Begin a life, and go on; `done` is resolved when it has started. Returns why it cannot even begin."""
        starting = child.starting = Starting(done)
        try:
            life = self._begin(child)
        except StartError as error:
            return error
        if life.start_timeout is not None:
            due = self._clock.now() + life.start_timeout
            starting.timer = self._clock.call_at(due, lambda: self._start_timed_out(child, starting))
        return None

    def _start_timed_out(self, child: Child, starting: Starting) -> None:
        if child.starting is starting and isinstance(child.life, Incarnation):
            child.life.cut_short()

    def _has_started(self, child: Child) -> None:
        self._end_starting(child)
        self.router.emit(EventKind.PROCESS_STARTED, child.name)
        if child.born:
            self._restarted(child)
        child.born = True

    async def _restart(self, child: Child) -> None:
        error = self._launch(child)
        if error is not None:
            await self._did_not_start(child, error)

    async def _child_ended(self, event: Ended) -> None:
        child = self._living(event.child)
        if child is None:
            return
        if child.starting is None:
            await super()._child_ended(event)
            return
        child.life = None
        if child.leaving is not None and child.leaving.then is Then.FORGET:
            self._end_starting(child, StartError(child.name, "it was stopped meanwhile"))
            await self._has_left(child, child.leaving, event.exit)
            return
        error = event.exit.error
        if event.exit.kind is not ExitKind.START_FAILED:
            await self._did_not_start(child, StartTimeout(child.name, getattr(child.present, "start_timeout", 0.0)))
        elif isinstance(error, StartError):
            await self._did_not_start(child, error)
        else:
            wrapped = StartError(child.name, event.exit.reason)
            wrapped.__cause__ = error
            await self._did_not_start(child, wrapped)

    async def _did_not_start(self, child: Child, error: StartError) -> None:
        """A first start that fails is told to whoever asked for the child; a later one counts, and is tried again."""
        self._mark(child, ProcessStatus.FAILED)
        if not child.born:
            self._unborn(child, error)
            return
        self._end_starting(child)
        await self._not_back(child, error)

    def _unborn(self, child: Child, error: StartError) -> None:
        """It is not kept."""
        self._close(child, "it did not start")
        del self.children[child.name]
        self.router.registry.deregister(child.name)
        self._end_starting(child, error)
        self._end_leaving(child, error)

    def _end_starting(self, child: Child, error: Exception | None = None) -> None:
        starting, child.starting = child.starting, None
        if starting is None:
            return
        if starting.timer is not None:
            starting.timer.cancel()
            starting.timer = None  # it holds the child, which would hold it
        if starting.done is not None and not starting.done.done():
            if error is None:
                starting.done.set_result(None)
            else:
                starting.done.set_exception(error)

    def _has_stopped(self, child: Child, exit_: Exit, status: ProcessStatus, reason: str, *, final: bool) -> None:
        self._end_starting(child, self._is_stopping())
        super()._has_stopped(child, exit_, status, reason, final=final)
