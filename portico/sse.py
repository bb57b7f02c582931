"""EventDecoder: server-sent events (WHATWG HTML §9.2.6). Bytes in, events out; no input or output of its own.

Above: whoever reads a stream: model providers, the client, the command line. It knows nothing of what the events mean.
A line ends with a line feed, a carriage return, or both, and with nothing else: `httpx.Response.iter_lines` also splits at U+2028
and its like, which JSON texts may hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LONGEST: Final = 16 * 1024 * 1024
"""The bytes that one event may have."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event."""

    data: str
    """Its lines of data, joined by line feeds."""
    name: str = "message"
    """Its `event` field."""
    id: str | None = None
    """Its own `id` field; None where it has none, also where an earlier event had one."""


class EventDecoder:
    """Collects the fields of each event. Comments, unknown fields, and events without data are passed over."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._data: list[str] = []
        self._name = ""
        self._id: str | None = None
        self._size = 0
        self._begun = False
        self._returned = False

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that are complete with this chunk.

        Raises:
            ValueError: an event that is too long.
        """
        self._size += len(chunk)
        self._pending += self._with_line_feeds(chunk)
        if b"\n" not in self._pending:
            self._check_size()
            return []
        *lines, rest = self._pending.split(b"\n")
        self._pending = rest
        events = [event for line in lines for event in self._take(line)]
        self._check_size()
        return events

    def end(self) -> list[ServerSentEvent]:
        """The last event, where nothing marks its end: a browser would drop it, and some model APIs end so."""
        last = self._take(self._pending) if self._pending else []
        self._pending = bytearray()
        return [*last, *self._take(b"")]

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        """The chunk with a line feed for each end of a line. A pair of both may be cut in two by the end of a chunk."""
        if self._returned and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._returned = False
        if b"\r" not in chunk:
            return chunk
        self._returned = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _take(self, raw: bytes | bytearray) -> list[ServerSentEvent]:
        line = raw.decode(errors="replace")
        if not self._begun:
            line, self._begun = line.removeprefix("\ufeff"), True
        if not line:
            return self._dispatched()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._name = value
            case "id" if "\0" not in value:
                self._id = value
            case _:  # a comment has no name; `retry` and what is unknown say nothing to us
                pass
        return []

    def _dispatched(self) -> list[ServerSentEvent]:
        event = ServerSentEvent("\n".join(self._data), self._name or "message", self._id)
        whole = bool(self._data)
        self._data, self._name, self._id, self._size = [], "", None, len(self._pending)
        return [event] if whole else []

    def _check_size(self) -> None:
        if self._size > LONGEST:
            raise ValueError(f"an event of its answer has more than {LONGEST} bytes")
