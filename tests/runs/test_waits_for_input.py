"""`ctx.wait_input`: what is asked, who answers first, and what becomes of the run meanwhile."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import anyio
import pytest
from pydantic import AfterValidator, BaseModel, Field, SecretStr

from portico.errors import Cancelled, ContractViolation, InputDeclined, InputTimeout, NotWaiting
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.questions import Question
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.runs.call import Call
from portico.runs.dispatcher import Dispatcher
from portico.runs.status import RunStatus
from portico.runs.store import RunQuery
from portico.testing import ManualClock, settle
from portico.topology.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from portico.runs.run import Run

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

HOWS = ["stored", "plain"]
INPUTS: list[Any] = [None, 7, "text", [1, {"a": None}], {"deep": [[[]]]}]


class Scripted(AgentProcess):
    """Does what its test says."""

    def __init__(self, name: str, script: Callable[[Scripted, Context, Any], Awaitable[Any]], **options: Any) -> None:
        super().__init__(name, **options)
        self.script = script

    @operation
    async def act(self, ctx: Context, what: Any = None) -> Any:
        return await self.script(self, ctx, what)


class Counter(AgentProcess):
    """Counts what reaches it, in its state."""

    @operation
    async def add(self, what: str = "") -> int:
        self.state["all"] = [*self.state.get("all", []), what]
        return len(self.state["all"])

    @operation
    async def told(self) -> list[str]:
        return self.state.get("all", [])


@pytest.fixture(params=["memory", "sqlite"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where the runtime stores: nowhere, or in a directory."""
    return tmp_path / "data" if request.param == "sqlite" else None


def runtime_of(*children: AgentProcess, data: Path | None = None, **options: Any) -> Runtime:
    return Runtime(Supervisor("root", children, backoff_base=0.0), data=data, **options)


async def begun(door: Dispatcher, how: str, agent: str = "a", what: Any = None, **options: Any) -> Run:
    """A run, plain or stored."""
    one = Call(door.catalogue.find(agent, "act"), what, **options)
    return await door.submit(one) if how == "stored" else await door.start(one)


async def waiting(run: Run) -> Run:
    """Until it waits."""
    while run.waiting is None:
        assert not run.done, (run.error, run.output)
        await asyncio.sleep(0.001)
    return run


async def turned(clock: ManualClock, seconds: float) -> None:
    """Turn the clock, and let the disk keep up."""
    await clock.advance(seconds)
    for _ in range(5):
        await asyncio.sleep(0.01)
        await settle()


class Decision(BaseModel):
    approved: bool
    amount: int = Field(0, ge=0)


def even(value: int) -> int:
    if value % 2:
        raise ValueError("odd")
    return value


@pytest.mark.parametrize(
    ("schema", "wrong", "path", "right", "got"),
    [
        ({"type": "object", "required": ["n"]}, {}, "", {"n": 1}, "{'n': 1}"),
        ({"properties": {"a": {"items": {"type": "integer"}}}}, {"a": [1, "x"]}, "/a/1", {"a": []}, "{'a': []}"),
        (Decision, {"approved": True, "amount": -1}, "/amount", {"approved": True}, "Decision(approved=True, amount=0)"),
        (list[int], [1, 2, "x"], "/2", [1, 2], "[1, 2]"),
        (tuple[int, str], [1], "", [1, "a"], "(1, 'a')"),
        (int | None, "x", "", None, "None"),
    ],
    ids=["mapping", "nested mapping", "model", "list", "tuple", "optional"],
)
@pytest.mark.parametrize("how", HOWS)
async def test_a_wrong_input_is_refused_with_its_place_and_a_right_one_has_its_type(
    data: Path | None, how: str, schema: Any, wrong: Any, path: str, right: Any, got: str
) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        return repr(await ctx.wait_input("?", schema))

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await waiting(await begun(door, how))
            with pytest.raises(ContractViolation) as caught:
                await door.book.answer(run, wrong)
            assert [fault["path"] for fault in caught.value.faults] == [path]
            assert run.status == "waiting"
            await door.book.answer(run, right)
            assert (await run.outcome()).payload == got


@pytest.mark.parametrize(
    ("schema", "wrong", "right"),
    [
        (datetime, "yesterday", "2027-01-15T08:00:00Z"),
        (UUID, "seven", "12345678-1234-5678-1234-567812345678"),
        (Annotated[int, AfterValidator(even)], 3, 4),
    ],
    ids=["a time", "a uuid", "a validator of its own"],
)
async def test_an_input_that_its_type_would_refuse_is_refused_to_who_gives_it(
    data: Path | None, schema: Any, wrong: Any, right: Any
) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        return str(await ctx.wait_input("?", schema))

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await waiting(await begun(door, "stored"))
            try:
                await door.book.answer(run, wrong)
            except ContractViolation:
                await door.book.answer(run, right)
            await run.wait()
            assert run.error is None, run.error


