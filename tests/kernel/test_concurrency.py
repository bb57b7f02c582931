"""`concurrency=n`: several messages of one agent in hand at once, and what a crash, a deadline or a stop does to each of them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import AgentCrashed, DeadlineExceeded, LifecycleError, MailboxFull, ProcessExited, SettingOutOfRange, Suspended
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.events import EventKind
from portico.kernel.messages import Message  # type hints become contracts
from portico.kernel.process import AgentProcess, ErrorAction
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Echo, Witness, agent, ask_from_outside

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio


class Board:
    """What the test and all lives of an agent share: who began, who was cancelled, and a gate for each payload."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.inside = 0
        self.most = 0

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    def open(self, *names: str) -> None:
        for name in names:
            self.gate(name).set()

    def seen(self, start: str) -> list[str]:
        """The lines of the log that begin so, in any order."""
        return sorted(line.removeprefix(start) for line in self.log if line.startswith(start))


class Worker(AgentProcess):
    """Waits at the gate of its payload; `boom…` crashes at first, `doom…` always, `deaf…` hears no cancellation."""

    retry_delay = 0.0

    def __init__(self, name: str, board: Board, *, action: ErrorAction = ErrorAction.ESCALATE, **options: Any) -> None:
        super().__init__(name, **options)
        self.board = board
        self.action = action

    async def handle(self, message: Message) -> Any:
        return await self.work(str(message.payload), message)

    @operation(idempotent=False)
    async def pay(self, what: str, message: Message) -> dict[str, Any]:
        return await self.work(what, message)

    async def work(self, what: str, message: Message) -> dict[str, Any]:
        board = self.board
        board.log.append(f"began {what}/{message.attempt}")
        board.inside += 1
        board.most = max(board.most, board.inside)
        try:
            await self.pass_gate(what)
        except asyncio.CancelledError:
            board.log.append(f"cancelled {what}/{message.attempt}")
            raise
        finally:
            board.inside -= 1
        if what.startswith("doom") or (what.startswith("boom") and message.attempt == 0):
            raise BoomError(what)
        board.log.append(f"did {what}/{message.attempt}")
        return {"what": what, "id": self.id, "attempt": message.attempt}

    async def pass_gate(self, what: str) -> None:
        gate = self.board.gate(what)
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                if not what.startswith("deaf"):
                    raise

    async def on_error(self, error: Exception, message: Message) -> ErrorAction:
        self.board.log.append(f"on_error {message.payload}")
        return self.action


def running(process: AgentProcess, clock: ManualClock, *, max_restarts: int = 3, observers: list[Any] | None = None) -> Runtime:
    root = Supervisor("root", [process], max_restarts=max_restarts, backoff_base=0.0)
    return Runtime(root, clock=clock, observers=observers)


@asynccontextmanager
async def in_the_end(board: Board, *names: str) -> AsyncGenerator[None]:
    """Let the deaf go in any case, since they hold up even a test that fails."""
    try:
        yield
    finally:
        board.open(*names)
        await settle()


# --- at once, and never more ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adjusted", [False, True])
async def test_so_many_messages_are_in_hand_at_once_and_never_more(*, adjusted: bool) -> None:
    board, names = Board(), [f"m{number}" for number in range(10)]
    process = Worker("w", board).adjust(concurrency=3) if adjusted else Worker("w", board, concurrency=3)
    with anyio.fail_after(5):
        async with running(process, ManualClock()) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(runtime.call("w", name)) for name in names]
            await settle()
            assert board.seen("began ") == ["m0/0", "m1/0", "m2/0"]
            board.open("m1")
            await settle()
            assert board.seen("began ") == ["m0/0", "m1/0", "m2/0", "m3/0"]
            board.open(*names)
        assert [ask.result()["what"] for ask in asks] == names
    assert board.most == 3


async def test_with_one_pair_of_hands_the_order_is_strict() -> None:
    board, names = Board(), [f"m{number}" for number in range(5)]
    with anyio.fail_after(5):
        async with running(Worker("w", board, concurrency=1), ManualClock()) as runtime, asyncio.TaskGroup() as callers:
            for name in names:
                callers.create_task(runtime.call("w", name))
            await settle()
            board.open(*reversed(names[1:]))
            await settle()
            assert board.log == ["began m0/0"]
            board.open("m0")
    assert board.most == 1
    assert [line for line in board.log if line.startswith("began")] == [f"began {name}/0" for name in names]


