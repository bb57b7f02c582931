"""Pools: identical members behind one name, of which whoever is free takes what waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import (
    AgentCrashed,
    CallError,
    DeadlineExceeded,
    DuplicateName,
    MailboxFull,
    ProcessExited,
    SettingOutOfRange,
    StartError,
    Suspended,
    UnknownAgent,
)
from portico.kernel.events import EventKind
from portico.kernel.pool import pool
from portico.kernel.process import AgentProcess, ErrorAction
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Echo, Logged, Witness, agent, ask_from_outside

if TYPE_CHECKING:
    from portico.kernel.messages import Message
    from portico.kernel.pool import Pool

pytestmark = pytest.mark.anyio


class Board:
    """What the test and all members share: who began what, and a gate for each payload."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    def open(self, *names: str) -> None:
        for name in names:
            self.gate(name).set()

    def lines(self, start: str) -> list[str]:
        """The lines of the log that begin so, without that."""
        return [line.removeprefix(start) for line in self.log if line.startswith(start)]


class Worker(AgentProcess):
    """Waits at the gate of its payload where that has `wait` in it; `boom…` crashes once, `doom…` always; else tells who did it."""

    capabilities = ["work"]  # noqa: RUF012  # a `ClassVar` in the base

    def __init__(self, name: str, board: Board, greeting: str = "hello", **options: Any) -> None:
        super().__init__(name, **options)
        self.board = board
        self.greeting = greeting

    async def on_start(self) -> None:
        self.board.log.append(f"start {self.id}")

    async def on_suspend(self, reason: str) -> None:
        self.board.log.append(f"suspend {self.id}")

    async def handle(self, message: Message) -> Any:
        what = str(message.payload)
        self.board.log.append(f"began {what}")
        if "wait" in what:
            await self.board.gate(what).wait()
        if what.startswith("doom") or (what.startswith("boom") and message.attempt == 0):
            raise BoomError(what)
        self.board.log.append(f"did {what}")
        return {"by": self.name, "id": self.id, "attempt": message.attempt}

    @operation(idempotent=False)
    async def pay(self, amount: int) -> int:
        self.board.log.append(f"paid {amount}")
        raise BoomError

    @operation
    async def count(self) -> dict[str, Any]:
        self.state["n"] = self.state.get("n", 0) + 1
        return {"by": self.name, "n": self.state["n"]}


def workers(board: Board, size: int = 3, kind: type[Worker] = Worker, config: dict[str, Any] | None = None, **options: Any) -> Pool:
    return pool(kind, "w", size=size, config={"board": board, **(config or {})}, **{"backoff_base": 10.0, **options})


def running(*children: AgentProcess | Supervisor, clock: ManualClock | None = None, **options: Any) -> Runtime:
    return Runtime(Supervisor("root", children, backoff_base=0.0), clock=clock or ManualClock(), **options)


async def ends(call: Any) -> Any:
    """How it ended: with a reply, or with a reason."""
    try:
        return (await call).payload
    except CallError as error:
        return error


async def crashes(runtime: Runtime, payload: Any, message_type: str = "message") -> AgentCrashed:
    with pytest.raises(AgentCrashed) as caught:
        await runtime.ask("w", payload, timeout=600, message_type=message_type)
    return caught.value


# --- who takes what ---------------------------------------------------------------------------------------------------


async def test_each_message_goes_to_an_idle_member_and_waits_only_where_all_are_busy() -> None:
    board, names = Board(), [f"wait{number}" for number in range(5)]
    with anyio.fail_after(5):
        async with running(workers(board)) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(runtime.call("w", name)) for name in names]
            await settle()
            assert board.lines("began ") == names[:3]
            board.open("wait1")
            await settle()
            assert board.lines("began ") == names[:4]
            board.open(*names)
        assert {ask.result()["by"] for ask in asks[:3]} == {"w.1", "w.2", "w.3"}
        assert asks[3].result()["by"] == asks[1].result()["by"]


async def test_nothing_waits_behind_a_busy_member_while_another_is_idle() -> None:
    board = Board()
    with anyio.fail_after(10):
        async with running(workers(board, size=2)) as runtime, asyncio.TaskGroup() as callers:
            busy = callers.create_task(runtime.call("w", "wait"))
            await settle()
            replies = [await runtime.call("w", f"m{number}") for number in range(200)]
            board.open("wait")
        assert {reply["by"] for reply in replies}.isdisjoint({busy.result()["by"]})


