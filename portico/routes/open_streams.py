"""OpenStreams: the streams of one gateway that are open, whatever their form, and one timer for the heartbeats of them all.

A timer, or a task, per stream would be most of what an idle stream holds. Each only notes when it last wrote; the order of the
notes is the order in which heartbeats are due.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

COARSE = 32
"""Heartbeats that are due within one part in so many of their interval come together."""


class Stream(Protocol):
    """One that is open."""

    def ring(self) -> None:
        """Look again: something has changed."""
        ...

    def beat(self) -> None:
        """Send a heartbeat."""
        ...


class OpenStreams:
    """Those of one face. `ping`: seconds of silence after which a heartbeat is due."""

    def __init__(self, ping: float) -> None:
        self._ping = ping
        self._quiet: dict[Stream, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._quiet)

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._quiet))

    def wrote(self, stream: Stream) -> None:
        """It is open, and has just written something."""
        self._quiet.pop(stream, None)
        loop = asyncio.get_running_loop()
        self._quiet[stream] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._ping, self._look)

    def closed(self, stream: Stream) -> None:
        """It is open no more."""
        self._quiet.pop(stream, None)
        if not self._quiet and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def ring(self) -> None:
        """Have all of them look again."""
        for stream in self:
            stream.ring()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now, self._timer = loop.time(), None
        due: list[Stream] = []
        for stream, wrote in self._quiet.items():
            if wrote + self._ping > now:
                break
            due.append(stream)
        for stream in due:
            self._quiet.pop(stream)
            self._quiet[stream] = now  # one that cannot write is asked again after as long a time
            stream.beat()
        if self._quiet:
            oldest = next(iter(self._quiet.values()))
            self._timer = loop.call_at(max(oldest + self._ping, now + self._ping / COARSE), self._look)
