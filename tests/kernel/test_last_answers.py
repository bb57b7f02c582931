"""Last answers: whoever waits is answered, however the one who should answer ends; and nothing of an answered call stays behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import (
    AgentCrashed,
    CallError,
    DeadlineExceeded,
    DuplicateName,
    PorticoError,
    ProcessExited,
    RuntimeStopped,
    StartError,
)
from portico.kernel.deadlines import SIFT_FROM, Deadlines
from portico.kernel.delivery import Delivery
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.lifecycle import ProcessStatus
from portico.kernel.messages import DEFAULT_TYPE, Message
from portico.kernel.pool import pool
from portico.kernel.process import AgentProcess, ErrorAction
from portico.kernel.runtime import KILL_GRACE, Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Deaf, Echo, Logged, Patient, agent

if TYPE_CHECKING:
    from collections.abc import Awaitable

pytestmark = pytest.mark.anyio


class Gated(AgentProcess):
    """Waits at the test's gate; then `boom` crashes it, and everything else tells which life it is."""

    def __init__(self, name: str, gate: asyncio.Event, **options: Any) -> None:
        super().__init__(name, **options)
        self.gate = gate

    async def handle(self, message: Message) -> Any:
        await self.gate.wait()
        if message.payload == "boom":
            raise BoomError
        return self.id


async def outcome(asked: Awaitable[Any]) -> Any:
    """The reply's payload, or the error."""
    try:
        reply = await asked
    except PorticoError as error:
        return error
    return reply.payload if isinstance(reply, Message) else reply


def asks(callers: asyncio.TaskGroup, runtime: Runtime, name: str, *payloads: str) -> list[asyncio.Task[Any]]:
    return [callers.create_task(outcome(runtime.ask(name, payload))) for payload in payloads]


# --- the end of a runtime ---------------------------------------------------------------------------------------------


async def test_a_pool_as_root_that_gives_up_answers_what_waits() -> None:
    gate = asyncio.Event()
    root = pool(Gated, "gated", size=1, max_restarts=0, config={"gate": gate})
    with anyio.fail_after(5):
        async with Runtime(root, clock=ManualClock()) as runtime, asyncio.TaskGroup() as callers:
            asked = asks(callers, runtime, "gated", "boom", "second", "third")
            await settle()
            gate.set()
            assert [type(await ask) for ask in asked] == [AgentCrashed, ProcessExited, ProcessExited]
            assert not runtime.alive


async def test_a_stop_that_runs_out_of_time_over_a_deaf_handler_answers_all_asks() -> None:
    clock, began, gate = ManualClock(), asyncio.Event(), asyncio.Event()
    deaf = Deaf("deaf", began, gate, shutdown_timeout=60.0)
    runtime = Runtime(Supervisor("root", [deaf]), clock=clock, stop_timeout=1.0)
    with anyio.fail_after(5):
        await runtime.start()
        async with asyncio.TaskGroup() as callers:
            asked = asks(callers, runtime, "deaf", "block", "waits")
            await began.wait()
            stopping = callers.create_task(runtime.stop())
            await clock.advance(1.0)
            await clock.advance(KILL_GRACE)
            await settle()
            gate.set()  # the runtime waits a while for the task that is still there
            answers = [await ask for ask in asked]
            await stopping
        assert [type(answer) for answer in answers] == [RuntimeStopped, ProcessExited]


async def test_a_root_that_gives_up_answers_what_waits_at_an_attached_one() -> None:
    gate = asyncio.Event()
    root = Supervisor("root", [Gated("gated", gate)], max_restarts=0)
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await runtime.attach(Supervisor("beside", [Patient("patient")]))
            inner = asks(callers, runtime, "patient", "in hand", "waits")
            outer = asks(callers, runtime, "gated", "boom")
            await settle()
            gate.set()
            await settle()
            agent(runtime, "patient").gate.set()
            assert isinstance(await outer[0], AgentCrashed)
            assert await inner[0] == "in hand"
            assert isinstance(await inner[1], ProcessExited)


