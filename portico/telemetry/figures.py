"""Figures: reads every instrument at the moment when somebody asks, so that most of them cost a call nothing.

Above: `metrics.py`. Below: the meters, which count on the way of calls, and the tree, the book, the mailboxes, the store and the
watchdog. It reads on the event loop and gives away numbers that nothing changes any more.

Labels are agents and operations of the catalogue and slugs of errors: never keys, runs, callers or paths; and of each kind only
so many, the rest is `other`.
"""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, runtime_checkable

from portico.kernel.keyed import Keyed
from portico.kernel.keyed_mailbox import KeyedMailbox
from portico.kernel.lifecycle import ProcessStatus
from portico.kernel.supervisor import Supervisor
from portico.runs.status import ENDS, RunStatus
from portico.runs.tree_view import readiness
from portico.telemetry import semconv
from portico.telemetry.bounded import OTHER
from portico.telemetry.call_meter import ASK, RUN, SEND
from portico.telemetry.instruments import TABLE
from portico.telemetry.readings import Reading
from portico.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from portico.kernel.runtime import Runtime
    from portico.runs.dispatcher import Dispatcher
    from portico.telemetry.call_meter import CallMeter, Tally
    from portico.telemetry.loop_lag import LoopLag
    from portico.telemetry.mcp_meter import MCPMeter
    from portico.telemetry.model_meter import ModelMeter
    from portico.telemetry.request_meter import Requests

MOST_AGENTS: Final = 1000
"""How many agents have series of their own."""
MOST_SERVERS: Final = 200
"""How many external MCP servers have."""

_TAKES_CALLS: Final = (ProcessStatus.RUNNING, ProcessStatus.WAITING)
_SERVER_ERROR: Final = 500
_UPSTREAM: Final = (
    ("connected", semconv.MCP_UPSTREAM_CONNECTED),
    ("tools", semconv.MCP_UPSTREAM_TOOLS),
    ("in_flight", semconv.MCP_UPSTREAM_IN_FLIGHT),
    ("waiting", semconv.MCP_UPSTREAM_WAITING),
    ("reconnects", semconv.MCP_UPSTREAM_RECONNECTS),
)
"""Key of `Upstream.upstream_figures`, and instrument."""


@runtime_checkable
class Upstream(Protocol):
    """A process that owns the connection to an external MCP server."""

    def upstream_figures(self) -> dict[str, Any]:
        """`server`, the keys of `_UPSTREAM`, and `calls`: by outcome, a histogram of their seconds."""
        ...


@runtime_checkable
class Journal(Protocol):
    """A store that writes to a disk."""

    def journal_figures(self) -> dict[str, Any]:
        """`waiting`, `oldest` (seconds) and the histograms `waits` and `commits`; empty while it is closed."""
        ...


@dataclass(frozen=True, slots=True)
class Counted:
    """What is counted on the way of calls, or by a timer."""

    calls: CallMeter
    requests: Requests
    served: MCPMeter
    models: ModelMeter
    lag: LoopLag
    exports: Mapping[tuple[str, str], int]
    """How often figures were sent, by signal and outcome."""


