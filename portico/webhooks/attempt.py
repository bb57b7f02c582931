"""Attempt: one try to tell somebody of a run's end, for those who watch. The port; `telemetry` implements it.

Above: the deliverer makes one for each request that it sends. It decides nothing: what comes of it, `schedule.py` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from portico.webhooks.sender import Outcome


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt, from before it is made."""

    run_id: str
    """Whose end is told."""
    agent: str
    """The run's agent."""
    url: str
    """Where it goes."""
    number: int
    """How many attempts came before."""
    traceparent: str | None
    """The trace that the run belongs to."""
    outcome: Outcome | None = None
    """What came of it."""


class WatchesAttempts(Protocol):
    """An observer that wants to know of attempts."""

    def calling_back(self, attempt: Attempt) -> AbstractContextManager[str | None] | None:
        """Around one attempt. The context manager may yield the `traceparent` that its request then carries."""
        ...
