"""GivingWay: lets a store's threads run beside a busy event loop.

A loop that is never idle lets go of the interpreter's lock for microseconds only, too short for a thread that waits for it to wake
up: a transaction would wait until the loop has nothing to do (https://bugs.python.org/issue7946). So as long as somebody waits for
a thread, the loop stands aside for a moment every few milliseconds.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Final

EVERY: Final = 0.002
"""Seconds between two moments."""
MOMENT: Final = 0.00005
"""Seconds, at least, for which the loop stands aside: enough for a thread to wake up."""
TURN: Final = 0.001
"""Seconds, at most, for which the loop stands aside where a thread is at work."""


class GivingWay:
    """Belongs to one event loop, and to the threads that work for it."""

    def __init__(self) -> None:
        self.at_work = threading.Lock()
        """Held by a thread as long as it needs the interpreter, and not while it waits for the disk."""
        self._loop = asyncio.get_running_loop()
        self._waiting = 0
        self._armed = False

    def wait(self, count: int = 1) -> None:
        """Somebody waits for a thread. On the event loop."""
        self._waiting += count
        if not self._armed:
            self._armed = True
            self._loop.call_later(EVERY, self._stand_aside)

    def done(self, count: int = 1) -> None:
        """Somebody waits no more. On the event loop."""
        self._waiting -= count

    def _stand_aside(self) -> None:
        if self._waiting <= 0:
            self._armed = False
            return
        if self.at_work.acquire(timeout=0):
            self.at_work.release()
            time.sleep(MOMENT)
        elif self.at_work.acquire(timeout=TURN):
            self.at_work.release()
        self._loop.call_later(EVERY, self._stand_aside)
