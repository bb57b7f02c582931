"""RunStatus: where a run is, and which step may follow which."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from portico.errors import IllegalTransition

if TYPE_CHECKING:
    from collections.abc import Mapping


class RunStatus(StrEnum):
    """Where a run is."""

    QUEUED = "queued"
    """Accepted; its handling has not begun."""
    RUNNING = "running"
    """Its handling has begun."""
    WAITING = "waiting"
    """It waits for somebody's input, or for a time; no agent is held up."""
    SUCCEEDED = "succeeded"
    """It has an output."""
    FAILED = "failed"
    """It has an error."""
    CANCELLED = "cancelled"
    """Somebody cancelled it, or its caller left."""
    TIMED_OUT = "timed_out"
    """Its deadline passed."""


ENDS: Final = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.TIMED_OUT})
"""Where nothing follows."""

TRANSITIONS: Final[Mapping[RunStatus, frozenset[RunStatus]]] = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.TIMED_OUT}),
    RunStatus.RUNNING: ENDS | {RunStatus.QUEUED, RunStatus.WAITING},
    RunStatus.WAITING: frozenset({RunStatus.QUEUED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.TIMED_OUT}),
    **dict.fromkeys(ENDS, frozenset[RunStatus]()),
}
"""What may follow. A running one is queued again after a crash, or when another agent is to go on."""


def step(name: str, before: RunStatus, after: RunStatus) -> RunStatus:
    """The status after a step. Raises `IllegalTransition` for one that there is not."""
    if after not in TRANSITIONS[before]:
        raise IllegalTransition(name, before.value, after.value)
    return after