async def test_the_work_goes_around_among_idle_members() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(workers(board)) as runtime:
            by = [(await runtime.call("w", "m"))["by"] for _ in range(30)]
    assert {name: by.count(name) for name in set(by)} == {"w.1": 10, "w.2": 10, "w.3": 10}


async def test_a_message_for_one_member_does_not_keep_the_pools_from_being_taken_by_another() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(workers(board, size=2)) as runtime:
            for member in ("w.1", "w.2"):  # the one whose turn it is, so it is woken for the pool's message
                await runtime.send("w", f"shared {member}")
                await runtime.send(member, f"wait {member}")
                await settle()
                done = board.lines("did shared ")
                board.open(f"wait {member}")
                await settle()
                assert done[-1:] == [member]


async def test_what_waits_is_taken_by_priority() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(workers(board, size=1)) as runtime, asyncio.TaskGroup() as callers:
            callers.create_task(runtime.ask("w", "wait"))
            await settle()
            for name, priority in (("low", 0), ("high", 5), ("middle", 3)):
                callers.create_task(runtime.ask("w", name, priority=priority))
            await settle()
            board.open("wait")
    assert board.lines("began ") == ["wait", "high", "middle", "low"]


async def test_members_with_several_hands_share_the_load_evenly_and_never_exceed_it() -> None:
    board, names = Board(), [f"wait{number}" for number in range(7)]
    with anyio.fail_after(5):
        async with running(workers(board, size=3, config={"concurrency": 2})) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(runtime.call("w", name)) for name in names[:3]]
            await settle()
            board.open(*names[:3])
            assert {(await ask)["by"] for ask in asks} == {"w.1", "w.2", "w.3"}
            for name in names:
                board.gate(name).clear()
                callers.create_task(runtime.call("w", name))
            await settle()
            assert board.lines("began ")[3:] == names[:6]
            board.open(*names)


async def test_of_several_members_that_are_free_the_one_with_least_in_hand_takes_the_message() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(workers(board, size=2, config={"concurrency": 2})) as runtime, asyncio.TaskGroup() as callers:
            callers.create_task(runtime.call("w", "wait first"))
            second = callers.create_task(runtime.call("w", "wait second"))
            await settle()
            board.open("wait second")
            await settle()
            third = callers.create_task(runtime.call("w", "third"))  # the other one's turn was longer ago, but it is at work
            await settle()
            board.open("wait first")
        assert third.result()["by"] == second.result()["by"]


async def test_what_waits_is_bounded() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(workers(board, size=2, config={"mailbox_size": 3})) as runtime, asyncio.TaskGroup() as callers:
            for number in range(2):
                callers.create_task(runtime.call("w", f"wait{number}"))
            await settle()
            for number in range(2, 5):
                callers.create_task(runtime.call("w", f"wait{number}"))
            await settle()
            with pytest.raises(MailboxFull, match="'w' is full: 3 messages wait"):
                await runtime.call("w", "one too many")
            with pytest.raises(MailboxFull):
                await runtime.send("w", "one too many")
            board.open(*(f"wait{number}" for number in range(5)))


async def test_a_deadline_ends_what_is_in_hand_and_what_waits() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(workers(board, size=1), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(ends(runtime.ask("w", f"wait{number}", timeout=2.0))) for number in range(3)]
            await clock.advance(2.1)
            assert [type(ask.result()) for ask in asks] == [DeadlineExceeded] * 3
            assert (await runtime.call("w", "next"))["id"] == "w.1#1"
    assert board.lines("began ") == ["wait0", "next"]


async def test_each_member_has_a_state_of_its_own_that_survives_its_restarts() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(workers(board, size=2), clock=clock) as runtime:
            counts = [(await runtime.ask("w", {}, message_type="count")).payload for _ in range(6)]
            assert sorted((count["by"], count["n"]) for count in counts) == [(f"w.{m}", n) for m in (1, 2) for n in (1, 2, 3)]
            await runtime.restart_agent("w.1")
            await runtime.suspend("w.2")
            assert (await runtime.ask("w", {}, message_type="count")).payload == {"by": "w.1", "n": 4}


