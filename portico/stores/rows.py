"""Rows: what is read of runs and events, and how a list of runs is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from portico.runs.callback import restored
from portico.runs.event import Event
from portico.runs.record import RunRecord
from portico.runs.status import ENDS, RunStatus
from portico.stores.coding import decode

if TYPE_CHECKING:
    import sqlite3

    from portico.runs.callback import Callback
    from portico.runs.store import RunQuery

RUN: Final = """run_id, status, agent, operation, principal, address, parent, one_way, once, redacted, priority, timeout, created,
due, traceparent, metadata, redrive_of, fingerprint, attempts, started, finished, meta, error, waiting, last_seq, dead, stripped,
number, coalesce(payload, (SELECT data FROM bodies WHERE number = runs.number AND part = 0)),
coalesce(output, (SELECT data FROM bodies WHERE number = runs.number AND part = 1)),
(SELECT callback FROM callbacks WHERE number = runs.number)"""
"""The columns of a run, as `record` reads them; part 0 of a body is the request, 1 the reply."""


@dataclass(frozen=True, slots=True)
class Dumped:
    """A run, and what its record does not tell."""

    record: RunRecord
    key: tuple[bytes, float] | None
    """The scope of its idempotency key, and until when that is kept; None where it has none, or has it no more."""


def record(row: tuple[Any, ...]) -> RunRecord:
    """The run of a row of the columns `RUN`. Raises `ValueError` where it is damaged."""
    return RunRecord(
        run_id=row[0],
        status=RunStatus(row[1]),
        agent=row[2],
        operation=row[3],
        principal=row[4],
        address=row[5],
        parent=row[6],
        one_way=bool(row[7]),
        once=bool(row[8]),
        redacted=bool(row[9]),
        priority=row[10],
        timeout=row[11],
        created=row[12],
        due=row[13],
        traceparent=row[14],
        metadata=decode(row[15]),
        redrive_of=row[16],
        fingerprint=row[17],
        attempts=row[18],
        started=row[19],
        finished=row[20],
        meta=decode(row[21]),
        error=decode(row[22]),
        waiting=decode(row[23]),
        last_seq=row[24],
        dead=row[25],
        stripped=bool(row[26]),
        number=row[27],
        payload=decode(row[28]),
        output=decode(row[29]),
        callback=restored(decode(row[30])),
    )


def event(row: tuple[Any, ...]) -> Event:
    """The event of a row of its columns, in the order of its fields. Raises `ValueError` where it is damaged."""
    return Event(row[0], row[1], decode(row[2]), row[3], row[4])


def select_one(database: sqlite3.Connection, condition: str, *values: Any) -> RunRecord | None:
    """The run for which the condition holds."""
    row = database.execute(f"SELECT {RUN} FROM runs WHERE {condition}", values).fetchone()  # noqa: S608  # our own words
    return None if row is None else record(row)


def select_unfinished(database: sqlite3.Connection) -> list[RunRecord]:
    """See `RunStore.unfinished`."""
    sql = f"SELECT {RUN} FROM runs INDEXED BY runs_finished WHERE stripped = 0 AND finished IS NULL ORDER BY number"  # noqa: S608  # our own words
    return [record(row) for row in database.execute(sql).fetchall()]


def select_callbacks(database: sqlite3.Connection) -> list[tuple[str, Callback]]:
    """See `RunStore.callbacks`."""
    sql = """SELECT run_id, callback FROM callbacks JOIN runs USING (number)
    WHERE next_at IS NOT NULL AND finished IS NOT NULL ORDER BY next_at"""
    found = ((run_id, restored(decode(data))) for run_id, data in database.execute(sql))
    return [(run_id, one) for run_id, one in found if one is not None]


def select_dump(database: sqlite3.Connection, after: int, limit: int) -> list[Dumped]:
    """At most `limit` runs with a number above `after`, in the order of acceptance."""
    sql = f"""SELECT {RUN}, scope, (SELECT until FROM keys WHERE scope = runs.scope AND number = runs.number)
    FROM runs WHERE number > ? ORDER BY number LIMIT ?"""  # noqa: S608  # our own words
    return [Dumped(record(row), None if row[32] is None else (row[31], row[32])) for row in database.execute(sql, (after, limit))]


def select_page(database: sqlite3.Connection, query: RunQuery) -> list[RunRecord]:
    """See `RunStore.runs`."""
    index, conditions, values = _plan(query)
    if not query.everyone:
        conditions.append("principal IS ?")
        values.append(query.principal)
    if query.agent is not None:
        conditions.append("agent = ?")
        values.append(query.agent)
    if query.before is not None:
        conditions.append("(created, run_id) < (?, ?)")
        values += query.before
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    # Which rows is found out first, where that can be in an index alone: sorting whole rows would read and carry all payloads.
    page = f"SELECT number FROM runs {index} {where} ORDER BY created DESC, run_id DESC LIMIT ?"  # noqa: S608  # our own words
    sql = f"SELECT {RUN} FROM runs WHERE number IN ({page}) ORDER BY created DESC, run_id DESC"  # noqa: S608  # our own words
    return [record(row) for row in database.execute(sql, (*values, query.limit)).fetchall()]


def _plan(query: RunQuery) -> tuple[str, list[str], list[Any]]:
    """The index that leaves the fewest rows to look at, with the conditions that it needs, and those of status, parent and dead."""
    conditions: list[str] = []
    values: list[Any] = []
    index = "INDEXED BY runs_principal"  # of everyone too: all that it takes to sort them stands in it
    if query.status is not None:
        conditions.append("status = ?")
        values.append(query.status.value)
        if query.status not in ENDS:
            index = "INDEXED BY runs_finished"
            conditions.append("stripped = 0 AND finished IS NULL")
    if query.dead:
        index = "INDEXED BY runs_dead"
        conditions.append("dead IS NOT NULL")
    if query.parent is not None:
        index = "INDEXED BY runs_parent"
        conditions.append("parent = ?")
        values.append(query.parent)
    return index, conditions, values