# --- attached supervisors ---------------------------------------------------------------------------------------------


async def test_an_attached_supervisor_that_gives_up_answers_everybody_and_its_name_is_free() -> None:
    gate = asyncio.Event()
    with anyio.fail_after(5):
        async with Runtime(clock=ManualClock()) as runtime, asyncio.TaskGroup() as callers:
            await runtime.attach(Supervisor("beside", [Gated("gated", gate)], max_restarts=0))
            asked = asks(callers, runtime, "gated", "boom", "second")
            await settle()
            gate.set()
            assert [type(await ask) for ask in asked] == [AgentCrashed, ProcessExited]
            await settle()
            assert isinstance(await outcome(runtime.ask("gated", "late")), ProcessExited)
            assert runtime.alive
            assert len(runtime.roots) == 1
            await runtime.attach(Supervisor("beside", [Gated("gated", gate)]))
            assert (await runtime.call("gated", "anew")).startswith("gated#")


class Stillborn(AgentProcess):
    async def on_start(self) -> None:
        raise BoomError


async def test_an_attach_that_fails_leaves_nothing_behind() -> None:
    log = list[str]()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Echo("taken")]), clock=ManualClock()) as runtime:
            with pytest.raises(DuplicateName):
                await runtime.attach(Supervisor("beside", [Logged("child", log), Echo("taken")]))
            with pytest.raises(StartError):
                await runtime.attach(Supervisor("beside", [Logged("child", log), Stillborn("other")]))
            assert log == ["start child", "stop child"]
            assert isinstance(await outcome(runtime.ask("child", "hello")), CallError)
            assert len(runtime.roots) == 1
            await runtime.attach(Supervisor("beside", [Logged("child", log), Echo("other")]))
            assert (await runtime.ask("other", "hello")).payload == "hello"


class Slow(AgentProcess):
    """Starts when the test opens the gate."""

    def __init__(self, name: str, gate: asyncio.Event) -> None:
        super().__init__(name)
        self.gate = gate

    async def on_start(self) -> None:
        await self.gate.wait()


async def test_an_attach_that_is_cancelled_leaves_nothing_behind() -> None:
    gate, log = asyncio.Event(), list[str]()
    with anyio.fail_after(5):
        async with Runtime(clock=ManualClock()) as runtime, asyncio.TaskGroup() as tasks:
            attaching = tasks.create_task(runtime.attach(Supervisor("beside", [Logged("child", log), Slow("slow", gate)])))
            await settle()
            attaching.cancel()
            gate.set()
            await settle()
            assert log == ["start child", "stop child"]
            await runtime.attach(Supervisor("beside", [Logged("child", log), Slow("slow", gate)]))
            assert (await runtime.ask("child", "hello")).payload.startswith("child#")


async def test_attached_supervisors_stop_within_one_stop_timeout() -> None:
    clock = ManualClock()
    runtime = Runtime(clock=clock, stop_timeout=1.0)
    with anyio.fail_after(5):
        await runtime.start()
        for number in range(3):
            await runtime.attach(Supervisor(f"beside {number}", [Patient(f"patient {number}", shutdown_timeout=60.0)]))
            await runtime.send(f"patient {number}", "wait")
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(runtime.stop())
            await clock.advance(1.0)
            for _ in range(3):
                await clock.advance(0.0)  # what is due already
            assert stopping.done()


# --- who is asked to restart while it restarts already ----------------------------------------------------------------


class Phoenix(AgentProcess):
    """Every life but the first starts when the test opens the gate."""

    def __init__(self, name: str, gate: asyncio.Event) -> None:
        super().__init__(name)
        self.gate = gate

    async def on_start(self) -> None:
        if self.id != f"{self.name}#1":
            await self.gate.wait()

    async def handle(self, message: Message) -> Any:
        if message.payload == "boom":
            raise BoomError
        return type(self).__name__


class Swan(Phoenix):
    """What replaces it."""