async def test_a_pool_may_be_asked_by_others_and_asks_others_itself() -> None:
    class Asking(Worker):
        async def handle(self, message: Message) -> Any:
            return (await self.ask("echo", message.payload)).payload

    with anyio.fail_after(5):
        async with running(workers(Board(), kind=Asking), Echo("echo")) as runtime:
            assert [await runtime.call("w", number) for number in range(5)] == list(range(5))


# --- names ------------------------------------------------------------------------------------------------------------


async def test_the_members_are_numbered_and_the_tree_shows_the_pool() -> None:
    with anyio.fail_after(5):
        async with running(workers(Board(), size=2)) as runtime:
            assert runtime.print_tree().splitlines()[1:] == [
                "  [pool] w (one_for_one)",
                "    [agent] w.1 (running)",
                "    [agent] w.2 (running)",
            ]


def test_the_name_is_the_class_in_lower_case_where_none_is_given() -> None:
    assert pool(Worker, size=1, config={"board": Board()}).name == "worker"


@pytest.mark.parametrize("size", [0, -1])
def test_a_pool_of_nobody_is_refused(size: int) -> None:
    with pytest.raises(SettingOutOfRange, match=r"size of pool 'w' is .*at least 1"):
        workers(Board(), size=size)


async def test_config_reaches_every_member() -> None:
    with anyio.fail_after(5):
        async with running(workers(Board(), config={"greeting": "good day", "handle_timeout": 7.0})) as runtime:
            members = [agent(runtime, f"w.{number}") for number in (1, 2, 3)]
            assert [(member.greeting, member.handle_timeout) for member in members] == [("good day", 7.0)] * 3
            assert members[0].config["greeting"] == "good day"


@pytest.mark.parametrize("other", ["w", "w.2"])
async def test_a_name_of_the_pool_or_of_a_member_cannot_be_taken_twice(other: str) -> None:
    with pytest.raises(DuplicateName):
        await running(workers(Board()), Echo(other)).start()


async def test_a_broadcast_reaches_the_pool_once() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(workers(board), Echo("echo")) as runtime:
            assert await runtime.broadcast("*", "to all") == ["echo", "w"]
            assert await runtime.broadcast("w*", "to some") == ["w"]
            await settle()
    assert board.lines("did ") == ["to all", "to some"]


async def test_capabilities_belong_to_the_pool_also_after_restarts() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(workers(board), clock=clock) as runtime:
            assert runtime.router.registry.find_by_capability("work") == ["w"]
            await runtime.send("w", "boom")
            await clock.advance(11.0)
            await runtime.restart_agent("w.2")
            await runtime.restart_agent("w")
            assert runtime.router.registry.find_by_capability("work") == ["w"]


async def test_an_unknown_name_never_offers_a_member() -> None:
    with anyio.fail_after(5):
        async with running(pool(Echo, "echo", size=3)) as runtime:
            with pytest.raises(UnknownAgent) as caught:
                await runtime.call("echo.9", None)
            assert caught.value.nearest == ["echo"]


# --- crashes ----------------------------------------------------------------------------------------------------------


async def test_a_message_that_crashed_one_member_is_taken_by_another_at_once() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(workers(board)) as runtime:
            reply = await runtime.call("w", "boom")  # no time passes, though the backoff is ten seconds
            assert reply["attempt"] == 1
            assert reply["id"].endswith("#1")
            assert len(board.lines("start ")) == 3


