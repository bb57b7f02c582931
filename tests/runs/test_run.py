"""A run's journal: numbered without gaps, followed from anywhere, ended once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.errors import AgentError, CallError, Cancelled, DeadlineExceeded, UnknownRun
from portico.kernel.messages import Message
from portico.kernel.runtime import Runtime
from portico.runs import run as run_module
from portico.runs.book import book_of
from portico.runs.crash_budget import CrashBudget
from portico.runs.event import TERMINAL
from portico.runs.record import RunRecord
from portico.runs.records import RunRecords
from portico.runs.run import Run
from portico.runs.run_view import reference, view
from portico.runs.status import RunStatus
from portico.runs.store import AcceptRun, RunQuery
from portico.testing import ManualClock, settle

if TYPE_CHECKING:
    from portico.runs.book import RunBook

pytestmark = pytest.mark.anyio


def new_book() -> RunBook:
    return book_of(Runtime())


def new_run(principal: str | None = None) -> Run:
    """A plain ask, which nothing handles."""
    return Run("echo", "message", principal, new_book())


def ended_run(principal: str | None = None) -> Run:
    run = new_run(principal)
    run.finish(Message(payload="done"), None)
    return run


async def followed(run: Run, after: int = 0) -> list[tuple[int, str]]:
    return [(event.seq, event.type) async for event in run.follow(after)]


async def test_a_run_is_followed_live_from_its_beginning_to_its_end() -> None:
    run = new_run()
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(followed(run))
            for number in range(3):
                await settle()
                run.append("delta", {"text": str(number)})
            await settle()
            assert not following.done()
            run.finish(Message(payload="done"), None)
        assert following.result() == [(1, "run.started"), (2, "delta"), (3, "delta"), (4, "delta"), (5, "run.succeeded")]


@pytest.mark.parametrize("after", range(-1, 8))
async def test_a_finished_run_is_followed_from_any_event_and_the_follower_always_comes_to_an_end(after: int) -> None:
    run = new_run()
    run.append("a")
    run.append("b")
    run.finish(None, AgentError("no"))
    everything = [(1, "run.started"), (2, "a"), (3, "b"), (4, "run.failed")]
    with anyio.fail_after(5):
        assert await followed(run, after) == everything[max(0, after) :]


async def test_a_follower_that_begins_beyond_the_end_of_a_live_run_waits_and_stalls_nobody() -> None:
    run = new_run()
    run.append("a")
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(followed(run, after=999))
            await settle()
            assert not following.done()
            run.append("b")
            await settle()
            run.finish(Message(), None)
        assert following.result() == []


async def test_several_followers_see_the_same() -> None:
    run = new_run()
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            followers = [tasks.create_task(followed(run)) for _ in range(3)]
            await settle()
            run.append("a")
            run.finish(Message(), None)
        assert len({tuple(follower.result()) for follower in followers}) == 1


async def test_a_follower_who_leaves_is_forgotten() -> None:
    run = new_run()
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(followed(run))
            await settle()
            following.cancel()
        run.append("a")
        run.finish(Message(), None)
        assert len(await followed(run)) == 3


async def test_events_after_the_end_are_dropped_whether_or_not_anybody_looked_before() -> None:
    for looked in (True, False):
        run = new_run()
        if looked:
            run.backlog()
        run.finish(Message(payload=1), None)
        run.append("late")
        run.append("later")
        with anyio.fail_after(5):
            assert await followed(run) == [(1, "run.started"), (2, "run.succeeded")]


async def test_the_first_end_counts() -> None:
    run = ended_run()
    run.finish(None, AgentError("no"))
    run.cancel()
    assert (run.status, run.output, run.error) == ("succeeded", "done", None)
    assert [event.type for event in run.backlog()] == ["run.started", "run.succeeded"]


@pytest.mark.parametrize(
    ("error", "status", "last"),
    [
        (DeadlineExceeded("echo"), "timed_out", "run.timed_out"),
        (Cancelled(), "cancelled", "run.cancelled"),
        (AgentError("no", "Not today."), "failed", "run.failed"),
    ],
)
async def test_every_error_has_its_status_and_its_last_event(error: CallError, status: str, last: str) -> None:
    run = new_run()
    run.finish(None, error)
    assert run.status == status
    assert run.backlog()[-1].type == last
    assert run.backlog()[-1].data == {"slug": error.slug, "detail": str(error)}


async def test_what_went_wrong_inside_is_a_failure_that_tells_its_callers_nothing_of_it() -> None:
    run = new_run()
    run.finish(None, RuntimeError("the password is secret"))
    last = run.backlog()[-1]
    assert (run.status, last.type, last.data["slug"]) == ("failed", "run.failed", "internal-error")
    assert "password" not in str(last.data)


async def test_wait_returns_at_the_end_and_at_once_after_it() -> None:
    run = new_run()
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(run.wait())
            await settle()
            run.append("a")
            await settle()
            assert not waiting.done()
            run.finish(Message(), None)
        await run.wait()


async def test_a_journal_that_grows_too_long_loses_its_oldest_events_and_the_gap_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "MAX_EVENTS", 100)
    run = new_run()
    for number in range(1000):
        run.append("delta", number)
    run.finish(Message(), None)
    with anyio.fail_after(5):
        numbers = [event.seq async for event in run.follow()]
    assert len(numbers) <= 101
    assert numbers[0] > 1
    assert numbers == list(range(numbers[0], 1003))


@given(st.lists(st.sampled_from(["append", "look", "finish", "cancel"]), max_size=20))
def test_whatever_happens_to_a_run_its_events_are_numbered_without_gaps_and_end_once(steps: list[str]) -> None:
    run = new_run()
    for step in steps:
        match step:
            case "append":
                run.append("delta")
            case "look":
                run.backlog()
            case "finish":
                run.finish(Message(), None)
            case _:
                run.cancel()
    backlog = run.backlog()
    assert [event.seq for event in backlog] == list(range(1, len(backlog) + 1))
    assert backlog[0].type == "run.started"
    ends = [event.type in TERMINAL for event in backlog]
    assert sum(ends) == (1 if run.done else 0)
    assert ends[-1] == run.done


def test_a_run_looks_the_same_through_every_face() -> None:
    run = ended_run()
    shown: dict[str, Any] = view(run)
    created, finished = shown.pop("created_at"), shown.pop("finished_at")
    assert reference(run) == {"run_id": run.run_id, "status": "succeeded"}
    assert shown == {
        "run_id": run.run_id,
        "parent_id": None,
        "agent": "echo",
        "operation": "message",
        "status": "succeeded",
        "due_at": None,
        "attempts": 0,
        "last_event_id": 2,
        "input": None,
        "output": "done",
        "error": None,
        "waiting_for": None,
        "metadata": {},
        "callback": None,
        "stored": False,
        "labels": {},
        "usage": None,
    }
    assert created.endswith("Z")
    assert finished >= created
    failed = new_run()
    assert view(failed)["finished_at"] is None
    failed.finish(None, AgentError("no", "Not today."))
    assert view(failed)["error"] == {"slug": "no", "detail": "Not today."}


# --- records ----------------------------------------------------------------------------------------------------------


async def test_a_run_belongs_to_its_principal_and_to_others_it_does_not_exist() -> None:
    book = new_book()
    mine, nobodys = ended_run("alice"), ended_run()
    book.plain.add(mine)
    book.plain.add(nobodys)
    assert await book.find(mine.run_id, "alice") is mine
    assert await book.find(nobodys.run_id, None) is nobodys
    assert await book.find(mine.run_id, "bob", everyone=True) is mine
    for run, principal in ((mine, "bob"), (mine, None), (nobodys, "alice")):
        with pytest.raises(UnknownRun, match="it never was, has been removed, or belongs to somebody else"):
            await book.find(run.run_id, principal)
    with pytest.raises(UnknownRun):
        await book.find("never", None)


async def test_a_stored_run_belongs_to_its_principal_too() -> None:
    book = new_book()
    await book.keep(AcceptRun(RunRecord(run_id="mine", agent="echo", operation="message", principal="alice", created=1.0)))
    assert (await book.find("mine", "alice")).run_id == "mine"
    assert (await book.find("mine", None, everyone=True)).principal == "alice"
    for principal in ("bob", None):
        with pytest.raises(UnknownRun):
            await book.find("mine", principal)


async def test_runs_are_listed_newest_first_page_by_page_and_only_ones_own() -> None:
    book = new_book()
    runs = [ended_run("alice" if number % 2 else "bob") for number in range(10)]
    for age, run in enumerate(runs):
        run.created = float(age)
        book.plain.add(run)
    alices = [run for run in reversed(runs) if run.principal == "alice"]
    assert await book.page(RunQuery(principal="alice")) == alices
    first = await book.page(RunQuery(principal="alice", limit=2))
    assert first == alices[:2]
    last = first[-1]
    assert await book.page(RunQuery(principal="alice", limit=2, before=(last.created, last.run_id))) == alices[2:4]
    assert await book.page(RunQuery(principal="alice", before=(0.0, ""))) == []
    assert await book.page(RunQuery()) == []
    assert await book.page(RunQuery(everyone=True)) == list(reversed(runs))


async def test_plain_and_stored_runs_are_listed_as_one_and_each_condition_narrows_the_list() -> None:
    book = new_book()
    for age in (1, 3):
        plain = Run("echo", "message", None, book)
        plain.created = float(age)
        plain.finish(Message(payload="done"), None) if age == 3 else None
        plain.run_id = f"plain-{age}"
        book.plain.add(plain)
    for age in (2, 4):
        agent = "echo" if age == 2 else "other"
        await book.keep(AcceptRun(RunRecord(run_id=f"stored-{age}", agent=agent, operation="message", created=float(age))))

    async def listed(query: RunQuery) -> list[str]:
        return [run.run_id for run in await book.page(query)]

    assert await listed(RunQuery()) == ["stored-4", "plain-3", "stored-2", "plain-1"]
    assert await listed(RunQuery(limit=3)) == ["stored-4", "plain-3", "stored-2"]
    assert await listed(RunQuery(before=(3.0, "plain-3"))) == ["stored-2", "plain-1"]
    assert await listed(RunQuery(agent="echo")) == ["plain-3", "stored-2", "plain-1"]
    assert await listed(RunQuery(status=RunStatus.QUEUED)) == ["stored-4", "stored-2", "plain-1"]
    assert await listed(RunQuery(status=RunStatus.SUCCEEDED)) == ["plain-3"]
    assert await listed(RunQuery(dead=True)) == []


def test_the_oldest_that_have_ended_are_forgotten_first_and_open_ones_never() -> None:
    records = RunRecords(limit=5)
    open_ones = [new_run() for _ in range(3)]
    for run in open_ones:
        records.add(run)
    finished = [ended_run() for _ in range(20)]
    for run in finished:
        records.add(run)
    assert len(records) == 5
    assert all(records.find(run.run_id) is run for run in [*open_ones, finished[-1]])
    assert records.find(finished[0].run_id) is None


def test_after_a_crowd_of_open_runs_the_records_come_back_to_their_bound() -> None:
    records = RunRecords(limit=5)
    crowd = [new_run() for _ in range(50)]
    for run in crowd:
        records.add(run)
    assert len(records) == 50
    for run in crowd:
        run.finish(Message(), None)
    for _ in range(20):
        records.add(ended_run())
    assert len(records) == 5


# --- crash budget -----------------------------------------------------------------------------------------------------


async def test_the_budget_slides_and_forgets_who_owes_nothing_any_more() -> None:
    from portico.errors import CrashBudgetSpent

    clock = ManualClock()
    budget = CrashBudget(clock, limit=2, window=10.0)
    assert not budget
    budget.charge("alice")
    await clock.advance(6.0)
    budget.charge("alice")
    budget.charge("bob")
    budget.check("bob")
    with pytest.raises(CrashBudgetSpent, match=r"2 of your calls crashed an agent within 10 s\. Try again in 4 s\."):
        budget.check("alice")
    await clock.advance(4.0)
    budget.check("alice")
    await clock.advance(10.0)
    budget.check("alice")
    budget.check("bob")
    assert not budget
