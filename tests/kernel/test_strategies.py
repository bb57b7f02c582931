"""Which children come back when one ends: the three strategies and the three kinds of restart."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import AgentCrashed, ProcessExited
from portico.kernel.events import EventKind
from portico.kernel.process import AgentProcess, ErrorAction
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import ManualClock
from tests.kernel.helpers import Logged, Witness, agent

if TYPE_CHECKING:
    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio


async def lives_after_a_crash_of_the_middle_one(strategy: str, **options: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What three children log when the second of them crashes, and which lives they are in then."""
    log: list[str] = []
    clock = ManualClock()
    children = [Logged(name, log, **options.get(name, {})) for name in ("a", "b", "c")]
    root = Supervisor("root", children, strategy=strategy, backoff_base=1.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime:
            log.clear()
            await runtime.send("b", "crash")
            await clock.advance(1.0)
            lived = list(log)
            return lived, [child.id for child in runtime.all_agents()]


async def test_one_for_one_restarts_only_the_child_that_crashed() -> None:
    lived, lives = await lives_after_a_crash_of_the_middle_one("one_for_one")
    assert lived == ["stop b", "start b"]
    assert lives == ["a#1", "b#2", "c#1"]


async def test_one_for_all_stops_the_others_in_reverse_and_starts_all_in_order() -> None:
    lived, lives = await lives_after_a_crash_of_the_middle_one("one_for_all")
    assert lived == ["stop b", "stop c", "stop a", "start a", "start b", "start c"]
    assert lives == ["a#2", "b#2", "c#2"]


async def test_rest_for_one_restarts_the_child_that_crashed_and_those_after_it() -> None:
    lived, lives = await lives_after_a_crash_of_the_middle_one("REST_FOR_ONE")
    assert lived == ["stop b", "stop c", "start b", "start c"]
    assert lives == ["a#1", "b#2", "c#2"]


async def test_a_temporary_sibling_does_not_come_back_with_its_group() -> None:
    lived, _ = await lives_after_a_crash_of_the_middle_one("one_for_all", c={"restart": "temporary"})
    assert lived == ["stop b", "stop c", "stop a", "start a", "start b"]


async def test_a_nested_supervisor_restarts_with_all_its_children_under_one_for_all() -> None:
    log: list[str] = []
    clock = ManualClock()
    inner = Supervisor("inner", [Logged("x", log), Logged("y", log)])
    root = Supervisor("root", [Logged("a", log), inner], strategy="one_for_all", backoff_base=1.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime:
            log.clear()
            await runtime.send("a", "crash")
            await clock.advance(1.0)
            assert log == ["stop a", "stop y", "stop x", "start a", "start x", "start y"]
            assert (await runtime.ask("y", "hello")).payload == "y#2"


async def test_a_crash_below_a_nested_supervisor_does_not_touch_its_uncles() -> None:
    log: list[str] = []
    clock = ManualClock()
    inner = Supervisor("inner", [Logged("x", log), Logged("y", log)], strategy="one_for_all", backoff_base=1.0)
    root = Supervisor("root", [Logged("a", log), inner, Logged("b", log)], strategy="one_for_all")
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime:
            log.clear()
            await runtime.send("x", "crash")
            await clock.advance(1.0)
            assert log == ["stop x", "stop y", "start x", "start y"]


class Quitter(AgentProcess):
    """Ends normally on any message."""

    async def handle(self, message: Message) -> Any:
        raise ValueError(message.payload)

    async def on_error(self, error: Exception, message: Message) -> ErrorAction:
        return ErrorAction.STOP


async def test_a_permanent_child_comes_back_even_after_a_normal_end() -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Quitter("q")], backoff_base=0.0)) as runtime:
            with pytest.raises(AgentCrashed):
                await runtime.ask("q", "go")
            with pytest.raises(AgentCrashed):  # it is there again to crash
                await runtime.ask("q", "go")
            assert agent(runtime, "q").id.startswith("q#")


