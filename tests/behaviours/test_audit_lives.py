"""The audit trail of `portico serve --data`: over kills and full disks its chain stays whole, and nobody's call waits for it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from portico.audit.chain import shown
from portico.audit.verification import Verification
from portico.runs.audit_store import AuditQuery
from portico.stores import audit_table
from tests.behaviours.lives import life, until
from tests.cli.programs import portico

if TYPE_CHECKING:
    from pathlib import Path

CALLS: dict[str, Any] = {"audit": {"level": "calls", "sinks": ["file:log/audit.jsonl"]}}


def exported(folder: Path) -> list[dict[str, Any]]:
    done = portico("audit", "export", "--data", "data", folder=folder)
    return [json.loads(line) for line in done.stdout.splitlines()]


def whole(folder: Path, *arguments: str) -> str:
    """Check a chain. Returns the hash of its last entry."""
    done = portico("audit", "verify", *arguments, folder=folder)
    assert done.returncode == 0, done.stdout
    return done.stdout.rsplit("head: ", 1)[1].strip()


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_over_kills_the_chains_go_on_and_every_change_is_found(tmp_path: Path) -> None:
    newest: list[dict[str, Any]] = []
    for _ in range(2):
        with life(tmp_path, **CALLS) as one:
            for _ in range(5):
                assert one.ask("echo").status_code == 200
            assert one.http.get("/agents/echo/state").status_code == 200
            newest = one.http.get("/audit", params={"limit": 1}).json()["entries"]
            one.kill()
    entries = exported(tmp_path)
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
    assert [entry["action"] for entry in entries].count("call") == 10
    assert newest[0] in entries

    head = whole(tmp_path, "--data", "data", "--head", newest[0]["hash"])
    assert head == entries[-1]["hash"]
    whole(tmp_path, "--file", "log/audit.jsonl")

    with closing(sqlite3.connect(tmp_path / "data" / "portico.db")) as database:
        for column in _columns(database):
            database.execute("SAVEPOINT tampered")
            number = column in ("seq", "at_us", "duration_us")
            database.execute(f"UPDATE audit SET {column} = ? WHERE seq = 3", (999 if number else "x",))  # our own words
            assert not sound(database), column
            database.execute("ROLLBACK TO tampered")
            assert sound(database)
        database.execute("DELETE FROM audit WHERE seq > 4")
        assert sound(database)  # whatever is cut off at the end is missed by who has noted a head, and only by them
        assert not sound(database, head)


TAMPERED: list[tuple[str, str]] = [
    ("at_us", "999999999999999999"),
    ("at_us", "9223372036854775807"),
    ("at_us", "'abc'"),
    ("at_us", "9e999"),
    ("agent", "CAST(x'ff41' AS TEXT)"),
    ("agent", "CAST(agent AS BLOB)"),
    ("duration_us", "9e999"),
    ("details", "'[1]'"),
    ("details", "x'00ff'"),
    ("details", """'{"a": NaN}'"""),
    ("details", """'{"a": "\\ud800"}'"""),
    ("prev", "x'00'"),
    ("hash", "CAST(hash AS BLOB)"),
]
"""Columns, and what somebody may write there, in SQL."""


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_whatever_somebody_writes_into_the_table_is_told_and_shown_and_ends_nothing(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        for _ in range(3):
            assert one.http.get("/agents/echo/state").status_code == 200
        assert len(one.http.get("/audit").json()["entries"]) == 4
        one.kill()
    with closing(sqlite3.connect(tmp_path / "data" / "portico.db", isolation_level=None)) as database:
        for column, value in TAMPERED:
            (was,) = database.execute(f"SELECT {column} FROM audit WHERE seq = 3").fetchone()  # our own words
            database.execute(f"UPDATE audit SET {column} = {value} WHERE seq = 3")
            told = portico("audit", "verify", "--data", "data", folder=tmp_path)
            assert told.stdout.startswith("broken at entry 3, after 2 entries: "), (column, value, told)
            database.execute(f"UPDATE audit SET {column} = ? WHERE seq = 3", (was,))
        whole(tmp_path, "--data", "data")
        for number, (column, value) in enumerate(TAMPERED[:-1]):
            columns = ", ".join(name if name != "seq" else f"{100 + number}" for name in _columns(database))
            database.execute(f"INSERT INTO audit SELECT {columns} FROM audit WHERE seq = 3")
            database.execute(f"UPDATE audit SET {column} = {value} WHERE seq = ?", (100 + number,))
        database.execute("UPDATE audit SET hash = CAST(hash AS BLOB) WHERE seq = (SELECT max(seq) FROM audit)")
    assert len(exported(tmp_path)) >= len(TAMPERED)
    assert portico("audit", "list", "--data", "data", "--limit", "100", folder=tmp_path).stdout.count("state_read") >= len(TAMPERED)
    with life(tmp_path) as one:
        assert one.http.get("/agents/echo/state").status_code == 200
        for form in ("application/json", "application/jsonl"):
            page = one.http.get("/audit", params={"limit": 1000}, headers={"accept": form})
            assert page.status_code == 200
            assert page.text.count("agent.state_read") >= len(TAMPERED)
        assert one.ready().status_code == 200
        one.kill()


def _columns(database: sqlite3.Connection) -> list[str]:
    return [row[1] for row in database.execute("PRAGMA table_info(audit)")]


def sound(database: sqlite3.Connection, head: str | None = None) -> bool:
    verification = Verification(head)
    for sealed in audit_table.page(database, AuditQuery(after=0, limit=1000)):
        verification.add(shown(sealed))
    return verification.verdict().fault is None


def test_while_the_disk_takes_nothing_calls_are_answered_and_their_entries_come_later(tmp_path: Path) -> None:
    with life(tmp_path, audit="calls") as one:
        with one.short_of_disk():
            assert [one.ask("echo").status_code for _ in range(20)] == [200] * 20
        until(lambda: one.ready().status_code == 200)
        until(lambda: calls(one.http) == 20)
        one.kill()
    whole(tmp_path, "--data", "data")


def calls(http: Any) -> int:
    entries = http.get("/audit", params={"limit": 1000, "action": "call"}).json()["entries"]
    return len(entries)
