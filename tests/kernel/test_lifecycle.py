"""The lifecycle of a process: its statuses, the steps between them, and who is told."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portico.errors import AgentCrashed, DeadlineExceeded, IllegalTransition, PorticoError, StartError
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.events import EventKind
from portico.kernel.genserver import GenServer
from portico.kernel.lifecycle import TRANSITIONS, ProcessStatus, move
from portico.kernel.process import AgentProcess, ErrorAction
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Deaf, Echo, Logged, Witness, agent, ask_from_outside

if TYPE_CHECKING:
    from portico.kernel.events import KernelEvent
    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio


class Owing(AgentProcess):
    """Defers every ask; `pay` answers what is owed, `crash` crashes, `bye` ends it normally."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.owed: list[Message] = []

    async def handle(self, message: Message) -> Any:
        match message.payload:
            case "pay":
                while self.owed:
                    self.reply_to(self.owed.pop(), "paid")
                return len(self.owed)
            case "crash":
                raise BoomError
            case "bye":
                raise ValueError
            case "now":
                return self.id
            case _:
                self.owed.append(message)
                return self.defer()

    async def on_error(self, error: Exception, message: Message) -> ErrorAction:
        return ErrorAction.STOP if isinstance(error, ValueError) else ErrorAction.ESCALATE


def steps(witness: Witness, name: str) -> list[tuple[str, str]]:
    """The steps of all incarnations of a process, in order."""
    events = [event for event in witness.of(EventKind.PROCESS_STATUS) if event.name == name]
    return [(event.data["before"], event.data["status"]) for event in events]


def assert_walk(walk: list[tuple[str, str]]) -> None:
    """Each step is in the table, and begins where the last one ended, or anew where an incarnation is over."""
    at = "created"
    for before, after in walk:
        assert after in TRANSITIONS[ProcessStatus(before)], (before, after, walk)
        assert before == at or (before == "created" and at in {"restarting", "stopped", "failed"}), (before, after, walk)
        at = after


async def test_a_quiet_life_goes_from_created_by_starting_running_and_stopping_to_stopped() -> None:
    witness = Witness()
    echo = Echo("e")
    assert echo.status == "created"
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [echo]), observers=[witness]) as runtime:
            assert echo.status == "running"
            assert (await runtime.ask("e", 1)).payload == 1
            assert echo.status == "running"
    assert echo.status == "stopped"
    assert steps(witness, "e") == [
        ("created", "starting"),
        ("starting", "running"),
        ("running", "stopping"),
        ("stopping", "stopped"),
    ]


async def test_the_bus_tells_every_step_as_well() -> None:
    with anyio.fail_after(5):
        runtime = Runtime(Supervisor("root", [Logged("l", [])], backoff_base=0.0))
        async with runtime.router.bus.subscribe("process.status") as events:
            async with runtime:
                await runtime.send("l", "crash")
                await runtime.ask("l", "?")
            events.close()
            told: list[KernelEvent] = [published.data async for published in events]
    assert [event.data["status"] for event in told] == [
        *("starting", "running", "stopping", "restarting"),
        *("starting", "running", "stopping", "stopped"),
    ]
    assert {(event.kind, event.name) for event in told} == {(EventKind.PROCESS_STATUS, "l")}


async def test_a_process_is_starting_while_its_on_start_runs_and_stopping_while_its_on_stop_does() -> None:
    seen: list[str] = []

    class Seeing(AgentProcess):
        async def on_start(self) -> None:
            seen.append(self.status.value)

        async def on_stop(self) -> None:
            seen.append(self.status.value)

    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Seeing("s")])):
            pass
    assert seen == ["starting", "stopping"]


async def test_a_crashed_process_is_restarting_until_its_next_life_and_that_one_begins_as_created() -> None:
    clock, witness = ManualClock(), Witness()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Logged("l", [])], backoff_base=5.0), clock=clock, observers=[witness]) as runtime:
            first = agent(runtime, "l")
            await runtime.send("l", "crash")
            await settle()
            assert agent(runtime, "l").status == "restarting"
            await clock.advance(5.0)
            assert agent(runtime, "l").status == "running"
            assert first.status == "restarting"
    assert [step for step in steps(witness, "l") if "restarting" in step or "created" in step] == [
        ("created", "starting"),
        ("stopping", "restarting"),
        ("created", "starting"),
    ]
    assert_walk(steps(witness, "l"))


