"""Replacing the class of a process under traffic."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import AgentCrashed, CallError, LifecycleError, StartError
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.events import EventKind
from portico.kernel.process import AgentProcess, ErrorAction
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Echo, Witness, agent

if TYPE_CHECKING:
    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio


class Old(AgentProcess):
    """Says who it is, and crashes, holds or ends as it is told."""

    def __init__(self, name: str, gate: asyncio.Event | None = None, **options: Any) -> None:
        super().__init__(name, **options)
        self.gate = gate

    async def handle(self, message: Message) -> Any:
        match message.payload:
            case "hold":
                assert self.gate is not None
                await self.gate.wait()
            case "crash":
                raise BoomError
            case "bye":
                raise ValueError
            case "count":
                self.state["n"] = self.state.get("n", 0) + 1
                return self.state["n"]
            case _:
                await asyncio.sleep(0)
        return f"{type(self).__name__} {self.id}"

    async def on_error(self, error: Exception, message: Message) -> ErrorAction:
        return ErrorAction.STOP if isinstance(error, ValueError) else ErrorAction.ESCALATE

    @operation(idempotent=False)
    async def pay(self) -> str:
        assert self.gate is not None
        await self.gate.wait()
        return "paid"


class New(Old):
    """The same, of another class."""


class Newer(Old):
    """And another."""


class Unstartable(Old):
    """Cannot start."""

    async def on_start(self) -> None:
        raise BoomError("no luck")


class Unmakeable(Old):
    """Cannot be made."""

    def __init__(self, name: str, gate: asyncio.Event | None = None, **options: Any) -> None:
        raise BoomError("no such luck")


def quick(*children: AgentProcess | Supervisor, **options: Any) -> Supervisor:
    return Supervisor("root", list(children), backoff_base=0.0, **options)


async def outcome(runtime: Runtime, name: str, payload: Any, message_type: str = "message") -> Any:
    try:
        return (await runtime.ask(name, payload, message_type=message_type)).payload
    except CallError as error:
        return type(error).__name__


async def test_the_next_message_is_handled_by_the_new_class_in_the_next_incarnation() -> None:
    witness = Witness()
    with anyio.fail_after(5):
        async with Runtime(quick(Old("a")), observers=[witness]) as runtime:
            assert (await runtime.ask("a", 1)).payload == "Old a#1"
            await runtime.replace("a", New)
            assert (await runtime.ask("a", 1)).payload == "New a#2"
            assert isinstance(agent(runtime, "a"), New)
            (event,) = witness.of(EventKind.PROCESS_REPLACED)
            assert (event.name, event.data["before"], event.data["now"]) == ("a", "Old", "New")
            assert witness.of(EventKind.PROCESS_CRASHED) == []


async def test_the_message_in_hand_is_finished_by_the_old_class_and_those_that_wait_are_handled_by_the_new() -> None:
    gate = asyncio.Event()
    with anyio.fail_after(5):
        async with Runtime(quick(Old("a", gate))) as runtime, asyncio.TaskGroup() as tasks:
            in_hand = tasks.create_task(outcome(runtime, "a", "hold"))
            await settle()
            waiting = [tasks.create_task(outcome(runtime, "a", number)) for number in range(3)]
            replacing = tasks.create_task(runtime.replace("a", New))
            await settle()
            late = tasks.create_task(outcome(runtime, "a", "late"))
            await settle()
            assert not replacing.done()
            gate.set()
            await replacing
            assert await in_hand == "Old a#1"
            assert [await ask for ask in [*waiting, late]] == ["New a#2"] * 4


async def test_the_constructors_arguments_and_the_adjustments_reach_the_new_class() -> None:
    gate = asyncio.Event()
    process = Old("a", gate, mailbox_size=7).adjust(restart="transient", description="The same.")
    with anyio.fail_after(5):
        async with Runtime(quick(process)) as runtime:
            await runtime.replace("a", New)
            new = agent(runtime, "a")
            assert new.gate is gate
            assert (new.mailbox_size, new.restart, new.description) == (7, "transient", "The same.")


async def test_the_state_is_kept() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Old("a"))) as runtime:
            assert (await runtime.ask("a", "count")).payload == 1
            await runtime.replace("a", New)
            assert (await runtime.ask("a", "count")).payload == 2


async def test_nothing_is_lost_or_doubled_while_many_callers_ask_and_the_class_is_replaced_again_and_again() -> None:
    handled: Counter[int] = Counter()
    kinds: Counter[str] = Counter()
    over = asyncio.Event()

    class Counting(AgentProcess):
        async def handle(self, message: Message) -> Any:
            handled[message.payload] += 1
            await asyncio.sleep(0)
            return type(self).__name__

    class Counting2(Counting):
        pass

    async def caller(runtime: Runtime, place: int) -> int:
        number = 0
        while not over.is_set():
            kinds[(await runtime.ask("a", place * 1_000_000 + number)).payload] += 1
            number += 1
        return number

    with anyio.fail_after(20):
        async with Runtime(quick(Counting("a"), max_restarts=0)) as runtime:
            async with asyncio.TaskGroup() as tasks:
                callers = [tasks.create_task(caller(runtime, place)) for place in range(20)]
                for number in range(20):
                    await settle()
                    await runtime.replace("a", Counting2 if number % 2 == 0 else Counting)
                over.set()
            asked = sum(task.result() for task in callers)
            assert runtime.alive
    assert asked > 20
    assert len(handled) == asked
    assert set(handled.values()) == {1}
    assert kinds["Counting"] > 1
    assert kinds["Counting2"] > 1
    assert kinds.total() == asked


async def test_sends_that_wait_are_handled_once_and_in_order_by_the_new_class() -> None:
    gate, log = asyncio.Event(), list[Any]()

    class Logging(Old):
        async def handle(self, message: Message) -> Any:
            if message.payload != "hold":
                log.append((type(self).__name__, message.payload))
            return await super().handle(message)

    class Logging2(Logging):
        pass

    with anyio.fail_after(5):
        async with Runtime(quick(Logging("a", gate))) as runtime, asyncio.TaskGroup() as tasks:
            await runtime.send("a", "hold")
            for number in range(10):
                await runtime.send("a", number)
            replacing = tasks.create_task(runtime.replace("a", Logging2))
            await settle()
            gate.set()
            await replacing
            await runtime.ask("a", "last")
    assert log == [("Logging2", number) for number in [*range(10), "last"]]


async def test_no_replacement_charges_a_window() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Old("a"), max_restarts=0)) as runtime:
            for kind in [New, Old] * 5:
                await runtime.replace("a", kind)
            assert runtime.alive
            assert (await runtime.ask("a", 1)).payload == "Old a#11"


async def test_a_restart_that_is_asked_for_charges_no_window_either() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Old("a"), max_restarts=0)) as runtime:
            for _ in range(5):
                await runtime.restart_agent("a")
            assert (await runtime.ask("a", 1)).payload == "Old a#6"


async def test_the_new_class_is_still_there_after_a_crash() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Old("a"))) as runtime:
            await runtime.replace("a", New)
            await runtime.send("a", "crash")
            assert (await runtime.ask("a", 1)).payload == "New a#3"
            await runtime.restart_agent("a")
            assert (await runtime.ask("a", 1)).payload == "New a#4"


@pytest.mark.parametrize("levels", [1, 2, 3])
async def test_the_new_class_is_still_there_after_a_restart_of_a_supervisor_above(levels: int) -> None:
    node: AgentProcess | Supervisor = Old("a")
    for level in range(levels):
        node = Supervisor(f"level-{level}", [node, Old(f"crasher-{level}")], max_restarts=0, backoff_base=0.0)
    with anyio.fail_after(5):
        async with Runtime(quick(node)) as runtime:
            await runtime.replace("a", New)
            await runtime.send(f"crasher-{levels - 1}", "crash")
            await settle()
            assert runtime.alive
            assert (await runtime.ask("a", 1)).payload == "New a#3"


async def test_the_new_class_is_still_there_after_the_runtime_was_started_again() -> None:
    runtime = Runtime(quick(Supervisor("inner", [Old("a")])))
    with anyio.fail_after(5):
        async with runtime:
            await runtime.replace("a", New)
        async with runtime:
            assert (await runtime.ask("a", 1)).payload.startswith("New")


@pytest.mark.parametrize("kind", [Unstartable, Unmakeable])
@pytest.mark.parametrize("dynamic", [False, True])
async def test_a_new_class_that_does_not_start_says_so_and_the_old_one_is_back(kind: type[AgentProcess], *, dynamic: bool) -> None:
    witness, gate = Witness(), asyncio.Event()
    children = [DynamicSupervisor("pool", max_restarts=0)] if dynamic else [Old("a", gate), Echo("e")]
    with anyio.fail_after(5):
        async with (
            Runtime(quick(*children, max_restarts=0), observers=[witness]) as runtime,
            asyncio.TaskGroup() as tasks,
        ):
            if dynamic:
                await runtime.spawn("pool", Old, "a", {"gate": gate})
            in_hand = tasks.create_task(outcome(runtime, "a", "hold"))
            await settle()
            waiting = tasks.create_task(outcome(runtime, "a", 1))
            replacing = tasks.create_task(expect_start_error(runtime, "a", kind))
            await settle()
            gate.set()
            await replacing
            assert await in_hand == "Old a#1"
            assert await waiting == "Old a#3" if kind is Unstartable else "Old a#2"
            assert runtime.alive
            assert witness.of(EventKind.PROCESS_REPLACED) == []
            await runtime.replace("a", New)
            assert (await runtime.ask("a", 1)).payload.startswith("New")


async def expect_start_error(runtime: Runtime, name: str, kind: type[AgentProcess]) -> None:
    with pytest.raises(StartError, match="luck"):
        await runtime.replace(name, kind)


async def test_a_new_class_whose_start_takes_too_long_says_so_and_the_old_one_is_back() -> None:
    class Endless(Old):
        async def on_start(self) -> None:
            await asyncio.Event().wait()

    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(Old("a", start_timeout=3.0), max_restarts=0), clock=clock) as runtime:
            async with asyncio.TaskGroup() as tasks:
                replacing = tasks.create_task(expect_timeout(runtime, Endless))
                await clock.advance(3.0)
                await clock.advance(5.0)
                assert replacing.done()
            assert (await runtime.ask("a", 1)).payload.startswith("Old")


async def expect_timeout(runtime: Runtime, kind: type[AgentProcess]) -> None:
    with pytest.raises(StartError, match="start_timeout"):
        await runtime.replace("a", kind)


async def test_a_failed_replacement_of_one_that_had_ended_leaves_its_supervisor_and_siblings_alive() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Old("a", restart="transient"), Echo("e"))) as runtime:
            await runtime.send("a", "bye")
            await settle()
            assert agent(runtime, "a").status == "stopped"
            with pytest.raises(StartError, match="luck"):
                await runtime.replace("a", Unmakeable)
            await settle()
            assert runtime.alive
            assert (await runtime.ask("e", 1)).payload == 1


async def test_a_message_in_hand_for_longer_than_the_timeout_is_cancelled_and_handled_again_by_the_new_class() -> None:
    gate, clock = asyncio.Event(), ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(Old("a", gate)), clock=clock) as runtime, asyncio.TaskGroup() as tasks:
            in_hand = tasks.create_task(outcome(runtime, "a", "hold"))
            await settle()
            replacing = tasks.create_task(runtime.replace("a", New, timeout=2.0))
            await clock.advance(1.9)
            assert not replacing.done()
            await clock.advance(0.2)
            assert replacing.done()
            gate.set()
            assert await in_hand == "New a#2"
            assert clock.pending <= 2  # no timer of the replacement is left


async def test_a_message_in_hand_for_too_long_that_must_not_run_twice_is_not_handled_again() -> None:
    gate, clock = asyncio.Event(), ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(Old("a", gate)), clock=clock) as runtime, asyncio.TaskGroup() as tasks:
            in_hand = tasks.create_task(outcome(runtime, "a", {}, "pay"))
            await settle()
            replacing = tasks.create_task(runtime.replace("a", New, timeout=2.0))
            await clock.advance(2.1)
            assert replacing.done()
            assert await in_hand == AgentCrashed.__name__


async def test_a_replacement_of_a_name_that_is_not_there_or_is_a_supervisors_says_so() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Supervisor("inner", [Old("a")]))) as runtime:
            with pytest.raises(LifecycleError, match="'nobody'"):
                await runtime.replace("nobody", New)
            for name in ("inner", "root"):
                with pytest.raises(LifecycleError, match="is a supervisor"):
                    await runtime.replace(name, New)
            assert (await runtime.ask("a", 1)).payload == "Old a#1"


async def test_a_crash_of_the_message_in_hand_still_ends_in_the_new_class() -> None:
    gate = asyncio.Event()

    class Crashing(Old):
        async def handle(self, message: Message) -> Any:
            result = await super().handle(message)
            if message.payload == "hold" and type(self) is Crashing:
                raise BoomError
            return result

    class Steady(Crashing):
        pass

    witness = Witness()
    with anyio.fail_after(5):
        async with Runtime(quick(Crashing("a", gate)), observers=[witness]) as runtime, asyncio.TaskGroup() as tasks:
            in_hand = tasks.create_task(outcome(runtime, "a", "hold"))
            await settle()
            replacing = tasks.create_task(runtime.replace("a", Steady))
            await settle()
            gate.set()
            await replacing
            assert await in_hand == "Steady a#2"
            assert witness.names(EventKind.PROCESS_REPLACED) == ["a"]


async def test_a_replacement_during_the_backoff_takes_place_at_once() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Old("a")], backoff_base=50.0), clock=clock) as runtime:  # no time passes
            await runtime.send("a", "crash")
            await settle()
            assert agent(runtime, "a").status == "restarting"
            await runtime.replace("a", New)
            assert (await runtime.ask("a", 1)).payload == "New a#2"
            await clock.advance(100.0)
            assert (await runtime.ask("a", 1)).payload == "New a#2"


async def test_of_two_replacements_at_once_the_later_one_stays() -> None:
    gate = asyncio.Event()
    with anyio.fail_after(5):
        async with Runtime(quick(Old("a", gate))) as runtime, asyncio.TaskGroup() as tasks:
            in_hand = tasks.create_task(outcome(runtime, "a", "hold"))
            await settle()
            replacing = [tasks.create_task(runtime.replace("a", New)), tasks.create_task(runtime.replace("a", Newer))]
            await settle()
            gate.set()
            for each in replacing:
                await each
            assert await in_hand == "Old a#1"
            assert (await runtime.ask("a", 1)).payload.startswith("Newer")


async def test_after_two_failed_replacements_at_once_the_class_that_ran_last_is_back() -> None:
    gate = asyncio.Event()
    with anyio.fail_after(5):
        async with Runtime(quick(Old("a", gate), max_restarts=0)) as runtime, asyncio.TaskGroup() as tasks:
            in_hand = tasks.create_task(outcome(runtime, "a", "hold"))
            await settle()
            for kind in (Unstartable, Unmakeable):
                tasks.create_task(expect_start_error(runtime, "a", kind))
                await settle()
            gate.set()
            assert await in_hand == "Old a#1"
            await settle()
            assert runtime.alive
            assert (await runtime.ask("a", 1)).payload.startswith("Old")


async def test_a_replacement_of_a_suspended_process_leaves_it_suspended() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Old("a"))) as runtime:
            await runtime.suspend("a")
            await settle()
            await runtime.send("a", "count")
            await runtime.replace("a", New)
            await settle()
            assert agent(runtime, "a").status == "suspended"
            assert isinstance(agent(runtime, "a"), New)
            await runtime.resume("a")
            assert (await runtime.ask("a", "count")).payload == 2


async def test_the_runtime_stops_while_a_replacement_waits_for_the_message_in_hand() -> None:
    with anyio.fail_after(5):
        runtime = Runtime(quick(Old("a", asyncio.Event(), shutdown_timeout=0.0)))
        await runtime.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(outcome(runtime, "a", "hold"))
            await settle()
            tasks.create_task(expect_lifecycle_error(runtime))
            await settle()
            await runtime.stop()


async def expect_lifecycle_error(runtime: Runtime) -> None:
    with pytest.raises(LifecycleError):
        await runtime.replace("a", New)


async def test_a_sibling_that_crashes_meanwhile_restarts_the_group_with_the_new_class() -> None:
    gate = asyncio.Event()
    with anyio.fail_after(5):
        root = quick(Old("a", gate), Old("b"), strategy="one_for_all")
        async with Runtime(root) as runtime, asyncio.TaskGroup() as tasks:
            in_hand = tasks.create_task(outcome(runtime, "a", "hold"))
            await settle()
            replacing = tasks.create_task(runtime.replace("a", New))
            await settle()
            await runtime.send("b", "crash")
            await settle()
            gate.set()
            await replacing
            assert await in_hand in {"Old a#1", "New a#2"}
            assert (await runtime.ask("a", 1)).payload == "New a#2"
            assert (await runtime.ask("b", 1)).payload == "Old b#2"


async def test_what_the_new_class_can_do_is_found_and_what_only_the_old_one_could_is_not() -> None:
    class Painter(Old):
        capabilities = ["paint"]  # noqa: RUF012  # the seed's form

    class Singer(Old):
        capabilities = ["sing"]  # noqa: RUF012  # the seed's form

    with anyio.fail_after(5):
        async with Runtime(quick(Painter("a"))) as runtime:
            assert runtime.router.registry.find_by_capability("paint") == ["a"]
            await runtime.replace("a", Singer)
            assert runtime.router.registry.find_by_capability("paint") == []
            assert runtime.router.registry.find_by_capability("sing") == ["a"]
