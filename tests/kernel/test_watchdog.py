"""The watchdog: what blocks the event loop is named. Here handlers block on purpose: that is the subject."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.events import EventKind
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.testing import settle
from tests.kernel.helpers import BoomError, Echo

if TYPE_CHECKING:
    from portico.kernel.events import KernelEvent
    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio

LIMIT = 0.05
"""Seconds that these runtimes' loops may stand still."""

BLOCKED = 0.4
"""Seconds that a culprit here blocks: the watchdog is sure to have looked by then."""

GENEROUS = 1.0
"""A limit that a loop keeps which is not blocked, also on a busy machine."""


def block() -> None:
    time.sleep(BLOCKED)


class Blocking(AgentProcess):
    """Blocks the loop in one of many ways."""

    async def handle(self, message: Message) -> Any:
        match message.payload:
            case "itself":
                time.sleep(BLOCKED)  # noqa: ASYNC251  # the subject
            case "deeper":
                block()
            case "busy":
                until = time.monotonic() + BLOCKED
                while time.monotonic() < until:
                    pass
            case "awaited":
                await self.helper()
            case "task":
                self.start_task(self.task())
            case "crash":
                time.sleep(BLOCKED)  # noqa: ASYNC251  # the subject
                raise BoomError
            case _:
                await self.run_blocking(time.sleep, BLOCKED)
        return True

    async def helper(self) -> None:
        await asyncio.sleep(0)
        block()

    async def task(self) -> None:
        time.sleep(BLOCKED)  # noqa: ASYNC251  # the subject

    @operation
    async def work(self) -> bool:
        time.sleep(BLOCKED)  # noqa: ASYNC251  # the subject
        return True


class BlockingStart(AgentProcess):
    """Blocks while it starts."""

    async def on_start(self) -> None:
        time.sleep(BLOCKED)  # noqa: ASYNC251  # the subject


class Listener:
    """An observer that lets a test wait for what the watchdog tells."""

    def __init__(self) -> None:
        self.told: list[KernelEvent] = []
        self.event_came = asyncio.Event()

    def event(self, event: KernelEvent) -> None:
        if event.kind is EventKind.PROCESS_BLOCKING:
            self.told.append(event)
            self.event_came.set()

    def handling(self, message: Message) -> None:
        return None


def watched(listener: Listener, *children: AgentProcess, limit: float | None = LIMIT) -> Runtime:
    return Runtime(Supervisor("root", list(children), backoff_base=0.0), observers=[listener], watchdog=limit)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "portico-watchdog"]