async def test_hands_that_are_free_take_what_comes_later() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(Worker("w", board, concurrency=2), ManualClock()) as runtime, asyncio.TaskGroup() as callers:
            callers.create_task(runtime.call("w", "long"))
            await settle()
            for number in range(200):  # far beyond the number after which a receiver yields
                board.open(f"m{number}")
                assert (await runtime.call("w", f"m{number}"))["what"] == f"m{number}"
            board.open("long")
    assert board.most == 2


async def test_a_higher_priority_is_taken_first_by_whoever_is_free() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(Worker("w", board, concurrency=2), ManualClock()) as runtime, asyncio.TaskGroup() as callers:
            for name, priority in (("a", 0), ("b", 0), ("low", 0), ("high", 5), ("higher", 9)):
                callers.create_task(runtime.ask("w", name, priority=priority))
            board.open("low", "high", "higher")
            await settle()
            assert board.log[:2] == ["began higher/0", "did higher/0"]
            board.open("a", "b")
    assert [line for line in board.log if line.startswith("began")] == [
        "began higher/0",
        "began high/0",
        "began a/0",
        "began b/0",
        "began low/0",
    ]


async def test_what_waits_is_bounded_besides_what_is_in_hand() -> None:
    board = Board()
    process = Worker("w", board, concurrency=2, mailbox_size=2)
    with anyio.fail_after(5):
        async with running(process, ManualClock()) as runtime, asyncio.TaskGroup() as callers:
            for name in ("a", "b"):
                callers.create_task(runtime.call("w", name))
            await settle()
            for name in ("c", "d"):
                callers.create_task(runtime.call("w", name))
            await settle()
            with pytest.raises(MailboxFull):
                await runtime.call("w", "e")
            board.open("a", "b", "c", "d")


@pytest.mark.parametrize("number", [0, -1])
def test_less_than_one_at_once_is_refused(number: int) -> None:
    with pytest.raises(SettingOutOfRange, match=r"concurrency of 'w' is .* at least 1"):
        Worker("w", Board(), concurrency=number)


def test_less_than_one_at_once_is_refused_by_adjust_too() -> None:
    with pytest.raises(SettingOutOfRange, match=r"concurrency of 'w' is .* at least 1"):
        Worker("w", Board()).adjust(concurrency=0)


class Stateful(AgentProcess):
    """Touches its state."""

    async def handle(self, message: Message) -> Any:
        if message.payload == "read":
            return self.state.get("n")
        self.state = {"n": 1}
        return "written"


@pytest.mark.parametrize("way", ["read", "write"])
async def test_several_at_once_have_no_state(way: str) -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Stateful("s", concurrency=2)], max_restarts=0)) as runtime:
            with pytest.raises(LifecycleError, match=r"'s' has concurrency=2: it has no self\.state"):
                await ask_from_outside(runtime, "s", way)


async def test_the_concurrency_holds_after_a_restart() -> None:
    board, clock = Board(), ManualClock()
    board.open("boom")
    with anyio.fail_after(5):
        async with running(Worker("w", board).adjust(concurrency=2), clock) as runtime, asyncio.TaskGroup() as callers:
            crash = callers.create_task(runtime.call("w", "boom"))
            await settle()
            await clock.advance()
            for name in ("a", "b", "c"):
                callers.create_task(runtime.call("w", name))
            await settle()
            assert board.seen("began ") == ["a/0", "b/0", "boom/0", "boom/1"]
            board.open("a", "b", "c")
        assert crash.result()["id"] == "w#2"


async def test_an_agent_with_several_hands_may_ask_itself() -> None:
    class Recursive(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return "leaf" if message.payload == 0 else await self.call(self.name, message.payload - 1)

    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Recursive("r", concurrency=3)])) as runtime:
            assert await runtime.call("r", 2) == "leaf"


# --- a crash, and the others ------------------------------------------------------------------------------------------


async def test_a_crash_charges_its_own_message_and_the_others_finish_and_reply() -> None:
    board, clock = Board(), ManualClock()
    board.open("boom")
    with anyio.fail_after(5):
        async with running(Worker("w", board, concurrency=3), clock) as runtime, asyncio.TaskGroup() as callers:
            one, two, crash = (callers.create_task(runtime.call("w", name, timeout=60)) for name in ("one", "two", "boom"))
            await settle()
            board.open("one", "two")
            await clock.advance(1.0)
        assert [task.result()["id"] for task in (one, two, crash)] == ["w#1", "w#1", "w#2"]
    assert board.seen("began ") == ["boom/0", "boom/1", "one/0", "two/0"]
    assert crash.result()["attempt"] == 1


