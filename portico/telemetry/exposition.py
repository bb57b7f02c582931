"""Exposition: readings in the text formats of Prometheus and OpenMetrics.

Above: `metrics.py`. Below: `readings.py`, and Prometheus' own library, which writes the text and knows the process.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, cast

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client import exposition as plain
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.samples import Exemplar

from portico.telemetry.instruments import Kind
from portico.telemetry.readings import Buckets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from portico.telemetry.readings import Reading

TEXT: Final = plain.CONTENT_TYPE_PLAIN_0_0_4
OPENMETRICS: Final = openmetrics.CONTENT_TYPE_LATEST
_FAMILIES: Final[dict[Kind, Any]] = {
    Kind.COUNTER: CounterMetricFamily,
    Kind.LEVEL: GaugeMetricFamily,
    Kind.GAUGE: GaugeMetricFamily,
    Kind.HISTOGRAM: HistogramMetricFamily,
}


class Exposition:
    """Writes readings, and beside them what Prometheus' library knows of the process."""

    def __init__(self) -> None:
        self._process = ProcessCollector(registry=CollectorRegistry(auto_describe=False))

    def text(self, readings: Sequence[Reading], *, as_openmetrics: bool) -> tuple[bytes, str]:
        """All of them, and the media type. OpenMetrics is asked for; else it is Prometheus' own format, 0.0.4."""
        families: Any = _Families([*map(family, readings), *self._process.collect()])
        if as_openmetrics:
            return cast("Any", openmetrics).generate_latest(families), OPENMETRICS
        return plain.generate_latest(families), TEXT


class _Families:
    """What the library takes for a registry."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        return iter(self._families)


def family(reading: Reading) -> Metric:
    """One instrument with its series."""
    instrument = reading.instrument
    if instrument.kind is Kind.INFO:
        (labels,) = reading.points
        return InfoMetricFamily(instrument.family, instrument.about, dict(zip(instrument.family_labels, labels, strict=True)))
    made = _FAMILIES[instrument.kind](instrument.family, instrument.about, labels=instrument.family_labels)
    for labels, value in reading.points.items():
        if isinstance(value, Buckets):
            made.add_metric(labels, _cumulative(value), value.total)
        else:
            made.add_metric(labels, value)
    return made


def _cumulative(buckets: Buckets) -> list[Any]:
    """As the formats want them: each bucket with all below it."""
    found: list[Any] = []
    sum_so_far = 0
    for number, (bound, count) in enumerate(zip((*buckets.bounds, math.inf), buckets.counts, strict=True)):
        sum_so_far += count
        le = "+Inf" if bound == math.inf else repr(float(bound))
        shown = buckets.exemplars.get(number)
        if shown is None:
            found.append((le, sum_so_far))
        else:
            value, traceparent, at = shown
            _, trace_id, span_id, _ = traceparent.split("-", 3)
            found.append((le, sum_so_far, Exemplar({"trace_id": trace_id, "span_id": span_id}, value, at)))
    return found
