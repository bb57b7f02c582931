"""MemoryUsage: what model calls took, for the in-memory store. Bounded: the oldest sums are forgotten first.

Above: `MemoryRunStore`, which it is a part of. It gives copies.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from portico.runs.usage import Usage, UsageGroup, UsageKey, UsageRow, day_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from portico.runs.store import AddUsage, Retention
    from portico.runs.usage import UsageQuery


class MemoryUsage:
    """The sums by day, and those of each run."""

    def __init__(self, limit: int) -> None:
        """`limit`: how many sums by day there are at most, and for how many runs."""
        self._limit = limit
        self._days: dict[tuple[str, ...], UsageRow] = {}
        self._runs: dict[str, dict[tuple[str, ...], UsageRow]] = {}

    def add(self, change: AddUsage) -> None:
        """See `AddUsage`."""
        row = change.row
        if not (change.restored and row.run_id):
            _add(self._days, replace(row, run_id=""), restored=change.restored)
            if len(self._days) > self._limit:
                del self._days[next(iter(self._days))]
        if row.run_id:
            _add(self._runs.setdefault(row.run_id, {}), row, restored=change.restored)
            if len(self._runs) > self._limit:
                del self._runs[next(iter(self._runs))]

    def forget(self, run_id: str) -> None:
        """A run is kept no longer."""
        self._runs.pop(run_id, None)

    def of_run(self, run_id: str) -> tuple[UsageRow, ...]:
        """What was used in one run."""
        return tuple(_copy(row) for row in self._runs.get(run_id, {}).values())

    def grouped(self, query: UsageQuery) -> list[UsageGroup]:
        """See `RunStore.usage`."""
        groups: defaultdict[tuple[str, ...], Usage] = defaultdict(Usage)
        if not query.by:
            groups[()] = Usage()
        for row in self._asked_for(query):
            groups[tuple(READ[key](row) for key in query.by)].add(row.usage)
        by_keys = sorted(groups.items(), key=itemgetter(0))
        by_keys.sort(key=lambda item: (-item[1].cost, -item[1].calls))
        if UsageKey.DAY in query.by:
            day = list(query.by).index(UsageKey.DAY)
            by_keys.sort(key=lambda item: item[0][day])
        return [
            UsageGroup({key.value: value or None for key, value in zip(query.by, keys, strict=True)}, usage)
            for keys, usage in by_keys[: query.limit]
        ]

    def _asked_for(self, query: UsageQuery) -> Iterable[UsageRow]:
        of_runs = query.run is not None or UsageKey.RUN in query.by
        rows = (row for run in self._runs.values() for row in run.values()) if of_runs else self._days.values()
        return (row for row in rows if _answers(row, query))

    def prune(self, retention: Retention, now: float, runs: Container[str]) -> int:
        """Remove what is kept no longer. `runs`: those that are still kept. Returns how many sums were removed."""
        removed = 0
        if retention.usage_for is not None:
            before = day_of(now - retention.usage_for)
            old = [key for key, row in self._days.items() if row.day < before]
            removed += len(old)
            for key in old:
                del self._days[key]
        if retention.runs_for is not None:
            before = day_of(now - retention.runs_for)
            for run_id in [run_id for run_id in self._runs if run_id not in runs]:
                rows = self._runs[run_id]
                kept = {key: row for key, row in rows.items() if row.day >= before}
                removed += len(rows) - len(kept)
                self._runs[run_id] = kept
                if not kept:
                    del self._runs[run_id]
        return removed


READ: Final[dict[UsageKey, Callable[[UsageRow], str]]] = {
    UsageKey.DAY: lambda row: row.day,
    UsageKey.RUN: lambda row: row.run_id,
    UsageKey.AGENT: lambda row: row.agent,
    UsageKey.PRINCIPAL: lambda row: row.principal or "",
    UsageKey.PROVIDER: lambda row: row.provider,
    UsageKey.MODEL: lambda row: row.model,
}
"""How each key is read of a row."""


def _add(rows: dict[tuple[str, ...], UsageRow], row: UsageRow, *, restored: bool) -> None:
    key = tuple(READ[name](row) for name in UsageKey)
    there = rows.get(key)
    if there is None:
        rows[key] = _copy(row)
    elif not restored:
        there.usage.add(row.usage)


def _copy(row: UsageRow) -> UsageRow:
    return replace(row, usage=replace(row.usage))


def _answers(row: UsageRow, query: UsageQuery) -> bool:
    return (
        (query.everyone or (row.principal or None) == (query.principal or None))
        and (query.since is None or row.day >= query.since)
        and (query.until is None or row.day <= query.until)
        and (query.agent is None or row.agent == query.agent)
        and (query.provider is None or row.provider == query.provider)
        and (query.model is None or row.model == query.model)
        and (query.run is None or row.run_id == query.run)
    )
