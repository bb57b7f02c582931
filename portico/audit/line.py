"""Line: entries that stand in line for one sink, and the task that hands them on, in order, chained, as often as it takes.

The line is bounded. What comes while it is full is counted, and an entry says so in its place as soon as there is room: that way a
chain has no gaps, even where there are some in what it tells. Above: `trail.py`. Below: one `AuditSink`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, runtime_checkable

from portico.audit.chain import MICROSECONDS, head_of, seal
from portico.kernel.clock import sleep
from portico.runs.audit_entry import AuditAction, AuditEntry, ChainHead
from portico.runs.audit_store import EntryExists

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from portico.audit.sink import AuditSink
    from portico.kernel.clock import Clock
    from portico.runs.audit_entry import Details, SealedEntry

Result = TypeVar("Result")

logger = logging.getLogger("portico.audit")

LONGEST: Final = 10_000
"""How many entries wait at most."""
BATCH: Final = 256
"""How many are handed on at once."""
PATIENCE: Final = 30.0
"""Seconds that a sink may take for that."""
PAUSES: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds until a sink that has failed is tried again; the last from then on."""
QUIET: Final = 60.0
"""Seconds in which one complaint about a sink is enough."""
MANY: Final = "too many at once"
"""Why entries are lost, where the sink has not failed."""
PRUNING: Final = 3600.0
"""Seconds between two looks at what is too old."""


@runtime_checkable
class Pruning(Protocol):
    """A sink that removes what is too old, or too much."""

    @property
    def full(self) -> bool:
        """Whether it is not to wait with that."""
        ...

    async def expired(self, now_us: int) -> Details | None:
        """See `JournalSink.expired`."""
        ...


