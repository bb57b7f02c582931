"""A commit in flight holds up nobody but whoever waits for its reply; and where it is lost, so is what was built on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import pytest

from portico.errors import Cancelled, DeadlineExceeded, StartError, StoreUnavailable
from portico.kernel.delivery import Delivery
from portico.kernel.events import EventKind
from portico.kernel.memory import MemoryCommit, copied
from portico.kernel.messages import Message
from portico.kernel.process import DEFERRED, AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Witness, agent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.kernel.clock import Clock
    from portico.kernel.protocols import Ended, Lineage

pytestmark = pytest.mark.anyio

FULL = StoreUnavailable("the disk is full")


class Held(NamedTuple):
    """A commit in flight."""

    name: str
    state: dict[str, Any]
    ended: Ended
    lineage: Lineage


class HeldCommit(MemoryCommit):
    """Stores nothing until it is told to, one commit after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.in_flight: list[Held] = []
        self._came = asyncio.Event()
        self._at_hand: dict[str, dict[str, Any]] = {}

    async def load(self, name: str) -> dict[str, Any]:
        return copied(self._at_hand[name]) if name in self._at_hand else await super().load(name)

    def commit(self, name: str, state: Mapping[str, Any], ended: Ended, lineage: Lineage) -> None:
        if lineage.broken is not None:
            ended(lineage.broken)
            return
        self._at_hand[name] = copied(state)
        self.in_flight.append(Held(name, copied(state), ended, lineage))
        self._came.set()

    async def comes(self) -> None:
        """Until one is in flight."""
        while not self.in_flight:
            self._came.clear()
            await self._came.wait()

    def let_go(self) -> None:
        """Store the one that has waited longest; what builds on a lost one is lost."""
        held = self.in_flight.pop(0)
        if held.lineage.broken is not None:
            held.ended(held.lineage.broken)
        else:
            super().commit(held.name, held.state, held.ended, held.lineage)

    def lose(self) -> None:
        """The one that has waited longest cannot be stored."""
        held = self.in_flight[0]
        held.lineage.broken = FULL
        self._at_hand.pop(held.name, None)
        self.let_go()


