"""The contract of the port `AuditStore`: entries come back as they were stored, in order, and none is stored twice."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias

import anyio
import pytest

from portico.audit.chain import head_of
from portico.runs.audit_entry import AuditEntry, ChainHead
from portico.runs.audit_store import AuditQuery, EntryExists
from portico.runs.memory_store import MemoryRunStore
from portico.stores.sqlite import SqliteStore
from tests.audit.entries import NOW_US, a_chain, an_entry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from portico.runs.audit_store import AuditStore

pytestmark = pytest.mark.anyio

Opened: TypeAlias = "Callable[[], AbstractAsyncContextManager[AuditStore]]"


@asynccontextmanager
async def memory() -> AsyncGenerator[AuditStore]:
    with anyio.fail_after(30):
        yield MemoryRunStore()


@asynccontextmanager
async def sqlite() -> AsyncGenerator[AuditStore]:
    with anyio.fail_after(30), TemporaryDirectory() as directory:
        store = SqliteStore(directory, synchronous="normal")
        await store.open()
        try:
            yield store
        finally:
            await store.close()


over_every_store = pytest.mark.parametrize("opened", [memory, sqlite])


def numbers(*wanted: int) -> list[int]:
    return list(wanted)


async def seqs(store: AuditStore, **conditions: object) -> list[int]:
    return [sealed.seq for sealed in await store.audit(AuditQuery(**conditions))]  # pyright: ignore[reportArgumentType]  # by name


@over_every_store
async def test_an_empty_trail_has_no_head_and_no_entries(opened: Opened) -> None:
    async with opened() as store:
        assert await store.audit_head() == ChainHead()
        assert await store.audit(AuditQuery()) == []
        assert await store.audit_older(NOW_US, 10) is None


@over_every_store
async def test_every_field_of_an_entry_comes_back(opened: Opened) -> None:
    async with opened() as store:
        chain = a_chain(an_entry(1), AuditEntry(at_us=NOW_US, action="own.word"))
        await store.append_audit(chain)
        assert await store.audit(AuditQuery(after=0)) == chain
        assert await store.audit_head() == head_of(chain[-1])


@over_every_store
async def test_an_entry_that_is_there_already_stays_as_it_is(opened: Opened) -> None:
    async with opened() as store:
        chain = a_chain(*(an_entry(number) for number in range(1, 4)))
        await store.append_audit(chain[:2])
        await store.append_audit(chain)
        await store.append_audit(chain[1:2])
        assert await store.audit(AuditQuery(after=0)) == chain


@over_every_store
async def test_where_another_entry_has_a_number_nothing_is_stored_or_removed(opened: Opened) -> None:
    async with opened() as store:
        chain = a_chain(*(an_entry(number) for number in range(1, 4)))
        await store.append_audit(chain)
        other = a_chain(*(an_entry(number) for number in (1, 2, 9, 10)))
        for entries in (other, other[2:], other[2:3]):
            with pytest.raises(EntryExists):
                await store.append_audit(entries, 2)
        assert await store.audit(AuditQuery(after=0)) == chain


@over_every_store
async def test_entries_are_listed_the_newest_first_or_from_a_place_on_the_oldest_first(opened: Opened) -> None:
    async with opened() as store:
        await store.append_audit(a_chain(*(an_entry(number) for number in range(1, 8))))
        assert await seqs(store, limit=3) == numbers(7, 6, 5)
        assert await seqs(store, limit=3, before=5) == numbers(4, 3, 2)
        assert await seqs(store, limit=3, after=0) == numbers(1, 2, 3)
        assert await seqs(store, limit=3, after=3, before=6) == numbers(4, 5)


@over_every_store
async def test_only_those_that_every_condition_holds_for_are_listed(opened: Opened) -> None:
    async with opened() as store:
        entries = [
            an_entry(number, agent=f"a{number % 2}", principal=f"p{number % 3}", action=f"x{number}") for number in range(1, 8)
        ]
        await store.append_audit(a_chain(*entries))
        assert await seqs(store, agent="a1") == numbers(7, 5, 3, 1)
        assert await seqs(store, agent="a1", principal="p0") == numbers(3)
        assert await seqs(store, action="x4") == numbers(4)
        assert await seqs(store, since_us=entries[2].at_us, until_us=entries[4].at_us) == numbers(4, 3)
        assert await seqs(store, agent="'; --") == []


@over_every_store
async def test_what_is_older_is_told_up_to_the_first_that_is_not(opened: Opened) -> None:
    async with opened() as store:
        entries = [an_entry(number) for number in (1, 2, 5, 3, 6)]
        chain = a_chain(*entries)
        await store.append_audit(chain)
        assert await store.audit_older(entries[0].at_us, 10) is None
        assert await store.audit_older(entries[3].at_us + 1, 10) == (head_of(chain[1]), 2)
        assert await store.audit_older(entries[4].at_us + 1, 10) == (head_of(chain[4]), 5)
        assert await store.audit_older(entries[4].at_us + 1, 3) == (head_of(chain[2]), 3)


@over_every_store
async def test_with_new_entries_old_ones_are_forgotten(opened: Opened) -> None:
    async with opened() as store:
        chain = a_chain(*(an_entry(number) for number in range(1, 7)))
        await store.append_audit(chain[:4])
        await store.append_audit(chain[4:], 3)
        assert await store.audit(AuditQuery(after=0)) == chain[3:]


@over_every_store
async def test_a_store_is_not_full_at_first(opened: Opened) -> None:
    async with opened() as store:
        await store.append_audit(a_chain(*(an_entry(number) for number in range(1, 5))))
        assert not store.audit_full
        assert await store.audit_older(0, 10) is None


@pytest.mark.parametrize(("limit", "too_many"), [(0, 5), (1, 5), (3, 3), (4, 2)])
async def test_memory_says_what_is_too_much_and_removes_nothing_by_itself(limit: int, too_many: int) -> None:
    store, chain = MemoryRunStore(limit), a_chain(*(an_entry(number) for number in range(1, 7)))
    await store.append_audit(chain[:5])
    assert store.audit_full
    assert await seqs(store) == numbers(5, 4, 3, 2, 1)
    assert await store.audit_older(0, 10) == (head_of(chain[too_many - 1]), too_many)
    assert await store.audit_older(0, 1) == (head_of(chain[0]), 1)
    assert await store.audit_older(NOW_US * 2, 10) == (head_of(chain[4]), 5)
    await store.append_audit(chain[5:], too_many)
    assert not store.audit_full
