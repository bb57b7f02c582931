"""Transaction: changes that are stored all or none, encoded on the event loop, applied by the writer.

What can be expected to be in the way (an id that is taken, a run that is not there) is found out before the first row is written,
so that such a transaction leaves nothing behind and takes no other one along.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from portico.errors import StoreUnavailable
from portico.runs.status import ENDS
from portico.runs.store import (
    AcceptRun,
    AddUsage,
    AppendEvents,
    BeginRun,
    Change,
    EndRun,
    OfOneRun,
    ParkRun,
    QueueRun,
    Redrive,
    RunExists,
    StoreCallback,
    StoreState,
    StoreStep,
    StoreSuspension,
)
from portico.runs.usage import SUMS
from portico.stores.coding import encode, text
from portico.stores.schema import INLINE, OUTPUT, PAYLOAD

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from portico.runs.callback import Callback

    Numbers: TypeAlias = dict[str, int]
    """The numbers of runs, by id."""
    Step: TypeAlias = Callable[..., object]
    """Takes the connection, the numbers of the runs, and what was encoded for it."""

ACCEPT: Final = """INSERT INTO runs (run_id, status, agent, operation, principal, address, parent, one_way, once, redacted,
priority, timeout, created, due, traceparent, metadata, redrive_of, fingerprint, attempts, started, finished, meta, error, waiting,
last_seq, dead, stripped, scope, payload, output)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run_id) DO NOTHING"""
BODY: Final = "INSERT INTO bodies (number, part, data) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET data = excluded.data"
NO_BODY: Final = "DELETE FROM bodies WHERE number = ? AND part = ?"
KEY: Final = """INSERT INTO keys (scope, number, until) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET number = excluded.number, until = excluded.until WHERE keys.until <= ?"""
NO_RUN: Final = "DELETE FROM runs WHERE number = ?"
HOLDER: Final = "SELECT run_id, until FROM keys JOIN runs USING (number) WHERE keys.scope = ?"
NUMBER: Final = "SELECT number FROM runs WHERE run_id = ?"
BEGIN: Final = "UPDATE runs SET status = 'running', attempts = ?, started = ? WHERE number = ? AND +finished IS NULL"
BEGIN_BY_ID: Final = BEGIN.replace("WHERE number", "WHERE run_id")
EVENT: Final = "INSERT INTO events (number, seq, type, timestamp, source, data) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
CREATED: Final = 12
"""Where the time of acceptance stands among the values of `ACCEPT`."""
SCOPE: Final = -3
"""Where the key's scope stands among the values of `ACCEPT`."""
STEP: Final = "INSERT INTO steps (number, key, value) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
NO_STEPS: Final = "DELETE FROM steps WHERE number = ?"
"""Another agent goes on, under its own names for its steps."""
PARK: Final = "UPDATE runs SET status = 'waiting', waiting = ? WHERE number = ? AND +finished IS NULL"
QUEUE: Final = "UPDATE runs SET status = 'queued', waiting = NULL WHERE number = ? AND +finished IS NULL"
ONWARD: Final = """UPDATE runs SET status = 'queued', waiting = NULL, agent = ?, operation = coalesce(?, operation), once = ?,
redacted = ?, payload = ? WHERE number = ? AND +finished IS NULL"""
END: Final = """UPDATE runs SET status = ?, finished = ?, attempts = ?, meta = ?, error = ?, last_seq = ?, dead = ?, waiting = NULL,
output = ? WHERE number = ? AND +finished IS NULL"""
END_BY_ID: Final = END.replace("WHERE number", "WHERE run_id")
CALLBACK: Final = """INSERT INTO callbacks (number, next_at, callback) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET next_at = excluded.next_at, callback = excluded.callback"""
REDRIVE: Final = "UPDATE runs SET dead = NULL WHERE number = ?"
STATE: Final = "INSERT INTO states (name, state) VALUES (?, ?) ON CONFLICT DO UPDATE SET state = excluded.state"
NO_STATE: Final = "DELETE FROM states WHERE name = ?"
SUSPENSION: Final = "INSERT INTO suspensions (name, reason) VALUES (?, ?) ON CONFLICT DO UPDATE SET reason = excluded.reason"
NO_SUSPENSION: Final = "DELETE FROM suspensions WHERE name = ?"
_SUMS: Final = ", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)
_USAGE: Final = f"INTO usage VALUES ({', '.join('?' * (5 + len(SUMS)))}) ON CONFLICT DO"
_RUN_USAGE: Final = f"INTO run_usage VALUES ({', '.join('?' * (6 + len(SUMS)))}) ON CONFLICT DO"
ADD_USAGE: Final = f"INSERT {_USAGE} UPDATE SET {_SUMS}"
ADD_RUN_USAGE: Final = f"INSERT {_RUN_USAGE} UPDATE SET {_SUMS}"
PUT_USAGE: Final = f"INSERT {_USAGE} NOTHING"
PUT_RUN_USAGE: Final = f"INSERT {_RUN_USAGE} NOTHING"


