"""The contract of the port `Commit`: states are stored in the order in which they were submitted, and found again at once."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import pytest
from hypothesis import given

from portico.errors import StoreUnavailable
from portico.kernel.memory import MemoryCommit
from portico.kernel.protocols import Lineage
from portico.runs.commit import StoreCommit
from portico.runs.memory_store import MemoryRunStore
from portico.runs.store import BeginRun
from portico.stores.sqlite import SqliteStore
from portico.testing import settle
from tests.contracts.json_values import OBJECTS, TEXT, exact

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from portico.kernel.protocols import Commit, Ended
    from portico.runs.store import Change

pytestmark = pytest.mark.anyio

Opened: TypeAlias = "Callable[[], AbstractAsyncContextManager[Commit]]"
"""A fresh commit in which nothing is stored, opened, and its end."""


@asynccontextmanager
async def memory() -> AsyncGenerator[Commit]:
    commit = MemoryCommit()
    await commit.open()
    yield commit
    await commit.close()


@asynccontextmanager
async def run_store() -> AsyncGenerator[StoreCommit]:
    commit = StoreCommit(MemoryRunStore())
    await commit.open()
    yield commit
    await commit.close()


@asynccontextmanager
async def sqlite() -> AsyncGenerator[StoreCommit]:
    with TemporaryDirectory() as directory:
        commit = StoreCommit(SqliteStore(directory))
        await commit.open()
        yield commit
        await commit.close()


over_every_commit = pytest.mark.parametrize("opened", [memory, run_store, sqlite])
over_every_commit_with_a_store = pytest.mark.parametrize("opened", [run_store, sqlite])
"""Those that remember suspensions, and can fail."""


class Told:
    """An `ended` that keeps what it was told."""

    def __init__(self) -> None:
        self.outcomes: list[Exception | None] = []
        self._any = anyio.Event()

    def __call__(self, error: Exception | None) -> None:
        self.outcomes.append(error)
        self._any.set()

    async def outcome(self) -> Exception | None:
        """The first that it is told."""
        with anyio.fail_after(5):
            await self._any.wait()
        return self.outcomes[0]


async def handled(commit: Commit, name: str, state: Mapping[str, Any]) -> None:
    """The process of that name has handled a message, and that is stored."""
    told = Told()
    commit.commit(name, state, told, Lineage())
    assert await told.outcome() is None


async def stored(commit: Commit, name: str) -> dict[str, Any]:
    """What a later life of the process begins with: not what is kept at hand for this one."""
    commit.forget(name)
    return await commit.load(name)


@over_every_commit
async def test_a_process_that_never_committed_has_an_empty_state(opened: Opened) -> None:
    async with opened() as commit:
        assert await commit.load("counter") == {}


@over_every_commit
@given(name=TEXT, state=OBJECTS)
async def test_a_committed_state_is_loaded_as_it_was(opened: Opened, name: str, state: dict[str, Any]) -> None:
    async with opened() as commit:
        await handled(commit, name, state)
        assert exact(await commit.load(name)) == exact(state)
        assert exact(await stored(commit, name)) == exact(state)


@over_every_commit
@pytest.mark.parametrize("depth", [10, 150, 199, 220, 253, 300])
async def test_a_deep_state_is_refused_or_loaded_as_it_was(opened: Opened, depth: int) -> None:
    state: dict[str, Any] = {}
    for _ in range(depth):
        state = {"inner": state}
    async with opened() as commit:
        try:
            await handled(commit, "counter", state)
        except ValueError:
            state = {}
        assert exact(await commit.load("counter")) == exact(state)
        assert exact(await stored(commit, "counter")) == exact(state)


@over_every_commit
async def test_the_last_committed_state_is_the_whole_state(opened: Opened) -> None:
    async with opened() as commit:
        await handled(commit, "counter", {"n": 1, "old": True})
        await handled(commit, "counter", {"n": 2})
        assert await commit.load("counter") == {"n": 2}
        assert await stored(commit, "counter") == {"n": 2}


@over_every_commit
async def test_an_empty_state_is_a_state(opened: Opened) -> None:
    async with opened() as commit:
        await handled(commit, "counter", {"n": 1})
        await handled(commit, "counter", {})
        assert await commit.load("counter") == {}
        assert await stored(commit, "counter") == {}


@over_every_commit
async def test_each_process_has_a_state_of_its_own(opened: Opened) -> None:
    async with opened() as commit:
        await handled(commit, "a", {"of": "a"})
        await handled(commit, "b", {"of": "b"})
        commit.forget("a")
        assert await commit.load("a") == {"of": "a"}
        assert await commit.load("b") == {"of": "b"}


@over_every_commit
async def test_what_was_submitted_is_what_is_loaded_at_once(opened: Opened) -> None:
    async with opened() as commit:
        told, lineage = [Told() for _ in range(3)], Lineage()
        for number, each in enumerate(told):
            commit.commit("counter", {"n": number}, each, lineage)
            assert await commit.load("counter") == {"n": number}
        assert [await each.outcome() for each in told] == [None] * 3


@over_every_commit
async def test_a_process_that_ends_while_its_state_is_being_stored_finds_it_in_its_next_life(opened: Opened) -> None:
    async with opened() as commit:
        await handled(commit, "counter", {"n": 1})
        told = Told()
        commit.commit("counter", {"n": 2}, told, Lineage())
        assert await stored(commit, "counter") == {"n": 2}
        assert await told.outcome() is None


@over_every_commit
async def test_commits_are_stored_in_the_order_in_which_they_were_submitted(opened: Opened) -> None:
    async with opened() as commit:
        order: list[int] = []
        last = Told()
        lineages = {name: Lineage() for name in ("a", "b")}
        for number in range(200):
            name = "ab"[number % 2]
            commit.commit(name, {"n": number}, lambda _, number=number: order.append(number), lineages[name])
        commit.commit("last", {}, last, Lineage())
        assert await last.outcome() is None
        assert order == list(range(200))
        assert (await stored(commit, "a"), await stored(commit, "b")) == ({"n": 198}, {"n": 199})


@over_every_commit
async def test_every_commit_hears_of_its_end_exactly_once(opened: Opened) -> None:
    told = [Told() for _ in range(20)]
    async with opened() as commit:
        for number, each in enumerate(told):
            commit.commit("counter", {"n": number}, each, Lineage())
        assert await told[-1].outcome() is None
        assert await commit.load("counter") == {"n": 19}
        commit.forget("counter")
    assert [each.outcomes for each in told] == [[None]] * 20


@over_every_commit
async def test_what_was_submitted_before_the_end_is_stored_and_there_when_it_is_opened_again(opened: Opened) -> None:
    async with opened() as commit:
        told, lineage = [Told() for _ in range(50)], Lineage()
        for number, each in enumerate(told):
            commit.commit("counter", {"n": number}, each, lineage)
        with anyio.fail_after(5):
            await commit.close()
        assert [each.outcomes for each in told] == [[None]] * 50
        await commit.open()
        assert await commit.load("counter") == {"n": 49}


@over_every_commit
async def test_what_was_committed_does_not_change_with_the_process_s_own_state(opened: Opened) -> None:
    async with opened() as commit:
        state: dict[str, Any] = {"list": [1]}
        told = Told()
        commit.commit("counter", state, told, Lineage())
        state["list"].append(2)
        state["poison"] = True
        assert await told.outcome() is None
        assert await commit.load("counter") == {"list": [1]}
        assert await stored(commit, "counter") == {"list": [1]}


@over_every_commit
async def test_each_load_is_a_fresh_copy(opened: Opened) -> None:
    async with opened() as commit:
        await handled(commit, "counter", {"list": [1]})
        (await commit.load("counter"))["list"].append(2)
        (await commit.load("nobody"))["poison"] = True
        assert await commit.load("counter") == {"list": [1]}
        (await stored(commit, "counter"))["list"].append(2)
        assert await commit.load("counter") == {"list": [1]}
        assert await commit.load("nobody") == {}


@over_every_commit
async def test_a_state_that_cannot_be_stored_raises_and_leaves_the_last_one_whole(opened: Opened) -> None:
    async with opened() as commit:
        await handled(commit, "counter", {"n": 1})
        told, lineage = Told(), Lineage()
        with pytest.raises((TypeError, ValueError)):
            commit.commit("counter", {"n": 2, "lock": Lock()}, told, lineage)
        assert await commit.load("counter") == {"n": 1}
        commit.commit("counter", {"n": 3}, (after := Told()), lineage)
        assert await after.outcome() is None
        assert await commit.load("counter") == {"n": 3}
        assert await stored(commit, "counter") == {"n": 3}
        assert told.outcomes == []


@over_every_commit
async def test_commits_of_many_processes_at_the_same_time_do_not_mix(opened: Opened) -> None:
    with anyio.fail_after(10):
        async with opened() as commit:
            async with anyio.create_task_group() as tasks:
                for number in range(50):
                    tasks.start_soon(handled, commit, f"p{number}", {"n": number})
            assert [await stored(commit, f"p{number}") for number in range(50)] == [{"n": number} for number in range(50)]


# --- suspensions ------------------------------------------------------------------------------------------------------


@over_every_commit
async def test_where_nobody_was_suspended_there_are_no_suspensions(opened: Opened) -> None:
    async with opened() as commit:
        commit.suspended("a", None)
        await commit.close()
        assert dict(await commit.open()) == {}


@over_every_commit_with_a_store
async def test_who_is_suspended_at_the_end_is_suspended_for_the_same_reason_when_it_is_opened_again(opened: Opened) -> None:
    async with opened() as commit:
        for name, reason in (("a", "first"), ("b", "to be resumed"), ("a", "second"), ("c", ""), ("b", None)):
            commit.suspended(name, reason)
        await commit.close()
        assert dict(await commit.open()) == {"a": "second", "c": ""}
        commit.suspended("a", None)
        await commit.close()
        assert dict(await commit.open()) == {"c": ""}


@over_every_commit
async def test_what_was_submitted_before_is_settled_when_that_is_said(opened: Opened) -> None:
    async with opened() as commit:
        told = Told()
        commit.commit("a", {"n": 1}, told, Lineage())
        commit.suspended("a", "enough")
        with anyio.fail_after(5):
            await commit.settled()
        assert told.outcomes == [None]


@over_every_commit_with_a_store
async def test_a_suspension_is_stored_when_all_is_settled(opened: OpenedWithStore) -> None:
    async with opened() as commit:
        commit.suspended("a", "enough")
        await commit.settled()
        assert await commit.store.suspensions() == {"a": "enough"}


@over_every_commit_with_a_store
async def test_a_suspension_leaves_the_state_alone(opened: Opened) -> None:
    async with opened() as commit:
        await handled(commit, "a", {"n": 1})
        commit.suspended("a", "enough")
        assert await commit.load("a") == {"n": 1}
        assert await stored(commit, "a") == {"n": 1}


# --- what could not be stored -----------------------------------------------------------------------------------------


OpenedWithStore: TypeAlias = "Callable[[], AbstractAsyncContextManager[StoreCommit]]"

IMPOSSIBLE = (BeginRun("never", 1, 0.0),)
"""A change that every store refuses: of a run that was never accepted."""


@over_every_commit_with_a_store
async def test_a_commit_that_is_not_stored_takes_along_what_builds_on_it_and_nothing_else(opened: OpenedWithStore) -> None:
    async with opened() as commit:
        await handled(commit, "counter", {"n": 1})
        lost, other = Lineage(), Lineage()
        told = [Told() for _ in range(5)]
        commit.submit("counter", {"n": 2}, IMPOSSIBLE, told[0], lost)
        commit.commit("counter", {"n": 3}, told[1], lost)
        commit.commit("bystander", {"n": 9}, told[2], other)
        assert isinstance(await told[0].outcome(), StoreUnavailable)
        commit.commit("counter", {"n": 4}, told[3], lost)
        assert isinstance(await told[1].outcome(), StoreUnavailable)
        assert await told[2].outcome() is None
        assert isinstance(await told[3].outcome(), StoreUnavailable)
        assert isinstance(lost.broken, StoreUnavailable)
        assert other.broken is None
        assert await commit.load("counter") == {"n": 1}
        assert await stored(commit, "counter") == {"n": 1}
        assert await commit.load("bystander") == {"n": 9}
        commit.commit("counter", {"n": 2}, told[4], Lineage())
        assert await told[4].outcome() is None
        assert await stored(commit, "counter") == {"n": 2}
        assert [len(each.outcomes) for each in told] == [1] * 5


@over_every_commit_with_a_store
async def test_what_is_stored_together_with_a_state_is_stored_all_or_not_at_all(opened: OpenedWithStore) -> None:
    async with opened() as commit:
        told = Told()
        commit.submit("counter", {"n": 1}, IMPOSSIBLE, told, Lineage())
        assert isinstance(await told.outcome(), StoreUnavailable)
        assert await stored(commit, "counter") == {}


class SlowStore(MemoryRunStore):
    """Does one thing after the other when it is told to, and fails where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callable[[Exception | None], object]] = []
        self.full = False

    def submit(self, changes: Sequence[Change], ended: Ended, lineage: Lineage | None = None) -> None:
        if self.full:
            raise StoreUnavailable("full")
        self.waiting.append(partial(self._do, changes, ended, lineage or Lineage()))

    def _do(self, changes: Sequence[Change], ended: Ended, lineage: Lineage, error: Exception | None) -> None:
        lineage.broken = lineage.broken or error
        if lineage.broken is not None:
            ended(lineage.broken)
        else:
            super().submit(changes, ended, lineage)

    async def state(self, name: str) -> dict[str, Any] | None:
        if self.waiting:
            its_turn = anyio.Event()
            self.waiting.append(lambda _: its_turn.set())
            await its_turn.wait()
        return await super().state(name)

    def turn(self, error: Exception | None = None) -> None:
        """Do what has waited longest, or fail to."""
        self.waiting.pop(0)(error)


