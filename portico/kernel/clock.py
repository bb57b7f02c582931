"""Clock: time as a parameter. `SystemClock` is the real one; tests hand in another.

Every wait of the kernel (deadlines, backoff, timeouts, timers) goes through the runtime's clock and no other.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """Do not make the call. Harmless when it was made."""
        ...


class Clock(Protocol):
    """Where the kernel gets its time."""

    def now(self) -> float:
        """Seconds, monotonic, with an arbitrary beginning."""
        ...

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once, on the event loop, when `now()` has reached `when`."""
        ...


class SystemClock:
    """The machine's monotonic clock and the running event loop's timers."""

    now = staticmethod(time.monotonic)

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """See `Clock.call_at`. Must be called on the event loop."""
        return _LoopTimer(asyncio.get_running_loop(), when, callback)


class _LoopTimer:
    """A timer that is never early: uvloop rounds to whole milliseconds, so the clock is asked once more when it fires."""

    __slots__ = ("_callback", "_handle", "_loop", "_when")

    def __init__(self, loop: asyncio.AbstractEventLoop, when: float, callback: Callable[[], object]) -> None:
        self._loop = loop
        self._when = when
        self._callback = callback
        self._handle = loop.call_later(max(0.0, when - time.monotonic()), self._fire)

    def cancel(self) -> None:
        """See `Timer.cancel`."""
        self._handle.cancel()

    def _fire(self) -> None:
        early = self._when - time.monotonic()
        if early > 0:
            self._handle = self._loop.call_later(max(early, 0.001), self._fire)
        else:
            self._callback()


async def sleep(clock: Clock, seconds: float) -> None:
    """Wait on that clock."""
    due: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not due.done():
            due.set_result(None)

    timer = clock.call_at(clock.now() + seconds, wake)
    try:
        await due
    finally:
        timer.cancel()