class Transaction:
    """Encoded changes. Calling it applies them on a connection that is in a transaction."""

    __slots__ = ("_accepts", "_steps", "_wanted", "size")

    def __init__(self, changes: Sequence[Change]) -> None:
        """Encode the changes. Raises `ValueError` where something in them is not JSON-able."""
        self._accepts: list[tuple[str, bytes | None, float]] = []
        self._wanted: dict[str, None] = {}
        self._steps: list[tuple[Step, tuple[Any, ...]]] = []
        self.size = 0
        """About how many bytes wait here to be written."""
        for change in changes:
            self._encode(change)

    def __call__(self, database: sqlite3.Connection) -> None:
        """Apply them.

        Raises:
            RunExists: the id or the key of a new run is taken; nothing was done.
            StoreUnavailable: a change is for a run that is not there; nothing was done.
            sqlite3.Error: it cannot be written; the database's transaction must be rolled back.
        """
        numbers = self._numbers(database)
        for step, values in self._steps:
            step(database, numbers, *values)

    def _numbers(self, database: sqlite3.Connection) -> Numbers:
        """The numbers of the runs that are there, after a look whether the new ones may be."""
        new: set[str] = set()
        finds_out_itself = len(self._accepts) == 1 and self._steps[0][0] is _accept
        for run_id, scope, created in self._accepts:
            if not finds_out_itself:
                _refuse_taken_key(database, scope, created)
            if run_id in new or not (finds_out_itself or database.execute(NUMBER, (run_id,)).fetchone() is None):
                raise RunExists(run_id)
            new.add(run_id)
        numbers: Numbers = {}
        if len(self._steps) == 1 and self._steps[0][0] in FIND_IT_THEMSELVES:
            return numbers
        for run_id in self._wanted:
            if run_id not in new:
                numbers[run_id] = _number(database, run_id)
        return numbers

    # --- encoding -----------------------------------------------------------------------------------------------------

    def _encode(self, change: Change) -> None:
        match change:
            case AcceptRun():
                self._encode_accept(change)
            case StoreState():
                self._add(_store_state, text(change.name), self._data(change.state))
            case StoreSuspension():
                self._add(_store_suspension, text(change.name), _text(change.reason))
            case AddUsage():
                self._encode_usage(change)
            case _:
                self._wanted[change.run_id] = None
                self._encode_step(change)

    def _encode_step(self, change: OfOneRun) -> None:
        run_id = text(change.run_id)
        match change:
            case BeginRun():
                self._add(_begin, run_id, change.attempts, change.at)
            case AppendEvents():
                rows = [(e.seq, text(e.type), e.timestamp, _text(e.source), self._data(e.data)) for e in change.events]
                self._add(_append, run_id, rows)
            case StoreStep():
                self._add(_store_step, run_id, text(change.key), self._data(change.value))
            case ParkRun():
                self._add(_park, run_id, self._data(change.waiting))
            case QueueRun(agent=None):
                self._add(_queue, run_id)
            case QueueRun():
                row = (_text(change.agent), _text(change.operation), change.once, change.redacted)
                self._add(_onward, run_id, row, self._data(change.payload))
            case EndRun():
                self._encode_end(change)
            case Redrive():
                self._add(_redrive, run_id)
            case StoreCallback():
                self._add(_store_callback, run_id, *self._callback(change.callback))

    def _add(self, step: Step, *values: Any) -> None:
        self.size += 200
        self._steps.append((step, values))

    def _data(self, value: Any) -> bytes | None:
        data = encode(value)
        if data is not None:
            self.size += len(data)
        return data

    def _callback(self, callback: Callback) -> tuple[float | None, bytes | None]:
        return callback.next_at, self._data(asdict(callback))

    def _encode_usage(self, change: AddUsage) -> None:
        row = change.row
        named = (row.day, text(row.agent), text(row.principal or ""), text(row.provider), text(row.model))
        sums = tuple(getattr(row.usage, name) for name in SUMS)
        self._add(_put_usage if change.restored else _add_usage, text(row.run_id), (*named, *sums))

    def _encode_accept(self, change: AcceptRun) -> None:
        record = change.record
        payload, output = self._data(record.payload), self._data(record.output)
        finished = record.finished
        if finished is None and record.status in ENDS:
            finished = record.created
        row = (
            text(record.run_id),
            record.status.value,
            text(record.agent),
            text(record.operation),
            _text(record.principal),
            _text(record.address),
            _text(record.parent),
            record.one_way,
            record.once,
            record.redacted,
            record.priority,
            record.timeout,
            record.created,
            record.due,
            _text(record.traceparent),
            self._data(record.metadata),
            _text(record.redrive_of),
            record.fingerprint,
            record.attempts,
            record.started,
            finished,
            self._data(record.meta),
            self._data(record.error),
            self._data(record.waiting),
            record.last_seq,
            _text(record.dead),
            record.stripped,
            change.scope,
            _inline(payload),
            _inline(output),
        )
        self._accepts.append((record.run_id, change.scope, record.created))
        self._add(_accept, record.run_id, row, change.key_until, (payload, output))
        if record.callback is not None:
            self._add(_store_callback, record.run_id, *self._callback(record.callback))

    def _encode_end(self, change: EndRun) -> None:
        output = self._data(change.output)
        row = (
            change.status.value,
            change.at,
            change.attempts,
            self._data(change.meta),
            self._data(change.error),
            change.last_seq,
            _text(change.dead),
            _inline(output),
        )
        self._add(_end, change.run_id, row, output)


