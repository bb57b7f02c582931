"""Crash charges: a caller pays for the crash that its call has caused, however the call ended; and for nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from portico.errors import AgentError, CrashBudgetSpent, DeadlineExceeded
from portico.kernel.process import AgentProcess, ErrorAction
from portico.kernel.protocols import Context
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.runs.call import Call
from portico.runs.dispatcher import Dispatcher
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError

pytestmark = pytest.mark.anyio

LIMIT = 10
"""Crashes that a caller has within a minute."""


class Worker(AgentProcess):
    """Crashes, hangs, or both, one after the other."""

    retry_delay = 0.0

    async def on_error(self, error: Exception, message: Any) -> ErrorAction:
        return ErrorAction.RETRY if message.type == "crash_less" else ErrorAction.ESCALATE

    @operation
    async def crash(self) -> None:
        raise BoomError

    @operation
    async def crash_then_hang(self, ctx: Context) -> None:
        if ctx.attempt == 0:
            raise BoomError
        await asyncio.Event().wait()

    @operation
    async def hang(self) -> None:
        await asyncio.Event().wait()

    @operation
    async def crash_less(self, ctx: Context) -> None:
        if ctx.attempt == 0:
            raise BoomError
        raise AgentError("no", "Not today.")

    @operation
    async def fine(self) -> str:
        return "fine"


class Scene:
    """A worker behind the door, on a clock that stands still."""

    def __init__(self, backoff: float = 0.0) -> None:
        self.clock = ManualClock()
        root = Supervisor("root", [Worker("worker")], backoff="constant", backoff_base=backoff)
        self.runtime = Runtime(root, clock=self.clock)
        self.door = Dispatcher(self.runtime)

    async def ask(self, name: str, principal: str = "eve", timeout: float | None = None) -> Any:
        endpoint = self.door.catalogue.find("worker", name)
        return (await self.door.ask(Call(endpoint, None, principal=principal, timeout=timeout))).payload

    async def ask_and_leave(self, name: str) -> None:
        async with asyncio.TaskGroup() as callers:
            asked = callers.create_task(self.ask(name))
            await settle()
            asked.cancel()


async def test_who_leaves_after_its_call_has_crashed_the_agent_pays_for_it() -> None:
    scene = Scene(backoff=1.0)
    with anyio.fail_after(5):
        async with scene.runtime:
            for _ in range(LIMIT):
                await scene.ask_and_leave("crash")
                await scene.clock.advance(1.0)
            with pytest.raises(CrashBudgetSpent):
                await scene.ask("fine")
            assert await scene.ask("fine", principal="alice") == "fine"


async def test_whose_call_crashed_the_agent_and_ran_out_of_time_then_pays_for_it() -> None:
    scene = Scene()
    with anyio.fail_after(5):
        async with scene.runtime, asyncio.TaskGroup() as callers:
            for _ in range(LIMIT):
                asked = callers.create_task(out_of_time(scene.ask("crash_then_hang", timeout=1.0)))
                await scene.clock.advance(1.1)
                await asked
            with pytest.raises(CrashBudgetSpent):
                await scene.ask("fine")


async def test_who_leaves_or_runs_out_of_time_without_a_crash_pays_nothing() -> None:
    scene = Scene()
    with anyio.fail_after(5):
        async with scene.runtime, asyncio.TaskGroup() as callers:
            for _ in range(LIMIT + 1):
                await scene.ask_and_leave("hang")
                asked = callers.create_task(out_of_time(scene.ask("hang", timeout=1.0)))
                await scene.clock.advance(1.1)
                await asked
            assert await scene.ask("fine") == "fine"


async def test_an_error_that_the_agent_got_over_by_itself_costs_the_caller_nothing() -> None:
    scene = Scene()
    with anyio.fail_after(5):
        async with scene.runtime, asyncio.TaskGroup() as callers:
            for _ in range(LIMIT + 1):
                asked = callers.create_task(refused(scene.ask("crash_less")))
                await scene.clock.advance(0.1)
                await asked
            assert await scene.ask("fine") == "fine"


async def out_of_time(asked: Any) -> None:
    with pytest.raises(DeadlineExceeded):
        await asked


async def refused(asked: Any) -> None:
    with pytest.raises(AgentError):
        await asked
