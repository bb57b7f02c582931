"""Inbox: what a supervisor is told. Ends of children, starts, requests: all are messages in one queue, so nothing overlaps."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.kernel.clock import Clock


class Inbox:
    """An unbounded queue with one reader, a timed wait and a selective receive (as Erlang's `receive` has it)."""

    __slots__ = ("_clock", "_events", "_reader")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: deque[Any] = deque()
        self._reader: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: Any) -> None:
        """Tell the reader. Never waits."""
        self._events.append(event)
        self.wake()

    def wake(self) -> None:
        """Let the reader look up, for something that is not in here."""
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(
        self, wanted: Callable[[Any], bool] | None = None, until: float | None = None, *, wakes: bool = False, behind: int = 0
    ) -> Any | None:
        """The first event that is `wanted` (others stay in their order), or None when the clock has passed `until`.

        With `wakes`, also None after `wake()`. `behind`: how many of the first events are known not to be wanted.
        """
        looked_at = behind
        while True:
            for at in range(looked_at, len(self._events)):
                if wanted is None or wanted(self._events[at]):
                    event = self._events[at]
                    del self._events[at]
                    return event
            looked_at = len(self._events)
            if until is not None and self._clock.now() >= until:
                return None
            await self._wait(until)
            if wakes and not self._events:
                return None

    async def _wait(self, until: float | None) -> None:
        self._reader = asyncio.get_running_loop().create_future()
        timer = self._clock.call_at(until, self.wake) if until is not None else None
        try:
            await self._reader
        finally:
            self._reader = None
            if timer is not None:
                timer.cancel()
