"""StoredRuns: the runs of a data directory, without a server: while one uses it, or after it has ended. Everybody's, to read only.

Above: the commands of `portico runs`. Below: `SqliteStore`. What it returns looks as it does over HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from pydantic_core import from_json

from portico.cli.data_directory import opened
from portico.cli.event_sentences import GAP
from portico.cli.story import Story
from portico.errors import UnknownRun
from portico.runs.event import Event, EventName
from portico.runs.printing import printed
from portico.runs.run import Run
from portico.runs.run_view import rfc3339, usage_report, view
from portico.runs.status import RunStatus
from portico.runs.store import RunQuery
from portico.runs.usage import UsageKey, UsageQuery

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from portico.runs.record import RunRecord
    from portico.runs.store import RunStore

PAGE: Final = 500
"""How many rows are read at once."""


class StoredRuns:
    """Each method opens the store for itself. All raise `StoreError` where that cannot be read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def page(
        self, *, limit: int, status: str | None = None, agent: str | None = None, parent: str | None = None
    ) -> list[dict[str, Any]]:
        """At most `limit` runs, the newest first."""
        import asyncio

        query = RunQuery(
            everyone=True, status=RunStatus(status) if status is not None else None, agent=agent, parent=parent, limit=limit
        )
        return [_shown(record) for record in asyncio.run(self._records(query))]

    def dead_letters(self, *, limit: int, agent: str | None = None) -> list[dict[str, Any]]:
        """At most `limit` dead letters, the newest first."""
        import asyncio

        query = RunQuery(everyone=True, agent=agent, dead=True, limit=limit)
        return [_letter(record) for record in asyncio.run(self._records(query))]

    def usage(self, by: Sequence[str], limit: int, filters: Mapping[str, str | None]) -> dict[str, Any]:
        """What models took, in whosever runs."""
        import asyncio

        return asyncio.run(self._usage([UsageKey(key) for key in by], limit, filters))

    async def _usage(self, by: Sequence[UsageKey], limit: int, filters: Mapping[str, Any]) -> dict[str, Any]:
        whose = {"everyone": filters["principal"] is None}
        async with opened(self._directory) as store:
            groups = await store.usage(UsageQuery(by=by, limit=limit + 1, **whose, **filters)) if by else []
            (everything,) = await store.usage(UsageQuery(**whose, **filters))
        return usage_report(groups, everything, limit)

    def story(self, run_id: str) -> Story:
        """What became of a run so far. Raises `UnknownRun`."""
        import asyncio

        return asyncio.run(self._story(run_id))

    async def _records(self, query: RunQuery) -> list[RunRecord]:
        async with opened(self._directory) as store:
            return await store.runs(query)

    async def _story(self, run_id: str) -> Story:
        async with opened(self._directory) as store:
            record = await store.run(run_id)
            if record is None:
                raise UnknownRun(run_id)
            events = await _events(store, record)
            children = await store.runs(RunQuery(everyone=True, parent=run_id, limit=PAGE))
            parent = await store.run(record.parent) if record.parent is not None else None
        return Story(
            _shown(record),
            list(_told(events)),
            None if parent is None else _shown(parent),
            [_shown(child) for child in reversed(children)],
        )


async def _events(store: RunStore, record: RunRecord) -> list[Event]:
    """All of them so far. The first and the last one are not stored: they are in the record."""
    found = [Event(1, EventName.STARTED, {"agent": record.agent, "operation": record.operation}, record.created)]
    while more := await store.events(record.run_id, found[-1].seq, PAGE):
        found += more
    if record.finished is not None:
        end = {"output": record.output} if record.error is None else record.error
        found.append(Event(record.last_seq + 1, EventName(f"run.{record.status}"), end, record.finished))
    return found


def _told(events: Iterable[Event]) -> Iterator[dict[str, Any]]:
    """The events as a server sends them, with a gap where some are kept no more."""
    expected = 1
    for event in events:
        if event.seq > expected:
            yield {"seq": None, "type": GAP, "at": None, "data": {"from": expected, "to": event.seq - 1}}
        expected = event.seq + 1
        yield _plain({"seq": event.seq, "type": event.type, "at": rfc3339(event.timestamp), "data": event.data})


def _shown(record: RunRecord) -> dict[str, Any]:
    nobody = cast("Any", None)  # the book of a run that lives; this one is only looked at
    run = Run(record.agent, record.operation, record.principal, nobody, record)
    return _plain({**view(run), "principal": record.principal})


def _letter(record: RunRecord) -> dict[str, Any]:
    return _plain(
        {
            "id": record.run_id,
            "run_id": record.run_id,
            "agent": record.agent,
            "operation": record.operation,
            "reason": record.dead,
            "attempts": record.attempts,
            "created_at": rfc3339(record.created),
            "payload": record.payload,
            "principal": record.principal,
        }
    )


def _plain(value: Any) -> Any:
    """As a server prints it: bytes as base64url."""
    return from_json(printed(value))
