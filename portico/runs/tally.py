"""Tally: the calls of one operation of one agent, counted. The port; telemetry implements it."""

from __future__ import annotations

from typing import Protocol


class Tally(Protocol):
    """What is counted on the way of a call: a few numbers, and one call at its end."""

    plain: int
    """Plain asks that were admitted."""
    stored: int
    """Calls that were admitted and stored."""
    sent: int
    """Those of them that nobody waits for."""
    kept: int
    """Those of them that were plain asks at first."""

    def ended(self, error: BaseException | None, seconds: float, traceparent: str | None = None) -> None:
        """A plain ask that was admitted has ended, `seconds` later. `traceparent`: of its trace."""
        ...
