"""RunStore: the port under every run. What happens is submitted as changes, several of them all or nothing, in order.

Above: the dispatcher and the handles of runs, which submit. Below: `MemoryRunStore` here, `SqliteStore` in `stores/`. A store knows
no agents and no messages: it keeps plain data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from portico.runs.audit_store import AuditStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from portico.kernel.protocols import Lineage
    from portico.runs.callback import Callback
    from portico.runs.event import Event
    from portico.runs.record import RunRecord
    from portico.runs.status import RunStatus
    from portico.runs.usage import UsageGroup, UsageQuery, UsageRow


# --- what happens: read-only by convention, and not frozen where one is made for every run ----------------------------


@dataclass(slots=True)
class AcceptRun:
    """A new run. Conflicts (`RunExists`, and nothing of the transaction is done) where its id, or its key, is taken."""

    record: RunRecord
    scope: bytes | None = None
    """The hash of principal, agent, operation and idempotency key; None without a key."""
    key_until: float = 0.0
    """Until when the key is kept: seconds since the epoch. An older one is free again."""


@dataclass(slots=True)
class BeginRun:
    """A handling begins."""

    run_id: str
    attempts: int
    at: float


@dataclass(slots=True)
class AppendEvents:
    """Events of a run. One that is there already, by its number, is left as it is."""

    run_id: str
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class StoreStep:
    """What need not be computed again: a step's result, an answer that was waited for. Replaces an earlier value."""

    run_id: str
    key: str
    value: Any


@dataclass(frozen=True, slots=True)
class ParkRun:
    """The run waits."""

    run_id: str
    waiting: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class QueueRun:
    """The run is to be handled (again): what it waited for has come, or another agent goes on; that begins without its steps."""

    run_id: str
    agent: str | None = None
    """The agent that goes on; None for the same."""
    operation: str | None = None
    payload: Any = None
    """The new request, where another agent goes on."""
    once: bool = False
    redacted: bool = False
    """Whether something secret was left out of that."""


@dataclass(slots=True)
class EndRun:
    """The run has ended. Nothing where it had ended before."""

    run_id: str
    status: RunStatus
    at: float
    attempts: int
    output: Any = None
    meta: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    last_seq: int = 1
    dead: str | None = None


@dataclass(frozen=True, slots=True)
class Redrive:
    """A dead letter was sent again: it is none any more."""

    run_id: str


@dataclass(frozen=True, slots=True)
class StoreCallback:
    """How far it has come to tell of the run's end. Replaces what was stored of it before."""

    run_id: str
    callback: Callback


@dataclass(frozen=True, slots=True)
class StoreState:
    """The state of a process; None where it is to be forgotten."""

    name: str
    state: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class StoreSuspension:
    """A process was suspended, or (None) resumed."""

    name: str
    reason: str | None


@dataclass(slots=True)
class AddUsage:
    """Model calls were made: add what they took to the sums of their day and, where they were made in a run, to those of that.

    The run need not be stored: a plain ask has usage too.
    """

    row: UsageRow
    restored: bool = False
    """It is one of the sums themselves, from another store, of a run where it names one. Nothing where there is one already."""


OfOneRun = BeginRun | AppendEvents | StoreStep | ParkRun | QueueRun | EndRun | Redrive | StoreCallback
"""What happens to a run that is there."""
Change = AcceptRun | OfOneRun | StoreState | StoreSuspension | AddUsage


class RunExists(Exception):
    """The id, or the idempotency key, of a new run is taken. `run_id`: by which run."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id


# --- what is read -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuery:
    """Which runs to list, the newest first. Every condition that is given must hold."""

    everyone: bool = False
    """Whoever they belong to; else those of `principal`, where None is the principal of callers without a name."""
    principal: str | None = None
    status: RunStatus | None = None
    agent: str | None = None
    parent: str | None = None
    prefix: str | None = None
    """Only those whose id begins so."""
    dead: bool = False
    """Only dead letters."""
    before: tuple[float, str] | None = None
    """Only those older: `created` and `run_id` of the last one of the page before."""
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long is kept what has ended.

    Runs that have not ended are never removed, nor are dead letters, and those with a pending callback, younger than `runs_for`.
    """

    runs_for: float | None = 30 * 86400.0
    """Seconds after its end; None for ever."""
    payloads_for: float | None = None
    """Seconds after its end during which request, reply, events and steps are kept; None as long as the run."""
    usage_for: float | None = 400 * 86400.0
    """Seconds after which the usage of a day is removed; None for never. That of each single run goes with `runs_for`."""
    max_bytes: int | None = None
    """How large the store may be; beyond, the oldest ended runs are removed, whatever their age."""


