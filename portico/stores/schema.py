"""The schema of `portico.db`, its version, and how a connection is set up.

There are few and narrow indexes, and none on the status of every run: that would be written up to three times for each, which may
cost one KiB. Those that did not succeed are few, and have one. Large requests and replies stand in a table of their own, so that a
change of status does not write them again.
"""

from __future__ import annotations

import sqlite3
from itertools import chain
from typing import TYPE_CHECKING, Final, Literal

from portico.errors import StoreError
from portico.runs.usage import SUMS
from portico.stores.audit_table import AUDIT

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "portico.db"
VERSION: Final = 3
APPLICATION: Final = 0x506F7274
"""Says in the file's header whose it is: "Port"."""

INLINE: Final = 1024
"""How many bytes a request or a reply may have to stand in its run's row."""

TABLES: Final = """
CREATE TABLE runs (
    number INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    agent TEXT NOT NULL,
    operation TEXT NOT NULL,
    principal TEXT,
    address TEXT,
    parent TEXT,
    one_way INTEGER NOT NULL,
    once INTEGER NOT NULL,
    redacted INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    timeout REAL NOT NULL,
    created REAL NOT NULL,
    due REAL,
    traceparent TEXT,
    metadata BLOB,
    redrive_of TEXT,
    fingerprint BLOB,
    attempts INTEGER NOT NULL,
    started REAL,
    finished REAL,
    meta BLOB,
    error BLOB,
    waiting BLOB,
    last_seq INTEGER NOT NULL,
    dead TEXT,
    stripped INTEGER NOT NULL,
    scope BLOB,
    payload BLOB,
    output BLOB
);
CREATE INDEX runs_principal ON runs (principal, created, run_id, agent);
CREATE INDEX runs_finished ON runs (stripped, finished);
CREATE INDEX runs_dead ON runs (created, run_id) WHERE dead IS NOT NULL;
CREATE INDEX runs_parent ON runs (parent, created, run_id) WHERE parent IS NOT NULL;
CREATE TABLE bodies (number INTEGER, part INTEGER, data BLOB, PRIMARY KEY (number, part)) WITHOUT ROWID;
CREATE TABLE keys (scope BLOB PRIMARY KEY, number INTEGER NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
    number INTEGER, seq INTEGER, type TEXT NOT NULL, timestamp REAL NOT NULL, source TEXT, data BLOB, PRIMARY KEY (number, seq)
) WITHOUT ROWID;
CREATE TABLE steps (number INTEGER, key TEXT, value BLOB, PRIMARY KEY (number, key)) WITHOUT ROWID;
CREATE TABLE states (name TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE suspensions (name TEXT PRIMARY KEY, reason TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records (key TEXT PRIMARY KEY, record BLOB) WITHOUT ROWID;
"""
"""Those of version 1."""

CALLBACKS: Final = "CREATE TABLE callbacks (number INTEGER PRIMARY KEY, next_at REAL, callback BLOB NOT NULL)"
"""What version 2 has more. It stands apart from the runs, of which few have one: what is written of the others is as it was."""

USAGE_SUMS: Final = ", ".join(f"{name} INTEGER NOT NULL" for name in SUMS)
USAGE: Final = f"""CREATE TABLE usage (day TEXT, agent TEXT, principal TEXT, provider TEXT, model TEXT, {USAGE_SUMS},
PRIMARY KEY (day, agent, principal, provider, model)) WITHOUT ROWID"""
"""What version 3 has more: what model calls took, by day. A principal without a name is the empty text."""
RUN_USAGE: Final = f"""CREATE TABLE run_usage (
run_id TEXT, day TEXT, agent TEXT, principal TEXT, provider TEXT, model TEXT, {USAGE_SUMS},
PRIMARY KEY (run_id, day, agent, principal, provider, model)) WITHOUT ROWID"""
"""The same of each run, also of plain asks, which have no row among the runs; kept as long as runs are."""

VERSION_3: Final = (USAGE, RUN_USAGE, AUDIT)
"""The tables that version 3 brought."""

