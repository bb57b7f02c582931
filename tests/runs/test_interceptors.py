"""Interceptors: what stands around a call, in which order, and what it may do to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from pydantic_core import to_json

from portico.errors import AgentError, Cancelled, ContractViolation
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation, route
from portico.runs.call import Call
from portico.runs.dispatcher import Dispatcher
from portico.runs.event import EventName

if TYPE_CHECKING:
    from portico.kernel.messages import Message
    from portico.runs.interceptor import Interceptor, Next
    from portico.runs.run import Run

pytestmark = pytest.mark.anyio


class Adder(AgentProcess):
    @operation
    async def add(self, a: int, b: int) -> int:
        return a + b


class Speaker(AgentProcess):
    @operation
    async def speak(self, words: str, ctx: Context) -> str:
        ctx.emit("said", words)
        return words


def noting(notes: list[str], name: str) -> Interceptor:
    async def note(call: Call, next: Next) -> Any:  # noqa: A002
        notes.append(f"{name} in")
        try:
            return await next(call)
        finally:
            notes.append(f"{name} out")

    return note


async def one_more(call: Call, next: Next) -> Any:  # noqa: A002
    call.put({**call.payload, "a": call.payload["a"] + 1})
    return await next(call)


async def refusing(call: Call, next: Next) -> Any:  # noqa: A002
    raise AgentError("not-today", "Come back tomorrow.", status=403)


async def answering(call: Call, next: Next) -> Any:  # noqa: A002
    return "cached"


def door_of(runtime: Runtime, *interceptors: Interceptor) -> Dispatcher:
    return Dispatcher(runtime, interceptors=interceptors)


def call(door: Dispatcher, agent: str = "adder", payload: Any = None) -> Call:
    given = {"a": 1, "b": 2} if payload is None else payload
    return Call(door.catalogue.find(agent), given, raw=to_json(given))


async def test_they_stand_around_an_ask_in_their_order_and_those_of_the_route_further_in() -> None:
    notes: list[str] = []

    class Routed(AgentProcess):
        @route("POST", "/add", interceptors=[noting(notes, "route")])
        @operation
        async def add(self, a: int, b: int) -> int:
            notes.append("handler")
            return a + b

    with anyio.fail_after(10):
        async with Runtime(Supervisor("root", [Routed("adder", expose=True)])) as runtime:
            door = door_of(runtime, noting(notes, "outer"), noting(notes, "inner"))
            assert (await door.ask(call(door))).payload == 3  # by the default route: no way around the route's own
    assert notes == ["outer in", "inner in", "route in", "handler", "route out", "inner out", "outer out"]


async def test_what_an_interceptor_puts_is_what_is_checked_and_handled() -> None:
    async def spoiling(call: Call, next: Next) -> Any:  # noqa: A002
        call.put({"a": "x"})
        return await next(call)

    with anyio.fail_after(10):
        async with Runtime(Supervisor("root", [Adder("adder")])) as runtime:
            assert (await (door := door_of(runtime, one_more)).ask(call(door))).payload == 4
            with pytest.raises(ContractViolation):
                await (door := door_of(runtime, spoiling)).ask(call(door))


@pytest.mark.parametrize("way", ["ask", "ask_regardless", "start", "submit"])
async def test_an_error_of_an_interceptor_is_the_call_s_and_nothing_is_handled(way: str) -> None:
    with anyio.fail_after(10):
        async with Runtime(Supervisor("root", [Adder("adder")])) as runtime:
            door = door_of(runtime, refusing)
            with pytest.raises(AgentError, match="tomorrow"):
                await getattr(door, way)(call(door))
            assert (len(door.book.plain), len(door.book.live)) == (0, 0)


async def test_an_interceptor_can_answer_itself() -> None:
    with anyio.fail_after(10):
        async with Runtime(Supervisor("root", [Adder("adder")])) as runtime:
            door = door_of(runtime, answering)
            assert (await door.ask(call(door))).payload == "cached"
            run = await door.start(call(door))
            assert (await run.outcome()).payload == "cached"


async def test_a_stream_begins_when_its_call_is_let_in_and_interceptors_see_its_end() -> None:
    notes: list[str] = []
    with anyio.fail_after(10):
        async with Runtime(Supervisor("root", [Speaker("speaker")])) as runtime:
            door = door_of(runtime, noting(notes, "one"))
            run = await door.start(call(door, "speaker", {"words": "hello"}))
            assert notes == ["one in"]
            assert [event.type async for event in run.follow()] == [EventName.STARTED, "said", EventName.SUCCEEDED]
            while notes[-1] != "one out":
                await anyio.lowlevel.checkpoint()


async def test_what_is_stored_passes_them_until_it_is_accepted() -> None:
    seen: list[Run] = []

    async def looking(call: Call, next: Next) -> Any:  # noqa: A002
        run: Run = await next(call)
        seen.append(run)
        return run

    with anyio.fail_after(10):
        async with Runtime(Supervisor("root", [Adder("adder")])) as runtime:
            door = door_of(runtime, one_more, looking)
            run = await door.submit(call(door))
            assert seen == [run]
            assert (await run.outcome()).payload == 4


async def test_an_ask_that_goes_on_regardless_is_handled_though_its_caller_is_cancelled() -> None:
    handled = anyio.Event()
    begun = anyio.Event()
    leave = anyio.Event()

    class Slow(AgentProcess):
        async def handle(self, message: Message) -> str:
            begun.set()
            await leave.wait()
            handled.set()
            return "done"

    with anyio.fail_after(10):
        async with Runtime(Supervisor("root", [Slow("slow")])) as runtime:
            door = door_of(runtime)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(door.ask_regardless, call(door, "slow", {}))
                await begun.wait()
                tasks.cancel_scope.cancel()
            leave.set()
            await handled.wait()


@pytest.mark.parametrize("way", ["ask_regardless", "start"])
async def test_who_waits_for_a_call_that_an_interceptor_cancels_learns_of_it(way: str) -> None:
    async def cancelling(call: Call, next: Next) -> Any:  # noqa: A002
        raise asyncio.CancelledError

    with anyio.fail_after(10):
        async with Runtime(Supervisor("root", [Adder("adder")])) as runtime:
            door = door_of(runtime, cancelling)
            with pytest.raises(Cancelled):
                await getattr(door, way)(call(door))
            assert (len(door.book.plain), door.in_flight) == (0, 0)


async def test_a_stream_whose_caller_leaves_while_an_interceptor_waits_is_never_begun() -> None:
    waits, ended = asyncio.Event(), asyncio.Event()

    async def waiting(call: Call, next: Next) -> Any:  # noqa: A002
        waits.set()
        try:
            await asyncio.Event().wait()
            return await next(call)
        finally:
            ended.set()

    with anyio.fail_after(10):
        async with Runtime(Supervisor("root", [Adder("adder")])) as runtime:
            door = door_of(runtime, waiting)
            async with anyio.create_task_group() as group:
                group.start_soon(door.start, call(door))
                await waits.wait()
                group.cancel_scope.cancel()
            await ended.wait()
            assert (len(door.book.plain), door.in_flight) == (0, 0)
