"""ServerSentEvents: `text/event-stream` (WHATWG HTML §9.2), which browsers read as an `EventSource`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from portico.runs.printing import printed
from portico.runs.run_view import rfc3339

if TYPE_CHECKING:
    from portico.runs.event import Event

EVENT_STREAM: Final = "text/event-stream"


class ServerSentEvents:
    """An `EventForm`. The number of an event is its `id`, which a browser sends back as `Last-Event-ID`."""

    def __init__(self) -> None:
        self.media_type: Final = EVENT_STREAM
        self.ping: Final = b": ping\n\n"
        self._last: tuple[Event, bytes] | None = None

    def opening(self, run_id: str) -> bytes:
        """A comment: some clients believe that a stream is open only when they have read something."""
        return b": stream of run %s\n\n" % run_id.encode()

    def event(self, event: Event) -> bytes:
        """One event."""
        if self._last is None or self._last[0] is not event:
            self._last = (event, self.ending(event, event.data))
        return self._last[1]

    def ending(self, event: Event, problem: Any) -> bytes:
        """One event, with this data."""
        name = " ".join(event.type.splitlines()).encode(errors="replace")  # agents choose these
        at = rfc3339(event.timestamp).encode()
        return b'id: %d\nevent: %s\ndata: {"seq":%d,"at":"%s","data":%s}\n\n' % (event.seq, name, event.seq, at, printed(problem))

    def numbered(self, number: str, name: str, data: bytes) -> bytes:
        """An event with this id."""
        return b"id: %s\nevent: %s\ndata: %s\n\n" % (number.encode(), name.encode(), data)

    def note(self, name: str, data: Any) -> bytes:
        """An event without an id."""
        return b"event: %s\ndata: %s\n\n" % (name.encode(), printed(data))