async def test_an_end_that_was_wanted_is_stopped_and_one_that_was_not_is_failed() -> None:
    ending, failing = Owing("ending", restart="transient"), Owing("failing", restart="temporary")
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [ending, failing])) as runtime:
            await runtime.send("ending", "bye")
            await runtime.send("failing", "crash")
            await settle()
            assert (ending.status, failing.status) == ("stopped", "failed")
    assert (ending.status, failing.status) == ("stopped", "failed")


async def test_a_process_that_does_not_start_has_failed() -> None:
    class Unable(AgentProcess):
        async def on_start(self) -> None:
            raise BoomError

    unable, witness = Unable("u"), Witness()
    with anyio.fail_after(5), pytest.raises(StartError):
        await Runtime(Supervisor("root", [unable]), observers=[witness]).start()
    assert unable.status == "failed"
    assert steps(witness, "u") == [("created", "starting"), ("starting", "failed")]


async def test_a_deaf_process_has_failed_and_its_late_words_change_nothing() -> None:
    clock, witness, began, gate = ManualClock(), Witness(), asyncio.Event(), asyncio.Event()
    deaf = Deaf("d", began, gate, shutdown_timeout=1.0, handle_timeout=1.0)
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [deaf], backoff_base=5.0), clock=clock, observers=[witness]) as runtime:
            await runtime.send("d", "block")
            await began.wait()
            await clock.advance(2.0)
            assert steps(witness, "d")[-2:] == [("running", "failed"), ("failed", "restarting")]
            gate.set()
            await settle()
            assert deaf.status == "restarting"
            await clock.advance(5.0)
            assert (await runtime.ask("d", "?")).payload == "d#2"
    assert_walk(steps(witness, "d"))


@pytest.mark.parametrize("before", list(ProcessStatus))
@pytest.mark.parametrize("after", list(ProcessStatus))
async def test_a_step_is_taken_and_told_where_the_table_has_it_and_refused_where_not(
    before: ProcessStatus, after: ProcessStatus
) -> None:
    process, witness = Echo("e"), Witness()
    runtime = Runtime(observers=[witness])
    process.status = before
    if before is after:
        move(process, after, runtime.router)
        assert witness.events == []
    elif after in TRANSITIONS[before]:
        move(process, after, runtime.router)
        assert steps(witness, "e") == [(before.value, after.value)]
    else:
        with pytest.raises(IllegalTransition, match="'e'"):
            move(process, after, runtime.router)
        assert witness.events == []
    assert process.status is (after if before is after or after in TRANSITIONS[before] else before)


def test_the_table_has_every_status_and_only_a_next_life_follows_the_end() -> None:
    assert set(TRANSITIONS) == set(ProcessStatus)
    assert TRANSITIONS[ProcessStatus.STOPPED] == TRANSITIONS[ProcessStatus.FAILED] == {ProcessStatus.RESTARTING}
    assert all(ProcessStatus.CREATED not in after for after in TRANSITIONS.values())


# --- waiting ----------------------------------------------------------------------------------------------------------


async def test_who_owes_a_reply_is_waiting_until_the_last_one_is_paid_and_takes_messages_meanwhile() -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Owing("o")])) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(runtime.ask("o", number)) for number in range(2)]
            await settle()
            owing = agent(runtime, "o")
            assert owing.status == "waiting"
            assert (await runtime.ask("o", "now")).payload == "o#1"
            owing.reply_to(owing.owed.pop(), "one")
            assert owing.status == "waiting"
            owing.reply_to(owing.owed.pop(), "two")
            assert owing.status == "running"
            assert sorted([(await ask).payload for ask in asks]) == ["one", "two"]


async def test_a_caller_who_leaves_ends_the_waiting() -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Owing("o")])) as runtime, asyncio.TaskGroup() as callers:
            ask = callers.create_task(runtime.ask("o", 1))
            await settle()
            assert agent(runtime, "o").status == "waiting"
            ask.cancel()
            await settle()
            assert agent(runtime, "o").status == "running"


async def test_a_deferred_reply_whose_deadline_passes_ends_the_waiting() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Owing("o")]), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            ask = callers.create_task(late(runtime, "o"))
            await settle()
            assert agent(runtime, "o").status == "waiting"
            await clock.advance(3.1)
            assert ask.done()
            assert agent(runtime, "o").status == "running"
            agent(runtime, "o").reply_to(agent(runtime, "o").owed.pop(), "too late")  # harmless
            assert agent(runtime, "o").status == "running"


async def late(runtime: Runtime, name: str) -> None:
    with pytest.raises(DeadlineExceeded):
        await runtime.ask(name, 1, timeout=3.0)


