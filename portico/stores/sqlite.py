"""SqliteStore: runs, states and records in one SQLite file, without a server and without a library that Python has not.

It implements the ports `RunStore` and `StateStore`. Above: the runs room. Below: the writer, which commits what waits in groups,
and the readers. One program at a time writes to a directory; others may read it meanwhile.
"""

from __future__ import annotations

import asyncio
import sqlite3
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from portico.errors import StoreError, StoreUnavailable
from portico.kernel.clock import SystemClock
from portico.runs.audit_store import EntryExists
from portico.runs.store import Pruned, Retention, RunQuery, StoreSummary
from portico.stores import audit_table, inspection, rows
from portico.stores.coding import decode, encode, text
from portico.stores.faults import sentence
from portico.stores.giving_way import GivingWay
from portico.stores.lock import DirectoryLock
from portico.stores.readers import CLOSED, Readers
from portico.stores.retention import Pruner
from portico.stores.schema import FILE, open_reading, open_writing
from portico.stores.transaction import Transaction
from portico.stores.writer import Work, Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from portico.kernel.clock import Clock
    from portico.kernel.protocols import Lineage
    from portico.runs.audit_entry import ChainHead, SealedEntry
    from portico.runs.audit_store import AuditQuery
    from portico.runs.callback import Callback
    from portico.runs.event import Event
    from portico.runs.record import RunRecord
    from portico.runs.store import Change
    from portico.runs.usage import UsageGroup, UsageQuery, UsageRow
    from portico.stores.rows import Dumped

KEY_HOLDER: Final = "number = (SELECT number FROM keys WHERE scope = ? AND until > ?)"
EVENTS: Final = """SELECT seq, type, data, timestamp, source FROM events
WHERE number = (SELECT number FROM runs WHERE run_id = ?) AND seq > ? ORDER BY seq LIMIT ?"""
STEPS: Final = "SELECT key, value FROM steps WHERE number = (SELECT number FROM runs WHERE run_id = ?)"
PAGE: Final = 200
"""How many runs are read at a time, where all are."""
AUDIT_SIZE: Final = 500
"""About how many bytes one entry of the audit trail has."""
PUT: Final = "INSERT INTO records (key, record) VALUES (?, ?) ON CONFLICT DO UPDATE SET record = excluded.record"


