"""Sinks: who wants to have what happens in runs, and what models took, as it happens: one's own, and a ring buffer.

Above: the book and the ledger, which tell. A sink is called on the event loop, returns at once, and may raise: that is logged and
forgotten, since no call may suffer from who watches it. What must be slow belongs behind a queue of the sink's own.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from portico.runs.event import Event
    from portico.runs.run import Run
    from portico.runs.usage import UsageRow

logger = logging.getLogger("portico.runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One event of a run, with whose it is."""

    run_id: str
    """The run."""
    seq: int
    """Its number in the run: 1 for the first; without gaps."""
    type: str
    """An `EventName`, or a name that an agent chose."""
    at: float
    """Seconds since the epoch."""
    agent: str
    """The agent that the run is with."""
    operation: str
    """What that is asked."""
    principal: str | None
    """Whose the run is."""
    labels: Mapping[str, str]
    """What the caller labelled the run with."""
    data: Any
    """JSON-able data. Read-only."""


class EventSink(Protocol):
    """Takes the events of runs."""

    def event(self, envelope: Envelope) -> None:
        """Something happened in a run. The first event of a run and its last are told too."""
        ...


class UsageSink(Protocol):
    """Takes what calls of models took."""

    def usage(self, row: UsageRow) -> None:
        """A model was called. Read-only."""
        ...


class RingBuffer:
    """Keeps the last events and the last usage, for tests and for a look inside: both an `EventSink` and a `UsageSink`."""

    def __init__(self, size: int = 1000) -> None:
        """`size`: how many of each."""
        self.events: deque[Envelope] = deque(maxlen=size)
        """The last events, the newest last."""
        self.used: deque[UsageRow] = deque(maxlen=size)
        """The last calls of models, the newest last."""

    def event(self, envelope: Envelope) -> None:
        """See `EventSink.event`."""
        self.events.append(envelope)

    def usage(self, row: UsageRow) -> None:
        """See `UsageSink.usage`."""
        self.used.append(row)


class Sinks:
    """All sinks of a runtime."""

    def __init__(self, sinks: Iterable[object] = ()) -> None:
        """`sinks`: each an `EventSink`, a `UsageSink`, or both."""
        self._events: list[Callable[[Envelope], object]] = []
        self._usage: list[Callable[[UsageRow], object]] = []
        self.want_events = False
        """Whether anybody takes events."""
        self.on_failure: list[Callable[[str], object]] = []
        """Told each time that a sink has failed: on `events`, or on `usage`; the store is one of the latter."""
        for sink in sinks:
            self.add(sink)

    def add(self, sink: object) -> None:
        """One more: an `EventSink`, a `UsageSink`, or both."""
        if hasattr(sink, "event"):
            self._events.append(cast("EventSink", sink).event)
            self.want_events = True
        if hasattr(sink, "usage"):
            self._usage.append(cast("UsageSink", sink).usage)

    def happened(self, run: Run, event: Event) -> None:
        """Tell of an event of a run."""
        envelope = Envelope(
            run_id=run.run_id,
            seq=event.seq,
            type=event.type,
            at=event.timestamp,
            agent=run.agent,
            operation=run.operation,
            principal=run.principal,
            labels=run.labels,
            data=event.data,
        )
        for tell in self._events:
            try:
                tell(envelope)
            except Exception:
                logger.exception("a sink failed on event %d of run %s", event.seq, run.run_id)
                self.has_failed("events")

    def used(self, row: UsageRow) -> None:
        """Tell of a call of a model."""
        for tell in self._usage:
            try:
                tell(row)
            except Exception:
                logger.exception("a sink failed on what a model took")
                self.has_failed("usage")

    def has_failed(self, what: str) -> None:
        """A sink has failed on `what`."""
        for told in self.on_failure:
            told(what)