async def test_a_gen_server_that_owes_a_reply_is_waiting_too() -> None:
    class Server(GenServer):
        async def handle_call(self, payload: Any, from_: Message) -> Any:
            self.from_ = from_
            return self.defer()

        async def handle_cast(self, payload: Any) -> None:
            self.reply_to(self.from_, payload)

    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Server("s")])) as runtime, asyncio.TaskGroup() as callers:
            call = callers.create_task(runtime.call("s", "?"))
            await settle()
            assert agent(runtime, "s").status == "waiting"
            await runtime.cast("s", "!")
            assert await call == "!"
            assert agent(runtime, "s").status == "running"


async def test_who_owes_a_reply_when_it_is_suspended_still_waits_after_it_is_resumed() -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Owing("o")])) as runtime, asyncio.TaskGroup() as callers:
            ask = callers.create_task(runtime.ask("o", 1))
            await settle()
            await runtime.suspend("o")
            await settle()
            assert agent(runtime, "o").status == "suspended"
            await runtime.resume("o")
            await settle()
            assert agent(runtime, "o").status == "waiting"
            await runtime.send("o", "pay")
            assert (await ask).payload == "paid"
            assert agent(runtime, "o").status == "running"


async def test_a_debt_that_is_paid_while_suspended_is_forgotten_at_the_resumption() -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Owing("o")])) as runtime, asyncio.TaskGroup() as callers:
            ask = callers.create_task(runtime.ask("o", 1))
            await settle()
            await runtime.suspend("o")
            await settle()
            owing = agent(runtime, "o")
            owing.reply_to(owing.owed.pop(), "paid")
            assert (await ask).payload == "paid"
            assert owing.status == "suspended"
            await runtime.resume("o")
            await settle()
            assert owing.status == "running"


async def test_a_reply_that_comes_before_the_handler_has_deferred_it_is_not_lost() -> None:
    class Quick(AgentProcess):
        async def handle(self, message: Message) -> Any:
            self.reply_to(message, "early")
            return self.defer()

    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Quick("q")])) as runtime:
            assert (await runtime.ask("q", 1, timeout=1.0)).payload == "early"
            assert agent(runtime, "q").status == "running"


async def test_a_debt_of_an_incarnation_that_turned_deaf_is_handled_by_the_next_one() -> None:
    began, gate, clock = asyncio.Event(), asyncio.Event(), ManualClock()

    class DeafOwing(AgentProcess):
        async def handle(self, message: Message) -> Any:
            if message.payload == "block":
                began.set()
                while not gate.is_set():
                    try:
                        await gate.wait()
                    except asyncio.CancelledError:
                        continue
                return None
            return self.defer() if self.id.endswith("#1") else self.id

    deaf = DeafOwing("d", shutdown_timeout=1.0, handle_timeout=1.0)
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [deaf], backoff_base=0.0), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            ask = callers.create_task(runtime.ask("d", "defer", timeout=20.0))
            await settle()
            await runtime.send("d", "block")
            await began.wait()
            await clock.advance(2.0)
            answered = ask.done()
            gate.set()
            await settle()
            assert answered
            assert (await ask).payload == "d#2"


# --- whatever happens -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Op:
    """One thing that is done to one process."""

    verb: str
    whom: int


verbs = st.sampled_from(
    [
        *(
            "crash",
            "crash_outside",
            "suspend",
            "resume",
            "stop",
            "restart",
            "defer",
            "defer",
            "pay",
            "now",
            "bye",
            "time",
            "turn",
            "leave",
        ),
        *("spawn", "drain"),
    ]
)
NAMES = ["a", "b", "c", "x", "y"]


