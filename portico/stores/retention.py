"""Retention: removes what is kept no longer, a few hundred rows at a time, so that nobody's transaction waits for long."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, Final

from portico.runs.store import Pruned
from portico.runs.usage import day_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from portico.runs.store import Retention

SLICE: Final = 250
"""How many rows one transaction removes, or how many free pages it gives back."""

PENDING: Final = "EXISTS (SELECT 1 FROM callbacks WHERE callbacks.number = runs.number AND next_at IS NOT NULL)"
"""Whether somebody is still to be told of a run's end."""
OLDEST: Final = """SELECT number FROM (
SELECT * FROM (SELECT number, finished, dead FROM runs WHERE finished IS NOT NULL AND stripped = 1 AND finished < :before
    AND (finished < :kept_before OR (dead IS NULL AND NOT PENDING)) ORDER BY finished LIMIT :slice)
UNION ALL
SELECT * FROM (SELECT number, finished, dead FROM runs WHERE finished IS NOT NULL AND stripped = 0 AND finished < :before
    AND (finished < :kept_before OR (dead IS NULL AND NOT PENDING)) ORDER BY finished LIMIT :slice)
) ORDER BY finished LIMIT :slice""".replace("PENDING", PENDING)
WITH_PAYLOAD: Final = """SELECT number FROM runs WHERE finished IS NOT NULL AND stripped = 0 AND finished < ?
ORDER BY finished LIMIT ?"""
EXPIRED: Final = "SELECT scope FROM keys WHERE scope > ? AND until <= ? ORDER BY scope LIMIT ?"
NO_KEY: Final = "DELETE FROM keys WHERE scope = ? AND until <= ?"
KEY_OF: Final = "DELETE FROM keys WHERE number = ?1 AND scope = (SELECT scope FROM runs WHERE number = ?1)"
NO_EVENTS: Final = (
    """DELETE FROM events WHERE number = ?1 AND seq IN (SELECT seq FROM events WHERE number = ?1 ORDER BY seq LIMIT ?2)"""
)
NO_STEPS: Final = "DELETE FROM steps WHERE number = ?1 AND key IN (SELECT key FROM steps WHERE number = ?1 LIMIT ?2)"
NO_CALLBACK: Final = "DELETE FROM callbacks WHERE number = ?"
NO_BODIES: Final = "DELETE FROM bodies WHERE number = ?"
NO_USAGE: Final = "DELETE FROM run_usage WHERE run_id = (SELECT run_id FROM runs WHERE number = ?)"
OLD_USAGE: Final = """DELETE FROM usage WHERE (day, agent, principal, provider, model) IN
(SELECT day, agent, principal, provider, model FROM usage WHERE day < ? LIMIT ?)"""
OLD_RUN_USAGE: Final = """DELETE FROM run_usage WHERE (run_id, day, agent, principal, provider, model) IN
(SELECT run_id, day, agent, principal, provider, model FROM run_usage WHERE day < ?
AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.run_id = run_usage.run_id) LIMIT ?)"""
NO_RUN: Final = "DELETE FROM runs WHERE number = ?"
NO_PAYLOAD: Final = "UPDATE runs SET payload = NULL, output = NULL, stripped = 1 WHERE number = ?"


