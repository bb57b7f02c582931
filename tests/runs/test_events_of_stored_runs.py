"""Stored runs while they live: their events, which readers follow from anywhere, their cancellation, their ends as dead letters."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import AgentCrashed, ProcessExited
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.runs.call import Call
from portico.runs.dispatcher import Dispatcher
from portico.runs.store import RunQuery
from portico.testing import ManualClock, settle
from portico.topology.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from portico.runs.run import Run

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


class BoomError(Exception):
    """What crashes a script."""


class Scripted(AgentProcess):
    """Does what its test says."""

    def __init__(self, name: str, script: Callable[[Scripted, Context, Any], Any], **options: Any) -> None:
        super().__init__(name, **options)
        self.script = script

    @operation
    async def act(self, ctx: Context, what: Any = None) -> Any:
        return await self.script(self, ctx, what)


class Threaded(AgentProcess):
    """Works in a thread."""

    @operation
    def act(self, ctx: Context) -> str:
        for number in range(100):
            ctx.emit("n", number)
        if ctx.attempt == 0:
            raise BoomError
        ctx.delta("end")
        return "done"


@pytest.fixture(params=["memory", "sqlite"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where the runtime stores: nowhere, or in a directory."""
    return tmp_path / "data" if request.param == "sqlite" else None


def runtime_of(*children: AgentProcess, data: Path | None = None, **options: Any) -> Runtime:
    return Runtime(Supervisor("root", children, backoff_base=0.0), data=data, **options)


async def begun(door: Dispatcher, how: str = "stored", agent: str = "a", what: Any = None, **options: Any) -> Run:
    """A run, plain or stored."""
    one = Call(door.catalogue.find(agent, "act"), what, **options)
    return await door.submit(one) if how == "stored" else await door.start(one)


async def followed(run: Run, after: int = 0) -> list[tuple[int, str, Any]]:
    return [(event.seq, event.type, event.data) async for event in run.follow(after)]


# --- matching ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_events_that_come_again_are_not_written_twice(data: Path | None, how: str) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        for number in range(5):
            ctx.emit("n", {"number": number, "deep": [1.0, None, "ü"]})
            if number == ctx.attempt:
                raise BoomError
            await asyncio.sleep(0)
            if number == 3:
                break
        return "done"

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            run = await begun(Dispatcher(runtime), how)
            await run.wait()
            numbers = [data["number"] for _, kind, data in await followed(run) if kind == "n"]
            assert numbers == [0, 1, 2, 3]


@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_events_that_differ_say_that_the_handling_began_again(data: Path | None, how: str) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        ctx.emit("same", 1)
        ctx.emit("differs", ctx.attempt)
        if ctx.attempt < 2:
            raise BoomError
        return "done"

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            run = await begun(Dispatcher(runtime), how)
            await run.wait()
            seen = await followed(run)
            assert [one[0] for one in seen] == list(range(1, len(seen) + 1))
            assert [one[1:] for one in seen[1:-1]] == [
                ("same", 1),
                ("differs", 0),
                ("run.restarted", {"attempt": 2}),
                ("same", 1),
                ("differs", 1),
                ("run.restarted", {"attempt": 3}),
                ("same", 1),
                ("differs", 2),
            ]


async def test_events_of_finished_steps_count_still_where_the_handling_goes_another_way(data: Path | None) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        async def work() -> int:
            ctx.emit("in step", 1)
            return 1

        await ctx.step("work", work)
        ctx.emit("after", ctx.attempt)
        if ctx.attempt == 0:
            raise BoomError
        return "done"

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            run = await begun(Dispatcher(runtime))
            await run.wait()
            seen = await followed(run)
            restarted = next(index for index, one in enumerate(seen) if one[1] == "run.restarted")
            assert ("in step", 1) in [one[1:] for one in seen[restarted:]]


@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_fewer_events_the_second_time_are_no_restart(data: Path | None, how: str) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        ctx.emit("a")
        if ctx.attempt == 0:
            ctx.emit("b")
            raise BoomError
        return "done"

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            run = await begun(Dispatcher(runtime), how)
            await run.wait()
            assert [one[1] for one in await followed(run)] == ["run.started", "a", "b", "run.succeeded"]


@pytest.mark.parametrize(
    "odd", [b"\xff\x00", object(), float("nan"), {"a": {1, 2}}, {(1, 2): 3}], ids=["bytes", "object", "nan", "set", "keys"]
)
@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_an_odd_event_harms_neither_its_handler_nor_the_events_after_it(data: Path | None, how: str, odd: Any) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        ctx.emit("before")
        ctx.emit("odd", odd)
        await asyncio.sleep(0.02)
        ctx.emit("after")
        return "done"

    with anyio.fail_after(3):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            run = await begun(Dispatcher(runtime), how)
            assert (await run.outcome()).payload == "done"
            types = [one[1] for one in await followed(run)]
            assert types[-1] == "run.succeeded"
            assert "after" in types


