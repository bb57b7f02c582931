"""GenServer: calls, casts, infos, timers and replies that come later."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from portico.errors import AgentCrashed, NoReply, UnknownOperation
from portico.kernel.genserver import GenServer
from portico.kernel.messages import Message
from portico.kernel.process import ErrorAction
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, agent

pytestmark = pytest.mark.anyio


class Counter(GenServer):
    """Counts casts and infos; a call tells both."""

    async def init(self) -> None:
        self.casts: list[Any] = []
        self.infos: list[Any] = []

    async def handle_call(self, payload: Any, from_: Message) -> Any:
        match payload:
            case {"after": milliseconds}:
                self.send_after(milliseconds, "tick")
            case "crash":
                raise BoomError
            case _:
                pass
        return {"casts": self.casts, "infos": self.infos}

    async def handle_cast(self, payload: Any) -> None:
        self.casts.append(payload)

    async def handle_info(self, payload: Any) -> None:
        self.infos.append(payload)


def runtime_of(server: GenServer, clock: ManualClock | None = None) -> Runtime:
    return Runtime(Supervisor("root", [server], backoff_base=0.0), clock=clock)


async def test_calls_casts_and_infos_come_to_their_three_methods() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Counter("s")) as runtime:
            await runtime.cast("s", 1)
            await runtime.send("s", 2)  # any other send is a cast
            await runtime.send("s", 3, "info")
            assert await runtime.call("s", None) == {"casts": [1, 2], "infos": [3]}


async def test_send_after_comes_as_an_info_when_its_milliseconds_have_passed() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with runtime_of(Counter("s"), clock) as runtime:
            await runtime.call("s", {"after": 1500})
            await clock.advance(1.4)
            assert agent(runtime, "s").infos == []
            await clock.advance(0.1)
            assert agent(runtime, "s").infos == ["tick"]


async def test_a_timer_does_not_outlive_its_incarnation() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with runtime_of(Counter("s"), clock) as runtime:
            await runtime.call("s", {"after": 1000})
            await runtime.restart_agent("s")
            await clock.advance(2.0)
            assert agent(runtime, "s").infos == []


async def test_a_timer_that_finds_a_full_mailbox_waits_for_room_and_crashes_nobody() -> None:
    release = asyncio.Event()

    class Stalled(Counter):
        async def handle_cast(self, payload: Any) -> None:
            await release.wait()

    clock = ManualClock()
    with anyio.fail_after(5):
        async with runtime_of(Stalled("s", mailbox_size=1), clock) as runtime:
            await runtime.call("s", {"after": 1000})
            await runtime.cast("s", "in hand")
            await settle()
            await runtime.cast("s", "fills the mailbox")
            await clock.advance(1.0)
            release.set()
            await clock.advance(1.0)
            assert agent(runtime, "s").infos == ["tick"]
            assert agent(runtime, "s").id == "s#1"


async def test_a_server_that_overrides_nothing_says_so() -> None:
    with anyio.fail_after(5):
        async with runtime_of(GenServer("s")) as runtime:
            with pytest.raises(UnknownOperation, match="Agent 's' has no operation 'call'"):
                await runtime.call("s", None)
            await runtime.cast("s", None)
            await runtime.send("s", None, "info")
            await settle()
            assert agent(runtime, "s").id == "s#1"


async def test_an_ask_of_a_cast_gets_no_reply_but_is_told_so() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Counter("s")) as runtime:
            with pytest.raises(NoReply):
                await runtime.ask("s", 1, message_type="cast")


class Deferring(GenServer):
    """Keeps its callers waiting until somebody says `open`."""

    async def init(self) -> None:
        self.waiting: list[Message] = []

    async def handle_call(self, payload: Any, from_: Message) -> Any:
        match payload:
            case "open":
                for message in self.waiting:
                    self.reply_to(message, f"{message.payload} from {self.id}")
                return len(self.waiting)
            case "crash":
                raise BoomError
            case "stop":
                raise ValueError
            case _:
                self.waiting.append(from_)
                return self.defer()

    async def on_error(self, error: Exception, message: Message) -> ErrorAction:
        return ErrorAction.STOP if isinstance(error, ValueError) else ErrorAction.ESCALATE

    @operation(idempotent=False)
    async def once(self, message: Message) -> Any:
        self.state["handled"] = self.state.get("handled", 0) + 1
        return self.defer()


async def test_a_deferred_reply_comes_when_the_server_gives_it_and_others_are_served_meanwhile() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Deferring("s")) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(runtime.call("s", name)) for name in ("a", "b")]
            await settle()
            assert not any(ask.done() for ask in asks)
            assert await runtime.call("s", "open") == 2
            assert [await ask for ask in asks] == ["a from s#1", "b from s#1"]


async def test_deferred_asks_survive_a_crash_in_their_order() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Deferring("s")) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(runtime.call("s", name)) for name in ("a", "b", "c")]
            await settle()
            await runtime.send("s", None)  # handle_cast is not overridden: refused, not a crash
            crashing = callers.create_task(expect_crash(runtime))
            await settle()
            await crashing
            waiting = [message.payload for message in agent(runtime, "s").waiting]
            assert waiting == ["a", "b", "c"]
            await runtime.call("s", "open")
            assert [await ask for ask in asks] == [f"{name} from s#5" for name in ("a", "b", "c")]


async def expect_crash(runtime: Runtime) -> None:
    with pytest.raises(AgentCrashed):
        await runtime.call("s", "crash")


async def test_a_deferred_operation_that_is_not_idempotent_is_not_delivered_again() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Deferring("s")) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(expect_crash_of_once(runtime))
            await settle()
            await expect_crash(runtime)
            await asked
            await settle()
            assert agent(runtime, "s").state == {"handled": 1}


async def expect_crash_of_once(runtime: Runtime) -> None:
    with pytest.raises(AgentCrashed):
        await runtime.ask("s", None, message_type="once")


async def test_an_operation_with_a_reply_type_can_defer_too() -> None:
    class Typed(Deferring):
        @operation
        async def later(self, message: Message) -> int:
            self.waiting.append(message)
            return self.defer()

    with anyio.fail_after(5):
        async with runtime_of(Typed("s")) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(runtime.ask("s", 5, message_type="later"))
            await settle()
            await runtime.call("s", "open")
            assert (await asked).payload == "5 from s#1"


async def test_deferred_asks_of_a_server_that_ends_normally_get_an_answer() -> None:
    with anyio.fail_after(5):
        server = Deferring("s", restart="transient")
        async with runtime_of(server) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(expect_no_reply(runtime))
            await settle()
            with pytest.raises(AgentCrashed):
                await runtime.call("s", "stop")
            await asked


async def expect_no_reply(runtime: Runtime) -> None:
    with pytest.raises(NoReply):
        await runtime.call("s", "a")


async def test_a_reply_to_somebody_who_left_does_nothing() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Deferring("s")) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(runtime.call("s", "a"))
            await settle()
            asked.cancel()
            await settle()
            assert await runtime.call("s", "open") == 1
