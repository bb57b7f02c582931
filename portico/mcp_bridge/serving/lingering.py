"""Lingering: of many calls that are answered directly, those that are still there after a moment.

Most are over at once, and pay only for an entry in a list; a look at it every `SWEEP` seconds finds the others.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from portico.runs.dispatcher import Dispatcher

SWEEP: Final = 0.025
"""Seconds between two looks at the list; whatever is in it is found after one to two of them."""


class Lingerer(Protocol):
    """What can take long."""

    def linger(self) -> None:
        """It does."""
        ...


class Lingering:
    """All in flight."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        """Who makes the calls, and hands over those that take long."""
        self._router = dispatcher.runtime.router
        self._new: dict[Lingerer, None] = {}
        self._sweeper: asyncio.Task[Any] | None = None

    def enter(self, call: Lingerer) -> None:
        """A call begins."""
        self._new[call] = None
        if (self._sweeper is None or self._sweeper.done()) and self._router.tasks is not None:
            self._sweeper = self._router.start_task(self._sweep(), "mcp-calls")

    def leave(self, call: Lingerer) -> None:
        """It is over."""
        self._new.pop(call, None)

    async def _sweep(self) -> None:
        """Until the list is empty; the next call starts another."""
        while self._new:
            old = list(self._new)
            await asyncio.sleep(SWEEP)
            for call in old:
                if call in self._new:
                    del self._new[call]
                    call.linger()
