"""A program whose disk is full for a while: it may not write files beyond a size. It prints what it saw, as JSON."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from portico.errors import StoreUnavailable
from portico.runs.store import RunQuery
from portico.stores.sqlite import SqliteStore
from tests.stores.stores import accepted, ended, stored


def limit(size: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


def largest(directory: str) -> int:
    return max(file.stat().st_size for file in Path(directory).iterdir())


async def main(directory: str) -> dict[str, Any]:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = SqliteStore(directory)
    await store.open()
    await stored(store, accepted("before", payload="x" * 1000))
    limit(largest(directory) + 20_000)
    refused = 0
    error = ""
    for number in range(50):
        try:
            await stored(store, accepted(f"full{number}", payload="x" * 5000))
        except StoreUnavailable as caught:
            refused += 1
            error = str(caught)
    seen: dict[str, Any] = {"refused": refused, "error": error, "failure": store.failure}
    listed = await store.runs(RunQuery(everyone=True, limit=100))
    seen["listed"] = len(listed)
    limit(resource.RLIM_INFINITY)
    await stored(store, accepted("after"), ended("before"))
    seen["failure after"] = store.failure
    seen["after"] = len(await store.runs(RunQuery(everyone=True, limit=100)))
    seen["damage"] = await store.verify()
    await store.close()
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1]))))  # noqa: T201  # its answer
