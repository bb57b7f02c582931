"""CrashBudget: a caller whose calls crash agents pays for them itself, so that it cannot take an agent down for others.

Counted per principal, else per address, in a sliding window. What counts is a call that ended as `AgentCrashed`, or that was cut
short after it had crashed an agent.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from portico.errors import CrashBudgetSpent

if TYPE_CHECKING:
    from portico.kernel.clock import Clock


class CrashBudget:
    """`limit` crashes within `window` seconds per payer."""

    def __init__(self, clock: Clock, limit: int = 10, window: float = 60.0) -> None:
        self._clock = clock
        self._limit = limit
        self._window = window
        self._crashes: dict[str, deque[float]] = {}

    def __bool__(self) -> bool:
        """Whether anybody owes anything: the usual call asks no more than that."""
        return bool(self._crashes)

    def check(self, payer: str) -> None:
        """Raises `CrashBudgetSpent` where the payer has spent it."""
        crashes = self._recent(payer)
        if crashes is not None and len(crashes) >= self._limit:
            raise CrashBudgetSpent(self._limit, self._window, crashes[0] + self._window - self._clock.now())

    def charge(self, payer: str) -> None:
        """A call of this payer crashed an agent."""
        for other in list(self._crashes):
            self._recent(other)
        self._crashes.setdefault(payer, deque()).append(self._clock.now())

    def _recent(self, payer: str) -> deque[float] | None:
        crashes = self._crashes.get(payer)
        if crashes is None:
            return None
        oldest = self._clock.now() - self._window
        while crashes and crashes[0] <= oldest:
            crashes.popleft()
        if not crashes:
            del self._crashes[payer]
            return None
        return crashes
