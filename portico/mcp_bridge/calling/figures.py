"""Figures: what is counted of one external server, for `/metrics` and whoever shows its state. Plain numbers, no Prometheus."""

from __future__ import annotations

from typing import Final

from portico.histogram import Histogram

BOUNDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds: the buckets that OpenTelemetry's conventions for MCP advise."""
OK: Final = "ok"
"""The outcome of a call that has a result."""


class Figures:
    """Counts from the start of the program; a server that connects anew goes on with them."""

    __slots__ = ("calls", "connects")

    def __init__(self) -> None:
        self.connects = 0
        """How often a connection came up."""
        self.calls: dict[str, Histogram] = {}
        """The seconds of calls that have ended, by outcome: `ok`, `cancelled`, or the slug of the error."""

    @property
    def reconnects(self) -> int:
        """How often a connection came up after the first."""
        return max(0, self.connects - 1)

    def ended(self, outcome: str, seconds: float, traceparent: str | None = None) -> None:
        """One call more, of the trace that is named."""
        calls = self.calls.get(outcome)
        if calls is None:
            calls = self.calls[outcome] = Histogram(BOUNDS)
        calls.add(seconds, traceparent)
