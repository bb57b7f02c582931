"""Rows: what is read of runs and events, and how a list of runs is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json

from portico.runs.callback import restored
from portico.runs.event import Event
from portico.runs.record import RunRecord
from portico.runs.status import ENDS, RunStatus
from portico.runs.usage import SUMS, Usage, UsageGroup, UsageKey, UsageRow
from portico.stores.coding import decode
from portico.stores.schema import MISSED

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from portico.runs.callback import Callback
    from portico.runs.store import RunQuery
    from portico.runs.usage import UsageQuery

_USAGE: Final = ", ".join(("day", "run_usage.agent", "run_usage.principal", "provider", "model", *SUMS))
RUN: Final = """run_id, status, agent, operation, principal, address, parent, one_way, once, redacted, priority, timeout, created,
due, traceparent, metadata, redrive_of, fingerprint, attempts, started, finished, meta, error, waiting, last_seq, dead, stripped,
number, coalesce(payload, (SELECT data FROM bodies WHERE number = runs.number AND part = 0)),
coalesce(output, (SELECT data FROM bodies WHERE number = runs.number AND part = 1)),
(SELECT callback FROM callbacks WHERE number = runs.number),
(SELECT json_group_array(json_array(USAGE)) FROM run_usage WHERE run_usage.run_id = runs.run_id)""".replace("USAGE", _USAGE)
"""The columns of a run, as `record` reads them; part 0 of a body is the request, 1 the reply."""


LAST: Final = "\U0010ffff"
"""Comes after every other character."""
OF_IDS: Final = "INDEXED BY sqlite_autoindex_runs_1"
"""The index that makes ids unique."""
MANY_BEGIN: Final = "SELECT 1 FROM runs WHERE run_id BETWEEN ? AND ? LIMIT 1 OFFSET 1000"
"""Finds something where so many ids begin in one way that it is better to look at the newest runs first."""


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
        usage=usage_rows(row[0], row[31]),
    )


def usage_rows(run_id: str, data: str) -> tuple[UsageRow, ...]:
    """The usage of a run, from a JSON list of its rows."""
    return () if data == "[]" else tuple(usage_row((run_id, *values)) for values in from_json(data))


def usage_row(row: tuple[Any, ...]) -> UsageRow:
    """The usage of a row of `run_usage`, or of `usage` with an empty run before it."""
    run_id, day, agent, principal, provider, model, *sums = row
    usage = Usage(*sums)
    return UsageRow(run_id=run_id, day=day, agent=agent, principal=principal or None, provider=provider, model=model, usage=usage)


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
    return [Dumped(record(row), None if row[33] is None else (row[32], row[33])) for row in database.execute(sql, (after, limit))]


def select_page(database: sqlite3.Connection, query: RunQuery) -> list[RunRecord]:
    """See `RunStore.runs`."""
    conditions = _conditions(query)
    index = _index(database, query)
    if index == OF_IDS:
        conditions = {condition.lstrip("+"): given for condition, given in conditions.items()}
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    values = [value for given in conditions.values() for value in given]
    # Which rows is found out first, where that can be in an index alone: sorting whole rows would read and carry all payloads.
    page = f"SELECT number FROM runs {index} {where} ORDER BY created DESC, run_id DESC LIMIT ?"  # noqa: S608  # our own words
    sql = f"SELECT {RUN} FROM runs WHERE number IN ({page}) ORDER BY created DESC, run_id DESC"  # noqa: S608  # our own words
    return [record(row) for row in database.execute(sql, (*values, query.limit)).fetchall()]


def _conditions(query: RunQuery) -> dict[str, Sequence[Any]]:
    """What must hold, and the values in it."""
    conditions: dict[str, Sequence[Any]] = {}
    if not query.everyone:
        conditions["principal IS ?"] = (query.principal,)
    if query.status is not None:
        conditions["status = ?"] = (query.status.value,)
        if query.status not in ENDS:
            conditions["stripped = 0 AND finished IS NULL"] = ()
        elif query.status is not RunStatus.SUCCEEDED:
            conditions[MISSED] = ()
    if query.agent is not None:
        conditions["agent = ?"] = (query.agent,)
    if query.parent is not None:
        conditions["parent = ?"] = (query.parent,)
    if query.prefix:
        conditions["+run_id BETWEEN ? AND ?"] = (query.prefix, query.prefix + LAST)  # + keeps SQLite from its index
    if query.dead:
        conditions["dead IS NOT NULL"] = ()
    if query.before is not None:
        conditions["(created, run_id) < (?, ?)"] = query.before
    return conditions


def _index(database: sqlite3.Connection, query: RunQuery) -> str:
    """The index that leaves the fewest rows to look at. Those of version 3 are left to SQLite: an older file has none of them."""
    if query.parent is not None:
        return "INDEXED BY runs_parent"
    if query.dead:
        return "INDEXED BY runs_dead"
    if query.prefix and database.execute(MANY_BEGIN, (query.prefix, query.prefix + LAST)).fetchone() is None:
        return OF_IDS
    if query.status is not None and query.status not in ENDS:
        return "INDEXED BY runs_finished"
    return "" if query.everyone else "INDEXED BY runs_principal"


def select_usage(database: sqlite3.Connection, query: UsageQuery) -> list[UsageGroup]:
    """See `RunStore.usage`."""
    of_runs = query.run is not None or UsageKey.RUN in query.by
    conditions, values = _usage_conditions(query)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    columns = [USAGE_COLUMNS[key] for key in query.by]
    group = f"GROUP BY {', '.join(columns)}" if columns else ""
    order = ", ".join([*(["day"] if UsageKey.DAY in query.by else []), "sum(cost) DESC", "sum(calls) DESC", *columns])
    sums = [f"coalesce(sum({name}), 0)" for name in SUMS]
    sql = f"""SELECT {", ".join([*columns, *sums])} FROM {"run_usage" if of_runs else "usage"} {where} {group}
    ORDER BY {order} LIMIT ?"""  # noqa: S608  # our own words
    return [_group(query, row) for row in database.execute(sql, (*values, query.limit)).fetchall()]


def select_all_usage(database: sqlite3.Connection) -> list[UsageRow]:
    """Every sum: those of days, and those of runs."""
    rows = database.execute("SELECT '', usage.* FROM usage UNION ALL SELECT * FROM run_usage").fetchall()
    return [usage_row(row) for row in rows]


USAGE_COLUMNS: Final = {key: "run_id" if key is UsageKey.RUN else key.value for key in UsageKey}


def _usage_conditions(query: UsageQuery) -> tuple[list[str], list[Any]]:
    given = {
        "day >= ?": query.since,
        "day <= ?": query.until,
        "agent = ?": query.agent,
        "provider = ?": query.provider,
        "model = ?": query.model,
        "run_id = ?": query.run,
        "principal = ?": None if query.everyone else query.principal or "",
    }
    found = {condition: value for condition, value in given.items() if value is not None}
    return list(found), list(found.values())


def _group(query: UsageQuery, row: tuple[Any, ...]) -> UsageGroup:
    count = len(query.by)
    keys = {key.value: value or None for key, value in zip(query.by, row[:count], strict=True)}
    return UsageGroup(keys, Usage(*row[count:]))
