"""Chronicle: what has happened in one gateway lately, numbered, for everybody who watches it.

A ring, bounded in entries and in bytes, written once however many watch, and nothing where nobody does. Above:
`routes/newsroom.py` writes, streams read. It is no journal: nothing of it is stored, and whoever comes too late is told that
something is missing, and reads anew.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from portico.runs.printing import printed

if TYPE_CHECKING:
    from collections.abc import Mapping

SIZE: Final = 10_000
"""How many entries are kept: of the last ten seconds where a thousand come each second."""
ROOM: Final = 16 * 1024 * 1024
"""Bytes of data that are kept: the figures of a second may tell of a thousand agents."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened."""

    number: int
    topic: str
    name: str
    text: bytes
    """Its data as JSON."""


class Chronicle:
    """The entries of one life of a gateway. `life`: its id. `size`: how many are kept. `room`: bytes of data that are kept."""

    def __init__(self, life: str, size: int = SIZE, room: int = ROOM) -> None:
        self.life = life
        self.last = 0
        """The number of the newest entry."""
        self._entries: deque[Entry] = deque()
        self._size = size
        self._room = room
        self._taken = 0

    def add(self, topic: str, name: str, data: Mapping[str, Any]) -> None:
        """One thing has happened. The newest entry is kept, however long."""
        self.last += 1
        entry = Entry(self.last, topic, name, printed(data))  # as text it takes a fraction of the room of what it is made of
        self._entries.append(entry)
        self._taken += len(entry.text)
        while len(self._entries) > self._size or (self._taken > self._room and len(self._entries) > 1):
            self._taken -= len(self._entries.popleft().text)

    def break_off(self) -> None:
        """What happened since the last entry was not written: whoever was here before misses something."""
        self._entries.clear()
        self._taken = 0
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
