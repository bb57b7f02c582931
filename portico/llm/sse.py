"""EventDecoder: server-sent events as model APIs stream them. Bytes in, the data of each event out; no input or output of its own.

Only line feeds end a line. (`httpx.Response.aiter_lines` also splits at U+2028 and its like, which JSON texts may hold.)
"""

from __future__ import annotations

from typing import Final

LONGEST: Final = 16 * 1024 * 1024
"""The bytes that one event may have."""


class EventDecoder:
    """Collects the `data` of each event; passes over comments and other fields."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[str]:
        """The events that are complete with this chunk.

        Raises:
            ValueError: an event that is too long.
        """
        self._size += len(chunk)
        self._pending += chunk
        if b"\n" not in chunk:
            self._check_size()
            return []
        *lines, rest = self._pending.split(b"\n")
        self._pending = rest
        events = [event for line in lines for event in self._take(line)]
        self._check_size()
        return events

    def end(self) -> list[str]:
        """The last event, where nothing marks its end."""
        last = self._take(self._pending) if self._pending else []
        return [*last, *self._take(b"")]

    def _take(self, raw: bytes | bytearray) -> list[str]:
        line = raw.removesuffix(b"\r").decode(errors="replace")
        if line.startswith("data:"):
            self._data.append(line[5:].removeprefix(" "))
        elif not line:
            event, self._data, self._size = self._data, [], len(self._pending)
            return ["\n".join(event)] if event else []
        return []

    def _check_size(self) -> None:
        if self._size > LONGEST:
            raise ValueError(f"an event of its answer has more than {LONGEST} bytes")
