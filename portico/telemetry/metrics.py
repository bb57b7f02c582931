"""Metrics: figures about one gateway, in the text formats of Prometheus and OpenMetrics.

Above: `routes/metrics.py` serves them. Below: `call_meter.py`, fed by the dispatcher, and the tree, the book and the mailboxes,
which are read when somebody asks. The registry is the gateway's own: two gateways of one process know nothing of each other.

Labels are agents and operations of the catalogue and slugs of errors: never keys, runs, callers or paths.
"""

from __future__ import annotations

import math
import platform
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, runtime_checkable

from prometheus_client import CollectorRegistry, ProcessCollector, exposition
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from portico.kernel.keyed import Keyed
from portico.kernel.lifecycle import ProcessStatus
from portico.kernel.supervisor import Supervisor
from portico.runs.status import ENDS, RunStatus
from portico.telemetry import semconv
from portico.telemetry.call_meter import BOUNDS, CallMeter, Durations
from portico.telemetry.loop_lag import LoopLag
from portico.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from portico.kernel.mailbox import Mailbox
    from portico.runs.dispatcher import Dispatcher

TEXT: Final = exposition.CONTENT_TYPE_PLAIN_0_0_4
OPENMETRICS: Final = openmetrics.CONTENT_TYPE_LATEST

_TAKES_CALLS: Final = (ProcessStatus.RUNNING, ProcessStatus.WAITING)
_AGENT: Final = ("agent",)
_OPERATION: Final = ("agent", "operation")


_SERVER: Final = ("server",)
_UPSTREAM: Final[tuple[tuple[str, Any, str, str], ...]] = (
    ("connected", GaugeMetricFamily, semconv.MCP_UPSTREAM_CONNECTED, "1 while an external MCP server is connected, else 0."),
    ("tools", GaugeMetricFamily, semconv.MCP_UPSTREAM_TOOLS, "Tools that it has, or had when it was connected last."),
    ("in_flight", GaugeMetricFamily, semconv.MCP_UPSTREAM_IN_FLIGHT, "Calls to it that are under way."),
    ("waiting", GaugeMetricFamily, semconv.MCP_UPSTREAM_WAITING, "Calls that wait for their turn with it."),
    ("reconnects", CounterMetricFamily, semconv.MCP_UPSTREAM_RECONNECTS, "How often it was connected anew."),
)
"""Key of `Upstream.upstream_figures`, kind, name, and what it says."""


@runtime_checkable
class Upstream(Protocol):
    """A process that owns the connection to an external MCP server."""

    def upstream_figures(self) -> dict[str, Any]:
        """`server`, the keys of `_UPSTREAM`, and by outcome: `calls`, and the `seconds` that they took together."""
        ...


class Metrics:
    """The metrics of one gateway.

    Args:
        dispatcher: whose calls are counted from now on.
        streams: how many event streams are open.
    """

    def __init__(self, dispatcher: Dispatcher, streams: Callable[[], int]) -> None:
        endpoints = dict.fromkeys([*dispatcher.catalogue, *dispatcher.catalogue.tools.values()])
        self.calls = CallMeter(endpoints)
        self.lag = LoopLag()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Figures(dispatcher, self.calls, self.lag, streams))
        ProcessCollector(registry=self._registry)
        dispatcher.meter = self.calls
        dispatcher.book.on_end.append(self.calls.run_ended)

    def text(self, *, as_openmetrics: bool) -> tuple[bytes, str]:
        """All of them, and the media type. OpenMetrics is asked for; else it is Prometheus' own format, 0.0.4."""
        if as_openmetrics:
            return cast("Any", openmetrics).generate_latest(self._registry), OPENMETRICS
        return exposition.generate_latest(self._registry), TEXT


