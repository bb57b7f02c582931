"""Readers: two threads that read, each with a connection of its own.

Who reads waits neither for the writer nor for the disk's sync, and sees what was committed before.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from portico.errors import StoreUnavailable
from portico.stores.faults import sentence

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.stores.giving_way import GivingWay

THREADS: Final = 2
CLOSED: Final = "the store is closed."

T = TypeVar("T")


class Readers:
    """The threads and their connections."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], giving_way: GivingWay) -> None:
        """`connect` is called once for each thread."""
        self._connect = connect
        self._giving_way = giving_way
        self._pool = ThreadPoolExecutor(THREADS, "portico-store-reader")
        self._free: deque[sqlite3.Connection] = deque()
        self._all: list[sqlite3.Connection] = []
        self._waiting = 0
        self._idle = asyncio.Event()
        self._closed = False

    async def start(self) -> None:
        """Open the connections. Raises what `connect` raises."""
        try:
            for _ in range(THREADS):
                self._all.append(await self._on_thread(self._connect))
        except BaseException:
            await self.stop()
            raise
        self._free.extend(self._all)

    async def read(self, do: Callable[..., T], *values: Any) -> T:
        """Call `do(connection, *values)` on a thread. Raises `StoreUnavailable` where the database cannot be read."""
        if self._closed:
            raise StoreUnavailable(CLOSED)
        return await self._on_thread(self._read, do, *values)

    async def stop(self) -> None:
        """Break off what is read, close the connections, and end the threads."""
        self._closed = True
        for database in self._all:
            database.interrupt()
        while self._waiting:
            self._idle.clear()
            await self._idle.wait()
        for database in self._all:
            database.close()
        self._all.clear()
        self._pool.shutdown()  # nothing runs on the threads any more: they end at once

    async def _on_thread(self, do: Callable[..., T], *values: Any) -> T:
        self._waiting += 1
        self._giving_way.wait()
        future = self._pool.submit(do, *values)
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        finally:
            self._giving_way.done()
            self._waiting -= 1
            self._idle.set()

    def _read(self, do: Callable[..., T], *values: Any) -> T:
        if self._closed:
            raise StoreUnavailable(CLOSED)
        database = self._free.pop()
        try:
            return do(database, *values)
        except sqlite3.Error as error:
            raise StoreUnavailable(sentence(error)) from error
        except ValueError as error:
            raise StoreUnavailable(f"the database is damaged ({error}).") from error
        finally:
            self._free.append(database)