@pytest.mark.parametrize("value", INPUTS)
async def test_without_a_schema_any_input_will_do(data: Path | None, value: Any) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        return [await ctx.wait_input("?")]

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await waiting(await begun(door, "stored"))
            await door.book.answer(run, value)
            assert (await run.outcome()).payload == [value]


@pytest.mark.parametrize("how", HOWS)
async def test_of_many_answers_at_once_exactly_one_wins(data: Path | None, how: str) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        return await ctx.wait_input("?", int)

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await waiting(await begun(door, how))
            ends = await asyncio.gather(*(door.book.answer(run, number) for number in range(20)), return_exceptions=True)
            assert [type(end) for end in ends].count(NotWaiting) == 19
            assert (await run.outcome()).payload == ends.index(None)
            with pytest.raises(NotWaiting):
                await door.book.answer(run, 7)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    ("schema", "default", "got"),
    [(None, "d", "d"), (int, 5, 5), (int, None, None), (Decision, {"approved": False}, False), (None, None, None)],
    ids=["text", "number", "None instead of a number", "model", "None"],
)
async def test_the_default_is_what_comes_when_nobody_answers(
    data: Path | None, how: str, schema: Any, default: Any, got: Any
) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        answer = await ctx.wait_input("?", schema, timeout=60, default=default)
        return [answer.approved if isinstance(answer, Decision) else answer]

    clock = ManualClock()
    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data, clock=clock) as runtime:
            run = await waiting(await begun(Dispatcher(runtime), how))
            await turned(clock, 59)
            assert run.status == "waiting"
            await turned(clock, 2)
            assert run.done, run.status
            assert run.error is None, run.error
            assert run.output == [got]


@pytest.mark.parametrize("how", HOWS)
async def test_without_a_default_the_time_is_over_with_an_error_that_is_the_runs(data: Path | None, how: str) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        return await ctx.wait_input("?", timeout=60)

    clock = ManualClock()
    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data, clock=clock) as runtime:
            door = Dispatcher(runtime)
            run = await waiting(await begun(door, how))
            await turned(clock, 61)
            assert isinstance(run.error, InputTimeout)
            with pytest.raises(NotWaiting):
                await door.book.answer(run, 1)


@pytest.mark.parametrize("how", HOWS)
async def test_the_deadline_stands_still_while_a_run_waits(data: Path | None, how: str) -> None:
    left: list[float] = []

    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        left.append(ctx.remaining() or 0)
        return await ctx.wait_input("?")

    clock = ManualClock()
    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data, clock=clock) as runtime:
            door = Dispatcher(runtime)
            run = await waiting(await begun(door, how, timeout=10))
            await turned(clock, 5000)
            assert run.status == "waiting"
            await door.book.answer(run, 1)
            assert (await run.outcome()).payload == 1
            assert left == [10, 10]


@pytest.mark.parametrize("how", HOWS)
async def test_a_waiting_run_can_be_cancelled_and_takes_no_answer_then(data: Path | None, how: str) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        return await ctx.wait_input("?", timeout=50)

    clock = ManualClock()
    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data, clock=clock) as runtime:
            door = Dispatcher(runtime)
            run = await waiting(await begun(door, how))
            await asyncio.gather(door.book.cancel(run), door.book.cancel(run))
            assert run.status == "cancelled"
            assert isinstance(run.error, Cancelled)
            with pytest.raises(NotWaiting):
                await door.book.answer(run, 1)
            await turned(clock, 100)
            assert (await door.book.find(run.run_id, None)).status == "cancelled"


async def test_an_answer_that_comes_while_the_run_is_cancelled_is_refused(data: Path | None) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        return await ctx.wait_input("?")

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await waiting(await begun(door, "stored"))
            run.cancel()
            with pytest.raises(NotWaiting):
                await door.book.answer(run, 1)
            await run.wait()
            assert run.status == "cancelled"


@pytest.mark.parametrize("how", HOWS)
async def test_several_waits_of_one_handler_get_their_own_answers(data: Path | None, how: str) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        return [await ctx.wait_input(f"{number}?") for number in range(3)]

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await begun(door, how)
            for number in range(3):
                await waiting(run)
                assert run.waiting is not None
                assert run.waiting["prompt"] == f"{number}?"
                await door.book.answer(run, number * 10)
            assert (await run.outcome()).payload == [0, 10, 20]
            assert run.attempts == 1


