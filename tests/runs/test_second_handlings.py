"""What a handler need not do again, and what it must not do twice, when its message is handled a second time."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import AgentError
from portico.kernel.keyed import keyed
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.runs.call import Call
from portico.runs.dispatcher import Dispatcher
from portico.topology.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from portico.kernel.steps import StepCall
    from portico.runs.run import Run

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

STORED = ["memory", "sqlite"]


class BoomError(Exception):
    """What crashes a script."""


class Scripted(AgentProcess):
    """Does what its test says."""

    def __init__(self, name: str, script: Callable[[Scripted, Context, Any], Awaitable[Any]], **options: Any) -> None:
        super().__init__(name, **options)
        self.script = script

    @operation
    async def act(self, ctx: Context, what: Any = None) -> Any:
        return await self.script(self, ctx, what)

    async def asks(self, name: str, what: Any = None) -> Any:
        """Ask another one of the kind."""
        return (await self.ask(name, what, "act")).payload


class Counter(AgentProcess):
    """Counts what reaches it, in its state."""

    @operation
    async def add(self, what: str = "") -> int:
        self.state["all"] = [*self.state.get("all", []), what]
        return len(self.state["all"])

    @operation
    async def told(self) -> list[str]:
        return self.state.get("all", [])


@pytest.fixture(params=STORED)
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where the runtime stores: nowhere, or in a directory."""
    return tmp_path / "data" if request.param == "sqlite" else None


def runtime_of(*children: AgentProcess | Supervisor, data: Path | None = None, **options: Any) -> Runtime:
    return Runtime(Supervisor("root", children, backoff_base=0.0), data=data, **options)


def call(door: Dispatcher, agent: str, what: Any = None, **options: Any) -> Call:
    return Call(door.catalogue.find(agent, "act"), what, **options)


async def begun(door: Dispatcher, agent: str, how: str, **options: Any) -> Run:
    """A run, plain or stored."""
    one = call(door, agent, **options)
    return await door.submit(one) if how == "stored" else await door.start(one)


async def waiting(run: Run) -> None:
    """Until it waits."""
    while run.waiting is None:
        assert not run.done, run.error
        await asyncio.sleep(0.001)


async def told(runtime: Runtime, name: str = "counter") -> list[str]:
    return (await runtime.ask(name, {}, message_type="told")).payload


def counted(crashes: int) -> Callable[[], None]:
    """Crashes its first callers."""
    left = [crashes]

    def maybe() -> None:
        if left[0]:
            left[0] -= 1
            raise BoomError

    return maybe


# --- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_a_step_is_computed_once_though_its_handler_crashes(data: Path | None, how: str) -> None:
    computed: list[str] = []
    crash = counted(1)

    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        first = await ctx.step("one", lambda: computed.append("one") or len(computed))
        crash()
        return [first, await ctx.step("two", lambda: computed.append("two") or len(computed)), ctx.attempt]

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "a", how)
            assert (await run.outcome()).payload == [1, 2, 1]
            assert computed == ["one", "two"]


@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_a_step_inside_a_step_leaves_the_names_after_it_alone(data: Path | None, how: str) -> None:
    crash = counted(1)

    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        async def outer() -> str:
            return "outer of " + await ctx.step("pay", lambda: "inner")

        first = await ctx.step("outer", outer)
        second = await ctx.step("pay", lambda: "later")
        crash()
        return [first, second]

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "a", how)
            assert (await run.outcome()).payload == ["outer of inner", "later"]


@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_a_wait_inside_a_step_leaves_the_waits_after_it_alone(data: Path | None, how: str) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        async def ask() -> Any:
            return await ctx.wait_input("first?")

        first = await ctx.step("ask", ask)
        return [first, await ctx.wait_input("second?")]

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await begun(door, "a", how)
            await waiting(run)
            await door.book.answer(run, "A")
            await asyncio.sleep(0.05)
            assert not run.done, run.output
            await waiting(run)
            assert run.waiting is not None
            assert run.waiting["prompt"] == "second?"
            await door.book.answer(run, "B")
            assert (await run.outcome()).payload == ["A", "B"]


