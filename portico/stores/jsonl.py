"""Runs, states, suspensions and usage as JSON Lines (https://jsonlines.org): to look at, to keep, and to move to another store.

One object a line, with a `kind`. A run's events and steps follow it. Bytes are base64, under a name that says so.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from dataclasses import MISSING, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json, to_json

from portico.runs import usage
from portico.runs.callback import restored
from portico.runs.event import Event
from portico.runs.record import RunRecord
from portico.runs.status import RunStatus
from portico.runs.store import AcceptRun, AddUsage, AppendEvents, RunExists, StoreState, StoreStep, StoreSuspension

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from typing import IO

    from portico.runs.store import Change, RunStore
    from portico.stores.rows import Dumped
    from portico.stores.sqlite import SqliteStore

BYTES: Final = "_base64"
"""Ends the name of a value that is bytes."""
LEFT_OUT: Final = ("number", "usage")
"""The fields of a run that are not in its line: the store that it is loaded into numbers it, and usage has lines of its own."""
AT_ONCE: Final = 200
"""How many transactions of a load are under way at a time."""


async def export(store: SqliteStore, file: IO[bytes]) -> int:
    """Write everything in the store but the records of `StateStore`. Returns the number of lines.

    It writes to the file on the event loop: for a program that does nothing else.

    Raises:
        StoreUnavailable: the store cannot be read.
        OSError: the file cannot be written.
    """
    count = 0
    async for line in _lines(store):
        file.write(to_json(line) + b"\n")
        count += 1
    return count


async def load(store: RunStore, file: Iterable[bytes]) -> int:
    """Put what `export` wrote into a store. Returns the number of lines that are in it now for the first time.

    A run whose id or key the store has already is left out, with its events and steps.

    Raises:
        ValueError: a line is not what `export` writes; what was complete before it is loaded.
        StoreUnavailable: the store could not take it; what was loaded before stays.
    """
    gate = asyncio.Semaphore(AT_ONCE)
    loading = _Loading(gate)
    try:
        for changes in _transactions(file):
            if loading.error is not None:
                break
            await gate.acquire()
            try:
                store.submit(changes, partial(loading.ended, _count(changes)))
            except BaseException:
                gate.release()
                raise
    finally:
        for _ in range(AT_ONCE):
            await gate.acquire()
    if loading.error is not None:
        raise loading.error
    return loading.lines


class _Loading:
    """How far a load has come."""

    def __init__(self, gate: asyncio.Semaphore) -> None:
        self.lines = 0
        self.error: Exception | None = None
        self._gate = gate

    def ended(self, lines: int, error: Exception | None) -> None:
        """A transaction of so many lines has ended."""
        if error is None:
            self.lines += lines
        elif not isinstance(error, RunExists):
            self.error = self.error or error
        self._gate.release()


def _count(changes: Iterable[Change]) -> int:
    return sum(len(change.events) if isinstance(change, AppendEvents) else 1 for change in changes)


# --- writing ----------------------------------------------------------------------------------------------------------


async def _lines(store: SqliteStore) -> AsyncIterator[dict[str, Any]]:
    async for dumped in store.dump():
        run_id = dumped.record.run_id
        yield _run_line(dumped)
        after = 0
        while page := await store.events(run_id, after):
            for event in page:
                yield {"kind": "event", "run_id": run_id, **_line(event)}
            after = page[-1].seq
        for key, value in (await store.steps(run_id)).items():
            yield {"kind": "step", "run_id": run_id, "key": key, **_named("value", value)}
    for name, state in await store.states():
        yield {"kind": "state", "name": name, "state": state}
    for name, reason in (await store.suspensions()).items():
        yield {"kind": "suspension", "name": name, "reason": reason}
    for row in await store.all_usage():
        yield {"kind": "usage", **usage.plain(row)}


def _run_line(dumped: Dumped) -> dict[str, Any]:
    line = {"kind": "run", **_line(dumped.record)}
    if dumped.key is not None:
        scope, line["key_until"] = dumped.key
        line |= _named("scope", scope)
    return line


def _line(value: RunRecord | Event) -> dict[str, Any]:
    """The fields that differ from what they are without being given."""
    line: dict[str, Any] = {}
    for field in fields(value):
        given = getattr(value, field.name)
        if field.name not in LEFT_OUT and (field.default is MISSING or given != field.default):
            line |= _named(field.name, given)
    return line


def _named(name: str, value: Any) -> dict[str, Any]:
    return {name + BYTES: b64encode(value).decode()} if isinstance(value, bytes) else {name: value}


# --- reading ----------------------------------------------------------------------------------------------------------


def _transactions(file: Iterable[bytes]) -> Iterator[list[Change]]:
    """What is to be loaded together: a run with its events and steps, or one state, suspension or sum of usage."""
    together: list[Change] = []
    for number, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            change = _change(from_json(text))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"Line {number} is not what `export` writes: {error}") from error
        if together and not isinstance(change, AppendEvents | StoreStep):
            yield together
            together = []
        together.append(change)
    if together:
        yield together


def _change(line: dict[str, Any]) -> Change:
    kind = line.pop("kind")
    values: dict[str, Any] = {
        name.removesuffix(BYTES): b64decode(value) if name.endswith(BYTES) else value for name, value in line.items()
    }
    match kind:
        case "run":
            scope, until = values.pop("scope", None), values.pop("key_until", 0.0)
            status = RunStatus(values.pop("status", RunStatus.QUEUED))
            callback = restored(values.pop("callback", None))
            return AcceptRun(RunRecord(status=status, callback=callback, **values), scope, until)
        case "event":
            return AppendEvents(values.pop("run_id"), [Event(**values)])
        case "step":
            return StoreStep(**values)
        case "state":
            return StoreState(**values)
        case "suspension":
            return StoreSuspension(**values)
        case "usage":
            return AddUsage(usage.row_of(values), restored=True)
        case _:
            raise ValueError(f"its kind is {kind!r}")
