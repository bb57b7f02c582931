"""MetricsPush: sends the figures of one gateway over OTLP, once a minute unless the environment says otherwise, and at its end.

A thread of its own does it: it asks the event loop for a reading, and encodes and sends that by itself. An endpoint that is down,
hangs or answers nonsense holds up that thread and nobody else. Above: the app. Below: `metrics.py`, `otlp_metrics.py`, and the
exporters of OpenTelemetry's SDK, which are loaded only where the environment names an endpoint.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from portico.errors import ConfigurationError
from portico.telemetry.instruments import Kind
from portico.telemetry.target import Signal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence

    from portico.telemetry.complaints import Complaints
    from portico.telemetry.metrics import Metrics
    from portico.telemetry.otlp_metrics import OTLPMetrics
    from portico.telemetry.outlets import Outlets
    from portico.telemetry.readings import Reading

logger = logging.getLogger("portico.telemetry.metrics_push")

EVERY: Final = "OTEL_METRIC_EXPORT_INTERVAL"
TEMPORALITY: Final = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
INTERVAL: Final = 60_000
"""Milliseconds between two readings, by OpenTelemetry's specification."""
PATIENCE: Final = 10.0
"""Seconds that the loop may take to give a reading."""
LAST: Final = 3.0
"""Seconds for the last reading to arrive."""
GRACE: Final = 1.0
"""Seconds that an exporter gets to give up."""
SENT: Final = (Signal.METRICS.value, "ok")
FAILED: Final = (Signal.METRICS.value, "failed")
_DELTAS: Final[Mapping[str, tuple[Kind, ...]]] = {
    "cumulative": (),
    "delta": (Kind.COUNTER, Kind.HISTOGRAM),
    "lowmemory": (Kind.HISTOGRAM,),  # our counters are read when somebody asks, as asynchronous ones are
}


@dataclass(slots=True)
class Way:
    """One exporter, and what it was given last."""

    make: Callable[[], Any]
    """Makes the SDK's `MetricExporter`; one that was shut down does not begin again."""
    made: OTLPMetrics
    exporter: Any = field(init=False)

    def __post_init__(self) -> None:
        self.exporter = self.make()


def metrics_push(outlets: Outlets, metrics: Metrics) -> MetricsPush | None:
    """What sends the metrics; None where the environment names no endpoint for them.

    Raises:
        ConfigurationError: an interval that is none, or an unknown temporality.
        MissingExtra: `portico[otel]` (or `[otel-grpc]`) is not installed.
    """
    target, printed = outlets.target(Signal.METRICS), outlets.printed(Signal.METRICS)
    if target is None and not printed:
        return None
    interval, deltas = interval_of(outlets.variables), deltas_of(outlets.variables)
    resource = outlets.resource
    # Load the SDK: only where it is wanted.
    from portico.telemetry.otlp import exporter_of  # noqa: PLC0415
    from portico.telemetry.otlp_metrics import OTLPMetrics  # noqa: PLC0415

    exporters: list[Callable[[], Any]] = [partial(exporter_of, target)] if target is not None else []
    if printed:
        from opentelemetry.sdk.metrics.export import ConsoleMetricExporter  # noqa: PLC0415

        exporters.append(partial(ConsoleMetricExporter, out=sys.stderr))
    started = time.time_ns()
    ways = [Way(make, OTLPMetrics(resource, deltas, started)) for make in exporters]
    return MetricsPush(metrics, ways, interval, outlets.complaints)


def interval_of(environ: Mapping[str, str]) -> float:
    """Seconds between two readings. Raises `ConfigurationError`."""
    said = environ.get(EVERY, "").strip() or str(INTERVAL)
    if not said.isdecimal() or not int(said):
        raise ConfigurationError(f"{EVERY} is {said!r}: it is a number of milliseconds, such as {INTERVAL}.")
    return int(said) / 1000


def deltas_of(environ: Mapping[str, str]) -> Collection[Kind]:
    """The kinds of which only what is new is sent. Raises `ConfigurationError`."""
    said = environ.get(TEMPORALITY, "").strip().lower() or "cumulative"
    if said not in _DELTAS:
        raise ConfigurationError(f"{TEMPORALITY} is {said!r}. Known: {', '.join(_DELTAS)}.")
    return _DELTAS[said]


class MetricsPush:
    """The thread of one gateway.

    Args:
        metrics: what is read.
        ways: where it goes.
        interval: seconds between two readings.
        complaints: lets one complaint a minute through.
    """

    def __init__(self, metrics: Metrics, ways: Sequence[Way], interval: float, complaints: Complaints) -> None:
        self._metrics = metrics
        self.ways = ways
        self._interval = interval
        self._complaints = complaints
        self._over = threading.Event()
        self._last: Sequence[Reading] | None = None
        self._given_up = False
        metrics.exports.update({SENT: 0, FAILED: 0})  # so that the thread adds no key while somebody reads

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Send, for as long as it is entered; what is read at its end is sent too, if that takes no longer than some seconds."""
        if self._given_up:  # an application may live more than once
            for way in self.ways:
                way.exporter = way.make()
        self._over, self._last, self._given_up = threading.Event(), None, False
        self._complaints.hear()
        logger.addFilter(self._complaints)
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._run, args=(loop, self._over), name="portico-metrics-push", daemon=True)
        thread.start()
        try:
            yield
        finally:
            try:
                self._last = self._metrics.read()
            finally:  # a thread that nobody ends would go on for as long as the program
                self._over.set()
                await asyncio.to_thread(self._end, thread)

    def _end(self, thread: threading.Thread) -> None:
        """Wait for the last reading to arrive, but not long. Blocks."""
        thread.join(LAST)
        self._given_up = True
        for way in self.ways:
            way.exporter.shutdown()  # ends the wait between two tries, and with it the thread
        thread.join(GRACE)

    # --- on the thread ------------------------------------------------------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop, over: threading.Event) -> None:
        try:
            while not over.wait(self._interval):
                readings = self._read_on(loop)
                if readings is not None:
                    self.send(readings)
            if self._last is not None and not self._given_up:
                self.send(self._last)
        finally:  # here, since an endpoint that hangs may hold this thread for longer than anybody waits for it
            logger.removeFilter(self._complaints)
            self._complaints.stop()

    def _read_on(self, loop: asyncio.AbstractEventLoop) -> Sequence[Reading] | None:
        """A reading, made on the loop; None where that has no time, or no more."""
        read, found = threading.Event(), list[list["Reading"]]()

        def look() -> None:
            try:
                found.append(self._metrics.read())
            except Exception:
                logger.exception("the metrics could not be read")
            finally:
                read.set()

        try:
            loop.call_soon_threadsafe(look)
        except RuntimeError:
            return None  # the loop is closed
        read.wait(PATIENCE)
        return found[0] if found else None

    def send(self, readings: Sequence[Reading]) -> None:
        """Send a reading every way there is. Blocks until it has arrived, or its exporter has given it up."""
        now = time.time_ns()
        for way in self.ways:
            try:
                result = way.exporter.export(way.made.data(readings, now))
                arrived = result.name == "SUCCESS"
            except Exception:
                logger.exception("the metrics could not be sent")
                arrived = False
            if arrived:
                way.made.was_sent(readings, now)
            self._metrics.exports[SENT if arrived else FAILED] += 1