MISSED: Final = "(status BETWEEN 'cancelled' AND 'failed' OR status = 'timed_out')"
"""The runs of the index `runs_missed`; a query that is to use it says this word for word. `IN` makes a table for each write."""
INDEXES_3: Final = f"""CREATE INDEX run_usage_day ON run_usage (day);
CREATE INDEX runs_created ON runs (created, run_id, agent);
CREATE INDEX runs_missed ON runs (status, created, run_id) WHERE {MISSED};"""
"""The indexes that version 3 brought: lists of everybody's runs, also of the few that did not succeed, need not look at all."""

STEPS: Final = (
    TABLES,
    f"{CALLBACKS}; CREATE INDEX callbacks_pending ON callbacks (next_at) WHERE next_at IS NOT NULL;",
    f"{'; '.join(VERSION_3)}; {INDEXES_3}",
)
"""What makes each version of the one before it; the first makes version 1 of an empty file."""

STAND_INS: Final = tuple(
    tuple(table.replace("CREATE TABLE", "CREATE TEMP TABLE") for table in tables) for tables in ((), (CALLBACKS,), VERSION_3)
)
"""The empty tables that a reader lays over a file of an older version, by the version that brought them; a file is never changed
by who reads it."""

PAYLOAD: Final = 0
"""The part of `bodies` that is a request."""
OUTPUT: Final = 1
"""The part of `bodies` that is a reply."""

CHECKPOINT: Final = 2000
"""Pages in the write-ahead log after which it is moved to the main file: 8 MB, which takes a disk some 50 ms."""


def open_writing(directory: Path, synchronous: Literal["full", "normal"]) -> sqlite3.Connection:
    """The connection that writes; the file is made where there is none, and brought up to this version where it is older.

    Raises:
        StoreError: the file belongs to a newer Portico, or to another program.
        sqlite3.Error: it cannot be opened, or is damaged.
    """
    database = sqlite3.connect(directory / FILE, timeout=0.0, isolation_level=None, check_same_thread=False)
    try:
        check(database, directory)
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA journal_mode = WAL").fetchone()
        database.execute(f"PRAGMA synchronous = {synchronous.upper()}")
        database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}").fetchone()
        database.execute(f"PRAGMA journal_size_limit = {CHECKPOINT * 4096 * 4}").fetchone()
        database.execute("PRAGMA secure_delete = FAST").fetchone()
        database.execute("PRAGMA cache_size = -16000")
        if version < VERSION:
            stamps = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"
            database.executescript(f"BEGIN IMMEDIATE; {' '.join(STEPS[version:])} {stamps} COMMIT;")
    except BaseException:
        database.close()
        raise
    return database


def open_reading(directory: Path) -> sqlite3.Connection:
    """A connection that only reads: beside one that writes, after a kill, or from a directory that cannot be written to.

    Raises:
        StoreError: the file belongs to a newer Portico, or to another program.
        sqlite3.Error: it cannot be opened, or is damaged.
    """
    try:
        return _connect_reading(directory, "mode=ro")
    except sqlite3.OperationalError:
        if (directory / f"{FILE}-wal").exists():
            raise
        # Nobody writes, and the files that a reader shares with a writer cannot be made: the main file is all there is.
        return _connect_reading(directory, "mode=ro&immutable=1")


def _connect_reading(directory: Path, options: str) -> sqlite3.Connection:
    address = f"{(directory / FILE).absolute().as_uri()}?{options}"
    database = sqlite3.connect(address, uri=True, timeout=10.0, isolation_level=None, check_same_thread=False)
    try:
        check(database, directory)
        (version,) = database.execute("PRAGMA user_version").fetchone()
        for stand_in in chain.from_iterable(STAND_INS[version:]):
            database.execute("PRAGMA temp_store = MEMORY")
            database.execute(stand_in)
        database.execute("PRAGMA query_only = ON")
    except BaseException:
        database.close()
        raise
    return database


def check(database: sqlite3.Connection, directory: Path) -> None:
    """Raises `StoreError` where the file is not one that this version of Portico can use, `sqlite3.Error` where it is damaged."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != APPLICATION:
        raise StoreError(str(directory), f"{FILE} was not made by Portico. Use another directory.")
    if version > VERSION:
        reason = f"a newer Portico wrote it (schema {version}; this one knows {VERSION}). Use that version, or another directory."
        raise StoreError(str(directory), reason)
