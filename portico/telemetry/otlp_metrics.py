"""OTLPMetrics: readings as OpenTelemetry's SDK has metrics, for its exporters. Of counters it knows what was sent before.

Above: `metrics_push.py`. Below: `readings.py`. The SDK's own instruments are not used: they would cost each call many times what
our counters cost, and those that are read when somebody asks cannot be histograms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from portico.telemetry import semconv
from portico.telemetry.instruments import Kind
from portico.telemetry.readings import Buckets
from portico.version import __version__

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from opentelemetry.sdk.resources import Resource

    from portico.telemetry.instruments import Instrument
    from portico.telemetry.readings import Labels, Reading

_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE
_DELTA: Final = AggregationTemporality.DELTA
_NUMBERS: Final = frozenset({semconv.HTTP_STATUS})
"""Attributes that are numbers by the conventions."""
_NANO: Final = 1_000_000_000


class OTLPMetrics:
    """Makes what is sent of what was read.

    Args:
        resource: what all signals say of this program.
        deltas: of which kinds what came since the last time is sent, and not all since the start. See `deltas_of`.
        started: when counting began: nanoseconds since the epoch.
    """

    def __init__(self, resource: Resource, deltas: Collection[Kind], started: int) -> None:
        self._resource = resource
        self._deltas = deltas
        self._scope = InstrumentationScope("portico", __version__, semconv.SCHEMA_URL)
        self._begun: dict[tuple[str, Labels], int] = {}
        """When each series that has begun anew did so; the others began with the gateway."""
        self._started = started
        self._sent: dict[tuple[str, Labels], float | Buckets] = {}
        self._sent_at = started

    def data(self, readings: Sequence[Reading], now: int) -> MetricsData:
        """What is sent of these. `now`: when they were read, in nanoseconds since the epoch."""
        metrics = [
            Metric(one.instrument.name, one.instrument.about, one.instrument.unit, self._points(one, now)) for one in readings
        ]
        scope = ScopeMetrics(self._scope, metrics, semconv.SCHEMA_URL)
        return MetricsData([ResourceMetrics(self._resource, [scope], self._resource.schema_url)])

    def was_sent(self, readings: Sequence[Reading], now: int) -> None:
        """It has arrived: the next time, deltas begin here. What has not arrived is in the next one too."""
        sent: dict[tuple[str, Labels], float | Buckets] = {}
        for reading in readings:
            if reading.instrument.kind in (Kind.COUNTER, Kind.HISTOGRAM):
                sent |= {(reading.instrument.name, labels): value for labels, value in reading.points.items()}
        self._begun = {key: at for key, at in self._begun.items() if key in sent}
        self._sent, self._sent_at = sent, now

    def _points(self, reading: Reading, now: int) -> Any:
        kind, instrument = reading.instrument.kind, reading.instrument
        if kind in (Kind.GAUGE, Kind.INFO):
            return Gauge(
                [NumberDataPoint(_attributes(instrument, labels), 0, now, _number(v)) for labels, v in reading.points.items()]
            )
        temporality = _DELTA if kind in self._deltas else _CUMULATIVE
        made: list[Any] = []
        for labels, value in reading.points.items():
            start, value_now = self._since(instrument, labels, value, temporality)
            attributes = _attributes(instrument, labels)
            if isinstance(value_now, Buckets):
                made.append(self._histogram_point(attributes, start, now, value_now))
            else:
                made.append(NumberDataPoint(attributes, start, now, value_now))
        if kind is Kind.HISTOGRAM:
            return Histogram(made, temporality)
        return Sum(made, temporality, kind is Kind.COUNTER)

    def _since(
        self, instrument: Instrument, labels: Labels, value: float | Buckets, temporality: AggregationTemporality
    ) -> tuple[int, float | Buckets]:
        """The beginning of a point, and its value since then. One that has fallen has begun anew since the last time."""
        if instrument.kind is Kind.LEVEL:
            return self._started, value
        key = (instrument.name, labels)
        before = self._sent.get(key)
        anew = before is not None and _count(value) < _count(before)
        if anew:
            self._begun[key] = self._sent_at
        if temporality is _CUMULATIVE:
            return self._begun.get(key, self._started), value
        return self._sent_at, value if before is None or anew else _less(value, before)

    def _histogram_point(self, attributes: dict[str, Any], start: int, now: int, value: Buckets) -> HistogramDataPoint:
        exemplars = [_exemplar(*shown) for shown in value.exemplars.values() if shown[2] * _NANO >= start]
        nothing: Any = None  # of values that are not kept, the least and the greatest are not known: the format can leave them out
        return HistogramDataPoint(
            attributes, start, now, sum(value.counts), value.total, value.counts, value.bounds, nothing, nothing, exemplars
        )


def _attributes(instrument: Instrument, labels: Labels) -> dict[str, Any]:
    """By name; what does not apply is left out."""
    return {
        name: int(label) if name in _NUMBERS and label.isdecimal() else label
        for name, label in zip(instrument.labels, labels, strict=True)
        if label
    }


def _exemplar(value: float, traceparent: str, at: float) -> Exemplar:
    _, trace_id, span_id, _ = traceparent.split("-", 3)
    return Exemplar({}, value, int(at * _NANO), int(span_id, 16), int(trace_id, 16))


def _number(value: float | Buckets) -> float:
    assert not isinstance(value, Buckets)  # noqa: S101  # for the type checker
    return value


def _count(value: float | Buckets) -> float:
    return sum(value.counts) if isinstance(value, Buckets) else value


def _less(value: float | Buckets, before: float | Buckets) -> float | Buckets:
    if isinstance(value, Buckets) and isinstance(before, Buckets):
        counts = tuple(map(int.__sub__, value.counts, before.counts))
        return Buckets(value.bounds, counts, value.total - before.total, value.exemplars)
    assert not isinstance(value, Buckets) and not isinstance(before, Buckets)  # noqa: S101, PT018  # for the type checker
    return value - before
