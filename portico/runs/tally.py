"""Tally: the calls of one operation of one agent, counted. The port; telemetry implements it."""

from __future__ import annotations

from typing import Protocol


class Tally(Protocol):
    """What is counted on the way of a call: two numbers, and one call at its end."""

    plain: int
    """Plain asks that were admitted."""
    stored: int
    """Calls that were admitted and stored."""

    def ended(self, error: BaseException | None, seconds: float) -> None:
        """A plain ask that was admitted has ended, `seconds` later."""
        ...