class Line:
    """See the module. `failed`: called each time that the sink has failed, or an entry is lost."""

    def __init__(
        self, sink: AuditSink, clock: Clock, failed: Callable[[], object] = lambda: None, *, longest: int = LONGEST
    ) -> None:
        self.sink = sink
        self.lost = 0
        """How many entries it has lost, in all."""
        self.idle = asyncio.Event()
        """Set while nothing waits to be written."""
        self.idle.set()
        self._clock = clock
        self._failed = failed
        self._longest = longest
        self._waiting: deque[AuditEntry] = deque()
        self._in_hand: list[SealedEntry] = []
        self._news = asyncio.Event()
        self._closing = False
        self._missing = 0
        self._missing_since = 0
        self._reason = MANY
        self._quiet_until = -math.inf
        self._head: ChainHead | None = None
        self._pruned_at = -math.inf

    def put(self, entry: AuditEntry) -> None:
        """Stand in line, or be counted as lost."""
        if len(self._waiting) >= self._longest:
            self._lose(entry)
            return
        if self._missing:
            self._tell_missing()
        self._waiting.append(entry)
        self.idle.clear()
        self._news.set()

    def end(self) -> None:
        """Let `run` end when nothing waits any more."""
        self._closing = True
        self._news.set()

    def confess(self) -> None:
        """Say what the sink has not taken, where `run` was cancelled."""
        if self._missing:
            told = "the audit sink %s has not taken %d entries before the end: they are lost"
            logger.warning(told, self.sink.name, self._missing)

    async def run(self) -> None:
        """Hand on what comes, until `end`. Cancel it where the sink takes too long for that."""
        try:
            while await self._next():
                self._in_hand = self._sealed()
                await self._insisting(self._write)
                self._head = head_of(self._in_hand[-1])
                self._in_hand = []
        finally:
            self._give_up()
            self._closing, self._head = False, None  # an application may live more than once, and on another loop
            self._news, self.idle = asyncio.Event(), asyncio.Event()
            self.idle.set()
            await self._close()

    async def _next(self) -> bool:
        """Wait until something waits to be written. Returns False at the end."""
        while True:
            if self._head is None:
                self._head = await self._insisting(self.sink.open)
            await self._prune()
            if not self._waiting and self._missing:
                self._tell_missing()
            if not self._waiting:
                self.idle.set()
            if self._waiting or self._closing:
                return bool(self._waiting)
            self._news.clear()
            try:
                async with asyncio.timeout(PRUNING):
                    await self._news.wait()
            except TimeoutError:
                pass

    def _sealed(self) -> list[SealedEntry]:
        """The next that wait, chained. They are taken from the line: until they are written, nothing else is tried."""
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        return _chained(batch, self._head or ChainHead())

    async def _write(self) -> None:
        while True:
            try:
                await self.sink.write(self._in_hand)
            except EntryExists:  # another gateway of this runtime goes on with the same chain: these go behind its last
                self._in_hand = _chained((sealed.entry for sealed in self._in_hand), await self.sink.open())
            else:
                return

    async def _insisting(self, do: Callable[[], Awaitable[Result]]) -> Result:
        """Do something with the sink until it succeeds."""
        attempt = 0
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await do()
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the border: whatever a sink raises harms nobody
                self._complain(_failure(error))
            await sleep(self._clock, PAUSES[min(attempt, len(PAUSES) - 1)])
            attempt += 1

    async def _prune(self) -> None:
        """Put in line what says that others are removed, where they are too old or too many."""
        now = self._clock.now()
        if isinstance(self.sink, Pruning) and (self.sink.full or now >= self._pruned_at + PRUNING):
            self._pruned_at = now
            now_us = int(self._clock.time() * MICROSECONDS)
            try:
                async with asyncio.timeout(PATIENCE):
                    expired = await self.sink.expired(now_us)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # as above
                self._complain(_failure(error))
                return
            if expired is not None:
                self._pruned_at = -math.inf  # there may be more: it is looked for when this is written, and so this comes first
                self._waiting.appendleft(AuditEntry(at_us=now_us, action=AuditAction.PRUNED, details=expired))

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(1.0):
                await self.sink.close()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # as above
            self._complain(_failure(error))

    # --- what is lost -------------------------------------------------------------------------------------------------

    def _lose(self, entry: AuditEntry) -> None:
        if not self._missing:
            self._missing_since = entry.at_us
        self._missing += 1
        self.lost += 1
        self._complain(None)

    def _give_up(self) -> None:
        """What was not written by the end is lost: the next life, if there is one, begins with how much that was."""
        left = [*(sealed.entry for sealed in self._in_hand), *self._waiting]
        if left and not self._missing:
            self._missing_since = left[0].at_us
        self._missing += len(left)
        self.lost += len(left)
        self._in_hand = []
        self._waiting.clear()

    def _tell_missing(self) -> None:
        """Put in line what says how many are missing here."""
        now_us = int(self._clock.time() * MICROSECONDS)
        details: Details = {"count": self._missing, "since_us": self._missing_since, "reason": self._reason}
        self._waiting.append(AuditEntry(at_us=now_us, action=AuditAction.LOST, details=details))
        self._missing, self._reason = 0, MANY

    def _complain(self, error: BaseException | None) -> None:
        """Say once a minute what is wrong."""
        self._failed()
        if error is not None:
            self._reason = type(error).__name__
        now = self._clock.now()
        if now < self._quiet_until:
            return
        self._quiet_until = now + QUIET
        why = f"{type(error).__name__}: {error}" if error is not None else f"{len(self._waiting)} entries wait already"
        logger.warning("the audit sink %s takes nothing (%s); %d entries are lost so far", self.sink.name, why, self.lost)


def _failure(error: BaseException) -> BaseException:
    """What a sink has raised: something in it may have been cancelled. Raises `CancelledError` where it is the line that was."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
    return error


def _chained(entries: Iterable[AuditEntry], head: ChainHead) -> list[SealedEntry]:
    """Entries, in their places behind a head."""
    chain: list[SealedEntry] = []
    for entry in entries:
        chain.append(seal(entry, head))
        head = head_of(chain[-1])
    return chain
