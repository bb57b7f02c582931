"""Steps with retries and limits, and lists of them: `ctx.step` and `StepExecutor` on a clock that the test turns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import AgentCrashed, InvalidOperation
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.runs.call import Call
from portico.runs.dispatcher import Dispatcher
from portico.runs.step_list import Step, StepExecutor
from portico.testing import ManualClock, settle
from portico.topology.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from portico.kernel.steps import StepCall
    from portico.runs.run import Run

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


class BoomError(Exception):
    """What crashes a script."""


class Scripted(AgentProcess):
    """Does what its test says."""

    def __init__(self, name: str, script: Callable[[Context], Awaitable[Any]], **options: Any) -> None:
        super().__init__(name, **options)
        self.script = script

    @operation
    async def act(self, ctx: Context) -> Any:
        return await self.script(ctx)


@pytest.fixture(params=["memory", "sqlite"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where the runtime stores: nowhere, or in a directory."""
    return tmp_path / "data" if request.param == "sqlite" else None


def runtime_of(script: Callable[[Context], Awaitable[Any]], data: Path | None, **options: Any) -> Runtime:
    return Runtime(Supervisor("root", [Scripted("a", script)], backoff_base=0.0), data=data, **options)


async def begun(runtime: Runtime, **options: Any) -> Run:
    door = Dispatcher(runtime)
    return await door.submit(Call(door.catalogue.find("a", "act"), {}, **options))


async def turned(clock: ManualClock, seconds: float) -> None:
    """Turn the clock, and let the disk keep up."""
    for _ in range(3):
        await asyncio.sleep(0.01)
        await settle()
    await clock.advance(seconds)
    for _ in range(3):
        await asyncio.sleep(0.01)
        await settle()


def told(run: Run, *types: str) -> list[tuple[str, Any]]:
    return [(event.type, event.data) for event in run.backlog() if event.type in types]


async def test_a_step_is_tried_again_after_its_delay_and_says_so(data: Path | None) -> None:
    calls: list[tuple[int, float]] = []
    clock = ManualClock()

    async def script(ctx: Context) -> Any:
        def flaky(call: StepCall) -> str:
            calls.append((call.attempt, clock.now()))
            if call.attempt < 2:
                raise BoomError(f"no {call.attempt}")
            return "third time lucky"

        return await ctx.step("flaky", flaky, retries=3, retry_delay=10)

    with anyio.fail_after(10):
        async with runtime_of(script, data, clock=clock) as runtime:
            run = await begun(runtime)
            for _ in range(2):
                await turned(clock, 9)
                await turned(clock, 1)
            assert run.output == "third time lucky"
            assert calls == [(0, 1000.0), (1, 1010.0), (2, 1020.0)]
            assert [data["attempt"] for _, data in told(run, "step.retrying")] == [1, 2]
            assert [data["error"] for _, data in told(run, "step.retrying")] == ["BoomError: no 0", "BoomError: no 1"]
            assert run.attempts == 1


async def test_a_step_that_takes_too_long_is_tried_again_and_then_raises_a_timeout(data: Path | None) -> None:
    clock = ManualClock()
    cancelled: list[int] = []

    async def script(ctx: Context) -> Any:
        async def hang(call: StepCall) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(call.attempt)

        with pytest.raises(TimeoutError):
            await ctx.step("hang", hang, timeout=5, retries=1, retry_delay=0)
        return "went on"

    with anyio.fail_after(10):
        async with runtime_of(script, data, clock=clock) as runtime:
            run = await begun(runtime)
            await turned(clock, 5)
            await turned(clock, 5)
            assert run.output == "went on"
            assert cancelled == [0, 1]
            assert len(told(run, "step.retrying")) == len(told(run, "step.failed")) == 1


async def test_a_step_that_fails_for_good_fails_its_handler(data: Path | None) -> None:
    async def script(ctx: Context) -> Any:
        def broken() -> None:
            raise BoomError("broken")

        await ctx.step("broken", broken)

    with anyio.fail_after(10):
        async with runtime_of(script, data) as runtime:
            run = await begun(runtime)
            await run.wait()
            assert isinstance(run.error, AgentCrashed)
            assert run.attempts == 4
            assert len(told(run, "step.failed")) == 4


@pytest.mark.parametrize("options", [{"retries": -1}, {"retry_delay": -1}, {"timeout": -1}, {"retry_delay": float("nan")}])
async def test_a_step_takes_no_nonsense(data: Path | None, options: dict[str, Any]) -> None:
    async def script(ctx: Context) -> Any:
        await ctx.step("odd", lambda: 1, **options)

    with anyio.fail_after(10):
        async with runtime_of(script, data) as runtime:
            run = await begun(runtime)
            await run.wait()
            assert getattr(run.error, "slug", None) == "setting-out-of-range"


async def test_a_deadline_ends_a_step_that_waits_to_be_tried_again(data: Path | None) -> None:
    clock = ManualClock()

    async def script(ctx: Context) -> Any:
        def broken() -> None:
            raise BoomError

        await ctx.step("broken", broken, retries=100, retry_delay=60)

    with anyio.fail_after(10):
        async with runtime_of(script, data, clock=clock) as runtime:
            run = await begun(runtime, timeout=30)
            await turned(clock, 31)
            assert run.status == "timed_out"


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_a_list_goes_in_order_over_one_state_and_tells_its_progress(data: Path | None) -> None:
    async def script(ctx: Context) -> Any:
        async def second(ctx: Context, state: dict[str, Any]) -> int:
            state["extra"] = "kept"
            return state["one"] + 1

        steps = [Step("one", lambda _, state: state["start"] + 1), Step("two", second, description="the second")]
        return await StepExecutor(ctx).run(steps, {"start": 10})

    with anyio.fail_after(10):
        async with runtime_of(script, data) as runtime:
            run = await begun(runtime)
            assert (await run.outcome()).payload == {"start": 10, "one": 11, "two": 12, "extra": "kept"}
            assert [data for _, data in told(run, "progress")] == [
                {"done": 1, "total": 2, "note": "one"},
                {"done": 2, "total": 2, "note": "the second"},
            ]


