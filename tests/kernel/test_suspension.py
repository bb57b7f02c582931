"""Suspension: a process that takes no messages for a while, and who is told of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import CallError, DeadlineExceeded, MailboxFull, ProcessExited, Suspended, UnknownAgent
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.events import EventKind
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Echo, Patient, Witness, agent, ask_from_outside

if TYPE_CHECKING:
    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio


class Worker(AgentProcess):
    """Writes into a shared log: what it handled, and its hooks."""

    def __init__(self, name: str, log: list[str], **options: Any) -> None:
        super().__init__(name, **options)
        self.log = log

    async def handle(self, message: Message) -> Any:
        match message.payload:
            case "crash":
                raise BoomError
            case "suspend":
                await self.suspend("by itself")
                self.log.append("finishes")
                return "done"
            case "suspend and crash":
                if message.attempt == 0:
                    await self.suspend("by itself")
                    raise BoomError
                return "again"
            case _:
                pass
        self.log.append(f"{message.payload}")
        return self.id

    async def on_suspend(self, reason: str) -> None:
        self.log.append(f"suspended: {reason}")

    async def on_resume(self, approver: str) -> None:
        self.log.append(f"resumed by {approver}")


def quick(*children: AgentProcess | Supervisor, **options: Any) -> Supervisor:
    return Supervisor("root", list(children), backoff_base=0.0, **options)


async def outcome(runtime: Runtime, name: str, payload: Any, timeout: float = 30.0) -> Any:
    try:
        return (await runtime.ask(name, payload, timeout=timeout)).payload
    except CallError as error:
        return type(error).__name__


async def test_an_ask_to_a_suspended_process_is_refused_at_once_with_the_reason() -> None:
    log: list[str] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Worker("w", log)), clock=ManualClock()) as runtime:  # no time passes
            await runtime.suspend("w", "under review")
            with pytest.raises(Suspended, match="Agent 'w' is suspended: under review") as caught:
                await runtime.ask("w", 1)
            assert (caught.value.name, caught.value.reason) == ("w", "under review")
            await settle()
            with pytest.raises(Suspended):
                await ask_from_outside(runtime, "w", 1)
            assert agent(runtime, "w").status == "suspended"
            assert log == ["suspended: under review"]


async def test_a_nested_ask_to_a_suspended_process_hands_the_refusal_on_and_crashes_nobody() -> None:
    class Middle(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return (await self.ask("w", message.payload)).payload

    witness = Witness()
    with anyio.fail_after(5):
        async with Runtime(quick(Worker("w", []), Middle("m")), observers=[witness]) as runtime:
            await runtime.suspend("w", "under review")
            with pytest.raises(Suspended, match="'w' is suspended: under review"):
                await runtime.ask("m", 1)
            assert agent(runtime, "m").id == "m#1"
            await runtime.resume("w")
            assert (await runtime.ask("m", 1)).payload == "w#1"
    assert witness.of(EventKind.PROCESS_CRASHED) == []


async def test_sends_to_a_suspended_process_wait_and_are_handled_in_order_after_the_hook() -> None:
    log: list[str] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Worker("w", log))) as runtime:
            await runtime.suspend("w", "pause")
            for number in range(5):
                await runtime.send("w", number)
            await settle()
            assert log == ["suspended: pause"]
            await runtime.resume("w", "alice")
            assert (await runtime.ask("w", "last")).payload == "w#1"
            assert log == ["suspended: pause", "resumed by alice", "0", "1", "2", "3", "4", "last"]


async def test_the_message_in_hand_is_finished_and_the_hook_runs_after_it() -> None:
    log: list[str] = []

    class Slow(Worker):
        gate = asyncio.Event()
        began = asyncio.Event()

        async def handle(self, message: Message) -> Any:
            self.began.set()
            await self.gate.wait()
            return await super().handle(message)

    Slow.gate, Slow.began = asyncio.Event(), asyncio.Event()
    with anyio.fail_after(5):
        async with Runtime(quick(Slow("w", log))) as runtime, asyncio.TaskGroup() as callers:
            ask = callers.create_task(runtime.ask("w", "in hand"))
            await Slow.began.wait()
            await runtime.suspend("w", "pause")
            await settle()
            assert log == []
            assert agent(runtime, "w").status == "running"
            Slow.gate.set()
            assert (await ask).payload == "w#1"
            await settle()
            assert log == ["in hand", "suspended: pause"]
            assert agent(runtime, "w").status == "suspended"


async def test_a_handler_that_suspends_its_own_process_finishes_its_message() -> None:
    log: list[str] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Worker("w", log))) as runtime:
            assert (await runtime.ask("w", "suspend")).payload == "done"
            await settle()
            with pytest.raises(Suspended, match="by itself"):
                await runtime.ask("w", 1)
            assert log == ["finishes", "suspended: by itself"]
            await runtime.resume("w", "bob")
            assert (await runtime.ask("w", 1)).payload == "w#1"
            assert log == ["finishes", "suspended: by itself", "resumed by bob", "1"]


async def test_a_process_resumes_itself_from_a_task_of_its_own() -> None:
    log: list[str] = []

    class Napping(Worker):
        async def on_suspend(self, reason: str) -> None:
            await super().on_suspend(reason)
            self.start_task(self.wake())

        async def wake(self) -> None:
            await self.sleep(10.0)
            await self.resume()

    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(Napping("w", log)), clock=clock) as runtime:
            await runtime.ask("w", "suspend")
            await clock.advance(9.0)
            assert agent(runtime, "w").status == "suspended"
            await clock.advance(1.0)
            assert agent(runtime, "w").status == "running"
            assert log[-1] == "resumed by w"


async def test_what_waited_at_the_suspension_stays_and_is_handled_after_it() -> None:
    log: list[str] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Worker("w", log))) as runtime, asyncio.TaskGroup() as callers:
            first = callers.create_task(outcome(runtime, "w", "suspend"))
            waiting = [callers.create_task(outcome(runtime, "w", number)) for number in range(3)]
            await settle()
            assert first.result() == "done"
            assert not any(ask.done() for ask in waiting)
            await runtime.resume("w")
            assert [await ask for ask in waiting] == ["w#1"] * 3
            assert log[-3:] == ["0", "1", "2"]


async def test_an_ask_that_waited_at_the_suspension_still_meets_its_deadline() -> None:
    log: list[str] = []
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(Worker("w", log)), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            callers.create_task(outcome(runtime, "w", "suspend"))
            short = callers.create_task(outcome(runtime, "w", "short", 2.0))
            long = callers.create_task(outcome(runtime, "w", "long", 20.0))
            await clock.advance(3.0)
            assert short.result() == DeadlineExceeded.__name__
            assert not long.done()
            await runtime.resume("w")
            assert await long == "w#1"
            assert "short" not in log
            assert runtime.router.registry.lookup("w").expired == 1


async def test_the_hooks_run_once_for_each_suspension() -> None:
    log: list[str] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Worker("w", log))) as runtime:
            for number in range(3):
                await runtime.suspend("w", f"{number}")
                await settle()
                await runtime.suspend("w", f"{number} again")
                await settle()
                await runtime.resume("w", f"{number}")
                await settle()
                await runtime.resume("w", "again")
                await settle()
    assert log == [line for n in range(3) for line in (f"suspended: {n}", f"resumed by {n}")]


async def test_no_message_is_handled_while_a_hook_runs() -> None:
    log: list[str] = []
    gate = asyncio.Event()

    class Slow(Worker):
        async def on_suspend(self, reason: str) -> None:
            self.log.append("on_suspend begins")
            await gate.wait()
            self.log.append("on_suspend ends")

        async def on_resume(self, approver: str) -> None:
            self.log.append("on_resume begins")
            await settle()
            self.log.append("on_resume ends")

    with anyio.fail_after(5):
        async with Runtime(quick(Slow("w", log))) as runtime:
            await runtime.suspend("w")
            await settle()
            await runtime.send("w", "waits")
            await runtime.resume("w")  # while on_suspend runs
            await settle()
            assert log == ["on_suspend begins"]
            gate.set()
            await runtime.ask("w", "last")
    assert log == ["on_suspend begins", "on_suspend ends", "on_resume begins", "on_resume ends", "waits", "last"]


async def test_a_suspension_while_on_resume_runs_holds() -> None:
    log: list[str] = []
    gate = asyncio.Event()

    class Slow(Worker):
        async def on_resume(self, approver: str) -> None:
            await gate.wait()

    with anyio.fail_after(5):
        async with Runtime(quick(Slow("w", log))) as runtime:
            await runtime.suspend("w", "one")
            await settle()
            await runtime.send("w", "waits")
            await runtime.resume("w")
            await settle()
            await runtime.suspend("w", "two")
            gate.set()
            await settle()
            assert log == ["suspended: one", "suspended: two"]
            assert agent(runtime, "w").status == "suspended"


async def test_a_suspension_that_is_taken_back_at_once_stops_nobody() -> None:
    log: list[str] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Worker("w", log))) as runtime:
            await runtime.suspend("w")
            await runtime.resume("w")
            assert (await runtime.ask("w", 1)).payload == "w#1"
            assert agent(runtime, "w").status == "running"


async def test_a_crash_leaves_a_suspended_process_suspended() -> None:
    log: list[str] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Worker("w", log))) as runtime, asyncio.TaskGroup() as callers:
            ask = callers.create_task(outcome(runtime, "w", "suspend and crash"))
            await settle()
            assert agent(runtime, "w").id == "w#2"
            assert agent(runtime, "w").status == "suspended"
            assert log == ["suspended: by itself"]
            with pytest.raises(Suspended):
                await runtime.ask("w", 1)
            assert not ask.done()
            await runtime.resume("w", "carol")
            assert await ask == "again"
            assert log == ["suspended: by itself", "resumed by carol"]


async def test_a_restart_leaves_a_suspended_process_suspended() -> None:
    log: list[str] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Worker("w", log))) as runtime:
            await runtime.suspend("w", "pause")
            await runtime.send("w", "waits")
            await settle()
            await runtime.restart_agent("w")
            await settle()
            assert agent(runtime, "w").id == "w#2"
            assert agent(runtime, "w").status == "suspended"
            with pytest.raises(Suspended, match="pause"):
                await runtime.ask("w", 1)
            await runtime.resume("w", "dan")
            await runtime.ask("w", "last")
            assert log == ["suspended: pause", "suspended: pause", "resumed by dan", "waits", "last"]


@pytest.mark.parametrize("levels", [0, 1])
async def test_a_restart_of_the_group_or_of_the_supervisor_leaves_a_suspended_process_suspended(levels: int) -> None:
    log: list[str] = []
    limit = 3 if levels == 0 else 0
    inner = Supervisor("inner", [Worker("w", log), Worker("other", [])], "one_for_all", max_restarts=limit, backoff_base=0.0)
    with anyio.fail_after(5):
        async with Runtime(quick(inner)) as runtime:
            await runtime.suspend("w", "pause")
            await runtime.send("w", "waits")
            await settle()
            await runtime.send("other", "crash")
            assert (await runtime.ask("other", 1)).payload == "other#2"
            await settle()
            assert agent(runtime, "w").id == "w#2"
            assert agent(runtime, "w").status == "suspended"
            await runtime.resume("w")
            await runtime.ask("w", "last")
            assert log[-2:] == ["waits", "last"]


async def test_a_process_can_be_suspended_and_resumed_while_it_waits_for_its_restart() -> None:
    log: list[str] = []
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Worker("w", log)], backoff_base=5.0), clock=clock) as runtime:
            await runtime.send("w", "crash")
            await settle()
            await runtime.suspend("w", "between")
            with pytest.raises(Suspended, match="between"):
                await runtime.ask("w", 1)
            await clock.advance(5.0)
            assert agent(runtime, "w").status == "suspended"
            assert log == ["suspended: between"]
            await runtime.resume("w")
            assert (await runtime.ask("w", 1)).payload == "w#2"


async def test_stopping_the_runtime_ends_a_suspended_process_at_once_and_answers_what_waits() -> None:
    log: list[str] = []
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as callers:
            async with Runtime(quick(Worker("w", log)), clock=ManualClock()) as runtime:  # no time passes
                callers.create_task(outcome(runtime, "w", "suspend"))
                waiting = callers.create_task(outcome(runtime, "w", "waits"))
                await settle()
                assert agent(runtime, "w").status == "suspended"
            assert await waiting == ProcessExited.__name__
    assert "waits" not in log


async def test_a_suspended_process_whose_hook_hangs_is_stopped_within_its_shutdown_timeout() -> None:
    class Hanging(AgentProcess):
        async def on_suspend(self, reason: str) -> None:
            await asyncio.Event().wait()

    clock = ManualClock()
    with anyio.fail_after(5):
        runtime = Runtime(quick(Hanging("h", shutdown_timeout=2.0)), clock=clock)
        await runtime.start()
        await runtime.suspend("h")
        await settle()
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(runtime.stop())
            await clock.advance(2.0)
            assert stopping.done()


@pytest.mark.parametrize("drain", ["current", "all"])
async def test_a_suspended_dynamic_child_is_stopped_at_once_whatever_it_may_drain(drain: str) -> None:
    with anyio.fail_after(5):
        async with (
            Runtime(quick(DynamicSupervisor("pool")), clock=ManualClock()) as runtime,  # no time passes
            asyncio.TaskGroup() as callers,
        ):
            await runtime.spawn("pool", Worker, "w", {"log": []})
            callers.create_task(outcome(runtime, "w", "suspend"))
            waiting = callers.create_task(outcome(runtime, "w", "waits"))
            await settle()
            await runtime.stop_agent("pool", "w", drain)
            assert await waiting == ProcessExited.__name__
            with pytest.raises(UnknownAgent):
                await runtime.ask("w", 1)


async def test_a_process_that_is_suspended_while_it_drains_ends_at_once() -> None:
    with anyio.fail_after(5):
        async with (
            Runtime(quick(DynamicSupervisor("pool")), clock=ManualClock()) as runtime,  # no time passes
            asyncio.TaskGroup() as callers,
        ):
            await runtime.spawn("pool", Patient, "p")
            asks = [callers.create_task(outcome(runtime, "p", number)) for number in range(2)]
            patient = agent(runtime, "p")
            await patient.began.wait()
            stopping = callers.create_task(runtime.stop_agent("pool", "p", "all"))
            await settle()
            await runtime.suspend("p")
            patient.gate.set()
            await settle()
            ended = stopping.done()
            if not ended:
                await runtime.resume("p")
            await stopping
            assert ended
            assert asks[0].result() == 0


async def test_draining_just_after_a_resumption_still_handles_what_waits() -> None:
    log: list[str] = []
    gate = asyncio.Event()

    class Slow(Worker):
        async def on_resume(self, approver: str) -> None:
            await gate.wait()

    with anyio.fail_after(5):
        async with Runtime(quick(DynamicSupervisor("pool"))) as runtime, asyncio.TaskGroup() as tasks:
            await runtime.spawn("pool", Slow, "w", {"log": log})
            await runtime.suspend("w")
            await settle()
            for number in range(3):
                await runtime.send("w", number)
            await runtime.resume("w")
            await settle()
            stopping = tasks.create_task(runtime.stop_agent("pool", "w", "all"))
            await settle()
            gate.set()
            await stopping
    assert log == ["suspended: ", "0", "1", "2"]


@pytest.mark.parametrize("hook", ["on_suspend", "on_resume"])
async def test_a_hook_that_raises_crashes_the_process_and_what_waits_stays(hook: str) -> None:
    lives: list[str] = []

    class Raising(AgentProcess):
        async def on_start(self) -> None:
            lives.append(self.id)

        async def on_suspend(self, reason: str) -> None:
            if hook == "on_suspend" and len(lives) == 1:
                raise BoomError

        async def on_resume(self, approver: str) -> None:
            if hook == "on_resume" and len(lives) == 1:
                raise BoomError

        async def handle(self, message: Message) -> Any:
            return self.id

    witness = Witness()
    with anyio.fail_after(5):
        async with Runtime(quick(Raising("r")), observers=[witness]) as runtime, asyncio.TaskGroup() as callers:
            await runtime.suspend("r", "pause")
            await runtime.send("r", "waits")
            await settle()
            if hook == "on_suspend":
                assert lives == ["r#1", "r#2"]
                assert agent(runtime, "r").status == "suspended"
                with pytest.raises(Suspended, match="pause"):
                    await runtime.ask("r", 1)
            await runtime.resume("r")
            ask = callers.create_task(runtime.ask("r", 1))
            assert (await ask).payload == "r#2"
            assert witness.names(EventKind.PROCESS_CRASHED) == ["r"]
            assert witness.of(EventKind.DEAD_LETTER) == []


async def test_a_hook_has_nothing_of_the_message_that_was_handled_last() -> None:
    """Neither its deadline, which may have passed, nor its origin, who has nothing to do with it."""
    origins: list[Any] = []

    class Telling(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return await self.suspend("by itself")

        async def on_resume(self, approver: str) -> None:
            await self.send("o", "resumed")
            origins.append((await self.ask("o", "?")).payload)

    class Recording(AgentProcess):
        async def handle(self, message: Message) -> Any:
            origins.append(message.origin)
            return "heard"

    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(Telling("t"), Recording("o")), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(ignored(ask_from_outside(runtime, "t", 1, timeout=5.0)))
            await clock.advance(100.0)
            assert asked.done()
            await runtime.resume("t")
            await settle()
            assert origins == [None, None, "heard"]


async def ignored(doing: Any) -> None:
    with suppress(CallError):
        await doing


async def test_a_process_with_several_hands_is_suspended_when_all_have_finished() -> None:
    log: list[str] = []
    gate = asyncio.Event()

    class Many(Worker):
        async def handle(self, message: Message) -> Any:
            if message.payload != "free":
                await gate.wait()
            return await super().handle(message)

    with anyio.fail_after(5):
        async with Runtime(quick(Many("w", log, concurrency=3))) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(outcome(runtime, "w", number)) for number in range(5)]
            await settle()
            await runtime.suspend("w", "pause")
            await settle()
            assert log == []
            gate.set()
            await settle()
            assert sorted(log) == ["0", "1", "2", "suspended: pause"]
            assert [ask.done() for ask in asks] == [True] * 3 + [False] * 2
            await runtime.resume("w")
            assert [await ask for ask in asks] == ["w#1"] * 5


async def test_a_process_can_be_suspended_while_it_starts() -> None:
    gate = asyncio.Event()
    log: list[str] = []

    class Slow(Worker):
        async def on_start(self) -> None:
            await gate.wait()

    with anyio.fail_after(5):
        async with Runtime(quick(DynamicSupervisor("pool"))) as runtime, asyncio.TaskGroup() as tasks:
            spawning = tasks.create_task(runtime.spawn("pool", Slow, "w", {"log": log}))
            await settle()
            await runtime.suspend("w", "early")
            gate.set()
            await spawning
            await settle()
            assert agent(runtime, "w").status == "suspended"
            assert log == ["suspended: early"]
            await runtime.resume("w")
            assert (await runtime.ask("w", 1)).payload == "w#1"


async def test_a_suspended_processs_full_mailbox_refuses_sends_and_loses_none() -> None:
    log: list[str] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Worker("w", log, mailbox_size=2))) as runtime:
            await runtime.suspend("w")
            await runtime.send("w", 0)
            await runtime.send("w", 1)
            with pytest.raises(MailboxFull):
                await runtime.send("w", 2)
            await runtime.resume("w")
            await settle()
            assert log[-2:] == ["0", "1"]


async def test_suspending_or_resuming_a_name_that_is_not_there_says_so() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Echo("echo"))) as runtime:
            with pytest.raises(UnknownAgent, match="Did you mean 'echo'"):
                await runtime.suspend("ech")
            with pytest.raises(UnknownAgent, match="Did you mean 'echo'"):
                await runtime.resume("ech")


async def test_the_statuses_of_a_suspension_are_told() -> None:
    witness = Witness()
    with anyio.fail_after(5):
        async with Runtime(quick(Worker("w", [])), observers=[witness]) as runtime:
            await runtime.suspend("w")
            await settle()
            await runtime.resume("w")
            await settle()
    told = [(event.data["before"], event.data["status"]) for event in witness.of(EventKind.PROCESS_STATUS)]
    assert told[2:4] == [("running", "suspended"), ("suspended", "running")]
