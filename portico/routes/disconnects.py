"""Disconnects: notices that a client went away while its ask is handled, and cancels the ask.

Most asks are over before anybody could leave, so they must not pay for a task of their own: each only signs a list, and a sweep
every `SWEEP` seconds starts a watcher for those that are still there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import Receive

    from portico.kernel.router import Router
    from portico.runs.call import Call

SWEEP = 0.025
"""Seconds between two looks at the list. Each ask is watched after one to two of them, and so well within 100 ms."""


class Watch:
    """One ask whose client may leave."""

    __slots__ = ("_list", "asking", "call", "left", "receive", "watcher")

    def __init__(self, call: Call, receive: Receive, list_: dict[Watch, None], asking: asyncio.Task[Any] | None) -> None:
        self.call = call
        self.asking = asking
        self.receive = receive
        self.watcher: asyncio.Task[None] | None = None
        self.left = False
        self._list = list_

    def end(self) -> None:
        """The ask is over."""
        self._list.pop(self, None)
        if self.watcher is not None:
            self.watcher.cancel()


class Disconnects:
    """All asks in flight."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._new: dict[Watch, None] = {}
        self._sweeper: asyncio.Task[None] | None = None

    def watch(self, call: Call, receive: Receive, asking: asyncio.Task[Any] | None = None) -> Watch:
        """Watch the client of an ask; when it leaves, `left` is set, and the ask is cancelled. Call `end()` afterwards.

        `asking`: the task that waits for the reply, where with it everything ends; by default the run alone is cancelled.
        """
        watch = Watch(call, receive, self._new, asking)
        self._new[watch] = None
        if (self._sweeper is None or self._sweeper.done()) and self._router.tasks is not None:
            self._sweeper = self._router.start_task(self._sweep(), "disconnects")
        return watch

    async def _sweep(self) -> None:
        """Until the list is empty; the next ask starts another."""
        while self._new:
            old = list(self._new)
            await asyncio.sleep(SWEEP)
            for watch in old:
                if watch in self._new:
                    del self._new[watch]
                    watch.watcher = self._router.start_task(self._await_disconnect(watch), "disconnect")

    async def _await_disconnect(self, watch: Watch) -> None:
        await until_left(watch.receive)
        watch.left = True
        if watch.asking is not None:
            watch.asking.cancel()
        elif watch.call.run is not None:
            watch.call.run.cancel("Its caller went away.")


async def until_left(receive: Receive) -> None:
    """Until the client has left; more of its body is read and forgotten."""
    while (await receive())["type"] != "http.disconnect":
        pass
