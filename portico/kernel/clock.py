"""Clock: time as a parameter. `SystemClock` is the real one; tests hand in another.

Every wait of the kernel (deadlines, backoff, timeouts, timers) goes through the runtime's clock and no other. `sleep` and
`timeout` are the waits that handlers and stores need; what asyncio has of that name goes by the event loop's own time.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType


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

    def time(self) -> float:
        """Seconds since the epoch, for what must mean the same after a restart of the program.

        The machine's may be set back: no wait goes by it.
        """
        ...

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once, on the event loop, when `now()` has reached `when`."""
        ...


class SystemClock:
    """The machine's monotonic clock, its calendar, and the running event loop's timers."""

    now = staticmethod(time.monotonic)
    time = staticmethod(time.time)

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


def timeout(clock: Clock, seconds: float | None) -> AbstractAsyncContextManager[None]:
    """Like `asyncio.timeout`, on that clock: an async context manager that cancels its body when the time is up. None: no limit.

    Who cancels the task from outside meanwhile wins: then the cancellation goes on.

    Raises:
        TimeoutError: on leaving the body that the time was up for.
    """
    return _Timeout(clock, seconds)


class _Timeout:
    """One body under a limit."""

    __slots__ = ("_cancelling", "_clock", "_expired", "_seconds", "_task", "_timer")

    def __init__(self, clock: Clock, seconds: float | None) -> None:
        self._clock = clock
        self._seconds = seconds
        self._task: asyncio.Task[object] | None = None
        self._timer: Timer | None = None
        self._cancelling = 0
        self._expired = False

    async def __aenter__(self) -> None:
        if self._seconds is None:
            return
        self._task = asyncio.current_task()
        if self._task is None:
            raise RuntimeError("A timeout needs a task: it has something to cancel.")
        self._cancelling = self._task.cancelling()  # a clean-up may have a limit too, in a task that is cancelled already
        self._timer = self._clock.call_at(self._clock.now() + self._seconds, self._expire)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is None or not self._expired:
            return
        # Our own cancellation is taken back in any case. What is left above the count at the beginning came from outside.
        outside = self._task.uncancel() > self._cancelling
        if isinstance(error, asyncio.CancelledError) and not outside:
            raise TimeoutError from error

    def _expire(self) -> None:
        if self._task is not None:
            self._expired = True
            self._task.cancel()