def _text(value: str | None) -> str | None:
    return None if value is None else text(value)


def _inline(data: bytes | None) -> bytes | None:
    """The data, where it may stand in its run's row."""
    return data if data is not None and len(data) <= INLINE else None


# --- applying, on the writer's thread ---------------------------------------------------------------------------------


def _number(database: sqlite3.Connection, run_id: str) -> int:
    """The number of a run. Raises `StoreUnavailable` where it is not there."""
    row = database.execute(NUMBER, (run_id,)).fetchone()
    if row is None:
        raise StoreUnavailable(f"run {run_id!r} was never accepted, or is kept no more.")
    return row[0]


def _refuse_taken_key(database: sqlite3.Connection, scope: bytes | None, created: float) -> None:
    """Raises `RunExists` where a new run has the key of one that is there."""
    if scope is not None:
        held = database.execute(HOLDER, (scope,)).fetchone()
        if held is not None and held[1] > created:
            raise RunExists(held[0])


def _accept(
    database: sqlite3.Connection,
    numbers: Numbers,
    run_id: str,
    row: tuple[Any, ...],
    key_until: float,
    bodies: tuple[bytes | None, bytes | None],
) -> None:
    inserted = database.execute(ACCEPT, row)
    if not inserted.rowcount:
        raise RunExists(run_id)  # nothing was written before it: see `_numbers`
    number = inserted.lastrowid or 0
    numbers[run_id] = number
    for part, data in zip((PAYLOAD, OUTPUT), bodies, strict=True):
        _store_body(database, number, part, data)
    scope = row[SCOPE]
    if scope is not None and not database.execute(KEY, (scope, number, key_until, row[CREATED])).rowcount:
        database.execute(NO_RUN, (number,))  # the key is taken, so it never was
        for part in (PAYLOAD, OUTPUT):
            database.execute(NO_BODY, (number, part))
        raise RunExists(database.execute(HOLDER, (scope,)).fetchone()[0])


