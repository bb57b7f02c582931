"""Lifecycle: where a process can be in its life, and which step may follow which.

Every step goes through `move`, which refuses one that the table does not have and tells the observers of the others.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from portico.errors import IllegalTransition
from portico.kernel.events import EventKind

if TYPE_CHECKING:
    from portico.kernel.process import AgentProcess
    from portico.kernel.router import Router


class ProcessStatus(StrEnum):
    """Where a process is in its life."""

    CREATED = "created"
    """Made, not started."""
    STARTING = "starting"
    """In `on_start`."""
    RUNNING = "running"
    """Takes messages."""
    WAITING = "waiting"
    """Takes messages, and owes a reply that it has deferred: to somebody's answer, say."""
    SUSPENDED = "suspended"
    """Takes no messages until it is resumed."""
    RESTARTING = "restarting"
    """Its last incarnation ended; the next one is on its way."""
    STOPPING = "stopping"
    """Finishes the message in hand, then runs `on_stop`."""
    STOPPED = "stopped"
    """Ended as somebody wanted."""
    FAILED = "failed"
    """Ended for good as nobody wanted, or ignores its cancellation."""


_ENDS: Final = frozenset({ProcessStatus.RESTARTING, ProcessStatus.STOPPED, ProcessStatus.FAILED})
_LIVES: Final = frozenset({ProcessStatus.RUNNING, ProcessStatus.WAITING, ProcessStatus.SUSPENDED, ProcessStatus.STOPPING})

TRANSITIONS: Final = {
    ProcessStatus.CREATED: frozenset({ProcessStatus.STARTING, ProcessStatus.STOPPED, ProcessStatus.FAILED}),
    ProcessStatus.STARTING: frozenset({ProcessStatus.RUNNING, ProcessStatus.SUSPENDED, ProcessStatus.STOPPING}) | _ENDS,
    ProcessStatus.RUNNING: _LIVES | _ENDS,
    ProcessStatus.WAITING: _LIVES | _ENDS,
    ProcessStatus.SUSPENDED: _LIVES | _ENDS,
    ProcessStatus.STOPPING: _ENDS,
    # The end of an instance, not of its name: the next incarnation is another instance and begins as `created`.
    ProcessStatus.RESTARTING: frozenset({ProcessStatus.STOPPED, ProcessStatus.FAILED}),
    ProcessStatus.STOPPED: frozenset({ProcessStatus.RESTARTING}),
    ProcessStatus.FAILED: frozenset({ProcessStatus.RESTARTING}),
}
"""What may follow each status. What has ended may be replaced: with its group, or a deaf one, or one that did not start."""


def move(process: AgentProcess, status: ProcessStatus, router: Router) -> None:
    """Take a step. Nothing where it is there already.

    Raises:
        IllegalTransition: the table does not have this step.
    """
    before = process.status
    if before is status:
        return
    if status not in TRANSITIONS[before]:
        raise IllegalTransition(process.name, before, status)
    process.status = status
    if router.heard:
        router.emit(EventKind.PROCESS_STATUS, process.name, before=before.value, status=status.value)