@dataclass(slots=True)
class Pruned:
    """What retention removed."""

    runs: int = 0
    payloads: int = 0
    keys: int = 0
    usage: int = 0
    """Rows of usage."""
    freed: int = 0
    """Bytes by which the file may shrink, or that later writes use again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSummary:
    """What is in a store."""

    kind: str
    """`memory` or `sqlite`."""
    where: str
    """For people: the directory, or that it ends with the program."""
    runs: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many runs, by status."""
    dead_letters: int = 0
    events: int = 0
    states: int = 0
    size: int = 0
    """Bytes, with what is not yet moved from the write-ahead log."""


class RunStore(AuditStore, Protocol):
    """See the module. All methods are called on the event loop, and none of them blocks it."""

    @property
    def durable(self) -> bool:
        """Whether what it keeps outlives the program."""
        ...

    @property
    def where(self) -> str:
        """Where it keeps things, for people: `memory`, or the directory."""
        ...

    @property
    def failure(self) -> str | None:
        """Why the last transaction could not be stored, as a sentence; None where the last one was."""
        ...

    async def open(self) -> None:
        """Make it ready. Raises `StoreError` where it cannot be: in use by another program, damaged, not writable."""
        ...

    async def close(self) -> None:
        """Store what was submitted, and let go of it."""
        ...

    def submit(
        self, changes: Sequence[Change], ended: Callable[[Exception | None], object], lineage: Lineage | None = None
    ) -> None:
        """Store these changes, all or none, after everything that was submitted before.

        What they hold is copied at once: the caller may go on changing it. `ended` is called once, on the event loop, with None
        when they are stored for good, with `RunExists` for an `AcceptRun` that was there before, else with `StoreUnavailable`.
        It may be called before this returns.

        Raises:
            ValueError: something in the changes is not JSON-able; nothing was submitted.
            StoreUnavailable: too much waits to be stored already; nothing was submitted.
        """
        ...

    async def run(self, run_id: str) -> RunRecord | None:
        """The run of that id, as it was stored last."""
        ...

    async def run_of_key(self, scope: bytes) -> RunRecord | None:
        """The run that an idempotency key stands for; None where there is none, or where it is kept no more."""
        ...

    async def runs(self, query: RunQuery) -> list[RunRecord]:
        """At most `limit` runs, the newest first."""
        ...

    async def unfinished(self) -> list[RunRecord]:
        """Every run that has not ended, in the order of acceptance."""
        ...

    async def callbacks(self) -> list[tuple[str, Callback]]:
        """Every pending callback of a run that has ended, with the run's id; the first that is due comes first."""
        ...

    async def events(self, run_id: str, after: int = 0, limit: int = 500) -> list[Event]:
        """At most `limit` stored events of a run with `seq` above `after`, in order."""
        ...

    async def steps(self, run_id: str) -> dict[str, Any]:
        """Every stored step of a run, by key."""
        ...

    async def state(self, name: str) -> dict[str, Any] | None:
        """The state of a process, after everything that was submitted before."""
        ...

    async def suspensions(self) -> dict[str, str]:
        """The reason of each suspension, by the name of the process."""
        ...

    async def usage(self, query: UsageQuery) -> list[UsageGroup]:
        """Sums of what model calls took. Groups by run, and of one run, reach back as far as runs are kept."""
        ...

    async def prune(self, retention: Retention, now: float) -> Pruned:
        """Remove what is kept no longer; in small transactions, so that nobody waits for long."""
        ...

    async def summary(self) -> StoreSummary:
        """What is in it."""
        ...

    async def verify(self) -> list[str]:
        """Look for damage. Returns one sentence for each that was found."""
        ...
