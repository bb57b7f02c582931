"""Actions: what a person may do to an agent, a run or a dead letter, how it is asked for, and what is said when it is done.

Above: the screens, which have each confirmed. Below: the client of the public API, whose gateway decides who may.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from portico.client.plan import path_of

if TYPE_CHECKING:
    from portico.client import AsyncClient

AGENT: Final = "agent"
RUN: Final = "run"
LETTER: Final = "dead letter"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that can be done."""

    name: str
    key: str
    subject: str
    """What it is done to: an agent, a run or a dead letter."""
    question: str
    """What is asked before; `{name}` is the subject."""
    done: str
    """What is said after."""
    reason: bool = False
    """Whether the gateway keeps a reason."""
    harmful: bool = False
    """Whether something is lost: then Enter alone does not confirm it."""

    async def perform(self, client: AsyncClient, name: str, reason: str = "") -> str:
        """Do it. What to say then. Raises `ClientError`."""
        match self.subject:
            case "run":
                run = await client.runs.cancel(name)
                return self.done.format(name=name) if run.status == "cancelled" else f"{name} had ended before: {run.status}."
            case "dead letter":
                return self.done.format(name=name, run=(await client.dead_letters.redrive(name)).run_id)
            case _:
                body: dict[str, Any] | None = {"reason": reason} if self.reason and reason else None
                await client.request("POST", path_of("agents", name, self.name), json=body)
                return self.done.format(name=name)


SUSPEND: Final = Action(
    "suspend",
    "s",
    AGENT,
    "Suspend {name}? What waits stays; new calls are refused until it is resumed.",
    "{name} is suspended.",
    reason=True,
)
RESUME: Final = Action("resume", "r", AGENT, "Resume {name}? It takes calls again.", "{name} takes calls again.")
RESTART: Final = Action(
    "restart",
    "R",
    AGENT,
    "Restart {name}? What it handles now is interrupted; what waits stays.",
    "{name} is restarted.",
    harmful=True,
)
DRAIN: Final = Action(
    "drain",
    "d",
    AGENT,
    "Drain {name}? New calls are refused, what waits is handled; then it stands suspended.",
    "{name} drains.",
    reason=True,
)
CANCEL: Final = Action("cancel", "c", RUN, "Cancel run {name}? Its handler is stopped.", "Run {name} is cancelled.", harmful=True)
REDRIVE: Final = Action("redrive", "x", LETTER, "Send dead letter {name} again?", "{name} is sent again as run {run}.")
ACTIONS: Final = (SUSPEND, RESUME, RESTART, DRAIN, CANCEL, REDRIVE)
"""All but answering, which has a form."""
