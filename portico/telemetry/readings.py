"""Readings: what the instruments showed at one moment. Plain numbers, made once and shown by each face as it writes them.

Above: `exposition.py` (Prometheus) and `otlp_metrics.py`. Below: `figures.py` reads them from what the gateway holds. They can be
given to another thread: nothing changes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from portico.telemetry.instruments import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portico.histogram import Histogram
    from portico.telemetry.instruments import Instrument


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram as it was."""

    bounds: Sequence[float]
    counts: tuple[int, ...]
    """How many fell into each bucket alone; the last one has no upper bound."""
    total: float
    exemplars: Mapping[int, tuple[float, str, float]]
    """See `Histogram.exemplars`."""


Labels: TypeAlias = tuple[str, ...]
"""In the order of the instrument's; empty for one that does not apply."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One instrument, with each of its series."""

    instrument: Instrument
    points: dict[Labels, float | Buckets] = field(default_factory=dict[Labels, "float | Buckets"])
    """Each series, by its labels."""

    def add(self, value: float | Histogram, *labels: str) -> None:
        """One series more. Names may hold what is no Unicode text: it is replaced.

        Two that have become one that way, or because somebody is called `other`, are shown together.
        """
        shown = tuple(label if label.isascii() else label.encode("utf-8", "replace").decode() for label in labels)
        new = value if isinstance(value, int | float) else snapshot(value)
        before = self.points.get(shown)
        self.points[shown] = new if before is None else self._together(before, new)

    def _together(self, one: float | Buckets, other: float | Buckets) -> float | Buckets:
        if isinstance(one, Buckets) and isinstance(other, Buckets):
            counts = tuple(map(int.__add__, one.counts, other.counts))
            return Buckets(one.bounds, counts, one.total + other.total, {**one.exemplars, **other.exemplars})
        assert not isinstance(one, Buckets) and not isinstance(other, Buckets)  # noqa: S101, PT018  # for the type checker
        return min(one, other) if self.instrument.kind is Kind.GAUGE else one + other


def snapshot(histogram: Histogram) -> Buckets:
    """What a histogram holds now."""
    return Buckets(histogram.bounds, tuple(histogram.counts), histogram.total, dict(histogram.exemplars or {}))
