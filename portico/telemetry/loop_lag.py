"""LoopLag: how late the event loop is. A timer of its own notices what every other timer and socket suffers.

Above: `metrics.py` shows it. The kernel's watchdog says who blocks the loop; this says only how much.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

EVERY: Final = 0.5
"""Seconds between two looks."""
REMEMBERED: Final = 120
"""How many looks are remembered: a minute of them, so that every scraper sees every pause, however many there are."""


class LoopLag:
    """Watches the running loop from `start()` to `stop()`."""

    def __init__(self) -> None:
        self._late: deque[float] = deque(maxlen=REMEMBERED)
        self._timer: asyncio.TimerHandle | None = None

    @property
    def worst(self) -> float:
        """The seconds by which the loop was late, at its worst within the last minute."""
        return max(self._late, default=0.0)

    @property
    def latest(self) -> float:
        """The same, within the last second."""
        return max(list(self._late)[-2:], default=0.0)

    def start(self) -> None:
        """Watch."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(EVERY, self._look, loop, loop.time() + EVERY)

    def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        self._late.append(max(0.0, now - due))
        self._timer = loop.call_later(EVERY, self._look, loop, now + EVERY)
