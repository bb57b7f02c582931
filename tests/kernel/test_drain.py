"""Draining: nothing new is taken, what waits is handled, then the process stands suspended; crashes do not end it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import AgentDraining, CallError, Suspended, UnknownAgent
from portico.kernel.events import EventKind
from portico.kernel.keyed import keyed
from portico.kernel.pool import pool
from portico.kernel.process import DEFERRED, AgentProcess, ErrorAction
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Echo, Patient, Witness, agent

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio


class Gated(AgentProcess):
    """Handles when the test says so; what it has handled is the test's own list."""

    def __init__(self, name: str, gate: asyncio.Event, handled: list[Any], **options: Any) -> None:
        super().__init__(name, **options)
        self.gate, self.handled = gate, handled

    async def handle(self, message: Message) -> Any:
        await self.gate.wait()
        if message.payload == "crash" and message.attempt == 0:
            raise BoomError("on purpose")
        self.handled.append(message.payload)
        return self.id


def quick(*children: AgentProcess | Supervisor) -> Supervisor:
    return Supervisor("root", list(children), backoff_base=0.0)


async def suspended(runtime: Runtime, name: str) -> None:
    """Until it stands suspended."""
    box = runtime.registry.lookup(name)
    async with runtime.subscribe("process.status") as events:
        while box.suspended is None:
            await anext(events)


async def test_what_waits_is_handled_and_nothing_new_is_taken_then_it_stands_suspended() -> None:
    gate, handled, witness = asyncio.Event(), list[Any](), Witness()
    with anyio.fail_after(5):
        async with Runtime(quick(Gated("w", gate, handled)), observers=[witness]) as runtime, asyncio.TaskGroup() as group:
            asks = [group.create_task(runtime.ask("w", number)) for number in range(3)]
            await settle()
            await runtime.send("w", "sent")
            await runtime.drain("w", "a new version")
            with pytest.raises(AgentDraining, match="'w' is being drained and takes no new calls: a new version") as caught:
                await runtime.ask("w", "late")
            with pytest.raises(AgentDraining):
                await runtime.send("w", "late")
            assert caught.value.retry_after >= 1
            assert runtime.registry.lookup("w").intake == "draining"
            gate.set()
            await suspended(runtime, "w")
            assert [(await ask).payload for ask in asks] == ["w#1"] * 3
            assert handled == [0, 1, 2, "sent"]
            with pytest.raises(Suspended, match="a new version"):
                await runtime.ask("w", "later")
            await runtime.resume("w")
            assert (await runtime.ask("w", "again")).payload == "w#1"
    assert witness.names(EventKind.PROCESS_DRAINING) == ["w"]


async def test_a_process_that_has_nothing_to_do_is_suspended_at_once_and_twice_is_no_more_than_once() -> None:
    witness = Witness()
    with anyio.fail_after(5):
        async with Runtime(quick(Echo("e")), observers=[witness]) as runtime:
            await runtime.drain("e", "first")
            await runtime.drain("e", "second")
            assert runtime.registry.lookup("e").suspended == "first"
            assert agent(runtime, "e").status == "suspended"
            with pytest.raises(UnknownAgent):
                await runtime.drain("nobody")
    assert witness.names(EventKind.PROCESS_DRAINING) == ["e"]


async def test_a_drain_goes_on_through_a_crash() -> None:
    gate, handled = asyncio.Event(), list[Any]()
    with anyio.fail_after(5):
        async with Runtime(quick(Gated("w", gate, handled))) as runtime, asyncio.TaskGroup() as group:
            asks = [group.create_task(runtime.ask("w", payload)) for payload in ("crash", "next")]
            await settle()
            await runtime.drain("w")
            gate.set()
            assert [(await ask).payload for ask in asks] == ["w#2", "w#2"]
            await suspended(runtime, "w")
    assert handled == ["crash", "next"]


async def test_a_resume_ends_a_drain_and_a_suspension_ends_it_too() -> None:
    gate, handled = asyncio.Event(), list[Any]()
    with anyio.fail_after(5):
        async with Runtime(quick(Gated("w", gate, handled))) as runtime, asyncio.TaskGroup() as group:
            first = group.create_task(runtime.ask("w", 1))
            await settle()
            await runtime.drain("w")
            await runtime.resume("w")
            second = group.create_task(runtime.ask("w", 2))
            await settle()
            gate.set()
            assert ((await first).payload, (await second).payload) == ("w#1", "w#1")
            assert runtime.registry.lookup("w").intake == "open"
            gate.clear()
            third = group.create_task(runtime.ask("w", 3))
            await settle()
            await runtime.send("w", "waits")
            await runtime.drain("w")
            await runtime.suspend("w", "now")
            gate.set()
            await third
            assert runtime.registry.lookup("w").suspended == "now"
    assert handled == [1, 2, 3]