async def test_nothing_new_is_taken_while_the_others_finish_after_a_crash() -> None:
    board, clock = Board(), ManualClock()
    board.open("boom", "late")
    with anyio.fail_after(5):
        async with running(Worker("w", board, concurrency=2), clock) as runtime, asyncio.TaskGroup() as callers:
            callers.create_task(runtime.call("w", "one", timeout=60))
            callers.create_task(runtime.call("w", "boom", timeout=60))
            await settle()
            late = callers.create_task(runtime.call("w", "late", timeout=60))
            await settle()
            assert not late.done()
            board.open("one")
            await clock.advance(1.0)
        assert late.result()["id"] == "w#2"


async def test_others_that_do_not_finish_in_time_are_cancelled_and_delivered_again_uncharged() -> None:
    board, clock = Board(), ManualClock()
    board.open("boom")
    process = Worker("w", board, concurrency=3, shutdown_timeout=5.0)
    with anyio.fail_after(5):
        async with running(process, clock) as runtime, asyncio.TaskGroup() as callers:
            slow, quick, crash = (callers.create_task(runtime.call("w", name, timeout=60)) for name in ("slow", "quick", "boom"))
            await clock.advance(4.9)
            assert board.seen("cancelled ") == []
            board.open("quick")
            await clock.advance(0.2)
            assert board.seen("cancelled ") == ["slow/0"]
            board.open("slow")
            await clock.advance(1.0)
        assert quick.result() == {"what": "quick", "id": "w#1", "attempt": 0}
        assert slow.result() == {"what": "slow", "id": "w#2", "attempt": 0}
        assert crash.result() == {"what": "boom", "id": "w#2", "attempt": 1}


async def test_what_must_not_run_twice_ends_as_a_crash_where_a_sibling_cut_it_short() -> None:
    board, clock, witness = Board(), ManualClock(), Witness()
    board.open("boom")
    process = Worker("w", board, concurrency=2)
    with anyio.fail_after(5):
        async with running(process, clock, observers=[witness]) as runtime, asyncio.TaskGroup() as callers:
            paying = callers.create_task(expect_crashed(runtime, {"what": "slow"}, message_type="pay"))
            crash = callers.create_task(runtime.call("w", "boom", timeout=60))
            await clock.advance(6.0)
            await clock.advance(1.0)
            assert (await paying).attempts == 1
        assert crash.result()["attempt"] == 1
    assert board.seen("began ") == ["boom/0", "boom/1", "slow/0"]
    assert len(witness.of(EventKind.DEAD_LETTER)) == 1


async def expect_crashed(runtime: Runtime, payload: Any, message_type: str = "message", name: str = "w") -> AgentCrashed:
    with pytest.raises(AgentCrashed) as caught:
        await runtime.ask(name, payload, timeout=60, message_type=message_type)
    return caught.value


async def test_two_that_crash_at_once_are_both_charged() -> None:
    board, clock, witness = Board(), ManualClock(), Witness()
    with anyio.fail_after(5):
        async with running(Worker("w", board, concurrency=3), clock, observers=[witness]) as runtime:
            async with asyncio.TaskGroup() as callers:
                asks = [callers.create_task(runtime.call("w", name, timeout=60)) for name in ("boom1", "boom2", "calm")]
                await settle()
                board.open("boom1", "boom2")
                await settle()
                board.open("calm")
                await clock.advance(1.0)
            assert [ask.result()["attempt"] for ask in asks] == [1, 1, 0]
            assert [ask.result()["id"] for ask in asks] == ["w#2", "w#2", "w#1"]
            assert len(witness.of(EventKind.PROCESS_CRASHED)) == 1


async def test_one_that_crashes_while_the_crash_of_another_is_settled_is_charged_too() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(Worker("w", board, concurrency=2), clock) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(runtime.call("w", name, timeout=60)) for name in ("boom1", "boom2")]
            await settle()
            board.open("boom1")
            await clock.advance(3.0)
            board.open("boom2")
            await clock.advance(1.0)
        assert [ask.result() for ask in asks] == [{"what": name, "id": "w#2", "attempt": 1} for name in ("boom1", "boom2")]


async def test_a_message_that_always_crashes_ends_and_never_charges_those_beside_it() -> None:
    board, clock = Board(), ManualClock()
    board.open("doom")
    process = Worker("w", board, concurrency=2, shutdown_timeout=1.0)
    with anyio.fail_after(5):
        async with running(process, clock, max_restarts=2) as runtime, asyncio.TaskGroup() as callers:
            slow = callers.create_task(runtime.call("w", "slow", timeout=600))
            crash = callers.create_task(expect_crashed(runtime, "doom"))
            for _ in range(6):
                await clock.advance(1.1)
            assert (await crash).attempts == 3
            board.open("slow")
            await clock.advance(1.0)
        assert slow.result() == {"what": "slow", "id": "w#4", "attempt": 0}


