"""What `portico top` knows of a gateway whose connections break in the middle of something."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from portico.cli.terminal.picture import Picture
from portico.cli.terminal.watching import Watching
from portico.client import AsyncClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio
HELLO = b'id: a-1\nevent: hello\ndata: {"life": "a", "version": "0"}\n\n'
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


class Interrupted:
    """A gateway whose first stream breaks while its tree is read, which it then answers never."""

    def __init__(self) -> None:
        self.read = 0
        self._asked = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[str]:
        """Its address."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].partition(b"?")[0]
            if path == b"/events":
                writer.write(EVENTS + HELLO)
                await writer.drain()
                await (asyncio.get_running_loop().create_future() if self.read else self._asked.wait())
            elif path == b"/agents":
                self.read += 1
                self._asked.set()
                if self.read == 1:
                    await asyncio.get_running_loop().create_future()
                await self._answer(writer, b'{"name": "root", "kind": "sup", "children": []}')
            else:
                await self._answer(writer, b'{"runs": [], "dead_letters": []}')
        except asyncio.IncompleteReadError:
            pass  # nothing was asked
        finally:
            writer.transport.abort()

    async def _answer(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        writer.close()
        await writer.wait_closed()


async def test_what_was_being_read_when_the_connection_broke_is_read_over_the_next_one() -> None:
    gateway, picture, known = Interrupted(), Picture(), anyio.Event()
    async with gateway.listening() as address, AsyncClient(address, retries=0) as client, asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(Watching(client, picture, lambda: known.set() if picture.places else None).run())
        with anyio.fail_after(20):
            await known.wait()
        watching.cancel()

    assert [place.name for place in picture.places.values()] == ["root"]
    assert gateway.read == 2
