"""Turnstile: how many calls one external server is given at a time, and how many may wait for their turn.

First come, first served. Above: `connection.py`. It knows no calls.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class FullError(Exception):
    """As many wait as may."""


class Turnstile:
    """`async with turnstile:` around each call.

    Args:
        most: how many are inside at a time.
        queue: how many may wait.
    """

    def __init__(self, most: int, queue: int) -> None:
        self._most = most
        self._queue = queue
        self.inside = 0
        """How many are inside."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def __aenter__(self) -> Self:
        """Wait for a turn. Raises `FullError` at once where too many wait already."""
        if self.inside < self._most:
            self.inside += 1
            return self
        if len(self._waiting) >= self._queue:
            raise FullError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled():  # it was this one's turn already
                self._leave()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        """The next one takes the place over, so that nobody who comes now gets it first."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.inside -= 1
