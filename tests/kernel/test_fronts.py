"""Fronts: the names behind which several processes stand, pools and keyed agents; and what nobody can ask of itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import LifecycleError, SelfAsk, StartError, Suspended
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.events import EventKind
from portico.kernel.exits import Exit, ExitKind
from portico.kernel.keyed import KeyedSupervision, keyed
from portico.kernel.pool import pool
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Echo, Fragile, Witness, agent, ask_from_outside

if TYPE_CHECKING:
    from portico.kernel.child import Child
    from portico.kernel.keyed import Keyed
    from portico.kernel.keyed_mailbox import KeyMailbox
    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio


def running(*children: AgentProcess | Supervisor, clock: ManualClock | None = None, **options: Any) -> Runtime:
    return Runtime(Supervisor("root", children, backoff_base=0.0), clock=clock or ManualClock(), **options)


class Chat(AgentProcess):
    """Counts in its state. The payload's `gate` holds it up, `boom` crashes the class that is named."""

    async def handle(self, message: Message) -> Any:
        said = message.payload
        if "gate" in said:
            await said["gate"].wait()
        if said.get("boom") == type(self).__name__:
            raise BoomError
        self.state["n"] = self.state.get("n", 0) + 1
        return [type(self).__name__, self.id, self.state["n"]]


class Chat2(Chat):
    """What replaces it."""


def chat(**options: Any) -> Keyed:
    return keyed(Chat, "chat", per_key="key", backoff_base=0.0, **options)


def say(key: str, **said: Any) -> dict[str, Any]:
    return {"key": key, **said}


