"""Ends that come by a detour: stores that fail for a moment, outcomes that are read in a later life."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import AgentCrashed, AgentError, StoreUnavailable
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.runtime import Runtime as KernelRuntime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.runs.call import Call
from portico.runs.commit import StoreCommit
from portico.runs.dispatcher import Dispatcher
from portico.runs.memory_store import MemoryRunStore
from portico.testing import ManualClock, settle
from portico.topology.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from portico.kernel.protocols import Lineage
    from portico.runs.run import Run
    from portico.runs.store import Change

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


class BoomError(Exception):
    """What crashes it."""


class Odd(AgentProcess):
    """Ends in odd ways."""

    @operation(errors={"sold-out": 418})
    async def refuse(self) -> None:
        raise AgentError("sold-out", "None left.", status=418, left=[0, None])

    @operation(idempotent=False)
    async def crash(self) -> None:
        raise BoomError

    @operation
    async def wait(self, ctx: Context) -> Any:
        return await ctx.wait_input("?", timeout=60, default="nobody")


def runtime_of(data: Path, **options: Any) -> Runtime:
    return Runtime(Supervisor("root", [Odd("odd")], backoff_base=0.0), data=data, **options)


async def begun(door: Dispatcher, name: str, **options: Any) -> Run:
    return await door.submit(Call(door.catalogue.find("odd", name), {}, **options))


class Moody(MemoryRunStore):
    """Fails when it is told to, later than at once."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Callable[[Exception | None], object]] | None = None

    def submit(
        self, changes: Sequence[Change], ended: Callable[[Exception | None], object], lineage: Lineage | None = None
    ) -> None:
        if self.held is not None:
            self.held.append(ended)
        else:
            super().submit(changes, ended, lineage)


async def test_a_wait_still_ends_in_time_though_an_answer_could_not_be_stored_just_then() -> None:
    clock, store = ManualClock(), Moody()
    runtime = KernelRuntime(Supervisor("root", [Odd("odd")], backoff_base=0.0), commit=StoreCommit(store), clock=clock)
    with anyio.fail_after(5):
        async with runtime:
            door = Dispatcher(runtime)
            run = await begun(door, "wait")
            await settle()
            assert run.status == "waiting"
            store.held = []
            async with asyncio.TaskGroup() as tasks:
                answering = tasks.create_task(_refused(door.book.answer(run, 1)))
                await settle()
                await clock.advance(61)
                held, store.held = store.held, None
                for ended in held:
                    ended(StoreUnavailable("for the test"))
            assert answering.result()
            assert run.status == "waiting"
            for _ in range(3):
                await clock.advance(61)
            assert run.output == "nobody"


async def _refused(answer: Any) -> bool:
    with pytest.raises(StoreUnavailable):
        await answer
    return True


@pytest.mark.parametrize("name", ["refuse", "crash"])
async def test_an_outcome_is_the_same_in_a_later_life_of_the_program(tmp_path: Path, name: str) -> None:
    outcomes: list[Any] = []
    with anyio.fail_after(10):
        for _ in range(3):
            async with runtime_of(tmp_path / "data") as runtime:
                door = Dispatcher(runtime)
                await door.recover()
                run = await begun(door, name, idempotency_key="k")
                await run.wait()
                error = run.error
                assert isinstance(error, AgentError | AgentCrashed)
                outcomes.append((type(error), error.slug, error.title, error.detail, error.extra, run.run_id, run.attempts))
    assert outcomes[0] == outcomes[1] == outcomes[2]


async def test_a_wait_goes_on_in_a_later_life_of_the_program(tmp_path: Path) -> None:
    clock = ManualClock()
    with anyio.fail_after(10):
        async with runtime_of(tmp_path / "data", clock=clock) as runtime:
            run = await begun(Dispatcher(runtime), "wait")
            while run.waiting is None:  # noqa: ASYNC110  # there is no event of it
                await asyncio.sleep(0.001)
        for answer in (None, "mine"):
            clock = ManualClock(epoch=clock.time() + 10)
            async with runtime_of(tmp_path / "data", clock=clock) as runtime:
                door = Dispatcher(runtime)
                await door.recover()
                again = await door.book.find(run.run_id, None)
                assert again.status == "waiting"
                if answer is not None:
                    await door.book.answer(again, answer)
                    assert (await again.outcome()).payload == "mine"
                    assert [event.seq async for event in again.follow()] == [1, 2, 3, 4]
