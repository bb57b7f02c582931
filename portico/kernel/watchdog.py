"""Watchdog: a thread that notices when something blocks the event loop, and says which process and which handler it is.

A blocked loop stalls every agent, and nothing on it can tell. The thread asks the loop for a sign of life; where none comes in
time it looks at the stack of the loop's thread, which costs the handlers nothing. It measures the machine, so it goes by the
machine's clock and not by the runtime's.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from portico.kernel.events import EventKind
from portico.kernel.receiver import Receiver

if TYPE_CHECKING:
    from types import FrameType

    from portico.kernel.router import Router

logger = logging.getLogger("portico.kernel")

STACK_DEPTH: Final = 20
"""How many of the innermost frames are told."""

MOST_CULPRITS: Final = 1000
"""How many processes are counted by name."""

_RECEIVE: Final = Receiver.receive.__code__


class Culprit(NamedTuple):
    """Who blocks the loop."""

    process: str
    """The name of the process; empty where no handler runs: a task of its own, or code that is none of ours."""
    handler: str
    """The function that was called, as `module.Class.method`; the innermost one where no handler runs."""
    stack: str
    """Where it stands, the innermost frame last."""


@dataclass(slots=True)
class Stalls:
    """What one process has cost the others."""

    count: int = 0
    """How often it blocked the loop for longer than the watchdog's limit."""
    seconds: float = 0.0
    """How long, together."""


class Watchdog:
    """Watches one loop. `limit`: seconds that it may stand still; None watches nothing."""

    def __init__(self, router: Router, limit: float | None) -> None:
        self._router = router
        self._limit = limit
        self._over = threading.Event()
        self.stalls: dict[str, Stalls] = {}
        """How often the loop stood still, and how long, by the process that blocked it; empty for code that is no handler's."""

    def start(self) -> None:
        """Watch the running loop, until `stop()`."""
        if self._limit is not None:
            self._over = threading.Event()
            watch = _Watch(self, self._router, asyncio.get_running_loop(), threading.get_ident(), self._limit, self._over)
            threading.Thread(target=watch.run, name="portico-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer. Waits for nobody."""
        self._over.set()

    def stalled(self, process: str, seconds: float) -> None:
        """Count one. Called on the loop, when it moves again."""
        name = process if process in self.stalls or len(self.stalls) < MOST_CULPRITS else ""
        stalls = self.stalls.setdefault(name, Stalls())
        stalls.count += 1
        stalls.seconds += seconds


class _Watch:
    """The thread's side."""

    def __init__(
        self,
        watchdog: Watchdog,
        router: Router,
        loop: asyncio.AbstractEventLoop,
        thread: int,
        limit: float,
        over: threading.Event,
    ) -> None:
        self._watchdog = watchdog
        self._router = router
        self._loop = loop
        self._thread = thread
        self._limit = limit
        self._over = over

    def run(self) -> None:
        while not self._over.wait(self._limit / 2):
            alive, asked_at = threading.Event(), time.monotonic()
            try:
                self._loop.call_soon_threadsafe(alive.set)
            except RuntimeError:
                return  # the loop is closed
            if not alive.wait(self._limit) and not self._over.is_set():
                self._blocked(alive, asked_at)

    def _blocked(self, alive: threading.Event, asked_at: float) -> None:
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # documented
        if frame is None:
            return
        culprit = culprit_of(frame, self._router)
        whose = f"process {culprit.process!r}, {culprit.handler}" if culprit.process else culprit.handler
        logger.warning("the event loop has stood still for %g s in %s\n%s", self._limit, whose, culprit.stack)
        while not alive.wait(self._limit) and not self._over.is_set():
            pass
        seconds = time.monotonic() - asked_at

        def tell() -> None:
            self._watchdog.stalled(culprit.process, seconds)
            data = {"handler": culprit.handler, "seconds": seconds, "stack": culprit.stack}
            self._router.emit(EventKind.PROCESS_BLOCKING, culprit.process, **data)

        try:
            self._loop.call_soon_threadsafe(tell)
        except RuntimeError:
            return  # the loop is closed


def culprit_of(frame: FrameType, router: Router) -> Culprit:
    """Who runs in a stack whose innermost frame this is. A process of another runtime on the same loop has no name here."""
    stack = "".join(traceback.format_stack(frame, STACK_DEPTH))
    inner: FrameType | None = None
    innermost, at = frame, frame
    while True:
        if at.f_code is _RECEIVE:
            life = at.f_locals["life"]
            return Culprit(life.name if life.router is router else "", _named(_handler(inner or innermost, innermost)), stack)
        inner = at
        if at.f_back is None:
            return Culprit("", _named(innermost), stack)
        at = at.f_back


def _handler(called: FrameType, innermost: FrameType) -> FrameType:
    """The user's function: what `receive` called, or the first frame inward that is not the kernel's or an operation's."""
    chain: list[FrameType] = []
    at: FrameType | None = innermost
    while at is not None:
        chain.append(at)
        if at is called:
            break
        at = at.f_back
    ours = ("portico.kernel.", "portico.operations.")
    return next((f for f in reversed(chain) if not str(f.f_globals.get("__name__", "")).startswith(ours)), called)


def _named(frame: FrameType) -> str:
    return f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{frame.f_lineno})"
