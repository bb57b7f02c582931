"""DiskThread: touches the disk for the event loop, one call after the other. What was given up is over before the next begins.

Where the disk hangs, nobody waits for it, the end of the program neither: that is why it is no `ThreadPoolExecutor`, whose threads
the interpreter joins.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")

MOST: Final = 8
"""How many calls wait at most: those before the last were given up."""


class DiskThread:
    """See the module. It begins at once, and ends with `end`. `last`: what it does then, whoever waits for it."""

    def __init__(self, name: str, last: Callable[[], object]) -> None:
        self._last = last
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._ended: Future[None] = Future()
        self.ending = False
        """Whether it takes no more calls."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def hangs(self) -> bool:
        """Whether it was to end, and what it did then still goes on."""
        return self.ending and self._thread.is_alive()

    async def call(self, do: Callable[..., Result], *values: Any) -> Result:
        """Call `do(*values)` there. Raises what it raises, and `TimeoutError` where too much waits already."""
        if self._calls.qsize() >= MOST:
            raise TimeoutError("the disk hangs")
        done: Future[Result] = Future()
        self._calls.put((done, lambda: do(*values)))
        return await asyncio.wrap_future(done)

    async def end(self) -> None:
        """Let it end when what waits is done. It does so too where this is cancelled."""
        self.ending = True
        self._calls.put(None)
        await asyncio.wrap_future(self._ended)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            done, do = call
            if done.set_running_or_notify_cancel():
                _settle(done, do)
            del call, done, do  # nothing is held while it waits
        if self._ended.set_running_or_notify_cancel():
            _settle(self._ended, self._last)
        else:
            self._last()


def _settle(done: Future[Any], do: Callable[[], Any]) -> None:
    try:
        result = do()
    except BaseException as error:  # noqa: BLE001  # whoever waits gets it
        done.set_exception(error)
    else:
        done.set_result(result)
