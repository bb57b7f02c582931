"""AuditTrail: takes what was done and lets it stand in line for each sink. Whoever tells it never waits.

It implements the port `Auditor`. Above: the app, which makes it and runs it for as long as the gateway does. Below: a `Line` for
each sink: where one fails or hangs, the others do not notice.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from portico.audit.chain import MICROSECONDS
from portico.audit.journal import JournalSink
from portico.audit.line import Line
from portico.audit.refusals import Refusals
from portico.audit.settings import AuditLevel, AuditSettings
from portico.audit.watches import CallWatch, HandlingWatch
from portico.kernel.clock import SystemClock
from portico.runs.audit_entry import OK, AuditAction, AuditEntry, outcome_of
from portico.runs.auditor import GATEWAY, Doer
from portico.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from contextlib import AbstractContextManager

    from portico.audit.refusals import Payer
    from portico.kernel.clock import Clock
    from portico.kernel.events import KernelEvent
    from portico.kernel.messages import Message
    from portico.runs.audit_entry import Details
    from portico.runs.audit_store import AuditStore
    from portico.runs.call import Call
    from portico.runs.run import Run

logger = logging.getLogger("portico.audit")

LONGEST_TEXT: Final = 256
"""Characters of any text in an entry."""
LONGEST_REASON: Final = 512
"""Characters of a text among the details."""
SETTLING: Final = 1.0
"""Seconds that a reader waits for the journal."""
GRACE: Final = 3.0
"""Seconds that the sinks get at the end to take what waits."""


class AuditTrail:
    """See the module. It is an observer of the kernel's too, for the level `messages`.

    Args:
        settings: what is recorded, and where it goes.
        store: where the journal is kept.
        clock: what time it is; None for the machine's.
        failed: called each time that a sink has failed, or an entry is lost.
    """

    def __init__(
        self,
        settings: AuditSettings,
        store: AuditStore,
        clock: Clock | None = None,
        failed: Callable[[], object] = lambda: None,
    ) -> None:
        self.on = settings.level >= AuditLevel.ACTIONS
        """See `Auditor.on`."""
        self.calls = settings.level >= AuditLevel.CALLS
        """See `Auditor.calls`. On the way of every call."""
        self.messages = settings.level >= AuditLevel.MESSAGES
        """Whether what agents handle for each other is recorded."""
        self.on_entry: list[Callable[[AuditEntry], object]] = []
        """Who is told of each entry, at once and on the event loop, before it has its place in any chain."""
        self._clock: Clock = clock or SystemClock()
        sinks = [JournalSink(store, settings.keep)] if settings.journal else []
        self.lines = [Line(sink, self._clock, failed) for sink in (*sinks, *settings.sinks)] if self.on else []
        """One for each sink."""
        self._refusals = Refusals(self._clock, self._tell_more)

    # --- the port -----------------------------------------------------------------------------------------------------

    def record(
        self,
        action: str,
        outcome: str = OK,
        *,
        doer: Doer = GATEWAY,
        agent: str | None = None,
        operation: str | None = None,
        run_id: str | None = None,
        duration_us: int | None = None,
        details: Details | None = None,
        refused: bool = False,
    ) -> None:
        """See `Auditor.record`."""
        if not self.on or (refused and not self._refusals.take(doer)):
            return
        entry = AuditEntry(
            at_us=int(self._clock.time() * MICROSECONDS),
            action=_clean(action, LONGEST_TEXT),
            outcome=_clean(outcome, LONGEST_TEXT),
            principal=_text(doer.principal),
            address=_text(doer.address),
            face=_text(doer.face),
            agent=_text(agent),
            operation=_text(operation),
            run_id=_text(run_id),
            request_id=_text(doer.request_id),
            trace_id=_text(doer.trace_id),
            duration_us=duration_us,
            details=_cleaned(details) if details else None,
        )
        for line in self.lines:
            line.put(entry)
        for told in self.on_entry:
            try:
                told(entry)
            except Exception:
                logger.exception("who is told of audit entries failed: %r", told)

    async def settled(self) -> None:
        """See `Auditor.settled`."""
        for line in self.lines:
            if isinstance(line.sink, JournalSink):
                with suppress(TimeoutError):
                    async with asyncio.timeout(SETTLING):
                        await line.idle.wait()

    def call(self, call: Call, *, begun: bool) -> AbstractContextManager[None]:
        """See `Auditor.call`."""
        return CallWatch(self, call, begun=begun)

    def run_ended(self, run: Run) -> None:
        """A stored run has ended; what it began as has an entry of its own."""
        record = run.record
        if record is None or record.parent is not None or run.finished is None or not self.calls:
            return
        outcome = OK if run.error is None else outcome_of(run.error)
        took = int(max(0.0, run.finished - max(record.created, record.due or 0.0)) * MICROSECONDS)
        about: dict[str, Any] = {"agent": run.agent, "operation": run.operation, "run_id": run.run_id}
        details = {"principal": record.principal} if record.principal is not None else None
        self.record(AuditAction.ENDED, outcome, duration_us=took, details=details, **about)

    def _tell_more(self, payer: Payer, count: int) -> None:
        """Say how many requests were refused, and have no entry of their own."""
        doer = Doer(principal=payer.principal, address=payer.address)
        self.record(AuditAction.REFUSED_MORE, "refused", doer=doer, details={"count": count})

    # --- the kernel's port Observer -----------------------------------------------------------------------------------

    def event(self, event: KernelEvent) -> None:
        """See `Observer.event`: what the tree does of itself is no action of anybody's."""

    def handling(self, message: Message) -> AbstractContextManager[str | None] | None:
        """See `Observer.handling`: of what agents ask or send each other."""
        return HandlingWatch(self, message) if message.sender else None

    # --- its life -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Hand on what is recorded, from the start of the gateway to its end."""
        if not self.lines:
            yield
            return
        self.record(AuditAction.GATEWAY_STARTED, details={"version": __version__})
        failure: Exception | None = None
        async with asyncio.TaskGroup() as group:
            tasks = {group.create_task(line.run(), name=f"audit {line.sink.name}") for line in self.lines}
            try:
                yield
            except Exception as error:  # noqa: BLE001  # raised below, as it is: the group would make one of several of it
                failure = error
            finally:
                self._refusals.end()
                self.record(AuditAction.GATEWAY_STOPPED)
                for line in self.lines:
                    line.end()
                _, late = await asyncio.wait(tasks, timeout=GRACE)
                for task in late:
                    task.cancel()
        for line in self.lines:
            line.confess()
        if failure is not None:
            raise failure


def _text(value: str | None) -> str | None:
    return None if value is None else _clean(value, LONGEST_TEXT)


def _clean(value: str, longest: int) -> str:
    """A text that can be written as UTF-8, and is not long."""
    if len(value) > longest:
        value = f"{value[: longest - 1]}…"
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _cleaned(details: Mapping[str, Any]) -> Details:
    """Details with short texts, and nothing but what an entry may have."""
    cleaned: dict[str, str | int | bool | None] = {}
    for name, value in details.items():
        plain = value if value is None or isinstance(value, bool | int) else _clean(str(value), LONGEST_REASON)
        cleaned[_clean(name, LONGEST_TEXT)] = plain
    return cleaned
