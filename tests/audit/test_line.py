"""A line hands on what it gets, in order, whatever its sink does; what it loses, its chain tells."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from portico.audit import journal
from portico.audit.chain import shown
from portico.audit.journal import JournalSink
from portico.audit.line import BATCH, PATIENCE, Line
from portico.audit.settings import AuditSettings
from portico.audit.sink import MemorySink
from portico.audit.trail import AuditTrail
from portico.audit.verification import Verification
from portico.errors import ConfigurationError
from portico.kernel.clock import SystemClock
from portico.runs.audit_entry import AuditAction, ChainHead
from portico.runs.audit_store import AuditQuery
from portico.runs.memory_store import MemoryRunStore
from portico.stores.sqlite import SqliteStore
from portico.testing.manual_clock import ManualClock
from tests.audit.entries import NOW_US, a_chain, an_entry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from portico.runs.audit_entry import SealedEntry

pytestmark = pytest.mark.anyio


class Moody(MemorySink):
    """A sink that fails so often, and then waits until it may go on."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.failures = failures
        self.asked = asyncio.Event()
        self.may = asyncio.Event()
        self.may.set()

    async def write(self, entries: Sequence[SealedEntry]) -> None:
        self.asked.set()
        await self.may.wait()
        if self.failures:
            self.failures -= 1
            raise OSError(28, "No space left on device")
        await super().write(entries)


def whole(entries: Sequence[SealedEntry]) -> bool:
    verification = Verification()
    for sealed in entries:
        verification.add(shown(sealed))
    return verification.verdict().fault is None


@asynccontextmanager
async def at_work(line: Line) -> AsyncGenerator[None]:
    with anyio.fail_after(10):
        async with asyncio.TaskGroup() as group:
            group.create_task(line.run())
            yield
            line.end()


async def turned(clock: ManualClock, task: asyncio.Task[None]) -> None:
    """Turn the clock on until a line has ended."""
    while not task.done():
        await clock.advance(1.0)


async def test_everything_comes_in_order_and_chained() -> None:
    sink = MemorySink()
    line = Line(sink, SystemClock())
    async with at_work(line):
        for number in range(3 * BATCH):
            line.put(an_entry(number))
    assert [sealed.entry for sealed in sink.entries] == [an_entry(number) for number in range(3 * BATCH)]
    assert whole(sink.entries)


async def test_a_chain_goes_on_where_its_sink_says_that_it_stands() -> None:
    sink = MemorySink()
    for start in (0, 5):
        line = Line(sink, SystemClock())
        async with at_work(line):
            for number in range(start, start + 5):
                line.put(an_entry(number))
    assert [sealed.seq for sealed in sink.entries] == list(range(1, 11))
    assert whole(sink.entries)


async def test_a_sink_that_fails_gets_the_same_again_until_it_takes_it(caplog: pytest.LogCaptureFixture) -> None:
    clock, sink, failed = ManualClock(), Moody(failures=5), list[int]()
    line = Line(sink, clock, lambda: failed.append(1))
    with anyio.fail_after(10), caplog.at_level(logging.WARNING, "portico.audit"):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(line.run())
            line.put(an_entry(1))
            line.put(an_entry(2))
            line.end()
            await turned(clock, task)
    assert [sealed.entry for sealed in sink.entries] == [an_entry(1), an_entry(2)]
    assert len(failed) == 5
    assert len(caplog.records) == 1  # a minute has one complaint
    assert "No space left" in caplog.text


async def test_what_is_lost_is_counted_and_the_chain_tells_of_it_in_its_place() -> None:
    sink = Moody()
    sink.may.clear()
    line = Line(sink, SystemClock(), longest=4)
    async with at_work(line):
        line.put(an_entry(0))
        await sink.asked.wait()  # it is in hand, and the line is empty
        for number in range(1, 8):
            line.put(an_entry(number))
        assert line.lost == 3
        sink.may.set()
    entries = [sealed.entry for sealed in sink.entries]
    assert entries[:5] == [an_entry(number) for number in range(5)]
    assert entries[5].action == AuditAction.LOST
    assert entries[5].details == {"count": 3, "since_us": NOW_US + 5_000_000, "reason": "too many at once"}
    assert len(entries) == 6
    assert whole(sink.entries)


async def test_a_sink_that_hangs_is_given_up_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portico.audit.line.PATIENCE", 0.01)
    assert PATIENCE > 1
    sink, clock, failed = Moody(), ManualClock(), list[int]()
    sink.may.clear()
    line = Line(sink, clock, lambda: failed.append(1))
    with anyio.fail_after(10):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(line.run())
            line.put(an_entry(1))
            line.end()
            await sink.asked.wait()
            while len(failed) < 2:
                await clock.advance(1.0)
                await anyio.sleep(0.005)
            sink.may.set()
            await turned(clock, task)
    assert [sealed.entry for sealed in sink.entries] == [an_entry(1)]


