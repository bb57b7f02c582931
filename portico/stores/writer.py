"""Writer: what waits when the last commit is done becomes one transaction of the database, with one sync for all.

What is small is put into the transaction on the event loop: that touches only pages in memory and takes some microseconds, while a
thread would have to ask for the interpreter's lock with every statement. The commit, which waits for the disk, and whatever is
large, slow or goes wrong, is done by a thread. The loop and the thread have the connection in turn, never both.

Below: a connection. Above: `SqliteStore`. It does not know what it writes: work is a function of the connection.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from dataclasses import dataclass
from queue import SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from portico.errors import StoreUnavailable
from portico.histogram import Histogram
from portico.runs.store import RunExists
from portico.stores.faults import sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from portico.kernel.protocols import Lineage
    from portico.stores.giving_way import GivingWay

logger = logging.getLogger("portico.stores")

BATCH: Final = 500
"""How many works one transaction of the database may hold."""
FEW: Final = 48
"""How many works are put into their transaction on the event loop, which takes some 20 µs each; more are left to the thread."""
SMALL: Final = 64 * 1024
"""How many bytes these may hold."""
MOST: Final = 50_000
"""How many works may wait."""
PATIENCE: Final = 10_000
"""Milliseconds for which the thread waits for another program that writes to the database."""
MOST_BYTES: Final = 256 * 2**20
"""How many bytes may wait."""
BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: the buckets in which waits and commits are counted."""


@dataclass(slots=True, eq=False)
class Work:
    """Something to do on the writer's connection, all or nothing."""

    do: Callable[[sqlite3.Connection], Any]
    """Called on the event loop or the writer's thread, and again where a transaction had to be rolled back."""
    ended: Callable[[Exception | None, Any], object]
    """Called once, on the event loop: what was in the way, or None and what `do` returned."""
    lineage: Lineage | None = None
    """Where an earlier one of it was not stored, this one is not either."""
    size: int = 0
    """About how many bytes it holds."""
    writes: bool = True
    """Whether its success says that the disk is well."""
    quick: bool = False
    """Whether it only touches a few rows."""
    since: float = 0.0
    """When it was submitted, on the clock that only goes on."""


Outcome: TypeAlias = tuple[Work, "Exception | None", Any]
"""A work, what was in the way, and what it returned."""
Job: TypeAlias = "tuple[list[Work], list[Outcome] | None]"
"""A batch, and what came of it where it stands in the open transaction already."""


