"""DynamicSupervisor: children that come and go at run time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import DuplicateName, LifecycleError, ProcessExited, SpawnError, UnknownAgent
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.process import AgentProcess, ErrorAction
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Echo, Logged, Patient, agent, ask_from_outside

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio


class Greeter(AgentProcess):
    """Greets as it was told; ends normally on `bye`, crashes on `crash`."""

    def __init__(self, name: str, greeting: str = "hello") -> None:
        super().__init__(name)
        self.greeting = greeting

    async def handle(self, message: Message) -> Any:
        match message.payload:
            case "bye":
                raise ValueError
            case "crash":
                raise BoomError
            case _:
                return f"{self.greeting} from {self.id}"

    async def on_error(self, error: Exception, message: Message) -> ErrorAction:
        return ErrorAction.STOP if isinstance(error, ValueError) else ErrorAction.ESCALATE


def runtime_of(pool: DynamicSupervisor, clock: ManualClock | None = None) -> Runtime:
    return Runtime(Supervisor("root", [pool, Echo("echo")]), clock=clock)


def pool(**options: Any) -> DynamicSupervisor:
    return DynamicSupervisor("pool", backoff_base=0.0, **options)


async def test_a_spawned_child_gets_its_config_and_answers() -> None:
    with anyio.fail_after(5):
        async with runtime_of(pool()) as runtime:
            assert await runtime.spawn("pool", Greeter, "g", {"greeting": "good day"}) == "g"
            assert await runtime.call("g", None) == "good day from g#1"
            assert agent(runtime, "g").config == {"greeting": "good day"}
            assert runtime.print_tree().splitlines()[1:3] == ["  [dyn] pool (one_for_one)", "    [agent] g (running)"]


async def test_a_child_that_crashed_comes_back_with_its_config() -> None:
    with anyio.fail_after(5):
        async with runtime_of(pool()) as runtime:
            await runtime.spawn("pool", Greeter, "g", {"greeting": "good day"})
            await runtime.send("g", "crash")
            assert await runtime.call("g", None) == "good day from g#2"
            assert agent(runtime, "g").config == {"greeting": "good day"}


async def test_a_despawned_child_is_forgotten_and_its_name_is_free() -> None:
    with anyio.fail_after(5):
        async with runtime_of(pool(max_children=1)) as runtime:
            await runtime.spawn("pool", Greeter, "g")
            await runtime.despawn("pool", "g")
            with pytest.raises(UnknownAgent):
                await runtime.call("g", None)
            await runtime.spawn("pool", Greeter, "g")
            assert await runtime.call("g", None) == "hello from g#1"


async def test_despawn_cancels_the_message_in_hand_and_stop_lets_it_finish() -> None:
    with anyio.fail_after(5):
        async with runtime_of(pool()) as runtime, asyncio.TaskGroup() as tasks:
            for name in ("now", "later"):
                await runtime.spawn("pool", Patient, name)
            patients: list[Patient] = [agent(runtime, "now"), agent(runtime, "later")]
            cut = tasks.create_task(expect_exited(runtime, "now"))
            finished = tasks.create_task(runtime.call("later", "done"))
            for patient in patients:
                await patient.began.wait()
            await runtime.despawn("pool", "now")
            assert patients[0].cancelled.is_set()
            await cut
            stopping = tasks.create_task(runtime.stop_agent("pool", "later"))
            await settle()
            patients[1].gate.set()
            await stopping
            assert await finished == "done"


async def expect_exited(runtime: Runtime, name: str) -> None:
    with pytest.raises(ProcessExited, match="it was stopped"):
        await runtime.call(name, "cut short")


@pytest.mark.parametrize("ends", ["bye", "crash"])
async def test_a_child_that_ended_for_good_is_forgotten_and_makes_room(ends: str) -> None:
    supervisor = pool(max_children=1, restart="transient" if ends == "bye" else "temporary")
    with anyio.fail_after(5):
        async with runtime_of(supervisor) as runtime:
            await runtime.spawn("pool", Greeter, "g")
            await runtime.send("g", ends)
            await settle()
            assert runtime.get_agent("g") is None
            await runtime.spawn("pool", Greeter, "g")
            assert await runtime.call("g", None) == "hello from g#1"


async def test_the_limits_hold_and_say_which() -> None:
    with anyio.fail_after(5):
        async with runtime_of(pool(max_children=2, max_total_spawns=3)) as runtime:
            await runtime.spawn("pool", Greeter, "a")
            await runtime.spawn("pool", Greeter, "b")
            with pytest.raises(SpawnError, match="'pool' has 2 children \\(max_children\\): 'c' was not spawned"):
                await runtime.spawn("pool", Greeter, "c")
            await runtime.despawn("pool", "a")
            await runtime.spawn("pool", Greeter, "c")
            await runtime.despawn("pool", "b")
            with pytest.raises(SpawnError, match="'pool' has spawned 3 \\(max_total_spawns\\)"):
                await runtime.spawn("pool", Greeter, "d")


async def test_concurrent_spawns_do_not_pass_the_limit() -> None:
    with anyio.fail_after(5):
        async with runtime_of(pool(max_children=3)) as runtime:
            spawns = [runtime.spawn("pool", Greeter, f"g{number}") for number in range(8)]
            results = await asyncio.gather(*spawns, return_exceptions=True)
            assert sum(isinstance(result, SpawnError) for result in results) == 5
            assert len(runtime.all_agents()) == 4


async def test_a_name_that_is_taken_anywhere_in_the_runtime_is_refused() -> None:
    with anyio.fail_after(5):
        async with runtime_of(pool()) as runtime:
            await runtime.spawn("pool", Greeter, "g")
            for name in ("g", "echo"):
                with pytest.raises(DuplicateName):
                    await runtime.spawn("pool", Greeter, name)
            assert await runtime.call("g", None) == "hello from g#1"


class Failing(AgentProcess):
    """Cannot start."""

    async def on_start(self) -> None:
        raise BoomError("no luck")


class Unmakeable(AgentProcess):
    """Cannot even be made."""

    def __init__(self, name: str) -> None:
        raise KeyError(name)


@pytest.mark.parametrize(
    ("kind", "config", "sentence"),
    [
        (Failing, None, "'g' was not spawned: BoomError: no luck"),
        (Unmakeable, None, "'g' was not spawned: KeyError: 'g'"),
        (Greeter, {"greting": "typo"}, "'g' was not spawned: TypeError: .*unexpected keyword argument 'greting'"),
    ],
)
async def test_a_child_that_does_not_start_is_refused_and_not_kept(
    kind: type[AgentProcess], config: dict[str, str] | None, sentence: str
) -> None:
    with anyio.fail_after(5):
        async with runtime_of(pool(max_total_spawns=1)) as runtime:
            with pytest.raises(SpawnError, match=sentence):
                await runtime.spawn("pool", kind, "g", config)
            assert runtime.get_agent("g") is None
            await runtime.spawn("pool", Greeter, "g")


async def test_a_supervisor_may_refuse_a_spawn() -> None:
    class Picky(DynamicSupervisor):
        async def on_spawn_requested(self, agent_class: type[AgentProcess], name: str, config: Mapping[str, Any]) -> bool:
            return name.startswith("good")

    with anyio.fail_after(5):
        async with runtime_of(Picky("pool")) as runtime:
            await runtime.spawn("pool", Greeter, "good-one")
            with pytest.raises(SpawnError, match="refused to spawn 'bad-one'"):
                await runtime.spawn("pool", Greeter, "bad-one")


async def test_what_is_not_there_is_named() -> None:
    with anyio.fail_after(5):
        async with runtime_of(pool()) as runtime:
            with pytest.raises(LifecycleError, match="There is no DynamicSupervisor 'pol'"):
                await runtime.spawn("pol", Greeter, "g")
            with pytest.raises(LifecycleError, match="Supervisor 'pool' has no child 'nobody'"):
                await runtime.despawn("pool", "nobody")
    with pytest.raises(LifecycleError, match="is not running"):
        await pool().spawn(Greeter, "g")


async def test_a_dynamic_supervisor_over_its_intensity_forgets_its_children_and_is_restarted_empty() -> None:
    clock = ManualClock()
    supervisor = pool(max_restarts=0)
    with anyio.fail_after(5):
        async with runtime_of(supervisor, clock) as runtime, asyncio.TaskGroup() as callers:
            await runtime.spawn("pool", Logged, "a", {"log": []})
            await runtime.spawn("pool", Greeter, "g")
            await runtime.send("a", "crash")
            waiting = callers.create_task(expect_gone(runtime, "a"))
            await clock.advance(1.0)
            assert waiting.done()  # no silence for those who waited
            assert [child.name for child in runtime.all_agents()] == ["echo"]
            with pytest.raises(UnknownAgent):
                await runtime.call("g", None)
            await runtime.spawn("pool", Greeter, "g")
            assert await runtime.call("g", None) == "hello from g#1"


async def expect_gone(runtime: Runtime, name: str) -> None:
    with pytest.raises(ProcessExited):
        await runtime.call(name, None)


async def test_a_spawn_that_meets_a_stop_is_refused_and_not_cancelled() -> None:
    class Slow(AgentProcess):
        async def on_start(self) -> None:
            await asyncio.Event().wait()

    with anyio.fail_after(5):
        runtime = runtime_of(pool())
        async with asyncio.TaskGroup() as tasks:
            await runtime.start()
            spawning = tasks.create_task(expect_stopping(runtime, Slow))
            await settle()
            await runtime.stop()
        assert spawning.done()


async def expect_stopping(runtime: Runtime, kind: type[AgentProcess]) -> None:
    with pytest.raises(LifecycleError, match="Supervisor 'pool' is stopping"):
        await runtime.spawn("pool", kind, "slow")


async def test_children_stop_with_their_supervisor_and_do_not_come_back_with_the_next_start() -> None:
    runtime = runtime_of(pool())
    with anyio.fail_after(5):
        async with runtime:
            await runtime.spawn("pool", Greeter, "g")
        async with runtime:
            with pytest.raises(UnknownAgent):
                await ask_from_outside(runtime, "g", None)
            await runtime.spawn("pool", Greeter, "g")
            assert await runtime.call("g", None) == "hello from g#1"
