"""MCPMeter: counts what MCP clients ask this gateway, and how long it took (OpenTelemetry's conventions for MCP).

Above: `figures.py` reads it. It has the shape of the bridge's port `ServingMeter`: the two rooms do not know each other, and the
app puts them together.
"""

from __future__ import annotations

from typing import Final

from portico.histogram import Histogram
from portico.telemetry.bounded import LONGEST, OTHER, Bounded

BOUNDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds: the buckets that the conventions advise."""
MOST: Final = 1000
"""How many series there are before the rest are `other`: clients can name any method."""
UNKNOWN_METHOD: Final = "-32601"
"""The code of a JSON-RPC error: there is no such method, so that its name is none of those worth a series."""


class MCPMeter:
    """What is counted of the requests of MCP clients."""

    def __init__(self) -> None:
        self.durations = Bounded(lambda: Histogram(BOUNDS), MOST)
        """Seconds, by method, tool and error."""

    def answered(self, method: str, tool: str, error: str, seconds: float, traceparent: str | None) -> None:
        """See `ServingMeter.answered`."""
        known = OTHER if error == UNKNOWN_METHOD else method[:LONGEST]
        self.durations[known, tool, error].add(seconds, traceparent)