async def test_the_next_life_begins_only_when_all_hands_of_the_former_have_ended() -> None:
    board, clock = Board(), ManualClock()
    board.open("boom")
    process = Worker("w", board, concurrency=4)
    with anyio.fail_after(5):
        async with running(process, clock) as runtime, asyncio.TaskGroup() as callers:
            for name in ("a", "b", "c", "boom"):
                callers.create_task(runtime.call("w", name, timeout=60))
            await clock.advance(6.0)
            board.open("a", "b", "c")
            await clock.advance(1.0)
    assert board.most == 4
    assert board.seen("cancelled ") == ["a/0", "b/0", "c/0"]


# --- cancelling one of several ----------------------------------------------------------------------------------------


async def test_a_deadline_cancels_only_its_own_handling() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(Worker("w", board, concurrency=3), clock) as runtime, asyncio.TaskGroup() as callers:
            one = callers.create_task(runtime.call("w", "one", timeout=60))
            late = callers.create_task(expect_late(runtime, "late"))
            two = callers.create_task(runtime.call("w", "two", timeout=60))
            await clock.advance(2.0)
            assert late.done()
            assert board.seen("cancelled ") == ["late/0"]
            board.open("one", "two")
        assert [one.result()["id"], two.result()["id"]] == ["w#1", "w#1"]
        assert agent_number(runtime) == 1


def agent_number(runtime: Runtime, name: str = "w") -> int:
    return runtime.router.registry.lookup(name).incarnations


async def expect_late(runtime: Runtime, payload: str, name: str = "w") -> None:
    with pytest.raises(DeadlineExceeded):
        await runtime.ask(name, payload, timeout=1.0)


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_a_caller_who_leaves_cancels_only_its_own_handling_and_frees_that_hand(position: int) -> None:
    board = Board()
    board.open("next")
    names = ["a", "b", "c"]
    with anyio.fail_after(5):
        async with running(Worker("w", board, concurrency=3), ManualClock()) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(runtime.call("w", name)) for name in names]
            await settle()
            asks[position].cancel()
            await settle()
            assert board.seen("cancelled ") == [f"{names[position]}/0"]
            assert (await runtime.call("w", "next"))["id"] == "w#1"
            board.open(*names)
        assert [ask.cancelled() for ask in asks] == [number == position for number in range(3)]


async def test_a_deaf_handler_crashes_the_process_and_those_beside_it_come_again_uncharged() -> None:
    board, clock, witness = Board(), ManualClock(), Witness()
    process = Worker("w", board, concurrency=2, shutdown_timeout=5.0)
    with anyio.fail_after(5):
        async with running(process, clock, observers=[witness]) as runtime:
            async with asyncio.TaskGroup() as callers, in_the_end(board, "deaf"):
                deaf = callers.create_task(expect_late(runtime, "deaf"))
                calm = callers.create_task(runtime.call("w", "calm", timeout=60))
                await clock.advance(2.0)
                assert deaf.done()
                assert agent_number(runtime) == 1
                await clock.advance(5.0)
                assert agent_number(runtime) == 2
                board.open("calm")
                await clock.advance(1.0)
            assert calm.result() == {"what": "calm", "id": "w#2", "attempt": 0}
            assert witness.names(EventKind.PROCESS_CRASHED) == ["w"]


async def test_a_deaf_handler_beside_a_crash_does_not_hold_up_the_next_life() -> None:
    board, clock = Board(), ManualClock()
    board.open("boom")
    process = Worker("w", board, concurrency=2, shutdown_timeout=1.0)
    with anyio.fail_after(5):
        async with running(process, clock) as runtime:
            async with asyncio.TaskGroup() as callers, in_the_end(board, "deaf"):
                deaf = callers.create_task(runtime.call("w", "deaf", timeout=60))
                crash = callers.create_task(runtime.call("w", "boom", timeout=60))
                await clock.advance(1.1)
                await clock.advance(1.1)
                await clock.advance(1.1)
                assert crash.done()
                assert agent_number(runtime) == 2
                assert board.seen("began ") == ["boom/0", "boom/1", "deaf/0", "deaf/1"]
            assert crash.result() == {"what": "boom", "id": "w#2", "attempt": 1}
            assert deaf.result()["id"] == "w#2"


