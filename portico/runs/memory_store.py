"""MemoryRunStore: the in-memory twin of the port `RunStore`. It lasts as long as the program, and is bounded.

Above: the dispatcher and the handles of runs. It keeps copies and gives copies. When there are too many runs, those that ended
first are forgotten first; one that has not ended never is. Not durable: what must survive the program needs `stores/sqlite.py`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from dataclasses import replace
from heapq import nlargest
from itertools import islice, takewhile
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from portico.errors import StoreUnavailable
from portico.kernel.clock import SystemClock
from portico.kernel.memory import copied
from portico.runs.audit_entry import ChainHead
from portico.runs.audit_store import EntryExists
from portico.runs.event import Event
from portico.runs.memory_usage import MemoryUsage
from portico.runs.status import ENDS, RunStatus
from portico.runs.store import (
    AcceptRun,
    AddUsage,
    AppendEvents,
    BeginRun,
    Change,
    EndRun,
    OfOneRun,
    ParkRun,
    Pruned,
    QueueRun,
    Redrive,
    Retention,
    RunExists,
    RunQuery,
    StoreCallback,
    StoreState,
    StoreStep,
    StoreSummary,
    StoreSuspension,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from portico.kernel.clock import Clock
    from portico.kernel.protocols import Lineage
    from portico.runs.audit_entry import SealedEntry
    from portico.runs.audit_store import AuditQuery
    from portico.runs.callback import Callback
    from portico.runs.record import RunRecord
    from portico.runs.usage import UsageGroup, UsageQuery

COPIED: Final = ("payload", "metadata", "output", "meta", "error", "waiting")
"""The fields of a record whose values can be changed."""


class _Kept:
    """One run: what was accepted, what became of it since, and its events and steps."""

    __slots__ = ("accepted", "events", "later", "scope", "steps")

    def __init__(self, accepted: RunRecord, later: dict[str, Any], scope: bytes | None) -> None:
        self.accepted = accepted
        self.later = later
        """The fields that differ from what was accepted, and those whose values can be changed."""
        self.events: list[Event] = []
        self.steps: dict[str, Any] = {}
        self.scope = scope

    def __getitem__(self, field: str) -> Any:
        return self.later[field] if field in self.later else getattr(self.accepted, field)

    @property
    def age(self) -> tuple[float, str]:
        """What lists are sorted by."""
        return self.accepted.created, self.accepted.run_id

    @property
    def ended(self) -> bool:
        return self["status"] in ENDS

    def record(self) -> RunRecord:
        later = {field: copied(value) if field in COPIED else value for field, value in self.later.items()}
        return replace(self.accepted, **later)

    def append(self, events: Iterable[Event]) -> None:
        for event in events:
            at = len(self.events)
            if at and self.events[-1].seq >= event.seq:
                at = bisect_left(self.events, event.seq, key=_seq)
                if self.events[at].seq == event.seq:
                    continue
            self.events.insert(at, event)

    def strip(self) -> None:
        self.later |= {"payload": None, "output": None, "stripped": True}
        self.events = []
        self.steps = {}


class MemoryRunStore:
    """See `RunStore`. `submit` has done it all when it returns."""

    def __init__(self, limit: int = 10_000, *, clock: Clock | None = None) -> None:
        """`limit`: how many runs are remembered. `clock` tells when an idempotency key is kept no more; None for the machine's."""
        self._limit = limit
        self._clock: Clock = clock or SystemClock()
        self._number = 0
        self._runs: dict[str, _Kept] = {}
        """In the order of acceptance."""
        self._unfinished: dict[str, _Kept] = {}
        """In the order of acceptance."""
        self._ended: dict[str, _Kept] = {}
        """In the order in which they ended."""
        self._keys: dict[bytes, tuple[_Kept, float]] = {}
        self._states: dict[str, Any] = {}
        self._suspensions: dict[str, str] = {}
        self._audit: deque[SealedEntry] = deque()
        """As many as runs: where there are more, `audit_full` says so."""
        self._usage = MemoryUsage(limit)

    @property
    def durable(self) -> bool:
        """See `RunStore.durable`."""
        return False

    @property
    def where(self) -> str:
        """See `RunStore.where`."""
        return "memory"

    @property
    def failure(self) -> str | None:
        """See `RunStore.failure`: memory does not fail."""
        return None

    async def open(self) -> None:
        """See `RunStore.open`."""

    async def close(self) -> None:
        """See `RunStore.close`. What was stored can still be read."""

    # --- what happens -------------------------------------------------------------------------------------------------

    def submit(
        self, changes: Sequence[Change], ended: Callable[[Exception | None], object], lineage: Lineage | None = None
    ) -> None:
        """See `RunStore.submit`. What is not JSON-able is taken too, where it can be copied."""
        try:
            own = [_own(change) for change in changes]
        except (TypeError, RecursionError) as error:
            raise ValueError(f"This cannot be stored: {error}") from error
        error = lineage.broken if lineage is not None else None
        error = error or self._objection(changes)
        if error is None:
            for change, values in zip(changes, own, strict=True):
                self._apply(change, values)
            self._forget()
        elif lineage is not None:
            lineage.broken = error
        ended(error)

    def _objection(self, changes: Sequence[Change]) -> Exception | None:
        """Why the changes cannot be made."""
        new: set[str] = set()
        for change in changes:
            if isinstance(change, AcceptRun):
                taken_by = self._taken_by(change)
                if taken_by is not None or change.record.run_id in new:
                    return RunExists(taken_by or change.record.run_id)
                new.add(change.record.run_id)
            elif isinstance(change, StoreState | StoreSuspension | AddUsage):
                continue
            elif change.run_id not in self._runs and change.run_id not in new:
                return StoreUnavailable(f"run {change.run_id!r} was never accepted, or is kept no more.")
        return None

    def _taken_by(self, change: AcceptRun) -> str | None:
        """The run that has the key, or the id, of a new one."""
        if change.scope is not None and change.scope in self._keys:
            kept, until = self._keys[change.scope]
            if until > change.record.created:
                return kept.accepted.run_id
        return change.record.run_id if change.record.run_id in self._runs else None

    def _apply(self, change: Change, own: Any) -> None:
        match change:
            case AcceptRun():
                self._accept(change, own)
            case StoreState():
                _put(self._states, change.name, own)
            case StoreSuspension():
                _put(self._suspensions, change.name, change.reason)
            case AddUsage():
                self._usage.add(change)
            case _:
                self._change(self._runs[change.run_id], change, own)

    def _accept(self, change: AcceptRun, own: dict[str, Any]) -> None:
        self._number += 1
        kept = _Kept(change.record, {**own, "number": self._number}, change.scope)
        run_id = change.record.run_id
        self._runs[run_id] = kept
        (self._ended if kept.ended else self._unfinished)[run_id] = kept
        if change.scope is not None:
            self._keys[change.scope] = kept, change.key_until

    def _change(self, kept: _Kept, change: OfOneRun, own: Any) -> None:
        match change:
            case AppendEvents():
                kept.append(own)
            case StoreStep():
                kept.steps[change.key] = own
            case Redrive():
                kept.later["dead"] = None
            case StoreCallback():
                kept.later["callback"] = change.callback
            case _ if kept.ended:
                pass
            case QueueRun() if change.agent is not None:
                kept.later |= own
                kept.steps.clear()  # another agent goes on, under its own names
            case EndRun():
                kept.later |= own
                self._ended[change.run_id] = self._unfinished.pop(change.run_id)
            case _:
                kept.later |= own

    def _forget(self) -> None:
        while len(self._runs) > self._limit and self._ended:
            self._remove(next(iter(self._ended)))

    def _remove(self, run_id: str) -> None:
        kept = self._runs.pop(run_id)
        del self._ended[run_id]
        self._usage.forget(run_id)
        if kept.scope is not None and self._keys.get(kept.scope, (None, 0.0))[0] is kept:
            del self._keys[kept.scope]

    # --- what is read -------------------------------------------------------------------------------------------------

    async def run(self, run_id: str) -> RunRecord | None:
        """See `RunStore.run`."""
        kept = self._runs.get(run_id)
        return self._record(kept) if kept else None

    def _record(self, kept: _Kept) -> RunRecord:
        record = kept.record()
        record.usage = self._usage.of_run(record.run_id)
        return record

    async def run_of_key(self, scope: bytes) -> RunRecord | None:
        """See `RunStore.run_of_key`."""
        kept, until = self._keys.get(scope, (None, 0.0))
        return self._record(kept) if kept and until > self._clock.time() else None

    async def runs(self, query: RunQuery) -> list[RunRecord]:
        """See `RunStore.runs`."""
        found = (kept for kept in self._runs.values() if _answers(kept, query))
        return [self._record(kept) for kept in nlargest(query.limit, found, key=lambda kept: kept.age)]

    async def unfinished(self) -> list[RunRecord]:
        """See `RunStore.unfinished`."""
        return [self._record(kept) for kept in self._unfinished.values()]

    async def callbacks(self) -> list[tuple[str, Callback]]:
        """See `RunStore.callbacks`."""
        found = ((kept["callback"], run_id) for run_id, kept in self._ended.items())
        pending = [(one.next_at, run_id, one) for one, run_id in found if one is not None and one.next_at is not None]
        return [(run_id, one) for _, run_id, one in sorted(pending, key=itemgetter(0))]

    async def events(self, run_id: str, after: int = 0, limit: int = 500) -> list[Event]:
        """See `RunStore.events`."""
        kept = self._runs.get(run_id)
        if kept is None:
            return []
        start = bisect_left(kept.events, after + 1, key=_seq)
        return [_own_event(event) for event in kept.events[start : start + limit]]

    async def steps(self, run_id: str) -> dict[str, Any]:
        """See `RunStore.steps`."""
        kept = self._runs.get(run_id)
        return copied(kept.steps) if kept else {}

    async def state(self, name: str) -> dict[str, Any] | None:
        """See `RunStore.state`."""
        return copied(self._states.get(name))

    async def suspensions(self) -> dict[str, str]:
        """See `RunStore.suspensions`."""
        return dict(self._suspensions)

    # --- the audit trail ----------------------------------------------------------------------------------------------

    async def append_audit(self, entries: Sequence[SealedEntry], forget_through: int = 0) -> None:
        """See `AuditStore.append_audit`."""
        last = (await self.audit_head()).seq
        hashes = {sealed.seq: sealed.hash for sealed in entries if sealed.seq <= last}
        for there in takewhile(lambda sealed: sealed.seq >= min(hashes, default=last + 1), reversed(self._audit)):
            if hashes.get(there.seq, there.hash) != there.hash:
                raise EntryExists(str(there.seq))
        self._audit += [sealed for sealed in entries if sealed.seq > last]
        while self._audit and self._audit[0].seq <= forget_through:
            self._audit.popleft()

    async def audit_head(self) -> ChainHead:
        """See `AuditStore.audit_head`."""
        return ChainHead(self._audit[-1].seq, self._audit[-1].hash) if self._audit else ChainHead()

    async def audit(self, query: AuditQuery) -> list[SealedEntry]:
        """See `AuditStore.audit`."""
        found = self._audit if query.after is not None else reversed(self._audit)
        return list(islice((sealed for sealed in found if _is_wanted(sealed, query)), query.limit))

    @property
    def audit_full(self) -> bool:
        """See `AuditStore.audit_full`."""
        return len(self._audit) > max(self._limit, 1)

    async def audit_older(self, than_us: int, limit: int) -> tuple[ChainHead, int] | None:
        """See `AuditStore.audit_older`. Where it is full, a tenth more than there is room for has to go."""
        count = sum(1 for _ in takewhile(lambda sealed: sealed.entry.at_us < than_us, islice(self._audit, limit)))
        if self.audit_full:
            beyond = len(self._audit) - self._limit + max(1, self._limit // 10)
            count = min(limit, max(count, min(beyond, len(self._audit))))
        return (ChainHead(self._audit[count - 1].seq, self._audit[count - 1].hash), count) if count else None

    async def usage(self, query: UsageQuery) -> list[UsageGroup]:
        """See `RunStore.usage`."""
        return self._usage.grouped(query)

    # --- what is kept -------------------------------------------------------------------------------------------------

    async def prune(self, retention: Retention, now: float) -> Pruned:
        """See `RunStore.prune`. Memory has no size in bytes: `max_bytes` does nothing."""
        pruned = Pruned()
        for run_id, kept in list(self._ended.items()):
            age = now - kept["finished"]
            if retention.runs_for is not None and age > retention.runs_for:
                self._remove(run_id)
                pruned.runs += 1
            elif retention.payloads_for is not None and age > retention.payloads_for and not kept["stripped"]:
                kept.strip()
                pruned.payloads += 1
        for scope in [scope for scope, (_, until) in self._keys.items() if until <= now]:
            del self._keys[scope]
            pruned.keys += 1
        pruned.usage = self._usage.prune(retention, now, self._runs)
        return pruned

    async def summary(self) -> StoreSummary:
        """See `RunStore.summary`."""
        kept = self._runs.values()
        return StoreSummary(
            kind="memory",
            where="memory, until the program ends",
            runs=Counter(str(run["status"]) for run in kept),
            dead_letters=sum(run["dead"] is not None for run in kept),
            events=sum(len(run.events) for run in kept),
            states=len(self._states),
        )

    async def verify(self) -> list[str]:
        """See `RunStore.verify`."""
        return []


def _seq(event: Event) -> int:
    return event.seq


def _own(change: Change) -> Any:  # noqa: PLR0911  # one for each kind of change
    """What of a change is kept, copied: the fields of its run that it sets, or its one value."""
    match change:
        case AcceptRun():
            return _copies(change.record)
        case BeginRun():
            return {"status": RunStatus.RUNNING, "attempts": change.attempts, "started": change.at}
        case AppendEvents():
            return [_own_event(event) for event in change.events]
        case StoreStep():
            return copied(change.value)
        case ParkRun():
            return {"status": RunStatus.WAITING, "waiting": copied(change.waiting)}
        case QueueRun():
            return {"status": RunStatus.QUEUED, "waiting": None, **_onward(change)}
        case EndRun():
            return _end(change)
        case StoreState():
            return copied(change.state)
        case _:
            return None


def _copies(record: RunRecord) -> dict[str, Any]:
    """The values of a record that can be changed, copied."""
    return {field: copied(value) for field in COPIED if (value := getattr(record, field)) is not None}


def _own_event(event: Event) -> Event:
    return Event(event.seq, event.type, copied(event.data), event.timestamp, event.source)


def _onward(change: QueueRun) -> dict[str, Any]:
    """What is new where another agent goes on."""
    if change.agent is None:
        return {}
    operation = {} if change.operation is None else {"operation": change.operation}
    return {"agent": change.agent, "payload": copied(change.payload), "once": change.once, "redacted": change.redacted, **operation}


def _end(change: EndRun) -> dict[str, Any]:
    return {
        "status": change.status,
        "finished": change.at,
        "attempts": change.attempts,
        "output": copied(change.output),
        "meta": copied(change.meta),
        "error": copied(change.error),
        "last_seq": change.last_seq,
        "dead": change.dead,
        "waiting": None,
    }


def _put(values: dict[str, Any], name: str, value: Any) -> None:
    """Keep the value, or forget it where it is None."""
    if value is None:
        values.pop(name, None)
    else:
        values[name] = value


def _answers(kept: _Kept, query: RunQuery) -> bool:
    """Whether a list is to have the run."""
    return (
        (query.everyone or kept.accepted.principal == query.principal)
        and (query.status is None or kept["status"] == query.status)
        and (query.agent is None or kept["agent"] == query.agent)
        and (query.parent is None or kept.accepted.parent == query.parent)
        and (query.prefix is None or kept.accepted.run_id.startswith(query.prefix))
        and (not query.dead or kept["dead"] is not None)
        and (query.before is None or kept.age < query.before)
    )


def _is_wanted(sealed: SealedEntry, query: AuditQuery) -> bool:
    """Whether a list of the audit trail is to have the entry."""
    entry = sealed.entry
    return (
        (query.after is None or sealed.seq > query.after)
        and (query.before is None or sealed.seq < query.before)
        and (query.agent is None or entry.agent == query.agent)
        and (query.principal is None or entry.principal == query.principal)
        and (query.action is None or entry.action == query.action)
        and (query.since_us is None or entry.at_us >= query.since_us)
        and (query.until_us is None or entry.at_us < query.until_us)
    )