class Play:
    """A small tree and a list of operations on it."""

    def __init__(self, strategy: str) -> None:
        self.clock = ManualClock()
        self.witness = Witness()
        inner = Supervisor("inner", [Owing("b"), Owing("c", restart="transient")], strategy, max_restarts=2, backoff_base=0.5)
        dynamic = DynamicSupervisor("dynamic", max_restarts=2, backoff_base=0.5)
        root = Supervisor("root", [Owing("a"), inner, dynamic], strategy, max_restarts=50, backoff_base=0.5)
        self.runtime = Runtime(root, clock=self.clock, observers=[self.witness], watchdog=None)

    async def quietly(self, verb: str, name: str) -> None:
        try:
            await self.one(verb, name)
        except IllegalTransition:
            raise
        except PorticoError:
            pass

    async def run(self, operations: list[Op]) -> None:
        await self.runtime.start()
        seen: set[str] = set()
        async with asyncio.TaskGroup() as tasks:
            asks: list[asyncio.Task[None]] = []
            for op in operations:
                name = NAMES[op.whom % len(NAMES)]
                match op.verb:
                    case "time":
                        await self.clock.advance(0.7)
                    case "turn":
                        await asyncio.sleep(0)
                    case "leave":
                        for ask in asks:
                            ask.cancel()
                    case _:
                        asks.append(tasks.create_task(self.quietly(op.verb, name)))
                seen |= {process.status.value for process in self.runtime.all_agents()}
            await self.clock.advance(40.0)
            stopping = tasks.create_task(self.runtime.stop())
            await self.clock.advance(60.0)
            assert stopping.done()
            await self.clock.advance(60.0)
        assert seen <= {status.value for status in ProcessStatus}
        assert all(ask.done() for ask in asks)

    async def one(self, verb: str, name: str) -> None:
        runtime = self.runtime
        match verb:
            case "suspend":
                await runtime.suspend(name)
            case "resume":
                await runtime.resume(name)
            case "stop":
                await runtime.stop_agent("dynamic", name)
            case "drain":
                await runtime.stop_agent("dynamic", name, "all")
            case "restart":
                await runtime.restart_agent(name)
            case "spawn":
                await runtime.spawn("dynamic", Owing, name)
            case "crash" | "bye" | "pay":
                await runtime.send(name, verb)
            case "crash_outside":
                await ask_from_outside(runtime, name, "crash", 5.0)
            case _:
                await runtime.ask(name, verb, timeout=5.0)

    def check(self) -> None:
        by_name: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for event in self.witness.of(EventKind.PROCESS_STATUS):
            by_name[event.name].append((event.data["before"], event.data["status"]))
        assert {"a", "b", "c"} <= set(by_name)
        for walk in by_name.values():
            assert_walk(walk)
            assert walk[-1][1] in {"stopped", "failed"}
        reports = [str(event.data["report"]) for event in self.witness.of(EventKind.SUPERVISOR_REPORT)]
        assert not [report for report in reports if "IllegalTransition" in report]
        assert not [event for event in self.witness.events if "IllegalTransition" in str(event.data.get("reason"))]


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    operations=st.lists(st.builds(Op, verbs, st.integers(0, 4)), min_size=1, max_size=30),
    strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
)
def test_whatever_is_done_to_a_tree_each_process_walks_through_the_table(operations: list[Op], strategy: str) -> None:
    play = Play(strategy)
    asyncio.run(asyncio.wait_for(play.run(operations), 30))
    play.check()


async def test_a_process_that_ended_and_cannot_be_made_again_leaves_its_supervisor_alive() -> None:
    class Unmakeable(AgentProcess):
        def __init__(self, name: str) -> None:
            raise BoomError

    witness = Witness()
    with anyio.fail_after(5):
        root = Supervisor("root", [Owing("o", restart="transient"), Echo("e")], backoff_base=0.0)
        async with Runtime(root, observers=[witness]) as runtime:
            await runtime.send("o", "bye")
            await settle()
            with pytest.raises(StartError):
                await runtime.replace("o", Unmakeable)
            await settle()
            assert runtime.alive
            assert agent(runtime, "e").id == "e#1"
    assert_walk(steps(witness, "o"))


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_two_crashes_in_a_row_after_a_sibling_has_ended_leave_the_supervisor_alive(strategy: str) -> None:
    """The one that ended comes back with its group; until it has, it is still `stopped`."""
    witness = Witness()
    with anyio.fail_after(5):
        root = Supervisor("root", [Owing("b"), Owing("c", restart="transient")], strategy, backoff_base=0.0)
        async with Runtime(root, observers=[witness]) as runtime:
            await runtime.send("c", "bye")
            await settle()
            assert agent(runtime, "c").status == "stopped"
            await runtime.send("b", "crash")
            await runtime.send("b", "crash")
            await settle()
            assert runtime.alive
            assert (await runtime.ask("b", "now")).payload == "b#3"
    assert_walk(steps(witness, "c"))


async def test_no_client_takes_a_supervisor_down_by_crashing_who_stands_beside_one_that_has_ended() -> None:
    with anyio.fail_after(5):
        root = Supervisor("root", [Owing("b"), Owing("c", restart="transient")], "one_for_all", backoff_base=0.0)
        async with Runtime(root) as runtime:
            await runtime.send("c", "bye")
            await settle()
            with pytest.raises(AgentCrashed):
                await ask_from_outside(runtime, "b", "crash")
            assert runtime.alive