# --- following --------------------------------------------------------------------------------------------------------


async def test_every_reader_sees_the_same_from_wherever_it_begins(data: Path | None) -> None:
    go_on = asyncio.Event()

    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        for number in range(50):
            ctx.emit("n", number)
            if number == 25:
                await go_on.wait()
        return "done"

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await begun(door)
            async with asyncio.TaskGroup() as tasks:
                early = [tasks.create_task(followed(run, after)) for after in (0, 1, 10, 30, 51, 52, 1000)]
                await asyncio.sleep(0.05)
                live = [tasks.create_task(followed(await door.book.find(run.run_id, None), after)) for after in (0, 20)]
                await asyncio.sleep(0.01)
                go_on.set()
            whole = early[0].result()
            assert [one[0] for one in whole] == list(range(1, 53))
            assert [task.result() for task in early] == [whole[after:] for after in (0, 1, 10, 30, 51, 52, 1000)]
            assert [task.result() for task in live] == [whole, whole[20:]]
            later = await door.book.find(run.run_id, None)
            assert [await followed(later, after) for after in (0, 20, 51, 52)] == [whole, whole[20:], whole[51:], []]


@pytest.mark.parametrize("begins", ["at once", "late"])
async def test_a_slow_reader_of_very_many_events_misses_none_and_holds_nobody_up(data: Path | None, begins: str) -> None:
    many = 20_000
    emitted, read = asyncio.Event(), asyncio.Event()

    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        for number in range(many):
            ctx.emit("n", number)
            if number % 500 == 0:
                await asyncio.sleep(0.002)
        emitted.set()
        await read.wait()
        return "done"

    with anyio.fail_after(50):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            run = await begun(Dispatcher(runtime))
            if begins == "late":
                await emitted.wait()
            seen: list[int] = []
            async for event in run.follow():
                seen.append(event.seq)
                if event.seq == 2:
                    await emitted.wait()
                if event.seq == many + 1:
                    read.set()
            assert seen == list(range(1, many + 3))


@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_events_out_of_a_thread_come_in_order_and_once(data: Path | None, how: str) -> None:
    with anyio.fail_after(10):
        async with runtime_of(Threaded("a"), data=data) as runtime:
            run = await begun(Dispatcher(runtime), how, what={})
            await run.wait()
            assert [one[1:] for one in await followed(run)][1:-1] == [
                *(("n", number) for number in range(100)),
                ("delta", {"text": "end"}),
            ]


# --- cancelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["queued", "delayed", "running", "in a nested ask", "before a retry"])
async def test_a_run_is_cancelled_wherever_it_is(data: Path | None, where: str) -> None:  # noqa: C901  # one script for all places
    inside, left = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    async def hang() -> None:
        inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    async def above(me: Scripted, ctx: Context, what: Any) -> Any:
        done.append(str(what))
        await me.send("b", "sent", "act")
        if what == "in a nested ask":
            await me.ask("b", "hang", "act")
        if what == "before a retry":

            async def fail() -> None:
                inside.set()
                raise BoomError

            await ctx.step("fails", fail, retries=10, retry_delay=3600)
        if what in {"running", "block"}:
            await hang()
        return "done"

    async def below(me: Scripted, ctx: Context, what: Any) -> Any:
        done.append(str(what))
        if what == "hang":
            await hang()

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", above), Scripted("b", below), data=data) as runtime:
            door = Dispatcher(runtime)
            blocking = await begun(door, what="block") if where == "queued" else None
            due = door.book.clock.time() + 3600 if where == "delayed" else None
            run = await begun(door, what=where, due=due)
            if where != "delayed":
                await inside.wait()
            await asyncio.gather(door.book.cancel(run), door.book.cancel(run), door.book.cancel(run))
            assert run.status == "cancelled"
            assert (await door.book.find(run.run_id, None)).status == "cancelled"
            assert [one[1] for one in await followed(run)][-1] == "run.cancelled"
            if where in {"running", "in a nested ask"}:
                await left.wait()
            await door.book.cancel(run)
            if blocking is not None:
                await door.book.cancel(blocking)
            await (await begun(door, what="other")).outcome()
            assert (where in done) == (where not in {"queued", "delayed"})
            children = await door.book.page(RunQuery(parent=run.run_id))
            assert children == []  # what was not committed was never sent


