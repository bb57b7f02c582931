"""Child: one place below a supervisor. What stands there, which life it is in, when the next one is due, where it is going."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from portico.kernel.clock import Timer
    from portico.kernel.incarnation import Incarnation
    from portico.kernel.process import AgentProcess, Restart
    from portico.kernel.supervision import Supervision
    from portico.kernel.supervisor import Supervisor


class Then(StrEnum):
    """What follows when a child has left."""

    FORGET = "forget"
    """It has ended for good, and its name is free where children come at run time."""
    RESTART = "restart"
    """A fresh incarnation takes over the mailbox."""


@dataclass(slots=True)
class Leaving:
    """A child was asked to end, and the supervisor goes on meanwhile."""

    then: Then
    """What follows."""
    done: asyncio.Future[Any]
    """Resolved when that has happened; whoever asked waits for it."""
    timer: Timer | None = None
    """Cancels the child where it takes too long."""
    former: type[AgentProcess] | None = None
    """The class that it had, where it is replaced: it comes back where the new one does not start."""


@dataclass(slots=True, eq=False)
class Starting:
    """A start that the supervisor does not wait for."""

    done: asyncio.Future[None] | None = None
    """Resolved when it has started or failed; whoever asked for the child waits for it."""
    timer: Timer | None = None
    """Ends the start where it takes too long."""


class Child:
    """One place."""

    __slots__ = ("born", "crashes", "due", "last", "leaving", "life", "name", "present", "restart", "spawner", "starting")

    def __init__(self, present: AgentProcess | Supervisor, spawner: str = "") -> None:
        self.name = present.name
        self.present = present
        """The present instance, also between two lives."""
        self.restart: Restart = present.restart
        self.spawner = spawner
        """The process that spawned it, which hears of its end; empty for none."""
        self.life: Incarnation | Supervision | None = None
        """The present life."""
        self.last: Incarnation | Supervision | None = None
        """The present life, or the last one."""
        self.crashes = 0
        """Consecutive crashes."""
        self.due: float | None = None
        """When the next life begins: seconds on the runtime's clock."""
        self.leaving: Leaving | None = None
        """Where it is going, where it was asked to end."""
        self.starting: Starting | None = None
        """Its start, where that goes on and the supervisor does not wait for it."""
        self.born = False
        """Whether it has ever started."""
