"""Blocking code: plain functions as handlers, and `run_blocking`. It runs in a thread and stalls nobody."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import AgentCrashed, AgentError, CallError, DeadlineExceeded
from portico.kernel.current import current
from portico.kernel.genserver import GenServer
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Echo, agent, ask_from_outside

if TYPE_CHECKING:
    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio

PATIENCE = 10.0
"""Seconds after which a thread that waits for another one gives up: a test that would hang fails instead."""


def quick(*children: AgentProcess | Supervisor, **options: Any) -> Supervisor:
    return Supervisor("root", list(children), backoff_base=0.0, **options)


class Awaiting(AgentProcess):
    """Calls a function by `run_blocking`."""

    async def handle(self, message: Message) -> Any:
        return await self.run_blocking(message.payload)


class Plain(AgentProcess):
    """Has a plain function as its handler."""

    def handle(self, message: Message) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # the subject
        return message.payload()


class PlainOperation(AgentProcess):
    """Has a plain function as its operation."""

    def __init__(self, name: str, function: Any = None) -> None:
        super().__init__(name)
        self.function = function

    @operation
    def work(self) -> Any:
        return self.function()


class PlainServer(GenServer):
    """Has plain functions as its callbacks."""

    def __init__(self, name: str, heard: list[Any] | None = None) -> None:
        super().__init__(name)
        self.heard = [] if heard is None else heard

    def handle_call(self, payload: Any, from_: Message) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # the subject
        return payload()

    def handle_cast(self, payload: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # the subject
        self.heard.append(("cast", payload, threading.current_thread().name))

    def handle_info(self, payload: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # the subject
        self.heard.append(("info", payload, threading.current_thread().name))


async def call(runtime: Runtime, name: str, function: Any, timeout: float = 20.0) -> Any:
    """Let that process call a function in whatever way it does."""
    process = agent(runtime, name)
    if isinstance(process, PlainOperation):
        process.function = function
        return (await runtime.ask(name, {}, timeout=timeout, message_type="work")).payload
    return (await runtime.ask(name, function, timeout=timeout)).payload


KINDS = [Awaiting, Plain, PlainOperation, PlainServer]


@pytest.mark.parametrize("kind", KINDS)
async def test_two_blocking_handlers_meet_so_neither_stalls_the_other(kind: type[AgentProcess]) -> None:
    barrier = threading.Barrier(2, timeout=PATIENCE)
    with anyio.fail_after(20):
        async with Runtime(quick(kind("a"), kind("b"))) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(call(runtime, name, barrier.wait)) for name in "ab"]
            assert sorted([await ask for ask in asks]) == [0, 1]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_blocking_handler_runs_in_another_thread_and_the_others_answer_meanwhile(kind: type[AgentProcess]) -> None:
    gate = threading.Event()

    def blocked() -> Any:
        gate.wait(PATIENCE)
        return threading.get_ident()

    with anyio.fail_after(20):
        async with Runtime(quick(kind("a"), Echo("e"))) as runtime, asyncio.TaskGroup() as callers:
            ask = callers.create_task(call(runtime, "a", blocked))
            for number in range(20):
                assert (await runtime.ask("e", number)).payload == number
            assert not ask.done()
            gate.set()
            assert await ask != threading.get_ident()


async def test_plain_casts_and_infos_run_in_a_thread_too() -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(PlainServer("s", heard))) as runtime:
            await runtime.cast("s", 1)
            agent(runtime, "s").send_after(0, 2)
            while len(heard) < 2:
                await runtime.call("s", lambda: True)
    assert sorted((kind, payload) for kind, payload, _ in heard) == [("cast", 1), ("info", 2)]
    assert all(name.startswith("portico-blocking") for _, _, name in heard)


async def test_a_plain_handler_handles_one_message_at_a_time() -> None:
    inside, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        with lock:
            inside -= 1

    def answer() -> bool:
        work()
        return True

    with anyio.fail_after(20):
        async with Runtime(quick(Plain("p"))) as runtime, asyncio.TaskGroup() as callers:
            for _ in range(30):
                callers.create_task(call(runtime, "p", answer))
    assert most == 1


async def test_a_plain_handler_has_its_state_and_it_is_kept() -> None:
    class Counter(AgentProcess):
        def handle(self, message: Message) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # the subject
            self.state["n"] = self.state.get("n", 0) + 1
            if message.payload == "crash":
                raise BoomError
            return self.state["n"]

    with anyio.fail_after(5):
        async with Runtime(quick(Counter("c"))) as runtime:
            assert (await runtime.ask("c", 1)).payload == 1
            await runtime.send("c", "crash")
            assert (await runtime.ask("c", 1)).payload == 2


# --- what reaches the thread ------------------------------------------------------------------------------------------


async def test_the_context_reaches_the_thread() -> None:
    told: list[Any] = []

    class Telling(AgentProcess):
        @operation
        def tell(self, ctx: Context) -> bool:
            told.append((ctx.principal, ctx.attempt, ctx.remaining(), threading.current_thread() is threading.main_thread()))
            ctx.progress(1, 2)  # outside any run it goes nowhere
            return True

    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(Telling("t")), clock=clock) as runtime:
            await ask_from_outside(runtime, "t", {}, timeout=7.0, message_type="tell")
    assert told == [("alice", 0, pytest.approx(7.0), False)]


@pytest.mark.parametrize("kind", [Awaiting, Plain])
async def test_what_a_thread_sees_as_current_is_its_own_message(kind: type[AgentProcess]) -> None:
    def mine() -> Any:
        delivery = current.get()
        return None if delivery is None else delivery.message.recipient

    with anyio.fail_after(5):
        async with Runtime(quick(*(kind(name) for name in "abc"))) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(call(runtime, name, mine)) for name in "abc"]
            assert [await ask for ask in asks] == ["a", "b", "c"]
    assert current.get() is None


async def test_what_a_thread_asks_inherits_the_deadline_and_the_origin() -> None:
    seen: list[Any] = []

    class Inner(AgentProcess):
        async def handle(self, message: Message) -> Any:
            seen.append((message.origin.principal if message.origin else None, self.context.remaining()))
            return "inner"

    class Outer(AgentProcess):
        async def on_start(self) -> None:
            self.loop = asyncio.get_running_loop()

        def handle(self, message: Message) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # the subject
            return asyncio.run_coroutine_threadsafe(self.ask("inner", 1, timeout=1000.0), self.loop).result(PATIENCE).payload

    clock = ManualClock()
    with anyio.fail_after(20):
        async with Runtime(quick(Inner("inner"), Outer("outer")), clock=clock) as runtime:
            reply = await ask_from_outside(runtime, "outer", 1, timeout=9.0)
            assert reply.payload == "inner"
    assert seen == [("alice", pytest.approx(9.0))]


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_an_exception_in_the_thread_is_the_handlers(kind: type[AgentProcess]) -> None:
    def crash() -> None:
        raise BoomError("in a thread")

    def refuse() -> None:
        raise AgentError("no", "Not today.")

    with anyio.fail_after(10):
        async with Runtime(quick(kind("a"), max_restarts=1)) as runtime:
            with pytest.raises(AgentError, match="Not today"):
                await call(runtime, "a", refuse)
            if kind is not PlainOperation:  # its function is gone after the restart
                with pytest.raises(AgentCrashed) as caught:
                    await call(runtime, "a", crash)
                assert isinstance(caught.value.cause, BoomError)
                assert await call(runtime, "a", lambda: "alive") == "alive"


@pytest.mark.parametrize("kind", [Awaiting, Plain])
@pytest.mark.parametrize("error", [StopIteration, SystemExit, asyncio.CancelledError, TimeoutError])
async def test_an_unusual_exception_in_the_thread_ends_the_call_as_any_other(
    kind: type[AgentProcess], error: type[BaseException]
) -> None:
    def crash() -> None:
        raise error

    with anyio.fail_after(10):
        async with Runtime(quick(kind("a"), max_restarts=0)) as runtime:
            ended = await outcome(call_from_outside(runtime, "a", crash, 2.0))
            assert ended == "AgentCrashed"
            assert await outcome(call_from_outside(runtime, "a", lambda: "alive", 2.0)) == "alive"


async def call_from_outside(runtime: Runtime, name: str, function: Any, timeout: float) -> Any:
    return (await ask_from_outside(runtime, name, function, timeout)).payload


async def outcome(doing: Any) -> Any:
    try:
        return await doing
    except CallError as error:
        return type(error).__name__


async def test_a_caller_that_leaves_leaves_the_thread_and_the_process_goes_on() -> None:
    began, gate, ended = threading.Event(), threading.Event(), threading.Event()

    def blocked() -> str:
        began.set()
        gate.wait(PATIENCE)
        ended.set()
        return "unheeded"

    with anyio.fail_after(20):
        async with Runtime(quick(Awaiting("a"))) as runtime, asyncio.TaskGroup() as callers:
            ask = callers.create_task(call(runtime, "a", blocked))
            await anyio.to_thread.run_sync(began.wait, PATIENCE)
            ask.cancel()
            await settle()
            assert await call(runtime, "a", lambda: "next") == "next"
            assert not ended.is_set()
            gate.set()
            assert await anyio.to_thread.run_sync(ended.wait, PATIENCE)
            assert await call(runtime, "a", lambda: "still there") == "still there"
            assert agent(runtime, "a").id == "a#1"


@pytest.mark.parametrize("kind", [Plain, PlainOperation, PlainServer])
async def test_what_a_cancelled_plain_handler_still_does_never_meets_the_next_message(kind: type[AgentProcess]) -> None:
    began, gate, order = threading.Event(), threading.Event(), list[str]()

    def blocked() -> str:
        began.set()
        gate.wait(PATIENCE)
        order.append("the cancelled one")
        return "unheeded"

    def following() -> str:
        order.append("the next one")
        return "next"

    with anyio.fail_after(20):
        async with Runtime(quick(kind("a"))) as runtime, asyncio.TaskGroup() as callers:
            ask = callers.create_task(call(runtime, "a", blocked))
            await anyio.to_thread.run_sync(began.wait, PATIENCE)
            ask.cancel()
            await settle()
            next_one = callers.create_task(call(runtime, "a", following))
            await settle()
            assert order == []
            gate.set()
            assert await next_one == "next"
            assert order == ["the cancelled one", "the next one"]
            assert agent(runtime, "a").id == "a#1"


async def test_a_plain_handler_that_outlasts_its_cancellation_is_deaf_and_the_next_life_answers() -> None:
    gate = threading.Event()
    with anyio.fail_after(20):
        async with Runtime(quick(Plain("p").adjust(shutdown_timeout=0.05))) as runtime:
            with pytest.raises(DeadlineExceeded):
                await call(runtime, "p", lambda: gate.wait(PATIENCE), 0.05)
            assert await call(runtime, "p", lambda: "next") == "next"
            assert agent(runtime, "p").id == "p#2"
            gate.set()


async def test_the_handle_of_a_run_can_be_used_in_the_thread_of_a_plain_handler() -> None:
    class Telling(AgentProcess):
        def handle(self, message: Message) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # the subject
            ctx = self.context
            ctx.emit("seen", message.payload)
            return [ctx.attempt, ctx.cancelled]

    with anyio.fail_after(20):
        async with Runtime(quick(Telling("t"))) as runtime:
            assert (await runtime.ask("t", 1)).payload == [0, False]


async def test_a_blocking_handler_meets_its_deadline() -> None:
    gate = threading.Event()
    with anyio.fail_after(20):
        async with Runtime(quick(Plain("p"))) as runtime:
            with pytest.raises(DeadlineExceeded):
                await call(runtime, "p", lambda: gate.wait(PATIENCE), 0.05)
            gate.set()
            assert await call(runtime, "p", lambda: "next") == "next"


@pytest.mark.parametrize("kind", KINDS)
async def test_forty_at_once_all_run(kind: type[AgentProcess]) -> None:
    barrier = threading.Barrier(40, timeout=PATIENCE)
    with anyio.fail_after(20):
        async with Runtime(quick(*(kind(f"a{number}") for number in range(40)))) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(call(runtime, f"a{number}", barrier.wait)) for number in range(40)]
            assert sorted([await ask for ask in asks]) == list(range(40))


async def test_more_than_there_are_threads_wait_and_all_end() -> None:
    with anyio.fail_after(20):
        async with Runtime(quick(Awaiting("a", concurrency=150))) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(call(runtime, "a", lambda number=number: number)) for number in range(150)]
            assert [await ask for ask in asks] == list(range(150))


async def test_stopping_the_runtime_does_not_wait_for_a_thread() -> None:
    began, gate = threading.Event(), threading.Event()

    def blocked() -> None:
        began.set()
        gate.wait(PATIENCE)

    with anyio.fail_after(5):
        runtime = Runtime(quick(Plain("p", shutdown_timeout=0.05)))
        await runtime.start()
        async with asyncio.TaskGroup() as callers:
            ask = callers.create_task(outcome(call(runtime, "p", blocked)))
            await anyio.to_thread.run_sync(began.wait, PATIENCE)
            await runtime.stop()
            assert await ask == "ProcessExited"
    gate.set()


async def test_a_runtime_that_is_started_again_has_threads_again() -> None:
    runtime = Runtime(quick(Plain("p")))
    with anyio.fail_after(5):
        for _ in range(2):
            async with runtime:
                assert await call(runtime, "p", lambda: 1) == 1


async def test_arguments_reach_the_function() -> None:
    class Calling(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return await self.run_blocking(sorted, message.payload, key=abs, reverse=True)

    with anyio.fail_after(5):
        async with Runtime(quick(Calling("c"))) as runtime:
            assert (await runtime.ask("c", [1, -3, 2])).payload == [-3, 2, 1]


async def test_a_subclass_may_turn_a_plain_handler_into_an_async_one_and_back() -> None:
    class Async(Plain):
        async def handle(self, message: Message) -> Any:
            return threading.current_thread() is threading.main_thread()

    class Again(Async):
        def handle(self, message: Message) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # the subject
            return threading.current_thread() is threading.main_thread()

    with anyio.fail_after(5):
        async with Runtime(quick(Async("a"), Again("b"))) as runtime:
            assert (await runtime.ask("a", 1)).payload is True
            assert (await runtime.ask("b", 1)).payload is False
