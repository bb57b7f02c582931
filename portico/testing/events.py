"""collect_events: what the kernel tells while a test goes on, as a list."""

from __future__ import annotations

from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

    from portico.kernel.events import KernelEvent
    from portico.kernel.messages import Message
    from portico.kernel.runtime import Runtime


class Collector:
    """An `Observer` that keeps the events of a pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.events: list[KernelEvent] = []
        """What it has heard, the oldest first."""

    def event(self, event: KernelEvent) -> None:
        """See `Observer.event`."""
        if fnmatchcase(event.kind.value, self._pattern):
            self.events.append(event)

    def handling(self, message: Message) -> None:
        """See `Observer.handling`."""


@contextmanager
def collect_events(runtime: Runtime, pattern: str = "*") -> Generator[list[KernelEvent]]:
    """The kernel events of a runtime whose kind matches a glob (`process.*`), in a list that grows as they happen."""
    collector = Collector(pattern)
    observers = runtime.services.observers
    observers.append(collector)
    try:
        yield collector.events
    finally:
        observers.remove(collector)
