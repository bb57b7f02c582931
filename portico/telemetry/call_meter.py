"""CallMeter: counts the calls of one dispatcher, and how long they took: per agent, operation and outcome.

Above: `metrics.py`, which shows what is counted here. Below: the dispatcher's `Meter`, which this implements, and the book's
`on_end`. It knows no Prometheus: it stands on the way of every call, and a list of numbers is all that it can afford.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from portico.errors import AgentError, Cancelled, PorticoError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portico.operations.catalogue import Endpoint
    from portico.runs.call import Call
    from portico.runs.run import Run

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Seconds: the upper bounds of the histogram's buckets, from a quick handler to a run that waits for somebody."""
OK: Final = "ok"
"""The outcome of a call that has a reply."""


class Durations:
    """The durations of one outcome, in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        """How many fell into each bucket alone; the last one has no upper bound."""
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class Tally:
    """What is counted of one operation of one agent."""

    __slots__ = ("_declared", "_ok", "done", "durations", "plain", "rejected", "stored")

    def __init__(self, declared: Iterable[str]) -> None:
        """`declared`: the slugs that its operation may raise. Any other of an agent's own counts as `agent-error`."""
        self.plain = 0
        """Plain asks that were admitted."""
        self.done = 0
        """Those of them that have ended."""
        self.stored = 0
        """Calls that were admitted and stored."""
        self.rejected: dict[str, int] = {}
        """Calls that have none, by why."""
        self._ok = Durations()
        self.durations = {OK: self._ok}
        """By outcome."""
        self._declared = frozenset(declared)

    def ended(self, error: BaseException | None, seconds: float) -> None:
        """See `portico.runs.tally.Tally`."""
        self.done += 1
        if error is None:
            ok = self._ok
            ok.counts[bisect_left(BOUNDS, seconds)] += 1
            ok.total += seconds
        else:
            self.end(error, seconds)

    def end(self, error: BaseException | None, seconds: float) -> None:
        """A call of either kind has ended."""
        if error is None:
            self._ok.add(seconds)
            return
        outcome = self.slug_of(error)
        durations = self.durations.get(outcome)
        if durations is None:
            durations = self.durations[outcome] = Durations()
        durations.add(seconds)

    def slug_of(self, error: BaseException) -> str:
        """What an error is counted as: one of few words, whatever agents make up."""
        if isinstance(error, AgentError) and error.slug in self._declared:
            return error.slug
        if isinstance(error, PorticoError):
            return type(error).slug
        return Cancelled.slug if isinstance(error, asyncio.CancelledError) else PorticoError.slug


class CallMeter:
    """See `portico.runs.dispatcher.Meter`. What is not in the catalogue is not counted, so that labels are few."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self.tallies = {(one.agent, one.operation.name): Tally(one.operation.errors) for one in endpoints}
        """By agent and operation."""

    def of(self, agent: str, operation: str) -> Tally | None:
        """See `Meter.of`."""
        return self.tallies.get((agent, operation))

    def rejected(self, call: Call, error: BaseException) -> None:
        """See `Meter.rejected`."""
        tally = self.tallies.get((call.endpoint.agent, call.endpoint.operation.name))
        if tally is not None:
            reason = tally.slug_of(error)
            tally.rejected[reason] = tally.rejected.get(reason, 0) + 1

    def run_ended(self, run: Run) -> None:
        """A stored run has ended: what it took since it was accepted, or due, also in earlier lives of the program.

        What a handler has sent is a run too, but no call: it came through no door.
        """
        record = run.record
        if record is None or record.parent is not None or run.finished is None:
            return
        tally = self.tallies.get((record.agent, record.operation))
        if tally is not None:
            tally.end(run.error, max(0.0, run.finished - max(record.created, record.due or 0.0)))
