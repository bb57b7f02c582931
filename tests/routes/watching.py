"""What the tests of `GET /events` share: one who watches, over a real socket."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    import httpx


@dataclass(frozen=True, slots=True)
class Told:
    """One event."""

    id: str
    name: str
    data: Any


class Watching:
    """A stream that is open."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.seen: list[Told] = []
        self._lines = response.aiter_lines()

    async def __aiter__(self) -> AsyncIterator[Told]:
        """Every event, in order, until the stream ends."""
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                told = Told(fields.get("id", ""), fields["event"], json.loads(fields["data"]))
                fields = {}
                self.seen.append(told)
                yield told

    async def until(self, name: str, /, **data: Any) -> Told:
        """The next event of that name, with these members among others."""
        async for told in self:
            if told.name == name and data.items() <= told.data.items():
                return told
        raise AssertionError(f"the stream ended without {name}: {[one.name for one in self.seen]}")

    async def next(self) -> Told:
        """The next event."""
        async for told in self:
            return told
        raise AssertionError("the stream ended")


@asynccontextmanager
async def watching(
    client: httpx.AsyncClient, topics: str | None = None, last: str | None = None, **headers: str
) -> AsyncGenerator[Watching]:
    """Watch the gateway of that client."""
    sent = {"accept": "text/event-stream", **headers, **({"last-event-id": last} if last is not None else {})}
    params = {"topics": topics} if topics is not None else {}
    async with client.stream("GET", "/events", headers=sent, params=params) as response:
        assert response.status_code == 200, await response.aread()
        yield Watching(response)
