"""JsonLines: one JSON object per line, `application/jsonl` or `application/x-ndjson`. Every line is one, heartbeats too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from portico.runs.printing import printed
from portico.runs.run_view import event_line

if TYPE_CHECKING:
    from portico.runs.event import Event

JSON_LINES: Final = ("application/jsonl", "application/x-ndjson")
"""What it is called; both mean the same."""


class JsonLines:
    """An `EventForm`: `{"seq", "type", "at", "data"}`; what is no event of the run has no `seq`."""

    def __init__(self, media_type: str) -> None:
        self.media_type: Final = media_type
        self.ping: Final = b'{"type":"ping"}\n'
        self._last: tuple[Event, bytes] | None = None

    def opening(self, run_id: str) -> bytes:  # noqa: ARG002  # the response's Location names it
        """Nothing: there are no comments."""
        return b""

    def event(self, event: Event) -> bytes:
        """One event."""
        if self._last is None or self._last[0] is not event:
            self._last = (event, self.ending(event, event.data))
        return self._last[1]

    def ending(self, event: Event, problem: Any) -> bytes:
        """One event, with this data."""
        return event_line(event, problem)

    def numbered(self, number: str, name: str, data: bytes) -> bytes:
        """A line with this id."""
        return b'{"id":%s,"type":%s,"data":%s}\n' % (printed(number), printed(name), data)

    def note(self, name: str, data: Any) -> bytes:
        """A line without a number."""
        return b'{"type":%s,"data":%s}\n' % (printed(name), printed(data))
