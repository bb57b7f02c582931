"""A program that stores runs, one after another, and prints the number of each that was acknowledged, until it is killed."""

from __future__ import annotations

import asyncio
import sys

from portico.runs.event import Event
from portico.runs.store import AppendEvents, StoreState
from portico.stores.sqlite import SqliteStore
from tests.stores.stores import NOW, accepted, ended, stored

WORKERS = 8


async def main(directory: str) -> None:
    store = SqliteStore(directory)
    await store.open()

    async def work(worker: int) -> None:
        number = 0
        while True:
            number += 1
            run_id = f"{worker}-{number}"
            await stored(store, accepted(run_id, payload="x" * (number % 3000)), AppendEvents(run_id, [Event(2, "e", number, NOW)]))
            await stored(store, ended(run_id, output=number, last_seq=2), StoreState(str(worker), {"n": number}))
            print(worker, number, flush=True)  # noqa: T201  # this is how it acknowledges

    async with asyncio.TaskGroup() as tasks:
        for worker in range(WORKERS):
            tasks.create_task(work(worker))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
