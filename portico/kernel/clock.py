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
        return asyncio.get_running_loop().call_later(max(0.0, when - time.monotonic()), callback)


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
