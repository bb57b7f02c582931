"""Deadlines: one timer for every open ask.

A timer per ask is the usual cost of a deadline. Here asks of nearly the same deadline share a bucket; only the earliest bucket
has a timer. Adding and removing are one dictionary operation each. A deadline is kept to `TICK` seconds, never early.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from portico.errors import DeadlineExceeded, RuntimeStopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.kernel.clock import Clock, Timer
    from portico.kernel.delivery import Delivery

TICK = 0.01
"""The width of a bucket in seconds."""


SIFT_FROM = 1024
"""With so many buckets, or twice those that were not empty last time, the empty ones are looked for."""


class Deadlines:
    """All open deliveries that have a deadline."""

    __slots__ = (
        "_armed_for",
        "_buckets",
        "_clock",
        "_expired",
        "_heap",
        "_sift_at",
        "_timer",
        "recent",
        "recent_from",
        "recent_until",
    )

    def __init__(self, clock: Clock, expired: Callable[[Delivery], None]) -> None:
        """`expired` is told of each whose deadline passes before its handling has begun."""
        self._clock = clock
        self._expired = expired
        self._buckets: dict[int, dict[Delivery, None]] = {}
        self._heap: list[int] = []
        self._sift_at = SIFT_FROM
        self._timer: Timer | None = None
        self._armed_for: int | None = None
        # The bucket of the last ask: the next one as a rule goes there too.
        self.recent: dict[Delivery, None] = {}
        self.recent_from = self.recent_until = 0.0

    def add(self, delivery: Delivery) -> None:
        """Watch a delivery whose message has a deadline."""
        deadline = delivery.message.deadline
        if deadline is None:
            return
        bucket = self.recent if self.recent_from <= deadline < self.recent_until else self.bucket_of(deadline)
        bucket[delivery] = None
        delivery.bucket = bucket

    def bucket_of(self, deadline: float) -> dict[Delivery, None]:
        """Where a delivery with this deadline is watched."""
        tick = int(deadline / TICK) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            if len(self._buckets) >= self._sift_at:
                self._sift()
            bucket = self._buckets[tick] = {}
            heappush(self._heap, tick)
            self._arm()
        self.recent, self.recent_from, self.recent_until = bucket, (tick - 1) * TICK, tick * TICK
        return bucket

    def _sift(self) -> None:
        """Forget buckets that have become empty: those of answered calls with an hour to go would wait that hour."""
        self._buckets = {tick: bucket for tick, bucket in self._buckets.items() if bucket}
        self._heap = sorted(self._buckets)
        self._sift_at = max(SIFT_FROM, 2 * len(self._buckets))

    def discard(self, delivery: Delivery) -> None:
        """Stop watching it."""
        if delivery.bucket is not None:
            delivery.bucket.pop(delivery, None)
            delivery.bucket = None

    def close(self) -> None:
        """Stop the timer, and end what is still open: nobody will watch it any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed_for = None
        self.recent_from = self.recent_until = 0.0
        for bucket in list(self._buckets.values()):
            for delivery in list(bucket):
                delivery.bucket = None
                delivery.cancel(RuntimeStopped())
        self._buckets.clear()
        self._heap.clear()

    def _arm(self) -> None:
        earliest = self._heap[0] if self._heap else None
        if earliest == self._armed_for:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed_for = earliest
        if earliest is not None:
            self._timer = self._clock.call_at(earliest * TICK, self._fire)

    def _fire(self) -> None:
        now = self._clock.now()
        self._timer = self._armed_for = None
        while self._heap and self._heap[0] * TICK <= now:
            bucket = self._buckets.pop(heappop(self._heap))
            if bucket is self.recent:
                self.recent_from = self.recent_until = 0.0
            for delivery in bucket:
                delivery.bucket = None
                if delivery.holder is None and not delivery.finished:
                    self._expired(delivery)
                delivery.cancel(DeadlineExceeded(delivery.message.recipient))
        self._arm()