async def test_a_crash_ahead_of_those_that_wait() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(workers(board, size=2), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            callers.create_task(runtime.call("w", "boom wait", timeout=60))
            callers.create_task(runtime.call("w", "wait", timeout=60))
            await settle()
            callers.create_task(runtime.call("w", "later", timeout=60))
            await settle()
            board.open("boom wait")
            await settle()
            board.open("wait")
    assert board.lines("began ") == ["boom wait", "wait", "boom wait", "later"]


async def test_where_all_others_are_busy_the_message_waits_for_whoever_is_first() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(workers(board, size=2), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            callers.create_task(runtime.call("w", "wait", timeout=60))
            crashed = callers.create_task(runtime.call("w", "boom", timeout=60))
            await clock.advance(9.9)
            assert not crashed.done()
            await clock.advance(0.2)
            assert crashed.done()
            assert crashed.result()["id"].endswith("#2")
            board.open("wait")


async def test_a_message_is_never_handled_more_often_than_its_attempts_allow_and_all_members_come_back() -> None:
    board, clock, witness = Board(), ManualClock(), Witness()
    with anyio.fail_after(5):
        async with running(workers(board, size=5, max_restarts=2), clock=clock, observers=[witness]) as runtime:
            assert (await crashes(runtime, "doom")).attempts == 3
            assert board.lines("began ") == ["doom"] * 3
            assert len(witness.of(EventKind.DEAD_LETTER)) == 1
            await clock.advance(11.0)
            assert len(board.lines("start ")) == 8
            assert [process.status for process in runtime.all_agents()] == ["running"] * 5


async def test_a_call_with_an_origin_outside_takes_no_pool_down() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(workers(board, size=4, max_restarts=2, backoff_base=0.0), clock=clock) as runtime:
            for _ in range(10):
                with pytest.raises(AgentCrashed):
                    await ask_from_outside(runtime, "w", "doom")
                await clock.advance(0.1)
            assert (await runtime.call("w", "m"))["attempt"] == 0
            assert runtime.report is None


async def test_what_must_not_run_twice_does_not() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(workers(board)) as runtime:
            assert (await crashes(runtime, {"amount": 5}, "pay")).attempts == 1
    assert board.lines("paid ") == ["5"]


async def test_a_send_whose_handling_crashed_is_a_dead_letter_and_is_taken_by_nobody_else() -> None:
    board, witness = Board(), Witness()
    with anyio.fail_after(5):
        async with running(workers(board), observers=[witness]) as runtime:
            await runtime.send("w", "boom")
            await settle()
    assert board.lines("began ") == ["boom"]
    assert witness.names(EventKind.DEAD_LETTER) == ["w"]


async def test_a_call_outlives_the_backoff_of_its_member_though_its_deadline_does_not_reach_so_far() -> None:
    with anyio.fail_after(5):
        async with running(workers(Board(), backoff_base=50.0)) as runtime:
            assert (await runtime.call("w", "boom", timeout=1.0))["attempt"] == 1


async def test_a_deaf_member_gives_its_message_to_another() -> None:
    class Deaf(Worker):
        async def handle(self, message: Message) -> Any:
            if message.payload == "deaf" and message.attempt == 0:
                while not self.board.gate("deaf").is_set():
                    try:
                        await self.board.gate("deaf").wait()
                    except asyncio.CancelledError:
                        continue
            return await super().handle(message)

    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(workers(board, kind=Deaf, config={"handle_timeout": 2.0}), clock=clock) as runtime:
            try:
                async with asyncio.TaskGroup() as callers:
                    asked = callers.create_task(runtime.call("w", "deaf", timeout=60))
                    await clock.advance(6.9)
                    assert not asked.done()
                    await clock.advance(0.2)
                    assert asked.done()
                assert asked.result()["attempt"] == 1
            finally:
                board.open("deaf")
                await settle()


async def test_what_a_crashed_member_had_put_off_is_taken_by_another_at_once() -> None:
    class Deferring(Worker):
        async def handle(self, message: Message) -> Any:
            if message.payload == "later" and not self.board.gate("now").is_set():
                self.start_task(self.fail(), "failing")
                return self.defer()
            return await super().handle(message)

        async def fail(self) -> None:
            await self.board.gate("now").wait()
            raise BoomError

    board = Board()
    with anyio.fail_after(5):
        async with running(workers(board, size=2, kind=Deferring)) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(ends(runtime.ask("w", "later")))
            await settle()
            board.open("now")
            await settle()
            answered = asked.done()
            asked.cancel()
        assert answered
        assert asked.result()["attempt"] == 0


# --- members that are away --------------------------------------------------------------------------------------------


async def test_the_others_take_over_for_a_member_that_is_suspended() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(workers(board, size=3)) as runtime, asyncio.TaskGroup() as callers:
            await runtime.suspend("w.2")
            asks = [callers.create_task(runtime.call("w", f"wait{number}")) for number in range(3)]
            await settle()
            assert board.lines("began ") == ["wait0", "wait1"]
            await runtime.resume("w.2")
            await settle()
            assert board.lines("began ") == ["wait0", "wait1", "wait2"]
            board.open("wait0", "wait1", "wait2")
        assert asks[2].result()["by"] == "w.2"


async def test_a_member_that_is_suspended_as_it_is_woken_hands_the_message_on() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(workers(board, size=2)) as runtime:
            for member in ("w.1", "w.2"):  # the one whose turn it is
                await runtime.send("w", f"m {member}")
                await runtime.suspend(member)
                await settle()
                assert board.lines("did m ")[-1:] == [member]
                await runtime.resume(member)
                await settle()


async def test_the_others_take_over_while_a_member_restarts() -> None:
    class Slow(Worker):
        async def on_start(self) -> None:
            await super().on_start()
            if not self.id.endswith("#1"):
                await self.board.gate("start").wait()

    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(workers(board, size=2, kind=Slow), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            restarting = callers.create_task(runtime.restart_agent("w.1"))
            await settle()
            assert [(await runtime.call("w", f"m{number}"))["by"] for number in range(4)] == ["w.2"] * 4
            board.open("start")
            await restarting
            assert {(await runtime.call("w", f"m{number}"))["by"] for number in range(4)} == {"w.1", "w.2"}


class Ending(Worker):
    """Ends for good on a crash."""

    async def on_error(self, error: Exception, message: Message) -> ErrorAction:
        return ErrorAction.STOP


async def test_the_others_take_over_for_a_member_that_ended_for_good() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(workers(board, size=2, kind=Ending, config={"restart": "transient"})) as runtime:
            await crashes(runtime, "doom")
            await settle()
            by = {(await runtime.call("w", f"m{number}"))["by"] for number in range(6)}
            assert len(by) == 1


async def test_when_all_members_have_ended_for_good_nobody_waits_for_them() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(workers(board, size=2, kind=Ending, config={"restart": "transient"})) as runtime:
            async with asyncio.TaskGroup() as callers:
                busy = callers.create_task(ends(runtime.ask("w", "doom wait")))
                await crashes(runtime, "doom")
                waiting = callers.create_task(ends(runtime.ask("w", "m")))
                await settle()
                board.open("doom wait")
                await settle()
                answered = waiting.done()
                waiting.cancel()
            assert isinstance(busy.result(), AgentCrashed)
            assert answered
            assert isinstance(waiting.result(), ProcessExited)
            with pytest.raises(ProcessExited):
                await runtime.call("w", "later")


async def test_the_whole_pool_is_suspended_and_resumed() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(workers(board, size=2)) as runtime, asyncio.TaskGroup() as callers:
            in_hand = callers.create_task(runtime.call("w", "wait"))
            await settle()
            await runtime.suspend("w", "maintenance")
            await settle()
            with pytest.raises(Suspended, match="'w' is suspended: maintenance"):
                await runtime.call("w", "refused")
            for number in range(3):
                await runtime.send("w", f"sent{number}")
            board.open("wait")
            await settle()
            assert in_hand.result()["attempt"] == 0
            assert sorted(board.lines("suspend ")) == ["w.1#1", "w.2#1"]
            assert board.lines("began ") == ["wait"]
            await runtime.resume("w")
            await settle()
            assert sorted(board.lines("did sent")) == ["0", "1", "2"]
            assert (await runtime.call("w", "m"))["attempt"] == 0


async def test_a_pool_that_restarts_while_it_is_suspended_stays_suspended() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(workers(board, size=2), clock=clock) as runtime:
            await runtime.suspend("w", "maintenance")
            await settle()
            await runtime.restart_agent("w")
            await runtime.send("w", "sent")
            await settle()
            assert board.lines("began ") == []
            assert [agent(runtime, f"w.{number}").status for number in (1, 2)] == ["suspended"] * 2
            await runtime.resume("w")
            await settle()
            assert board.lines("did ") == ["sent"]


# --- the pool itself --------------------------------------------------------------------------------------------------


async def test_a_pool_that_gives_up_is_restarted_and_what_waits_is_handled_by_the_next_one() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(workers(board, size=2, max_restarts=0), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            in_hand = callers.create_task(ends(runtime.ask("w", "wait", timeout=60)))
            await settle()
            await runtime.send("w", "boom")  # without an origin, so it counts
            waiting = callers.create_task(ends(runtime.ask("w", "m", timeout=60)))
            await clock.advance(6.0)
            board.open("wait")
            await clock.advance(1.0)
            assert (waiting.result()["attempt"], in_hand.result()["attempt"]) == (0, 0)
            assert runtime.alive
            assert {(await runtime.call("w", f"m{number}"))["id"] for number in range(4)} == {"w.1#2", "w.2#2"}


async def test_a_pool_that_gives_up_for_good_answers_everything() -> None:
    board, clock = Board(), ManualClock()
    root = Supervisor("root", [workers(board, size=2, max_restarts=0)], max_restarts=0, backoff_base=0.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(ends(runtime.ask("w", f"wait{number}", timeout=60))) for number in range(4)]
            await settle()
            await runtime.send("w", "boom", priority=1)
            board.open("wait0")
            await settle()
            await clock.advance(11.0)
            assert all(ask.done() for ask in asks)
            assert all(isinstance(ask.result(), CallError) for ask in asks[1:])
            with pytest.raises(ProcessExited):
                await runtime.call("w", "m")


async def test_a_stop_lets_those_in_hand_finish_and_answers_what_waits() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        runtime = running(workers(board, size=2, config={"shutdown_timeout": 2.0}), clock=clock)
        async with asyncio.TaskGroup() as tasks:
            await runtime.start()
            asks = [tasks.create_task(ends(runtime.ask("w", f"wait{number}", timeout=60))) for number in range(4)]
            await settle()
            stopping = tasks.create_task(runtime.stop())
            await settle()
            board.open("wait0")
            for _ in range(5):
                await clock.advance(1.0)
            await stopping
        assert asks[0].result()["attempt"] == 0
        assert [type(ask.result()) for ask in asks[1:]] == [ProcessExited] * 3


async def test_a_sibling_that_takes_the_pool_down_loses_nothing_that_was_in_hand_or_waited() -> None:
    board, clock = Board(), ManualClock()
    inner = Supervisor(
        "inner",
        [workers(board, size=2, config={"shutdown_timeout": 1.0}), Logged("sibling", [])],
        strategy="one_for_all",
        backoff_base=0.0,
    )
    with anyio.fail_after(5):
        async with running(Supervisor("middle", [inner]), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(ends(runtime.ask("w", f"wait{number}", timeout=60))) for number in range(4)]
            await settle()
            for _ in range(2):
                await runtime.send("sibling", "crash")
                await clock.advance(5.0)
            board.open(*(f"wait{number}" for number in range(4)))
            await clock.advance(1.0)
        assert [ask.result()["attempt"] for ask in asks] == [0] * 4
        assert {ask.result()["id"] for ask in asks} == {"w.1#3", "w.2#3"}


async def test_a_member_that_does_not_start_keeps_the_whole_from_starting() -> None:
    class Failing(Worker):
        async def on_start(self) -> None:
            if self.name == "w.2":
                raise BoomError("no luck")

    with anyio.fail_after(5):
        with pytest.raises(StartError, match=r"'w\.2'"):
            await running(workers(Board(), kind=Failing)).start()


async def test_a_pool_starts_again_with_its_runtime() -> None:
    board = Board()
    with anyio.fail_after(5):
        runtime = running(workers(board, size=2))
        async with runtime:
            await runtime.call("w", "m")
        async with runtime:
            assert {(await runtime.call("w", "m"))["by"] for _ in range(4)} == {"w.1", "w.2"}


# --- replacement ------------------------------------------------------------------------------------------------------


class Newer(Worker):
    """The next version."""

    async def handle(self, message: Message) -> Any:
        return {**await super().handle(message), "version": 2}


async def test_a_replacement_rolls_through_the_members_and_no_call_is_dropped() -> None:
    board, clock = Board(), ManualClock()
    done: list[Any] = []
    enough = asyncio.Event()

    async def caller(runtime: Runtime) -> None:
        while not enough.is_set():
            done.append(await ends(runtime.ask("w", f"m{len(done)}", timeout=60)))
            await asyncio.sleep(0)

    with anyio.fail_after(10):
        async with running(workers(board), clock=clock) as runtime:
            async with asyncio.TaskGroup() as callers:
                for _ in range(8):
                    callers.create_task(caller(runtime))
                await settle()
                before = len(done)
                await runtime.replace("w", Newer)
                await settle()
                enough.set()
            assert before > 0
            assert [error for error in done if isinstance(error, CallError)] == []
            assert ["version" in done[0], "version" in done[-1]] == [False, True]
            assert [type(agent(runtime, f"w.{number}")) for number in (1, 2, 3)] == [Newer] * 3
            assert all(reply["attempt"] == 0 for reply in done)


async def test_a_member_that_is_cut_short_as_it_is_woken_hands_the_message_on() -> None:
    class Undermined(Worker):
        async def on_start(self) -> None:
            if self.id == "w.1#1":
                self.start_task(self.fail(), "failing")

        async def fail(self) -> None:
            await self.board.gate("fail").wait()
            await self.send("w", "m")
            raise BoomError

    board = Board()
    with anyio.fail_after(5):
        async with running(workers(board, size=2, kind=Undermined)):
            board.open("fail")
            await settle()
            assert board.lines("did ") == ["m"]


async def test_a_replacement_waits_for_a_busy_member_while_the_others_go_on() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(workers(board), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            busy = callers.create_task(runtime.call("w", "wait", timeout=60))
            await settle()
            replacing = callers.create_task(runtime.replace("w", Newer, timeout=20.0))
            await clock.advance(10.0)
            assert not replacing.done()
            assert (await runtime.call("w", "m"))["attempt"] == 0
            board.open("wait")
            await clock.advance(1.0)
            assert replacing.done()
        assert "version" not in busy.result()


async def test_a_replaced_class_stays_after_a_restart_of_a_member_and_of_the_pool() -> None:
    board, clock = Board(), ManualClock()
    inner = Supervisor(
        "inner", [workers(board, size=2, max_restarts=0), Logged("sibling", [])], strategy="one_for_all", backoff_base=0
    )
    with anyio.fail_after(5):
        async with running(inner, clock=clock) as runtime:
            await runtime.replace("w", Newer)
            await runtime.restart_agent("w.1")
            await runtime.restart_agent("w")
            assert all([(await runtime.call("w", "m"))["version"] == 2 for _ in range(4)])
            await runtime.send("w", "boom")  # the pool gives up
            await clock.advance(1.0)
            await runtime.send("sibling", "crash")  # the whole group restarts
            await clock.advance(1.0)
            assert all([(await runtime.call("w", "m"))["version"] == 2 for _ in range(4)])
            assert runtime.router.registry.find_by_capability("work") == ["w"]


async def test_a_class_that_does_not_start_replaces_nobody() -> None:
    class Failing(Worker):
        async def on_start(self) -> None:
            raise BoomError("no luck")

    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(workers(board), clock=clock) as runtime:
            with pytest.raises(StartError):
                await runtime.replace("w", Failing)
            await clock.advance(1.0)
            assert [type(agent(runtime, f"w.{number}")) for number in (1, 2, 3)] == [Worker] * 3
            assert {(await runtime.call("w", "m"))["by"] for _ in range(6)} == {"w.1", "w.2", "w.3"}


async def test_what_the_new_class_can_do_belongs_to_the_pool() -> None:
    class Abler(Worker):
        capabilities = ["work", "more"]  # noqa: RUF012  # a `ClassVar` in the base

    with anyio.fail_after(5):
        async with running(workers(Board())) as runtime:
            await runtime.replace("w", Abler)
            assert runtime.router.registry.find_by_capability("more") == ["w"]


# --- many -------------------------------------------------------------------------------------------------------------


async def test_nothing_is_lost_or_doubled_among_many_crashes() -> None:
    board, clock = Board(), ManualClock()
    names = [f"{'boom' if number % 5 == 2 else 'm'}{number}" for number in range(300)]
    with anyio.fail_after(20):
        async with running(workers(board, size=4, max_restarts=10_000), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(runtime.ask("w", name, timeout=10_000)) for name in names]
            for _ in range(100):
                if all(ask.done() for ask in asks):
                    break
                await clock.advance(10.0)
        assert [ask.result().payload["attempt"] for ask in asks] == [int(name.startswith("boom")) for name in names]
    assert sorted(board.lines("did ")) == sorted(names)