class Pruner:
    """One pass over a store."""

    def __init__(self, read: Callable[..., Awaitable[Any]], write: Callable[..., Awaitable[Any]]) -> None:
        """Both call a function with a connection and what else they are given: on a reader's thread, and in a transaction."""
        self._read = read
        self._write = write

    async def prune(self, retention: Retention, now: float) -> Pruned:
        """See `RunStore.prune`."""
        pruned = Pruned()
        used = await self._read(used_bytes)
        if retention.runs_for is not None:
            pruned.runs += await self._remove_older(now - retention.runs_for)
        if retention.payloads_for is not None:
            pruned.payloads += await self._strip_older(now - retention.payloads_for)
        if retention.max_bytes is not None:
            kept_before = NEVER if retention.runs_for is None else now - retention.runs_for
            pruned.runs += await self._remove_beyond(retention.max_bytes, kept_before)
        pruned.keys += await self._remove_keys(now)
        for sql, kept_for in ((OLD_RUN_USAGE, retention.runs_for), (OLD_USAGE, retention.usage_for)):
            if kept_for is not None:
                pruned.usage += await self._remove_usage(sql, day_of(now - kept_for))
        pruned.freed = max(0, used - await self._read(used_bytes))
        while await self._write(_vacuum):
            pass
        return pruned

    async def _remove_older(self, before: float) -> int:
        removed = 0
        while numbers := await self._read(_oldest, before, before, SLICE):
            await self._in_slices(remove, numbers)
            removed += len(numbers)
        return removed

    async def _strip_older(self, before: float) -> int:
        stripped = 0
        while numbers := await self._read(_with_payload, before):
            await self._in_slices(strip, numbers)
            stripped += len(numbers)
        return stripped

    async def _remove_beyond(self, limit: int, kept_before: float) -> int:
        removed = 0
        while (used := await self._read(used_bytes)) > limit:
            runs = await self._read(_count)
            share = ceil(runs * (used - limit) / used)
            numbers = await self._read(_oldest, FOR_EVER, kept_before, min(SLICE, max(1, share)))
            if not numbers:
                break
            await self._in_slices(remove, numbers)
            removed += len(numbers)
        return removed

    async def _remove_keys(self, now: float) -> int:
        removed, last = 0, b""
        while scopes := await self._read(_expired, last, now):
            removed += await self._write(_remove_keys, scopes, now)
            last = scopes[-1]
        return removed

    async def _remove_usage(self, sql: str, before: str) -> int:
        removed = 0
        while rows := await self._write(_remove_usage, sql, before):
            removed += rows
        return removed

    async def _in_slices(self, do: Callable[[sqlite3.Connection, Sequence[int]], int], numbers: Sequence[int]) -> None:
        """Do it to all of these runs."""
        while numbers:
            numbers = numbers[await self._write(do, numbers) :]


NEVER: Final = float("-inf")
FOR_EVER: Final = float("inf")


def used_bytes(database: sqlite3.Connection) -> int:
    """How large the file would be without its free pages."""
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    (free,) = database.execute("PRAGMA freelist_count").fetchone()
    (size,) = database.execute("PRAGMA page_size").fetchone()
    return (pages - free) * size


def remove(database: sqlite3.Connection, numbers: Sequence[int]) -> int:
    """Remove these runs, one after another, as far as a slice goes. Returns how many are gone."""
    return _as_far_as_a_slice_goes(database, numbers, (NO_EVENTS, NO_STEPS), (NO_BODIES, NO_CALLBACK, NO_USAGE, KEY_OF, NO_RUN))


def strip(database: sqlite3.Connection, numbers: Sequence[int]) -> int:
    """Remove what these runs were about, one after another, as far as a slice goes. Returns how many are stripped."""
    return _as_far_as_a_slice_goes(database, numbers, (NO_EVENTS, NO_STEPS), (NO_BODIES, NO_PAYLOAD))


def _as_far_as_a_slice_goes(
    database: sqlite3.Connection, numbers: Sequence[int], by_the_row: Iterable[str], at_last: Iterable[str]
) -> int:
    left = SLICE
    for done, number in enumerate(numbers):
        for sql in by_the_row:
            left -= database.execute(sql, (number, left)).rowcount
            if left <= 0:
                return done
        for sql in at_last:
            database.execute(sql, (number,))
        left -= 1
        if left <= 0:
            return done + 1
    return len(numbers)


def _oldest(database: sqlite3.Connection, before: float, kept_before: float, limit: int) -> list[int]:
    values = {"before": before, "kept_before": kept_before, "slice": limit}
    return [row[0] for row in database.execute(OLDEST, values).fetchall()]


def _with_payload(database: sqlite3.Connection, before: float) -> list[int]:
    return [row[0] for row in database.execute(WITH_PAYLOAD, (before, SLICE)).fetchall()]


def _expired(database: sqlite3.Connection, last: bytes, now: float) -> list[bytes]:
    return [row[0] for row in database.execute(EXPIRED, (last, now, SLICE)).fetchall()]


def _remove_keys(database: sqlite3.Connection, scopes: Sequence[bytes], now: float) -> int:
    return database.executemany(NO_KEY, [(scope, now) for scope in scopes]).rowcount


def _remove_usage(database: sqlite3.Connection, sql: str, before: str) -> int:
    return database.execute(sql, (before, SLICE)).rowcount


def _count(database: sqlite3.Connection) -> int:
    return database.execute("SELECT count(*) FROM runs").fetchone()[0]


def _vacuum(database: sqlite3.Connection) -> bool:
    """Give some free pages back. Returns whether there are more."""
    database.execute(f"PRAGMA incremental_vacuum({SLICE})").fetchall()
    return database.execute("PRAGMA freelist_count").fetchone()[0] > 0
