"""The contract of the port `RunStore`: changes are stored all or none, in order; what is given and what is got are copies."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.errors import StoreUnavailable
from portico.kernel.protocols import Lineage
from portico.runs.callback import Callback, CallbackStatus
from portico.runs.event import Event
from portico.runs.memory_store import MemoryRunStore
from portico.runs.record import RunRecord
from portico.runs.status import RunStatus
from portico.runs.store import (
    AcceptRun,
    AppendEvents,
    BeginRun,
    ParkRun,
    QueueRun,
    Redrive,
    Retention,
    RunExists,
    RunQuery,
    StoreCallback,
    StoreState,
    StoreStep,
    StoreSuspension,
)
from portico.runs.usage import NANO, SUMS, Usage, UsageGroup, UsageKey, UsageQuery, total
from portico.stores.sqlite import SqliteStore
from portico.testing.manual_clock import ManualClock
from tests.contracts.json_values import FALSY, JSON, TEXT, exact
from tests.stores.stores import A_CALL, NOW, a_run, accepted, ended, stored, submitted, used

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from portico.runs.store import Change, RunStore

pytestmark = pytest.mark.anyio

Opened: TypeAlias = "Callable[..., AbstractAsyncContextManager[RunStore]]"
"""A fresh, empty store whose clock says `NOW`, and its end."""


@asynccontextmanager
async def memory(clock: ManualClock | None = None) -> AsyncGenerator[RunStore]:
    with anyio.fail_after(30):
        store = MemoryRunStore(clock=clock or ManualClock(epoch=NOW))
        await store.open()
        yield store
        await store.close()


@asynccontextmanager
async def sqlite(clock: ManualClock | None = None) -> AsyncGenerator[RunStore]:
    with anyio.fail_after(30), TemporaryDirectory() as directory:
        store = SqliteStore(directory, clock=clock or ManualClock(epoch=NOW), synchronous="normal")
        await store.open()
        try:
            yield store
            assert await store.verify() == []
        finally:
            await store.close()


over_every_store = pytest.mark.parametrize("opened", [memory, sqlite])


def some_events(*numbers: int) -> list[Event]:
    return [Event(number, "delta", {"text": str(number)}, NOW + number, "") for number in numbers]


def never(error: Exception | None) -> None:
    pytest.fail(f"It was submitted: {error}")


async def got(store: RunStore, run_id: str) -> RunRecord:
    record = await store.run(run_id)
    assert record is not None
    return record


# --- accepting --------------------------------------------------------------------------------------------------------


@over_every_store
async def test_an_empty_store_knows_nothing(opened: Opened) -> None:
    async with opened() as store:
        assert await store.run("run") is None
        assert await store.run_of_key(b"scope") is None
        assert await store.runs(RunQuery(everyone=True)) == []
        assert await store.unfinished() == []
        assert await store.events("run") == []
        assert await store.steps("run") == {}
        assert await store.state("echo") is None
        assert await store.suspensions() == {}
        assert store.failure is None


@over_every_store
async def test_every_field_of_an_accepted_run_comes_back(opened: Opened) -> None:
    record = RunRecord(
        run_id="run-é",
        agent="echo",
        operation="say",
        payload={"text": "ü", "list": [1, 2.5, None]},
        principal="alice",
        address="10.0.0.1",
        parent="above",
        one_way=True,
        once=True,
        redacted=True,
        priority=-3,
        timeout=12.5,
        created=NOW + 0.123456,
        due=NOW + 7,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        metadata={"colour": "red"},
        redrive_of="dead",
        callback=Callback(url="https://example.com/é", attempts=2, next_at=NOW, last_status=500, last_error="It answered 500."),
        fingerprint=b"\0\1\xff",
        status=RunStatus.RUNNING,
        attempts=2,
        started=NOW + 8,
        waiting={"kind": "input"},
        last_seq=9,
    )
    async with opened() as store:
        await stored(store, AcceptRun(record))
        assert replace(await got(store, "run-é"), number=0) == record


@over_every_store
async def test_a_run_may_be_accepted_that_has_ended(opened: Opened) -> None:
    record = a_run(
        "run",
        status=RunStatus.FAILED,
        started=NOW + 1,
        finished=NOW + 2,
        attempts=3,
        error={"slug": "agent-crashed"},
        meta={"status": 500},
        output=[1],
        dead="attempts are spent",
        last_seq=4,
    )
    async with opened() as store:
        await stored(store, AcceptRun(record))
        assert replace(await got(store, "run"), number=0) == record
        assert await store.unfinished() == []


@over_every_store
@given(payload=JSON | st.binary(max_size=20))
async def test_a_payload_comes_back_as_it_was(opened: Opened, payload: Any) -> None:
    async with opened() as store:
        await stored(store, accepted("run", payload=payload))
        found = (await got(store, "run")).payload
        assert found == payload if isinstance(payload, bytes) else exact(found) == exact(payload)


@over_every_store
@pytest.mark.parametrize("value", [*FALSY, b"", b"\0", b"{}"], ids=repr)
async def test_a_value_that_is_false_is_a_value(opened: Opened, value: Any) -> None:
    async with opened() as store:
        await stored(
            store, accepted("run", payload=value), StoreStep("run", "step", value), AppendEvents("run", [Event(1, "e", value, NOW)])
        )
        await stored(store, ended("run", output=value))
        record = await got(store, "run")
        assert repr(record.payload) == repr(record.output) == repr((await store.events("run"))[0].data) == repr(value)
        assert repr(await store.steps("run")) == repr({"step": value})


@over_every_store
@given(run_id=TEXT, name=TEXT)
async def test_ids_and_names_may_be_any_text(opened: Opened, run_id: str, name: str) -> None:
    async with opened() as store:
        await stored(store, accepted(run_id, agent=name), StoreState(name, {"n": 1}), StoreStep(run_id, name, 1))
        assert (await got(store, run_id)).agent == name
        assert await store.state(name) == {"n": 1}
        assert await store.steps(run_id) == {name: 1}


@over_every_store
@pytest.mark.parametrize("size", [1000, 1024, 1025, 100_000, 3_000_000])
async def test_a_request_and_a_reply_may_be_large(opened: Opened, size: int) -> None:
    async with opened() as store:
        await stored(store, accepted("run", payload="p" * size))
        await stored(store, ended("run", output="o" * size))
        record = await got(store, "run")
        assert record.payload == "p" * size
        assert record.output == "o" * size
        assert (await store.runs(RunQuery(everyone=True))) == [record]


@over_every_store
async def test_numbers_give_the_order_of_acceptance(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("b"), accepted("a", created=NOW - 5))
        await stored(store, accepted("c"))
        numbers = [(await got(store, run_id)).number for run_id in ("b", "a", "c")]
        assert numbers == sorted(set(numbers))
        assert numbers[0] > 0


@over_every_store
async def test_an_id_that_is_taken_conflicts_and_the_first_run_stays(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("run", payload=1))
        with pytest.raises(RunExists) as caught:
            await stored(store, accepted("run", payload=2))
        assert caught.value.run_id == "run"
        assert (await got(store, "run")).payload == 1


@over_every_store
async def test_an_id_of_a_run_that_has_ended_is_taken(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("run"), ended("run"))
        with pytest.raises(RunExists):
            await stored(store, accepted("run"))


@over_every_store
async def test_an_id_can_be_taken_once_in_one_transaction(opened: Opened) -> None:
    async with opened() as store:
        with pytest.raises(RunExists):
            await stored(store, accepted("run"), accepted("run"))
        assert await store.run("run") is None


@over_every_store
async def test_of_two_that_want_the_same_id_at_once_the_first_gets_it(opened: Opened) -> None:
    async with opened() as store:
        outcomes = [submitted(store, accepted("run", payload=number)) for number in range(10)]
        assert [type(await outcome) for outcome in outcomes] == [type(None), *[RunExists] * 9]
        assert (await got(store, "run")).payload == 0


@over_every_store
@pytest.mark.parametrize("before", [StoreState("echo", {"n": 1}), accepted("other")], ids=["state", "run"])
async def test_nothing_of_a_transaction_that_conflicts_stays(opened: Opened, before: Change) -> None:
    async with opened() as store:
        await stored(store, accepted("run"))
        with pytest.raises(RunExists):
            await stored(store, before, accepted("run", scope=b"scope", key_until=NOW + 10), AppendEvents("run", some_events(2)))
        assert await store.state("echo") is None
        assert await store.run("other") is None
        assert await store.events("run") == []
        assert await store.run_of_key(b"scope") is None


# --- keys -------------------------------------------------------------------------------------------------------------


@over_every_store
async def test_a_key_leads_to_its_run(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("run", scope=b"scope", key_until=NOW + 10))
        found = await store.run_of_key(b"scope")
        assert found == await got(store, "run")
        assert await store.run_of_key(b"other") is None


@over_every_store
async def test_a_key_that_is_taken_conflicts_and_names_the_run_that_has_it(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("first", scope=b"scope", key_until=NOW + 10))
        with pytest.raises(RunExists) as caught:
            await stored(store, accepted("second", scope=b"scope", key_until=NOW + 20), AppendEvents("second", some_events(1)))
        assert caught.value.run_id == "first"
        assert await store.run("second") is None


@over_every_store
async def test_a_key_goes_by_its_run_also_when_that_has_ended(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("first", scope=b"scope", key_until=NOW + 10))
        await stored(store, ended("first"))
        with pytest.raises(RunExists):
            await stored(store, accepted("second", scope=b"scope", key_until=NOW + 20))


@over_every_store
async def test_an_expired_key_is_free_again(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("first", scope=b"scope", key_until=NOW + 10))
        await stored(store, accepted("second", scope=b"scope", key_until=NOW + 30, created=NOW + 10))
        found = await store.run_of_key(b"scope")
        assert found is not None
        assert found.run_id == "second"
        assert await store.run("first") is not None


@over_every_store
async def test_a_key_that_was_free_again_stays_where_the_new_run_conflicts_by_its_id(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("first", scope=b"scope", key_until=NOW + 10), accepted("second"))
        with pytest.raises(RunExists) as caught:
            await stored(store, accepted("second", scope=b"scope", key_until=NOW + 30, created=NOW + 11))
        assert caught.value.run_id == "second"
        found = await store.run_of_key(b"scope")
        assert found is not None
        assert found.run_id == "first"


@over_every_store
async def test_an_expired_key_leads_nowhere(opened: Opened) -> None:
    clock = ManualClock(epoch=NOW)
    async with opened(clock) as store:
        await stored(store, accepted("run", scope=b"scope", key_until=NOW + 10))
        await clock.advance(9.9)
        assert await store.run_of_key(b"scope") is not None
        await clock.advance(0.1)
        assert await store.run_of_key(b"scope") is None


# --- what becomes of a run --------------------------------------------------------------------------------------------


@over_every_store
async def test_a_run_that_begins_is_running(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("run"))
        await stored(store, BeginRun("run", 2, NOW + 3))
        record = await got(store, "run")
        assert (record.status, record.attempts, record.started) == (RunStatus.RUNNING, 2, NOW + 3)


@over_every_store
async def test_a_run_that_waits_tells_for_what_until_it_is_queued_again(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("run", payload=1, once=True), BeginRun("run", 1, NOW))
        await stored(store, ParkRun("run", {"kind": "input", "key": "k"}))
        record = await got(store, "run")
        assert (record.status, record.waiting) == (RunStatus.WAITING, {"kind": "input", "key": "k"})
        await stored(store, QueueRun("run"))
        record = await got(store, "run")
        assert (record.status, record.waiting, record.attempts) == (RunStatus.QUEUED, None, 1)
        assert (record.agent, record.operation, record.payload, record.once) == ("echo", "message", 1, True)


@over_every_store
@pytest.mark.parametrize("size", [1, 5000])
@pytest.mark.parametrize("before", [1, 5000])
async def test_a_run_can_go_on_with_another_agent_and_another_request(opened: Opened, before: int, size: int) -> None:
    async with opened() as store:
        await stored(store, accepted("run", payload="a" * before))
        await stored(store, QueueRun("run", "other", "work", "b" * size, once=True))
        record = await got(store, "run")
        assert (record.status, record.agent, record.operation, record.once) == (RunStatus.QUEUED, "other", "work", True)
        assert record.payload == "b" * size
        assert await store.runs(RunQuery(everyone=True, agent="other")) == [record]
        assert await store.runs(RunQuery(everyone=True, agent="echo")) == []


@over_every_store
async def test_an_agent_that_goes_on_finds_no_steps_of_the_one_before(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("run"), StoreStep("run", "a", 1))
        await stored(store, QueueRun("run"))
        assert await store.steps("run") == {"a": 1}
        await stored(store, QueueRun("run", "other", "work", 1))
        assert await store.steps("run") == {}


@over_every_store
async def test_a_run_that_ends_keeps_everything_about_its_end(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("good"), accepted("bad"), ParkRun("bad", {"kind": "sleep"}))
        await stored(store, ended("good", NOW + 5, output={"n": 1}, meta={"status": 201}, last_seq=7))
        await stored(store, ended("bad", NOW + 6, RunStatus.TIMED_OUT, error={"slug": "deadline-exceeded"}, dead="too late"))
        good, bad = await got(store, "good"), await got(store, "bad")
        assert (good.status, good.finished, good.output, good.meta) == (RunStatus.SUCCEEDED, NOW + 5, {"n": 1}, {"status": 201})
        assert (good.attempts, good.last_seq, good.error, good.dead) == (1, 7, None, None)
        assert (bad.status, bad.error, bad.dead) == (RunStatus.TIMED_OUT, {"slug": "deadline-exceeded"}, "too late")
        assert bad.waiting is None


@over_every_store
async def test_after_its_end_nothing_changes_the_outcome(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("run", payload=1))
        await stored(store, ended("run", output=1))
        before = await got(store, "run")
        late = [ended("run", NOW + 9, RunStatus.FAILED, output="x" * 5000), BeginRun("run", 9, NOW + 9), ParkRun("run", {})]
        for change in [*late, QueueRun("run"), QueueRun("run", "other", "work", "x" * 5000)]:
            await stored(store, change)
            assert await got(store, "run") == before


@over_every_store
async def test_a_dead_letter_is_none_any_more_once_it_was_sent_again(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("run"), ended("run", status=RunStatus.FAILED, dead="crashed"))
        assert [record.dead for record in await store.runs(RunQuery(everyone=True, dead=True))] == ["crashed"]
        await stored(store, Redrive("run"))
        assert await store.runs(RunQuery(everyone=True, dead=True)) == []
        assert (await got(store, "run")).status is RunStatus.FAILED


@over_every_store
@pytest.mark.parametrize(
    "change",
    [
        BeginRun("none", 1, NOW),
        AppendEvents("none", some_events(1)),
        AppendEvents("none", []),
        StoreStep("none", "key", 1),
        ParkRun("none", {}),
        QueueRun("none"),
        QueueRun("none", "other", "work", 1),
        ended("none"),
        Redrive("none"),
    ],
    ids=["begin", "append", "append-none", "step", "park", "queue", "onward", "end", "redrive"],
)
async def test_a_change_of_a_run_that_is_not_there_fails_and_takes_its_transaction_along(opened: Opened, change: Change) -> None:
    async with opened() as store:
        with pytest.raises(StoreUnavailable, match="'none' was never accepted"):
            await stored(store, accepted("run"), StoreState("echo", {"n": 1}), change)
        assert await store.run("run") is None
        assert await store.state("echo") is None


@over_every_store
async def test_a_transaction_that_fails_takes_no_other_along(opened: Opened) -> None:
    async with opened() as store:
        outcomes = [submitted(store, accepted(str(number)), *[ended("none")] * (number % 3 == 0)) for number in range(30)]
        failed = [await outcome is not None for outcome in outcomes]
        assert failed == [number % 3 == 0 for number in range(30)]
        assert {record.run_id for record in await store.unfinished()} == {str(number) for number in range(30) if number % 3}


@over_every_store
async def test_many_runs_can_begin_and_another_end_in_one_transaction(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("above"))
        children = [accepted(f"child{number}", parent="above") for number in range(5)]
        await stored(
            store, *children, AppendEvents("above", some_events(2)), StoreState("echo", {"n": 1}), ended("above", last_seq=2)
        )
        assert len(await store.runs(RunQuery(everyone=True, parent="above"))) == 5
        assert (await got(store, "above")).status is RunStatus.SUCCEEDED
        assert await store.state("echo") == {"n": 1}


# --- events and steps -------------------------------------------------------------------------------------------------


@over_every_store
async def test_events_come_back_in_order_and_page_by_page(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("run"), accepted("other"))
        await stored(store, AppendEvents("run", some_events(2, 3)), AppendEvents("other", some_events(2)))
        await stored(store, AppendEvents("run", some_events(4, 5, 6)))
        assert await store.events("run") == some_events(2, 3, 4, 5, 6)
        assert await store.events("run", after=3) == some_events(4, 5, 6)
        assert await store.events("run", after=3, limit=2) == some_events(4, 5)
        assert await store.events("run", after=6) == []


@over_every_store
async def test_an_event_keeps_what_it_has(opened: Opened) -> None:
    events = [Event(2, "tool.call", {"id": [1]}, NOW + 0.25, "2/1"), Event(3, "run.waiting", None, NOW + 1, None)]
    async with opened() as store:
        await stored(store, accepted("run"), AppendEvents("run", events))
        assert await store.events("run") == events


@over_every_store
async def test_an_event_that_is_there_is_left_as_it_is(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("run"), AppendEvents("run", some_events(2, 3, 4)))
        await stored(store, AppendEvents("run", [Event(3, "other", 1, 1.0), *some_events(4, 5)]))
        assert await store.events("run") == some_events(2, 3, 4, 5)


@over_every_store
async def test_many_who_append_at_once_lose_nothing(opened: Opened) -> None:
    workers, each = 20, 50

    async with opened() as store:
        await stored(store, *[accepted(f"run{worker}") for worker in range(workers)])

        async def work(worker: int) -> None:
            for number in range(1, each + 1):
                await stored(store, AppendEvents(f"run{worker}", some_events(number)))

        async with anyio.create_task_group() as tasks:
            for worker in range(workers):
                tasks.start_soon(work, worker)
        for worker in range(workers):
            assert await store.events(f"run{worker}") == some_events(*range(1, each + 1))


@over_every_store
async def test_a_step_replaces_an_earlier_one_of_its_key(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("run"), accepted("other"), StoreStep("other", "a", 9))
        await stored(store, StoreStep("run", "a", {"n": 1}), StoreStep("run", "b", None))
        await stored(store, StoreStep("run", "a", {"n": 2}))
        assert await store.steps("run") == {"a": {"n": 2}, "b": None}


# --- states and suspensions -------------------------------------------------------------------------------------------


@over_every_store
async def test_a_state_is_read_after_everything_that_was_submitted_before(opened: Opened) -> None:
    async with opened() as store:
        for number in range(100):
            submitted(store, StoreState("echo", {"n": number}))
        assert await store.state("echo") == {"n": 99}
        submitted(store, StoreState("echo", None))
        assert await store.state("echo") is None


@over_every_store
async def test_an_empty_state_is_a_state(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, StoreState("echo", {}))
        assert await store.state("echo") == {}


@over_every_store
async def test_a_suspension_is_known_until_it_is_taken_back(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, StoreSuspension("echo", "broken"), StoreSuspension("other", ""))
        assert await store.suspensions() == {"echo": "broken", "other": ""}
        await stored(store, StoreSuspension("echo", "still broken"), StoreSuspension("other", None))
        assert await store.suspensions() == {"echo": "still broken"}
        await stored(store, StoreSuspension("nobody", None))


# --- copies and order -------------------------------------------------------------------------------------------------


@over_every_store
async def test_what_is_stored_does_not_change_with_what_was_given(opened: Opened) -> None:
    async with opened() as store:
        data: dict[str, Any] = {"list": [1]}
        events = [Event(1, "e", data, NOW)]
        outcomes = [
            submitted(
                store, accepted("run", payload=data, metadata=data), AppendEvents("run", events), StoreStep("run", "s", data)
            ),
            submitted(store, StoreState("echo", data), accepted("wait"), ParkRun("wait", data)),
            submitted(store, accepted("on"), QueueRun("on", "other", "work", data)),
            submitted(store, ended("run", output=data, meta=data, error=data)),
        ]
        data["list"].append(2)
        events.append(Event(2, "e", None, NOW))
        assert [await outcome for outcome in outcomes] == [None] * 4
        run = await got(store, "run")
        assert run.payload == run.metadata == run.output == run.meta == run.error == {"list": [1]}
        assert await store.events("run") == [Event(1, "e", {"list": [1]}, NOW)]
        assert await store.steps("run") == {"s": {"list": [1]}}
        assert await store.state("echo") == {"list": [1]}
        assert (await got(store, "wait")).waiting == {"list": [1]}
        assert (await got(store, "on")).payload == {"list": [1]}


@over_every_store
async def test_what_is_stored_does_not_change_with_what_was_got(opened: Opened) -> None:
    async with opened() as store:
        value = {"list": [1]}
        await stored(store, accepted("run", payload=value), AppendEvents("run", [Event(1, "e", value, NOW)]))
        await stored(store, StoreStep("run", "s", value), StoreState("echo", value))
        (await got(store, "run")).payload["list"].append(2)
        (await store.runs(RunQuery(everyone=True)))[0].payload["list"].append(2)
        (await store.events("run"))[0].data["list"].append(2)
        (await store.steps("run"))["s"]["list"].append(2)
        state = await store.state("echo")
        assert state is not None
        state["list"].append(2)
        assert (await got(store, "run")).payload == value
        assert (await store.events("run"))[0].data == value
        assert await store.steps("run") == {"s": value}
        assert await store.state("echo") == value


@over_every_store
async def test_outcomes_come_in_the_order_of_submission(opened: Opened) -> None:
    order: list[int] = []
    async with opened() as store:
        last = anyio.Event()
        for number in range(1500):
            store.submit([accepted(str(number))], lambda _, number=number: order.append(number))
        store.submit([], lambda _: last.set())
        await last.wait()
        assert order == list(range(1500))
        assert [record.run_id for record in await store.unfinished()] == [str(number) for number in range(1500)]


@over_every_store
async def test_what_cannot_be_copied_is_refused_before_anything_is_submitted(opened: Opened) -> None:
    async with opened() as store:
        with pytest.raises(ValueError):
            store.submit([accepted("run"), StoreState("echo", {"generator": (n for n in range(3))})], never)
        assert await store.run("run") is None


@over_every_store
async def test_who_fails_on_an_outcome_keeps_nobody_from_another(opened: Opened) -> None:
    async with opened() as store:

        def fail(error: Exception | None) -> None:
            raise RuntimeError(str(error))

        for number in range(3):
            with suppress(RuntimeError):  # it may be called before `submit` returns
                store.submit([accepted(str(number))], fail)
        await stored(store, accepted("last"))
        assert len(await store.unfinished()) == 4


# --- lineages ---------------------------------------------------------------------------------------------------------


@over_every_store
async def test_after_one_of_a_lineage_that_failed_none_is_stored(opened: Opened) -> None:
    lineage, other = Lineage(), Lineage()
    async with opened() as store:
        outcomes = [
            submitted(store, StoreState("echo", {"n": 1}), lineage=lineage),
            submitted(store, StoreState("echo", {"n": 2}), ended("none"), lineage=lineage),
            submitted(store, StoreState("echo", {"n": 3}), lineage=lineage),
            submitted(store, StoreState("other", {"n": 4}), lineage=other),
        ]
        errors = [await outcome for outcome in outcomes]
        assert isinstance(errors[1], StoreUnavailable)
        assert errors == [None, errors[1], errors[1], None]
        assert lineage.broken is errors[1]
        assert other.broken is None
        assert await submitted(store, StoreState("echo", {"n": 5}), lineage=lineage) is errors[1]
        assert await store.state("echo") == {"n": 1}
        assert await store.state("other") == {"n": 4}


# --- lists ------------------------------------------------------------------------------------------------------------


@over_every_store
async def test_lists_are_those_of_the_principal_and_nameless_callers_have_their_own(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("a", principal="alice"), accepted("b", principal="bob"), accepted("n"))
        assert [run.run_id for run in await store.runs(RunQuery(principal="alice"))] == ["a"]
        assert [run.run_id for run in await store.runs(RunQuery())] == ["n"]
        assert {run.run_id for run in await store.runs(RunQuery(everyone=True, principal="bob"))} == {"a", "b", "n"}


@over_every_store
async def test_pages_miss_nothing_and_repeat_nothing_where_times_are_equal(opened: Opened) -> None:
    async with opened() as store:
        records = [a_run(f"run{number:02}", created=NOW + number // 7, principal="alice") for number in range(40)]
        await stored(store, *[AcceptRun(record) for record in reversed(records)])
        for everyone in (True, False):
            found: list[RunRecord] = []
            query = RunQuery(everyone=everyone, principal="alice", limit=6)
            while page := await store.runs(query):
                found += page
                query = replace(query, before=(page[-1].created, page[-1].run_id))
            assert [run.run_id for run in found] == [record.run_id for record in reversed(records)]


STATUSES = st.sampled_from(list(RunStatus))


@over_every_store
async def test_runs_are_found_by_how_their_ids_begin_also_where_very_many_begin_so(opened: Opened) -> None:
    async with opened() as store:
        ids = [*(f"a-{number:04}" for number in range(1100)), "A-1", "a", "a%", "a_", "b-\U0001f600", "b-é"]
        await stored(store, *(AcceptRun(a_run(one, created=NOW + age)) for age, one in enumerate(ids)))

        async def found(prefix: str, limit: int = 9) -> list[str]:
            return [run.run_id for run in await store.runs(RunQuery(everyone=True, prefix=prefix, limit=limit))]

        assert await found("a-") == ids[1099:1090:-1]
        assert len(await found("a-", limit=2000)) == 1100
        assert await found("a-000", limit=10) == ids[9::-1]
        assert await found("a%") == ["a%"]
        assert await found("a_") == ["a_"]
        assert await found("A") == ["A-1"]
        assert await found("b-") == ["b-é", "b-\U0001f600"]
        assert await found("a-1100") == []


@over_every_store
@settings(max_examples=50)
@given(
    runs=st.lists(
        st.tuples(st.sampled_from([None, "alice", "bob"]), st.sampled_from("xy"), STATUSES, st.booleans(), st.integers(0, 3)),
        max_size=12,
    ),
    query=st.builds(
        RunQuery,
        everyone=st.booleans(),
        principal=st.sampled_from([None, "alice"]),
        status=st.none() | STATUSES,
        agent=st.sampled_from([None, "x"]),
        parent=st.sampled_from([None, "above"]),
        prefix=st.sampled_from([None, "", "1", "10", "x"]),
        dead=st.booleans(),
        before=st.none() | st.tuples(st.just(NOW + 2), st.sampled_from(["3", "8"])),
        limit=st.integers(1, 5),
    ),
)
async def test_a_list_has_what_answers_every_condition(opened: Opened, runs: list[Any], query: RunQuery) -> None:
    records: list[RunRecord] = []
    for number, (principal, agent, status, flag, age) in enumerate(runs):
        over = status not in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING)
        fields = {"finished": NOW, "dead": "crashed" if flag else None} if over else {}
        parent = "above" if flag or age == 1 else None
        created = NOW + age
        records.append(
            a_run(str(number), principal=principal, agent=agent, status=status, parent=parent, created=created, **fields)
        )
    expected = [
        record.run_id
        for record in sorted(records, key=lambda record: (record.created, record.run_id), reverse=True)
        if (query.everyone or record.principal == query.principal)
        and query.status in (None, record.status)
        and query.agent in (None, record.agent)
        and query.parent in (None, record.parent)
        and record.run_id.startswith(query.prefix or "")
        and (not query.dead or record.dead)
        and (query.before is None or (record.created, record.run_id) < query.before)
    ]
    async with opened() as store:
        await stored(store, *map(AcceptRun, records))
        assert [record.run_id for record in await store.runs(query)] == expected[: query.limit]


@over_every_store
async def test_the_unfinished_are_those_that_have_not_ended_in_the_order_of_acceptance(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, *[accepted(name, created=NOW - number) for number, name in enumerate("dcba")])
        await stored(store, ended("c"), BeginRun("b", 1, NOW), ParkRun("a", {"kind": "input"}))
        assert [record.run_id for record in await store.unfinished()] == ["d", "b", "a"]


# --- callbacks --------------------------------------------------------------------------------------------------------


@over_every_store
async def test_a_callback_is_pending_from_the_end_of_its_run_until_nothing_more_is_sent(opened: Opened) -> None:
    async with opened() as store:
        later, sooner = (Callback(url=f"https://{at}.example/", next_at=NOW + at) for at in (2, 1))
        await stored(store, accepted("later", callback=later), accepted("sooner", callback=sooner), accepted("none"))
        assert await store.callbacks() == []
        await stored(store, ended("later"), ended("none"))
        await stored(store, ended("sooner"))
        assert await store.callbacks() == [("sooner", sooner), ("later", later)]
        put_off = replace(sooner, attempts=1, next_at=NOW + 3, last_error="It answered 500.", last_status=500)
        await stored(store, StoreCallback("sooner", put_off))
        assert await store.callbacks() == [("later", later), ("sooner", put_off)]
        delivered = replace(later, status=CallbackStatus.DELIVERED, attempts=1, next_at=None, delivered_at=NOW + 4)
        await stored(store, StoreCallback("later", delivered))
        assert await store.callbacks() == [("sooner", put_off)]
        assert (await got(store, "later")).callback == delivered
        assert (await got(store, "none")).callback is None


@over_every_store
async def test_a_callback_of_a_run_that_is_not_there_is_refused(opened: Opened) -> None:
    async with opened() as store:
        with pytest.raises(StoreUnavailable, match="'nobody' was never accepted"):
            await stored(store, StoreCallback("nobody", Callback(url="https://example.com/")))


@over_every_store
async def test_a_run_that_is_refused_leaves_no_callback(opened: Opened) -> None:
    async with opened() as store:
        callback = Callback(url="https://example.com/", next_at=NOW)
        await stored(store, accepted("first", scope=b"scope", key_until=NOW + 10))
        for refused in (
            accepted("other", scope=b"scope", key_until=NOW + 10, callback=callback),
            accepted("first", callback=callback),
        ):
            with pytest.raises(RunExists):
                await stored(store, refused)
        await stored(store, ended("first"))
        assert await store.callbacks() == []


@over_every_store
async def test_a_callback_goes_with_its_run_and_by_the_age_of_runs(opened: Opened) -> None:
    async with opened() as store:
        callback = Callback(url="https://example.com/", next_at=NOW)
        for name, at in (("old", NOW - 101), ("young", NOW - 99)):
            await stored(store, accepted(name, callback=callback), ended(name, at))
        await store.prune(Retention(runs_for=100.0, max_bytes=1), NOW)
        assert await store.run("old") is None
        assert await store.callbacks() == [("young", callback)]


# --- retention --------------------------------------------------------------------------------------------------------


@over_every_store
async def test_runs_are_removed_with_all_they_have_when_they_are_too_old(opened: Opened) -> None:
    async with opened() as store:
        for name, at in (("old", NOW - 101), ("young", NOW - 99)):
            keyed = accepted(name, scope=name.encode(), key_until=NOW + 100, created=NOW - 200, payload="x" * 5000)
            await stored(
                store,
                keyed,
                AppendEvents(name, some_events(*range(2, 700))),
                StoreStep(name, "s", 1),
                ended(name, at, last_seq=700),
            )
        await stored(store, accepted("unfinished", created=NOW - 1000))
        pruned = await store.prune(Retention(runs_for=100.0), NOW)
        assert (pruned.runs, pruned.payloads, pruned.keys) == (1, 0, 0)
        assert await store.run("old") is None
        assert await store.events("old") == []
        assert await store.steps("old") == {}
        assert await store.run_of_key(b"old") is None
        assert len(await store.events("young", limit=1000)) == 698
        assert await store.run_of_key(b"young") is not None
        assert await store.run("unfinished") is not None
        await stored(store, accepted("old", scope=b"old", key_until=NOW + 100))


@over_every_store
async def test_dead_letters_go_by_the_age_of_runs(opened: Opened) -> None:
    async with opened() as store:
        for name, at in (("old", NOW - 101), ("young", NOW - 99)):
            await stored(store, accepted(name), ended(name, at, RunStatus.FAILED, dead="crashed"))
        await store.prune(Retention(runs_for=100.0, max_bytes=1), NOW)
        assert [run.run_id for run in await store.runs(RunQuery(everyone=True, dead=True))] == ["young"]


@over_every_store
async def test_without_limits_nothing_is_removed(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("run", payload=1), ended("run", NOW - 1e9, output=2))
        pruned = await store.prune(Retention(runs_for=None), NOW)
        assert (pruned.runs, pruned.payloads, pruned.keys) == (0, 0, 0)
        assert (await got(store, "run")).output == 2


@over_every_store
@pytest.mark.parametrize("size", [10, 5000])
async def test_payloads_are_removed_before_their_run(opened: Opened, size: int) -> None:
    async with opened() as store:
        for name, at in (("old", NOW - 11), ("young", NOW - 9)):
            await stored(
                store, accepted(name, payload="x" * size), AppendEvents(name, some_events(*range(2, 600))), StoreStep(name, "s", 1)
            )
            await stored(store, ended(name, at, output="y" * size, meta={"status": 201}, last_seq=599))
        retention = Retention(payloads_for=10.0)
        assert (await store.prune(retention, NOW)).payloads == 1
        assert (await store.prune(retention, NOW)).payloads == 0
        old, young = await got(store, "old"), await got(store, "young")
        assert (old.stripped, old.payload, old.output, old.meta) == (True, None, None, {"status": 201})
        assert await store.events("old", limit=1000) == []
        assert await store.steps("old") == {}
        assert (young.stripped, young.payload) == (False, "x" * size)
        assert await store.events("young", limit=1000) == some_events(*range(2, 600))


@over_every_store
async def test_expired_keys_are_removed_and_their_runs_stay(opened: Opened) -> None:
    async with opened() as store:
        changes = [accepted(str(n), scope=b"%03d" % n, key_until=NOW - 10 + 20 * (n % 2), created=NOW - 20) for n in range(600)]
        await stored(store, *changes)
        assert (await store.prune(Retention(), NOW)).keys == 300
        assert await store.run_of_key(b"001") is not None
        assert len(await store.unfinished()) == 600


# --- what is in it ----------------------------------------------------------------------------------------------------


@over_every_store
async def test_a_summary_counts_what_is_there(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("a"), accepted("b"), accepted("c"), AppendEvents("a", some_events(2, 3)))
        await stored(store, ended("c", status=RunStatus.FAILED, dead="crashed"), StoreState("echo", {}))
        summary = await store.summary()
        assert summary.runs == {"queued": 2, "failed": 1}
        assert (summary.dead_letters, summary.events, summary.states) == (1, 2, 1)
        assert summary.kind in ("memory", "sqlite")
        assert summary.where
        assert (summary.size > 0) == store.durable


# --- memory is bounded ------------------------------------------------------------------------------------------------


async def test_memory_forgets_the_run_that_ended_first_with_all_it_has() -> None:
    store = MemoryRunStore(limit=3, clock=ManualClock(epoch=NOW))
    for name in "abcd":
        await stored(
            store,
            accepted(name, scope=name.encode(), key_until=NOW + 10),
            AppendEvents(name, some_events(2)),
            StoreStep(name, "s", 1),
        )
        if name != "b":
            await stored(store, ended(name))
    assert [name for name in "abcd" if await store.run(name)] == ["b", "c", "d"]
    assert await store.run_of_key(b"a") is None
    assert await store.events("a") == []
    assert await store.steps("a") == {}
    assert await store.run_of_key(b"c") is not None


async def test_memory_never_forgets_a_run_that_has_not_ended() -> None:
    store = MemoryRunStore(limit=3)
    await stored(store, *[accepted(str(number)) for number in range(10)])
    assert len(await store.unfinished()) == 10
    await stored(store, ended("4"))
    assert await store.run("4") is None
    assert len(await store.unfinished()) == 9


async def test_memory_has_done_everything_when_submit_returns() -> None:
    outcomes: list[Exception | None] = []
    MemoryRunStore().submit([accepted("run")], outcomes.append)
    assert outcomes == [None]


# --- only a store on a disk -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, {"at": b"bytes"}, "\ud800"], ids=repr)
async def test_a_durable_store_refuses_what_would_not_come_back_as_it_is(value: Any) -> None:
    async with sqlite() as store:
        for change in (
            accepted("run", payload={"value": value}),
            StoreState("echo", {"value": value}),
            ended("run", output=[value]),
        ):
            with pytest.raises(ValueError):
                store.submit([accepted("other"), change], never)
        assert await store.unfinished() == []


# --- usage ------------------------------------------------------------------------------------------------------------


@over_every_store
async def test_usage_is_summed_up_by_whatever_is_asked_for(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("one", principal="alice"), used("one", principal="alice"))
        await stored(store, used("one", principal="alice", agent="other"), used("plain", principal="bob"))
        await stored(store, used("one", Usage(calls=2, unpriced_calls=2, unknown_calls=1), principal="alice", model="odd"))
        await stored(store, used("late", day="2027-01-16"), used())
        everything = await store.usage(UsageQuery(everyone=True))
        by_model = await store.usage(UsageQuery(everyone=True, by=[UsageKey.MODEL]))
        by_principal = await store.usage(UsageQuery(everyone=True, by=[UsageKey.PRINCIPAL, UsageKey.AGENT]))
        by_day = await store.usage(UsageQuery(everyone=True, by=[UsageKey.DAY]))
        by_run = await store.usage(UsageQuery(everyone=True, by=[UsageKey.RUN]))
    assert everything == [
        UsageGroup({}, Usage(7, 0, 500, 50, cost=125_000, unpriced_calls=2, unknown_calls=1, duration_us=7_500_000))
    ]
    assert [(group.keys, group.usage.calls) for group in by_model] == [({"model": "gpt-4o-mini"}, 5), ({"model": "odd"}, 2)]
    assert [(*group.keys.values(), group.usage.calls) for group in by_principal] == [
        (None, "echo", 2),
        ("alice", "echo", 3),
        ("alice", "other", 1),
        ("bob", "echo", 1),
    ]
    assert [(group.keys["day"], group.usage.calls) for group in by_day] == [("2027-01-15", 6), ("2027-01-16", 1)]
    assert [(group.keys["run"], group.usage.calls) for group in by_run] == [("one", 4), ("late", 1), ("plain", 1)]


@over_every_store
async def test_usage_is_found_by_every_condition(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, used("a", principal="alice"), used("b", principal="bob", agent="other", day="2027-01-20"))
        await stored(store, used("c", provider="vllm", model="llama"))

        async def calls(**asked: Any) -> int:
            asked.setdefault("everyone", True)
            (group,) = await store.usage(UsageQuery(**asked))
            return group.usage.calls

        assert await calls() == 3
        assert await calls(since="2027-01-16") == 1
        assert await calls(until="2027-01-16") == 2
        assert await calls(since="2027-01-20", until="2027-01-20") == 1
        assert await calls(agent="other") == 1
        assert await calls(provider="vllm") == 1
        assert await calls(model="llama") == 1
        assert await calls(run="a") == 1
        assert await calls(run="nobody") == 0
        assert await calls(everyone=False, principal="alice") == 1
        assert await calls(everyone=False) == 1
        assert await calls(everyone=False, principal="alice", run="b") == 0
        assert len(await store.usage(UsageQuery(everyone=True, by=[UsageKey.RUN], limit=2))) == 2


@over_every_store
async def test_a_run_has_the_usage_of_all_its_calls(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("run"), used("run"))
        await stored(store, used("run"), used("run", agent="nested"), used("another"))
        (listed,) = await store.runs(RunQuery(everyone=True))
        assert {row.agent: row.usage.calls for row in (await got(store, "run")).usage} == {"echo": 2, "nested": 1}
        assert total(listed.usage) == Usage(3, 0, 300, 30, cost=75_000, duration_us=4_500_000)


@over_every_store
async def test_usage_of_a_transaction_that_is_refused_is_not_stored(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("run"))
        with pytest.raises(RunExists):
            await stored(store, used("run"), accepted("run"))
        assert (await got(store, "run")).usage == ()
        assert await store.usage(UsageQuery(everyone=True)) == [UsageGroup({}, Usage())]


@over_every_store
@given(calls=st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([None, "é"]), st.integers(0, 9 * NANO)), max_size=8))
@settings(deadline=None, max_examples=20)
async def test_sums_of_usage_are_exact(opened: Opened, calls: list[tuple[str, str | None, int]]) -> None:
    async with opened() as store:
        for agent, principal, value in calls:
            usage = Usage(**dict.fromkeys(SUMS, value))
            await stored(store, used("run", usage, agent=agent, principal=principal))
        groups = await store.usage(UsageQuery(everyone=True, by=[UsageKey.AGENT, UsageKey.PRINCIPAL]))
        for group in groups:
            among = [value for *key, value in calls if key == list(group.keys.values())]
            assert group.usage == Usage(**dict.fromkeys(SUMS, sum(among)))
        (everything,) = await store.usage(UsageQuery(everyone=True))
        assert everything.usage.cost == sum(value for *_, value in calls)


@over_every_store
async def test_usage_of_days_outlives_the_runs(opened: Opened) -> None:
    async with opened() as store:
        await stored(store, accepted("old"), used("old"), used("plain"), ended("old"))
        await stored(store, accepted("unfinished"), used("unfinished"))
        await store.prune(Retention(runs_for=5 * 86400.0, usage_for=20 * 86400.0), NOW + 10 * 86400.0)
        by_run = await store.usage(UsageQuery(everyone=True, by=[UsageKey.RUN]))
        assert [group.keys["run"] for group in by_run] == ["unfinished"]
        assert (await store.usage(UsageQuery(everyone=True)))[0].usage.calls == 3
        removed = await store.prune(Retention(runs_for=None, usage_for=20 * 86400.0), NOW + 30 * 86400.0)
        assert removed.usage == 1
        assert (await store.usage(UsageQuery(everyone=True)))[0].usage.calls == 0
        assert total((await got(store, "unfinished")).usage) == A_CALL