async def test_children_stay_when_the_run_that_sent_them_is_over(data: Path | None) -> None:
    go_on = asyncio.Event()

    async def above(me: Scripted, ctx: Context, what: Any) -> Any:
        await me.send("b", "sent", "act")
        return "done"

    async def below(me: Scripted, ctx: Context, what: Any) -> Any:
        await go_on.wait()
        return "child done"

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", above), Scripted("b", below), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await begun(door)
            await run.wait()
            await door.book.cancel(run)
            assert run.status == "succeeded"
            (child,) = await door.book.page(RunQuery(parent=run.run_id))
            go_on.set()
            assert (await child.outcome()).payload == "child done"


async def test_a_run_that_is_cancelled_at_any_moment_ends_once_and_its_state_agrees(data: Path | None) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        me.state["n"] = me.state.get("n", 0) + 1
        return me.state["n"]

    with anyio.fail_after(20):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            ended: list[str] = []
            for turns in range(60):
                run = await begun(door)
                for _ in range(turns % 20):
                    await asyncio.sleep(0 if turns < 40 else 0.0003)
                await door.book.cancel(run)
                ended.append(run.status.value)
                assert (await door.book.find(run.run_id, None)).status == run.status
            succeeded = ended.count("succeeded")
            assert ended.count("cancelled") == 60 - succeeded
            assert (await (await begun(door)).outcome()).payload == succeeded + 1


async def test_a_run_whose_transfer_is_being_stored_can_be_cancelled(data: Path | None) -> None:
    inside = asyncio.Event()

    async def first(me: Scripted, ctx: Context, what: Any) -> Any:
        inside.set()
        ctx.transfer("b", {})

    async def second(me: Scripted, ctx: Context, what: Any) -> Any:
        await asyncio.Event().wait()

    with anyio.fail_after(3):
        async with runtime_of(Scripted("a", first), Scripted("b", second), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await begun(door)
            await inside.wait()
            await door.book.cancel(run)
            assert run.status == "cancelled"


# --- dead letters -----------------------------------------------------------------------------------------------------


async def test_what_waits_for_an_agent_that_fails_for_good_are_dead_letters(data: Path | None) -> None:
    go_on = asyncio.Event()

    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        await go_on.wait()
        raise BoomError

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script, restart="temporary"), data=data) as runtime:
            door = Dispatcher(runtime)
            runs = [await begun(door, one_way=one_way) for one_way in (False, False, True)]
            go_on.set()
            for run in runs:
                await run.wait()
            assert [type(run.error) for run in runs] == [AgentCrashed, ProcessExited, ProcessExited]
            letters = await door.book.dead_letters.page(RunQuery(dead=True))
            assert {letter.id for letter in letters} == {run.run_id for run in runs}


async def test_what_was_not_begun_in_time_is_a_dead_letter_where_nobody_waited(data: Path | None) -> None:
    clock = ManualClock()

    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        await asyncio.Event().wait()

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data, clock=clock) as runtime:
            door = Dispatcher(runtime)
            hanging = await begun(door, timeout=500)
            sent = await begun(door, one_way=True, timeout=20)
            asked = await begun(door, timeout=20)
            await clock.advance(21)
            for _ in range(5):
                await asyncio.sleep(0.01)
                await settle()
            assert (sent.status, asked.status) == ("timed_out", "timed_out")
            letters = await door.book.dead_letters.page(RunQuery(dead=True))
            assert [letter.id for letter in letters] == [sent.run_id]
            await door.book.cancel(hanging)


async def test_a_dead_letter_belongs_to_its_principal(data: Path | None) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        raise BoomError

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await begun(door, principal="ann", one_way=True)
            await run.wait()
            letters = door.book.dead_letters
            assert [letter.id for letter in await letters.page(RunQuery(principal="ann", dead=True))] == [run.run_id]
            assert await letters.page(RunQuery(principal="bob", dead=True)) == await letters.page(RunQuery(dead=True)) == []
            assert (await letters.find(run.run_id, "ann")).attempts == 4
            for other in ("bob", None):
                with pytest.raises(Exception, match=run.run_id):
                    await letters.find(run.run_id, other)


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_keys_and_runs_of_different_principals_do_not_meet(data: Path | None) -> None:
    count: list[Any] = []

    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        count.append(what)
        return len(count)

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            outputs: list[Any] = []
            for principal in ("ann", "bob", None, "ann"):
                run = await begun(door, what="x", principal=principal, idempotency_key="k")
                outputs.append((await run.outcome()).payload)
            assert outputs == [1, 2, 3, 1]
            mine = await begun(door, what="x", principal="ann", run_id="mine")
            await mine.wait()
            with pytest.raises(Exception, match="mine"):
                await begun(door, what="x", principal="bob", run_id="mine")
            with pytest.raises(Exception, match="mine"):
                await door.book.find("mine", "bob")
