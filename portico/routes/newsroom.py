"""Newsroom: writes the chronicle of one gateway while anybody watches it, once for all of them, and tells them in batches.

Above: the streams of `GET /events`. Below: the kernel's bus, the book of runs, the pulse. Where nobody has watched for `LINGER`
seconds it listens to nothing, and costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

from portico.errors import TooManyWatchers
from portico.kernel.messages import new_id
from portico.runs.chronicle import Chronicle
from portico.runs.kernel_event_view import kernel_event_view
from portico.runs.run_view import rfc3339

if TYPE_CHECKING:
    from portico.kernel.bus import Listener
    from portico.kernel.events import KernelEvent
    from portico.runs.audit_entry import AuditEntry
    from portico.runs.dispatcher import Dispatcher
    from portico.runs.run import Run
    from portico.telemetry.pulse import Pulse

logger = logging.getLogger("portico.http")

TOPICS: Final = ("process", "run", "figures", "audit")
"""What there is to watch."""
MOST: Final = 200
"""How many may watch at a time."""
BATCH: Final = 0.05
"""Seconds for which what happens is gathered, before those who watch are told."""
_OF_AN_ENTRY: Final = (
    *("action", "outcome", "principal", "address", "face", "agent", "operation", "run_id", "request_id", "trace_id", "duration_us"),
)
EVERY: Final = 1.0
"""Seconds between two beats of the pulse."""
LINGER: Final = 60.0
"""Seconds for which the chronicle is written on when nobody watches any more: who has lost its connection comes back."""


class Watcher(Protocol):
    """One who watches."""

    def ring(self) -> None:
        """There is something new."""
        ...


class Newsroom:
    """Of one gateway.

    Args:
        dispatcher: the one door.
        pulse: what the gateway did within each second.
    """

    def __init__(self, dispatcher: Dispatcher, pulse: Pulse) -> None:
        self._dispatcher = dispatcher
        self._router = dispatcher.runtime.router
        self._pulse = pulse
        self.chronicle = Chronicle(new_id()[:12])
        self.started = self._router.clock.time()
        """When this life of the gateway began: seconds since the epoch."""
        self._watchers: set[Watcher] = set()
        self._listener: Listener | None = None
        self._batch: asyncio.TimerHandle | None = None
        self._next_beat: asyncio.TimerHandle | None = None
        self._closing: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._watchers)

    @property
    def listens(self) -> bool:
        """Whether the chronicle is being written."""
        return self._listener is not None

    # --- who watches --------------------------------------------------------------------------------------------------

    def enter(self, watcher: Watcher) -> None:
        """Tell it from now on. Raises `TooManyWatchers`."""
        if len(self._watchers) >= MOST:
            raise TooManyWatchers(MOST)
        self._watchers.add(watcher)
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if self._listener is None:
            self.chronicle.break_off()
            self._listener = self._router.bus.listen("*", self._on_kernel_event)
            self._dispatcher.book.on_step.append(self._on_step)
        if self._next_beat is None:
            self._pulse.start()
            self._next_beat = asyncio.get_running_loop().call_later(EVERY, self._beat)

    def leave(self, watcher: Watcher) -> None:
        """Tell it no more. Harmless where it is not told."""
        self._watchers.discard(watcher)
        if not self._watchers and self._listener is not None and self._closing is None:
            self._closing = asyncio.get_running_loop().call_later(LINGER, self.close)

    def close(self) -> None:
        """Listen to nothing any more, until somebody comes."""
        for timer in (self._batch, self._next_beat, self._closing):
            if timer is not None:
                timer.cancel()
        self._batch = self._next_beat = self._closing = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._dispatcher.book.on_step.remove(self._on_step)

    # --- what happens -------------------------------------------------------------------------------------------------

    def tell(self, topic: str, name: str, data: dict[str, Any]) -> None:
        """Something has happened. Nothing where nobody watches."""
        if not self.listens:
            return
        self.chronicle.add(topic, name, data)
        if self._batch is None and self._watchers:
            self._batch = asyncio.get_running_loop().call_later(BATCH, self._ring)

    def _ring(self) -> None:
        self._batch = None
        for watcher in list(self._watchers):
            watcher.ring()

    def _on_kernel_event(self, subject: str, event: KernelEvent) -> None:
        try:
            self._pulse.touch(event.name)
            view = kernel_event_view(self._router, event)
            if view is not None:
                self.tell("process", subject, view)
        except Exception:  # a border: what is published must not fail because somebody watches
            logger.exception("%s could not be told", subject)

    def _on_step(self, name: str, run: Run) -> None:
        self._pulse.runs_changed()
        about = {"run_id": run.run_id, "agent": run.agent, "operation": run.operation, "status": run.status.value}
        at = rfc3339(run.finished if run.finished is not None else self._router.clock.time())
        self.tell("run", name, {"at": at, **about, "principal": run.principal})

    def on_audit_entry(self, entry: AuditEntry) -> None:
        """Something has been entered into the audit trail."""
        if not self.listens:
            return
        about = {name: getattr(entry, name) for name in _OF_AN_ENTRY}
        self.tell("audit", "audit.entry", {"at": rfc3339(entry.at_us / 1e6), **about, "details": dict(entry.details or {})})

    def _beat(self) -> None:
        self._next_beat = None
        if not self._watchers:
            return
        try:
            self.tell("figures", "figures", self._pulse.beat())
        except Exception:  # a border: the next beat may go well
            logger.exception("the figures of this second could not be told")
        self._next_beat = asyncio.get_running_loop().call_later(EVERY, self._beat)
