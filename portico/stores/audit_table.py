"""The audit trail in `portico.db`: a row for each sealed entry, with a column for each of its fields.

Nothing is derived: whatever somebody changes in a row, the row's hash no longer fits. It is read whatever is in there: just what
somebody has changed is to be shown. Called on the threads of the store.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from portico.errors import StoreUnavailable
from portico.runs.audit_entry import AuditEntry, ChainHead, SealedEntry
from portico.stores.coding import text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from portico.runs.audit_store import AuditQuery

AUDIT: Final = """CREATE TABLE audit (seq INTEGER PRIMARY KEY, prev TEXT NOT NULL, hash TEXT NOT NULL, at_us INTEGER NOT NULL,
action TEXT NOT NULL, outcome TEXT NOT NULL, principal TEXT, address TEXT, face TEXT, agent TEXT, operation TEXT, run_id TEXT,
request_id TEXT, trace_id TEXT, duration_us INTEGER, details TEXT)"""
"""The table, which came with version 3."""

FIELDS: Final = (
    "at_us",
    "action",
    "outcome",
    "principal",
    "address",
    "face",
    "agent",
    "operation",
    "run_id",
    "request_id",
    "trace_id",
    "duration_us",
)
"""The columns that are fields of an entry as they are."""
COLUMNS: Final = f"seq, prev, hash, {', '.join(FIELDS)}, details"
APPEND: Final = f"INSERT INTO audit ({COLUMNS}) VALUES (?, ?, ?{', ?' * len(FIELDS)}, ?) ON CONFLICT DO NOTHING"  # noqa: S608  # our own words
HEAD: Final = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1"
TAKEN: Final = "SELECT seq, hash FROM audit WHERE seq BETWEEN ? AND ?"
FORGET: Final = "DELETE FROM audit WHERE seq <= ?"
HASH: Final = re.compile("[0-9a-f]{64}")
"""What stands for an entry in the one behind it."""
OLDEST: Final = "SELECT seq, hash, at_us FROM audit ORDER BY seq LIMIT ?"


def rows_of(entries: Iterable[SealedEntry]) -> list[tuple[Any, ...]]:
    """What is written of entries."""
    return [_row(sealed) for sealed in entries]


def append(database: sqlite3.Connection, rows: list[tuple[Any, ...]], forget_through: int) -> bool:
    """Write them, and remove what is kept no longer. Returns False, and does nothing, where another has the number of one."""
    if rows:
        hashes = {row[0]: row[2] for row in rows}
        taken = database.execute(TAKEN, (rows[0][0], rows[-1][0])).fetchall()
        if any(hashes.get(seq) != own_hash for seq, own_hash in taken):
            return False
    database.executemany(APPEND, rows)
    if forget_through:
        database.execute(FORGET, (forget_through,))
    return True


def head(database: sqlite3.Connection) -> ChainHead:
    """See `AuditStore.audit_head`."""
    row = database.execute(HEAD).fetchone()
    if row is None:
        return ChainHead()
    if not _is_hash(row[1]):
        raise StoreUnavailable(f"The hash of entry {row[0]} of the audit trail is none any more: nothing can be chained to it.")
    return ChainHead(*row)


def older(database: sqlite3.Connection, than_us: int, limit: int) -> tuple[ChainHead, int] | None:
    """See `AuditStore.audit_older`. What somebody has damaged stays, and what comes behind it."""
    found: tuple[ChainHead, int] | None = None
    for count, (seq, own_hash, at_us) in enumerate(database.execute(OLDEST, (limit,)), 1):
        if type(at_us) is not int or at_us >= than_us or not _is_hash(own_hash):
            break
        found = ChainHead(seq, own_hash), count
    return found


def page(database: sqlite3.Connection, query: AuditQuery) -> list[SealedEntry]:
    """See `AuditStore.audit`."""
    conditions = {
        "seq > ?": query.after,
        "seq < ?": query.before,
        "agent = ?": query.agent,
        "principal = ?": query.principal,
        "action = ?": query.action,
        "at_us >= ?": query.since_us,
        "at_us < ?": query.until_us,
    }
    given = {condition: value for condition, value in conditions.items() if value is not None}
    where = f"WHERE {' AND '.join(given)}" if given else ""
    order = "DESC" if query.after is None else "ASC"
    sql = f"SELECT {COLUMNS} FROM audit {where} ORDER BY seq {order} LIMIT ?"  # noqa: S608  # our own words
    values = [text(value) if isinstance(value, str) else value for value in given.values()]
    usual, database.text_factory = database.text_factory, _decoded
    try:
        return [_sealed(row) for row in database.execute(sql, (*values, query.limit)).fetchall()]
    finally:
        database.text_factory = usual


def _row(sealed: SealedEntry) -> tuple[Any, ...]:
    entry = sealed.entry
    details = None if entry.details is None else json.dumps(entry.details, ensure_ascii=False, sort_keys=True)
    return (sealed.seq, sealed.prev, sealed.hash, *(getattr(entry, name) for name in FIELDS), details)


def _sealed(row: tuple[Any, ...]) -> SealedEntry:
    seq, prev, own_hash, *fields, details = row
    values = dict(zip(FIELDS, map(_plain, fields), strict=True))
    entry = AuditEntry(**values, details=None if details is None else _details(_plain(details)))
    return SealedEntry(seq, entry, _plain(prev), _plain(own_hash))


def _decoded(stored: bytes) -> str:
    return stored.decode("utf-8", "replace")


def _plain(value: Any) -> Any:
    """A value as an entry may have it. What is none, such as a blob, is shown as a text that no hash fits."""
    return value if value is None or type(value) in {str, int} else repr(value)


def _details(stored: Any) -> Any:
    """What is no JSON object was not written by us, nor one that could not be written again: it is shown as it is."""
    try:
        found = json.loads(stored)
        if isinstance(found, dict):
            json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
            return found  # pyright: ignore[reportUnknownVariableType]  # its hash does not fit, where it is not ours
    except (TypeError, ValueError, RecursionError):
        pass
    return {"unreadable": stored}


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and HASH.fullmatch(value) is not None
