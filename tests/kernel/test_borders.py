"""The borders of user code: whatever it raises ends its own process, with all that belongs to it, and nothing else."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import AgentCrashed, DeadlineExceeded, LifecycleError
from portico.kernel.memory import MemoryCommit
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Echo, Fragile, Patient, agent, ask_from_outside

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from portico.kernel.messages import Message
    from portico.kernel.process import ErrorAction

pytestmark = pytest.mark.anyio


class PanicError(BaseException):
    """None of `Exception`: what a library may raise that wants to be caught by nobody."""


async def panic() -> None:
    raise PanicError


async def leave() -> None:
    sys.exit(3)


async def await_the_cancelled() -> None:
    cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    cancelled.cancel()
    await cancelled


def running(*children: AgentProcess, clock: ManualClock | None = None, **options: Any) -> Runtime:
    return Runtime(Supervisor("root", children, backoff_base=0.0), clock=clock or ManualClock(), **options)


# --- what is raised ---------------------------------------------------------------------------------------------------


class Panicky(AgentProcess):
    """Panics on the first `payload` deliveries of a message."""

    async def handle(self, message: Message) -> Any:
        if message.attempt < message.payload:
            await panic()
        return message.attempt


async def test_whatever_a_handler_raises_crashes_its_own_process_and_no_other() -> None:
    with anyio.fail_after(5):
        async with running(Panicky("panicky"), Patient("other")) as runtime, asyncio.TaskGroup() as callers:
            open_ask = callers.create_task(runtime.call("other", "fine"))
            await agent(runtime, "other").began.wait()
            with pytest.raises(AgentCrashed):
                await runtime.ask("panicky", 99)
            assert (await runtime.ask("panicky", 1)).payload == 1
            agent(runtime, "other").gate.set()
            assert await open_ask == "fine"
            assert runtime.alive


class Fault:
    """Goes wrong in one place, once, for all lives of a process."""

    def __init__(self, where: str, how: Callable[[], Awaitable[None]]) -> None:
        self.where = where
        self.how = how
        self.happened = False

    async def at(self, place: str) -> None:
        if place == self.where and not self.happened:
            self.happened = True
            await self.how()


class Faulty(AgentProcess):
    """Has its fault in a hook, or in a task of its own."""

    def __init__(self, name: str, fault: Fault, **options: Any) -> None:
        super().__init__(name, **options)
        self.fault = fault

    async def on_start(self) -> None:
        if self.id != f"{self.name}#1":
            await self.fault.at("on_start")

    async def on_suspend(self, reason: str) -> None:
        await self.fault.at("on_suspend")

    async def on_resume(self, approver: str) -> None:
        await self.fault.at("on_resume")

    async def on_error(self, error: Exception, message: Message) -> ErrorAction:
        await self.fault.at("on_error")
        return await super().on_error(error, message)

    async def on_stop(self) -> None:
        await self.fault.at("on_stop")

    async def handle(self, message: Message) -> Any:
        if message.payload == "crash":
            raise BoomError
        if message.payload == "task":
            self.start_task(self.fault.at("task"))
        return self.id


@pytest.mark.parametrize("how", [panic, leave, await_the_cancelled])
@pytest.mark.parametrize(
    ("where", "life"), [("task", 2), ("on_start", 3), ("on_suspend", 2), ("on_resume", 2), ("on_error", 2), ("on_stop", 2)]
)
async def test_whatever_a_hook_or_a_task_raises_ends_its_own_process_which_comes_back(
    where: str, life: int, how: Callable[[], Awaitable[None]]
) -> None:
    fault = Fault(where, how)
    with anyio.fail_after(5):
        async with running(Faulty("faulty", fault), Echo("other")) as runtime:
            if where in {"on_suspend", "on_resume"}:
                await runtime.suspend("faulty")
                await settle()
                await runtime.resume("faulty")
            else:
                await runtime.send("faulty", "task" if where == "task" else "crash")
            await settle()
            assert fault.happened
            assert await runtime.call("faulty", "hello") == f"faulty#{life}"
            assert await runtime.call("other", "hello") == "hello"


class Forlorn(AgentProcess):
    """Its handler crashes, and its `on_error` awaits something that was cancelled."""

    def __init__(self, name: str, attempts: list[int]) -> None:
        super().__init__(name)
        self.attempts = attempts

    async def on_error(self, error: Exception, message: Message) -> ErrorAction:
        await await_the_cancelled()
        return await super().on_error(error, message)

    async def handle(self, message: Message) -> Any:
        self.attempts.append(message.attempt)
        raise BoomError


async def test_a_stray_cancellation_in_on_error_pays_an_attempt_as_every_crash_does() -> None:
    attempts: list[int] = []
    root = Supervisor("root", [Forlorn("forlorn", attempts)], backoff_base=0.0, max_restarts=3)
    with anyio.fail_after(5):
        async with Runtime(root, clock=ManualClock()) as runtime:
            with pytest.raises(AgentCrashed):
                await runtime.ask("forlorn", "hello")
            assert attempts == [0, 1, 2, 3]
            assert runtime.alive


# --- tasks of its own: who pays ---------------------------------------------------------------------------------------


class Employer(AgentProcess):
    """Starts a task that fails, for each message."""

    async def handle(self, message: Message) -> Any:
        self.start_task(self.fail())
        return self.id

    async def fail(self) -> None:
        raise BoomError


async def test_tasks_that_an_outside_caller_lets_crash_take_no_supervisor_down() -> None:
    root = Supervisor("root", [Employer("employer")], backoff_base=0.0, max_restarts=2)
    with anyio.fail_after(5):
        async with Runtime(root, clock=ManualClock()) as runtime:
            for life in range(1, 7):
                assert (await ask_from_outside(runtime, "employer", "work")).payload == f"employer#{life}"
                await settle()
            assert runtime.alive


async def test_a_task_that_crashes_for_a_message_from_inside_counts() -> None:
    root = Supervisor("root", [Employer("employer")], backoff_base=0.0, max_restarts=2)
    with anyio.fail_after(5):
        async with Runtime(root, clock=ManualClock()) as runtime:
            for _ in range(3):
                assert runtime.alive
                await runtime.ask("employer", "work")
                await settle()
            assert not runtime.alive


# --- a store that is away ---------------------------------------------------------------------------------------------


class Flickering(MemoryCommit):
    """Cannot be read for the next `failures` times."""

    failures = 0

    async def load(self, name: str) -> dict[str, Any]:
        if self.failures:
            self.failures -= 1
            raise OSError("the store is away")
        return await super().load(name)


class Keeper(AgentProcess):
    """Its first life puts off, or crashes, having touched its state; every other one answers."""

    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__(name)
        self.log = log

    async def on_start(self) -> None:
        self.start_task(self.work(self.id))

    async def on_stop(self) -> None:
        self.log.append(f"on_stop {self.id}")

    async def work(self, life: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.log.append(f"task {life}")

    async def handle(self, message: Message) -> Any:
        self.state["n"] = 1
        if self.id != f"{self.name}#1":
            return self.id
        if message.payload == "defer":
            return self.defer()
        raise BoomError

    @operation(idempotent=False)
    async def pay(self) -> None:
        self.state["n"] = 1
        raise BoomError


async def test_a_roll_back_that_cannot_read_the_state_ends_the_life_in_order_and_loses_no_message() -> None:
    commit, log = Flickering(), list[str]()
    with anyio.fail_after(5):
        async with running(Keeper("keeper", log), commit=commit) as runtime, asyncio.TaskGroup() as callers:
            deferred = callers.create_task(runtime.call("keeper", "defer"))
            await settle()
            commit.failures = 1
            assert await runtime.call("keeper", "crash") == "keeper#2"
            assert await deferred == "keeper#2"
            assert log == ["on_stop keeper#1", "task keeper#1"]


async def test_a_roll_back_that_cannot_read_the_state_repeats_nothing_that_must_not_run_twice() -> None:
    commit = Flickering()
    with anyio.fail_after(5):
        async with running(Keeper("keeper", []), commit=commit) as runtime:
            commit.failures = 1
            with pytest.raises(AgentCrashed):
                await runtime.ask("keeper", None, message_type="pay")
            assert await runtime.call("keeper", "hello") == "keeper#2"


# --- the deaf ---------------------------------------------------------------------------------------------------------


class Stubborn(AgentProcess):
    """Ignores its cancellation until the test opens the gate; then it goes on as if nothing had happened."""

    def __init__(self, name: str, gate: asyncio.Event, log: list[str]) -> None:
        super().__init__(name, shutdown_timeout=1.0)
        self.gate = gate
        self.log = log

    async def on_start(self) -> None:
        self.start_task(self.work(self.id))

    async def work(self, life: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.log.append(f"task {life}")

    async def handle(self, message: Message) -> Any:
        if message.payload != "block" or self.id != f"{self.name}#1":
            return self.id
        while not self.gate.is_set():
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                continue
        for verb in (lambda: self.start_task(self.work("zombie")), lambda: self.monitor("other"), lambda: self.link("other")):
            try:
                verb()
            except LifecycleError:
                self.log.append("refused")
        return None


async def test_the_tasks_of_a_deaf_process_end_with_it_and_it_begins_nothing_any_more() -> None:
    clock, gate, log = ManualClock(), asyncio.Event(), list[str]()
    with anyio.fail_after(5):
        async with running(Stubborn("stubborn", gate, log), Echo("other"), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            blocked = callers.create_task(error_of(runtime.ask("stubborn", "block", timeout=1.0)))
            await clock.advance(1.1)
            assert isinstance(await blocked, DeadlineExceeded)
            assert log == []
            await clock.advance(1.1)
            assert log == ["task stubborn#1"]
            gate.set()
            await settle()
            assert log == ["task stubborn#1", "refused", "refused", "refused"]
            assert await runtime.call("stubborn", "hello") == "stubborn#2"


async def test_the_tasks_of_a_process_that_its_supervisor_gives_up_end_too() -> None:
    clock, gate, log = ManualClock(), asyncio.Event(), list[str]()
    group = [Fragile("other"), Stubborn("stubborn", gate, log)]
    root = Supervisor("root", group, strategy="one_for_all", backoff_base=0.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            blocked = callers.create_task(runtime.call("stubborn", "block"))
            await settle()
            await runtime.send("other", 1)
            await clock.advance(1.1)
            await clock.advance(1.1)
            assert await blocked == "stubborn#2"
            assert log == ["task stubborn#1"]
            gate.set()
            await settle()
            assert log == ["task stubborn#1", "refused", "refused", "refused"]


async def error_of(asked: Awaitable[Message]) -> Exception:
    with pytest.raises(Exception) as caught:  # which one, the caller asserts
        await asked
    return caught.value