class _Figures(Collector):
    """Reads what is there at the moment when somebody asks: so nothing of it costs a call anything."""

    def __init__(self, dispatcher: Dispatcher, calls: CallMeter, lag: LoopLag, streams: Callable[[], int]) -> None:
        self._dispatcher = dispatcher
        self._calls = calls
        self._lag = lag
        self._streams = streams
        self._agents = list(dict.fromkeys(agent for agent, _ in calls.tallies))

    def describe(self) -> Iterator[Metric]:
        """Nothing: what is here needs no comparison with others."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Every metric of the gateway itself."""
        yield self._durations()
        yield from self._counts()
        yield from self._mailboxes()
        yield from self._lives()
        yield from self._upstreams()
        yield from self._whole()

    def _durations(self) -> Metric:
        about = "Seconds from the admission of a call to its end, by outcome: ok, or the slug of the error."
        family = HistogramMetricFamily(semconv.CALL_DURATION, about, labels=(*_OPERATION, "outcome"))
        for (agent, operation), tally in self._calls.tallies.items():
            for outcome, durations in tally.durations.items():
                labels = [_text(agent), _text(operation), _text(outcome)]
                family.add_metric(labels, _buckets(durations), durations.total)
        return family

    def _counts(self) -> Iterator[Metric]:
        admitted = CounterMetricFamily(semconv.CALLS_ADMITTED, "Calls that were admitted.", labels=_OPERATION)
        rejected = CounterMetricFamily(
            semconv.CALLS_REJECTED, "Calls that were refused, by the slug of the error.", labels=(*_OPERATION, "reason")
        )
        in_flight = GaugeMetricFamily(semconv.CALLS_IN_FLIGHT, "Calls that were admitted and have not ended.", labels=_OPERATION)
        runs = [run.record for run in self._dispatcher.book.live.values() if run.record is not None and run.record.parent is None]
        stored = Counter((record.agent, record.operation) for record in runs)
        for (agent, operation), tally in self._calls.tallies.items():
            labels = [_text(agent), _text(operation)]
            admitted.add_metric(labels, tally.plain + tally.stored)
            in_flight.add_metric(labels, tally.plain - tally.done + stored[agent, operation])
            for reason, count in tally.rejected.items():
                rejected.add_metric([*labels, _text(reason)], count)
        yield from (admitted, rejected, in_flight)

    def _mailboxes(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily(semconv.MAILBOX_MESSAGES, "Messages that wait in an agent's mailbox.", labels=_AGENT)
        limit = GaugeMetricFamily(
            semconv.MAILBOX_LIMIT, "Messages that may wait in an agent's mailbox; of a keyed agent, for each key.", labels=_AGENT
        )
        expired = CounterMetricFamily(
            semconv.MAILBOX_EXPIRED,
            "Messages that were dropped because their deadline passed before they were handled.",
            labels=_AGENT,
        )
        restarts = CounterMetricFamily(semconv.AGENT_RESTARTS, "Restarts of an agent, or of all behind its name.", labels=_AGENT)
        for agent, mailbox in self._boxes():
            depth.add_metric([agent], len(mailbox))
            limit.add_metric([agent], mailbox.size)
            expired.add_metric([agent], mailbox.expired)
            restarts.add_metric([agent], mailbox.restarts)
        yield from (depth, limit, expired, restarts)

    def _lives(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(semconv.AGENT_UP, "1 while an agent takes calls, else 0.", labels=_AGENT)
        processes = GaugeMetricFamily(
            semconv.AGENT_PROCESSES, "Processes behind an agent's name: members of a pool, keys in use.", labels=_AGENT
        )
        for agent in self._agents:
            taking, count = self._life(agent)
            up.add_metric([_text(agent)], taking)
            processes.add_metric([_text(agent)], count)
        yield from (up, processes)

    def _life(self, agent: str) -> tuple[bool, int]:
        runtime = self._dispatcher.runtime
        node, mailbox = runtime.find(agent), runtime.router.registry.get(agent)
        if node is None or mailbox is None or not runtime.alive:
            return False, 0
        open_ = mailbox.closed is None and mailbox.suspended is None
        if not isinstance(node, Supervisor):
            return open_ and node.status in _TAKES_CALLS, 1
        children = node.which_children()
        if isinstance(node, Keyed):  # a key that nobody uses has no process, and gets one
            return open_, len(children)
        return open_ and any(child.status in _TAKES_CALLS for child in node.all_agents()), len(children)

    def _upstreams(self) -> Iterator[Metric]:
        """The external MCP servers. Where there are none, there is nothing to show."""
        found = [agent.upstream_figures() for agent in self._dispatcher.runtime.all_agents() if isinstance(agent, Upstream)]
        if not found:
            return
        durations = SummaryMetricFamily(
            semconv.MCP_UPSTREAM_CALL_DURATION,
            "Seconds of calls to an external MCP server, by outcome: ok, cancelled, or the slug of the error.",
            labels=(*_SERVER, "outcome"),
        )
        for figures in found:
            for outcome, count in figures["calls"].items():
                durations.add_metric([figures["server"], _text(outcome)], count, figures["seconds"][outcome])
        yield durations
        for key, kind, name, about in _UPSTREAM:
            family = kind(name, about, labels=_SERVER)
            for figures in found:
                family.add_metric([figures["server"]], figures[key])
            yield family

    def _whole(self) -> Iterator[Metric]:
        book = self._dispatcher.book
        runs = GaugeMetricFamily(semconv.RUNS, "Stored runs that have not ended, by status.", labels=("status",))
        statuses = Counter(run.status for run in book.live.values())
        for status in RunStatus:
            if status not in ENDS:
                runs.add_metric([status.value], statuses[status])
        yield runs
        yield GaugeMetricFamily(semconv.STREAMS_OPEN, "Event streams that are open.", self._streams())
        yield CounterMetricFamily(semconv.DEAD_LETTERS, "Messages that were given up after their retries.", book.dead_letters.total)
        yield GaugeMetricFamily(semconv.STORE_UP, "1 while runs can be stored, else 0.", book.store.failure is None)
        yield GaugeMetricFamily(semconv.DRAINING, "1 while the gateway takes no new calls, else 0.", self._dispatcher.draining)
        about = "Seconds by which the event loop was late, at its worst within the last minute."
        yield GaugeMetricFamily(semconv.LOOP_LAG, about, self._lag.worst)
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily(semconv.BUILD, "What runs here.", build)

    def _boxes(self) -> Iterator[tuple[str, Mailbox]]:
        registry = self._dispatcher.runtime.router.registry
        for agent in self._agents:
            mailbox = registry.get(agent)
            if mailbox is not None:
                yield _text(agent), mailbox


def _buckets(durations: Durations) -> list[tuple[str, float]]:
    """Cumulative, as the formats want them."""
    buckets: list[tuple[str, float]] = []
    sum_so_far = 0
    for bound, count in zip((*BOUNDS, math.inf), durations.counts, strict=True):
        sum_so_far += count
        buckets.append(("+Inf" if bound == math.inf else repr(bound), sum_so_far))
    return buckets


def _text(label: str) -> str:
    """A label as it can be written: names may hold what is no Unicode text."""
    return label.encode("utf-8", "replace").decode()