async def test_a_transient_child_stays_away_after_a_normal_end() -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Quitter("q", restart="transient")], backoff_base=0.0)) as runtime:
            with pytest.raises(AgentCrashed):
                await runtime.ask("q", "go")
            with pytest.raises(ProcessExited):
                await runtime.ask("q", "again")
            assert agent(runtime, "q").status == "stopped"


async def test_a_transient_child_comes_back_after_a_crash() -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Logged("a", [], restart="TRANSIENT")], backoff_base=0.0)) as runtime:
            await runtime.send("a", "crash")
            assert (await runtime.ask("a", "hello")).payload == "a#2"


async def test_a_temporary_child_never_comes_back_and_what_waits_for_it_is_answered() -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Logged("a", [], restart="temporary")])) as runtime, asyncio.TaskGroup() as callers:
            crashing = callers.create_task(outcome(runtime, "crash"))
            waiting = callers.create_task(outcome(runtime, "hello"))
        assert isinstance(await crashing, AgentCrashed)
        assert isinstance(await waiting, ProcessExited)


async def outcome(runtime: Runtime, payload: Any) -> Any:
    try:
        return (await runtime.ask("a", payload)).payload
    except (AgentCrashed, ProcessExited) as error:
        return error


async def test_a_transient_child_that_ended_normally_is_started_again_with_its_group() -> None:
    clock = ManualClock()
    children = [Quitter("q", restart="transient"), Logged("a", [])]
    root = Supervisor("root", children, strategy="one_for_all", backoff_base=1.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime:
            await runtime.send("q", "go")
            await clock.advance()
            assert agent(runtime, "q").status == "stopped"
            await runtime.send("a", "crash")
            await clock.advance(1.0)
            assert agent(runtime, "q").status == "running"


async def test_several_children_that_go_down_at_once_come_back_together() -> None:
    log: list[str] = []
    clock = ManualClock()
    names = [f"a{number}" for number in range(5)]
    root = Supervisor("root", [Logged(name, log) for name in names], max_restarts=10, backoff_base=10.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime:
            for name in names:
                await runtime.send(name, "crash")
            await clock.advance(9.9)
            assert [child.status for child in runtime.all_agents()] == ["restarting"] * 5
            await clock.advance(0.1)
            assert [child.id for child in runtime.all_agents()] == [f"{name}#2" for name in names]


async def test_siblings_stopped_with_their_group_get_what_they_had_in_hand_again_uncharged() -> None:
    clock = ManualClock()
    root = Supervisor("root", [Logged("a", []), Slow("slow")], strategy="one_for_all", backoff_base=1.0, max_restarts=1)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(runtime.ask("slow", "hello", timeout=100.0))
            await clock.advance()
            await runtime.send("a", "crash")
            await clock.advance(5.0)  # shutdown_timeout of the slow one
            await clock.advance(1.0)
            assert (await asked).payload == {"id": "slow#2", "attempt": 0}


async def test_a_send_in_hand_of_a_sibling_stopped_with_its_group_is_delivered_again_too() -> None:
    clock, witness = ManualClock(), Witness()
    root = Supervisor("root", [Logged("a", []), Slow("slow")], strategy="one_for_all", backoff_base=1.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock, observers=[witness]) as runtime:
            await runtime.send("slow", "news")
            await runtime.send("a", "crash")
            await clock.advance(5.0)
            await clock.advance(1.0)
            assert agent(runtime, "slow").handled == ["news"]
            assert witness.names(EventKind.DEAD_LETTER) == ["a"]


class Slow(AgentProcess):
    """Waits for ever in its first life, replies in the next."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.handled: list[Any] = []

    async def handle(self, message: Message) -> Any:
        if self.id.endswith("#1"):
            await asyncio.Event().wait()
        self.handled.append(message.payload)
        return {"id": self.id, "attempt": message.attempt}
