"""Plain asks that are stored while they are under way (`Dispatcher.keep`), and that are handed over (`Dispatcher.hand_over`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from pydantic import BaseModel, SecretStr

from portico.errors import AgentError, Cancelled, InvalidReply, StoreUnavailable
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.runs.call import Call
from portico.runs.dispatcher import Dispatcher, HandedOver
from portico.runs.memory_store import MemoryRunStore
from portico.runs.status import RunStatus
from portico.runs.store import RunQuery
from portico.telemetry.call_meter import CallMeter
from portico.topology.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from portico.runs.interceptor import Next
    from portico.runs.run import Run

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


class Login(BaseModel):
    password: SecretStr


class Worker(AgentProcess):
    """Ends when its test says so."""

    def __init__(self, name: str = "worker") -> None:
        super().__init__(name, concurrency=10)
        self.began = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.steps = 0

    @operation
    async def work(self, ctx: Context, what: str = "") -> str:
        ctx.emit("noted", {"what": what})
        await ctx.step("count", self.count)
        self.began.set()
        await self.goes_on.wait()
        ctx.emit("noted", {"what": "again"})
        if what == "fail":
            raise AgentError("no-luck", "It was not to be.")
        return f"worked {what}"

    async def count(self) -> int:
        self.steps += 1
        return self.steps

    @operation
    async def odd(self) -> Any:
        self.began.set()
        await self.goes_on.wait()
        return object()

    @operation
    async def login(self, ctx: Context) -> str:
        answer = await ctx.wait_input("Password?", Login)
        self.began.set()
        await self.goes_on.wait()
        return str(len(answer.password.get_secret_value()))


def runtime_of(*agents: AgentProcess, data: Path | None = None) -> Runtime:
    return Runtime(Supervisor("root", children=list(agents), backoff_base=0.0), data=data)


def call_of(door: Dispatcher, name: str, **payload: Any) -> Call:
    return Call(door.catalogue.find("worker", name), payload)


@pytest.fixture(params=["memory", "file"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path if request.param == "file" else None


async def handed_over(door: Dispatcher, call: Call, worker: Worker) -> Run:
    """An ask whose caller was let go of."""
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(_let_go(door.ask(call)))
        await worker.began.wait()
        assert door.hand_over(call)
        await asking
    assert call.run is not None
    return call.run


async def _let_go(asking: Any) -> None:
    with pytest.raises(HandedOver):
        await asking


@pytest.mark.parametrize("begin", ["start", "hand over"])
async def test_a_plain_ask_that_is_kept_ends_as_a_stored_run(data: Path | None, begin: str) -> None:
    worker = Worker()
    with anyio.fail_after(30):
        async with runtime_of(worker, data=data) as runtime:
            door = Dispatcher(runtime)
            call = call_of(door, "work", what="it")
            run = await door.start(call) if begin == "start" else await handed_over(door, call, worker)
            await worker.began.wait()
            await door.keep(call)
            record = await door.book.store.run(run.run_id)
            assert record is not None
            assert (record.status, record.attempts, run.status, run.stored) == (RunStatus.RUNNING, 1, RunStatus.RUNNING, True)
            worker.goes_on.set()
            assert (await run.outcome()).payload == "worked it"
            listed = await door.book.page(RunQuery())
            later = await door.book.find(run.run_id, None)
            events = [(event.seq, event.type) async for event in later.follow()]
            assert door.in_flight == 0
    assert [one.run_id for one in listed] == [run.run_id]
    assert later is not run
    assert (later.status, later.output) == (RunStatus.SUCCEEDED, "worked it")
    assert [name for _, name in events] == [
        "run.started",
        "noted",
        "step.started",
        "step.completed",
        "noted",
        "run.succeeded",
    ]
    assert [seq for seq, _ in events] == list(range(1, 7))


async def test_a_kept_run_that_fails_is_stored_as_failed() -> None:
    worker = Worker()
    async with runtime_of(worker) as runtime:
        door = Dispatcher(runtime)
        run = await door.start(call := call_of(door, "work", what="fail"))
        await worker.began.wait()
        await door.keep(call)
        worker.goes_on.set()
        with pytest.raises(AgentError, match="not to be"):
            await run.outcome()
        record = await door.book.store.run(run.run_id)
    assert record is not None
    assert (record.status, (record.error or {})["slug"]) == (RunStatus.FAILED, "no-luck")


async def test_a_kept_run_is_cancelled_as_any_other() -> None:
    worker = Worker()
    async with runtime_of(worker) as runtime:
        door = Dispatcher(runtime)
        run = await door.start(call := call_of(door, "work"))
        await worker.began.wait()
        await door.keep(call)
        await door.book.cancel(run)
        with pytest.raises(Cancelled):
            await run.outcome()
        record = await door.book.store.run(run.run_id)
    assert record is not None
    assert record.status is RunStatus.CANCELLED


async def test_a_reply_that_cannot_be_stored_is_an_error_and_not_waited_for_forever(tmp_path: Path) -> None:
    worker = Worker()
    with anyio.fail_after(30):
        async with runtime_of(worker, data=tmp_path) as runtime:
            door = Dispatcher(runtime)
            run = await door.start(call := call_of(door, "odd"))
            await worker.began.wait()
            await door.keep(call)
            worker.goes_on.set()
            with pytest.raises(InvalidReply):
                await run.outcome()


async def test_a_kept_run_goes_on_in_the_next_life_with_its_steps(tmp_path: Path) -> None:
    first, second = Worker(), Worker()
    with anyio.fail_after(40):
        async with runtime_of(first, data=tmp_path) as runtime:
            door = Dispatcher(runtime)
            run = await door.start(call := call_of(door, "work", what="it"))
            await first.began.wait()
            await door.keep(call)
        second.goes_on.set()
        async with runtime_of(second, data=tmp_path) as runtime:
            door = Dispatcher(runtime)
            await door.recover()
            again = await door.book.find(run.run_id, None)
            assert (await again.outcome()).payload == "worked it"
    assert (first.steps, second.steps) == (1, 0)
    assert again.attempts == 2


def found_in(folder: Path, text: bytes) -> bool:
    return any(text in path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_a_secret_that_was_answered_before_is_not_stored(tmp_path: Path) -> None:
    worker = Worker()
    async with runtime_of(worker, data=tmp_path) as runtime:
        door = Dispatcher(runtime)
        run = await door.start(call := call_of(door, "login"))
        while run.waiting is None:  # noqa: ASYNC110  # what a run waits for is no event of its handler
            await asyncio.sleep(0.001)
        await door.book.answer(run, {"password": "hunter2hunter2"})
        await worker.began.wait()
        await door.keep(call)
        steps = await door.book.store.steps(run.run_id)
        worker.goes_on.set()
        assert (await run.outcome()).payload == "14"
    assert steps == {}
    assert not found_in(tmp_path, b"hunter2hunter2")


class Failing(MemoryRunStore):
    """Takes nothing while it fails."""

    fails = True

    def submit(self, changes: Any, ended: Callable[[Exception | None], object], lineage: Any = None) -> None:
        if self.fails:
            raise StoreUnavailable("the disk is full")
        super().submit(changes, ended, lineage)


async def test_what_cannot_be_kept_stays_a_plain_ask_and_is_kept_later() -> None:
    worker, store = Worker(), Failing()
    async with runtime_of(worker) as runtime:
        door = Dispatcher(runtime)
        door.book.store = store
        run = await door.start(call := call_of(door, "work", what="it"))
        await worker.began.wait()
        with pytest.raises(StoreUnavailable):
            await door.keep(call)
        assert not run.stored
        assert await door.book.find(run.run_id, None) is run
        store.fails = False
        await door.keep(call)
        assert run.stored
        worker.goes_on.set()
        assert (await run.outcome()).payload == "worked it"


async def test_a_kept_run_is_counted_once() -> None:
    worker = Worker()
    async with runtime_of(worker) as runtime:
        door = Dispatcher(runtime)
        meter = door.meter = CallMeter()
        meter.serve(door.catalogue)
        door.book.on_end.append(meter.run_ended)
        run = await handed_over(door, call := call_of(door, "work", what="it"), worker)
        tally = run.tally
        await door.keep(call)
        worker.goes_on.set()
        await run.outcome()
    assert tally is not None
    assert (tally.plain, tally.stored) == (0, 1)
    assert sum(sum(durations.counts) for durations in meter.tallies["worker", "work"].durations.values()) == 1


async def test_what_has_interceptors_is_not_handed_over_and_who_begun_it_gets_what_they_make_of_its_end() -> None:
    async def louder(call: Call, next: Next) -> Any:  # noqa: A002
        reply = await next(call)
        return f"{reply.payload}!"

    worker = Worker()
    async with runtime_of(worker) as runtime:
        door = Dispatcher(runtime, interceptors=[louder])
        run = await door.start(call := call_of(door, "work", what="it"))
        await worker.began.wait()
        assert not door.hand_over(call)
        worker.goes_on.set()
        assert (await run.outcome()).payload == "worked it!"


async def test_what_has_ended_is_neither_kept_nor_handed_over() -> None:
    worker = Worker()
    worker.goes_on.set()
    async with runtime_of(worker) as runtime:
        door = Dispatcher(runtime)
        await door.ask(call := call_of(door, "work"))
        await door.keep(call)
        assert not door.hand_over(call)
        assert call.run is not None
        assert not call.run.stored