async def test_a_deaf_handler_that_must_not_run_twice_ends_as_a_crash() -> None:
    board, clock = Board(), ManualClock()
    board.open("boom")
    process = Worker("w", board, concurrency=2, shutdown_timeout=1.0)
    with anyio.fail_after(5):
        async with running(process, clock) as runtime:
            async with asyncio.TaskGroup() as callers, in_the_end(board, "deaf"):
                deaf = callers.create_task(expect_crashed(runtime, {"what": "deaf"}, message_type="pay"))
                callers.create_task(runtime.call("w", "boom", timeout=60))
                for _ in range(3):
                    await clock.advance(1.1)
                assert deaf.done()
            assert board.seen("began ") == ["boom/0", "boom/1", "deaf/0"]


async def test_handle_timeout_is_counted_for_each_handling() -> None:
    board, clock = Board(), ManualClock()
    process = Worker("w", board, concurrency=2, handle_timeout=10.0)
    with anyio.fail_after(5):
        async with running(process, clock, max_restarts=0) as runtime:
            async with asyncio.TaskGroup() as callers:
                early = callers.create_task(crashed_outside(runtime, "early"))
                await clock.advance(6.0)
                later = callers.create_task(runtime.call("w", "later", timeout=60))
                await clock.advance(3.9)
                assert not early.done()
                await clock.advance(0.2)  # the first has had its ten seconds, the second four
                assert board.seen("cancelled ") == ["early/0"]
                board.open("later")
                await clock.advance(1.0)
                assert "handle_timeout" in str((await early).cause)
            assert later.result() == {"what": "later", "id": "w#1", "attempt": 0}


async def crashed_outside(runtime: Runtime, payload: Any, name: str = "w") -> AgentCrashed:
    with pytest.raises(AgentCrashed) as caught:
        await ask_from_outside(runtime, name, payload, timeout=60)
    return caught.value


# --- stop, restart, suspend -------------------------------------------------------------------------------------------


async def test_a_stop_lets_all_in_hand_finish() -> None:
    board = Board()
    with anyio.fail_after(5):
        runtime = running(Worker("w", board, concurrency=3), ManualClock())
        async with asyncio.TaskGroup() as tasks:
            await runtime.start()
            asks = [tasks.create_task(runtime.call("w", name, timeout=60)) for name in ("a", "b", "c")]
            waiting = tasks.create_task(expect_exited(runtime, "late"))
            await settle()
            stopping = tasks.create_task(runtime.stop())
            await settle()
            assert not stopping.done()
            board.open("a", "b", "c", "late")
        assert [ask.result()["what"] for ask in asks] == ["a", "b", "c"]
        assert waiting.done()
    assert "late/0" not in board.seen("began ")


async def expect_exited(runtime: Runtime, payload: Any, name: str = "w") -> None:
    with pytest.raises(ProcessExited):
        await runtime.ask(name, payload, timeout=60)


async def test_a_stop_cancels_what_does_not_finish_in_time_and_answers_it() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        runtime = running(Worker("w", board, concurrency=3, shutdown_timeout=2.0), clock)
        async with asyncio.TaskGroup() as tasks:
            await runtime.start()
            asks = [tasks.create_task(expect_exited(runtime, name)) for name in ("a", "b")]
            quick = tasks.create_task(runtime.call("w", "quick", timeout=60))
            await settle()
            stopping = tasks.create_task(runtime.stop())
            await clock.advance(1.0)
            board.open("quick")
            await settle()
            assert quick.result()["what"] == "quick"
            assert not stopping.done()
            await clock.advance(1.1)
            assert board.seen("cancelled ") == ["a/0", "b/0"]
            await stopping
            assert all(ask.done() for ask in asks)


async def test_despawn_cancels_every_handling_of_the_child() -> None:
    board, clock = Board(), ManualClock()
    root = Supervisor("root", [DynamicSupervisor("dyn", backoff_base=0.0)])
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as tasks:
            await runtime.spawn("dyn", Worker, "w", {"board": board, "concurrency": 3})
            asks = [tasks.create_task(expect_exited(runtime, name)) for name in ("a", "b", "c")]
            await settle()
            await runtime.despawn("dyn", "w")
            await settle()
            assert board.seen("cancelled ") == ["a/0", "b/0", "c/0"]
            assert board.inside == 0
            assert all(ask.done() for ask in asks)


async def test_a_replacement_cuts_every_handling_short_that_takes_longer_than_its_timeout() -> None:
    class Newer(Worker):
        """The next version."""

    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(Worker("w", board, concurrency=2), clock) as runtime, asyncio.TaskGroup() as tasks:
            asks = [tasks.create_task(runtime.call("w", name, timeout=60)) for name in ("a", "b")]
            await settle()
            replacing = tasks.create_task(runtime.replace("w", Newer, timeout=3.0))
            await clock.advance(3.1)
            await clock.advance(0.1)
            assert replacing.done()
            assert board.seen("cancelled ") == ["a/0", "b/0"]
            assert board.most == 2  # never more at once than it has hands, the former life included
            assert type(agent(runtime, "w")) is Newer
            board.open("a", "b")
        assert [ask.result() for ask in asks] == [{"what": name, "id": "w#2", "attempt": 0} for name in ("a", "b")]


