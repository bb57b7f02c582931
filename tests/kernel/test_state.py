"""`self.state`: committed with every message that was handled, else rolled back; it survives crashes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import AgentCrashed, AgentError
from portico.kernel.memory import MemoryCommit, MemoryStore
from portico.kernel.process import AgentProcess, ErrorAction
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from tests.kernel.helpers import BoomError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.kernel.messages import Message
    from portico.kernel.protocols import Ended, Lineage

pytestmark = pytest.mark.anyio


class Counter(AgentProcess):
    """Counts, and ends as it is told."""

    async def handle(self, message: Message) -> Any:
        self.state["n"] = self.state.get("n", 0) + 1
        match message.payload:
            case "refuse":
                raise AgentError("no")
            case "crash":
                raise BoomError
            case "checkpoint and crash":
                await self.checkpoint()
                self.state["n"] += 100
                raise BoomError
            case "checkpoint and refuse":
                held = self.state
                await self.checkpoint()
                held["n"] += 100  # through what it held before
                raise AgentError("no")
            case _:
                return self.state["n"]


def runtime_of(*children: AgentProcess, commit: MemoryCommit | None = None) -> Runtime:
    return Runtime(Supervisor("root", children, max_restarts=0, backoff_base=0.0), commit=commit)


async def outcome(runtime: Runtime, payload: Any) -> Any:
    try:
        return (await runtime.ask("c", payload)).payload
    except (AgentCrashed, AgentError) as error:
        return type(error).__name__


async def crash(runtime: Runtime, payload: str) -> None:
    from tests.kernel.helpers import ask_from_outside

    with pytest.raises(AgentCrashed):
        await ask_from_outside(runtime, "c", payload)


async def test_state_is_kept_from_message_to_message_and_over_crashes() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Counter("c")) as runtime:
            assert [await outcome(runtime, "count") for _ in range(3)] == [1, 2, 3]
            await crash(runtime, "crash")
            assert await outcome(runtime, "count") == 4


async def test_changes_of_a_handler_that_refused_are_rolled_back() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Counter("c")) as runtime:
            assert [await outcome(runtime, payload) for payload in ("count", "refuse", "count")] == [1, "AgentError", 2]


async def test_a_checkpoint_commits_at_once_and_only_what_follows_it_is_rolled_back() -> None:
    with anyio.fail_after(5):
        async with runtime_of(Counter("c")) as runtime:
            assert await outcome(runtime, "count") == 1
            await crash(runtime, "checkpoint and crash")
            assert await outcome(runtime, "count") == 3
            assert await outcome(runtime, "checkpoint and refuse") == "AgentError"
            assert await outcome(runtime, "count") == 5


async def test_what_a_constructor_puts_into_the_state_holds_until_something_is_committed() -> None:
    class Prepared(Counter):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.state = {"n": 10}

    with anyio.fail_after(5):
        async with runtime_of(Prepared("c")) as runtime:
            assert await outcome(runtime, "refuse") == "AgentError"
            assert await outcome(runtime, "count") == 11
            await crash(runtime, "crash")
            assert await outcome(runtime, "count") == 12


async def test_what_on_start_puts_into_the_state_is_committed() -> None:
    class Prepared(Counter):
        async def on_start(self) -> None:
            self.state.setdefault("n", 10)

    commit = MemoryCommit()
    with anyio.fail_after(5):
        async with runtime_of(Prepared("c"), commit=commit) as runtime:
            assert await commit.load("c") == {"n": 10}
            assert await outcome(runtime, "refuse") == "AgentError"
            assert await outcome(runtime, "count") == 11


async def test_a_state_can_be_replaced_as_a_whole() -> None:
    class Replacing(AgentProcess):
        async def handle(self, message: Message) -> Any:
            before, self.state = self.state, {"last": message.payload}
            return before

    with anyio.fail_after(5):
        async with runtime_of(Replacing("c")) as runtime:
            assert [await outcome(runtime, payload) for payload in (1, 2)] == [{}, {"last": 1}]


async def test_the_state_is_committed_before_the_caller_sees_the_reply() -> None:
    order: list[str] = []

    class Noting(MemoryCommit):
        def commit(self, name: str, state: Mapping[str, Any], ended: Ended, lineage: Lineage) -> None:
            def noted(error: Exception | None) -> None:
                order.append(f"committed {dict(state)} of {name}")
                ended(error)

            super().commit(name, state, noted, lineage)

    with anyio.fail_after(5):
        async with runtime_of(Counter("c"), commit=Noting()) as runtime:
            order.append(f"replied {await outcome(runtime, 'count')}")
    assert order == ["committed {'n': 1} of c", "replied 1"]


async def test_a_commit_that_raises_is_a_crash_and_the_caller_hears_of_it() -> None:
    class Broken(MemoryCommit):
        def commit(self, name: str, state: Mapping[str, Any], ended: Ended, lineage: Lineage) -> None:
            raise OSError("disk full")

    with anyio.fail_after(5):
        async with runtime_of(Counter("c"), commit=Broken()) as runtime:
            await crash(runtime, "count")


async def test_a_checkpoint_that_raises_leaves_nothing_behind() -> None:
    class Flaky(MemoryCommit):
        failing = True

        def commit(self, name: str, state: Mapping[str, Any], ended: Ended, lineage: Lineage) -> None:
            if self.failing:
                self.failing = False
                raise OSError("disk full")
            super().commit(name, state, ended, lineage)

    class Skipping(Counter):
        async def on_error(self, error: Exception, message: Message) -> ErrorAction:
            return ErrorAction.SKIP

    with anyio.fail_after(5):
        async with runtime_of(Skipping("c"), commit=Flaky()) as runtime:
            await crash(runtime, "checkpoint and crash")
            assert await outcome(runtime, "count") == 1


async def test_a_message_that_does_not_touch_the_state_commits_nothing() -> None:
    class Counting(MemoryCommit):
        commits = 0

        def commit(self, name: str, state: Mapping[str, Any], ended: Ended, lineage: Lineage) -> None:
            self.commits += 1
            super().commit(name, state, ended, lineage)

    class Idle(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return self.name

    commit = Counting()
    with anyio.fail_after(5):
        async with runtime_of(Idle("c"), commit=commit) as runtime:
            await outcome(runtime, None)
    assert commit.commits == 0


async def test_the_memory_store_keeps_copies() -> None:
    store = MemoryStore()
    record: dict[str, Any] = {"list": [1, {"deep": True}], "bytes": b"x"}
    await store.put("a/1", record)
    await store.put("a/2", None)
    await store.put("b", (1, 2))
    record["list"].append("later")
    got: Any = await store.get("a/1")
    assert got == {"list": [1, {"deep": True}], "bytes": b"x"}
    got["list"].clear()
    assert await store.get("a/1") == {"list": [1, {"deep": True}], "bytes": b"x"}
    assert await store.keys("a/") == ["a/1", "a/2"]
    await store.delete("a/1")
    await store.delete("a/1")
    assert await store.get("a/1") is None
    assert await store.keys() == ["a/2", "b"]
