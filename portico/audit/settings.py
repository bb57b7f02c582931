"""AuditSettings: what is recorded, how long it is kept, and where else it goes. Plain data, checked; the topology fills it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.audit.sink import AuditSink


class AuditLevel(IntEnum):
    """How much is recorded. Each level has what those before it have."""

    OFF = 0
    """Nothing."""
    ACTIONS = 1
    """What is done to agents and runs, who reads states and the trail itself, whoever is refused, starts and stops."""
    CALLS = 2
    """And every call from outside, with its end."""
    MESSAGES = 3
    """And every message that one agent handles for another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """The settings of one trail."""

    level: AuditLevel = AuditLevel.ACTIONS
    """How much is recorded."""
    keep: float | None = None
    """Seconds for which the journal keeps entries; None for ever."""
    journal: bool = True
    """Whether the store of the runs keeps them."""
    sinks: Sequence[AuditSink] = ()
    """Where they go besides."""
