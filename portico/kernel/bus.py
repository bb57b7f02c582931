"""Bus: publish and subscribe inside one runtime. Subjects are dotted words, patterns are globs.

A publisher never waits: each subscription has a bounded buffer, and one that falls behind is told how many it missed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Published(NamedTuple):
    """One thing that was published."""

    subject: str
    data: Any
    missed: int
    """How many before it this subscription lost because its buffer was full."""


class Subscription:
    """An async iterator over what is published under a pattern: `async with bus.subscribe("process.*") as events:`."""

    def __init__(self, bus: Bus, pattern: str, buffer: int) -> None:
        self.pattern = pattern
        self._bus = bus
        self._buffer: deque[Published] = deque()
        self._limit = buffer
        self._missed = 0
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None

    def offer(self, subject: str, data: Any) -> None:
        """Called by the bus: take one thing, in place of the oldest where the buffer is full."""
        if len(self._buffer) >= self._limit:
            self._buffer.popleft()
            self._missed += 1
        self._buffer.append(Published(subject, data, 0))
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Take no more; what was taken can still be read, then the iteration ends."""
        self._closed = True
        self._bus.unsubscribe(self)
        self._wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Published:
        while not self._buffer:
            if self._closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        missed, self._missed = self._missed, 0
        return self._buffer.popleft()._replace(missed=missed)


class Listener:
    """Calls a function for each that is published under a pattern, at once: it must be quick, and never raise."""

    def __init__(self, bus: Bus, pattern: str, function: Callable[[str, Any], object]) -> None:
        self.pattern = pattern
        self.offer = function
        """Called by the bus."""
        self._bus = bus

    def close(self) -> None:
        """Call it no more."""
        self._bus.unsubscribe(self)


class Bus:
    """Who listens to what."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription | Listener] = []

    @property
    def has_subscriptions(self) -> bool:
        """Whether anybody listens to anything."""
        return bool(self._subscriptions)

    def subscribe(self, pattern: str = "*", *, buffer: int = 1000) -> Subscription:
        """Listen to the subjects that match a glob. `buffer`: how many may wait unread before the oldest is lost."""
        subscription = Subscription(self, pattern, buffer)
        self._subscriptions.append(subscription)
        return subscription

    def listen(self, pattern: str, function: Callable[[str, Any], object]) -> Listener:
        """Have `function(subject, data)` called for what matches a glob, while it happens. Nothing is lost, and nothing waits."""
        listener = Listener(self, pattern, function)
        self._subscriptions.append(listener)
        return listener

    def unsubscribe(self, subscription: Subscription | Listener) -> None:
        """Stop listening. Harmless when it has stopped."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def publish(self, subject: str, data: Any) -> None:
        """Hand `data` to everybody who listens to `subject`. Never waits."""
        for subscription in self._subscriptions:
            if fnmatchcase(subject, subscription.pattern):
                subscription.offer(subject, data)
