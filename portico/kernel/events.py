"""What the kernel tells its observers: plain records of what happened, no policy.

Emitted by supervision, incarnations and the router; read by observers (telemetry, the page, tests) through the bus.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class EventKind(StrEnum):
    """The kinds of kernel events; also the subjects under which the bus publishes them."""

    PROCESS_STARTED = "process.started"
    """An incarnation has run its `on_start` and takes messages."""
    PROCESS_CRASHED = "process.crashed"
    """An incarnation ended with an exception that its handler raised."""
    PROCESS_RESTARTED = "process.restarted"
    """A later incarnation took over the mailbox."""
    PROCESS_STOPPED = "process.stopped"
    """A process ended because it, or somebody, wanted it to."""
    PROCESS_FAILED = "process.failed"
    """A process ended for good without wanting to."""
    PROCESS_STATUS = "process.status"
    """A process took a step of its lifecycle: `before` and `status`."""
    PROCESS_DRAINING = "process.draining"
    """A process takes nothing new, and works off what waits: `reason`. Then it is suspended."""
    PROCESS_BLOCKING = "process.blocking"
    """The event loop stood still: `handler`, `seconds`, `stack`. Told when it moves again."""
    PROCESS_REPLACED = "process.replaced"
    """Another class took over the mailbox: `before` and `now`."""
    SUPERVISOR_REPORT = "supervisor.report"
    """A supervisor acted; `data` has OTP's four fields."""
    RESOURCE_UPDATED = "resource.updated"
    """What an agent lets read at an address is another now: `uri`."""
    DEAD_LETTER = "message.dead_letter"
    """A message will not be delivered (again); `data` says why."""
    MESSAGE_EXPIRED = "message.expired"
    """A message's deadline had passed before its handling began."""


@dataclass(frozen=True, slots=True)
class KernelEvent:
    """One thing that happened."""

    kind: EventKind
    """What happened."""
    name: str
    """To which process."""
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The particulars: JSON-able, except for `error` (an exception)."""
    timestamp: float = field(default_factory=time.time)
    """When: seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class SupervisorReport:
    """A supervisor's report always has the same four fields, as in OTP's `supervisor_report`."""

    supervisor: str
    """Who reports."""
    context: str
    """What it was doing: `start_error`, `child_terminated`, `shutdown_error` or `shutdown`."""
    reason: str
    """Why."""
    offender: str
    """Which child."""

    def __str__(self) -> str:
        return f"supervisor {self.supervisor!r}: {self.context}: {self.reason} (child {self.offender!r})"