async def test_a_pool_is_drained_when_the_last_member_is_done() -> None:
    gate, handled = asyncio.Event(), list[Any]()
    with anyio.fail_after(5):
        crew = pool(Gated, "crew", size=2, config={"gate": gate, "handled": handled})
        async with Runtime(quick(crew)) as runtime, asyncio.TaskGroup() as group:
            asks = [group.create_task(runtime.ask("crew", number)) for number in range(5)]
            await settle()
            await runtime.drain("crew", "over")
            with pytest.raises(AgentDraining):
                await runtime.ask("crew", "late")
            gate.set()
            for ask in asks:
                await ask
            await suspended(runtime, "crew")
            assert [agent(runtime, f"crew.{number}").status for number in (1, 2)] == ["suspended", "suspended"]
            await runtime.resume("crew")
            await runtime.ask("crew", "again")
    assert sorted(handled, key=str) == [0, 1, 2, 3, 4, "again"]


class Session(AgentProcess):
    def __init__(self, name: str, gate: asyncio.Event, **options: Any) -> None:
        super().__init__(name, **options)
        self.gate = gate

    async def handle(self, message: Message) -> Any:
        await self.gate.wait()
        return message.payload["session"]


async def test_a_keyed_agent_is_drained_when_every_key_is_done() -> None:
    gate = asyncio.Event()
    with anyio.fail_after(5):
        chats = keyed(Session, "chats", per_key="session", config={"gate": gate})
        async with Runtime(quick(chats)) as runtime, asyncio.TaskGroup() as group:
            asks = [group.create_task(runtime.ask("chats", {"session": key})) for key in ("a", "b")]
            await settle()
            await runtime.drain("chats", "over")
            for key in ("a", "c"):
                with pytest.raises(AgentDraining):
                    await runtime.ask("chats", {"session": key})
            gate.set()
            assert [(await ask).payload for ask in asks] == ["a", "b"]
            await suspended(runtime, "chats")
            with pytest.raises(Suspended):
                await runtime.ask("chats", {"session": "c"})


@pytest.mark.parametrize("meanwhile", ["suspended", "suspended and resumed"])
async def test_a_pool_is_drained_though_a_member_was_suspended_meanwhile(meanwhile: str) -> None:
    gate, handled = asyncio.Event(), list[Any]()
    with anyio.fail_after(5):
        crew = pool(Gated, "crew", size=2, config={"gate": gate, "handled": handled})
        async with Runtime(quick(crew)) as runtime, asyncio.TaskGroup() as group:
            last = group.create_task(runtime.ask("crew.1", "last"))
            await settle()
            await runtime.drain("crew", "over")
            await runtime.suspend("crew.1", "this one")
            if meanwhile == "suspended and resumed":
                await runtime.resume("crew.1")
            gate.set()
            await last
            await suspended(runtime, "crew")
            await runtime.resume("crew")
            assert [runtime.registry.lookup(name).intake for name in ("crew", "crew.1", "crew.2")] == ["open"] * 3
            await runtime.ask("crew", "again")


@pytest.mark.parametrize("meanwhile", ["suspended", "suspended and resumed"])
async def test_a_keyed_agent_is_drained_though_a_key_was_suspended_meanwhile(meanwhile: str) -> None:
    gate = asyncio.Event()
    gate.set()
    with anyio.fail_after(5):
        chats = keyed(Session, "chats", per_key="session", config={"gate": gate})
        async with Runtime(quick(chats)) as runtime, asyncio.TaskGroup() as group:
            await runtime.ask("chats", {"session": "b"})
            gate.clear()
            last = group.create_task(runtime.ask("chats", {"session": "a"}))
            await settle()
            await runtime.drain("chats", "over")
            await runtime.suspend("chats/a", "this one")
            if meanwhile == "suspended and resumed":
                await runtime.resume("chats/a")
            gate.set()
            assert (await last).payload == "a"
            await suspended(runtime, "chats")
            await runtime.resume("chats")
            assert [runtime.registry.lookup(name).intake for name in ("chats", "chats/a", "chats/b")] == ["open"] * 3
            await runtime.ask("chats", {"session": "a"})


async def test_a_keyed_agent_is_drained_though_a_send_waits_for_a_key_that_is_suspended() -> None:
    gate = asyncio.Event()
    gate.set()
    with anyio.fail_after(5):
        chats = keyed(Session, "chats", per_key="session", config={"gate": gate})
        async with Runtime(quick(chats)) as runtime:
            for session in ("a", "b"):
                await runtime.ask("chats", {"session": session})
            await runtime.suspend("chats/a", "this one")
            await runtime.send("chats", {"session": "a"})
            await runtime.drain("chats", "over")
            await suspended(runtime, "chats")


class Sleepy(AgentProcess):
    """Takes its time to fall asleep."""

    def __init__(self, name: str, going: asyncio.Event, gate: asyncio.Event, **options: Any) -> None:
        super().__init__(name, **options)
        self.going, self.gate = going, gate

    async def handle(self, message: Message) -> Any:
        return message.payload

    async def on_stop(self) -> None:
        self.going.set()
        await self.gate.wait()