@pytest.mark.parametrize(("kind", "answers"), [(None, "Phoenix"), (Swan, "Swan")])
async def test_a_restart_or_a_replacement_amid_a_restart_of_a_dynamic_child_brings_it_back(
    kind: type[AgentProcess] | None, answers: str
) -> None:
    gate = asyncio.Event()
    dynamic = DynamicSupervisor("dynamic", backoff_base=0.0)
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [dynamic]), clock=ManualClock()) as runtime, asyncio.TaskGroup() as tasks:
            await runtime.spawn("dynamic", Phoenix, "child", {"gate": gate})
            await runtime.send("child", "boom")
            await settle()
            waiting = tasks.create_task(runtime.call("child", "waits"))
            await settle()
            coming = tasks.create_task(runtime.restart_agent("child") if kind is None else runtime.replace("child", kind))
            await settle()
            gate.set()
            await coming
            assert await waiting in {"Phoenix", answers}
            assert await runtime.call("child", "hello") == answers


# --- answered early ---------------------------------------------------------------------------------------------------


class Hasty(AgentProcess):
    """Answers by `reply_to` before its handler has ended, in whatever way the payload says."""

    retry_delay = 0.0

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.owed: list[Message] = []

    async def on_error(self, error: Exception, message: Message) -> ErrorAction:
        return ErrorAction.RETRY

    async def handle(self, message: Message) -> Any:
        match message.payload:
            case "settle":
                return [self.reply_to(owed, "late") for owed in self.owed]
            case "fail" if message.attempt:
                self.owed.append(message)
                return self.defer()
            case "put off":
                return self.defer()
            case "fail":
                self.reply_to(message, "early")
                raise BoomError
            case "defer":
                self.reply_to(message, "early")
                return self.defer()
            case _:
                self.reply_to(message, "early")
                return "usual"


async def test_a_reply_before_the_handler_has_put_off_is_the_reply() -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Hasty("hasty")]), clock=ManualClock()) as runtime:
            assert await runtime.call("hasty", "defer") == "early"
            assert agent(runtime, "hasty").status is ProcessStatus.RUNNING


async def test_early_replies_that_nobody_needed_do_not_pile_up() -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Hasty("hasty")]), clock=ManualClock()) as runtime:
            assert {await runtime.call("hasty", number) for number in range(100)} == {"usual"}
            assert len(agent(runtime, "hasty")._incarnation.deferrals.early) <= 1


async def test_what_a_failed_handling_has_answered_early_is_not_the_reply_of_the_next_one() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Hasty("hasty")]), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(runtime.call("hasty", "fail"))
            await clock.advance(0.1)
            assert not asked.done()
            assert await runtime.call("hasty", "settle") == [True]
            assert await asked == "late"


async def test_a_send_that_is_put_off_is_not_kept_since_nobody_waits_for_it() -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Hasty("hasty")]), clock=ManualClock()) as runtime:
            for _ in range(10):
                await runtime.send("hasty", "put off")
            await settle()
            assert len(agent(runtime, "hasty")._incarnation.deferrals) == 0
            assert agent(runtime, "hasty").status is ProcessStatus.RUNNING


# --- deadlines of the answered ----------------------------------------------------------------------------------------


async def test_answered_calls_with_an_hour_to_go_leave_little_behind_and_an_open_one_ends_in_time() -> None:
    clock = ManualClock()
    deadlines = Deadlines(clock, lambda _: None)

    def new(seconds: float) -> Delivery:
        message = Message(DEFAULT_TYPE, recipient="anybody", deadline=clock.now() + seconds)
        delivery = Delivery(message, asyncio.get_running_loop().create_future())
        deadlines.add(delivery)
        return delivery

    still_open = new(3650.0)
    for number in range(20 * SIFT_FROM):
        deadlines.discard(new(3600.0 + number / 100))
    assert len(deadlines._buckets) <= 2 * SIFT_FROM  # pyright: ignore[reportPrivateUsage]  # there is no other witness
    await clock.advance(3649.9)
    assert not still_open.finished
    await clock.advance(0.2)
    assert still_open.future is not None
    assert isinstance(still_open.future.exception(), DeadlineExceeded)
    deadlines.close()
