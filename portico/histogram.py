"""Histogram: how values are spread over fixed buckets. A list of numbers, cheap enough for the way of every call.

Any room may count into one; `telemetry` shows them. It knows no Prometheus and no OpenTelemetry.
"""

from __future__ import annotations

from bisect import bisect_left
from time import time
from typing import TYPE_CHECKING

from portico.traceparent import well_formed

if TYPE_CHECKING:
    from collections.abc import Sequence

_SAMPLED = frozenset("13579bdf")
"""The last digit of a `traceparent` whose trace is recorded (W3C Trace Context §3.2.2.5)."""


class Histogram:
    """`bounds`: the upper bounds of the buckets, the least first; one more bucket has none."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """How many fell into each bucket alone."""
        self.total = 0.0
        """All values together."""
        self.exemplars: dict[int, tuple[float, str, float]] | None = None
        """By bucket, the newest value whose trace is recorded: the value, its `traceparent`, and when (seconds since the epoch)."""

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def add(self, value: float, traceparent: str | None = None) -> None:
        """One more. `traceparent`: of the trace that it belongs to, if any."""
        bucket = bisect_left(self.bounds, value)
        self.counts[bucket] += 1
        self.total += value
        if traceparent is not None and traceparent[-1:] in _SAMPLED:
            self.show(bucket, value, traceparent)

    def show(self, bucket: int, value: float, traceparent: str) -> None:
        """Keep a value as the example of its bucket; not of a trace that cannot be: a store may have kept one."""
        if well_formed(traceparent) != traceparent:
            return
        if self.exemplars is None:
            self.exemplars = {}
        self.exemplars[bucket] = (value, traceparent, time())
