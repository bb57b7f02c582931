"""Lingering: of many calls that are answered directly, those that are still there after a moment.

Most are over at once, and pay only for an entry in a list; a look at it every `SWEEP` seconds finds the others. A call that waits
for its turn at a busy agent costs a look each time, and nothing else: it can ask nobody anything yet.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from portico.runs.status import RunStatus

if TYPE_CHECKING:
    from portico.runs.dispatcher import Dispatcher
    from portico.runs.run import Run

SWEEP: Final = 0.05
"""Seconds between two looks at the list; whatever is in it is found after one to two of them."""
LONGEST_TURN: Final = 1.0
"""Seconds after which a call is found though its turn has not come: its client may have left."""


class Lingerer(Protocol):
    """What can take long."""

    @property
    def run(self) -> Run | None:
        """What becomes of it."""
        ...

    def linger(self) -> None:
        """It takes long."""
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
            latest = time.time() - LONGEST_TURN
            for call in old:
                if call in self._new and not _waits_for_its_turn(call.run, latest):
                    del self._new[call]
                    call.linger()


def _waits_for_its_turn(run: Run | None, latest: float) -> bool:
    """Whether a run is in its agent's mailbox, and was made after `latest`."""
    return run is not None and run.status is RunStatus.QUEUED and run.created > latest
