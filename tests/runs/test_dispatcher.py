"""The one door: what a call goes through, and every way in which its run can end."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import (
    AgentCrashed,
    AgentError,
    CallError,
    Cancelled,
    ContractViolation,
    CrashBudgetSpent,
    DeadlineExceeded,
    Draining,
    MailboxFull,
    NoReply,
    ProcessExited,
    RuntimeNotStarted,
    StoreUnavailable,
)
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.runs import run as run_module
from portico.runs.call import Call
from portico.runs.commit import StoreCommit
from portico.runs.dispatcher import ASK_TIMEOUT, RUN_TIMEOUT, Dispatcher
from portico.runs.memory_store import MemoryRunStore
from portico.runs.records import RunRecords
from portico.runs.store import EndRun, RunQuery
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Echo, Fragile, Patient, agent

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from portico.kernel.messages import Message
    from portico.kernel.protocols import Ended, Lineage
    from portico.runs.run import Run
    from portico.runs.store import Change

pytestmark = pytest.mark.anyio


class Worker(AgentProcess):
    """One operation for every way in which a call can end."""

    @operation
    async def add(self, a: int, b: int) -> int:
        return a + b

    @operation
    async def report(self, steps: int, ctx: Context) -> str:
        for step in range(steps):
            ctx.progress(step + 1, steps, f"step {step + 1}")
        ctx.delta("do")
        ctx.delta("ne")
        ctx.emit("my.event", {"any": "data"})
        return ctx.run_id

    @operation
    async def refuse(self) -> None:
        raise AgentError("no", "Not today.")

    @operation
    async def crash(self) -> None:
        raise BoomError

    @operation(idempotent=False)
    async def crash_once(self) -> None:
        raise BoomError

    @operation
    async def forget(self) -> int:
        return None  # pyright: ignore[reportReturnType]  # on purpose

    @operation
    async def hang(self) -> None:
        await asyncio.Event().wait()

    @operation
    async def who(self, ctx: Context) -> list[Any]:
        return [ctx.principal, ctx.attempt, ctx.run_id, ctx.cancelled]


def runtime_of(*children: AgentProcess, clock: ManualClock | None = None) -> Runtime:
    return Runtime(Supervisor("root", children, backoff_base=0.0), clock=clock)


def call(door: Dispatcher, name: str = "add", payload: Any = None, **options: Any) -> Call:
    return Call(door.catalogue.find("worker", name), payload, **options)


async def error_of(door: Dispatcher, asked: Call) -> CallError:
    with pytest.raises(CallError) as caught:
        await door.ask(asked)
    return caught.value


def events(run: Run) -> list[tuple[int, str, Any]]:
    return [(event.seq, event.type, event.data) for event in run.backlog()]


async def test_an_ask_is_answered_and_its_run_is_recorded() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Worker("worker")) as runtime:
            door = Dispatcher(runtime)
            asked = call(door, payload={"a": 1, "b": 2}, principal="alice")
            assert (await door.ask(asked)).payload == 3
            assert asked.run is not None
            run = await door.book.find(asked.run.run_id, "alice")
            assert run is asked.run
            assert (run.status, run.output, run.attempts, run.error) == ("succeeded", 3, 1, None)
            assert events(run) == [
                (1, "run.started", {"agent": "worker", "operation": "add"}),
                (2, "run.succeeded", {"output": 3}),
            ]


async def test_the_raw_body_is_what_is_validated_where_it_is_at_hand() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Worker("worker")) as runtime:
            door = Dispatcher(runtime)
            assert (await door.ask(call(door, payload={"a": 1, "b": 2}, raw=b'{"a": 3, "b": 4}'))).payload == 7


async def test_a_call_that_is_refused_leaves_no_run() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Worker("worker")) as runtime:
            door = Dispatcher(runtime)
            asked = call(door, payload={"a": "x"})
            error = await error_of(door, asked)
            assert isinstance(error, ContractViolation)
            assert [fault["path"] for fault in error.faults] == ["/a", "/b"]
            with pytest.raises(ContractViolation):
                await door.start(call(door, payload={}))
            assert len(door.book.plain) == 0
            assert asked.run is None


@pytest.mark.parametrize(
    ("name", "error", "status", "slug"),
    [
        ("refuse", AgentError, "failed", "no"),
        ("crash", AgentCrashed, "failed", "agent-crashed"),
        ("forget", NoReply, "failed", "no-reply"),
    ],
)
async def test_a_run_that_fails_says_how(name: str, error: type[CallError], status: str, slug: str) -> None:
    with anyio.fail_after(5):
        async with runtime_of(Worker("worker")) as runtime:
            door = Dispatcher(runtime)
            asked = call(door, name)
            assert isinstance(await error_of(door, asked), error)
            assert asked.run is not None
            assert asked.run.status == status
            assert events(asked.run)[-1][1:] == ("run.failed", {"slug": slug, "detail": str(asked.run.error)})


async def test_an_ask_has_thirty_seconds_and_a_run_an_hour_unless_they_say_otherwise() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with runtime_of(Worker("worker"), clock=clock) as runtime, asyncio.TaskGroup() as tasks:
            door = Dispatcher(runtime)
            asked = tasks.create_task(error_of(door, call(door, "hang")))
            await clock.advance(ASK_TIMEOUT - 0.1)
            assert not asked.done()
            await clock.advance(0.2)
            assert isinstance(asked.result(), DeadlineExceeded)
            run = await door.start(call(door, "hang"))
            await clock.advance(RUN_TIMEOUT - 0.1)
            assert not run.done
            await clock.advance(0.2)
            assert run.status == "timed_out"
            assert events(run)[-1][1] == "run.timed_out"
            short = tasks.create_task(error_of(door, call(door, "hang", timeout=1.0)))
            await clock.advance(1.1)
            assert isinstance(short.result(), DeadlineExceeded)
            assert agent(runtime, "worker").id == "worker#1"


async def test_a_caller_who_goes_away_cancels_the_run_and_its_handler() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Patient("worker")) as runtime, asyncio.TaskGroup() as tasks:
            door = Dispatcher(runtime)
            asked = call(door, "message")
            asking = tasks.create_task(door.ask(asked))
            await agent(runtime, "worker").began.wait()
            asking.cancel()
            await agent(runtime, "worker").cancelled.wait()
            await settle()
            assert asked.run is not None
            assert asked.run.status == "cancelled"
            assert str(asked.run.error) == "Its caller went away."


async def test_a_started_run_goes_on_without_anybody_who_waits() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Worker("worker")) as runtime:
            door = Dispatcher(runtime)
            run = await door.start(call(door, payload={"a": 1, "b": 2}))
            assert run.status == "queued"
            assert not run.done
            await run.wait()
            assert (run.status, run.output) == ("succeeded", 3)


async def test_a_run_is_queued_until_its_agent_has_it_in_hand_and_then_it_runs() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Patient("worker")) as runtime:
            door, worker = Dispatcher(runtime), agent(runtime, "worker")
            runs = [await door.start(call(door, "message", "plain")), await door.submit(call(door, "message", "stored"))]
            await worker.began.wait()
            await settle()
            assert [run.status for run in runs] == ["running", "queued"]
            worker.gate.set()
            for run in runs:
                await run.wait()
            assert [(run.status, run.output) for run in runs] == [("succeeded", "plain"), ("succeeded", "stored")]


async def test_a_submitted_run_is_stored_when_it_is_handed_back_and_goes_on_without_anybody_who_waits() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Worker("worker")) as runtime:
            door = Dispatcher(runtime)
            asked = call(door, payload={"a": 1, "b": 2}, principal="alice")
            run = await door.submit(asked)
            assert asked.run is run
            stored = await door.book.store.run(run.run_id)
            assert stored is not None
            assert (stored.agent, stored.operation, stored.principal) == ("worker", "add", "alice")
            assert stored.payload == {"a": 1, "b": 2}
            await run.wait()
            assert (run.status, run.output, run.attempts) == ("succeeded", 3, 1)
            ended = await door.book.store.run(run.run_id)
            assert ended is not None
            assert (ended.status, ended.output, ended.attempts) == ("succeeded", 3, 1)


async def test_a_stored_run_leaves_a_state_behind_only_where_its_handler_had_it_in_hand() -> None:
    class Counter(AgentProcess):
        async def handle(self, message: Message) -> Any:
            self.state["n"] = self.state.get("n", 0) + 1
            return self.state["n"]

    store = MemoryRunStore()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Worker("worker"), Counter("counter")]), commit=StoreCommit(store)) as runtime:
            door = Dispatcher(runtime)
            for asked in (call(door, payload={"a": 1, "b": 2}), Call(door.catalogue.find("counter"))):
                await (await door.submit(asked)).wait()
            assert (await store.state("worker"), await store.state("counter")) == (None, {"n": 1})


async def test_a_submitted_call_that_is_refused_leaves_no_run() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Worker("worker")) as runtime:
            door = Dispatcher(runtime)
            asked = call(door, payload={"a": "x"})
            with pytest.raises(ContractViolation):
                await door.submit(asked)
            assert asked.run is None
            assert await door.book.page(RunQuery(everyone=True)) == []
            assert not door.book.live


async def test_a_started_send_is_done_when_it_was_handled() -> None:
    got: list[Any] = []

    class Sink(AgentProcess):
        async def handle(self, message: Message) -> Any:
            got.append(message.payload)

    with anyio.fail_after(5):
        async with runtime_of(Sink("worker")) as runtime:
            door = Dispatcher(runtime)
            run = await door.start(call(door, "message", "news", one_way=True))
            await run.wait()
            assert (run.status, run.output, got) == ("succeeded", None, ["news"])


async def test_a_send_that_is_not_stored_and_crashes_its_handler_is_a_failed_run_after_one_attempt() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Worker("worker")) as runtime:
            door = Dispatcher(runtime)
            run = await door.start(call(door, "crash", one_way=True))
            await run.wait()
            assert (run.status, run.attempts) == ("failed", 1)
            assert isinstance(run.error, AgentCrashed)


@pytest.mark.parametrize("one_way", [True, False])
async def test_a_stored_run_that_always_crashes_its_handler_is_a_dead_letter_after_its_last_attempt(*, one_way: bool) -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Worker("worker")], max_restarts=2, backoff_base=0.0)) as runtime:
            door = Dispatcher(runtime)
            run = await door.submit(call(door, "crash", one_way=one_way, principal="alice"))
            await run.wait()
            assert (run.status, run.attempts) == ("failed", 3)
            assert isinstance(run.error, AgentCrashed)
            (letter,) = await door.book.dead_letters.page(RunQuery(principal="alice", dead=True))
            assert (letter.run_id, letter.agent, letter.operation, letter.attempts) == (run.run_id, "worker", "crash", 3)
            assert letter.reason == str(run.error)


async def test_a_stored_send_whose_handler_crashes_once_is_handled_again() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Fragile("worker")) as runtime:
            door = Dispatcher(runtime)
            run = await door.submit(call(door, "message", 1, one_way=True))
            await run.wait()
            assert (run.status, run.attempts) == ("succeeded", 2)
            assert await door.book.dead_letters.page(RunQuery(everyone=True, dead=True)) == []


async def test_what_must_not_be_handled_twice_is_a_dead_letter_after_one_attempt() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Worker("worker")) as runtime:
            door = Dispatcher(runtime)
            run = await door.submit(call(door, "crash_once"))
            await run.wait()
            assert (run.status, run.attempts) == ("failed", 1)
            assert [letter.run_id for letter in await door.book.dead_letters.page(RunQuery(everyone=True, dead=True))] == [
                run.run_id
            ]


async def test_a_run_that_is_cancelled_cancels_its_handler_and_what_that_waits_for() -> None:
    class Outer(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return (await self.ask("inner", None)).payload

    with anyio.fail_after(5):
        async with runtime_of(Outer("worker"), Patient("inner")) as runtime:
            door = Dispatcher(runtime)
            run = await door.start(call(door, "message"))
            await agent(runtime, "inner").began.wait()
            run.cancel()
            assert run.status == "cancelled"
            await agent(runtime, "inner").cancelled.wait()
            await settle()
            assert [child.id for child in runtime.all_agents()] == ["worker#1", "inner#1"]
            run.cancel("again")
            assert events(run)[-1] == (2, "run.cancelled", {"slug": "cancelled", "detail": "The run was cancelled."})


async def test_the_asker_of_a_run_that_somebody_else_cancels_is_told() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Patient("worker")) as runtime, asyncio.TaskGroup() as tasks:
            door = Dispatcher(runtime)
            asked = call(door, "message")
            asking = tasks.create_task(error_of(door, asked))
            await agent(runtime, "worker").began.wait()
            assert asked.run is not None
            asked.run.cancel("Enough.")
            error = await asking
            assert isinstance(error, Cancelled)
            assert str(error) == "Enough."


async def test_attempts_of_a_run_are_counted() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Fragile("worker")) as runtime:
            door = Dispatcher(runtime)
            asked = call(door, "message", 2)
            assert (await door.ask(asked)).attempt == 2
            assert asked.run is not None
            assert asked.run.attempts == 3


async def test_a_request_that_a_crashed_handler_changed_is_validated_anew_for_the_next_attempt() -> None:
    class Greedy(AgentProcess):
        @operation
        async def count(self, items: list[int]) -> int:
            items.pop()
            if self.id.endswith("#1"):
                raise BoomError
            return len(items)

    with anyio.fail_after(5):
        async with runtime_of(Greedy("worker")) as runtime:
            door = Dispatcher(runtime)
            assert (await door.ask(call(door, "count", [1, 2, 3]))).payload == 2


async def test_a_handlers_events_come_in_order_without_gaps() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Worker("worker")) as runtime:
            door = Dispatcher(runtime)
            asked = call(door, "report", {"steps": 2})
            reply = await door.ask(asked)
            run = asked.run
            assert run is not None
            assert reply.payload == run.run_id
            assert [event[0] for event in events(run)] == list(range(1, 8))
            assert events(run)[1:] == [
                (2, "progress", {"done": 1, "total": 2, "note": "step 1"}),
                (3, "progress", {"done": 2, "total": 2, "note": "step 2"}),
                (4, "delta", {"text": "do"}),
                (5, "delta", {"text": "ne"}),
                (6, "my.event", {"any": "data"}),
                (7, "run.succeeded", {"output": run.run_id}),
            ]


async def test_a_stored_run_has_every_event_however_few_are_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Teller(AgentProcess):
        @operation
        async def tell(self, ctx: Context) -> str:
            for number in range(300):
                ctx.progress(number)
                if number % 50 == 49:
                    await settle()  # so that they are stored meanwhile
            return "told"

    monkeypatch.setattr(run_module, "MAX_EVENTS", 100)
    with anyio.fail_after(5):
        async with runtime_of(Teller("worker")) as runtime:
            door = Dispatcher(runtime)
            run = await door.submit(call(door, "tell"))
            await run.wait()
            assert len(run.backlog()) < 200
            assert [event.seq async for event in run.follow()] == list(range(1, 303))
            assert [event.seq async for event in run.follow(after=42)] == list(range(43, 303))


async def test_a_handler_knows_who_asks_and_nested_asks_know_it_too() -> None:
    class Outer(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return (await self.ask("worker", None, "who")).payload

    with anyio.fail_after(5):
        async with runtime_of(Worker("worker"), Outer("outer")) as runtime:
            door = Dispatcher(runtime)
            asked = Call(door.catalogue.find("outer"), principal="alice")
            reply = await door.ask(asked)
            assert asked.run is not None
            assert reply.payload == ["alice", 0, asked.run.run_id, False]


async def test_while_draining_no_new_call_is_taken_and_running_ones_finish() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Patient("worker")) as runtime, asyncio.TaskGroup() as tasks:
            door = Dispatcher(runtime)
            asking = tasks.create_task(door.ask(call(door, "message", "running")))
            await agent(runtime, "worker").began.wait()
            door.draining = True
            assert isinstance(await error_of(door, call(door, "message")), Draining)
            with pytest.raises(Draining):
                await door.start(call(door, "message"))
            agent(runtime, "worker").gate.set()
            assert (await asking).payload == "running"


async def test_a_full_mailbox_and_a_runtime_that_is_not_there_refuse_at_once() -> None:
    runtime = runtime_of(Echo("worker", mailbox_size=0))
    door = Dispatcher(runtime)
    with anyio.fail_after(5):
        with pytest.raises(RuntimeNotStarted):
            await door.ask(call(door, "message"))
        async with runtime:
            assert isinstance(await error_of(door, call(door, "message")), MailboxFull)
        with pytest.raises(RuntimeNotStarted):
            await door.start(call(door, "message"))
        assert len(door.book.plain) == 0


async def test_a_runtime_that_gave_up_answers_with_process_exited() -> None:
    class Doomed(AgentProcess):
        async def on_start(self) -> None:
            self.start_task(self.fail())

        async def fail(self) -> None:
            raise BoomError

    with anyio.fail_after(5):
        async with runtime_of(Doomed("worker"), Echo("echo")) as runtime:
            door = Dispatcher(runtime)
            endpoint = door.catalogue.find("echo")
            await runtime.wait()
            assert isinstance(await error_of(door, Call(endpoint)), ProcessExited)


async def test_runs_that_are_open_when_the_runtime_stops_get_an_end() -> None:
    runtime = runtime_of(Patient("worker", shutdown_timeout=0.01))
    door = Dispatcher(runtime)
    with anyio.fail_after(5):
        async with runtime:
            runs = [await door.start(call(door, "message", number)) for number in range(3)]
            await agent(runtime, "worker").began.wait()
        assert [run.status for run in runs] == ["failed"] * 3
        assert all(isinstance(run.error, ProcessExited) for run in runs)


async def test_every_door_of_a_runtime_has_the_same_book() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Worker("worker")) as runtime:
            one, other = Dispatcher(runtime), Dispatcher(runtime)
            asked = call(one, payload={"a": 1, "b": 2})
            await one.ask(asked)
            submitted = await one.submit(call(one, payload={"a": 1, "b": 2}))
            assert asked.run is not None
            assert await other.book.find(asked.run.run_id, None) is asked.run
            assert await other.book.find(submitted.run_id, None) is submitted


async def test_plain_asks_are_remembered_up_to_their_bound() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Echo("worker")) as runtime:
            door = Dispatcher(runtime)
            door.book.plain = records = RunRecords(limit=5)
            for number in range(20):
                await door.ask(call(door, "message", number))
            assert len(records) == 5
            assert [run.output for run in await door.book.page(RunQuery(everyone=True))] == [19, 18, 17, 16, 15]


# --- what could not be stored -----------------------------------------------------------------------------------------


class FlakyStore(MemoryRunStore):
    """Does not take the next success of a run, or loses it."""

    def __init__(self) -> None:
        super().__init__()
        self.next: str | None = None

    def submit(self, changes: Sequence[Change], ended: Ended, lineage: Lineage | None = None) -> None:
        if self.next is None or not any(isinstance(change, EndRun) and change.error is None for change in changes):
            super().submit(changes, ended, lineage)
            return
        trouble, self.next = self.next, None
        error = StoreUnavailable("the disk is full")
        if trouble == "refuses":
            raise error
        if lineage is not None:
            lineage.broken = error
        ended(error)


@pytest.mark.parametrize("trouble", ["refuses", "loses"])
async def test_a_stored_run_whose_end_could_not_be_stored_is_handled_again(trouble: str) -> None:
    clock, store = ManualClock(), FlakyStore()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Worker("worker")]), commit=StoreCommit(store), clock=clock) as runtime:
            door = Dispatcher(runtime)
            store.next = trouble
            run = await door.submit(call(door, payload={"a": 1, "b": 2}))
            await settle()
            assert store.next is None
            assert not run.done
            await clock.advance(2.0)
            assert (run.status, run.output) == ("succeeded", 3)
            assert agent(runtime, "worker").id == "worker#1"


async def test_a_lost_commit_of_one_hand_is_made_good_while_another_hand_is_busy() -> None:
    class Hands(Patient):
        handled = 0

        async def handle(self, message: Message) -> Any:
            if message.payload == "wait":
                return await super().handle(message)
            self.handled += 1
            return self.handled

    clock, store = ManualClock(), FlakyStore()
    with anyio.fail_after(5):
        tree = Supervisor("root", [Hands("worker", concurrency=2)])
        async with Runtime(tree, commit=StoreCommit(store), clock=clock) as runtime:
            door, hands = Dispatcher(runtime), agent(runtime, "worker")
            busy = await door.submit(call(door, "message", "wait"))
            await hands.began.wait()
            store.next = "loses"
            run = await door.submit(call(door, "message", "quick"))
            await clock.advance(5.0)
            assert not busy.done
            assert (run.status, hands.handled) == ("succeeded", 2)
            hands.gate.set()
            await busy.wait()


# --- the crash budget -------------------------------------------------------------------------------------------------


async def crash_often(door: Dispatcher, times: int, **who: Any) -> None:
    for _ in range(times):
        assert isinstance(await error_of(door, call(door, "crash_once", **who)), AgentCrashed)


async def test_who_crashes_agents_too_often_pays_and_the_others_do_not() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with runtime_of(Worker("worker"), clock=clock) as runtime:
            door = Dispatcher(runtime)
            async with asyncio.TaskGroup() as tasks:
                mallory = tasks.create_task(crash_often(door, 10, principal="mallory"))
                await clock.advance(1.0)
                assert mallory.done()
            error = await error_of(door, call(door, payload={"a": 1, "b": 2}, principal="mallory"))
            assert isinstance(error, CrashBudgetSpent)
            assert str(error) == "10 of your calls crashed an agent within 60 s. Try again in 59 s."
            assert error.retry_after == 59.0
            assert (await door.ask(call(door, payload={"a": 1, "b": 2}, principal="alice"))).payload == 3
            assert runtime.alive
            await clock.advance(60.0)
            assert (await door.ask(call(door, payload={"a": 1, "b": 2}, principal="mallory"))).payload == 3


async def test_without_a_principal_the_address_pays() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Worker("worker")) as runtime:
            door = Dispatcher(runtime)
            await crash_often(door, 10, address="192.0.2.1")
            assert isinstance(await error_of(door, call(door, "who", address="192.0.2.1")), CrashBudgetSpent)
            await door.ask(call(door, "who", address="192.0.2.2"))
            await crash_often(door, 15)  # nobody known: no two calls are of the same payer


async def test_declared_errors_and_timeouts_cost_nothing() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Worker("worker")) as runtime:
            door = Dispatcher(runtime)
            for _ in range(12):
                assert isinstance(await error_of(door, call(door, "refuse", principal="alice")), AgentError)
                assert isinstance(await error_of(door, call(door, "hang", principal="alice", timeout=0.0)), DeadlineExceeded)
            await door.ask(call(door, "who", principal="alice"))


# --- observers --------------------------------------------------------------------------------------------------------


class Tracer:
    """Sees calls, and misbehaves where it is told to."""

    def __init__(self, *, broken: bool = False) -> None:
        self.seen: list[str] = []
        self.broken = broken

    @contextmanager
    def dispatching(self, call: Call) -> Generator[str]:
        if self.broken:
            raise BoomError
        self.seen.append("before")
        try:
            yield "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        except CallError as error:
            self.seen.append(error.slug)
            raise
        finally:
            self.seen.append("after")


async def test_an_observer_stands_around_every_call_and_gives_it_its_trace() -> None:
    class Traced(AgentProcess):
        async def handle(self, message: Message) -> Any:
            if message.payload == "refuse":
                raise AgentError("no")
            return message.trace_id

    tracer = Tracer()
    with anyio.fail_after(5):
        async with runtime_of(Traced("worker")) as runtime:
            door = Dispatcher(runtime, observers=[tracer])
            assert (await door.ask(call(door, "message"))).payload == "0af7651916cd43dd8448eb211c80319c"
            assert isinstance(await error_of(door, call(door, "message", "refuse")), AgentError)
            run = await door.start(call(door, "message"))
            await run.wait()
            assert run.output == "0af7651916cd43dd8448eb211c80319c"
    assert tracer.seen == ["before", "after", "before", "no", "after", "before", "after"]


async def test_an_observer_that_raises_is_forgotten() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Echo("worker")) as runtime:
            door = Dispatcher(runtime, observers=[Tracer(broken=True)])
            assert (await door.ask(call(door, "message", 1))).payload == 1
