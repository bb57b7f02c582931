"""The contract of the port `Commit`: what a handled message leaves behind is stored all or not at all, process by process."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import pytest
from hypothesis import given

from portico.kernel.memory import MemoryCommit
from portico.kernel.messages import Message
from tests.contracts.json_values import OBJECTS, TEXT, exact

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from portico.kernel.protocols import Commit

pytestmark = pytest.mark.anyio

Opened: TypeAlias = "Callable[[], AbstractAsyncContextManager[Commit]]"
"""A fresh commit in which nothing is stored, and its end."""


@asynccontextmanager
async def memory() -> AsyncGenerator[Commit]:
    yield MemoryCommit()


over_every_commit = pytest.mark.parametrize("opened", [memory])


async def handled(commit: Commit, name: str, state: dict[str, Any] | None, *sends: Message) -> None:
    """The process of that name has handled a message."""
    await commit.commit(Message(recipient=name), Message(payload="done", sender=name), state, sends)


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


@over_every_commit
async def test_the_last_committed_state_is_the_whole_state(opened: Opened) -> None:
    async with opened() as commit:
        await handled(commit, "counter", {"n": 1, "old": True})
        await handled(commit, "counter", {"n": 2})
        assert await commit.load("counter") == {"n": 2}


@over_every_commit
async def test_none_leaves_the_state_untouched(opened: Opened) -> None:
    async with opened() as commit:
        await handled(commit, "counter", {"n": 1})
        await handled(commit, "counter", None)
        assert await commit.load("counter") == {"n": 1}


@over_every_commit
async def test_an_empty_state_is_a_state(opened: Opened) -> None:
    async with opened() as commit:
        await handled(commit, "counter", {"n": 1})
        await handled(commit, "counter", {})
        assert await commit.load("counter") == {}


@over_every_commit
async def test_each_process_has_a_state_of_its_own_whoever_sends_to_whom(opened: Opened) -> None:
    async with opened() as commit:
        await handled(commit, "a", {"of": "a"})
        await handled(commit, "b", {"of": "b"}, Message(sender="b", recipient="a", payload={"of": "nobody"}))
        assert await commit.load("a") == {"of": "a"}
        assert await commit.load("b") == {"of": "b"}


@over_every_commit
async def test_a_message_that_nobody_is_answered_for_commits_too(opened: Opened) -> None:
    async with opened() as commit:
        await commit.commit(Message(recipient="counter"), None, {"n": 1}, ())
        assert await commit.load("counter") == {"n": 1}


@over_every_commit
async def test_what_was_committed_does_not_change_with_the_process_s_own_state(opened: Opened) -> None:
    async with opened() as commit:
        state: dict[str, Any] = {"list": [1]}
        await handled(commit, "counter", state)
        state["list"].append(2)
        state["poison"] = True
        assert await commit.load("counter") == {"list": [1]}


@over_every_commit
async def test_each_load_is_a_fresh_copy(opened: Opened) -> None:
    async with opened() as commit:
        await handled(commit, "counter", {"list": [1]})
        (await commit.load("counter"))["list"].append(2)
        (await commit.load("nobody"))["poison"] = True
        assert await commit.load("counter") == {"list": [1]}
        assert await commit.load("nobody") == {}


@over_every_commit
async def test_a_state_that_cannot_be_stored_raises_and_leaves_the_last_one_whole(opened: Opened) -> None:
    async with opened() as commit:
        await handled(commit, "counter", {"n": 1})
        with pytest.raises((TypeError, ValueError)):
            await handled(commit, "counter", {"n": 2, "lock": Lock()})
        assert await commit.load("counter") == {"n": 1}
        await handled(commit, "counter", {"n": 3})
        assert await commit.load("counter") == {"n": 3}


@over_every_commit
async def test_commits_of_many_processes_at_the_same_time_do_not_mix(opened: Opened) -> None:
    with anyio.fail_after(10):
        async with opened() as commit:
            async with anyio.create_task_group() as tasks:
                for number in range(50):
                    tasks.start_soon(handled, commit, f"p{number}", {"n": number})
            assert [await commit.load(f"p{number}") for number in range(50)] == [{"n": number} for number in range(50)]
