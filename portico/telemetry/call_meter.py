"""CallMeter: counts the calls of one dispatcher, and how long they took: per agent, operation, kind and outcome.

Above: `figures.py`, which reads what is counted here. Below: the dispatcher's `Meter`, which this implements, the book's `on_end`
and the kernel's `HandlingMeter`. It knows no Prometheus: it stands on the way of every call, and a list of numbers is all that it
can afford.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from portico.errors import AgentError, Cancelled, PorticoError
from portico.histogram import Histogram
from portico.telemetry.bounded import OTHER, Bounded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portico.kernel.mailbox import Mailbox
    from portico.operations.catalogue import Endpoint
    from portico.runs.call import Call
    from portico.runs.run import Run

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Seconds: the upper bounds of the histogram's buckets, from a quick handler to a run that waits for somebody."""
OK: Final = "ok"
"""The outcome of a call that has a reply."""
ASK: Final = "ask"
"""The kind of a call that somebody waits for, and that is not stored."""
SEND: Final = "send"
"""The kind of a stored one that nobody waits for."""
RUN: Final = "run"
"""The kind of any other stored one."""
MOST_OPERATIONS: Final = 2000
"""How many operations, of all agents together, have series of their own. OpenTelemetry's SDK draws the same line."""
MOST_OUTCOMES: Final = 64
"""How many outcomes of one operation have."""
MOST_SINKS: Final = 20
"""How many sinks are told apart."""


class Tally:
    """What is counted of one operation of one agent."""

    __slots__ = ("_declared", "_ok", "done", "durations", "kept", "plain", "rejected", "sent", "stored")

    def __init__(self, declared: Iterable[str]) -> None:
        """`declared`: the slugs that its operation may raise. Any other of an agent's own counts as `agent-error`."""
        self.plain = 0
        """Plain asks that were admitted."""
        self.done = 0
        """Those of them that have ended."""
        self.stored = 0
        """Calls that were admitted and stored."""
        self.sent = 0
        """Those of them that are sends."""
        self.kept = 0
        """Those of them that were plain asks at first."""
        self.rejected: dict[str, int] = {}
        """Calls that have none, by why."""
        self._ok = Histogram(BOUNDS)
        self.durations = {(ASK, OK): self._ok}
        """Seconds, by kind and outcome."""
        self._declared = frozenset(declared)

    def ended(self, error: BaseException | None, seconds: float, traceparent: str | None = None) -> None:
        """See `portico.runs.tally.Tally`."""
        self.done += 1
        if error is None and traceparent is None:  # `Histogram.add`, without the call
            ok = self._ok
            ok.counts[bisect_left(BOUNDS, seconds)] += 1
            ok.total += seconds
        else:
            self.end(ASK, error, seconds, traceparent)

    def end(self, kind: str, error: BaseException | None, seconds: float, traceparent: str | None = None) -> None:
        """A call of any kind has ended."""
        outcome = OK if error is None else self.slug_of(error)
        durations = self.durations.get((kind, outcome))
        if durations is None:
            if len(self.durations) >= MOST_OUTCOMES:
                outcome = AgentError.slug
            durations = self.durations.setdefault((kind, outcome), Histogram(BOUNDS))
        durations.add(seconds, traceparent)

    def reject(self, error: BaseException) -> None:
        """A call was refused."""
        reason = self.slug_of(error)
        if reason not in self.rejected and len(self.rejected) >= MOST_OUTCOMES:
            reason = AgentError.slug
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def slug_of(self, error: BaseException) -> str:
        """What an error is counted as: one of few words, whatever agents make up."""
        if isinstance(error, AgentError) and error.slug in self._declared:
            return error.slug
        if isinstance(error, PorticoError):
            return type(error).slug
        return Cancelled.slug if isinstance(error, asyncio.CancelledError) else PorticoError.slug


class CallMeter:
    """See `portico.runs.meter.Meter`.

    Operations of the catalogue have a tally of their own, those that came later too, as far as there is room; what else is called
    shares one.
    """

    def __init__(self) -> None:
        self.tallies: dict[tuple[str, str], Tally] = {}
        """By agent and operation."""
        self.other = Tally(())
        """Of all that have none of their own."""
        self.handlings = Bounded(lambda: Histogram(BOUNDS), MOST_OPERATIONS)
        """Seconds in the handler's hands, by agent and operation: of every message, whoever sent it."""
        self.ends: dict[str, int] = {}
        """Stored runs that have ended, by status."""
        self.failures: dict[str, int] = {}
        """Failures of sinks, by sink."""
        self._served: frozenset[tuple[str, str]] = frozenset()

    def serve(self, endpoints: Iterable[Endpoint]) -> None:
        """These are served now. Who is served no more is shown for as long as nobody needs its place."""
        known = {(one.agent, one.operation.name): one for one in endpoints}
        self._served = frozenset(known)
        added = [key for key in known if key not in self.tallies]
        if len(self.tallies) + len(added) > MOST_OPERATIONS:
            for key in [key for key in self.tallies if key not in known]:
                del self.tallies[key]
        if len(self.handlings) >= MOST_OPERATIONS:
            for key in [key for key in self.handlings if key not in known]:
                del self.handlings[key]
        for key in added[: max(0, MOST_OPERATIONS - len(self.tallies))]:
            self.tallies[key] = Tally(known[key].operation.errors)

    def of(self, agent: str, operation: str) -> Tally:
        """See `Meter.of`."""
        return self.tallies.get((agent, operation)) or self.other

    def rejected(self, call: Call, error: BaseException) -> None:
        """See `Meter.rejected`."""
        self.of(call.endpoint.agent, call.endpoint.operation.name).reject(error)

    def failed(self, sink: str) -> None:
        """See `Meter.failed`."""
        name = sink if sink in self.failures or len(self.failures) < MOST_SINKS else OTHER
        self.failures[name] = self.failures.get(name, 0) + 1

    def handled(self, mailbox: Mailbox, message_type: str, seconds: float) -> None:
        """See `HandlingMeter.handled`. What is no operation that is served is `other`: anybody can make up a message's type."""
        key = (mailbox.behind or mailbox.name, message_type)
        histogram = self.handlings.get(key) or self.handlings[key if key in self._served else (key[0], OTHER)]
        histogram.counts[bisect_left(BOUNDS, seconds)] += 1
        histogram.total += seconds

    def run_ended(self, run: Run) -> None:
        """A stored run has ended: what it took since it was accepted, or due, also in earlier lives of the program.

        What a handler has sent is a run too, but no call: it came through no door.
        """
        record = run.record
        if record is None:
            return
        status = run.status.value
        self.ends[status] = self.ends.get(status, 0) + 1
        if record.parent is not None or run.finished is None:
            return
        seconds = max(0.0, run.finished - max(record.created, record.due or 0.0))
        kind = SEND if record.one_way else RUN
        self.of(record.agent, record.operation).end(kind, run.error, seconds, record.traceparent)
