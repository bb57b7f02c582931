"""Faults: what an error of SQLite or of the system means, as a sentence for people."""

from __future__ import annotations

import sqlite3
from typing import Final

# By the primary result code: https://www.sqlite.org/rescode.html
SENTENCES: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the database is read-only",
    sqlite3.SQLITE_IOERR: "the disk reported an I/O error",
    sqlite3.SQLITE_CORRUPT: "the database is damaged",
    sqlite3.SQLITE_NOTADB: "the database is damaged: the file is none, or its beginning was overwritten",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened",
    sqlite3.SQLITE_BUSY: "another program holds the database",
    sqlite3.SQLITE_LOCKED: "the database is locked",
    sqlite3.SQLITE_PERM: "the database may not be opened",
    sqlite3.SQLITE_AUTH: "the database may not be opened",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
    sqlite3.SQLITE_TOOBIG: "a value is larger than SQLite can store",
    sqlite3.SQLITE_INTERRUPT: "the store was closed",
}


def sentence(error: Exception) -> str:
    """What went wrong, with SQLite's own words behind it."""
    if isinstance(error, OSError):
        return f"{error.strerror or error}."
    code = getattr(error, "sqlite_errorcode", None)
    known = SENTENCES.get(code & 0xFF) if isinstance(code, int) else None
    return f"{known} ({error})." if known else f"{error}."