async def test_what_a_full_store_does_not_take_was_never_submitted() -> None:
    store = SlowStore()
    commit, lineage, told = StoreCommit(store), Lineage(), Told()
    commit.commit("counter", {"n": 1}, told, lineage)
    store.full = True
    with pytest.raises(StoreUnavailable):
        commit.commit("counter", {"n": 2}, told, lineage)
    with pytest.raises(StoreUnavailable):
        commit.commit("other", {"n": 2}, told, lineage)
    assert await commit.load("counter") == {"n": 1}
    store.full = False
    store.turn()
    assert await commit.load("other") == {}
    commit.commit("counter", {"n": 3}, told, lineage)
    store.turn()
    assert told.outcomes == [None, None]
    assert await stored(commit, "counter") == {"n": 3}


async def test_the_state_after_a_lost_commit_is_known_when_everything_before_has_been_stored_or_lost() -> None:
    store = SlowStore()
    commit, lost, told = StoreCommit(store), Lineage(), [Told() for _ in range(4)]
    commit.commit("counter", {"n": 1}, told[0], Lineage())
    commit.commit("counter", {"n": 2}, told[1], lost)
    commit.commit("counter", {"n": 3}, told[2], lost)
    store.turn()
    store.turn(StoreUnavailable("the disk is full"))
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            loading = tasks.create_task(commit.load("counter"))
            await settle()
            assert not loading.done()
            store.turn()  # of the lineage that is broken
            assert isinstance(told[2].outcomes[0], StoreUnavailable)
            store.turn()
        assert loading.result() == {"n": 1}
    commit.commit("counter", {"n": 10}, told[3], Lineage())
    assert await commit.load("counter") == {"n": 10}
    store.turn()
    assert told[3].outcomes == [None]
    assert await stored(commit, "counter") == {"n": 10}


async def test_a_commit_on_a_broken_lineage_does_not_reach_the_store() -> None:
    store = SlowStore()
    commit, lost, told = StoreCommit(store), Lineage(broken=StoreUnavailable("the disk is full")), Told()
    commit.commit("counter", {"n": 1}, told, lost)
    assert told.outcomes == [lost.broken]
    assert store.waiting == []
    assert await commit.load("counter") == {}


async def test_a_suspension_that_cannot_be_stored_disturbs_nobody_but_the_log(caplog: pytest.LogCaptureFixture) -> None:
    store = SlowStore()
    commit = StoreCommit(store)
    commit.suspended("a", "enough")
    store.turn(StoreUnavailable("the disk is full"))
    store.full = True
    commit.suspended("b", "enough")
    await commit.settled()  # a store that takes nothing more has nothing on its way
    assert [("'a'" in message, "'b'" in message) for message in caplog.messages] == [(True, False), (False, True)]