def _store_body(database: sqlite3.Connection, number: int, part: int, data: bytes | None) -> None:
    """Keep a request or a reply that is too large for its run's row."""
    if data is not None and len(data) > INLINE:
        database.execute(BODY, (number, part, data))


def _begin(database: sqlite3.Connection, numbers: Numbers, run_id: str, attempts: int, at: float) -> None:
    number = numbers.get(run_id)
    if number is not None:
        database.execute(BEGIN, (attempts, at, number))
    elif not database.execute(BEGIN_BY_ID, (attempts, at, run_id)).rowcount:
        _number(database, run_id)


def _append(database: sqlite3.Connection, numbers: Numbers, run_id: str, rows: list[tuple[Any, ...]]) -> None:
    number = numbers[run_id]
    database.executemany(EVENT, [(number, *row) for row in rows])


def _store_step(database: sqlite3.Connection, numbers: Numbers, run_id: str, key: str, value: bytes | None) -> None:
    database.execute(STEP, (numbers[run_id], key, value))


def _park(database: sqlite3.Connection, numbers: Numbers, run_id: str, waiting: bytes | None) -> None:
    database.execute(PARK, (waiting, numbers[run_id]))


def _queue(database: sqlite3.Connection, numbers: Numbers, run_id: str) -> None:
    database.execute(QUEUE, (numbers[run_id],))


def _onward(database: sqlite3.Connection, numbers: Numbers, run_id: str, row: tuple[Any, ...], payload: bytes | None) -> None:
    number = numbers[run_id]
    if database.execute(ONWARD, (*row, _inline(payload), number)).rowcount:
        database.execute(NO_BODY, (number, PAYLOAD))
        database.execute(NO_STEPS, (number,))
        _store_body(database, number, PAYLOAD, payload)


def _end(database: sqlite3.Connection, numbers: Numbers, run_id: str, row: tuple[Any, ...], output: bytes | None) -> None:
    number = numbers.get(run_id)
    if number is None:
        ended = database.execute(END_BY_ID, (*row, run_id)).rowcount
        if not ended or (output is not None and len(output) > INLINE):
            number = _number(database, run_id)
    else:
        ended = database.execute(END, (*row, number)).rowcount
    if ended and number is not None:
        _store_body(database, number, OUTPUT, output)


FIND_IT_THEMSELVES: Final = (_begin, _end)
"""The steps that need no number where they are alone: each is a statement less for every run."""


def _redrive(database: sqlite3.Connection, numbers: Numbers, run_id: str) -> None:
    database.execute(REDRIVE, (numbers[run_id],))


def _store_callback(
    database: sqlite3.Connection, numbers: Numbers, run_id: str, next_at: float | None, callback: bytes | None
) -> None:
    database.execute(CALLBACK, (numbers[run_id], next_at, callback))


def _store_state(database: sqlite3.Connection, numbers: Numbers, name: str, state: bytes | None) -> None:
    del numbers
    if state is None:
        database.execute(NO_STATE, (name,))
    else:
        database.execute(STATE, (name, state))


def _store_suspension(database: sqlite3.Connection, numbers: Numbers, name: str, reason: str | None) -> None:
    del numbers
    if reason is None:
        database.execute(NO_SUSPENSION, (name,))
    else:
        database.execute(SUSPENSION, (name, reason))


def _add_usage(database: sqlite3.Connection, numbers: Numbers, run_id: str, row: tuple[Any, ...]) -> None:
    del numbers
    database.execute(ADD_USAGE, row)
    if run_id:
        database.execute(ADD_RUN_USAGE, (run_id, *row))


def _put_usage(database: sqlite3.Connection, numbers: Numbers, run_id: str, row: tuple[Any, ...]) -> None:
    del numbers
    if run_id:
        database.execute(PUT_RUN_USAGE, (run_id, *row))
    else:
        database.execute(PUT_USAGE, row)
