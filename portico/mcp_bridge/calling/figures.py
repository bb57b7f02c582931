"""Figures: what is counted of one external server, for `/metrics` and whoever shows its state. Plain numbers, no Prometheus."""

from __future__ import annotations

OK = "ok"
"""The outcome of a call that has a result."""


class Figures:
    """Counts from the start of the program; a server that connects anew goes on with them."""

    __slots__ = ("calls", "connects", "seconds")

    def __init__(self) -> None:
        self.connects = 0
        """How often a connection came up."""
        self.calls: dict[str, int] = {}
        """Calls that have ended, by outcome: `ok`, or the slug of the error."""
        self.seconds: dict[str, float] = {}
        """How long these took, together."""

    @property
    def reconnects(self) -> int:
        """How often a connection came up after the first."""
        return max(0, self.connects - 1)

    def ended(self, outcome: str, seconds: float) -> None:
        """One call more."""
        self.calls[outcome] = self.calls.get(outcome, 0) + 1
        self.seconds[outcome] = self.seconds.get(outcome, 0.0) + seconds
