"""BareMailbox: the least that a mailbox could be, a deque and an event. What sends and idle agents are measured against."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class BareMailbox:
    """Without a bound, a name, or an owner."""

    __slots__ = ("_items", "_something")

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._something = asyncio.Event()

    def put(self, item: Any) -> None:
        """Append it."""
        self._items.append(item)
        self._something.set()

    async def get(self) -> Any:
        """Take the next one, as soon as there is one."""
        while not self._items:
            self._something.clear()
            await self._something.wait()
        return self._items.popleft()
