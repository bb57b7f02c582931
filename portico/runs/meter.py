"""Meter: who counts calls, for `/metrics`. The port; `telemetry` implements it.

The dispatcher tells it of calls that are refused, and asks it for the `Tally` in which those of one operation are counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from portico.runs.call import Call
    from portico.runs.tally import Tally


class Meter(Protocol):
    """Counts calls. Called for every call, so each takes well below a microsecond, and none may raise."""

    def of(self, agent: str, operation: str) -> Tally:
        """Where the calls of one operation are counted."""
        ...

    def rejected(self, call: Call, error: BaseException) -> None:
        """A call was refused, and has no run."""
        ...

    def failed(self, sink: str) -> None:
        """Something that is told of calls, and without which they go on, has failed. `sink` names it: `audit`, `usage`."""
        ...