class Writer:
    """A thread, its queue and its connection."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], giving_way: GivingWay) -> None:
        """`connect` is called on the thread, first of all."""
        self.failure: str | None = None
        """See `RunStore.failure`."""
        self._connect = connect
        self._giving_way = giving_way
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Work] = deque()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._database: sqlite3.Connection | None = None
        self._busy = False
        """Whether the thread has the connection, or the loop is about to take it."""
        self._stopping = False
        self._waiting = 0
        self._bytes = 0
        self._in_hand: Work | None = None
        """The first of those that are in the thread's hands."""
        self.waits = Histogram(BOUNDS)
        """Seconds from the submission of each work until it was stored, or refused."""
        self.commits = Histogram(BOUNDS)
        """Seconds that each transaction of the database took in the thread: mostly the disk's sync."""
        self._thread = threading.Thread(target=self._run, name="portico-store-writer", daemon=True)
        self._open: asyncio.Future[None] = self._loop.create_future()
        self._over = asyncio.Event()

    # --- on the event loop --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the thread. Raises what `connect` raises."""
        self._thread.start()
        self._giving_way.wait()
        try:
            await self._open
        except BaseException:
            await self._join()
            raise
        finally:
            self._giving_way.done()

    async def stop(self) -> None:
        """Do what waits, and end the thread."""
        self._stopping = True
        if not self._busy:
            self._jobs.put(None)
        await self._join()

    async def _join(self) -> None:
        """Wait for the thread; it has nothing left to do when it says so, hence the join does not block."""
        self._giving_way.wait()
        await self._over.wait()
        self._giving_way.done()
        self._thread.join()

    def submit(self, work: Work) -> None:
        """Let it be done after everything before it. Raises `StoreUnavailable` where too much waits already."""
        if self._waiting >= MOST or self._bytes > MOST_BYTES:
            raise StoreUnavailable(f"{self._waiting} transactions wait for the disk already.")
        self._waiting += 1
        self._bytes += work.size
        work.since = perf_counter()
        self._giving_way.wait()
        self._queue.append(work)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._pump)  # together with what comes in this round of the loop

    @property
    def waiting(self) -> int:
        """How many works are not stored yet."""
        return self._waiting

    @property
    def oldest(self) -> float:
        """Seconds for which the oldest of them has waited; 0.0 where there is none."""
        first = self._in_hand or (self._queue[0] if self._queue else None)
        return 0.0 if first is None else perf_counter() - first.since

    def _pump(self) -> None:
        """Begin the next transaction with what waits, and let the thread commit it."""
        queue = self._queue
        if not queue:
            self._busy = False
            if self._stopping:
                self._jobs.put(None)
            return
        few = len(queue) <= FEW
        batch = [queue.popleft() for _ in range(min(BATCH, len(queue)))]
        self._in_hand = batch[0]
        small = few and sum(work.size for work in batch) <= SMALL and all(work.quick for work in batch)
        outcomes = self._attempt_here(batch) if small else None
        self._jobs.put((batch, outcomes))

    def _attempt_here(self, batch: list[Work]) -> list[Outcome] | None:
        """Put all of it into a transaction. None where something is in the way: then the thread begins anew."""
        database = self._database
        if database is None:
            return None
        try:
            return self._apply(database, batch)
        except Exception as error:  # noqa: BLE001  # whatever it is, the thread meets it again, and tells
            logger.debug("a transaction goes to the thread: %s", error)
            _roll_back(database)
            return None

    def _report(self, outcomes: Sequence[Outcome]) -> None:
        self._giving_way.done(len(outcomes))
        self._waiting -= len(outcomes)
        self._in_hand, now = None, perf_counter()
        for work, error, result in outcomes:
            self._bytes -= work.size
            self.waits.add(now - work.since)
            try:
                work.ended(error, result)
            except Exception:
                logger.exception("who waited for a transaction failed on its outcome")
        self._pump()

    # --- on the thread ------------------------------------------------------------------------------------------------

    def _tell(self, callback: Callable[..., object], *values: Any) -> None:
        """Call it on the event loop, unless that is gone."""
        try:
            self._loop.call_soon_threadsafe(callback, *values)
        except RuntimeError:
            logger.warning("the event loop was closed before the store: nobody hears what became of the last transactions")

    def _run(self) -> None:
        try:
            database = self._connect()
        except Exception as error:  # noqa: BLE001  # whatever it is, `start` raises it
            self._tell(_fail, self._open, error)
        else:
            self._database = database
            self._tell(_succeed, self._open)
            self._work(database)
            _close(database)
        self._tell(self._over.set)

    def _work(self, database: sqlite3.Connection) -> None:
        while (job := self._jobs.get()) is not None:
            batch, outcomes = job
            began = perf_counter()
            outcomes = self._commit(database, batch, outcomes)
            self.commits.add(perf_counter() - began)
            self._tell(self._report, outcomes)

    def _commit(self, database: sqlite3.Connection, batch: list[Work], outcomes: list[Outcome] | None) -> list[Outcome]:
        """Commit what the loop has put into the transaction; where that is nothing, or fails, do it all here."""
        if outcomes is not None:
            try:
                database.execute("COMMIT")
            except Exception as error:  # noqa: BLE001  # the border: nothing may end this thread
                logger.debug("a commit failed, and is tried again: %s", error)
                _roll_back(database)
            else:
                return self._noted(outcomes)
        database.execute(f"PRAGMA busy_timeout = {PATIENCE}")
        try:
            return self._settle(database, batch)
        finally:
            database.execute("PRAGMA busy_timeout = 0")  # the loop waits for nobody

    def _settle(self, database: sqlite3.Connection, batch: list[Work]) -> list[Outcome]:
        """Do all of it at once. Where that fails, do each half by itself, so that what fails takes nothing else along."""
        if not batch:
            return []
        outcomes: list[Outcome]
        try:
            outcomes = self._attempt(database, batch)
        except Exception as error:  # noqa: BLE001  # the border: nothing may end this thread
            _roll_back(database)
            if len(batch) > 1:
                middle = len(batch) // 2
                return self._settle(database, batch[:middle]) + self._settle(database, batch[middle:])
            told = sentence(error)
            if not isinstance(error, OverflowError | ValueError):  # else it is what this one holds, and the disk is well
                self.failure = told
            return self._noted([(batch[0], StoreUnavailable(told), None)])
        return self._noted(outcomes)

    def _noted(self, outcomes: list[Outcome]) -> list[Outcome]:
        """What came of a transaction says how the disk is, and what builds on it."""
        if any(work.writes and error is None for work, error, _ in outcomes):
            self.failure = None
        for work, error, _ in outcomes:
            if error is not None and work.lineage is not None and work.lineage.broken is None:
                work.lineage.broken = error
        return outcomes

    def _attempt(self, database: sqlite3.Connection, batch: list[Work]) -> list[Outcome]:
        """Do all of it in one transaction. Raises where the database refuses; nothing was stored then."""
        with self._giving_way.at_work:
            outcomes = self._apply(database, batch)
        database.execute("COMMIT")
        return outcomes

    # --- on either ----------------------------------------------------------------------------------------------------

    def _apply(self, database: sqlite3.Connection, batch: list[Work]) -> list[Outcome]:
        """Put all of it into a new transaction."""
        outcomes: list[Outcome] = []
        broken: dict[int, Exception] = {}
        database.execute("BEGIN IMMEDIATE")
        for work in batch:
            lineage = work.lineage
            error = None if lineage is None else broken.get(id(lineage)) or lineage.broken
            result = None
            if error is None:
                try:
                    result = work.do(database)
                except (RunExists, StoreUnavailable) as refused:  # before anything was written
                    error = refused
                    if lineage is not None:
                        broken[id(lineage)] = error
            outcomes.append((work, error, result))
        return outcomes


def _roll_back(database: sqlite3.Connection) -> None:
    try:
        if database.in_transaction:
            database.execute("ROLLBACK")
    except sqlite3.Error:
        logger.exception("a transaction could not be rolled back")


def _close(database: sqlite3.Connection) -> None:
    """Move everything to the main file, as far as the disk allows it, and close."""
    try:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        logger.warning("the write-ahead log was left as it is, for the next start: %s", sentence(error))
    try:
        database.close()
    except sqlite3.Error as error:
        logger.warning("the database could not be closed: %s", sentence(error))


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
