"""Metrics: figures about one gateway: counted while it runs, read when somebody asks, written as whoever asks reads them.

Above: the app makes it and lets it count; `routes/metrics.py` serves it; `metrics_push.py` sends it. Below: the meters, and
`figures.py`, which reads them. Two gateways of one process know nothing of each other.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from portico.telemetry import semconv
from portico.telemetry.call_meter import CallMeter
from portico.telemetry.exposition import Exposition
from portico.telemetry.figures import Counted, Figures, agent_of
from portico.telemetry.loop_lag import LoopLag
from portico.telemetry.mcp_meter import MCPMeter
from portico.telemetry.model_meter import ModelMeter
from portico.telemetry.request_meter import Requests

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from portico.runs.dispatcher import Dispatcher
    from portico.telemetry.readings import Reading


class Metrics:
    """The metrics of one gateway.

    Args:
        dispatcher: whose calls are counted from now on.
        streams: how many event streams are open.
        sockets: how many WebSockets are.
        spans_lost: how many spans nobody has got; None where there are no spans.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        streams: Callable[[], int],
        sockets: Callable[[], int],
        spans_lost: Callable[[], int] | None = None,
    ) -> None:
        self.calls = CallMeter()
        self.requests = Requests()
        self.served = MCPMeter()
        self.lag = LoopLag()
        self.exports: Counter[tuple[str, str]] = Counter()
        """How often figures were sent, by signal and outcome."""
        self.models = ModelMeter(lambda process: agent_of(dispatcher.runtime, process))
        counted = Counted(self.calls, self.requests, self.served, self.models, self.lag, self.exports)
        asked = {semconv.STREAMS_OPEN: streams, semconv.SOCKETS_OPEN: sockets}
        if spans_lost is not None:
            asked[semconv.SPANS_LOST] = spans_lost
        self._figures = Figures(dispatcher, counted, asked)
        self._dispatcher = dispatcher
        self._exposition = Exposition()
        self._follow()
        dispatcher.meter = self.calls
        dispatcher.book.on_end.append(self.calls.run_ended)

    @contextmanager
    def counting(self) -> Generator[None]:
        """Count what the runtime tells, for as long as it is entered: on its loop."""
        services, roster, sinks = self._dispatcher.runtime.services, self._dispatcher.roster, self._dispatcher.book.sinks
        models = cast("Any", self.models)  # it listens to models alone, as it may
        services.meters.append(self.calls)
        services.listeners.append(models)
        roster.on_change.append(self._follow)
        sinks.on_failure.append(self.calls.failed)
        self._follow()
        self.lag.start()
        try:
            yield
        finally:
            self.lag.stop()
            sinks.on_failure.remove(self.calls.failed)
            roster.on_change.remove(self._follow)
            services.listeners.remove(models)
            services.meters.remove(self.calls)

    def read(self) -> list[Reading]:
        """What every instrument shows now. On the loop; the rest can be done anywhere."""
        return self._figures.read()

    def text(self, readings: list[Reading], *, as_openmetrics: bool) -> tuple[bytes, str]:
        """Readings as text, and its media type. OpenMetrics is asked for; else it is Prometheus' own format, 0.0.4."""
        return self._exposition.text(readings, as_openmetrics=as_openmetrics)

    def _follow(self) -> None:
        """The catalogue is another."""
        catalogue = self._dispatcher.catalogue
        endpoints = list(dict.fromkeys([*catalogue, *catalogue.tools.values()]))
        self.calls.serve(endpoints)
        self._figures.serve(endpoint.agent for endpoint in endpoints)