async def test_a_sibling_that_one_for_all_stops_has_its_messages_delivered_again_uncharged() -> None:
    board, other, clock = Board(), Board(), ManualClock()
    other.open("boom")
    children = [Worker("w", board, concurrency=2, shutdown_timeout=1.0), Worker("x", other)]
    root = Supervisor("root", children, strategy="one_for_all", backoff_base=0.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as tasks:
            asks = [tasks.create_task(runtime.call("w", name, timeout=60)) for name in ("a", "b")]
            await settle()
            crash = tasks.create_task(runtime.call("x", "boom", timeout=60))
            await clock.advance(1.1)
            await clock.advance(1.0)
            assert board.seen("began ") == ["a/0", "a/0", "b/0", "b/0"]
            board.open("a", "b")
        assert [ask.result()["id"] for ask in asks] == ["w#2", "w#2"]
        assert [ask.result()["attempt"] for ask in asks] == [0, 0]
        assert crash.result()["attempt"] == 1


async def test_a_suspended_agent_finishes_all_in_hand_and_takes_nothing_more_until_it_is_resumed() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(Worker("w", board, concurrency=2), ManualClock()) as runtime, asyncio.TaskGroup() as tasks:
            asks = [tasks.create_task(runtime.call("w", name)) for name in ("a", "b")]
            await settle()
            await runtime.suspend("w", "lunch")
            with pytest.raises(Suspended):
                await runtime.call("w", "c")
            await runtime.send("w", "later")
            board.open("a", "b", "later")
            await settle()
            assert [ask.result()["what"] for ask in asks] == ["a", "b"]
            assert agent(runtime, "w").status == "suspended"
            assert "later/0" not in board.seen("began ")
            await runtime.resume("w")
            await settle()
            assert "later/0" in board.seen("did ")


async def test_a_resumed_agent_uses_its_free_hands_though_one_is_still_at_work() -> None:
    board = Board()
    board.open("next")
    with anyio.fail_after(5):
        async with running(Worker("w", board, concurrency=2), ManualClock()) as runtime, asyncio.TaskGroup() as tasks:
            tasks.create_task(runtime.call("w", "long"))
            await settle()
            await runtime.suspend("w")
            await settle()
            await runtime.resume("w")
            asked = tasks.create_task(runtime.call("w", "next"))
            await settle()
            answered = asked.done()
            board.open("long")
        assert answered


# --- on_error, deferred replies ---------------------------------------------------------------------------------------


async def test_skip_concerns_nobody_else_in_hand() -> None:
    board = Board()
    board.open("doom")
    process = Worker("w", board, action=ErrorAction.SKIP, concurrency=2)
    with anyio.fail_after(5):
        async with running(process, ManualClock()) as runtime, asyncio.TaskGroup() as tasks:
            calm = tasks.create_task(runtime.call("w", "calm"))
            await settle()
            await expect_crashed(runtime, "doom")
            board.open("calm")
        assert calm.result() == {"what": "calm", "id": "w#1", "attempt": 0}


async def test_retry_handles_one_again_while_the_others_go_on() -> None:
    board, clock = Board(), ManualClock()
    board.open("boom", "next")
    process = Worker("w", board, action=ErrorAction.RETRY, concurrency=2)
    process.retry_delay = 0.0
    with anyio.fail_after(5):
        async with running(process, clock) as runtime, asyncio.TaskGroup() as tasks:
            calm = tasks.create_task(runtime.call("w", "calm", timeout=60))
            retried = tasks.create_task(runtime.call("w", "boom", timeout=60))
            await clock.advance(1.0)
            assert retried.result() == {"what": "boom", "id": "w#1", "attempt": 1}
            board.open("calm")
        assert calm.result() == {"what": "calm", "id": "w#1", "attempt": 0}


async def test_a_retry_that_waits_when_a_sibling_crashes_loses_nothing_and_charges_nothing_more() -> None:
    class Patiently(Worker):
        retry_delay = 100.0

        async def on_error(self, error: Exception, message: Message) -> ErrorAction:
            return ErrorAction.RETRY if message.payload == "boom1" else ErrorAction.ESCALATE

    board, clock = Board(), ManualClock()
    board.open("boom1")
    with anyio.fail_after(5):
        async with running(Patiently("w", board, concurrency=2), clock) as runtime, asyncio.TaskGroup() as tasks:
            asks = [tasks.create_task(runtime.call("w", name, timeout=600)) for name in ("boom1", "boom2")]
            await clock.advance(1.0)
            board.open("boom2")
            await clock.advance(6.0)  # the retry would come after shutdown_timeout: it is cut short
            await clock.advance(200.0)
        assert [ask.result()["id"] for ask in asks] == ["w#2", "w#2"]


async def test_stop_ends_the_process_normally_and_those_beside_it_finish() -> None:
    board, clock = Board(), ManualClock()
    board.open("doom")
    process = Worker("w", board, action=ErrorAction.STOP, concurrency=2, restart="transient")
    with anyio.fail_after(5):
        async with running(process, clock) as runtime, asyncio.TaskGroup() as tasks:
            calm = tasks.create_task(runtime.call("w", "calm", timeout=60))
            await settle()
            await expect_crashed(runtime, "doom")
            await clock.advance(1.0)
            assert not calm.done()
            board.open("calm")
            await settle()
            assert calm.result() == {"what": "calm", "id": "w#1", "attempt": 0}
            assert agent(runtime, "w").status == "stopped"
            await expect_exited(runtime, "doom")


async def test_stop_answers_those_beside_it_that_do_not_finish_in_time() -> None:
    board, clock = Board(), ManualClock()
    board.open("doom")
    process = Worker("w", board, action=ErrorAction.STOP, concurrency=2, restart="transient", shutdown_timeout=1.0)
    with anyio.fail_after(5):
        async with running(process, clock) as runtime, asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(expect_crashed(runtime, "slow"))
            await settle()
            await expect_crashed(runtime, "doom")
            await clock.advance(1.1)
            assert board.seen("cancelled ") == ["slow/0"]
            assert slow.done()


class Deferring(AgentProcess):
    """Answers `late …` when told so by `answer`, and crashes on `crash`."""

    def __init__(self, name: str, owed: list[Message], **options: Any) -> None:
        super().__init__(name, **options)
        self.owed = owed

    async def handle(self, message: Message) -> Any:
        match message.payload:
            case "answer":
                for owed in self.owed:
                    self.reply_to(owed, f"{owed.payload} by {self.id}")
                self.owed.clear()
                return "done"
            case "crash":
                raise BoomError
            case _:
                self.owed.append(message)
                return self.defer()


async def test_deferred_replies_take_no_hand_and_are_answered_by_any() -> None:
    owed: list[Message] = []
    with anyio.fail_after(5):
        async with running(Deferring("d", owed, concurrency=2), ManualClock()) as runtime, asyncio.TaskGroup() as tasks:
            asks = [tasks.create_task(runtime.call("d", f"late {number}")) for number in range(5)]
            await settle()
            assert len(owed) == 5
            assert agent(runtime, "d").status == "waiting"
            assert await runtime.call("d", "answer") == "done"
        assert [ask.result() for ask in asks] == [f"late {number} by d#1" for number in range(5)]


async def test_deferred_replies_that_a_crash_left_open_are_owed_by_the_next_life() -> None:
    owed: list[Message] = []
    clock = ManualClock()
    with anyio.fail_after(5):
        async with running(Deferring("d", owed, concurrency=2), clock) as runtime, asyncio.TaskGroup() as tasks:
            asks = [tasks.create_task(runtime.call("d", f"late {number}", timeout=60)) for number in range(3)]
            await settle()
            owed.clear()
            await runtime.send("d", "crash")
            await clock.advance(1.0)
            assert len(owed) == 3
            await runtime.call("d", "answer")
        assert [ask.result() for ask in asks] == [f"late {number} by d#2" for number in range(3)]


async def test_deferred_replies_of_a_process_that_was_given_up_as_deaf_are_owed_by_the_next_life() -> None:
    class Mixed(Worker):
        async def handle(self, message: Message) -> Any:
            if message.payload == "later" and self.id.endswith("#1"):
                return self.defer()
            return await super().handle(message)

    board, clock = Board(), ManualClock()
    board.open("later")
    process = Mixed("w", board, concurrency=2, shutdown_timeout=1.0)
    with anyio.fail_after(5):
        async with running(process, clock) as runtime, asyncio.TaskGroup() as callers, in_the_end(board, "deaf"):
            deferred = callers.create_task(runtime.call("w", "later", timeout=60))
            callers.create_task(expect_late(runtime, "deaf"))
            await clock.advance(3.0)
            assert agent_number(runtime) == 2
            assert deferred.done()
            assert deferred.result() == {"what": "later", "id": "w#2", "attempt": 0}


async def test_calls_from_outside_that_make_an_agent_stop_itself_take_nobody_down() -> None:
    board, clock = Board(), ManualClock()
    board.open("doom", "calm")
    process = Worker("w", board, action=ErrorAction.STOP, concurrency=2)
    with anyio.fail_after(5):
        async with running(process, clock, max_restarts=2) as runtime:
            for _ in range(5):
                await crashed_outside(runtime, "doom")
                await clock.advance(0.1)
            assert runtime.alive
            assert (await runtime.call("w", "calm"))["attempt"] == 0


# --- hooks, tasks, neighbours -----------------------------------------------------------------------------------------


async def test_each_handling_hands_on_its_own_deadline_and_origin() -> None:
    class Forwarding(AgentProcess):
        def __init__(self, name: str, board: Board, **options: Any) -> None:
            super().__init__(name, **options)
            self.board = board

        async def handle(self, message: Message) -> Any:
            await self.board.gate("go").wait()
            return (await self.ask("seer", None)).payload

    class Seer(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return [message.origin.principal if message.origin else None, message.deadline]

    board, clock = Board(), ManualClock()
    root = Supervisor("root", [Forwarding("f", board, concurrency=2), Seer("seer")])
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as tasks:
            outside = tasks.create_task(ask_from_outside(runtime, "f", None, timeout=7.0))
            inside = tasks.create_task(runtime.ask("f", None, timeout=9.0))
            await settle()
            board.open("go")
        assert outside.result().payload == ["alice", clock.now() + 7.0]
        assert inside.result().payload == [None, clock.now() + 9.0]


async def test_a_task_of_its_own_that_raises_ends_all_in_hand_uncharged() -> None:
    class Undermined(Worker):
        async def on_start(self) -> None:
            if self.id.endswith("#1"):
                self.start_task(self.fail(), "failing")

        async def fail(self) -> None:
            await self.board.gate("fail").wait()
            raise BoomError

    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(Undermined("w", board, concurrency=3), clock) as runtime, asyncio.TaskGroup() as tasks:
            asks = [tasks.create_task(runtime.call("w", name, timeout=60)) for name in ("a", "b")]
            await settle()
            board.open("fail")
            await clock.advance(0.1)
            assert board.seen("cancelled ") == ["a/0", "b/0"]
            board.open("a", "b")
            await clock.advance(0.1)
        assert [ask.result() for ask in asks] == [{"what": name, "id": "w#2", "attempt": 0} for name in ("a", "b")]


async def test_on_stop_comes_after_the_last_of_those_in_hand() -> None:
    class Tidy(Worker):
        async def on_stop(self) -> None:
            self.board.log.append(f"stop with {self.board.inside} inside")

    board, clock = Board(), ManualClock()
    board.open("boom")
    with anyio.fail_after(5):
        async with running(Tidy("w", board, concurrency=3), clock) as runtime, asyncio.TaskGroup() as tasks:
            for name in ("a", "b", "boom"):
                tasks.create_task(runtime.call("w", name, timeout=60))
            await settle()
            assert not board.seen("stop with ")
            board.open("a")
            await clock.advance(6.0)
            board.open("b")
            await clock.advance(1.0)
    assert board.seen("stop with ") == ["0 inside", "0 inside"]


async def test_an_agent_that_waits_inside_leaves_its_neighbours_alone() -> None:
    board = Board()
    root = Supervisor("root", [Worker("w", board, concurrency=2), Echo("echo")])
    with anyio.fail_after(5):
        async with Runtime(root) as runtime, asyncio.TaskGroup() as tasks:
            for name in ("a", "b", "c"):
                tasks.create_task(runtime.call("w", name))
            await settle()
            assert await runtime.call("echo", 1) == 1
            board.open("a", "b", "c")


async def test_nothing_is_lost_or_doubled_among_many_crashes() -> None:
    board, clock = Board(), ManualClock()
    names = [f"{'boom' if number % 7 == 3 else 'm'}{number}" for number in range(100)]
    board.open(*names)
    process = Worker("w", board, concurrency=8)
    with anyio.fail_after(20):
        async with running(process, clock, max_restarts=1000) as runtime, asyncio.TaskGroup() as tasks:
            asks = [tasks.create_task(runtime.call("w", name, timeout=600)) for name in names]
            for _ in range(200):
                if all(ask.done() for ask in asks):
                    break
                await clock.advance(0.1)
        assert [ask.result()["what"] for ask in asks] == names
        assert [ask.result()["attempt"] for ask in asks] == [int(name.startswith("boom")) for name in names]
    assert board.most <= 8
    done = board.seen("did ")
    assert len(done) == len(set(done)) == len(names)
