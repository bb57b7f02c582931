"""The store alone: runs accepted and finished per second in one program, without agents and without HTTP, for the record."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Literal

import disk
import uvloop
from rounds import compared, print_table
from stored_runs import submitted

from portico.kernel.messages import new_id
from portico.runs.record import RunRecord
from portico.runs.status import RunStatus
from portico.runs.store import AcceptRun, BeginRun, EndRun
from portico.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.runs.store import Change

Synchronous = Literal["full", "normal"]
IN_FLIGHT = (32, 500)


async def one_after_another(store: SqliteStore, number: int) -> None:
    """What the dispatcher stores of a send, again and again: its acceptance, then that it begins, then its end."""
    for _ in range(number):
        now = time.time()
        record = RunRecord(run_id=new_id(), agent="echo", operation="echo", payload={"text": "hello"}, created=now)
        await submitted(store, [AcceptRun(record)])
        begun: list[Change] = [BeginRun(record.run_id, 1, now)]
        store.submit(begun, lambda _: None)
        await submitted(store, [EndRun(record.run_id, RunStatus.SUCCEEDED, now, 1, {"echo": "hello"})])


async def rate(synchronous: Synchronous, number: int, in_flight: int) -> float:
    """Runs per second, in a directory of their own."""
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteStore(directory, synchronous=synchronous)
        await store.open()
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(one_after_another(store, number // in_flight))
        taken = time.perf_counter() - begun
        await store.close()
    return number // in_flight * in_flight / taken


def measures(number: int, in_flight: int) -> dict[str, Callable[[], float]]:
    """What is compared."""
    return {
        "synchronous: full": lambda: uvloop.run(rate("full", number, in_flight)),
        "synchronous: normal": lambda: uvloop.run(rate("normal", number, in_flight)),
    }


def main(rounds: int = 5, number: int = 20_000) -> bool:
    """Print the tables. There is nothing to miss."""
    disk.tell()
    for in_flight in IN_FLIGHT:
        figures = compared(measures(number, in_flight), rounds)
        print_table(f"The store alone, {in_flight} runs in flight", figures, None, {})
    return True


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
