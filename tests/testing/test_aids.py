"""The aids for users' tests: a runtime that remembers, faults on demand, events as a list."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from portico import AgentProcess, Message, Supervisor
from portico.errors import AgentCrashed, CrashBudgetSpent, DeadlineExceeded, InvalidPayload, UnknownAgent
from portico.kernel.events import EventKind
from portico.testing import FaultPlan, InjectedCrash, ManualClock, ScriptedModel, TestRuntime, collect_events, settle

pytestmark = pytest.mark.anyio


class Counter(AgentProcess):
    """Counts what it has handled."""

    async def handle(self, message: Message) -> Any:
        self.state["n"] = self.state.get("n", 0) + 1
        return self.reply({"n": self.state["n"], "id": self.id, "attempt": message.attempt})


async def test_a_test_runtime_takes_agents_and_is_strict() -> None:
    with anyio.fail_after(5):
        async with TestRuntime(Counter("c")) as runtime:
            assert (await runtime.ask("c", {})).payload == {"n": 1, "id": "c#1", "attempt": 0}
            with pytest.raises(InvalidPayload):
                await runtime.ask("c", object())


async def test_a_test_runtime_takes_a_whole_tree_and_a_scripted_model() -> None:
    class Assistant(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return (await self.llm.chat(model="any", messages=[{"role": "user", "content": "hello"}])).content

    with anyio.fail_after(5):
        root = Supervisor("tree", [Assistant("a")])
        async with TestRuntime(supervisor=root, model_provider=ScriptedModel(["good day"])) as runtime:
            assert (await runtime.ask("a", {})).payload == "good day"


async def test_an_injected_crash_happens_as_often_as_said_and_the_ask_is_answered_by_a_later_life() -> None:
    with anyio.fail_after(5):
        async with TestRuntime(Counter("c")) as runtime:
            runtime.faults.crash("c", times=2)
            assert (await runtime.ask("c", {})).payload == {"n": 1, "id": "c#3", "attempt": 2}
            crashes = runtime.events_of(EventKind.PROCESS_CRASHED, "c")
            assert [type(event.data["error"]) for event in crashes] == [InjectedCrash, InjectedCrash]
            assert runtime.events_of(EventKind.PROCESS_CRASHED, "other") == []


async def test_an_error_of_ones_own_can_be_injected_for_good_and_cleared() -> None:
    with anyio.fail_after(5):
        async with TestRuntime(Counter("c")) as runtime:
            runtime.faults.crash("*", times=None, error=ZeroDivisionError("by plan"))
            with pytest.raises(AgentCrashed, match="ZeroDivisionError"):
                await runtime.ask_from_outside("c", {})
            assert len(runtime.dead_letters) == 1
            runtime.faults.clear()
            assert (await runtime.ask("c", {})).payload["n"] == 1


async def test_a_hang_lasts_until_the_deadline() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with TestRuntime(Counter("c"), clock=clock) as runtime, asyncio.TaskGroup() as tasks:
            runtime.faults.hang("c")
            hanging = tasks.create_task(expect_deadline(runtime))
            await clock.advance(4.9)
            assert not hanging.done()
            await clock.advance(0.2)
            assert hanging.done()
            assert (await runtime.ask("c", {})).payload["id"] == "c#1"


async def expect_deadline(runtime: TestRuntime) -> None:
    with pytest.raises(DeadlineExceeded):
        await runtime.ask("c", {}, timeout=5.0)


async def test_a_slow_handling_waits_on_the_runtimes_clock() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with TestRuntime(Counter("c"), clock=clock) as runtime, asyncio.TaskGroup() as tasks:
            runtime.faults.slow("c", 3.0)
            slow = tasks.create_task(runtime.call("c", {}))
            await clock.advance(2.9)
            assert not slow.done()
            await clock.advance(0.2)
            assert slow.result()["n"] == 1


async def test_a_rate_hits_a_part_of_the_handlings_and_the_same_part_again() -> None:
    async def crashed() -> list[int]:
        plan = FaultPlan(seed=7)
        plan.crash("c", times=None, rate=0.3)
        async with TestRuntime(supervisor=Supervisor("root", [Counter("c")], max_restarts=0), faults=plan) as runtime:
            found: list[int] = []
            for number in range(100):
                try:
                    await runtime.ask_from_outside("c", {})
                except AgentCrashed:
                    found.append(number)
            return found

    with anyio.fail_after(20):
        first = await crashed()
        assert 15 < len(first) < 45
        assert await crashed() == first


async def test_a_killed_agent_comes_back_and_what_it_had_in_hand_is_answered() -> None:
    began, gate = asyncio.Event(), asyncio.Event()

    class Slow(AgentProcess):
        async def handle(self, message: Message) -> Any:
            began.set()
            await gate.wait()
            return self.id

    with anyio.fail_after(5):
        async with TestRuntime(Slow("s")) as runtime, asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(runtime.ask("s", {}))
            await began.wait()
            runtime.kill("s")
            gate.set()
            reply = await asked
            assert (reply.payload, reply.attempt) == ("s#2", 0)
            with pytest.raises(UnknownAgent):
                runtime.kill("nobody")


async def test_a_caller_from_outside_has_an_origin() -> None:
    class Who(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return [message.origin.principal, message.origin.address] if message.origin else None

    with anyio.fail_after(5):
        async with TestRuntime(Who("w")) as runtime:
            reply = await runtime.ask_from_outside("w", {}, principal="alice", address="10.0.0.1")
            assert reply.payload == ["alice", "10.0.0.1"]


async def test_events_are_collected_while_the_block_lasts() -> None:
    with anyio.fail_after(5):
        async with TestRuntime(Counter("c")) as runtime:
            with collect_events(runtime, "process.*") as events:
                runtime.kill("c")
                await settle()
            kinds = [event.kind for event in events]
            assert EventKind.PROCESS_CRASHED in kinds
            assert EventKind.PROCESS_RESTARTED in kinds
            assert EventKind.SUPERVISOR_REPORT not in kinds
            before = len(events)
            runtime.kill("c")
            await settle()
            assert len(events) == before


async def test_faults_given_to_a_plain_runtime_work_as_well() -> None:
    from portico import Runtime

    plan = FaultPlan()
    plan.crash("c")
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Counter("c")], backoff_base=0.0), faults=plan) as runtime:
            assert (await runtime.ask("c", {})).attempt == 1


async def test_a_flood_of_crashing_calls_leaves_the_good_ones_alone_and_is_refused_itself() -> None:
    """The behaviour of the whole door is in tests/behaviours; here, that the aids suffice to write such a test."""
    from portico.operations.catalogue import Catalogue
    from portico.runs.call import Call
    from portico.runs.dispatcher import Dispatcher

    with anyio.fail_after(10):
        async with TestRuntime(supervisor=Supervisor("root", [Counter("c")], max_restarts=0, backoff_base=0.0)) as runtime:
            dispatcher = Dispatcher(runtime)
            endpoint = Catalogue(runtime.addressed_agents()).find("c")
            runtime.faults.crash("c", times=10)
            for _ in range(10):
                with pytest.raises(AgentCrashed):
                    await dispatcher.ask(Call(endpoint, {}, principal="mallory"))
            with pytest.raises(CrashBudgetSpent):
                await dispatcher.ask(Call(endpoint, {}, principal="mallory"))
            assert (await dispatcher.ask(Call(endpoint, {}, principal="alice"))).payload["n"] == 1
            assert runtime.alive
