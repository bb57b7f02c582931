"""Replay: tells whether what a handler emits was emitted before, when its message is handled again.

A run is handled again after a crash, and when what it waited for has come. Its handler then emits the same events from the
beginning. Those are not written twice: as long as they are equal, one after another, they are the ones that are there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from portico.runs.event import Event, EventName

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 10_000
"""How many events of one source are compared one by one; of the earlier ones only the number is kept."""


class _Source:
    """What one handling emits: the run's own, that of something it asked, or one of its steps."""

    __slots__ = ("at", "dropped", "events")

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.dropped = 0
        self.at = 0

    def add(self, event_type: str, data: Any) -> None:
        """It was emitted for the first time."""
        self.events.append((event_type, data))
        if len(self.events) > MOST:
            cut = MOST // 10
            del self.events[:cut]
            self.dropped += cut
        self.at = self.dropped + len(self.events)

    def expects(self, event_type: str, data: Any) -> bool | None:
        """Whether this is what comes next; None where nothing was emitted after what has come already."""
        index = self.at - self.dropped
        if index >= len(self.events):
            return None
        if index < 0:
            return True
        before, known = self.events[index]
        return before == event_type and same(known, data)


class Replay:
    """All sources of one run."""

    __slots__ = ("_sources",)

    def __init__(self, events: Iterable[Event] = ()) -> None:
        """`events`: those that are there already, of an earlier life of the program."""
        self._sources: dict[str, _Source] = {}
        for event in events:
            if event.type in (EventName.RESTARTED, EventName.TRANSFERRED) and event.source is None:
                self._sources.clear()
            elif event.source is not None:
                self._of(event.source).add(event.type, event.data)
        self.rewind()

    def rewind(self) -> None:
        """A handling begins again."""
        for source in self._sources.values():
            source.at = 0

    def knows(self, source: str, event_type: str, data: Any) -> bool | None:
        """Whether this very event is there already; None where it is new; False where the handling goes another way than before."""
        found = self._of(source)
        known = found.expects(event_type, data)
        if known:
            found.at += 1
        return known

    def add(self, source: str, event_type: str, data: Any) -> None:
        """A new event."""
        self._of(source).add(event_type, data)

    def skip(self, name: str) -> None:
        """What that source, and whatever it asked, emitted stands, and does not come again."""
        for other, source in self._sources.items():
            if other == name or other.startswith((f"{name}/", f"{name}!")):
                source.at = source.dropped + len(source.events)

    def turn(self) -> list[tuple[str, str, Any]]:
        """The handling goes another way: forget what it emitted before. Returns what has come again, which now counts anew."""
        again = [
            (name, event_type, data)
            for name, source in self._sources.items()
            for event_type, data in source.events[: max(0, source.at - source.dropped)]
        ]
        self._sources.clear()
        return again

    def _of(self, name: str) -> _Source:
        source = self._sources.get(name)
        if source is None:
            source = self._sources[name] = _Source()
        return source


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON data."""
    if one is other:
        return True
    try:
        return to_json(one, fallback=str) == to_json(other, fallback=str)
    except ValueError:
        return False
