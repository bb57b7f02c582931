"""The contract of the port `StateStore`: records by key; what is put is a copy, and what is got is a copy."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.kernel.memory import MemoryStore
from portico.stores.sqlite import SqliteStore
from tests.contracts.json_values import FALSY, JSON, TEXT, exact

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from portico.kernel.protocols import StateStore

pytestmark = pytest.mark.anyio

Opened: TypeAlias = "Callable[[], AbstractAsyncContextManager[StateStore]]"
"""A fresh, empty store, and its end."""

KEYS = st.text("aB%_*?[/é", max_size=4)
"""Keys that share beginnings, with the signs that mean something to databases and globs."""


@asynccontextmanager
async def memory() -> AsyncGenerator[StateStore]:
    yield MemoryStore()


@asynccontextmanager
async def sqlite() -> AsyncGenerator[StateStore]:
    with TemporaryDirectory() as directory:
        store = SqliteStore(directory, synchronous="normal")
        await store.open()
        try:
            yield store
        finally:
            await store.close()


over_every_store = pytest.mark.parametrize("opened", [memory, sqlite])


@over_every_store
async def test_a_key_under_which_nothing_was_put_has_no_record(opened: Opened) -> None:
    async with opened() as store:
        assert await store.get("nothing") is None
        assert await store.keys() == []


@over_every_store
@given(key=TEXT, value=JSON)
async def test_a_record_comes_back_as_it_was_put(opened: Opened, key: str, value: Any) -> None:
    async with opened() as store:
        await store.put(key, value)
        assert exact(await store.get(key)) == exact(value)


@over_every_store
@pytest.mark.parametrize("value", FALSY, ids=repr)
async def test_a_record_that_is_false_is_a_record(opened: Opened, value: Any) -> None:
    async with opened() as store:
        await store.put("key", value)
        assert exact(await store.get("key")) == exact(value)
        assert await store.keys() == ["key"]


@over_every_store
async def test_a_second_put_takes_the_place_of_the_first(opened: Opened) -> None:
    async with opened() as store:
        await store.put("key", {"one": 1})
        await store.put("key", {"two": 2})
        assert await store.get("key") == {"two": 2}
        assert await store.keys() == ["key"]


@over_every_store
async def test_a_deleted_record_is_gone_and_deleting_it_again_does_no_harm(opened: Opened) -> None:
    async with opened() as store:
        await store.put("key", 1)
        await store.put("other", 2)
        await store.delete("key")
        await store.delete("key")
        assert await store.get("key") is None
        assert await store.keys() == ["other"]


@over_every_store
async def test_a_record_does_not_change_with_what_was_put(opened: Opened) -> None:
    async with opened() as store:
        record: dict[str, Any] = {"list": [1]}
        await store.put("key", record)
        record["list"].append(2)
        record["more"] = True
        assert await store.get("key") == {"list": [1]}


@over_every_store
async def test_a_record_does_not_change_with_what_was_got(opened: Opened) -> None:
    async with opened() as store:
        await store.put("key", {"list": [1]})
        got = await store.get("key")
        assert got is not None
        got["list"].append(2)
        assert await store.get("key") == {"list": [1]}


@over_every_store
async def test_keys_are_sorted_whatever_the_order_in_which_they_came(opened: Opened) -> None:
    names = ["b", "a/2", "é", "a", "B", "a/10", ""]
    async with opened() as store:
        for name in names:
            await store.put(name, 0)
        assert await store.keys() == sorted(names)


@over_every_store
@pytest.mark.parametrize("prefix", ["a%", "a_", "a*", "a?", "A", "a["])
async def test_a_prefix_means_itself_and_no_pattern(opened: Opened, prefix: str) -> None:
    async with opened() as store:
        for key in (f"{prefix}1", "abc", "ABC" if prefix != "A" else "axe"):
            await store.put(key, 0)
        assert await store.keys(prefix) == [f"{prefix}1"]


@over_every_store
@given(steps=st.lists(st.tuples(KEYS, st.none() | st.integers().map(str)), max_size=20), prefix=KEYS)
async def test_after_any_puts_and_deletes_it_holds_what_a_dict_would(
    opened: Opened, steps: list[tuple[str, str | None]], prefix: str
) -> None:
    expected: dict[str, str] = {}
    async with opened() as store:
        for key, value in steps:
            if value is None:
                await store.delete(key)
                expected.pop(key, None)
            else:
                await store.put(key, value)
                expected[key] = value
        assert {key: await store.get(key) for key in await store.keys()} == expected
        assert await store.keys(prefix) == sorted(key for key in expected if key.startswith(prefix))


@over_every_store
async def test_puts_at_the_same_time_do_not_mix(opened: Opened) -> None:
    with anyio.fail_after(10):
        async with opened() as store:
            async with anyio.create_task_group() as tasks:
                for number in range(50):
                    tasks.start_soon(store.put, f"key{number:02}", [number])
            assert [await store.get(key) for key in await store.keys()] == [[number] for number in range(50)]