class Figures:
    """Those of one gateway.

    Args:
        dispatcher: whose runtime, book and catalogue are read.
        counted: what is counted meanwhile.
        asked: who says how many there are, by instrument.
    """

    def __init__(self, dispatcher: Dispatcher, counted: Counted, asked: Mapping[str, Callable[[], int]]) -> None:
        self._dispatcher = dispatcher
        self._counted = counted
        self._asked = asked
        self._agents: list[str] = []
        self._others: list[str] = []

    def serve(self, agents: Iterable[str]) -> None:
        """These are served now."""
        everyone = list(dict.fromkeys(agents))
        self._agents, self._others = everyone[:MOST_AGENTS], everyone[MOST_AGENTS:]

    def read(self) -> list[Reading]:
        """Every instrument, in the order of the table; without those of which there is nothing to show."""
        into = {one.name: Reading(one) for one in TABLE}
        self._read_requests(into)
        self._read_calls(into)
        self._read_agents(into)
        self._read_dead_letters(into)
        self._read_runs(into)
        self._read_journal(into)
        self._read_mcp(into)
        self._read_models(into)
        self._read_whole(into)
        return [reading for reading in into.values() if reading.points]

    # --- what was counted ---------------------------------------------------------------------------------------------

    def _read_requests(self, into: dict[str, Reading]) -> None:
        reading = into[semconv.HTTP_SERVER_REQUEST_DURATION]
        for (method, route, status, scheme), durations in self._counted.requests.durations.items():
            failed = status.isdigit() and int(status) >= _SERVER_ERROR
            reading.add(durations, method, route, status, scheme, status if failed else "")

    def _read_calls(self, into: dict[str, Reading]) -> None:
        live = [run.record for run in self._dispatcher.book.live.values() if run.record is not None and run.record.parent is None]
        stored = Counter((record.agent, record.operation) for record in live)
        calls = self._counted.calls
        for (agent, operation), tally in calls.tallies.items():
            _add_tally(into, (agent, operation), tally, stored.pop((agent, operation), 0))
        other, left = calls.other, stored.total()
        if other.plain or other.stored or other.rejected or left or len(other.durations) > 1:
            _add_tally(into, (OTHER, OTHER), other, left)
        for labels, durations in calls.handlings.items():
            into[semconv.HANDLING_DURATION].add(durations, *labels)
        for sink, count in calls.failures.items():
            into[semconv.SINK_FAILURES].add(count, sink)

    def _read_models(self, into: dict[str, Reading]) -> None:
        for labels, durations in self._counted.models.durations.items():
            into[semconv.GEN_AI_CLIENT_OPERATION_DURATION].add(durations, *labels)
        for labels, tokens in self._counted.models.tokens.items():
            into[semconv.GEN_AI_CLIENT_TOKEN_USAGE].add(tokens, *labels)
        for labels, spent in self._counted.models.spent.items():
            if spent.priced:
                into[semconv.MODEL_COST].add(spent.usd, *labels)
            into[semconv.MODEL_UNPRICED].add(spent.unpriced, *labels)
            into[semconv.MODEL_UNCOUNTED].add(spent.uncounted, *labels)

    # --- what there is now --------------------------------------------------------------------------------------------

    def _read_agents(self, into: dict[str, Reading]) -> None:
        for agent in self._agents:
            for name, value in self._about(agent).items():
                into[name].add(value, agent)
        if self._others:  # together: their figures add up, and they are up when all are
            summed: Counter[str] = Counter()
            every = [self._about(agent) for agent in self._others]
            for about in every:
                summed.update(about)
            summed[semconv.AGENT_UP] = min(int(about[semconv.AGENT_UP]) for about in every)
            for name, value in summed.items():
                into[name].add(value, OTHER)

    def _about(self, agent: str) -> dict[str, int]:
        up, processes = self._life(agent)
        about = {semconv.AGENT_UP: int(up), semconv.AGENT_PROCESSES: processes}
        mailbox = self._dispatcher.runtime.router.registry.get(agent)
        if mailbox is not None:
            about |= {
                semconv.MAILBOX_MESSAGES: len(mailbox),
                semconv.MAILBOX_LIMIT: mailbox.size * max(1, len(mailbox.boxes) if isinstance(mailbox, KeyedMailbox) else 1),
                semconv.MAILBOX_EXPIRED: mailbox.expired,
                semconv.AGENT_RESTARTS: mailbox.restarts,
                semconv.AGENT_CRASHES: mailbox.crashes,
            }
        return about

    def _life(self, agent: str) -> tuple[bool, int]:
        """Whether it takes calls, and how many processes stand behind its name."""
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

    def _read_dead_letters(self, into: dict[str, Reading]) -> None:
        by_agent = dict(self._dispatcher.book.dead_letters.by_agent)
        for agent in self._agents:
            into[semconv.DEAD_LETTERS].add(by_agent.pop(agent, 0), agent)
        if by_agent:
            into[semconv.DEAD_LETTERS].add(sum(by_agent.values()), OTHER)

    def _read_runs(self, into: dict[str, Reading]) -> None:
        statuses = Counter(run.status for run in self._dispatcher.book.live.values())
        for status in RunStatus:
            if status in ENDS:
                into[semconv.RUNS_ENDED].add(self._counted.calls.ends.get(status.value, 0), status.value)
            else:
                into[semconv.RUNS].add(statuses[status], status.value)

    def _read_journal(self, into: dict[str, Reading]) -> None:
        store = self._dispatcher.book.store
        into[semconv.STORE_UP].add(int(store.failure is None))
        figures = store.journal_figures() if isinstance(store, Journal) else {}
        if figures:
            into[semconv.JOURNAL_WAITING].add(figures["waiting"])
            into[semconv.JOURNAL_OLDEST].add(figures["oldest"])
            into[semconv.JOURNAL_WAIT].add(figures["waits"])
            into[semconv.JOURNAL_COMMIT].add(figures["commits"])

    def _read_mcp(self, into: dict[str, Reading]) -> None:
        for labels, durations in self._counted.served.durations.items():
            into[semconv.MCP_SERVER_OPERATION_DURATION].add(durations, *labels)
        for figures in self._upstreams()[:MOST_SERVERS]:
            server = figures["server"]
            for outcome, durations in figures["calls"].items():
                error = "" if outcome == "ok" else outcome
                into[semconv.MCP_CLIENT_OPERATION_DURATION].add(durations, "tools/call", server, error)
            for key, name in _UPSTREAM:
                into[name].add(int(figures[key]), server)

    def _upstreams(self) -> list[dict[str, Any]]:
        """What each owner of a connection tells; which class is one is asked once, since there are thousands of agents."""
        owners: dict[type, bool] = {}
        found: list[dict[str, Any]] = []
        for agent in self._dispatcher.runtime.all_agents():
            kind = type(agent)
            if kind not in owners:
                owners[kind] = isinstance(agent, Upstream)
            if owners[kind]:
                found.append(cast("Upstream", agent).upstream_figures())
        return found

    def _read_whole(self, into: dict[str, Reading]) -> None:
        dispatcher, runtime = self._dispatcher, self._dispatcher.runtime
        for name, count in self._asked.items():
            into[name].add(count())
        ready = readiness(runtime)[0] and not dispatcher.draining and dispatcher.book.store.failure is None
        into[semconv.READY].add(int(ready))
        into[semconv.DRAINING].add(int(dispatcher.draining))
        into[semconv.LOOP_LAG].add(self._counted.lag.worst)
        self._read_stalls(into)
        for (signal, outcome), count in self._counted.exports.items():
            into[semconv.EXPORTS].add(count, signal, outcome)
        into[semconv.BUILD].add(1, __version__, platform.python_version())

    def _read_stalls(self, into: dict[str, Reading]) -> None:
        """By agent, as callers know it; what is no agent's, or no longer there, has an empty label."""
        counts: Counter[str] = Counter({"": 0})
        seconds: Counter[str] = Counter()
        for process, stalls in self._dispatcher.runtime.watchdog.stalls.items():
            agent = agent_of(self._dispatcher.runtime, process) if process else ""
            counts[agent] += stalls.count
            seconds[agent] += stalls.seconds  # pyright: ignore[reportArgumentType]  # a counter of seconds
        for agent, count in counts.items():
            into[semconv.LOOP_STALLS].add(count, agent)
            into[semconv.LOOP_STALLED].add(float(seconds[agent]), agent)


def agent_of(runtime: Runtime, process: str) -> str:
    """The label of a process: its agent, as callers know it."""
    return runtime.router.registry.agent_of(process)


def _add_tally(into: dict[str, Reading], labels: tuple[str, str], tally: Tally, stored: int) -> None:
    into[semconv.CALLS_ADMITTED].add(tally.plain + tally.kept, *labels, ASK)
    into[semconv.CALLS_ADMITTED].add(tally.stored - tally.sent - tally.kept, *labels, RUN)
    into[semconv.CALLS_ADMITTED].add(tally.sent, *labels, SEND)
    into[semconv.CALLS_IN_FLIGHT].add(tally.plain - tally.done + stored, *labels)
    for reason, count in tally.rejected.items():
        into[semconv.CALLS_REJECTED].add(count, *labels, reason)
    for (kind, outcome), durations in tally.durations.items():
        into[semconv.CALL_DURATION].add(durations, *labels, kind, outcome)