async def test_asks_inside_a_step_leave_the_asks_after_it_alone(data: Path | None) -> None:
    crash = counted(1)

    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        async def inside() -> Any:
            return (await me.ask("counter", {"what": "inside"}, "add")).payload

        first = await ctx.step("inside", inside)
        second = (await me.ask("counter", {"what": "after"}, "add")).payload
        crash()
        return [first, second]

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), Counter("counter"), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "a", "stored")
            assert (await run.outcome()).payload == [1, 2]
            assert await told(runtime) == ["inside", "after"]


async def test_steps_in_parallel_keep_their_results(data: Path | None) -> None:
    crash = counted(1)
    computed: list[int] = []

    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        async def slow(number: int) -> int:
            await asyncio.sleep(0.001 * (5 - number))
            computed.append(number)
            return number

        values = await asyncio.gather(*(ctx.step("part", partial(slow, number)) for number in range(5)))
        crash()
        return values

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "a", "stored")
            assert (await run.outcome()).payload == [0, 1, 2, 3, 4]
            assert sorted(computed) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_steps_of_whom_an_agent_asks_are_not_its_own(data: Path | None, how: str) -> None:
    crash_below, crash_above = counted(1), counted(1)

    async def below(me: Scripted, ctx: Context, what: Any) -> Any:
        value = await ctx.step("x", lambda: "below")
        crash_below()
        return value

    async def above(me: Scripted, ctx: Context, what: Any) -> Any:
        first = await me.asks("below")
        second = await ctx.step("x", lambda: "above")
        crash_above()
        return [first, second]

    with anyio.fail_after(10):
        async with runtime_of(Scripted("above", above), Scripted("below", below), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "above", how)
            assert (await run.outcome()).payload == ["below", "above"]


@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_a_step_of_whom_an_agent_asks_is_computed_once_though_that_one_crashes(data: Path | None, how: str) -> None:
    crash = counted(1)
    computed: list[str] = []

    async def below(me: Scripted, ctx: Context, what: Any) -> Any:
        value = await ctx.step("x", lambda: computed.append("x") or "below")
        crash()
        return value

    async def above(me: Scripted, ctx: Context, what: Any) -> Any:
        return await me.asks("below")

    with anyio.fail_after(10):
        async with runtime_of(Scripted("above", above), Scripted("below", below), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "above", how)
            assert (await run.outcome()).payload == "below"
            assert computed == ["x"]


@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_steps_of_two_who_are_asked_at_once_are_their_own_in_whatever_order_they_come(data: Path | None, how: str) -> None:
    crash = counted(1)
    slow = ["b"]

    async def below(me: Scripted, ctx: Context, what: Any) -> Any:
        if me.name in slow:
            await asyncio.sleep(0.02)
        return await ctx.step("x", lambda: me.name)

    async def above(me: Scripted, ctx: Context, what: Any) -> Any:
        values = await asyncio.gather(me.asks("b"), me.asks("c"))
        slow[:] = ["c"]
        crash()
        return values

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", above), Scripted("b", below), Scripted("c", below), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "a", how)
            assert (await run.outcome()).payload == ["b", "c"]


async def test_the_key_of_a_step_is_the_same_at_every_attempt(data: Path | None) -> None:
    crash = counted(2)
    seen: list[tuple[str, int]] = []

    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        def pay(call: StepCall) -> str:
            seen.append((call.key, call.attempt))
            crash()
            return call.key

        await ctx.step("other", lambda: 1, checkpoint=False)
        return await ctx.step("pay", pay)

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "a", "stored")
            key = (await run.outcome()).payload
            assert seen == [(key, 0)] * 3
            assert run.run_id in key


@pytest.mark.parametrize("result", [object(), b"\xff", float, {1, object()}], ids=["object", "bytes", "type", "set"])
@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_a_result_that_is_not_json_able_is_a_type_error_and_is_not_kept(data: Path | None, how: str, result: Any) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        with pytest.raises(TypeError):
            await ctx.step("odd", lambda: result)
        return await ctx.step("even", lambda: (1, 2))

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "a", how)
            assert (await run.outcome()).payload == [1, 2]
            assert [event.type for event in run.backlog()][1:4] == ["step.started", "step.failed", "step.started"]


async def test_what_a_handler_changes_in_the_result_of_a_step_is_not_kept(data: Path | None) -> None:
    crash = counted(1)

    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        value = await ctx.step("list", lambda: [1])
        value.append(2)
        crash()
        return value

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "a", "stored")
            assert (await run.outcome()).payload == [1, 2]