async def test_a_keyed_agent_is_drained_when_a_key_that_was_falling_asleep_has_done_so() -> None:
    going, gate, clock = asyncio.Event(), asyncio.Event(), ManualClock()
    with anyio.fail_after(5):
        chats = keyed(Sleepy, "chats", per_key="key", idle_timeout=10.0, config={"going": going, "gate": gate})
        async with Runtime(quick(chats), clock=clock) as runtime:
            await runtime.ask("chats", {"key": "a"})
            await clock.advance(10.0)
            await going.wait()
            await runtime.drain("chats", "over")
            assert runtime.registry.lookup("chats").intake == "draining"
            gate.set()
            await suspended(runtime, "chats")


async def swallowed(ask: Coroutine[Any, Any, Any]) -> None:
    with suppress(CallError):
        await ask


class Leaving(Gated):
    """Ends for good at its first message."""

    async def handle(self, message: Message) -> Any:
        await super().handle(message)
        raise BoomError

    async def on_error(self, error: Exception, message: Message) -> ErrorAction:
        return ErrorAction.STOP


async def test_a_pool_is_drained_when_the_last_member_at_work_ends_for_good() -> None:
    gate, handled = asyncio.Event(), list[Any]()
    with anyio.fail_after(5):
        crew = pool(Leaving, "crew", size=2, config={"gate": gate, "handled": handled, "restart": "transient"})
        async with Runtime(quick(crew)) as runtime, asyncio.TaskGroup() as group:
            last = group.create_task(swallowed(runtime.ask("crew.1", "last")))
            await settle()
            await runtime.drain("crew", "over")
            gate.set()
            await last
            await suspended(runtime, "crew")
            assert runtime.registry.lookup("crew.1").closed is not None


class Promiser(AgentProcess):
    """Puts off what it is asked."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.asked: list[Message] = []

    async def handle(self, message: Message) -> Any:
        self.asked.append(message)
        return DEFERRED


async def test_a_reply_that_is_owed_is_given_before_the_drain_is_over() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Promiser("p"))) as runtime, asyncio.TaskGroup() as group:
            owed = group.create_task(runtime.ask("p", 1))
            async with runtime.subscribe("process.status") as events:
                while agent(runtime, "p").status != "waiting":
                    await anext(events)
            await runtime.drain("p")
            assert runtime.registry.lookup("p").intake == "draining"
            assert runtime.registry.lookup("p").in_hand == 1
            process = agent(runtime, "p")
            process.reply_to(process.asked[0], "at last")
            assert (await owed).payload == "at last"
            assert runtime.registry.lookup("p").intake == "suspended"


async def test_a_drain_waits_for_every_pair_of_hands() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Patient("p", concurrency=2))) as runtime, asyncio.TaskGroup() as group:
            asks = [group.create_task(runtime.ask("p", number)) for number in range(2)]
            await agent(runtime, "p").began.wait()
            await runtime.drain("p")
            assert (runtime.registry.lookup("p").in_hand, runtime.registry.lookup("p").intake) == (2, "draining")
            agent(runtime, "p").gate.set()
            for ask in asks:
                await ask
            await suspended(runtime, "p")


async def test_the_last_crash_is_kept_with_its_traceback_and_without_its_payload() -> None:
    gate, handled = asyncio.Event(), list[Any]()
    gate.set()
    with anyio.fail_after(5):
        async with Runtime(quick(Gated("w", gate, handled))) as runtime:
            assert runtime.registry.lookup("w").last_crash is None
            await runtime.ask("w", "crash")
            box = runtime.registry.lookup("w")
            crash = box.last_crash
            assert crash is not None
            assert (crash.type, crash.message, crash.incarnation, crash.attempt) == ("BoomError", "on purpose", 1, 1)
            assert 'raise BoomError("on purpose")' in crash.traceback
            now = runtime.router.clock.now()
            assert (box.restarts_since(now - 60), box.restarts_since(now + 1)) == (1, 0)


async def test_a_crash_of_any_size_is_kept_within_bounds() -> None:
    class Loud(AgentProcess):
        async def handle(self, message: Message) -> Any:
            try:
                self.deeper(message.payload)
            except RecursionError as error:
                raise BoomError("x" * 1_000_000) from error

        def deeper(self, number: int) -> int:
            return self.deeper(number + 1) + 1

    with anyio.fail_after(10):
        async with Runtime(quick(Loud("loud"))) as runtime:
            async with runtime.subscribe("process.crashed") as events:
                await runtime.send("loud", 0)
                await anext(events)
            crash = runtime.registry.lookup("loud").last_crash
            assert crash is not None
            assert len(crash.message) == 2048
            assert len(crash.traceback) <= 16 * 1024
