"""ManualClock: time that stands still until a test moves it, so that backoff, windows and deadlines need no sleeping."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS: Final = 100
"""How often the event loop turns while a test lets it settle: far more than any chain of wake-ups in a small tree is long."""

EPOCH: Final = 1_800_000_000.0
"""What a new clock's `time()` says: the 15th of January 2027, 08:00 UTC."""


async def settle() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(ROUNDS):
        await asyncio.sleep(0)


class ManualTimer:
    """A call that is due later."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """See `Timer.cancel`."""
        self.callback = None


class ManualClock:
    """A `Clock` that only `advance()` moves: `Runtime(…, clock=ManualClock())`.

    `start` is the first `now()`, `epoch` the first `time()`. For a program that is started again an hour later, make another one
    with `epoch=first.time() + 3600`.
    """

    def __init__(self, start: float = 1000.0, epoch: float = EPOCH) -> None:
        self._now = start
        self._ahead = epoch - start
        self._order = count()
        self._timers: list[tuple[float, int, ManualTimer]] = []

    def now(self) -> float:
        """See `Clock.now`."""
        return self._now

    def time(self) -> float:
        """See `Clock.time`."""
        return self._now + self._ahead

    def call_at(self, when: float, callback: Callable[[], object]) -> ManualTimer:
        """See `Clock.call_at`. A call that is due already is made by the next `advance`, even one of 0 seconds."""
        timer = ManualTimer(callback)
        heappush(self._timers, (when, next(self._order), timer))
        return timer

    @property
    def pending(self) -> int:
        """How many calls are due later."""
        return sum(timer.callback is not None for _, _, timer in self._timers)

    async def advance(self, seconds: float = 0.0) -> None:
        """Move time, make the calls that fall due, each at its time, and let the event loop settle after each."""
        until = self._now + seconds
        await settle()
        while self._timers and self._timers[0][0] <= until:
            when, _, timer = heappop(self._timers)
            self._now = max(self._now, when)
            if timer.callback is not None:
                timer.callback()
                await settle()
        self._now = until
        await settle()
