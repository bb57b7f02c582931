"""Chronicle: what has happened in one gateway lately, numbered, for everybody who watches it.

A ring of bounded size, written once however many watch, and nothing where nobody does. Above: `routes/newsroom.py` writes, streams
read. It is no journal: nothing of it is stored, and whoever comes too late is told that something is missing, and reads anew.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from portico.runs.printing import printed

if TYPE_CHECKING:
    from collections.abc import Mapping

SIZE: Final = 10_000
"""How many entries are kept: of the last ten seconds where a thousand come each second."""


class Entry:
    """One thing that happened."""

    __slots__ = ("_text", "data", "name", "number", "topic")

    def __init__(self, number: int, topic: str, name: str, data: Mapping[str, Any]) -> None:
        self.number = number
        self.topic = topic
        self.name = name
        self.data = data
        self._text: bytes | None = None

    @property
    def text(self) -> bytes:
        """Its data as JSON: printed for the first who reads it."""
        if self._text is None:
            self._text = printed(self.data)
        return self._text


class Chronicle:
    """The entries of one life of a gateway. `life`: its id. `size`: how many are kept."""

    def __init__(self, life: str, size: int = SIZE) -> None:
        self.life = life
        self.last = 0
        """The number of the newest entry."""
        self._entries: deque[Entry] = deque(maxlen=size)

    def add(self, topic: str, name: str, data: Mapping[str, Any]) -> None:
        """One thing has happened."""
        self.last += 1
        self._entries.append(Entry(self.last, topic, name, data))

    def break_off(self) -> None:
        """What happened since the last entry was not written: whoever was here before misses something."""
        self._entries.clear()
        self.last += 1

    def after(self, number: int) -> list[Entry] | None:
        """The entries with higher numbers, the oldest first; None where some of those are not kept, or never were."""
        missing = self.last - number
        if missing <= 0:
            return []
        if missing > len(self._entries):
            return None
        found = list(islice(reversed(self._entries), missing))
        found.reverse()
        return found