# --- keyed agents -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [400, 800])
async def test_as_many_new_keys_as_there_is_room_for_are_served_at_once_with_few_looks_at_the_idle_ones(
    keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, put_to_sleep = 0, KeyedSupervision._put_to_sleep  # pyright: ignore[reportPrivateUsage]  # there is no other witness

    def counted(self: KeyedSupervision, child: Child, box: KeyMailbox) -> bool:
        nonlocal looks
        looks += 1
        return put_to_sleep(self, child, box)

    monkeypatch.setattr(KeyedSupervision, "_put_to_sleep", counted)
    with anyio.fail_after(30):
        async with running(chat(max_keys=keys)) as runtime:
            for round_ in "ab":
                looks = 0
                async with asyncio.TaskGroup() as callers:
                    asked = [callers.create_task(runtime.call("chat", say(f"{round_}{number}"))) for number in range(keys)]
                assert {ask.result()[2] for ask in asked} == {1}
                assert looks <= 4 * keys


@pytest.mark.parametrize("ticks", range(9))
async def test_a_replacement_at_any_moment_of_a_keys_start_refuses_no_message(ticks: int) -> None:
    with anyio.fail_after(5):
        async with running(chat()) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(runtime.call("chat", say("a")))
            for _ in range(ticks):
                await asyncio.sleep(0)
            await runtime.replace("chat", Chat2)
            assert (await asked)[0] in {"Chat", "Chat2"}
            assert (await runtime.call("chat", say("a")))[0] == "Chat2"


async def test_one_key_is_restarted_and_goes_on_where_it_was() -> None:
    with anyio.fail_after(5):
        async with running(chat()) as runtime:
            assert await runtime.call("chat", say("a")) == ["Chat", "chat/a#1", 1]
            assert await runtime.call("chat", say("b")) == ["Chat", "chat/b#1", 1]
            await runtime.restart_agent("chat/a")
            assert await runtime.call("chat", say("a")) == ["Chat", "chat/a#2", 2]
            assert await runtime.call("chat", say("b")) == ["Chat", "chat/b#1", 2]


@pytest.mark.parametrize("event", ["restart", "group", "idle"])
async def test_a_suspension_of_one_key_survives(event: str) -> None:
    clock = ManualClock()
    root = Supervisor("root", [Fragile("sibling"), chat(idle_timeout=10.0)], strategy="one_for_all", backoff_base=0.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime:
            await runtime.ask("chat", say("a"))
            await runtime.suspend("chat/a", "hold")
            await settle()
            if event == "restart":
                await runtime.restart_agent("chat/a")
            elif event == "group":
                await runtime.ask("sibling", 1)
                await settle()
            for _ in range(3):  # idle, however it came back
                await clock.advance(10.1)
                with pytest.raises(Suspended, match="hold"):
                    await runtime.ask("chat", say("a"))
            await runtime.resume("chat/a")
            assert (await runtime.call("chat", say("a")))[2] == 2


async def test_a_crash_while_leaving_is_told_and_its_message_is_handled_by_the_next() -> None:
    witness, gate = Witness(), asyncio.Event()
    with anyio.fail_after(5):
        async with running(chat(), observers=[witness]) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(runtime.call("chat", say("a", gate=gate, boom="Chat")))
            await settle()
            await runtime.replace("chat", Chat2)
            gate.set()
            assert (await asked)[0] == "Chat2"
            assert witness.names(EventKind.PROCESS_CRASHED) == ["chat/a"]


# --- pools ------------------------------------------------------------------------------------------------------------


class Member(AgentProcess):
    """Starts when the test opens the gate `start`, and works when it opens the one of the payload."""

    def __init__(self, name: str, gates: dict[str, asyncio.Event], log: list[str]) -> None:
        super().__init__(name)
        self.gates = gates
        self.log = log

    async def on_start(self) -> None:
        if self.name != "w.1" and "start" in self.gates:
            await self.gates["start"].wait()

    async def handle(self, message: Message) -> Any:
        self.log.append(self.name)
        if message.payload in self.gates:
            await self.gates[message.payload].wait()
        return self.name


class Member2(Member):
    """What replaces it."""


class Lame(Member):
    """Does not start as the second member."""

    async def on_start(self) -> None:
        if self.name == "w.2":
            raise BoomError


def classes(runtime: Runtime) -> list[str]:
    return [type(member).__name__ for member in runtime.all_agents()]


async def test_a_pool_that_is_suspended_while_it_starts_is_suspended_as_a_whole() -> None:
    gates, log = {"start": asyncio.Event()}, list[str]()
    runtime = running(pool(Member, "w", size=3, config={"gates": gates, "log": log}))
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            starting = tasks.create_task(runtime.start())
            await settle()
            await runtime.suspend("w", "hold")
            gates["start"].set()
            await starting
            for _ in range(3):
                await runtime.send("w", "work")
            await settle()
            assert log == []
            await runtime.resume("w")
            await settle()
            assert len(log) == 3
            await runtime.stop()


@pytest.mark.parametrize("how", ["kill", "crash"])
async def test_a_member_that_ends_between_its_waking_and_its_turn_loses_no_message(how: str) -> None:
    with anyio.fail_after(5):
        members = pool(Member, "w", size=2, config={"gates": {}, "log": []}, backoff="constant", backoff_base=10.0)
        async with running(members) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(runtime.call("w", "work"))
            await asyncio.sleep(0)
            woken = [agent(runtime, name) for name in ("w.1", "w.2") if not agent(runtime, name)._incarnation.mailbox.idle]
            assert len(woken) == 1
            if how == "kill":
                woken[0]._incarnation.kill()
            else:
                woken[0]._incarnation.end_with(Exit(ExitKind.CRASHED, BoomError()))
            assert await asked in {"w.1", "w.2"} - {woken[0].name}


async def test_a_replacement_of_a_pool_that_fails_half_way_leaves_the_former_class_everywhere() -> None:
    with anyio.fail_after(5):
        async with running(pool(Member, "w", size=3, config={"gates": {}, "log": []}, backoff_base=0.0)) as runtime:
            with pytest.raises(StartError):
                await runtime.replace("w", Lame)
            await settle()
            assert classes(runtime) == ["Member"] * 3
            await runtime.restart_agent("w.1")
            assert classes(runtime) == ["Member"] * 3


async def test_a_replacement_of_a_pool_that_is_cancelled_half_way_leaves_the_former_class_everywhere() -> None:
    gates = {"first": asyncio.Event(), "second": asyncio.Event()}
    with anyio.fail_after(5):
        members = pool(Member, "w", size=2, config={"gates": gates, "log": []}, backoff_base=0.0)
        async with running(members) as runtime, asyncio.TaskGroup() as tasks:
            asked = {gate: tasks.create_task(runtime.call("w", gate)) for gate in gates}
            await settle()
            replacing = tasks.create_task(runtime.replace("w", Member2))
            await settle()
            gates["first"].set()
            assert await asked["first"] == "w.1"
            await settle()
            assert classes(runtime) == ["Member2", "Member"]
            replacing.cancel()
            await settle()
            gates["second"].set()
            await asked["second"]
            await settle()
            assert classes(runtime) == ["Member"] * 2
            await runtime.restart_agent("w.2")
            assert classes(runtime) == ["Member"] * 2


# --- what nobody can be asked for -------------------------------------------------------------------------------------


class Watcher(AgentProcess):
    """Monitors or links whom it is told to."""

    async def handle(self, message: Message) -> Any:
        verb, name = message.payload
        try:
            getattr(self, verb)(name)
        except LifecycleError as error:
            return str(error)
        return "done"


@pytest.mark.parametrize("verb", ["monitor", "link"])
@pytest.mark.parametrize("name", ["w", "chat"])
async def test_a_name_behind_which_several_stand_is_neither_monitored_nor_linked(verb: str, name: str) -> None:
    with anyio.fail_after(5):
        async with running(Watcher("watcher"), pool(Echo, "w", size=2), chat()) as runtime:
            await runtime.ask("chat", say("a"))
            assert f"Several processes stand behind {name!r}" in await runtime.call("watcher", (verb, name))
            assert await runtime.call("watcher", (verb, "w.1")) == "done"
            assert agent(runtime, "watcher").id == "watcher#1"


class Selfish(AgentProcess):
    """Wants something of itself that it would wait for for ever."""

    resumed: Any = None

    async def on_resume(self, approver: str) -> None:
        try:
            self.resumed = await self.ask(self.name, "anything")
        except SelfAsk as error:
            self.resumed = error

    async def handle(self, message: Message) -> Any:
        said = message.payload
        if said == "stop":
            await self.stop(self.name)
        elif "ask" in said:
            return await self.call("selfish", {"key": said["ask"]})
        return self.name


async def test_a_process_that_stops_itself_and_waits_for_that_is_refused() -> None:
    with anyio.fail_after(5):
        async with running(DynamicSupervisor("dynamic")) as runtime:
            await runtime.spawn("dynamic", Selfish, "selfish")
            with pytest.raises(SelfAsk):
                await runtime.ask("selfish", "stop")
            assert await runtime.call("selfish", {}) == "selfish"


@pytest.mark.parametrize("outside", [False, True])
async def test_a_key_that_asks_itself_through_the_common_name_is_refused_and_may_ask_another(*, outside: bool) -> None:
    with anyio.fail_after(5):
        async with running(keyed(Selfish, "selfish", per_key="key")) as runtime:

            async def call(payload: Any) -> Any:
                if outside:
                    return (await ask_from_outside(runtime, "selfish", payload)).payload
                return await runtime.call("selfish", payload)

            with pytest.raises(SelfAsk):
                await call(say("a", ask="a"))
            assert (await call(say("a", ask="b"))).startswith("selfish/b")


async def test_who_asks_itself_as_it_is_resumed_is_refused_and_lives_on() -> None:
    with anyio.fail_after(5):
        async with running(Selfish("selfish")) as runtime:
            await runtime.suspend("selfish")
            await settle()
            await runtime.resume("selfish")
            assert await runtime.call("selfish", {}) == "selfish"
            assert isinstance(agent(runtime, "selfish").resumed, SelfAsk)
