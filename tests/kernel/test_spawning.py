"""Spawning: processes that start others, hear of their ends, and end them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import (
    CallError,
    DuplicateName,
    LifecycleError,
    ProcessExited,
    SpawnError,
    SpawnLimitReached,
    StartError,
    UnknownAgent,
    UnknownWord,
)
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.process import AgentProcess, ErrorAction
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Echo, Patient, agent

if TYPE_CHECKING:
    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio


class Parent(AgentProcess):
    """Spawns, despawns and stops what a message says, and writes down what it hears of its children."""

    def __init__(self, name: str, heard: list[Any] | None = None, **options: Any) -> None:
        super().__init__(name, **options)
        self.heard = [] if heard is None else heard

    async def handle(self, message: Message) -> Any:
        match message.payload:
            case "spawn", name:
                return await self.spawn(Kid, name)
            case "spawn", name, kind:
                return await self.spawn(kind, name)
            case "despawn", name:
                await self.despawn(name)
            case "stop", name, *how:
                await self.stop(name, *how)
            case "crash":
                raise BoomError
            case _:
                pass
        return self.id

    async def on_child_terminated(self, name: str, reason: str) -> None:
        self.heard.append((name, reason))


class Kid(AgentProcess):
    """Ends as it is told."""

    async def handle(self, message: Message) -> Any:
        match message.payload:
            case "crash":
                raise BoomError("kid")
            case "bye":
                raise ValueError
            case _:
                return self.id

    async def on_error(self, error: Exception, message: Message) -> ErrorAction:
        return ErrorAction.STOP if isinstance(error, ValueError) else ErrorAction.ESCALATE


class Failing(AgentProcess):
    """Cannot start."""

    async def on_start(self) -> None:
        raise BoomError("no luck")


class SlowStart(AgentProcess):
    """Starts when the test opens the gate, one for all lives; the lives of which it does not wait are counted."""

    def __init__(self, name: str, gate: asyncio.Event, began: asyncio.Event, quick_lives: int = 0, **options: Any) -> None:
        super().__init__(name, **options)
        self.gate = gate
        self.began = began
        self.quick_lives = quick_lives

    async def on_start(self) -> None:
        if int(self.id.split("#")[1]) > self.quick_lives:
            self.began.set()
            await self.gate.wait()

    async def handle(self, message: Message) -> Any:
        if message.payload == "crash":
            raise BoomError
        return self.id


def quick(*children: AgentProcess | Supervisor, **options: Any) -> Supervisor:
    return Supervisor("root", list(children), backoff_base=0.0, **options)


def pool(name: str = "pool", **options: Any) -> DynamicSupervisor:
    return DynamicSupervisor(name, backoff_base=0.0, **options)


async def outcome(runtime: Runtime, name: str, payload: Any, timeout: float = 30.0) -> Any:
    try:
        return (await runtime.ask(name, payload, timeout=timeout)).payload
    except CallError as error:
        return type(error).__name__


def children_of(runtime: Runtime, name: str) -> list[str]:
    supervisor = runtime.find(name)
    assert isinstance(supervisor, Supervisor)
    return [child.name for child in supervisor.which_children()]


# --- where ------------------------------------------------------------------------------------------------------------


async def test_a_child_is_spawned_below_the_sibling_that_is_a_dynamic_supervisor() -> None:
    with anyio.fail_after(5):
        inner = Supervisor("inner", [pool("near"), Parent("p")])
        async with Runtime(quick(pool("far"), inner)) as runtime:
            assert (await runtime.ask("p", ("spawn", "kid"))).payload == "kid"
            assert children_of(runtime, "near") == ["kid"]
            assert children_of(runtime, "far") == []
            assert (await runtime.ask("kid", "?")).payload == "kid#1"


async def test_where_no_sibling_is_one_it_is_looked_for_upward() -> None:
    with anyio.fail_after(5):
        deep = Supervisor("outer", [Supervisor("inner", [Supervisor("innermost", [Parent("p")])])])
        async with Runtime(quick(pool("top"), deep)) as runtime:
            await runtime.ask("p", ("spawn", "kid"))
            assert children_of(runtime, "top") == ["kid"]


async def test_a_dynamic_supervisor_inside_another_subtree_is_never_used() -> None:
    with anyio.fail_after(5):
        root = quick(Supervisor("theirs", [pool("their-pool")]), Supervisor("ours", [Parent("p")]))
        async with Runtime(root) as runtime:
            with pytest.raises(SpawnError, match="'p' cannot spawn: no DynamicSupervisor stands beside it"):
                await runtime.ask("p", ("spawn", "kid"))
            assert children_of(runtime, "their-pool") == []
            assert agent(runtime, "p").id == "p#1"
            with pytest.raises(UnknownAgent):
                await runtime.ask("kid", "?")


async def test_a_dynamic_supervisor_below_a_sibling_is_another_subtree() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Parent("p"), Supervisor("beside", [pool()]))) as runtime:
            with pytest.raises(SpawnError):
                await runtime.ask("p", ("spawn", "kid"))


async def test_a_child_spawns_its_own_children_beside_itself() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(pool(), Parent("p"))) as runtime:
            await runtime.ask("p", ("spawn", "middle", Parent))
            await runtime.ask("middle", ("spawn", "kid"))
            assert children_of(runtime, "pool") == ["middle", "kid"]


async def test_a_process_may_spawn_while_it_starts() -> None:
    class Early(Parent):
        async def on_start(self) -> None:
            await self.spawn(Kid, "kid")

    with anyio.fail_after(5):
        async with Runtime(quick(pool(), Early("p"))) as runtime:
            assert (await runtime.ask("kid", "?")).payload == "kid#1"


async def test_a_name_that_a_static_child_will_have_is_taken_before_that_one_has_started() -> None:
    class Early(Parent):
        async def on_start(self) -> None:
            try:
                await self.spawn(Kid, "later")
            except DuplicateName:
                self.heard.append("refused")

    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(pool(), Early("p", heard), Echo("later"))) as runtime:
            assert heard == ["refused"]
            assert (await runtime.ask("later", "hello")).payload == "hello"


async def test_a_name_that_a_supervisor_has_is_taken() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(pool(), Parent("p"))) as runtime:
            for name in ("root", "pool", "p"):
                with pytest.raises(DuplicateName):
                    await runtime.spawn("pool", Kid, name)
            assert (await runtime.ask("p", "?")).payload == "p#1"


# --- on_child_terminated ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "reason"),
    [("despawn", "it was stopped"), ("stop", "it was stopped"), ("bye", "normal")],
)
async def test_the_parent_hears_once_of_the_end_of_its_child(how: str, reason: str) -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(pool(), Parent("p", heard))) as runtime:
            await runtime.ask("p", ("spawn", "kid"))
            if how == "bye":
                await runtime.send("kid", "bye")
            else:
                await runtime.ask("p", (how, "kid"))
            await settle()
            assert heard == [("kid", reason)]


@pytest.mark.parametrize("how", ["despawn", "stop_agent"])
async def test_the_parent_hears_of_an_end_that_somebody_else_brought_about(how: str) -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(pool(), Parent("p", heard))) as runtime:
            await runtime.ask("p", ("spawn", "kid"))
            await (runtime.despawn("pool", "kid") if how == "despawn" else runtime.stop_agent("pool", "kid"))
            await settle()
            assert heard == [("kid", "it was stopped")]


async def test_a_restart_of_the_child_is_not_its_end() -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(pool(), Parent("p", heard))) as runtime:
            await runtime.ask("p", ("spawn", "kid"))
            await runtime.send("kid", "crash")
            assert (await runtime.ask("kid", "?")).payload == "kid#2"
            await runtime.restart_agent("kid")
            await runtime.replace("kid", Echo)
            await settle()
            assert heard == []
            await runtime.despawn("pool", "kid")
            await settle()
            assert heard == [("kid", "it was stopped")]


async def test_too_many_crashes_are_the_childs_end() -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(pool(max_restarts=1), Parent("p", heard))) as runtime:
            await runtime.ask("p", ("spawn", "kid"))
            for _ in range(2):
                await runtime.send("kid", "crash")
                await settle()
            assert [name for name, _ in heard] == ["kid"]
            with pytest.raises(UnknownAgent):
                await runtime.ask("kid", "?")


async def test_a_crash_is_the_end_of_a_temporary_child_and_its_reason_is_told() -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(pool(restart="temporary"), Parent("p", heard))) as runtime:
            await runtime.ask("p", ("spawn", "kid"))
            await runtime.send("kid", "crash")
            await settle()
            assert heard == [("kid", "BoomError: kid")]


async def test_a_child_that_was_spawned_from_outside_has_no_parent_to_tell() -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(pool(), Parent("p", heard))) as runtime:
            await runtime.spawn("pool", Kid, "kid")
            await runtime.despawn("pool", "kid")
            await settle()
            assert heard == []


async def test_the_notice_gets_into_a_full_mailbox_and_reaches_the_parents_next_incarnation() -> None:
    heard: list[Any] = []
    gate = asyncio.Event()

    class Busy(Parent):
        async def handle(self, message: Message) -> Any:
            if message.payload == "hold":
                await gate.wait()
                raise BoomError
            return await super().handle(message)

    with anyio.fail_after(5):
        async with Runtime(quick(pool(), Busy("p", heard, mailbox_size=1))) as runtime:
            await runtime.ask("p", ("spawn", "kid"))
            await runtime.send("p", "hold")
            await settle()
            await runtime.send("p", "fills it")
            await runtime.despawn("pool", "kid")
            gate.set()
            await settle()
            assert agent(runtime, "p").id == "p#2"
            assert heard == [("kid", "it was stopped")]


async def test_a_hook_that_raises_crashes_the_parent_and_the_notice_does_not_come_again() -> None:
    class Raising(Parent):
        async def on_child_terminated(self, name: str, reason: str) -> None:
            await super().on_child_terminated(name, reason)
            raise BoomError

    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(pool(), Raising("p", heard))) as runtime:
            await runtime.ask("p", ("spawn", "kid"))
            await runtime.despawn("pool", "kid")
            await settle()
            assert (await runtime.ask("p", "?")).payload == "p#2"
            assert len(heard) == 1


# --- ending -----------------------------------------------------------------------------------------------------------


async def with_work(runtime: Runtime, callers: asyncio.TaskGroup, waiting: int = 3) -> tuple[Patient, list[asyncio.Task[Any]]]:
    """A child that has something in hand, and some that wait."""
    await runtime.spawn("pool", Patient, "kid")
    patient: Patient = agent(runtime, "kid")
    asks = [callers.create_task(outcome(runtime, "kid", number)) for number in range(1 + waiting)]
    await patient.began.wait()
    return patient, asks


async def test_a_despawned_child_does_not_finish_what_it_has_in_hand() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(pool(), Parent("p"))) as runtime, asyncio.TaskGroup() as callers:
            patient, asks = await with_work(runtime, callers)
            await runtime.ask("p", ("despawn", "kid"))
            assert patient.cancelled.is_set()
            assert [await ask for ask in asks] == [ProcessExited.__name__] * 4


async def test_draining_the_current_one_finishes_what_is_in_hand_and_answers_what_waits() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(pool(), Parent("p"))) as runtime, asyncio.TaskGroup() as callers:
            patient, asks = await with_work(runtime, callers)
            stopping = callers.create_task(outcome(runtime, "p", ("stop", "kid", "current")))
            await settle()
            assert not stopping.done()
            patient.gate.set()
            assert await stopping == "p#1"
            assert [await ask for ask in asks] == [0, *[ProcessExited.__name__] * 3]


async def test_draining_all_handles_what_waits_and_refuses_what_comes() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(pool(), Parent("p"))) as runtime, asyncio.TaskGroup() as callers:
            patient, asks = await with_work(runtime, callers)
            stopping = callers.create_task(outcome(runtime, "p", ("stop", "kid", "all")))
            await settle()
            with pytest.raises(ProcessExited, match="it is stopping"):
                await runtime.ask("kid", "late")
            with pytest.raises(ProcessExited):
                await runtime.send("kid", "late")
            assert not stopping.done()
            patient.gate.set()
            assert await stopping == "p#1"
            assert [await ask for ask in asks] == [0, 1, 2, 3]
            with pytest.raises(UnknownAgent):
                await runtime.ask("kid", "?")


async def test_draining_all_works_with_several_hands() -> None:
    class Many(Patient):
        def __init__(self, name: str) -> None:
            super().__init__(name, concurrency=3)

    with anyio.fail_after(5):
        async with Runtime(quick(pool())) as runtime, asyncio.TaskGroup() as callers:
            await runtime.spawn("pool", Many, "kid")
            patient: Many = agent(runtime, "kid")
            asks = [callers.create_task(outcome(runtime, "kid", number)) for number in range(10)]
            await patient.began.wait()
            stopping = callers.create_task(runtime.stop_agent("pool", "kid", "all"))
            await settle()
            patient.gate.set()
            await stopping
            assert [await ask for ask in asks] == list(range(10))


@pytest.mark.parametrize("drain", ["current", "all"])
async def test_after_the_timeout_the_child_is_cancelled(drain: str) -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(pool(), Parent("p")), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            patient, asks = await with_work(runtime, callers)
            stopping = callers.create_task(outcome(runtime, "p", ("stop", "kid", drain, 7.0)))
            await clock.advance(6.9)
            assert not stopping.done()
            assert not patient.cancelled.is_set()
            await clock.advance(0.2)
            assert patient.cancelled.is_set()
            assert stopping.result() == "p#1"
            assert [await ask for ask in asks] == [ProcessExited.__name__] * 4


@pytest.mark.parametrize("by", ["process", "runtime"])
async def test_another_drain_is_unknown_and_ends_nobody(by: str) -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(pool(), Parent("p"))) as runtime:
            await runtime.ask("p", ("spawn", "kid"))
            with pytest.raises(UnknownWord, match="'al'"):
                await (runtime.ask("p", ("stop", "kid", "al")) if by == "process" else runtime.stop_agent("pool", "kid", "al"))
            assert (await runtime.ask("kid", "?")).payload == "kid#1"


@pytest.mark.parametrize("drain", ["ALL", "Current"])
async def test_a_drain_may_be_written_in_upper_case(drain: str) -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(pool())) as runtime:
            await runtime.spawn("pool", Kid, "kid")
            await runtime.stop_agent("pool", "kid", drain)
            assert children_of(runtime, "pool") == []


async def test_ending_who_is_not_there_says_so() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(pool(), Parent("p"))) as runtime:
            for verb in ("despawn", "stop"):
                with pytest.raises(LifecycleError, match="Supervisor 'pool' has no child 'nobody'"):
                    await runtime.ask("p", (verb, "nobody"))


async def test_two_who_end_the_same_child_both_hear_when_it_is_over() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(pool())) as runtime, asyncio.TaskGroup() as callers:
            patient, asks = await with_work(runtime, callers)
            stopping = [callers.create_task(runtime.stop_agent("pool", "kid", drain)) for drain in ("all", "current")]
            await settle()
            callers.create_task(runtime.despawn("pool", "kid"))
            await settle()
            assert all(task.done() for task in stopping)
            assert patient.cancelled.is_set()
            assert {await ask for ask in asks} == {ProcessExited.__name__}


async def test_a_crash_while_it_drains_does_not_bring_the_child_back() -> None:
    heard: list[Any] = []
    gate, began = asyncio.Event(), asyncio.Event()

    class Crashing(Kid):
        async def handle(self, message: Message) -> Any:
            if message.payload == "hold":
                began.set()
                await gate.wait()
                raise BoomError
            return await super().handle(message)

    with anyio.fail_after(5):
        async with Runtime(quick(pool(), Parent("p", heard))) as runtime, asyncio.TaskGroup() as callers:
            await runtime.ask("p", ("spawn", "kid", Crashing))
            asks = [callers.create_task(outcome(runtime, "kid", payload)) for payload in ("hold", "?")]
            await began.wait()
            stopping = callers.create_task(runtime.stop_agent("pool", "kid", "all"))
            await settle()
            gate.set()
            await stopping
            assert await asks[0] == "AgentCrashed"
            assert await asks[1] == ProcessExited.__name__
            assert children_of(runtime, "pool") == []
            await settle()
            assert [name for name, _ in heard] == ["kid"]


# --- the supervisor goes on -------------------------------------------------------------------------------------------


async def test_the_supervisor_spawns_and_restarts_others_while_one_child_drains() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(pool())) as runtime, asyncio.TaskGroup() as callers:
            patient, _ = await with_work(runtime, callers)
            stopping = callers.create_task(runtime.stop_agent("pool", "kid", "all"))
            await settle()
            await runtime.spawn("pool", Kid, "other")
            await runtime.send("other", "crash")
            assert (await runtime.ask("other", "?")).payload == "other#2"
            await runtime.despawn("pool", "other")
            assert not stopping.done()
            patient.gate.set()


async def test_the_supervisor_spawns_and_restarts_others_while_one_child_starts_slowly() -> None:
    gate, began = asyncio.Event(), asyncio.Event()
    with anyio.fail_after(5):
        async with Runtime(quick(pool())) as runtime, asyncio.TaskGroup() as callers:
            spawning = callers.create_task(runtime.spawn("pool", SlowStart, "slow", {"gate": gate, "began": began}))
            await began.wait()
            await runtime.spawn("pool", Kid, "other")
            await runtime.send("other", "crash")
            assert (await runtime.ask("other", "?")).payload == "other#2"
            assert not spawning.done()
            gate.set()
            assert await spawning == "slow"


async def test_the_supervisor_goes_on_while_one_child_restarts_slowly() -> None:
    gate, began = asyncio.Event(), asyncio.Event()
    with anyio.fail_after(5):
        async with Runtime(quick(pool())) as runtime:
            await runtime.spawn("pool", SlowStart, "slow", {"gate": gate, "began": began, "quick_lives": 1})
            await runtime.send("slow", "crash")
            await began.wait()
            await runtime.spawn("pool", Kid, "other")
            await runtime.send("other", "crash")
            assert (await runtime.ask("other", "?")).payload == "other#2"
            gate.set()
            assert (await runtime.ask("slow", "?")).payload == "slow#2"


@pytest.mark.parametrize("how", ["despawn", "stop"])
async def test_a_child_that_still_starts_can_be_ended_and_whoever_spawned_it_hears(how: str) -> None:
    gate, began, clock = asyncio.Event(), asyncio.Event(), ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(pool()), clock=clock) as runtime:
            async with asyncio.TaskGroup() as callers:
                spawning = callers.create_task(expect_spawn_error(runtime, gate, began))
                await began.wait()
                ending = (
                    runtime.despawn("pool", "slow")
                    if how == "despawn"
                    else runtime.stop_agent("pool", "slow", "current", timeout=3.0)
                )
                stopping = callers.create_task(ending)
                await clock.advance(5.0)
                done = (spawning.done(), stopping.done())
                stopping.cancel()
                gate.set()
            assert done == (True, True)
            assert children_of(runtime, "pool") == []
            await runtime.spawn("pool", Kid, "slow")


async def expect_spawn_error(runtime: Runtime, gate: asyncio.Event, began: asyncio.Event) -> None:
    with pytest.raises(LifecycleError):
        await runtime.spawn("pool", SlowStart, "slow", {"gate": gate, "began": began})


async def test_who_spawned_a_child_that_was_ended_while_it_started_reads_why() -> None:
    gate, began, sentences = asyncio.Event(), asyncio.Event(), list[str]()

    async def spawn(runtime: Runtime) -> None:
        try:
            await runtime.spawn("pool", SlowStart, "slow", {"gate": gate, "began": began})
        except LifecycleError as error:
            sentences.append(str(error))

    with anyio.fail_after(5):
        async with Runtime(quick(pool()), clock=ManualClock()) as runtime, asyncio.TaskGroup() as callers:  # no time passes
            callers.create_task(spawn(runtime))
            await began.wait()
            ending = callers.create_task(runtime.despawn("pool", "slow"))
            await settle()
            ending.cancel()
            gate.set()
    (sentence,) = sentences
    assert "start_timeout" not in sentence


async def test_a_child_that_restarts_slowly_can_be_despawned_and_does_not_come_back() -> None:
    gate, began, clock = asyncio.Event(), asyncio.Event(), ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(pool()), clock=clock) as runtime:
            await runtime.spawn("pool", SlowStart, "slow", {"gate": gate, "began": began, "quick_lives": 1})
            await runtime.send("slow", "crash")
            await clock.advance(0.0)
            await began.wait()
            await runtime.despawn("pool", "slow")
            gate.set()
            await clock.advance(5.0)
            assert children_of(runtime, "pool") == []
            with pytest.raises(UnknownAgent):
                await runtime.ask("slow", "?")


async def test_a_child_can_be_despawned_while_it_waits_for_its_restart() -> None:
    heard: list[Any] = []
    clock = ManualClock()
    with anyio.fail_after(5):
        root = quick(DynamicSupervisor("pool", backoff_base=50.0), Parent("p", heard))
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await runtime.ask("p", ("spawn", "kid"))
            await runtime.send("kid", "crash")
            await settle()
            waiting = callers.create_task(outcome(runtime, "kid", "?", 100.0))
            await settle()
            await runtime.despawn("pool", "kid")
            assert await waiting == ProcessExited.__name__
            await clock.advance(60.0)
            assert children_of(runtime, "pool") == []
            assert [name for name, _ in heard] == ["kid"]


# --- failures and limits ----------------------------------------------------------------------------------------------


async def test_a_child_that_does_not_start_is_told_to_who_spawned_it_and_not_kept() -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(pool(max_restarts=0), Parent("p", heard))) as runtime:
            for _ in range(3):
                with pytest.raises(SpawnError, match="'kid' was not spawned: BoomError: no luck"):
                    await runtime.ask("p", ("spawn", "kid", Failing))
            await settle()
            assert heard == []
            assert children_of(runtime, "pool") == []
            await runtime.ask("p", ("spawn", "kid"))


async def test_a_child_whose_start_takes_too_long_is_told_and_not_kept() -> None:
    clock = ManualClock()
    settings = {"gate": asyncio.Event(), "began": asyncio.Event(), "start_timeout": 3.0}
    with anyio.fail_after(5):
        async with Runtime(quick(pool()), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            spawning = callers.create_task(expect_start_timeout(runtime, settings))
            await clock.advance(3.0)
            await clock.advance(0.0)
            assert spawning.done()
            assert children_of(runtime, "pool") == []


async def expect_start_timeout(runtime: Runtime, settings: dict[str, Any]) -> None:
    with pytest.raises(SpawnError, match=r"'slow' was not spawned: on_start took longer than start_timeout \(3 s\)"):
        await runtime.spawn("pool", SlowStart, "slow", settings)


async def test_a_start_failure_after_a_crash_counts_and_is_tried_again() -> None:
    lives: list[str] = []

    class Flaky(Kid):
        async def on_start(self) -> None:
            lives.append(self.id)
            if len(lives) == 2:
                raise BoomError

    with anyio.fail_after(5):
        async with Runtime(quick(pool())) as runtime:
            await runtime.spawn("pool", Flaky, "kid")
            await runtime.send("kid", "crash")
            assert (await runtime.ask("kid", "?")).payload == "kid#3"


async def test_a_spawn_that_fails_gives_its_place_back() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(pool(max_total_spawns=2, max_children=1), Parent("p"))) as runtime:
            for kind in (Failing, Kid):
                for _ in range(3):
                    if kind is Failing:
                        with pytest.raises(SpawnError):
                            await runtime.ask("p", ("spawn", "kid", kind))
            await runtime.ask("p", ("spawn", "one"))
            with pytest.raises(SpawnLimitReached, match="max_children") as caught:
                await runtime.ask("p", ("spawn", "two"))
            assert (caught.value.setting, caught.value.limit) == ("max_children", 1)
            await runtime.despawn("pool", "one")
            await runtime.ask("p", ("spawn", "two"))
            await runtime.despawn("pool", "two")
            with pytest.raises(SpawnLimitReached, match="max_total_spawns") as caught:
                await runtime.ask("p", ("spawn", "three"))
            assert (caught.value.setting, caught.value.limit) == ("max_total_spawns", 2)


async def test_a_spawn_while_the_supervisor_stops_is_refused() -> None:
    refused: list[str] = []

    class Late(AgentProcess):
        async def on_stop(self) -> None:
            try:
                await self.spawn(Kid, "late")
            except LifecycleError as error:
                refused.append(str(error))

    with anyio.fail_after(5):
        async with Runtime(quick(pool())) as runtime:
            await runtime.spawn("pool", Late, "l")
    assert refused == ["Supervisor 'pool' is stopping."]


async def test_the_runtime_stops_while_a_child_drains_for_long() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        runtime = Runtime(quick(pool()), clock=clock)
        await runtime.start()
        async with asyncio.TaskGroup() as callers:
            _, asks = await with_work(runtime, callers)
            stopping = callers.create_task(runtime.stop_agent("pool", "kid", "all", timeout=1000.0))
            await settle()
            ending = callers.create_task(runtime.stop())
            await clock.advance(10.0)
            assert ending.done()
            assert stopping.done()
            assert {await ask for ask in asks} == {ProcessExited.__name__}


async def test_a_spawner_that_is_cancelled_leaves_the_child_to_start() -> None:
    gate, began = asyncio.Event(), asyncio.Event()
    with anyio.fail_after(5):
        async with Runtime(quick(pool())) as runtime, asyncio.TaskGroup() as callers:
            spawning = callers.create_task(runtime.spawn("pool", SlowStart, "slow", {"gate": gate, "began": began}))
            await began.wait()
            spawning.cancel()
            gate.set()
            assert (await runtime.ask("slow", "?")).payload == "slow#1"


async def test_a_replaced_dynamic_child_that_does_not_start_is_the_former_one_again() -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(pool(max_restarts=0), Parent("p", heard))) as runtime:
            await runtime.ask("p", ("spawn", "kid"))
            with pytest.raises(StartError):
                await runtime.replace("kid", Failing)
            assert (await runtime.ask("kid", "?")).payload == "kid#3"
            assert heard == []