class SqliteStore:
    """See `RunStore` and `StateStore`. Open it before anything else, on the event loop that it is then used on."""

    def __init__(
        self,
        directory: Path | str,
        *,
        synchronous: Literal["full", "normal"] = "full",
        read_only: bool = False,
        clock: Clock | None = None,
    ) -> None:
        """`directory` is made where there is none.

        Args:
            directory: holds `portico.db`, what SQLite keeps beside it, and `lock`.
            synchronous: `full` survives a power cut; `normal` may lose the last second in one, and nothing in a crash.
            read_only: takes no lock and changes nothing: for a look at a store that another program uses, or has left.
            clock: tells when an idempotency key is kept no more; None for the machine's.

        Raises:
            ValueError: `synchronous` is neither.
        """
        if synchronous not in ("full", "normal"):
            raise ValueError(f"synchronous is 'full' or 'normal', not {synchronous!r}.")
        self.directory = Path(directory)
        self._synchronous: Literal["full", "normal"] = synchronous
        self._read_only = read_only
        self._clock: Clock = clock or SystemClock()
        self._lock = DirectoryLock(self.directory)
        self._writer: Writer | None = None
        self._readers: Readers | None = None

    @property
    def durable(self) -> bool:
        """See `RunStore.durable`."""
        return True

    @property
    def where(self) -> str:
        """See `RunStore.where`."""
        return str(self.directory)

    @property
    def failure(self) -> str | None:
        """See `RunStore.failure`."""
        return self._writer.failure if self._writer is not None else None

    def journal_figures(self) -> dict[str, Any]:
        """What `/metrics` shows of the writer: `waiting`, `oldest` (seconds), the histograms `waits` and `commits`."""
        writer = self._writer
        if writer is None:
            return {}
        return {"waiting": writer.waiting, "oldest": writer.oldest, "waits": writer.waits, "commits": writer.commits}

    # --- opening and closing ------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """See `RunStore.open`."""
        try:
            await self._open()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(str(self.directory), sentence(error)) from error

    async def _open(self) -> None:
        giving_way = GivingWay()
        if self._read_only:
            if not (self.directory / FILE).exists():
                raise StoreError(str(self.directory), f"there is no {FILE} in it.")
        else:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.acquire()
        try:
            if not self._read_only:
                writer = Writer(partial(open_writing, self.directory, self._synchronous), giving_way)
                await writer.start()
                self._writer = writer
            readers = Readers(partial(open_reading, self.directory), giving_way)
            await readers.start()
            self._readers = readers
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """See `RunStore.close`."""
        readers, self._readers = self._readers, None
        if readers is not None:
            await readers.stop()
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.stop()
        self._lock.release()

    # --- what happens -------------------------------------------------------------------------------------------------

    def submit(
        self, changes: Sequence[Change], ended: Callable[[Exception | None], object], lineage: Lineage | None = None
    ) -> None:
        """See `RunStore.submit`."""
        transaction = Transaction(changes)
        self._submit(Work(transaction, lambda error, _: ended(error), lineage, transaction.size, quick=True))

    def _submit(self, work: Work) -> None:
        if self._writer is None:
            raise StoreUnavailable("the store was opened for reading only." if self._read_only else CLOSED)
        self._writer.submit(work)

    async def _write(self, do: Callable[..., Any], *values: Any, size: int = 0, writes: bool = True, quick: bool = False) -> Any:
        """Call `do(connection, *values)` in the writer's next transaction. Returns what it returned."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._submit(Work(lambda database: do(database, *values), partial(_settle, done), size=size, writes=writes, quick=quick))
        return await done

    async def _read(self, do: Callable[..., Any], *values: Any) -> Any:
        """Call `do(connection, *values)` on a reader's thread. Returns what it returned."""
        if self._readers is None:
            raise StoreUnavailable(CLOSED)
        return await self._readers.read(do, *values)

    # --- what is read -------------------------------------------------------------------------------------------------

    async def run(self, run_id: str) -> RunRecord | None:
        """See `RunStore.run`."""
        return await self._read(rows.select_one, "run_id = ?", run_id)

    async def run_of_key(self, scope: bytes) -> RunRecord | None:
        """See `RunStore.run_of_key`."""
        return await self._read(rows.select_one, KEY_HOLDER, scope, self._clock.time())

    async def runs(self, query: RunQuery) -> list[RunRecord]:
        """See `RunStore.runs`."""
        return await self._read(rows.select_page, query)

    async def unfinished(self) -> list[RunRecord]:
        """See `RunStore.unfinished`."""
        return await self._read(rows.select_unfinished)

    async def callbacks(self) -> list[tuple[str, Callback]]:
        """See `RunStore.callbacks`."""
        return await self._read(rows.select_callbacks)

    async def events(self, run_id: str, after: int = 0, limit: int = 500) -> list[Event]:
        """See `RunStore.events`."""
        return await self._read(_events, run_id, after, limit)

    async def steps(self, run_id: str) -> dict[str, Any]:
        """See `RunStore.steps`."""
        return dict(await self._read(_pairs, STEPS, run_id))

    async def state(self, name: str) -> dict[str, Any] | None:
        """See `RunStore.state`."""
        if self._read_only:
            return await self._read(_state, name)
        return await self._write(_state, name, writes=False)

    async def suspensions(self) -> dict[str, str]:
        """See `RunStore.suspensions`."""
        return dict(await self._read(_rows, "SELECT name, reason FROM suspensions ORDER BY name"))

    async def usage(self, query: UsageQuery) -> list[UsageGroup]:
        """See `RunStore.usage`."""
        return await self._read(rows.select_usage, query)

    # --- what is kept -------------------------------------------------------------------------------------------------

    async def prune(self, retention: Retention, now: float) -> Pruned:
        """See `RunStore.prune`."""
        return await Pruner(self._read, self._write).prune(retention, now)

    async def summary(self) -> StoreSummary:
        """See `RunStore.summary`."""
        return await self._read(_summary, self.directory)

    async def verify(self) -> list[str]:
        """See `RunStore.verify`. Reads the whole file, which takes about a second for each GB."""
        return await self._read(inspection.verify)

    async def dump(self) -> AsyncIterator[Dumped]:
        """Every run in the order of acceptance, with its key. Runs that come meanwhile may or may not be among them."""
        last = 0
        while page := await self._read(rows.select_dump, last, PAGE):
            for dumped in page:
                yield dumped
            last = page[-1].record.number

    async def states(self) -> list[tuple[str, dict[str, Any]]]:
        """Every state, by the name of its process."""
        return await self._read(_pairs, "SELECT name, state FROM states ORDER BY name")

    # --- the audit trail ----------------------------------------------------------------------------------------------

    async def append_audit(self, entries: Sequence[SealedEntry], forget_through: int = 0) -> None:
        """See `AuditStore.append_audit`."""
        rows = audit_table.rows_of(entries)
        size, quick = AUDIT_SIZE * len(rows), not forget_through
        if not await self._write(audit_table.append, rows, forget_through, size=size, quick=quick):
            raise EntryExists(f"{rows[0][0]} to {rows[-1][0]}")

    async def audit_head(self) -> ChainHead:
        """See `AuditStore.audit_head`."""
        return await self._read(audit_table.head)

    @property
    def audit_full(self) -> bool:
        """See `AuditStore.audit_full`. Only the disk limits it."""
        return False

    async def audit(self, query: AuditQuery) -> list[SealedEntry]:
        """See `AuditStore.audit`."""
        return await self._read(audit_table.page, query)

    async def audit_older(self, than_us: int, limit: int) -> tuple[ChainHead, int] | None:
        """See `AuditStore.audit_older`."""
        return await self._read(audit_table.older, than_us, limit)

    async def all_usage(self) -> list[UsageRow]:
        """Every sum of usage: those of days, and those of runs."""
        return await self._read(rows.select_all_usage)

    # --- records ------------------------------------------------------------------------------------------------------

    async def get(self, key: str) -> Any | None:
        """See `StateStore.get`."""
        return await self._read(_record, key)

    async def put(self, key: str, value: Any) -> None:
        """See `StateStore.put`. Raises `ValueError` for what is not JSON-able, `StoreUnavailable`."""
        data = encode(value)
        await self._write(_execute, PUT, text(key), data, size=len(data or b""))

    async def delete(self, key: str) -> None:
        """See `StateStore.delete`. Raises `StoreUnavailable`."""
        await self._write(_execute, "DELETE FROM records WHERE key = ?", key)

    async def keys(self, prefix: str = "") -> list[str]:
        """See `StateStore.keys`."""
        return await self._read(_keys, prefix)


