"""JSON Lines: what was written can be loaded, and is the same."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.runs.callback import Callback
from portico.runs.event import Event
from portico.runs.memory_store import MemoryRunStore
from portico.runs.status import RunStatus
from portico.runs.store import AppendEvents, ParkRun, RunQuery, StoreState, StoreStep, StoreSuspension
from portico.runs.usage import UsageKey, UsageQuery
from portico.stores.jsonl import export, load
from portico.stores.sqlite import SqliteStore
from portico.testing.manual_clock import ManualClock
from tests.stores.stores import NOW, accepted, ended, stored, used

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from portico.runs.store import RunStore

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(directory: Path) -> AsyncGenerator[SqliteStore]:
    with anyio.fail_after(30):
        store = SqliteStore(directory, clock=ManualClock(epoch=NOW))
        await store.open()
        try:
            yield store
        finally:
            await store.close()


async def fill(store: RunStore) -> None:
    await stored(
        store, accepted("done", payload=b"\0\xff", fingerprint=b"\1", scope=b"scope", key_until=NOW + 10, principal="alice")
    )
    await stored(store, AppendEvents("done", [Event(n, "delta", {"n": n}, NOW + n, "") for n in range(2, 1203)]))
    await stored(
        store, StoreStep("done", "a", {"n": 1}), StoreStep("done", "b", b"bytes"), ended("done", output="ü\n", last_seq=1202)
    )
    await stored(
        store, accepted("dead", created=NOW - 1), ended("dead", status=RunStatus.FAILED, dead="crashed", error={"slug": "x"})
    )
    callback = Callback(url="https://example.com/", attempts=1, next_at=NOW + 5, last_error="It answered 500.", last_status=500)
    await stored(store, accepted("told", created=NOW - 2, callback=callback), ended("told"))
    await stored(store, accepted("waiting", payload={"_base64": "x"}), ParkRun("waiting", {"kind": "input"}))
    await stored(store, StoreState("echo", {"n": 1}), StoreSuspension("echo", "broken"))
    await stored(store, used("done", principal="alice"), used("plain"), used("plain"), used())


async def everything(store: RunStore) -> list[Any]:
    runs = await store.runs(RunQuery(everyone=True))
    key = await store.run_of_key(b"scope")
    return [
        [replace(run, number=0) for run in runs],
        sorted(map(str, await store.usage(UsageQuery(everyone=True, by=list(UsageKey))))),
        sorted(map(str, await store.usage(UsageQuery(everyone=True, by=[UsageKey.PRINCIPAL, UsageKey.DAY])))),
        [await store.events(run.run_id, limit=5000) for run in runs],
        [await store.steps(run.run_id) for run in runs],
        await store.callbacks(),
        [run.run_id for run in sorted(runs, key=lambda run: run.number)],
        key.run_id if key else None,
        await store.state("echo"),
        await store.suspensions(),
    ]


async def test_a_store_that_was_written_and_loaded_is_the_same(tmp_path: Path) -> None:
    file = BytesIO()
    async with opened(tmp_path / "one") as one, opened(tmp_path / "two") as two:
        await fill(one)
        lines = await export(one, file)
        assert lines == len(file.getvalue().splitlines()) == 4 + 1201 + 2 + 2 + 4
        assert await load(two, file.getvalue().splitlines()) == lines
        assert await everything(two) == await everything(one)
        assert await two.verify() == []
        again = BytesIO()
        await export(two, again)
        assert again.getvalue() == file.getvalue()


async def test_a_store_can_be_loaded_into_memory(tmp_path: Path) -> None:
    file, memory = BytesIO(), MemoryRunStore(clock=ManualClock(epoch=NOW))
    async with opened(tmp_path) as store:
        await fill(store)
        await export(store, file)
        await load(memory, file.getvalue().splitlines())
        assert await everything(memory) == await everything(store)


async def test_what_a_store_has_already_is_left_as_it_is(tmp_path: Path) -> None:
    file = BytesIO()
    async with opened(tmp_path / "one") as one, opened(tmp_path / "two") as two:
        await fill(one)
        await export(one, file)
        await stored(two, accepted("done", payload="other"), accepted("more"))
        await load(two, file.getvalue().splitlines())
        assert [run.run_id for run in await two.unfinished()] == ["done", "more", "waiting"]
        assert await two.events("done") == []
        once = await two.usage(UsageQuery(everyone=True))
        assert await load(two, file.getvalue().splitlines()) == 2 + 4  # the state, the suspension and the usage, once more
        assert await two.usage(UsageQuery(everyone=True)) == once


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"{}", b'{"kind":"guess"}', b'{"kind":"run"}', b'{"kind":"event","run_id":"x","n":1}', b"\xff"], ids=repr
)
async def test_a_line_that_is_something_else_is_named_and_those_before_it_are_loaded(line: bytes) -> None:
    store = MemoryRunStore()
    with pytest.raises(ValueError, match="Line 3 "):
        await load(
            store, [b'{"kind":"run","run_id":"run","agent":"a","operation":"o"}', b'{"kind":"state","name":"a","state":{}}', line]
        )
    assert await store.run("run") is not None