async def test_effects_before_a_wait_are_there_once(data: Path | None) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        me.state["n"] = me.state.get("n", 0) + 1
        ctx.emit("before", me.state["n"])
        await me.send("counter", {"what": "sent"}, "add")
        await me.ask("counter", {"what": "asked"}, "add")
        await ctx.wait_input("?")
        ctx.emit("after", me.state["n"])
        return me.state["n"]

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), Counter("counter"), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await waiting(await begun(door, "stored"))
            agent = runtime.get_agent("a")
            assert agent is not None
            assert agent.state == {}
            await door.book.answer(run, 1)
            assert (await run.outcome()).payload == 1
            assert (await runtime.ask("counter", {}, message_type="told")).payload == ["asked", "sent"]
            assert [(event.type, event.data) for event in run.backlog() if event.type in ("before", "after")] == [
                ("before", 1),
                ("after", 1),
            ]
            assert [event.seq for event in run.backlog()] == list(range(1, len(run.backlog()) + 1))


@pytest.mark.parametrize("how", HOWS)
async def test_the_agent_is_free_for_others_while_a_run_waits(data: Path | None, how: str) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        return await ctx.wait_input("?") if what is None else what

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await waiting(await begun(door, how))
            assert (await (await begun(door, how, what="other")).outcome()).payload == "other"
            page = await door.book.page(RunQuery(status=RunStatus.WAITING))
            assert [one.run_id for one in page] == [run.run_id]
            await door.book.answer(run, "mine")
            assert (await run.outcome()).payload == "mine"
            assert await door.book.page(RunQuery(status=RunStatus.WAITING)) == []


@pytest.mark.parametrize("how", HOWS)
async def test_what_a_run_asks_waits_together_with_it(data: Path | None, how: str) -> None:
    async def below(me: Scripted, ctx: Context, what: Any) -> Any:
        me.state["n"] = me.state.get("n", 0) + 1
        answer = await ctx.wait_input(f"{what}?", int)
        return [answer, me.state["n"]]

    async def above(me: Scripted, ctx: Context, what: Any) -> Any:
        first = (await me.ask("below", "first", "act")).payload
        own = await ctx.wait_input("own?")
        second = (await me.ask("below", "second", "act")).payload
        return [first, own, second]

    with anyio.fail_after(10):
        async with runtime_of(Scripted("above", above), Scripted("below", below), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await begun(door, how, "above")
            for prompt, answer in (("first?", 1), ("own?", "mine"), ("second?", 2)):
                await waiting(run)
                assert run.waiting is not None
                assert run.waiting["prompt"] == prompt
                await door.book.answer(run, answer)
            output = (await run.outcome()).payload
            assert [output[0][0], output[1], output[2][0]] == [1, "mine", 2]
            if how == "stored":
                assert output == [[1, 1], "mine", [2, 2]]


async def test_parallel_asks_that_wait_are_answered_one_after_the_other(data: Path | None) -> None:
    async def below(me: Scripted, ctx: Context, what: Any) -> Any:
        return [what, await ctx.wait_input(f"{what}?")]

    async def above(me: Scripted, ctx: Context, what: Any) -> Any:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(me.ask(name, name, "act")) for name in ("b", "c")]
        return [task.result().payload for task in tasks]

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", above), Scripted("b", below), Scripted("c", below), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await begun(door, "stored")
            for _ in range(2):
                await waiting(run)
                assert run.waiting is not None
                await door.book.answer(run, run.waiting["prompt"])
            assert (await run.outcome()).payload == [["b", "b?"], ["c", "c?"]]


async def test_a_waiting_run_is_followed_over_its_wait(data: Path | None) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        ctx.delta("a")
        await ctx.wait_input("?", int)
        ctx.delta("b")
        return "c"

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await begun(door, "stored")
            seen: list[tuple[int, str]] = []
            async for event in run.follow():
                seen.append((event.seq, event.type))
                if event.type == "run.waiting":
                    await door.book.answer(run, 1)
            assert seen == list(enumerate(["run.started", "delta", "run.waiting", "run.resumed", "delta", "run.succeeded"], 1))


async def test_a_wait_that_its_handler_would_catch_is_not_caught(data: Path | None) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        try:
            return await ctx.wait_input("?")
        except Exception:  # noqa: BLE001  # the point of it
            return "caught"

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await waiting(await begun(door, "stored"))
            await door.book.answer(run, "answered")
            assert (await run.outcome()).payload == "answered"


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, object(), {"properties": 3}], ids=["type", "object", "keyword"])
async def test_a_schema_that_is_none_ends_the_run_and_not_the_agent(data: Path | None, schema: Any) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        return await ctx.wait_input("?", schema)

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "stored")
            await run.wait()
            assert getattr(run.error, "slug", None) == "invalid-operation"


