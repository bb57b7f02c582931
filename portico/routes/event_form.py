"""EventForm: how the events of a run look on the wire. One file for each form, behind this port.

Above: the stream, which follows the run and knows no form. What is no event of the journal (a gap, the drain, an error) is a note:
it has no number, and nobody can go on after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from portico.runs.event import Event


class EventForm(Protocol):
    """Prints events. What it prints for one event is the same for every reader, so that the last is kept for the next of them."""

    @property
    def media_type(self) -> str:
        """Of the whole response."""
        ...

    @property
    def ping(self) -> bytes:
        """What says that the stream lives while nothing happens."""
        ...

    def opening(self, run_id: str) -> bytes:
        """What comes before everything else."""
        ...

    def event(self, event: Event) -> bytes:
        """One event."""
        ...

    def ending(self, event: Event, problem: Any) -> bytes:
        """The last event of a run that went wrong: its data is the problem, as this reader's request has it."""
        ...

    def numbered(self, number: str, name: str, data: bytes) -> bytes:
        """One that has an id, though it is none of a run. `data`: JSON text."""
        ...

    def note(self, name: str, data: Any) -> bytes:
        """What is no event of the run."""
        ...
