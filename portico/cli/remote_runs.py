"""RemoteRuns: the runs of a running server, over HTTP: those that belong to whom the API key stands for.

Above: the commands of `portico runs`. Below: the client, whose errors become sentences for whoever typed the command.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Self

from portico.cli.refusals import refusal
from portico.cli.story import Story
from portico.client import Client, ClientError, ConnectionFailed
from portico.errors import CallError, UnknownRun

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from portico.client import Event, UsageRow

TIMEOUT: Final = 60.0
"""Seconds for an answer, to cancel a run takes as long as its handler needs to stop; and for which a server may be away."""
SILENCE: Final = 1.0
"""Seconds without an event after which those of a run that goes on count as all: a stream does not say where its backlog ends."""
LONGEST: Final = 10.0
"""Seconds for which the events of a run that goes on are read: it may never be silent."""
PAGE: Final = 500
"""The most that a server lists at once."""


class RemoteRuns:
    """Close it, or use it as a context manager."""

    def __init__(self, url: str, api_key: str | None) -> None:
        """Raises `ConfigurationError` for an address that cannot be one."""
        self._keyed = bool(api_key)
        self._url = url.rstrip("/")
        self._client = Client(url, api_key=api_key, timeout=TIMEOUT, retries=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    # --- what is read -------------------------------------------------------------------------------------------------

    def page(
        self, *, limit: int, status: str | None = None, agent: str | None = None, parent: str | None = None
    ) -> list[dict[str, Any]]:
        """At most `limit` runs, the newest first. Raises `CallError`."""
        with self._sentences():
            found = self._client.runs.list(status=status, agent=agent, parent=parent, limit=limit, page=PAGE)
            return [dict(run.data) for run in found]

    def dead_letters(self, *, limit: int, agent: str | None = None) -> list[dict[str, Any]]:
        """At most `limit` dead letters, the newest first. Raises `CallError`."""
        with self._sentences():
            return [dict(letter.data) for letter in self._client.dead_letters.list(agent=agent, limit=limit, page=PAGE)]

    def usage(self, by: Sequence[str], limit: int, filters: Mapping[str, str | None]) -> dict[str, Any]:
        """What models took. Raises `CallError`."""
        with self._sentences():
            report = self._client.usage(by, limit=limit, **filters)
        rows = [{**row.keys, **_sums(row)} for row in report.rows]
        return {"rows": rows, "total": _sums(report.total), "truncated": report.truncated}

    def story(self, run_id: str) -> Story:
        """What became of a run so far. Raises `CallError`."""
        with self._sentences():
            record = dict(self._client.runs.get(_checked(run_id), summary=True).data)
        children = self.page(limit=PAGE, parent=record["run_id"])
        parent = self._parent(record["parent_id"])
        return Story(record, self._events_so_far(record), parent, children[::-1])

    def record(self, run_id: str) -> dict[str, Any]:
        """A run. Raises `CallError`."""
        with self._sentences():
            return dict(self._client.runs.get(_checked(run_id)).data)

    def follow(self, run_id: str, lost: Callable[[], object]) -> Iterator[dict[str, Any]]:
        """The events of a run until its end, over as many connections as it takes. Raises `CallError`.

        `lost` is called where a connection was lost, before the next one is tried.
        """
        met = False
        try:
            with self._sentences(), self._client.runs.events(_checked(run_id), on_lost=lost) as events:
                for event in events:
                    met = True
                    yield as_told(event)
        except CallError as error:
            if met and error.extra.get("status") == 0:
                reason = f"The connection was lost, and no gateway has answered for {TIMEOUT:g} s. {error.detail}"
                raise CallError(reason, status=0) from error
            raise

    def _parent(self, run_id: str | None) -> dict[str, Any] | None:
        if run_id is None:
            return None
        try:
            return self.record(run_id)
        except CallError:  # it was removed: its child remains
            return None

    def _events_so_far(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        ended = record["finished_at"] is not None
        found: list[dict[str, Any]] = []
        until = time.monotonic() + LONGEST
        silence = TIMEOUT if ended else SILENCE
        with self._sentences(), self._client.runs.events(record["run_id"], resume=False, silence=silence) as events:
            try:
                for event in events:
                    found.append(as_told(event))
                    if not ended and time.monotonic() > until:
                        break
            except ConnectionFailed as error:
                if not error.sent:
                    raise
                # that was all, so far
        return found

    # --- what is done -------------------------------------------------------------------------------------------------

    def cancel(self, run_id: str) -> dict[str, Any]:
        """Cancel a run. Returns it as it is then. Raises `CallError`."""
        with self._sentences():
            return dict(self._client.runs.cancel(_checked(run_id)).data)

    def answer(self, run_id: str, value: Any) -> dict[str, Any]:
        """Give a run the input that it waits for: JSON data. Returns the run. Raises `CallError`."""
        with self._sentences():
            return dict(self._client.runs.input(_checked(run_id), value).data)

    def redeliver(self, run_id: str) -> dict[str, Any]:
        """Tell again of the end of a run. Returns where to find it. Raises `CallError`."""
        with self._sentences():
            return {"run_id": self._client.runs.redeliver(_checked(run_id)).run_id}

    def redrive(self, letter_id: str) -> dict[str, Any]:
        """Send a dead letter again. Returns where to find the new run. Raises `CallError`."""
        with self._sentences():
            return {"run_id": self._client.dead_letters.redrive(_checked(letter_id)).run_id}

    # --- inside -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _sentences(self) -> Generator[None]:
        """An error of the client as a `CallError`, with the status of the answer; 0 where there was none."""
        try:
            yield
        except ClientError as error:
            raise refusal(error, self._url, keyed=self._keyed) from error


def _sums(row: UsageRow) -> dict[str, Any]:
    sums = asdict(row)
    sums.pop("keys")
    return sums


def as_told(event: Event) -> dict[str, Any]:
    """An event as the gateway has it."""
    at = event.at.isoformat().replace("+00:00", "Z") if event.at is not None else None
    return {"seq": event.seq, "type": event.type, "at": at, "data": event.data}


def _checked(name: str) -> str:
    """Raises `UnknownRun` for an id that cannot stand in a path."""
    if not name.strip("."):
        raise UnknownRun(name)
    return name