async def test_a_long_sleep_of_a_stored_run_holds_nobody_up(data: Path | None) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        if what:
            return what
        await ctx.sleep(100)
        await ctx.sleep(200)
        return "rested"

    clock = ManualClock()
    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data, clock=clock) as runtime:
            door = Dispatcher(runtime)
            run = await waiting(await begun(door, "stored", timeout=50))
            assert (await (await begun(door, "stored", what="other")).outcome()).payload == "other"
            with pytest.raises(NotWaiting):
                await door.book.answer(run, 1)
            await turned(clock, 101)
            await waiting(run)
            await turned(clock, 201)
            assert run.output == "rested"


# --- several questions, and those for the caller's program ------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
async def test_several_things_are_asked_at_once_and_answered_at_once(data: Path | None, how: str) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        answers = await ctx.wait_inputs({"who": Question.input("Who?", str), "what": Question.input("What?", Decision)})
        return f"{answers['who']} {answers['what']!r}"

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await waiting(await begun(door, how))
            for wrong in ({"who": "ada"}, {"who": 1, "what": {"approved": True}}, {"who": "", "what": {"approved": True}, "x": 1}):
                with pytest.raises(ContractViolation):
                    await door.book.answer(run, wrong)
            assert run.waiting is not None
            assert run.waiting["prompt"] == "Who? What?"
            await door.book.answer(run, {"who": "ada", "what": {"approved": True}})
            assert (await run.outcome()).payload == "ada Decision(approved=True, amount=0)"


@pytest.mark.parametrize("how", HOWS)
async def test_who_declines_is_an_error_for_the_handler(data: Path | None, how: str) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        try:
            await ctx.sample("hi")
        except InputDeclined as error:
            return [error.slug, error.extra, await ctx.roots()]

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await waiting(await begun(door, how))
            await door.book.decline(run, {"input": "decline"})
            await waiting(run)
            await door.book.answer(run, {"roots": [{"uri": "file:///a"}]})
            assert (await run.outcome()).payload == ["input-declined", {"actions": {"input": "decline"}}, [{"uri": "file:///a"}]]
            with pytest.raises(NotWaiting):
                await door.book.decline(run, {})


class Login(BaseModel):
    password: SecretStr


class Account(BaseModel):
    login: Login


async def test_of_several_answers_secrets_are_not_stored_either(tmp_path: Path) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        answers = await ctx.wait_inputs({"account": Question.input("Account?", Account), "sure": Question.input("Sure?", bool)})
        return len(answers["account"].login.password.get_secret_value())

    with anyio.fail_after(20):
        async with runtime_of(Scripted("a", script), data=tmp_path) as runtime:
            door = Dispatcher(runtime)
            run = await waiting(await begun(door, "stored"))
            await door.book.answer(run, {"account": {"login": {"password": "hunter2hunter2"}}, "sure": True})
            assert (await run.outcome()).payload == 14
        stored = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]  # noqa: ASYNC240  # nobody else runs
        assert stored
        assert not any(b"hunter2hunter2" in one for one in stored)


async def test_what_was_asked_of_the_caller_survives_the_program(tmp_path: Path) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        answers = await ctx.wait_inputs({"text": Question.sample("hi", max_tokens=7), "sure": Question.input("Sure?", bool)})
        return [answers["text"]["content"], answers["sure"]]

    with anyio.fail_after(20):
        async with runtime_of(Scripted("a", script), data=tmp_path) as runtime:
            run_id = (await waiting(await begun(Dispatcher(runtime), "stored"))).run_id
        async with runtime_of(Scripted("a", script), data=tmp_path) as runtime:
            door = Dispatcher(runtime)
            await door.recover()
            run = await waiting(await door.book.find(run_id, None))
            assert run.waiting is not None
            assert run.waiting["questions"]["text"]["params"]["max_tokens"] == 7
            message = {"role": "assistant", "content": {"type": "text", "text": "hello"}, "model": "m"}
            await door.book.answer(run, {"text": message, "sure": True})
            assert (await run.outcome()).payload == [{"type": "text", "text": "hello"}, True]


@pytest.mark.parametrize("how", HOWS)
async def test_what_was_emitted_before_a_wait_is_told_once(data: Path | None, how: str) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        ctx.emit("before", 1)
        await ctx.wait_input("?")
        ctx.emit("after", 2)
        await ctx.wait_input("?")

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await begun(door, how)
            for _ in range(2):
                await door.book.answer(await waiting(run), None)
            assert [event.type async for event in run.follow() if "." not in event.type] == ["before", "after"]