async def test_a_resumed_list_skips_what_is_finished_and_has_the_state_of_it(data: Path | None) -> None:
    done: list[str] = []

    async def script(ctx: Context) -> Any:
        def take(name: str) -> Step:
            def function(ctx: Context, state: dict[str, Any]) -> str:
                done.append(name)
                state["path"] = [*state.get("path", []), name]
                if name == "c" and ctx.attempt == 0:
                    raise BoomError
                return name.upper()

            return Step(name, function)

        return await StepExecutor(ctx).run([take(name) for name in "abcd"])

    with anyio.fail_after(10):
        async with runtime_of(script, data) as runtime:
            run = await begun(runtime)
            assert (await run.outcome()).payload == {"path": ["a", "b", "c", "d"], "a": "A", "b": "B", "c": "C", "d": "D"}
            assert done == ["a", "b", "c", "c", "d"]
            assert [data["name"] for _, data in told(run, "step.skipped")] == ["a", "b"]
            assert [data["done"] for _, data in told(run, "progress")] == [1, 2, 3, 4]


async def test_each_try_of_a_listed_step_sees_the_state_as_it_was_before(data: Path | None) -> None:
    seen: list[list[int]] = []

    async def script(ctx: Context) -> Any:
        def flaky(ctx: Context, state: dict[str, Any]) -> int:
            seen.append(list(state["list"]))
            state["list"].append(len(seen))
            if len(seen) < 3:
                raise BoomError
            return 7

        initial = {"list": [0]}
        state = await StepExecutor(ctx).run([Step("flaky", flaky, retries=2, retry_delay=0)], initial)
        return [state, initial]

    with anyio.fail_after(10):
        async with runtime_of(script, data) as runtime:
            run = await begun(runtime)
            assert (await run.outcome()).payload == [{"list": [0, 3], "flaky": 7}, {"list": [0]}]
            assert seen == [[0], [0], [0]]


async def test_a_list_with_a_name_twice_is_refused_before_anything_is_done(data: Path | None) -> None:
    done: list[int] = []

    def note(ctx: Context, state: dict[str, Any]) -> None:
        done.append(1)

    async def script(ctx: Context) -> Any:
        await StepExecutor(ctx).run([Step("a", note), Step("b", note), Step("a", note)])

    with anyio.fail_after(10):
        async with runtime_of(script, data) as runtime:
            run = await begun(runtime)
            await run.wait()
            assert isinstance(run.error, InvalidOperation)
            assert done == []


async def test_a_listed_step_can_wait_for_an_input(data: Path | None) -> None:
    async def script(ctx: Context) -> Any:
        async def ask(ctx: Context, state: dict[str, Any]) -> Any:
            return await ctx.wait_input(f"{len(state)}?")

        return await StepExecutor(ctx).run([Step("first", ask), Step("second", ask)])

    with anyio.fail_after(10):
        async with runtime_of(script, data) as runtime:
            run = await begun(runtime)
            book = Dispatcher(runtime).book
            for answer in ("A", "B"):
                while run.waiting is None and not run.done:  # noqa: ASYNC110  # there is no event of it
                    await asyncio.sleep(0.001)
                await book.answer(run, answer)
            assert (await run.outcome()).payload == {"first": "A", "second": "B"}


async def test_a_step_without_a_checkpoint_is_done_again_on_the_state_before_it(data: Path | None) -> None:
    done: list[str] = []

    async def script(ctx: Context) -> Any:
        def take(name: str, *, checkpoint: bool) -> Step:
            def function(_: Context, state: dict[str, Any]) -> int:
                done.append(name)
                state["n"] = state.get("n", 0) + 1
                return state["n"]

            return Step(name, function, checkpoint=checkpoint)

        state = await StepExecutor(ctx).run([take("a", checkpoint=True), take("b", checkpoint=False)])
        if ctx.attempt == 0:
            raise BoomError
        return state

    with anyio.fail_after(10):
        async with runtime_of(script, data) as runtime:
            run = await begun(runtime)
            assert (await run.outcome()).payload == {"n": 2, "a": 1, "b": 2}
            assert done == ["a", "b", "b"]


async def test_a_list_whose_state_is_not_json_able_says_so(data: Path | None) -> None:
    async def script(ctx: Context) -> Any:
        def spoil(_: Context, state: dict[str, Any]) -> int:
            state["odd"] = object()
            return 1

        with pytest.raises(TypeError):
            await StepExecutor(ctx).run([Step("spoil", spoil)])
        return "said"

    with anyio.fail_after(10):
        async with runtime_of(script, data) as runtime:
            assert (await (await begun(runtime)).outcome()).payload == "said"


async def test_a_checkpoint_is_there_when_the_handler_comes_again(data: Path | None) -> None:
    async def script(ctx: Context) -> Any:
        before = await ctx.get_state()
        if ctx.attempt < 3:
            await ctx.checkpoint({"at": (before or {"at": 0})["at"] + 1})
            raise BoomError
        return before

    with anyio.fail_after(10):
        async with runtime_of(script, data) as runtime:
            run = await begun(runtime)
            assert (await run.outcome()).payload == {"at": 3}
            assert len(told(run, "checkpoint")) == 3
