"""Inspection: looks for damage, in the file and in what the rows say of each other. One sentence for each."""

from __future__ import annotations

import sqlite3
from typing import Final

from portico.stores.faults import sentence

MOST: Final = 100
"""How many sentences there are at most of each kind."""

CHECKS: Final = (
    (
        "SELECT run_id, status FROM runs WHERE finished IS NULL AND status NOT IN ('queued', 'running', 'waiting')",
        "Run {!r} is {}, and it is not known when it ended.",
    ),
    (
        "SELECT run_id, status FROM runs WHERE finished IS NOT NULL AND status IN ('queued', 'running', 'waiting')",
        "Run {!r} is {}, and has an end.",
    ),
    (
        """SELECT run_id, min(seq), max(seq), count(*) FROM events JOIN runs USING (number) GROUP BY number
        HAVING count(*) != max(seq) - min(seq) + 1""",
        "The events of run {!r} have gaps: from {} to {} there are {}.",
    ),
    (
        """SELECT run_id, max(seq), last_seq FROM events JOIN runs USING (number) WHERE finished IS NOT NULL
        GROUP BY number HAVING max(seq) > last_seq""",
        "Run {!r} has an event {} after its last one, {}.",
    ),
    (
        "SELECT number, count(*) FROM events WHERE number NOT IN (SELECT number FROM runs) GROUP BY number",
        "The run of number {} is not there, and has {} events.",
    ),
    (
        "SELECT number, count(*) FROM steps WHERE number NOT IN (SELECT number FROM runs) GROUP BY number",
        "The run of number {} is not there, and has {} steps.",
    ),
    (
        "SELECT number, count(*) FROM bodies WHERE number NOT IN (SELECT number FROM runs) GROUP BY number",
        "The run of number {} is not there, and has {} payloads.",
    ),
    (
        "SELECT number FROM callbacks WHERE number NOT IN (SELECT number FROM runs)",
        "The run of number {} is not there, and has a callback.",
    ),
    (
        "SELECT number, hex(scope) FROM keys WHERE number NOT IN (SELECT number FROM runs)",
        "The run of number {} is not there, and has the key {}.",
    ),
    (
        "SELECT run_id FROM runs WHERE stripped AND (payload IS NOT NULL OR output IS NOT NULL)",
        "The payload of run {!r} was removed, and is there.",
    ),
)
"""What should find nothing, and what it says where it finds something."""


def verify(database: sqlite3.Connection) -> list[str]:
    """See `RunStore.verify`."""
    try:
        found = [row[0] for row in database.execute(f"PRAGMA integrity_check({MOST})").fetchall()]
    except sqlite3.DatabaseError as error:
        return [f"It cannot be checked: {sentence(error)}"]
    damage = [f"SQLite says: {line}" for line in found if line != "ok"]
    for sql, words in CHECKS:
        try:
            damage += [words.format(*row) for row in database.execute(f"{sql} LIMIT {MOST}").fetchall()]
        except sqlite3.DatabaseError as error:
            damage.append(f"It cannot be read: {sentence(error)}")
            break
    return damage