async def test_a_step_without_a_checkpoint_is_computed_again(data: Path | None) -> None:
    crash = counted(1)
    computed: list[int] = []

    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        value = await ctx.step("cheap", lambda: computed.append(1) or len(computed), checkpoint=False)
        crash()
        return value

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "a", "stored")
            assert (await run.outcome()).payload == 2


async def test_a_cancelled_run_leaves_its_step_and_ends_cancelled(data: Path | None) -> None:
    inside, left = asyncio.Event(), asyncio.Event()

    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        async def hang() -> None:
            inside.set()
            try:
                await asyncio.Event().wait()
            finally:
                left.set()

        return await ctx.step("hang", hang, retries=5)

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await begun(door, "a", "stored")
            await inside.wait()
            await door.book.cancel(run)
            await left.wait()
            assert run.status == "cancelled"
            assert [event.type for event in run.backlog()] == ["run.started", "step.started", "run.cancelled"]


# --- exactly once -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", range(6))
async def test_every_effect_of_a_handler_is_there_once_wherever_it_crashes(data: Path | None, where: int) -> None:
    crash = counted(1)

    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        def point(number: int) -> None:
            if number == where:
                crash()

        point(0)
        await me.ask("counter", {"what": "asked"}, "add")
        point(1)
        await me.send("counter", {"what": "sent"}, "add")
        point(2)
        me.state["n"] = me.state.get("n", 0) + 1
        point(3)
        await me.ask("counter", {"what": "asked again"}, "add")
        point(4)
        await me.send("counter", {"what": "sent again"}, "add")
        point(5)
        return me.state["n"]

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), Counter("counter"), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await begun(door, "a", "stored")
            assert (await run.outcome()).payload == 1
            assert run.attempts == 2
            assert await told(runtime) == ["asked", "asked again", "sent", "sent again"]
            assert (await runtime.ask("a", None, message_type="act")).payload == 2


@pytest.mark.parametrize("where", range(7))
async def test_every_effect_two_levels_down_is_there_once_wherever_somebody_crashes(data: Path | None, where: int) -> None:
    crash = counted(1)

    def point(number: int) -> None:
        if number == where:
            crash()

    async def bottom(me: Scripted, ctx: Context, what: Any) -> Any:
        point(0)
        me.state["n"] = me.state.get("n", 0) + 1
        await me.send("counter", {"what": "bottom"}, "add")
        point(1)
        return me.state["n"]

    async def middle(me: Scripted, ctx: Context, what: Any) -> Any:
        point(2)
        below = await me.asks("bottom")
        point(3)
        me.state["n"] = me.state.get("n", 0) + 1
        await me.send("counter", {"what": "middle"}, "add")
        point(4)
        return [below, me.state["n"]]

    async def top(me: Scripted, ctx: Context, what: Any) -> Any:
        one = await me.asks("middle")
        point(5)
        two = await me.asks("bottom")
        point(6)
        return [one, two]

    agents = [Scripted("top", top), Scripted("middle", middle), Scripted("bottom", bottom), Counter("counter")]
    with anyio.fail_after(10):
        async with runtime_of(*agents, data=data) as runtime:
            run = await begun(Dispatcher(runtime), "top", "stored")
            assert (await run.outcome()).payload == [[1, 1], 2]
            assert sorted(await told(runtime)) == ["bottom", "bottom", "middle"]


async def test_a_handler_that_goes_another_way_asks_anew_and_its_events_say_so(data: Path | None) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        ctx.emit("way", "common")
        name = "left" if ctx.attempt == 0 else "right"
        ctx.emit("way", name)
        number = (await me.ask(name, {"what": name}, "add")).payload
        if ctx.attempt == 0:
            raise BoomError
        return number

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), Counter("left"), Counter("right"), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "a", "stored")
            assert (await run.outcome()).payload == 1
            assert await told(runtime, "left") == ["left"]
            assert await told(runtime, "right") == ["right"]
            seen = [(event.seq, event.type, event.data) for event in run.backlog()]
            assert [one[0] for one in seen] == list(range(1, len(seen) + 1))
            assert [one[1:] for one in seen[1:-1]] == [
                ("way", "common"),
                ("way", "left"),
                ("run.restarted", {"attempt": 2}),
                ("way", "common"),
                ("way", "right"),
            ]