def _settle(done: asyncio.Future[Any], error: Exception | None, result: Any) -> None:
    if done.done():  # who waited was cancelled
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)


# --- on a thread ------------------------------------------------------------------------------------------------------


def _execute(database: sqlite3.Connection, sql: str, *values: Any) -> None:
    database.execute(sql, values)


def _rows(database: sqlite3.Connection, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    return database.execute(sql, values).fetchall()


def _pairs(database: sqlite3.Connection, sql: str, *values: Any) -> list[tuple[str, Any]]:
    return [(key, decode(value)) for key, value in database.execute(sql, values).fetchall()]


def _events(database: sqlite3.Connection, run_id: str, after: int, limit: int) -> list[Event]:
    return [rows.event(row) for row in database.execute(EVENTS, (run_id, after, limit)).fetchall()]


def _state(database: sqlite3.Connection, name: str) -> dict[str, Any] | None:
    row = database.execute("SELECT state FROM states WHERE name = ?", (name,)).fetchone()
    return None if row is None else decode(row[0])


def _record(database: sqlite3.Connection, key: str) -> Any | None:
    row = database.execute("SELECT record FROM records WHERE key = ?", (key,)).fetchone()
    return None if row is None else decode(row[0])


def _keys(database: sqlite3.Connection, prefix: str) -> list[str]:
    found = (row[0] for row in database.execute("SELECT key FROM records WHERE key >= ? ORDER BY key", (prefix,)))
    return list(takewhile(lambda key: key.startswith(prefix), found))


def _summary(database: sqlite3.Connection, directory: Path) -> StoreSummary:
    def count(table: str) -> int:
        return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608  # our own words

    files = [directory / FILE, directory / f"{FILE}-wal"]
    return StoreSummary(
        kind="sqlite",
        where=str(directory),
        runs=dict(database.execute("SELECT status, count(*) FROM runs GROUP BY status").fetchall()),
        dead_letters=count("runs WHERE dead IS NOT NULL"),
        events=count("events"),
        states=count("states"),
        size=sum(file.stat().st_size for file in files if file.exists()),
    )