@pytest.mark.parametrize(
    ("payload", "kind", "handler"),
    [
        ("itself", "message", "Blocking.handle"),
        ("deeper", "message", "Blocking.handle"),
        ("busy", "message", "Blocking.handle"),
        ("awaited", "message", "Blocking.handle"),
        ({}, "work", "Blocking.work"),
    ],
)
async def test_a_handler_that_blocks_is_told_and_logged_with_its_process_and_name(
    payload: Any, kind: str, handler: str, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Listener()
    with anyio.fail_after(10), caplog.at_level(logging.WARNING, logger="portico.kernel"):
        async with Runtime(Supervisor("root", [Blocking("warm")]), watchdog=None) as runtime:
            await runtime.ask("warm", {}, message_type="work")  # the first call of an operation loads pydantic, which takes a while
        async with watched(listener, Echo("e"), Blocking("b")) as runtime:
            assert (await runtime.ask("b", payload, message_type=kind)).payload is True
            await listener.event_came.wait()
    event = listener.told[0]
    assert event.name == "b"
    assert f".{handler} (" in f".{event.data['handler']}"
    assert "test_watchdog" in event.data["handler"]
    assert event.data["seconds"] >= LIMIT
    assert "test_watchdog.py" in event.data["stack"]
    assert any("'b'" in text and handler in text for text in caplog.messages)


async def test_where_code_that_the_handler_called_blocks_the_stack_says_which() -> None:
    listener = Listener()
    with anyio.fail_after(10):
        async with watched(listener, Blocking("b")) as runtime:
            await runtime.ask("b", "deeper")
            await listener.event_came.wait()
    assert "in block" in listener.told[0].data["stack"]


async def test_one_of_several_hands_that_blocks_is_told() -> None:
    listener = Listener()
    with anyio.fail_after(10):
        async with watched(listener, Blocking("b", concurrency=3)) as runtime:
            await runtime.ask("b", "itself")
            await listener.event_came.wait()
    assert listener.told[0].name == "b"
    assert "Blocking.handle" in listener.told[0].data["handler"]


async def test_a_handler_that_crashes_after_it_has_blocked_is_told_too() -> None:
    listener = Listener()
    with anyio.fail_after(10):
        async with watched(listener, Blocking("b")) as runtime:
            await runtime.send("b", "crash")
            await listener.event_came.wait()
    assert listener.told[0].name == "b"


async def test_a_start_that_blocks_while_the_others_work_is_told_with_its_name() -> None:
    listener = Listener()
    with anyio.fail_after(10):
        root = Supervisor("root", [DynamicSupervisor("pool"), Echo("e")])
        async with Runtime(root, observers=[listener], watchdog=LIMIT) as runtime:
            await runtime.spawn("pool", BlockingStart, "s")
            await listener.event_came.wait()
    assert "BlockingStart.on_start" in listener.told[0].data["handler"]


async def test_what_blocks_while_the_whole_tree_starts_is_not_told() -> None:
    """A start may import whole libraries, and nobody is served yet who could be stalled."""
    listener = Listener()
    with anyio.fail_after(10):
        async with watched(listener, BlockingStart("s"), Blocking("b")) as runtime:
            await runtime.ask("b", "itself")
            await listener.event_came.wait()
    assert listener.told[0].name == "b"


async def test_a_task_of_a_process_that_blocks_is_told_with_its_name() -> None:
    listener = Listener()
    with anyio.fail_after(10):
        async with watched(listener, Blocking("b")) as runtime:
            await runtime.ask("b", "task")
            await listener.event_came.wait()
    assert "Blocking.task" in listener.told[0].data["handler"]


async def test_code_outside_any_process_that_blocks_is_told_as_nobodys() -> None:
    listener = Listener()
    with anyio.fail_after(10):
        async with watched(listener, Echo("e")):
            block()
            await listener.event_came.wait()
    event = listener.told[0]
    assert event.name == ""
    assert ".block (" in event.data["handler"]


async def test_blocking_twice_is_told_twice() -> None:
    listener = Listener()
    with anyio.fail_after(10):
        async with watched(listener, Blocking("b"), Blocking("c")) as runtime:
            for name in "bc":
                listener.event_came.clear()
                await runtime.ask(name, "itself")
                await listener.event_came.wait()
    told = [event.name for event in listener.told if event.name]
    assert told == ["b", "c"]


async def test_the_bus_tells_it_too() -> None:
    runtime = watched(Listener(), Blocking("b"))
    with anyio.fail_after(10):
        async with runtime.router.bus.subscribe("process.blocking") as events, runtime:
            await runtime.ask("b", "itself")
            published = await anext(events)
    assert published.data.name == "b"


async def test_nothing_is_told_where_nothing_blocks() -> None:
    listener = Listener()
    with anyio.fail_after(20):
        async with watched(listener, Blocking("b"), Echo("e"), limit=GENEROUS) as runtime, asyncio.TaskGroup() as tasks:
            blocking = [tasks.create_task(runtime.ask("b", "a thread")) for _ in range(5)]
            while not all(task.done() for task in blocking):
                await runtime.ask("e", 1)
                await settle()
    assert listener.told == []


async def test_what_blocks_for_less_than_the_limit_is_not_told() -> None:
    listener = Listener()
    with anyio.fail_after(20):
        async with watched(listener, Blocking("b"), limit=BLOCKED * 6) as runtime:
            await runtime.ask("b", "itself")
            await runtime.ask("b", "a thread")
    assert listener.told == []


async def test_no_thread_watches_where_none_is_wanted() -> None:
    before = set(threads())
    async with watched(Listener(), Blocking("b"), limit=None):
        assert set(threads()) <= before


async def test_the_thread_ends_with_the_runtime_and_there_is_another_for_the_next_start() -> None:
    runtime = watched(Listener(), Echo("e"))
    before = set(threads())
    for _ in range(2):
        async with runtime:
            (own,) = set(threads()) - before
        await anyio.to_thread.run_sync(own.join, 5.0)
        assert not own.is_alive()


async def test_the_thread_ends_with_a_runtime_that_did_not_start() -> None:
    class Failing(AgentProcess):
        async def on_start(self) -> None:
            raise BoomError

    before = set(threads())
    with pytest.raises(Exception, match="BoomError"):
        await watched(Listener(), Failing("f")).start()
    for thread in set(threads()) - before:
        await anyio.to_thread.run_sync(thread.join, 5.0)
        assert not thread.is_alive()


async def test_the_thread_ends_with_its_loop_though_nobody_stopped_the_runtime() -> None:
    before = set(threads())
    found: list[threading.Thread] = []

    async def leave() -> None:
        await watched(Listener(), Echo("e")).start()
        found.extend(set(threads()) - before)

    await anyio.to_thread.run_sync(lambda: asyncio.run(leave()))
    (own,) = found
    await anyio.to_thread.run_sync(own.join, 5.0)
    assert not own.is_alive()


async def test_of_two_runtimes_both_tell_and_only_the_culprits_own_names_its_process() -> None:
    mine, other = Listener(), Listener()
    with anyio.fail_after(10):
        async with watched(mine, Blocking("b")) as runtime, watched(other, Echo("b")):
            await runtime.ask("b", "itself")
            await mine.event_came.wait()
            await other.event_came.wait()
    assert mine.told[0].name == "b"
    assert "Blocking.handle" in mine.told[0].data["handler"]
    assert "Blocking.handle" in other.told[0].data["handler"]
    assert other.told[0].name == ""  # its own process `b` is innocent


async def test_two_runtimes_in_two_threads_are_watched_each_for_itself() -> None:
    told: dict[str, list[str]] = {}

    async def run(name: str, *, blocks: bool) -> None:
        listener = Listener()
        async with watched(listener, Blocking(name), limit=LIMIT if blocks else GENEROUS) as runtime:
            await runtime.ask(name, "itself" if blocks else "a thread")
            if blocks:
                await listener.event_came.wait()
        told[name] = [event.name for event in listener.told]

    with anyio.fail_after(20):
        async with asyncio.TaskGroup() as tasks:
            for name, blocks in (("blocks", True), ("does-not", False)):
                tasks.create_task(
                    anyio.to_thread.run_sync(lambda name=name, blocks=blocks: asyncio.run(run(name, blocks=blocks)))  # pyright: ignore[reportArgumentType]  # a coroutine it is
                )
    assert told["blocks"][0] == "blocks"
    assert told["does-not"] == []


async def test_a_runtime_that_is_stopped_while_its_loop_is_blocked_stops() -> None:
    class BlockingStop(AgentProcess):
        async def on_stop(self) -> None:
            time.sleep(BLOCKED)  # noqa: ASYNC251  # the subject

    before = set(threads())
    with anyio.fail_after(10):
        async with watched(Listener(), BlockingStop("s")):
            (own,) = set(threads()) - before
        await anyio.to_thread.run_sync(own.join, 5.0)
    assert not own.is_alive()
