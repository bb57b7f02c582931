"""Stored runs: a data directory as it is after many runs, filled through `SqliteStore` in bulk, without a gateway."""

from __future__ import annotations

import asyncio
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from portico.runs.record import RunRecord
from portico.runs.status import RunStatus
from portico.runs.store import AcceptRun
from portico.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portico.runs.store import Change, StoreSummary

TOGETHER = 500
"""How many runs one transaction has."""


class Submission:
    """One transaction that somebody waits for."""

    def __init__(self) -> None:
        self.stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ended(self, error: Exception | None) -> None:
        """The store has spoken."""
        if error is None:
            self.stored.set_result(None)
        else:
            self.stored.set_exception(error)


async def submitted(store: SqliteStore, changes: list[Change]) -> None:
    """Store these changes, and wait until they are."""
    submission = Submission()
    store.submit(changes, submission.ended)
    await submission.stored


def finished(number: int, of: int) -> RunRecord:
    """One of so many runs that have succeeded, one a second until now."""
    created = time.time() - (of - number)
    return RunRecord(
        run_id=f"finished-{number:07d}",
        agent="echo",
        operation="echo",
        payload={"text": "hello"},
        address="127.0.0.1",
        created=created,
        status=RunStatus.SUCCEEDED,
        attempts=1,
        started=created,
        finished=created + 0.01,
        output={"echo": "hello"},
    )


def queued(name: str) -> RunRecord:
    """A send that was accepted, and not delivered before the program ended."""
    payload = {"text": "hello"}
    return RunRecord(run_id=name, agent="echo", operation="echo", payload=payload, one_way=True, created=time.time())


async def _store(directory: Path, records: Iterable[RunRecord]) -> None:
    store = SqliteStore(directory)
    await store.open()
    try:
        batch: list[Change] = []
        for record in records:
            batch.append(AcceptRun(record))
            if len(batch) == TOGETHER:
                await submitted(store, batch)
                batch = []
        await submitted(store, batch)
    finally:
        await store.close()


async def _summary(directory: Path) -> StoreSummary:
    store = SqliteStore(directory, read_only=True)
    await store.open()
    try:
        return await store.summary()
    finally:
        await store.close()


@cache
def _kept(runs: int) -> tempfile.TemporaryDirectory[str]:
    """Removed when the program ends."""
    directory = tempfile.TemporaryDirectory(prefix="portico-benchmark-")
    asyncio.run(_store(Path(directory.name), (finished(number, runs) for number in range(runs))))
    return directory


def filled(runs: int) -> Path:
    """A data directory with so many finished runs, made once. Who uses it may add some."""
    return Path(_kept(runs).name)


def add_queued(directory: Path, names: Iterable[str]) -> None:
    """Add runs that are to be delivered at the next start. Nobody may use the directory meanwhile."""
    asyncio.run(_store(directory, (queued(name) for name in names)))


def summary(directory: Path) -> StoreSummary:
    """What is in it."""
    return asyncio.run(_summary(directory))