class Counter(AgentProcess):
    """Counts what it was sent, and does some of it in between."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.began = asyncio.Event()
        self.gate = asyncio.Event()

    async def handle(self, message: Message) -> Any:
        self.state["n"] = self.state.get("n", 0) + 1
        match message.payload:
            case "crash":
                if message.attempt == 0:
                    raise BoomError
            case "wait":
                self.began.set()
                await self.gate.wait()
            case "checkpoint":
                await self.checkpoint()
            case "defer":
                return DEFERRED
            case _:
                pass
        return self.state["n"], self.id


def runtime_of(
    commit: HeldCommit, *, process: AgentProcess | None = None, clock: Clock | None = None, witness: Witness | None = None
) -> Runtime:
    tree = Supervisor("root", [process or Counter("c")], backoff_base=0.0)
    return Runtime(tree, commit=commit, clock=clock, observers=[witness] if witness is not None else None)


async def outcome(runtime: Runtime, payload: Any = None, timeout: float = 1.0) -> Any:
    """The reply, or the class of the error."""
    try:
        return (await runtime.ask("c", payload, timeout=timeout)).payload
    except (StoreUnavailable, DeadlineExceeded, Cancelled) as error:
        return type(error)


async def test_the_next_message_is_handled_while_the_commit_of_the_one_before_is_in_flight() -> None:
    commit = HeldCommit()
    with anyio.fail_after(5):
        async with runtime_of(commit) as runtime, asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(outcome(runtime)) for _ in range(3)]
            await settle()
            assert [held.state for held in commit.in_flight] == [{"n": 1}, {"n": 2}, {"n": 3}]
            assert not any(one.done() for one in asking)
            for _ in asking:
                commit.let_go()
        assert [one.result() for one in asking] == [(1, "c#1"), (2, "c#1"), (3, "c#1")]


async def test_a_caller_sees_its_reply_when_its_own_state_is_stored_and_not_before() -> None:
    commit = HeldCommit()
    with anyio.fail_after(5):
        async with runtime_of(commit) as runtime, asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(outcome(runtime)) for _ in range(3)]
            for answered in range(4):
                await settle()
                assert [one.done() for one in asking] == [number < answered for number in range(3)]
                if answered < 3:
                    commit.let_go()


async def test_state_that_was_built_on_a_lost_commit_is_lost_too_and_the_process_goes_on_with_what_is_stored() -> None:
    commit = HeldCommit()
    with anyio.fail_after(5):
        async with runtime_of(commit) as runtime, asyncio.TaskGroup() as tasks:
            first = tasks.create_task(outcome(runtime))
            await settle()
            commit.let_go()
            assert await first == (1, "c#1")
            lost = [tasks.create_task(outcome(runtime)) for _ in range(3)]
            await settle()
            commit.lose()
            commit.let_go()
            commit.let_go()
            assert [await one for one in lost] == [StoreUnavailable] * 3
            again = tasks.create_task(outcome(runtime))
            await settle()
            assert [held.state for held in commit.in_flight] == [{"n": 2}]
            commit.let_go()
            assert await again == (2, "c#1")
            assert await commit.load("c") == {"n": 2}


async def test_what_was_stored_before_a_lost_commit_is_answered() -> None:
    commit = HeldCommit()
    with anyio.fail_after(5):
        async with runtime_of(commit) as runtime, asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(outcome(runtime)) for _ in range(2)]
            await settle()
            commit.let_go()
            commit.lose()
        assert [one.result() for one in asking] == [(1, "c#1"), StoreUnavailable]


async def test_a_message_in_hand_while_an_earlier_commit_is_lost_is_lost_with_it() -> None:
    commit = HeldCommit()
    with anyio.fail_after(5):
        async with runtime_of(commit) as runtime, asyncio.TaskGroup() as tasks:
            counter = agent(runtime, "c")
            first = tasks.create_task(outcome(runtime))
            await settle()
            second = tasks.create_task(outcome(runtime, "wait"))
            await counter.began.wait()
            commit.lose()
            assert await first is StoreUnavailable
            await settle()
            assert not second.done()
            third = tasks.create_task(outcome(runtime))
            counter.gate.set()
            assert await second is StoreUnavailable
            await settle()
            assert [held.state for held in commit.in_flight] == [{"n": 1}]
            commit.let_go()
            assert await third == (1, "c#1")


async def test_an_idle_process_reads_its_state_again_after_a_lost_commit() -> None:
    commit = HeldCommit()
    with anyio.fail_after(5):
        async with runtime_of(commit) as runtime, asyncio.TaskGroup() as tasks:
            tasks.create_task(outcome(runtime))
            await settle()
            assert agent(runtime, "c").state == {"n": 1}
            commit.lose()
            await settle()
            assert agent(runtime, "c").state == {}


async def test_a_send_whose_state_is_lost_is_a_dead_letter_since_nobody_else_hears_of_it() -> None:
    commit, witness = HeldCommit(), Witness()
    with anyio.fail_after(5):
        async with runtime_of(commit, witness=witness) as runtime:
            await runtime.send("c", "count")
            await settle()
            commit.lose()
            await settle()
    assert witness.names(EventKind.DEAD_LETTER) == ["c"]


async def test_a_send_is_stored_like_everything_else() -> None:
    commit, witness = HeldCommit(), Witness()
    with anyio.fail_after(5):
        async with runtime_of(commit, witness=witness) as runtime:
            await runtime.send("c", "count")
            await settle()
            commit.let_go()
            await settle()
            assert await commit.load("c") == {"n": 1}
    assert witness.names(EventKind.DEAD_LETTER) == []


async def test_what_a_handler_changed_before_it_put_off_its_reply_is_stored_without_one() -> None:
    commit = HeldCommit()
    with anyio.fail_after(5):
        async with runtime_of(commit) as runtime, asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(outcome(runtime, "defer"))
            await settle()
            commit.let_go()
            await settle()
            assert not asking.done()
            assert await commit.load("c") == {"n": 1}
            asking.cancel()


# --- checkpoints and hooks --------------------------------------------------------------------------------------------


async def test_a_checkpoint_waits_until_it_is_stored() -> None:
    commit = HeldCommit()
    with anyio.fail_after(5):
        async with runtime_of(commit) as runtime, asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(outcome(runtime, "checkpoint"))
            for _ in range(2):  # the checkpoint, and what the handler leaves behind
                await settle()
                assert len(commit.in_flight) == 1
                assert not asking.done()
                commit.let_go()
            assert await asking == (1, "c#1")


async def test_a_checkpoint_that_is_lost_fails_its_message_and_leaves_nothing_behind() -> None:
    commit = HeldCommit()
    with anyio.fail_after(5):
        async with runtime_of(commit) as runtime, asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(outcome(runtime, "checkpoint"))
            await settle()
            commit.lose()
            assert await asking is StoreUnavailable
            await settle()
            assert commit.in_flight == []
            assert agent(runtime, "c").state == {}
            assert agent(runtime, "c").id == "c#1"


async def test_a_process_has_started_when_what_on_start_changed_is_stored() -> None:
    class Prepared(Counter):
        async def on_start(self) -> None:
            self.state["n"] = 10

    commit = HeldCommit()
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            runtime = runtime_of(commit, process=Prepared("c"))
            starting = tasks.create_task(runtime.start())
            await settle()
            assert not starting.done()
            commit.let_go()
            await starting
        await runtime.stop()
    assert await commit.load("c") == {"n": 10}


async def failure_of(runtime: Runtime) -> StartError:
    with pytest.raises(StartError) as caught:
        await runtime.start()
    return caught.value


async def test_what_on_start_changed_and_could_not_be_stored_is_a_start_failure() -> None:
    class Prepared(Counter):
        async def on_start(self) -> None:
            self.state["n"] = 10

    commit = HeldCommit()
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            starting = tasks.create_task(failure_of(runtime_of(commit, process=Prepared("c"))))
            await settle()
            commit.lose()
        assert isinstance(starting.result().__cause__, StoreUnavailable)


# --- ends -------------------------------------------------------------------------------------------------------------


async def test_a_stop_waits_for_the_commits_in_flight_and_their_callers_are_answered() -> None:
    commit = HeldCommit()
    with anyio.fail_after(5):
        runtime = runtime_of(commit)
        await runtime.start()
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(outcome(runtime)) for _ in range(2)]
            await settle()
            stopping = tasks.create_task(runtime.stop())
            for _ in asking:
                await settle()
                assert not stopping.done()
                commit.let_go()
        assert [one.result() for one in asking] == [(1, "c#1"), (2, "c#1")]


async def test_a_stop_does_not_wait_for_commits_longer_than_shutdown_timeout() -> None:
    commit, clock = HeldCommit(), ManualClock()
    with anyio.fail_after(5):
        runtime = runtime_of(commit, process=Counter("c", shutdown_timeout=3.0), clock=clock)
        await runtime.start()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(outcome(runtime, timeout=60.0))
            await settle()
            stopping = tasks.create_task(runtime.stop())
            await clock.advance(2.9)
            assert not stopping.done()
            await clock.advance(0.2)
            await stopping
            assert not asking.done()  # its outcome is certain, and is told when it is stored
            commit.let_go()
        assert asking.result() == (1, "c#1")


async def test_the_life_after_a_crash_begins_when_the_commits_in_flight_have_ended_and_with_what_they_stored() -> None:
    commit = HeldCommit()
    with anyio.fail_after(5):
        async with runtime_of(commit) as runtime, asyncio.TaskGroup() as tasks:
            first = tasks.create_task(outcome(runtime))
            second = tasks.create_task(outcome(runtime, "crash"))
            await settle()
            assert agent(runtime, "c").id == "c#1"
            commit.let_go()
            assert await first == (1, "c#1")
            await commit.comes()
            commit.let_go()
            assert await second == (2, "c#2")


async def test_the_life_after_a_crash_does_not_build_on_a_commit_that_was_lost_meanwhile() -> None:
    commit = HeldCommit()
    with anyio.fail_after(5):
        async with runtime_of(commit) as runtime, asyncio.TaskGroup() as tasks:
            first = tasks.create_task(outcome(runtime))
            second = tasks.create_task(outcome(runtime, "crash"))
            await settle()
            commit.lose()
            assert await first is StoreUnavailable
            await commit.comes()
            commit.let_go()
            assert await second == (1, "c#2")


# --- what comes while the outcome is being stored ---------------------------------------------------------------------


async def test_a_deadline_that_passes_while_the_outcome_is_being_stored_changes_nothing() -> None:
    commit, clock = HeldCommit(), ManualClock()
    with anyio.fail_after(5):
        async with runtime_of(commit, clock=clock) as runtime, asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(outcome(runtime, timeout=1.0))
            await clock.advance(10.0)
            assert not asking.done()
            commit.let_go()
            assert await asking == (1, "c#1")
            assert await commit.load("c") == {"n": 1}


async def test_after_its_deadline_a_caller_still_hears_that_its_outcome_was_lost() -> None:
    commit, clock = HeldCommit(), ManualClock()
    with anyio.fail_after(5):
        async with runtime_of(commit, clock=clock) as runtime, asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(outcome(runtime, timeout=1.0))
            await clock.advance(10.0)
            commit.lose()
            assert await asking is StoreUnavailable


async def test_a_cancel_that_comes_while_the_outcome_is_being_stored_changes_nothing() -> None:
    commit = HeldCommit()
    with anyio.fail_after(5):
        async with runtime_of(commit) as runtime:
            future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
            delivery = Delivery(Message(recipient="c"), future)
            runtime.router.deliver(delivery)
            await settle()
            delivery.cancel(Cancelled())
            await settle()
            assert not future.done()
            assert not delivery.dropped
            commit.let_go()
            assert (await future).payload == (1, "c#1")


async def test_a_caller_who_leaves_while_its_outcome_is_being_stored_does_not_undo_it() -> None:
    commit = HeldCommit()
    with anyio.fail_after(5):
        async with runtime_of(commit) as runtime, asyncio.TaskGroup() as tasks:
            leaving = tasks.create_task(outcome(runtime))
            await settle()
            leaving.cancel()
            await settle()
            staying = tasks.create_task(outcome(runtime))
            await settle()
            commit.let_go()
            commit.let_go()
            assert await staying == (2, "c#1")
            assert leaving.cancelled()
            assert await commit.load("c") == {"n": 2}
