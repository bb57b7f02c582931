"""Event: one numbered line of a run's journal. The catalogue of names stands here and nowhere else.

An agent's own events (`ctx.emit`) have any other name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class EventName(StrEnum):
    """The events that Portico itself writes."""

    STARTED = "run.started"
    """The call was accepted and delivered."""
    SUCCEEDED = "run.succeeded"
    """The last event: `data.output` is the reply."""
    FAILED = "run.failed"
    """The last event: `data` is the problem."""
    CANCELLED = "run.cancelled"
    """The last event: somebody cancelled it."""
    TIMED_OUT = "run.timed_out"
    """The last event: its deadline passed."""
    PROGRESS = "progress"
    """How far the work is: `done`, `total`, `note`."""
    DELTA = "delta"
    """A piece of the answer: `text`."""
    TOOL_CALL = "tool.call"
    """A model calls a tool: `id`, `name`, `arguments`."""
    TOOL_RESULT = "tool.result"
    """A tool answered: `id`, `name`, `result` or `error`."""


TERMINAL: Final = frozenset({EventName.SUCCEEDED, EventName.FAILED, EventName.CANCELLED, EventName.TIMED_OUT})
"""After one of these, a run has no further event."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the journal."""

    seq: int
    """1 for a run's first event; without gaps."""
    type: str
    """An `EventName`, or a name that an agent chose."""
    data: Any
    """JSON-able data."""
    timestamp: float
    """Seconds since the epoch."""
