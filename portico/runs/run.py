"""Run: the record of a call. It outlives the connection; every face reads the same one.

Above: the dispatcher makes and finishes it, faces read and follow it. Below: events.
"""

from __future__ import annotations

import asyncio
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from portico.errors import Cancelled, DeadlineExceeded
from portico.kernel.messages import Message, new_id
from portico.runs.event import TERMINAL, Event, EventName

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from portico.kernel.delivery import Delivery
    from portico.operations.catalogue import Endpoint

MAX_EVENTS = 10_000
"""How many events a run keeps in memory; older ones are removed and leave a gap that a reader is told of."""


class RunStatus(StrEnum):
    """Where a run is."""

    QUEUED = "queued"
    """Accepted; its handling has not begun."""
    RUNNING = "running"
    """Delivered to its agent."""
    SUCCEEDED = "succeeded"
    """It has an output."""
    FAILED = "failed"
    """It has an error."""
    CANCELLED = "cancelled"
    """Somebody cancelled it, or its caller left."""
    TIMED_OUT = "timed_out"
    """Its deadline passed."""


_ENDS = {
    RunStatus.SUCCEEDED: EventName.SUCCEEDED,
    RunStatus.FAILED: EventName.FAILED,
    RunStatus.CANCELLED: EventName.CANCELLED,
    RunStatus.TIMED_OUT: EventName.TIMED_OUT,
}


class Run:
    """One call's record: status, output or error, and its events. The journal that a handler's `Context` writes to."""

    __slots__ = (
        "_events",
        "_waiters",
        "attempts",
        "created",
        "delivery",
        "endpoint",
        "error",
        "finished",
        "meta",
        "output",
        "principal",
        "run_id",
        "status",
    )

    def __init__(self, endpoint: Endpoint, principal: str | None) -> None:
        # Plain data and few objects: thousands of runs are kept, and the garbage collector looks at each object again and again.
        self.run_id = new_id()
        self.endpoint = endpoint
        self.principal = principal
        self.status = RunStatus.RUNNING
        self.created = time.time()
        self.finished: float | None = None
        self.output: Any = None
        self.meta: Mapping[str, Any] | None = None
        self.error: BaseException | None = None
        self.attempts = 0
        self.delivery: Delivery | None = None
        self._events: list[Event] | None = None
        self._waiters: list[asyncio.Future[None]] | None = None

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.finished is not None

    @property
    def cancelled(self) -> bool:
        """Whether somebody cancelled it."""
        return self.status is RunStatus.CANCELLED

    # --- writing ------------------------------------------------------------------------------------------------------

    def append(self, event_type: str, data: Any = None) -> None:
        """Append an event, and wake whoever follows. Events after the end are dropped."""
        if self.finished is not None:
            return
        events = self._events
        if events is None:
            events = self._events = [Event(1, EventName.STARTED, self._beginning(), self.created)]
        events.append(Event(events[-1].seq + 1, event_type, data, time.time()))
        if len(events) > MAX_EVENTS:
            del events[: MAX_EVENTS // 10]
        self._wake()

    def finish(self, reply: Message | None, error: BaseException | None) -> None:
        """It has ended. Later ends are ignored."""
        if self.finished is not None:
            return
        self.finished = time.time()
        self.error = error
        if reply is not None:
            self.output, self.meta = reply.payload, reply.meta
        if self.delivery is not None:
            self.attempts = self.delivery.message.attempt + 1
            self.delivery = None
        if error is None:
            self.status = RunStatus.SUCCEEDED
        elif isinstance(error, DeadlineExceeded):
            self.status = RunStatus.TIMED_OUT
        elif isinstance(error, Cancelled | asyncio.CancelledError):
            self.status = RunStatus.CANCELLED
        else:
            self.status = RunStatus.FAILED
        if self._events is not None:
            self._write_end()
        self._wake()

    def cancel(self, reason: str = "The run was cancelled.") -> None:
        """Cancel it: its handler, and what that waits for. Does nothing when it has ended."""
        delivery, error = self.delivery, Cancelled(reason)
        self.finish(None, error)
        if delivery is not None:
            delivery.cancel(error)

    # --- reading ------------------------------------------------------------------------------------------------------

    def backlog(self) -> list[Event]:
        """Its events so far, the oldest that are kept first. The first and the last are made when somebody looks."""
        if self._events is None:
            self._events = [Event(1, EventName.STARTED, self._beginning(), self.created)]
            if self.finished is not None:
                self._write_end()
        return self._events

    async def follow(self, after: int = 0) -> AsyncIterator[Event]:
        """Its events with `seq` above `after`: the backlog, then live, until the last. A gap in `seq` means removed events."""
        last = after
        while True:
            events = self.backlog()
            first = events[0].seq
            for event in events[max(0, last + 1 - first) :]:
                last = event.seq
                yield event
                if event.type in TERMINAL:
                    return
            if self.backlog()[-1].seq <= last:
                if self.backlog()[-1].type in TERMINAL:
                    return
                await self._changed()

    async def wait(self) -> None:
        """Until it has ended."""
        while self.finished is None:
            await self._changed()

    async def outcome(self) -> Message:
        """Wait for its end and return the reply. Raises what it ended with."""
        await self.wait()
        if self.error is not None:
            raise self.error
        return Message("reply", self.output, self.endpoint.agent, attempt=max(0, self.attempts - 1), meta=self.meta)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _beginning(self) -> dict[str, Any]:
        return {"agent": self.endpoint.agent, "operation": self.endpoint.operation.name}

    def _write_end(self) -> None:
        events = self.backlog() if self._events is None else self._events
        name = _ENDS[self.status]
        if self.error is None:
            data: Any = {"output": self.output}
        else:
            data = {"slug": getattr(self.error, "slug", "internal-error"), "detail": str(self.error)}
        events.append(Event(events[-1].seq + 1, name, data, self.finished or time.time()))

    async def _changed(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _wake(self) -> None:
        if self._waiters is not None:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()
