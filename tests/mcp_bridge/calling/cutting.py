"""CuttingProxy: a TCP proxy whose connections a test cuts. Not a test."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class CuttingProxy:
    """Between a client and a server on this machine."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.accepted = 0

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._open) // 2

    def cut(self) -> None:
        """Reset every connection, on both sides."""
        for writer in list(self._open):
            writer.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            there_reader, there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, there}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pump(reader, there))
                tasks.create_task(_pump(there_reader, writer))
        finally:
            self._open -= {writer, there}
            writer.transport.abort()
            there.transport.abort()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()


@asynccontextmanager
async def cutting(target: int) -> AsyncGenerator[CuttingProxy]:
    """A proxy in front of that port."""
    proxy = CuttingProxy(target)
    server = await asyncio.start_server(proxy.carry, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await server.wait_closed()