async def test_a_sink_in_which_something_was_cancelled_has_failed_and_is_tried_again() -> None:
    class Cancelled(MemorySink):
        tries = 0

        async def open(self) -> ChainHead:
            await self.cancelled()
            return await super().open()

        async def write(self, entries: Sequence[SealedEntry]) -> None:
            await self.cancelled()
            await super().write(entries)

        async def close(self) -> None:
            await self.cancelled()

        async def cancelled(self) -> None:
            self.tries += 1
            if self.tries % 2:
                future = asyncio.get_running_loop().create_future()
                future.cancel()
                await future

    clock, sink, failed = ManualClock(), Cancelled(), list[int]()
    line = Line(sink, clock, lambda: failed.append(1))
    with anyio.fail_after(10):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(line.run())
            line.put(an_entry(1))
            line.end()
            await turned(clock, task)
    assert not task.cancelled()
    assert [sealed.entry for sealed in sink.entries] == [an_entry(1)]
    assert len(failed) == 3


async def test_a_sink_that_cannot_be_opened_is_tried_again() -> None:
    class Late(MemorySink):
        tries = 0

        async def open(self) -> ChainHead:
            self.tries += 1
            if self.tries < 3:
                raise ConnectionRefusedError
            return ChainHead()

    clock, sink = ManualClock(), Late()
    line = Line(sink, clock)
    with anyio.fail_after(10):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(line.run())
            line.put(an_entry(1))
            line.end()
            await turned(clock, task)
    assert len(sink.entries) == 1


async def test_what_a_sink_does_not_take_before_the_end_is_told(caplog: pytest.LogCaptureFixture) -> None:
    sink = Moody()
    sink.may.clear()
    line = Line(sink, SystemClock())
    with anyio.fail_after(10):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(line.run())
            line.put(an_entry(1))
            await sink.asked.wait()
            line.put(an_entry(2))
            task.cancel()
    line.confess()
    assert "has not taken 2 entries" in caplog.text
    assert line.lost == 2

    sink.may.set()
    line.put(an_entry(3))
    with anyio.fail_after(10):
        async with at_work(line):
            pass
    lost, last = (sealed.entry for sealed in sink.entries)
    assert (lost.action, lost.details) == (
        AuditAction.LOST,
        {"count": 2, "since_us": NOW_US + 1_000_000, "reason": "too many at once"},
    )
    assert last == an_entry(3)


def test_a_trail_that_lives_again_on_another_loop_can_be_waited_for() -> None:
    line = Line(MemorySink(), SystemClock())

    async def life() -> None:
        async with at_work(line):
            line.put(an_entry(1))
            await line.idle.wait()

    asyncio.run(life())
    asyncio.run(life())


async def test_the_journal_removes_what_is_too_old_and_its_chain_stays_whole() -> None:
    store = MemoryRunStore()
    clock = ManualClock(epoch=NOW_US / 1e6 + 5.5)
    for keep in (None, 2.0):  # seconds: of the five entries, those of the first three seconds are older
        line = Line(JournalSink(store, keep), clock)
        async with at_work(line):
            if keep is None:
                for number in range(1, 6):
                    line.put(an_entry(number))
    left = await store.audit(AuditQuery(after=0))
    assert [sealed.seq for sealed in left] == [4, 5, 6]
    assert left[-1].entry.action == AuditAction.PRUNED
    assert left[-1].entry.details == {"through": 3, "hash": left[0].prev, "count": 3}
    assert whole(left)


async def test_the_journal_removes_many_in_several_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "AT_ONCE", 2)
    store = MemoryRunStore()
    await store.append_audit(a_chain(*(an_entry(number) for number in range(1, 6))))
    line = Line(JournalSink(store, 2.0), ManualClock(epoch=NOW_US / 1e6 + 5.5))
    for number in range(BATCH + 1):
        line.put(an_entry(6 + number))
    async with at_work(line):
        pass
    left = await store.audit(AuditQuery(after=0, limit=1000))
    told = [sealed.entry.details for sealed in left if sealed.entry.action == AuditAction.PRUNED]
    assert [(said or {}).get("count") for said in told] == [2, 1]
    assert left[0].seq == 4
    assert len(left) == 2 + BATCH + 1 + 2
    assert whole(left)


@pytest.mark.parametrize("limit", [1, 5, 1000])
async def test_what_is_too_much_for_memory_is_removed_and_the_chain_stays_whole(limit: int) -> None:
    store = MemoryRunStore(limit)
    line = Line(JournalSink(store), SystemClock())
    async with at_work(line):
        for number in range(5 * BATCH):
            line.put(an_entry(number))
    left = await store.audit(AuditQuery(after=0, limit=10_000))
    assert len(left) <= limit + BATCH
    assert left[0].seq > 1
    told = [sealed.entry.details for sealed in left if sealed.entry.action == AuditAction.PRUNED]
    assert (told[-1] or {}).get("through") == left[0].seq - 1
    assert whole(left)


async def test_two_that_go_on_with_one_chain_lose_nothing_and_it_stays_whole(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, synchronous="normal")
    await store.open()
    try:
        first, second = (Line(JournalSink(store), SystemClock()) for _ in range(2))
        async with at_work(first), at_work(second):
            for number in range(20):
                (first, second)[number % 2].put(an_entry(number))
                if number % 4 == 0:
                    await anyio.lowlevel.checkpoint()
        kept = await store.audit(AuditQuery(after=0))
    finally:
        await store.close()
    assert sorted(sealed.entry.duration_us or 0 for sealed in kept) == list(range(20))
    assert whole(kept)


async def test_what_fails_while_the_trail_runs_comes_out_as_it_is() -> None:
    trail = AuditTrail(AuditSettings(), MemoryRunStore())
    with pytest.raises(ConfigurationError, match="as it is"):
        async with trail.running():
            raise ConfigurationError("as it is")
