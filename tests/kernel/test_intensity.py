"""Restart intensity: the sliding window, and what happens above it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import ProcessExited
from portico.kernel.events import EventKind
from portico.kernel.inbox import Inbox
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Echo, Logged, Patient, Witness, agent

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.kernel.process import AgentProcess

pytestmark = pytest.mark.anyio


async def crash(runtime: Runtime, clock: ManualClock, name: str = "a") -> None:
    """One crash, and its restart after the backoff of one second."""
    await runtime.send(name, "crash")
    await clock.advance(1.0)


def tree(*children: AgentProcess | Supervisor, **options: Any) -> Supervisor:
    settings: dict[str, Any] = {"max_restarts": 2, "restart_window": 60.0, "backoff_base": 1.0}
    return Supervisor("root", children, **(settings | options))


async def test_a_supervisor_over_its_intensity_ends_the_runtime_with_a_report() -> None:
    clock, witness = ManualClock(), Witness()
    with anyio.fail_after(5):
        async with Runtime(tree(Logged("a", [])), clock=clock, observers=[witness]) as runtime:
            for _ in range(2):
                await crash(runtime, clock)
            assert runtime.alive
            assert agent(runtime, "a").id == "a#3"
            await crash(runtime, clock)
            await runtime.wait()
            assert not runtime.alive
            assert runtime.report == ("IntensityExceededError: more than 2 restarts within 60 s (last: BoomError)")
            report = witness.of(EventKind.SUPERVISOR_REPORT)[-1].data["report"]
            assert (report.supervisor, report.context, report.offender) == ("root", "shutdown", "root")


async def test_successes_in_between_do_not_reset_the_window() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(tree(Logged("a", [])), clock=clock) as runtime:
            for _ in range(2):
                await crash(runtime, clock)
                for _ in range(10):
                    await runtime.ask("a", "hello", timeout=1.0)
            await crash(runtime, clock)
            assert not runtime.alive


async def test_the_window_slides_so_that_old_restarts_are_forgotten() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(tree(Logged("a", [])), clock=clock) as runtime:
            for _ in range(10):
                await crash(runtime, clock)
                await clock.advance(30.0)  # never more than two within sixty seconds
            assert runtime.alive
            assert agent(runtime, "a").id == "a#11"


async def test_the_window_is_the_supervisors_and_not_each_childs() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(tree(Logged("a", []), Logged("b", []), Logged("c", [])), clock=clock) as runtime:
            for name in ("a", "b", "c"):
                await crash(runtime, clock, name)
            assert not runtime.alive


async def test_callers_of_a_runtime_that_gave_up_get_process_exited_and_no_silence() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(tree(Logged("a", []), Echo("echo"), max_restarts=0), clock=clock) as runtime:
            async with asyncio.TaskGroup() as callers:
                await runtime.send("a", "crash")
                waiting = [callers.create_task(expect_exited(runtime, "a")) for _ in range(3)]
                await runtime.wait()
            assert all(task.done() for task in waiting)
            await expect_exited(runtime, "a")
            await expect_exited(runtime, "echo")


async def expect_exited(runtime: Runtime, name: str) -> None:
    with pytest.raises(ProcessExited, match="more than 0 restarts"):
        await runtime.ask(name, "hello")


async def test_a_nested_supervisor_over_its_intensity_is_restarted_by_its_parent_with_everything_below_it() -> None:
    log: list[str] = []
    clock = ManualClock()
    inner = Supervisor("inner", [Logged("a", log), Logged("b", log)], max_restarts=1, backoff_base=1.0)
    with anyio.fail_after(5):
        async with Runtime(tree(inner, Echo("echo")), clock=clock) as runtime:
            await crash(runtime, clock)
            log.clear()
            await crash(runtime, clock)
            assert log == ["stop a", "stop b", "start a", "start b"]
            assert runtime.alive
            assert runtime.report is None
            assert (await runtime.ask("a", "hello")).payload == "a#3"


async def test_an_ask_waits_through_the_restart_of_its_supervisor() -> None:
    clock = ManualClock()
    inner = Supervisor("inner", [Logged("a", [])], max_restarts=0, backoff_base=1.0)
    with anyio.fail_after(5):
        async with Runtime(tree(inner), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await runtime.send("a", "crash")
            asked = callers.create_task(runtime.ask("a", "hello"))
            await clock.advance(1.0)
            assert (await asked).payload == "a#2"


async def test_a_nested_supervisor_that_keeps_failing_takes_its_parent_down() -> None:
    clock = ManualClock()
    inner = Supervisor("inner", [Logged("a", [])], max_restarts=0, backoff_base=1.0)
    with anyio.fail_after(5):
        async with Runtime(tree(inner, max_restarts=1), clock=clock) as runtime:
            await crash(runtime, clock)
            assert runtime.alive
            await crash(runtime, clock)
            assert not runtime.alive
            await expect_exited_for_good(runtime)


async def expect_exited_for_good(runtime: Runtime, name: str = "a") -> None:
    with pytest.raises(ProcessExited):
        await runtime.ask(name, "hello")


async def test_a_temporary_supervisor_over_its_intensity_stays_away_and_answers_those_who_wait() -> None:
    clock = ManualClock()
    inner = Supervisor("inner", [Logged("a", []), Echo("b")], max_restarts=0, restart="temporary")
    with anyio.fail_after(5):
        async with Runtime(tree(inner, Echo("echo")), clock=clock) as runtime:
            await runtime.send("a", "crash")
            with pytest.raises(ProcessExited):
                await runtime.ask("a", "hello")
            with pytest.raises(ProcessExited):
                await runtime.ask("b", "hello")
            assert (await runtime.ask("echo", "hello")).payload == "hello"


async def test_a_start_failure_at_a_restart_counts_and_is_tried_again() -> None:
    failures = [BoomError(), BoomError()]

    class Reluctant(Logged):
        async def on_start(self) -> None:
            if self.id != "a#1" and failures:
                raise failures.pop()
            await super().on_start()

    log: list[str] = []
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(tree(Reluctant("a", log), max_restarts=3), clock=clock) as runtime:
            await crash(runtime, clock)
            assert agent(runtime, "a").status == "restarting"
            await clock.advance(1.0)
            await clock.advance(1.0)
            assert log == ["start a", "stop a", "start a"]
            assert (await runtime.ask("a", "hello")).payload == "a#4"
            await crash(runtime, clock)  # the fourth within the window: the crash, two failed starts, and this
            assert not runtime.alive


async def test_those_who_wait_for_a_child_that_the_last_life_of_its_supervisor_did_not_reach_are_answered_too() -> None:
    class Reluctant(Logged):
        async def on_start(self) -> None:
            if self.id != "a#1":
                raise BoomError("never again")

    clock = ManualClock()
    inner = Supervisor("inner", [Reluctant("a", []), Echo("b")], max_restarts=0)
    with anyio.fail_after(5):
        async with Runtime(tree(inner, max_restarts=1), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await runtime.send("a", "crash")
            await clock.advance()
            waiting = callers.create_task(expect_exited_for_good(runtime, "b"))
            await clock.advance(1.0)
            assert not runtime.alive
            assert waiting.done()


async def test_a_stop_that_meets_a_root_that_is_giving_up_leaves_nobody_waiting() -> None:
    clock = ManualClock()
    root = tree(Logged("a", []), Patient("p", shutdown_timeout=5.0), max_restarts=0)
    with anyio.fail_after(5):
        runtime = Runtime(root, clock=clock)
        async with asyncio.TaskGroup() as tasks:
            await runtime.start()
            await runtime.send("p", "holds the root up")
            await runtime.send("a", "crash")
            await settle()
            waiting = tasks.create_task(expect_exited_for_good(runtime))
            stopping = tasks.create_task(runtime.stop())
            await clock.advance(5.0)
            assert waiting.done()
        assert stopping.done()


async def test_restarting_an_agent_by_hand_keeps_its_mailbox_and_charges_no_window() -> None:
    log: list[str] = []
    with anyio.fail_after(5):
        async with Runtime(tree(Logged("a", log), max_restarts=0)) as runtime:
            await runtime.restart_agent("a")
            assert log == ["start a", "stop a", "start a"]
            assert (await runtime.ask("a", "hello")).payload == "a#2"
            assert runtime.alive


async def test_an_agent_whose_restart_by_hand_fails_is_tried_again() -> None:
    failures = [BoomError("not now")]

    class Reluctant(Logged):
        async def on_start(self) -> None:
            if self.id != "a#1" and failures:
                raise failures.pop()

    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(tree(Reluctant("a", [])), clock=clock) as runtime:
            with pytest.raises(Exception, match="'a' did not start: BoomError: not now"):
                await runtime.restart_agent("a")
            await clock.advance(1.0)
            assert (await runtime.ask("a", "hello")).payload == "a#3"


async def test_on_crash_hears_of_every_crash_and_may_raise() -> None:
    heard: list[str] = []

    def hear(event: Any) -> None:
        heard.append(f"{event.name}: {event.data['reason']}")
        raise BoomError

    clock = ManualClock()
    with anyio.fail_after(5):
        runtime = Runtime(tree(Logged("a", [])), clock=clock)
        runtime.on_crash(hear)
        async with runtime:
            await crash(runtime, clock)
            await crash(runtime, clock)
    assert heard == ["a: BoomError: a"] * 2


async def test_crashes_of_siblings_that_their_group_takes_down_are_told_too() -> None:
    witness = Witness()
    clock = ManualClock()
    root = tree(Logged("a", []), Logged("b", []), strategy="one_for_all")
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock, observers=[witness]) as runtime:
            await runtime.send("a", "crash")
            await runtime.send("b", "crash")
            await clock.advance(1.0)
            assert sorted(witness.names(EventKind.PROCESS_CRASHED)) == ["a", "b"]
            assert [child.status for child in runtime.all_agents()] == ["running", "running"]


async def test_many_that_crash_at_once_are_not_looked_through_for_each_start(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0
    get = Inbox.get

    async def counting(inbox: Inbox, wanted: Callable[[Any], bool] | None = None, *rest: Any, **more: Any) -> Any:
        def one(event: Any) -> bool:
            nonlocal looked
            looked += 1
            return wanted is None or wanted(event)

        return await get(inbox, None if wanted is None else one, *rest, **more)

    names = [f"crashing-{number}" for number in range(100)]
    root = Supervisor("root", [Logged(name, []) for name in names], max_restarts=1000, backoff_base=0)
    async with Runtime(root) as runtime, runtime.subscribe("process.restarted") as events:
        monkeypatch.setattr(Inbox, "get", counting)
        for name in names:
            await runtime.send(name, "crash")
        with anyio.fail_after(20):
            assert {(await anext(events)).data.name for _ in names} == set(names)
    assert looked < 10 * len(names)