async def test_an_error_that_a_nested_ask_ended_with_leaves_nothing_behind(data: Path | None) -> None:
    async def below(me: Scripted, ctx: Context, what: Any) -> Any:
        me.state["n"] = 1
        await me.send("counter", {"what": "never"}, "add")
        raise AgentError("no", "Not today.")

    async def above(me: Scripted, ctx: Context, what: Any) -> Any:
        with pytest.raises(AgentError):
            await me.asks("below")
        return "caught"

    with anyio.fail_after(10):
        agents = [Scripted("above", above), Scripted("below", below), Counter("counter")]
        async with runtime_of(*agents, data=data) as runtime:
            run = await begun(Dispatcher(runtime), "above", "stored")
            assert (await run.outcome()).payload == "caught"
            assert await told(runtime) == []


async def test_parallel_asks_keep_their_replies_when_they_are_asked_again(data: Path | None) -> None:
    crash = counted(1)

    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        asks = (me.ask("counter", {"what": str(number)}, "add") for number in range(5))
        numbers = [reply.payload for reply in await asyncio.gather(*asks)]
        crash()
        return numbers

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), Counter("counter"), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "a", "stored")
            assert (await run.outcome()).payload == [1, 2, 3, 4, 5]
            assert await told(runtime) == ["0", "1", "2", "3", "4"]


# --- transfers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_the_reply_of_the_second_is_the_runs_and_the_first_leaves_its_effects_once(data: Path | None, how: str) -> None:
    crash = counted(1)

    async def first(me: Scripted, ctx: Context, what: Any) -> Any:
        me.state["n"] = me.state.get("n", 0) + 1
        await me.send("counter", {"what": "first"}, "add")
        ctx.transfer("second", "go on", reason="because")

    async def second(me: Scripted, ctx: Context, what: Any) -> Any:
        me.state["n"] = me.state.get("n", 0) + 1
        crash()
        return [what, me.state["n"]]

    with anyio.fail_after(10):
        agents = [Scripted("first", first), Scripted("second", second), Counter("counter")]
        async with runtime_of(*agents, data=data) as runtime:
            run = await begun(Dispatcher(runtime), "first", how)
            assert (await run.outcome()).payload == ["go on", 1]
            assert await told(runtime) == ["first"]
            assert [event.data for event in run.backlog() if event.type == "run.transferred"] == [
                {"from": "first", "to": "second", "reason": "because"}
            ]
            assert run.agent == "second"


@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_steps_of_the_second_are_not_those_of_the_first(data: Path | None, how: str) -> None:
    crash = counted(1)

    async def first(me: Scripted, ctx: Context, what: Any) -> Any:
        await ctx.step("x", lambda: "of the first")
        ctx.transfer("second", {})

    async def second(me: Scripted, ctx: Context, what: Any) -> Any:
        value = await ctx.step("x", lambda: "of the second")
        crash()
        return value

    with anyio.fail_after(10):
        async with runtime_of(Scripted("first", first), Scripted("second", second), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "first", how)
            assert (await run.outcome()).payload == "of the second"


@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_what_the_second_waits_for_is_not_what_the_first_was_told(data: Path | None, how: str) -> None:
    async def first(me: Scripted, ctx: Context, what: Any) -> Any:
        await ctx.wait_input("first?")
        ctx.transfer("second", {})

    async def second(me: Scripted, ctx: Context, what: Any) -> Any:
        return await ctx.wait_input("second?")

    with anyio.fail_after(10):
        async with runtime_of(Scripted("first", first), Scripted("second", second), data=data) as runtime:
            door = Dispatcher(runtime)
            run = await begun(door, "first", how)
            await waiting(run)
            await door.book.answer(run, "A")
            await waiting(run)
            await door.book.answer(run, "B")
            assert (await run.outcome()).payload == "B"


