"""Monitors and links: who is told of the end of another, and who shares it."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import AgentCrashed, CallError, InvalidOperation, ProcessExited, ReservedType, UnknownAgent
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.events import EventKind
from portico.kernel.genserver import GenServer
from portico.kernel.keyed import keyed
from portico.kernel.messages import DOWN, EXIT
from portico.kernel.process import AgentProcess, ErrorAction
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Deaf, Echo, Patient, Witness, agent, ask_from_outside

if TYPE_CHECKING:
    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio


class Target(AgentProcess):
    """Ends as it is told."""

    async def handle(self, message: Message) -> Any:
        match message.payload:
            case "crash":
                raise BoomError("target")
            case "bye":
                raise ValueError
            case _:
                return self.id

    async def on_error(self, error: Exception, message: Message) -> ErrorAction:
        return ErrorAction.STOP if isinstance(error, ValueError) else ErrorAction.ESCALATE


class Watcher(AgentProcess):
    """Does what a message says with the name in it, and writes down every `DOWN` and `EXIT` it gets."""

    def __init__(self, name: str, heard: list[Any], on_start_link: str = "", **options: Any) -> None:
        super().__init__(name, **options)
        self.heard = heard
        self.on_start_link = on_start_link

    async def on_start(self) -> None:
        if self.on_start_link:
            self.link(self.on_start_link)

    async def handle(self, message: Message) -> Any:
        if message.type in {DOWN, EXIT}:
            self.heard.append((message.type, dict(message.payload), message.sender))
            return None
        match message.payload:
            case "monitor", name:
                return self.monitor(name)
            case "demonitor", ref:
                return self.demonitor(ref)
            case "link", name:
                return self.link(name)
            case "unlink", name:
                return self.unlink(name)
            case "crash":
                raise BoomError("watcher")
            case "bye":
                raise ValueError
            case _:
                return self.id

    async def on_error(self, error: Exception, message: Message) -> ErrorAction:
        return ErrorAction.STOP if isinstance(error, ValueError) else ErrorAction.ESCALATE


class Trapping(Watcher):
    """A watcher that traps exits."""

    trap_exits = True


def quick(*children: AgentProcess | Supervisor, **options: Any) -> Supervisor:
    return Supervisor("root", list(children), backoff_base=0.0, **options)


async def tell(runtime: Runtime, name: str, *words: str) -> Any:
    """An operation of the watcher that returns None, or a reference."""
    try:
        return (await runtime.ask(name, words)).payload
    except CallError as error:
        return type(error).__name__


def assert_down(heard: list[Any], ref: str, name: str, reason: str) -> None:
    assert heard == [(DOWN, {"ref": ref, "name": name, "reason": reason}, name)]


def assert_forgotten(runtime: Runtime) -> None:
    """Nobody watches anybody: nothing is kept of those that have ended."""
    monitors = runtime.router.monitors
    assert monitors._of_target == {}  # pyright: ignore[reportPrivateUsage]  # there is no other witness
    assert monitors._of_watcher == {}  # pyright: ignore[reportPrivateUsage]  # the same


# --- monitors ---------------------------------------------------------------------------------------------------------


async def test_a_crash_is_told_once_to_a_monitor() -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Watcher("w", heard))) as runtime:
            ref = await tell(runtime, "w", "monitor", "t")
            assert isinstance(ref, str)
            assert ref
            await runtime.send("t", "crash")
            await settle()
            assert_down(heard, ref, "t", "BoomError: target")
            await runtime.send("t", "crash")  # the next incarnation is nobody's that was monitored
            await settle()
            assert len(heard) == 1


async def test_a_normal_end_is_told_as_normal() -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Target("t", restart="transient"), Watcher("w", heard))) as runtime:
            ref = await tell(runtime, "w", "monitor", "t")
            await runtime.send("t", "bye")
            await settle()
            assert_down(heard, ref, "t", "normal")


@pytest.mark.parametrize("how", ["stop", "despawn", "restart", "replace"])
async def test_an_end_that_somebody_asked_for_is_told_as_shutdown(how: str) -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(DynamicSupervisor("pool"), Watcher("w", heard))) as runtime:
            await runtime.spawn("pool", Target, "t")
            ref = await tell(runtime, "w", "monitor", "t")
            match how:
                case "stop":
                    await runtime.stop_agent("pool", "t")
                case "despawn":
                    await runtime.despawn("pool", "t")
                case "restart":
                    await runtime.restart_agent("t")
                case _:
                    await runtime.replace("t", Echo)
            await settle()
            assert_down(heard, ref, "t", "shutdown")


async def test_the_end_of_a_deaf_process_is_told_though_it_still_does_something() -> None:
    heard: list[Any] = []
    began, gate, clock = asyncio.Event(), asyncio.Event(), ManualClock()
    deaf = Deaf("t", began, gate, shutdown_timeout=1.0, handle_timeout=1.0)
    with anyio.fail_after(5):
        async with Runtime(quick(deaf, Watcher("w", heard)), clock=clock) as runtime:
            ref = await tell(runtime, "w", "monitor", "t")
            await runtime.send("t", "block")
            await began.wait()
            await clock.advance(3.0)
            ((kind, payload, _),) = heard
            gate.set()
            await settle()
            assert (kind, payload["ref"], payload["name"], len(heard)) == (DOWN, ref, "t", 1)
            assert payload["reason"].startswith("DeafError")


async def test_every_monitor_has_a_reference_and_a_message_of_its_own() -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Watcher("w", heard))) as runtime:
            refs = [await tell(runtime, "w", "monitor", "t") for _ in range(3)]
            await runtime.send("t", "crash")
            await settle()
            assert len(set(refs)) == 3
            assert sorted(payload["ref"] for _, payload, _ in heard) == sorted(refs)


async def test_a_gen_server_hears_in_handle_info() -> None:
    heard: list[Any] = []

    class Server(GenServer):
        async def handle_call(self, payload: Any, from_: Message) -> Any:
            return self.monitor(payload)

        async def handle_info(self, payload: Any) -> None:
            heard.append(payload)

    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Server("s"))) as runtime:
            ref = await runtime.call("s", "t")
            await runtime.send("t", "crash")
            await settle()
            assert heard == [{"type": "DOWN", "ref": ref, "name": "t", "reason": "BoomError: target"}]


async def test_monitoring_who_is_down_now_tells_noproc_at_once() -> None:
    heard: list[Any] = []
    clock = ManualClock()
    with anyio.fail_after(5):
        root = Supervisor("root", [Target("t"), Target("gone", restart="transient"), Watcher("w", heard)], backoff_base=5.0)
        async with Runtime(root, clock=clock) as runtime:
            await runtime.send("t", "crash")
            await runtime.send("gone", "bye")
            await settle()
            first = await tell(runtime, "w", "monitor", "t")
            await settle()
            assert_down(heard, first, "t", "noproc")
            heard.clear()
            second = await tell(runtime, "w", "monitor", "gone")
            await settle()
            assert_down(heard, second, "gone", "noproc")
            await clock.advance(5.0)
            assert len(heard) == 1


async def test_monitoring_a_name_that_never_was_says_so() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Target("target"), Watcher("w", []))) as runtime:
            with pytest.raises(UnknownAgent, match="Did you mean 'target'"):
                await runtime.ask("w", ("monitor", "targe"))


async def test_who_does_not_monitor_any_more_is_not_told() -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Watcher("w", heard))) as runtime:
            kept, left = [await tell(runtime, "w", "monitor", "t") for _ in range(2)]
            await tell(runtime, "w", "demonitor", left)
            await tell(runtime, "w", "demonitor", "no such reference")
            await runtime.send("t", "crash")
            await settle()
            assert_down(heard, kept, "t", "BoomError: target")


@pytest.mark.parametrize("ends", ["crash", "restart"])
async def test_monitors_end_with_the_incarnation_that_made_them(ends: str) -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Watcher("w", heard))) as runtime:
            await tell(runtime, "w", "monitor", "t")
            if ends == "crash":
                await runtime.send("w", "crash")
            else:
                await runtime.restart_agent("w")
            assert (await runtime.ask("w", "?")).payload == "w#2"
            await runtime.send("t", "crash")
            await settle()
            assert heard == []
            assert_forgotten(runtime)


async def test_a_down_gets_into_a_full_mailbox() -> None:
    heard: list[Any] = []

    class Busy(Watcher):
        gate = asyncio.Event()

        async def handle(self, message: Message) -> Any:
            if message.payload == "block":
                await Busy.gate.wait()
                return None
            return await super().handle(message)

    Busy.gate = asyncio.Event()
    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Busy("w", heard, mailbox_size=1))) as runtime:
            ref = await tell(runtime, "w", "monitor", "t")
            await runtime.send("w", "block")
            await settle()
            await runtime.send("w", "fills it")
            await runtime.send("t", "crash")
            await settle()
            Busy.gate.set()
            await settle()
            assert_down(heard, ref, "t", "BoomError: target")


async def test_a_suspended_watcher_hears_of_the_end_after_it_is_resumed() -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Watcher("w", heard))) as runtime:
            ref = await tell(runtime, "w", "monitor", "t")
            await runtime.suspend("w")
            await runtime.send("t", "crash")
            await settle()
            assert heard == []
            await runtime.resume("w")
            await settle()
            assert_down(heard, ref, "t", "BoomError: target")


async def test_a_process_may_monitor_itself_without_hearing_of_it() -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Watcher("w", heard))) as runtime:
            await tell(runtime, "w", "monitor", "w")
            await runtime.send("w", "crash")
            assert (await runtime.ask("w", "?")).payload == "w#2"
            await settle()
            assert heard == []


# --- reserved types ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [DOWN, EXIT, "portico.child_terminated"])
async def test_only_the_runtime_sends_messages_of_its_types(kind: str) -> None:
    class Sending(AgentProcess):
        async def handle(self, message: Message) -> Any:
            match message.payload:
                case "send":
                    await self.send("e", 1, kind)
                case "ask":
                    await self.ask("e", 1, kind)
                case "broadcast":
                    await self.broadcast("*", 1, kind)
                case _:
                    await self.send_capable("echo", 1, kind)

    with anyio.fail_after(5):
        async with Runtime(quick(Echo("e"), Sending("s"))) as runtime:
            for verb in ("send", "ask", "broadcast", "send_capable"):
                with pytest.raises(ReservedType, match=kind):
                    await runtime.ask("s", verb)
            with pytest.raises(ReservedType):
                await runtime.send("e", 1, kind)
            with pytest.raises(ReservedType):
                await runtime.ask("e", 1, message_type=kind)
            with pytest.raises(ReservedType):
                await runtime.broadcast("*", 1, kind)
            with pytest.raises(ReservedType):
                await runtime.broadcast("nobody", 1, kind)


@pytest.mark.parametrize("name", [DOWN, EXIT])
def test_no_operation_can_have_the_name_of_a_reserved_type(name: str) -> None:
    """Else a gateway serves it, and a client sends what only the runtime may send."""
    with pytest.raises(InvalidOperation):

        class Forging(AgentProcess):  # pyright: ignore[reportUnusedClass]  # making it is the test
            @operation(name=name)
            async def forge(self) -> None: ...


# --- links ------------------------------------------------------------------------------------------------------------


class Held(Watcher):
    """Holds the payload `hold` until the test opens the gate, and tells which attempt it was."""

    def __init__(self, name: str, gate: asyncio.Event, began: asyncio.Event, **options: Any) -> None:
        super().__init__(name, [], **options)
        self.gate = gate
        self.began = began

    async def handle(self, message: Message) -> Any:
        if message.payload == "hold":
            self.began.set()
            await self.gate.wait()
            return {"id": self.id, "attempt": message.attempt}
        return await super().handle(message)


@pytest.mark.parametrize("linker", ["crashes", "is told"])
async def test_a_crash_takes_the_linked_one_down_whichever_of_the_two_made_the_link(linker: str) -> None:
    witness = Witness()
    with anyio.fail_after(5):
        async with Runtime(quick(Watcher("a", []), Watcher("b", [])), observers=[witness]) as runtime:
            one, other = ("a", "b") if linker == "crashes" else ("b", "a")
            await tell(runtime, one, "link", other)
            await runtime.send("a", "crash")
            assert (await runtime.ask("b", "?")).payload in {"b#1", "b#2"}
            await settle()
            assert (agent(runtime, "a").id, agent(runtime, "b").id) == ("a#2", "b#2")
    reasons = {event.name: event.data["reason"] for event in witness.of(EventKind.PROCESS_CRASHED)}
    assert reasons["a"] == "BoomError: watcher"
    assert "'a'" in reasons["b"]
    assert "BoomError: watcher" in reasons["b"]


async def test_what_the_linked_one_had_in_hand_is_delivered_again_uncharged() -> None:
    gate, began = asyncio.Event(), asyncio.Event()
    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Held("h", gate, began))) as runtime, asyncio.TaskGroup() as callers:
            await tell(runtime, "h", "link", "t")
            ask = callers.create_task(runtime.ask("h", "hold"))
            await began.wait()
            await runtime.send("t", "crash")
            await settle()
            gate.set()
            assert (await ask).payload == {"id": "h#2", "attempt": 0}


async def test_a_normal_end_leaves_the_linked_one_alone() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Target("t", restart="transient"), Watcher("w", []))) as runtime:
            await tell(runtime, "w", "link", "t")
            await runtime.send("t", "bye")
            await settle()
            assert agent(runtime, "t").status == "stopped"
            assert (await runtime.ask("w", "?")).payload == "w#1"


async def test_a_shutdown_shuts_the_linked_one_down() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(DynamicSupervisor("pool"), Watcher("w", [], restart="transient"))) as runtime:
            await runtime.spawn("pool", Target, "t")
            await tell(runtime, "w", "link", "t")
            await runtime.stop_agent("pool", "t")
            await settle()
            assert agent(runtime, "w").status == "stopped"


async def test_a_start_failure_and_a_task_that_raises_take_the_linked_one_down_too() -> None:
    class Tasked(AgentProcess):
        async def handle(self, message: Message) -> Any:
            self.start_task(self.fail())
            return None

        async def fail(self) -> None:
            raise BoomError

    with anyio.fail_after(5):
        async with Runtime(quick(Tasked("t"), Watcher("w", []))) as runtime:
            await tell(runtime, "w", "link", "t")
            await runtime.send("t", 1)
            await settle()
            assert (await runtime.ask("w", "?")).payload == "w#2"


@pytest.mark.parametrize("ends", ["crash", "restart"])
async def test_who_traps_exits_gets_a_message_and_lives_on(ends: str) -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Trapping("w", heard))) as runtime:
            await tell(runtime, "w", "link", "t")
            if ends == "crash":
                await runtime.send("t", "crash")
            else:
                await runtime.restart_agent("t")
            await settle()
            reason = "BoomError: target" if ends == "crash" else "shutdown"
            assert heard == [(EXIT, {"name": "t", "reason": reason}, "t")]
            assert (await runtime.ask("w", "?")).payload == "w#1"


async def test_an_exit_gets_into_a_full_mailbox_of_a_gen_server() -> None:
    heard: list[Any] = []
    gate = asyncio.Event()

    class Server(GenServer):
        trap_exits = True

        async def handle_call(self, payload: Any, from_: Message) -> Any:
            self.link(payload)
            return True

        async def handle_cast(self, payload: Any) -> None:
            await gate.wait()

        async def handle_info(self, payload: Any) -> None:
            heard.append(payload)

    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Server("s", mailbox_size=1))) as runtime:
            await runtime.call("s", "t")
            await runtime.cast("s", 1)
            await settle()
            await runtime.cast("s", 2)
            await runtime.send("t", "crash")
            await settle()
            gate.set()
            await settle()
            assert heard == [{"type": "EXIT", "name": "t", "reason": "BoomError: target"}]


@pytest.mark.parametrize("who", ["w", "other"])
async def test_a_link_that_was_undone_by_either_joins_nobody(who: str) -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Watcher("w", []), Watcher("other", []))) as runtime:
            await tell(runtime, "w", "link", "other")
            await tell(runtime, who, "unlink", "other" if who == "w" else "w")
            await runtime.send("other", "crash")
            await runtime.send("w", "?")
            await settle()
            assert (agent(runtime, "w").id, agent(runtime, "other").id) == ("w#1", "other#2")


async def test_a_monitor_is_not_a_link_and_outlives_unlink() -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Watcher("w", heard))) as runtime:
            ref = await tell(runtime, "w", "monitor", "t")
            await tell(runtime, "w", "link", "t")
            await tell(runtime, "w", "unlink", "t")
            await runtime.send("t", "crash")
            await settle()
            assert agent(runtime, "w").id == "w#1"
            assert_down(heard, ref, "t", "BoomError: target")


async def test_demonitoring_nothing_does_not_loosen_a_link() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Watcher("w", []))) as runtime:
            await tell(runtime, "w", "link", "t")
            await tell(runtime, "w", "demonitor", "")
            await runtime.send("t", "crash")
            await settle()
            assert agent(runtime, "w").id == "w#2"


async def test_links_end_with_the_incarnations_that_they_joined() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Watcher("w", []), max_restarts=9)) as runtime:
            await tell(runtime, "w", "link", "t")
            await runtime.send("t", "crash")
            await settle()
            await runtime.send("t", "crash")
            await settle()
            assert (agent(runtime, "t").id, agent(runtime, "w").id) == ("t#3", "w#2")
            assert_forgotten(runtime)


async def test_a_link_made_in_on_start_is_made_anew_by_every_incarnation() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Watcher("w", [], "t"), max_restarts=30)) as runtime:
            for number in (2, 3):
                await runtime.send("t", "crash")
                await settle()
                assert agent(runtime, "t").id == f"t#{number}"
            assert int(agent(runtime, "w").id[2:]) >= 3
            assert (await runtime.ask("w", "?")).payload == agent(runtime, "w").id


async def test_linking_twice_is_as_once_and_linking_oneself_is_nothing() -> None:
    heard: list[Any] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Trapping("w", heard))) as runtime:
            for name in ("t", "t", "w"):
                await tell(runtime, "w", "link", name)
            await runtime.send("t", "crash")
            await settle()
            assert len(heard) == 1
            await runtime.send("w", "crash")
            await settle()
            assert agent(runtime, "t").id == "t#2"


async def test_linking_who_is_down_now_is_as_if_it_had_crashed() -> None:
    heard: list[Any] = []
    clock = ManualClock()
    with anyio.fail_after(5):
        root = Supervisor("root", [Target("t"), Trapping("trapping", heard), Watcher("w", [])], backoff_base=5.0)
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await runtime.send("t", "crash")
            await settle()
            await tell(runtime, "trapping", "link", "t")
            await settle()
            ((kind, payload, _),) = heard
            assert (kind, payload["name"]) == (EXIT, "t")
            assert "noproc" in payload["reason"]
            callers.create_task(tell(runtime, "w", "link", "t"))
            await settle()
            assert agent(runtime, "w").status == "restarting"
            await clock.advance(5.0)


async def test_linking_a_name_that_never_was_says_so() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Target("target"), Watcher("w", []))) as runtime:
            with pytest.raises(UnknownAgent):
                await runtime.ask("w", ("link", "targe"))
            assert agent(runtime, "w").id == "w#1"


async def test_a_chain_of_links_goes_down_as_one() -> None:
    names = ["a", "b", "c", "d"]
    with anyio.fail_after(5):
        async with Runtime(quick(*(Watcher(name, []) for name in names), max_restarts=9)) as runtime:
            for one, other in pairwise(names):
                await tell(runtime, one, "link", other)
            await runtime.send("a", "crash")
            await settle()
            assert [agent(runtime, name).id for name in names] == ["a#2", "b#2", "c#2", "d#2"]


async def test_a_linked_group_stops_with_its_runtime_without_a_crash() -> None:
    witness = Witness()
    with anyio.fail_after(5):
        async with Runtime(quick(*(Watcher(name, []) for name in "abc")), observers=[witness], clock=ManualClock()) as runtime:
            await tell(runtime, "a", "link", "b")
            await tell(runtime, "b", "link", "c")
            await tell(runtime, "c", "link", "a")
    assert sorted(witness.names(EventKind.PROCESS_STOPPED)) == ["a", "b", "c"]
    assert witness.of(EventKind.PROCESS_RESTARTED) == []


async def test_a_suspended_linked_one_goes_down_and_stays_suspended() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Watcher("w", []))) as runtime:
            await tell(runtime, "w", "link", "t")
            await runtime.suspend("w")
            await settle()
            await runtime.send("t", "crash")
            await settle()
            assert (agent(runtime, "w").id, agent(runtime, "w").status) == ("w#2", "suspended")


async def test_on_stop_of_a_crashed_process_is_not_cut_short_by_the_crash_of_a_linked_one() -> None:
    gate, stopping, log = asyncio.Event(), asyncio.Event(), list[str]()

    class Tidy(Watcher):
        async def on_stop(self) -> None:
            stopping.set()
            await gate.wait()
            log.append("tidied up")

    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Tidy("w", []))) as runtime:
            await tell(runtime, "w", "link", "t")
            await runtime.send("w", "crash")
            await stopping.wait()
            await runtime.send("t", "crash")
            await settle()
            gate.set()
            await settle()
            assert log == ["tidied up"]


# --- who pays ---------------------------------------------------------------------------------------------------------


def pair(target: AgentProcess, linked: AgentProcess, max_restarts: int = 0) -> Supervisor:
    """Two supervisors under one: the one of the linked process may never restart it for a counted crash."""
    above = Supervisor("above-target", [target], max_restarts=max_restarts, backoff_base=0.0)
    beside = Supervisor("above-linked", [linked], max_restarts=0, backoff_base=0.0)
    return Supervisor("root", [above, beside], max_restarts=0, backoff_base=0.0)


async def test_a_crash_from_outside_that_spreads_over_a_link_counts_to_no_window() -> None:
    witness = Witness()
    with anyio.fail_after(5):
        async with Runtime(pair(Target("t"), Watcher("w", [])), observers=[witness]) as runtime:
            for number in range(2, 6):
                await tell(runtime, "w", "link", "t")
                with pytest.raises(AgentCrashed):
                    await ask_from_outside(runtime, "t", "crash")
                await settle()
                assert agent(runtime, "w").id == f"w#{number}"
            assert runtime.alive
    assert not [event for event in witness.of(EventKind.SUPERVISOR_REPORT) if event.data["report"].context == "shutdown"]


async def test_a_crash_from_outside_counts_to_no_window_of_one_that_links_in_its_on_start() -> None:
    """Its next life may begin while the other one waits for its own: that is the same crash, and the same client's."""
    clock = ManualClock()
    above = Supervisor("above-target", [Target("t")], max_restarts=0, backoff_base=2.0)
    beside = Supervisor("above-linked", [Watcher("w", [], "t")], max_restarts=1, backoff_base=1.0)
    root = Supervisor("root", [above, beside], max_restarts=0, backoff_base=0.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime:
            for _ in range(3):
                with pytest.raises(AgentCrashed):
                    await ask_from_outside(runtime, "t", "crash")
                await clock.advance(10.0)
            assert runtime.alive
            assert agent(runtime, "w").status == "running"


async def test_a_crash_from_inside_that_spreads_over_a_link_counts() -> None:
    with anyio.fail_after(5):
        async with Runtime(pair(Target("t"), Watcher("w", []), 50)) as runtime:
            await tell(runtime, "w", "link", "t")
            await runtime.send("t", "crash")
            await runtime.wait()
            assert runtime.report is not None
            assert "'t'" in runtime.report


class Session(AgentProcess):
    """One per key."""

    async def handle(self, message: Message) -> Any:
        raise BoomError(message.payload)


async def test_callers_of_one_that_a_link_took_down_are_told_no_key_of_others() -> None:
    with anyio.fail_after(5):
        sessions = keyed(Session, "sessions", per_key="id", backoff_base=0.0)
        root = Supervisor("root", [Watcher("w", [], restart="temporary"), sessions])
        async with Runtime(root) as runtime:
            await runtime.suspend("sessions", "not yet")
            await runtime.send("sessions", {"id": "secret"})
            await tell(runtime, "w", "link", "sessions/secret")
            await runtime.resume("sessions")
            await settle()
            with pytest.raises(ProcessExited, match="'sessions', to which it is linked, has ended: BoomError") as raised:
                await runtime.ask("w", "hello")
    assert "secret" not in str(raised.value)


async def test_a_crash_from_outside_that_spreads_over_a_chain_of_links_counts_to_no_window() -> None:
    with anyio.fail_after(5):
        between = Supervisor("between", [Watcher("m", [])], max_restarts=0, backoff_base=0.0)
        root = pair(Target("t"), Watcher("w", []))
        root = Supervisor("top", [root, between], max_restarts=0, backoff_base=0.0)
        async with Runtime(root) as runtime:
            await tell(runtime, "m", "link", "t")
            await tell(runtime, "w", "link", "m")
            with pytest.raises(AgentCrashed):
                await ask_from_outside(runtime, "t", "crash")
            await settle()
            assert runtime.alive
            assert (agent(runtime, "m").id, agent(runtime, "w").id) == ("m#2", "w#2")


async def test_a_process_that_a_client_makes_deaf_takes_no_supervisor_down_over_a_link() -> None:
    began, gate, clock = asyncio.Event(), asyncio.Event(), ManualClock()
    deaf = Deaf("t", began, gate, shutdown_timeout=1.0, handle_timeout=1.0)
    with anyio.fail_after(5):
        async with Runtime(pair(deaf, Watcher("w", [])), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await tell(runtime, "w", "link", "t")
            callers.create_task(outcome_from_outside(runtime, "t", "block"))
            await began.wait()
            await clock.advance(2.5)
            gate.set()
            await clock.advance(10.0)
            assert runtime.alive
            assert agent(runtime, "w").id == "w#2"


async def test_a_client_that_lets_a_process_link_who_is_down_takes_no_supervisor_down() -> None:
    class Linking(AgentProcess):
        async def handle(self, message: Message) -> Any:
            self.link(message.payload)
            return self.id

    clock = ManualClock()
    above = Supervisor("above", [Target("t")], max_restarts=0, backoff_base=5.0)
    beside = Supervisor("beside", [Linking("w")], max_restarts=0, backoff_base=0.0)
    root = Supervisor("root", [above, beside], max_restarts=0, backoff_base=0.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            callers.create_task(outcome_from_outside(runtime, "t", "crash"))
            await settle()
            assert agent(runtime, "t").status == "restarting"
            callers.create_task(outcome_from_outside(runtime, "w", "t"))
            await settle()
            alive = runtime.alive
            await clock.advance(20.0)
            assert alive


async def outcome_from_outside(runtime: Runtime, name: str, payload: Any) -> Any:
    try:
        return (await ask_from_outside(runtime, name, payload)).payload
    except CallError as error:
        return type(error).__name__


async def test_a_restart_that_somebody_asks_for_counts_to_no_window_of_the_linked_one() -> None:
    with anyio.fail_after(5):
        async with Runtime(pair(Target("t"), Watcher("w", []))) as runtime:
            await tell(runtime, "w", "link", "t")
            await runtime.restart_agent("t")
            await settle()
            assert runtime.alive
            assert agent(runtime, "w").id == "w#2"


async def test_links_do_not_hinder_a_patient_handler_of_somebody_else() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Target("t"), Watcher("w", []), Patient("p"))) as runtime, asyncio.TaskGroup() as callers:
            await tell(runtime, "w", "link", "t")
            ask = callers.create_task(runtime.ask("p", "done"))
            await agent(runtime, "p").began.wait()
            await runtime.send("t", "crash")
            await settle()
            agent(runtime, "p").gate.set()
            assert (await ask).payload == "done"
