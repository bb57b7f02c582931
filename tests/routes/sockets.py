"""What the tests of WebSockets share: a client that speaks in frames."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection, connect

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.app.serving import Served


class Frames:
    """One connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, **frame: Any) -> None:
        """Send a frame."""
        await self.connection.send(json.dumps(frame))

    async def hear(self) -> dict[str, Any]:
        """The next frame."""
        return json.loads(await self.connection.recv())

    async def ask(self, **frame: Any) -> dict[str, Any]:
        """Send a frame, and return the next that comes."""
        await self.say(**frame)
        return await self.hear()

    async def closed(self) -> int | None:
        """Wait until the server has closed it. Returns the code."""
        await self.connection.wait_closed()
        return self.connection.close_code


@asynccontextmanager
async def connected(gateway: Served, agent: str, **options: Any) -> AsyncGenerator[Frames]:
    """A connection to an agent."""
    async with connect(f"ws://127.0.0.1:{gateway.port}/agents/{agent}/ws", proxy=None, max_size=2**24, **options) as connection:
        yield Frames(connection)