async def test_steps_of_a_nested_second_are_not_those_of_the_nested_first(data: Path | None) -> None:
    async def first(me: Scripted, ctx: Context, what: Any) -> Any:
        await ctx.step("x", lambda: "of the first")
        ctx.transfer("second", {})

    async def second(me: Scripted, ctx: Context, what: Any) -> Any:
        return await ctx.step("x", lambda: "of the second")

    async def above(me: Scripted, ctx: Context, what: Any) -> Any:
        return await me.asks("first")

    with anyio.fail_after(10):
        agents = [Scripted("above", above), Scripted("first", first), Scripted("second", second)]
        async with runtime_of(*agents, data=data) as runtime:
            run = await begun(Dispatcher(runtime), "above", "stored")
            assert (await run.outcome()).payload == "of the second"


@pytest.mark.parametrize("keeps", [False, True], ids=["the second leaves nothing", "the second keeps state"])
async def test_a_nested_first_leaves_its_effects_once_when_the_asker_crashes(data: Path | None, *, keeps: bool) -> None:
    crash = counted(1)

    async def first(me: Scripted, ctx: Context, what: Any) -> Any:
        await me.send("counter", {"what": "first"}, "add")
        ctx.transfer("second", {})

    async def second(me: Scripted, ctx: Context, what: Any) -> Any:
        if keeps:
            me.state["n"] = me.state.get("n", 0) + 1
        return "second"

    async def above(me: Scripted, ctx: Context, what: Any) -> Any:
        value = await me.asks("first")
        crash()
        return value

    with anyio.fail_after(10):
        agents = [Scripted("above", above), Scripted("first", first), Scripted("second", second), Counter("counter")]
        async with runtime_of(*agents, data=data) as runtime:
            run = await begun(Dispatcher(runtime), "above", "stored")
            assert (await run.outcome()).payload == "second"
            assert await told(runtime) == ["first"]


@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_a_transfer_to_nobody_is_an_error_that_a_handler_can_catch(data: Path | None, how: str) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:
        ctx.transfer("nobody", {})

    with anyio.fail_after(10):
        async with runtime_of(Scripted("a", script), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "a", how)
            await run.wait()
            assert run.error is not None
            assert getattr(run.error, "slug", None) == "agent-not-found"


@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_a_run_can_be_passed_around_and_come_back(data: Path | None, how: str) -> None:
    async def script(me: Scripted, ctx: Context, what: Any) -> Any:  # noqa: RET503  # `transfer` does not return
        number = await ctx.step("count", lambda: (what or 0) + 1)
        me.state["n"] = me.state.get("n", 0) + 1
        if number == 7:
            return [me.name, number, me.state["n"]]
        following = {"a": "b", "b": "c", "c": "c" if number == 3 else "a"}
        ctx.transfer(following[me.name], number)

    with anyio.fail_after(10):
        async with runtime_of(*(Scripted(name, script) for name in "abc"), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "a", how)
            assert (await run.outcome()).payload == ["c", 7, 3]


@pytest.mark.parametrize("how", ["stored", "plain"])
async def test_the_error_of_the_second_is_the_runs(data: Path | None, how: str) -> None:
    async def first(me: Scripted, ctx: Context, what: Any) -> Any:
        me.state["n"] = 1
        ctx.transfer("second", {})

    async def second(me: Scripted, ctx: Context, what: Any) -> Any:
        raise AgentError("sold-out", "None left.", status=418, left=0)

    with anyio.fail_after(10):
        async with runtime_of(Scripted("first", first), Scripted("second", second), data=data) as runtime:
            run = await begun(Dispatcher(runtime), "first", how)
            await run.wait()
            assert isinstance(run.error, AgentError)
            assert (run.error.slug, run.error.status, run.error.extra) == ("sold-out", 418, {"left": 0})


async def test_a_keyed_agent_can_go_on(data: Path | None) -> None:
    class Session(AgentProcess):
        @operation
        async def act(self, session: str) -> list[Any]:
            self.state["n"] = self.state.get("n", 0) + 1
            return [session, self.state["n"]]

    async def first(me: Scripted, ctx: Context, what: Any) -> Any:
        ctx.transfer("session", {"session": what})

    with anyio.fail_after(10):
        async with runtime_of(Scripted("first", first), keyed(Session, "session", per_key="session"), data=data) as runtime:
            door = Dispatcher(runtime)
            outcomes = [(await (await door.submit(call(door, "first", key))).outcome()).payload for key in ("x", "y", "x")]
            assert outcomes == [["x", 1], ["y", 1], ["x", 2]]
