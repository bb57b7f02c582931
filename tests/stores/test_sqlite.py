"""SqliteStore, where it is more than the ports: what it survives, whom it lets in, how it writes, how large it gets.

What every store must do is in `tests/contracts/test_run_store.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import portico.stores.sqlite as sqlite_module
from portico.errors import StoreError, StoreUnavailable
from portico.runs.audit_entry import ChainHead
from portico.runs.callback import Callback
from portico.runs.event import Event
from portico.runs.status import RunStatus
from portico.runs.store import AppendEvents, Retention, RunQuery, StoreCallback, StoreState
from portico.runs.usage import Usage, UsageGroup, UsageKey, UsageQuery, total
from portico.stores import rows, writer
from portico.stores.schema import STEPS, open_writing
from portico.stores.sqlite import SqliteStore
from portico.stores.transaction import Transaction
from tests.stores.stores import A_CALL, NOW, accepted, ended, stored, submitted, used

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Iterator

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def opened(directory: Path, **settings: Any) -> AsyncGenerator[SqliteStore]:
    with anyio.fail_after(50):
        store = SqliteStore(directory, **settings)
        await store.open()
        try:
            yield store
        finally:
            await store.close()


def program(name: str, directory: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"tests.stores.{name}", str(directory)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def killed_after(lines: int, directory: Path) -> list[tuple[str, int]]:
    """Let a program submit until it has acknowledged so many runs, and kill it. Returns what it had acknowledged."""
    with program("submitting", directory) as child:
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        told += child.stdout.readlines()
    return [(line.split()[0], int(line.split()[1])) for line in told if line.endswith("\n")]


# --- what it survives -------------------------------------------------------------------------------------------------


async def test_what_was_stored_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await stored(store, accepted("run", payload="x" * 5000), AppendEvents("run", [Event(2, "e", 1, NOW)]))
        await stored(store, StoreState("echo", {"n": 1}))
        await store.put("key", [1])
        before = await store.run("run")
    async with opened(tmp_path) as store:
        assert await store.run("run") == before
        assert await store.events("run") == [Event(2, "e", 1, NOW)]
        assert await store.state("echo") == {"n": 1}
        assert await store.get("key") == [1]


async def test_closing_stores_what_was_submitted_and_tells_of_it(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    outcomes = [submitted(store, accepted(str(number))) for number in range(2000)]
    await store.close()
    assert all(outcome.done() and outcome.result() is None for outcome in outcomes)
    assert not (tmp_path / "portico.db-wal").exists()
    async with opened(tmp_path) as store:
        assert len(await store.unfinished()) == 2000


@pytest.mark.parametrize("lines", [1, 17, 60, 200, 500])
async def test_everything_that_was_acknowledged_survives_a_kill(tmp_path: Path, lines: int) -> None:
    acknowledged = killed_after(lines, tmp_path)
    assert len(acknowledged) >= lines
    async with opened(tmp_path) as store:
        for worker, number in acknowledged:
            record = await store.run(f"{worker}-{number}")
            assert record is not None
            assert record.output == number
            state = await store.state(worker)
            assert state is not None
            assert state["n"] >= number
        assert await store.verify() == []


async def test_a_log_that_was_cut_short_anywhere_leaves_a_prefix(tmp_path: Path) -> None:
    original = tmp_path / "original"
    async with opened(original) as store:
        for number in range(12):
            await stored(store, accepted(str(number), payload="x" * 300), AppendEvents(str(number), [Event(2, "e", number, NOW)]))
        copy = tmp_path / "copy"
        shutil.copytree(original, copy)
    log = (copy / "portico.db-wal").read_bytes()
    counts: list[int] = []
    for size in [*range(0, len(log), len(log) // 60), len(log) - 1, len(log)]:
        cut = tmp_path / str(size)
        cut.mkdir()
        shutil.copy(copy / "portico.db", cut)
        (cut / "portico.db-wal").write_bytes(log[:size])
        async with opened(cut, synchronous="normal") as store:
            runs = await store.unfinished()
            assert [run.run_id for run in runs] == [str(number) for number in range(len(runs))]
            for run in runs:
                assert await store.events(run.run_id) == [Event(2, "e", int(run.run_id), NOW)]
            assert await store.verify() == []
        counts.append(len(runs))
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == 12


async def test_a_log_with_a_wrong_byte_leaves_a_prefix(tmp_path: Path) -> None:
    original = tmp_path / "original"
    async with opened(original) as store:
        for number in range(12):
            await stored(store, accepted(str(number), payload="x" * 300))
        shutil.copytree(original, tmp_path / "copy")
    log = tmp_path / "copy" / "portico.db-wal"
    data = bytearray(log.read_bytes())
    data[len(data) * 2 // 3] ^= 0xFF
    log.write_bytes(data)
    async with opened(tmp_path / "copy") as store:
        runs = await store.unfinished()
        assert 0 < len(runs) < 12
        assert [run.run_id for run in runs] == [str(number) for number in range(len(runs))]
        assert await store.verify() == []


# --- a disk that fails ------------------------------------------------------------------------------------------------


async def test_a_file_that_may_not_grow_refuses_what_it_cannot_take_and_works_again_later(tmp_path: Path) -> None:
    with program("filling", tmp_path) as child:
        assert child.stdout is not None
        seen = json.loads(child.stdout.read())
    assert seen["refused"] > 40
    assert "could not be" in seen["error"]
    assert seen["failure"] in seen["error"]
    assert seen["listed"] == 1 + 50 - seen["refused"]
    assert seen["failure after"] is None
    assert seen["after"] == seen["listed"] + 1
    assert seen["damage"] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(filler: Path) -> None:
    """Leave no room on the disk."""
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


async def test_a_full_disk_is_told_as_such_and_room_is_used_at_once(small_disk: Path) -> None:
    async with opened(small_disk / "store") as store:
        await stored(store, accepted("before"))
        filler = small_disk / "filler"
        fill(filler)
        outcomes = [submitted(store, accepted(str(number), payload="x" * 50_000)) for number in range(20)]
        errors = [str(error) for outcome in outcomes if (error := await outcome) is not None]
        assert errors
        assert all("the disk is full" in error for error in errors)
        assert store.failure is not None
        assert await store.run("before") is not None
        filler.unlink()
        await stored(store, accepted("after", payload="x" * 50_000))
        assert store.failure is None
        assert await store.verify() == []


async def test_one_that_is_too_large_for_the_disk_takes_no_smaller_one_along(small_disk: Path) -> None:
    async with opened(small_disk / "store") as store:
        outcomes = [
            submitted(store, accepted(str(number), payload="x" * (4_000_000 if number == 7 else 10))) for number in range(20)
        ]
        errors = [await outcome for outcome in outcomes]
        assert [number for number, error in enumerate(errors) if error is not None] == [7]
        assert isinstance(errors[7], StoreUnavailable)
        assert store.failure is None
        assert len(await store.unfinished()) == 19


async def test_what_sqlite_cannot_take_fails_by_itself(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        outcomes = [submitted(store, accepted(str(number), priority=2**70 if number == 3 else 0)) for number in range(10)]
        errors = [await outcome for outcome in outcomes]
        assert [number for number, error in enumerate(errors) if error is not None] == [3]
        assert len(await store.unfinished()) == 9


async def test_what_sqlite_cannot_take_says_nothing_of_the_disk(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert isinstance(await submitted(store, used(usage=Usage(calls=1, tokens_in=2**63))), StoreUnavailable)
        assert store.failure is None
        assert await store.usage(UsageQuery(everyone=True)) == [UsageGroup({}, Usage())]


# --- a directory that cannot be used ----------------------------------------------------------------------------------


async def test_a_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    async with opened(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


async def test_a_second_program_is_told_who_uses_the_directory(tmp_path: Path) -> None:
    with program("submitting", tmp_path) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(StoreError, match=rf"another program uses it \(process {child.pid}\)"):
            await SqliteStore(tmp_path).open()
        child.kill()
    async with opened(tmp_path) as store:
        assert await store.unfinished() is not None


async def test_a_second_store_of_the_same_program_is_refused_and_the_first_is_not_disturbed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(StoreError, match=f"process {os.getpid()}"):
            await SqliteStore(tmp_path).open()
        await stored(store, accepted("run"))
    async with opened(tmp_path) as store:
        assert await store.run("run") is not None


async def test_a_file_with_a_damaged_beginning_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await stored(store, accepted("run"))
    with (tmp_path / "portico.db").open("r+b") as file:
        file.write(b"no database at all")
    with pytest.raises(StoreError, match="the database is damaged"):
        await SqliteStore(tmp_path).open()
    with pytest.raises(StoreError, match="the database is damaged"):
        await SqliteStore(tmp_path, read_only=True).open()


def overwrite_the_middle(path: Path) -> None:
    data = path.read_bytes()
    third = len(data) // 3
    path.write_bytes(data[:third] + b"\xa5" * third + data[2 * third :])


async def test_damage_inside_the_file_is_told_by_reads_and_found_by_verify(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await stored(store, *[accepted(f"{number:050}", payload="x" * 900) for number in range(500)])
    overwrite_the_middle(tmp_path / "portico.db")
    async with opened(tmp_path) as store:
        damage = await store.verify()
        assert damage
        assert all(isinstance(sentence, str) for sentence in damage)
        with pytest.raises(StoreUnavailable, match="damaged"):
            await store.unfinished()


async def test_rows_that_contradict_each_other_are_found_by_verify(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await stored(store, accepted("a"), accepted("b"), AppendEvents("b", [Event(2, "e", 1, NOW), Event(4, "e", 1, NOW)]))
    database = sqlite3.connect(tmp_path / "portico.db")
    database.execute("UPDATE runs SET status = 'failed' WHERE run_id = 'a'")
    database.execute("INSERT INTO steps VALUES (77, 'key', NULL)")
    database.commit()
    database.close()
    async with opened(tmp_path) as store:
        damage = "\n".join(await store.verify())
        assert "'a' is failed, and it is not known when it ended" in damage
        assert "'b' have gaps" in damage
        assert "number 77 is not there, and has 1 steps" in damage


async def test_the_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    database = sqlite3.connect(tmp_path / "portico.db")
    database.execute("PRAGMA user_version = 99")
    database.close()
    for read_only in (False, True):
        with pytest.raises(StoreError, match="a newer Portico wrote it \\(schema 99"):
            await SqliteStore(tmp_path, read_only=read_only).open()


def of_version_1(directory: Path) -> None:
    """The directory that a Portico with the first schema has left."""
    database = sqlite3.connect(directory / "portico.db")
    database.executescript(Path(__file__).with_name("version_1.sql").read_text(encoding="utf-8"))
    database.close()


async def test_a_file_of_version_1_is_brought_up_to_date_with_all_that_is_in_it(tmp_path: Path) -> None:
    of_version_1(tmp_path)
    callback = Callback(url="https://example.com/", next_at=NOW)
    async with opened(tmp_path) as store:
        done, waiting = await store.run("done"), await store.run("waiting")
        assert done is not None
        assert (done.output, done.principal, done.callback) == ("y" * 2000, "alice", None)
        assert waiting is not None
        assert waiting.status is RunStatus.WAITING
        assert [event.seq for event in await store.events("done")] == [2]
        assert await store.steps("done") == {"a": {"n": 1}}
        assert await store.state("echo") == {"n": 1}
        assert await store.callbacks() == []
        assert await store.usage(UsageQuery(everyone=True, by=list(UsageKey))) == []
        await stored(store, StoreCallback("done", callback), used("done"))
        await stored(store, accepted("new", callback=callback), ended("new"))
    async with opened(tmp_path) as store:
        assert sorted(await store.callbacks()) == [("done", callback), ("new", callback)]
        done = await store.run("done")
        assert done is not None
        assert total(done.usage) == A_CALL
        assert await store.verify() == []


async def test_a_file_of_version_2_is_brought_up_to_date_with_all_that_is_in_it(tmp_path: Path) -> None:
    of_version_1(tmp_path)
    database = sqlite3.connect(tmp_path / "portico.db")
    database.executescript(f"{STEPS[1]} PRAGMA user_version = 2;")
    database.close()
    async with opened(tmp_path) as store:
        await stored(store, StoreCallback("done", Callback(url="https://example.com/", next_at=NOW)), used("done"))
    async with opened(tmp_path) as store:
        done = await store.run("done")
        assert done is not None
        assert (done.output, total(done.usage)) == ("y" * 2000, A_CALL)
        assert await store.audit_head() == ChainHead()
        assert await store.verify() == []


@pytest.mark.parametrize(
    "query",
    [
        RunQuery(everyone=True),
        RunQuery(everyone=True, before=(NOW + 2900, "z")),
        RunQuery(everyone=True, agent="echo"),
        RunQuery(principal="p1"),
        RunQuery(everyone=True, prefix="n17"),
        RunQuery(everyone=True, prefix="n"),
        *(RunQuery(everyone=True, status=status) for status in RunStatus if status is not RunStatus.RUNNING),
    ],
    ids=repr,
)
def test_a_page_of_a_long_list_is_found_without_looking_at_the_whole_list(long_list: sqlite3.Connection, query: RunQuery) -> None:
    steps = 0

    def more() -> None:
        nonlocal steps
        steps += 1

    long_list.set_progress_handler(more, 100)
    page = rows.select_page(long_list, query)
    long_list.set_progress_handler(None, 0)

    assert page
    assert steps < 100  # in hundreds of SQLite's instructions: to look at each of 3,000 runs takes more


@pytest.fixture(scope="module")
def long_list(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    database = open_writing(tmp_path_factory.mktemp("long"), "normal")
    database.execute("BEGIN")
    for number in range(3000):
        rare = list(RunStatus)[number % 7] if number % 100 < 7 else RunStatus.SUCCEEDED
        Transaction([accepted(f"n{number}", principal=f"p{number % 9}", status=rare, created=NOW + number)])(database)
    database.execute("COMMIT")
    yield database
    database.close()


async def test_a_file_of_version_1_can_be_read_and_stays_as_it_is(tmp_path: Path) -> None:
    of_version_1(tmp_path)
    before = (tmp_path / "portico.db").read_bytes()
    store = SqliteStore(tmp_path, read_only=True)
    await store.open()
    try:
        assert [run.run_id for run in await store.runs(RunQuery(everyone=True))] == ["waiting", "done"]
        assert await store.callbacks() == []
        assert await store.usage(UsageQuery(everyone=True, by=[UsageKey.RUN])) == []
        assert await store.usage(UsageQuery(everyone=True)) == [UsageGroup({}, Usage())]
        assert await store.verify() == []
    finally:
        await store.close()
    assert (tmp_path / "portico.db").read_bytes() == before


async def test_the_file_of_another_program_is_refused_and_not_touched(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "portico.db")
    database.execute("CREATE TABLE theirs (a)")
    database.close()
    before = (tmp_path / "portico.db").read_bytes()
    with pytest.raises(StoreError, match="was not made by Portico"):
        await SqliteStore(tmp_path).open()
    assert (tmp_path / "portico.db").read_bytes() == before


async def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="file"):
        await SqliteStore(tmp_path / "file").open()


async def test_a_setting_that_there_is_not_is_refused(tmp_path: Path) -> None:
    wrong: Any = "off"
    with pytest.raises(ValueError, match="'full' or 'normal'"):
        SqliteStore(tmp_path, synchronous=wrong)


# --- for reading only -------------------------------------------------------------------------------------------------


async def test_a_reader_sees_what_a_writer_stores_meanwhile(tmp_path: Path) -> None:
    async with opened(tmp_path) as store, opened(tmp_path, read_only=True) as reader:
        for number in range(5):
            await stored(store, accepted(str(number)), StoreState("echo", {"n": number}))
            assert len(await reader.unfinished()) == number + 1
            assert await reader.state("echo") == {"n": number}


async def test_a_reader_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await stored(store, accepted("run"))
    async with opened(tmp_path, read_only=True) as reader:
        with pytest.raises(StoreUnavailable, match="for reading only"):
            submitted(reader, ended("run"))
        with pytest.raises(StoreUnavailable, match="for reading only"):
            await reader.put("key", 1)
        assert [run.run_id for run in await reader.unfinished()] == ["run"]
        assert await reader.verify() == []


async def test_a_store_that_was_killed_can_be_read_as_it_lies(tmp_path: Path) -> None:
    acknowledged = killed_after(30, tmp_path)
    async with opened(tmp_path, read_only=True) as reader:
        for worker, number in acknowledged:
            assert await reader.run(f"{worker}-{number}") is not None
    async with opened(tmp_path) as store:
        assert await store.verify() == []


async def test_there_is_nothing_to_read_where_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no portico\.db"):
        await SqliteStore(tmp_path, read_only=True).open()
    assert os.listdir(tmp_path) == []  # noqa: PTH208  # in a coroutine


# --- how it writes ----------------------------------------------------------------------------------------------------


async def test_what_waits_is_committed_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: list[str] = []

    def traced(directory: Path, synchronous: Any) -> sqlite3.Connection:
        database = open_writing(directory, synchronous)
        database.set_trace_callback(statements.append)
        return database

    monkeypatch.setattr(sqlite_module, "open_writing", traced)
    async with opened(tmp_path) as store:
        outcomes = [submitted(store, accepted(str(number))) for number in range(5000)]
        assert {await outcome for outcome in outcomes} == {None}
        assert 10 <= statements.count("COMMIT") <= 50
        await stored(store, accepted("last"))
    assert statements.count("ROLLBACK") == 0


async def test_conflicts_break_no_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: list[str] = []

    def traced(directory: Path, synchronous: Any) -> sqlite3.Connection:
        database = open_writing(directory, synchronous)
        database.set_trace_callback(statements.append)
        return database

    monkeypatch.setattr(sqlite_module, "open_writing", traced)
    async with opened(tmp_path) as store:
        outcomes = [submitted(store, accepted(str(number // 2))) for number in range(1000)]
        assert sum([await outcome is None for outcome in outcomes]) == 500
    assert statements.count("ROLLBACK") == 0
    assert statements.count("COMMIT") <= 20


async def test_the_event_loop_is_not_held_up_by_thousands_of_transactions(tmp_path: Path) -> None:
    gaps: list[float] = []
    over = False

    async def heartbeat() -> None:
        last = time.perf_counter()
        while not over:
            await anyio.lowlevel.checkpoint()
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    async with opened(tmp_path) as store, anyio.create_task_group() as tasks:
        tasks.start_soon(heartbeat)
        outcomes: list[asyncio.Future[Exception | None]] = []
        for number in range(20_000):
            outcomes.append(submitted(store, accepted(str(number), payload="x" * 200)))
            if number % 50 == 0:
                await anyio.lowlevel.checkpoint()
        for outcome in outcomes:
            assert await outcome is None
        over = True
    gaps.sort()
    assert gaps[-1] < 2.0  # one gap may be the machine's own
    assert gaps[int(len(gaps) * 0.99)] < 0.15  # on a machine with other things to do


async def test_a_transaction_is_stored_though_the_event_loop_is_never_idle(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        began = time.perf_counter()
        for number in range(10):
            outcome = submitted(store, accepted(str(number)))
            while not outcome.done():
                sum(range(5000))
                await anyio.lowlevel.checkpoint()
        assert len(await store.unfinished()) == 10
        assert time.perf_counter() - began < 5


async def test_more_than_may_wait_is_refused_at_once_and_taken_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MOST", 10)
    async with opened(tmp_path) as store:
        outcomes = [submitted(store, accepted(str(number))) for number in range(10)]
        with pytest.raises(StoreUnavailable, match="10 transactions wait"):
            submitted(store, accepted("more"))
        assert {await outcome for outcome in outcomes} == {None}
        await stored(store, accepted("more"))


async def test_more_bytes_than_may_wait_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MOST_BYTES", 1000)
    async with opened(tmp_path) as store:
        outcome = submitted(store, accepted("large", payload="x" * 2000))
        with pytest.raises(StoreUnavailable, match="wait"):
            submitted(store, accepted("more"))
        assert await outcome is None
        await stored(store, accepted("more"))


def open_files() -> list[str]:
    """What this program has open."""
    found: list[str] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            found.append(str(descriptor.readlink()))
    return found


async def test_no_thread_and_no_open_file_is_left(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        async with opened(tmp_path) as store:
            await stored(store, accepted(str(time.perf_counter_ns())))
            await store.runs(RunQuery(everyone=True))
    (tmp_path / "portico.db").write_bytes(b"damaged" * 100)
    with pytest.raises(StoreError):
        await SqliteStore(tmp_path).open()
    assert set(threading.enumerate()) == before
    assert not [path for path in open_files() if str(tmp_path) in path]


async def test_a_store_that_is_closed_refuses_everything_and_closing_twice_does_no_harm(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        submitted(store, accepted("run"))
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.run("run")


async def test_who_is_cancelled_while_it_waits_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for call in (partial(store.put, "key", 1), store.verify, store.unfinished, partial(store.state, "echo")):
            with anyio.move_on_after(0):
                await call()
        await stored(store, accepted("run"))
        assert len(await store.unfinished()) == 1


# --- what it tells of itself ------------------------------------------------------------------------------------------


async def test_what_waits_for_the_disk_and_for_how_long_is_in_the_figures_until_it_is_stored(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await stored(store, accepted("before"))
        with closing(sqlite3.connect(tmp_path / "portico.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            outcome = submitted(store, accepted("run"))
            first = store.journal_figures()
            with anyio.fail_after(10):
                while store.journal_figures()["oldest"] < first["oldest"] + 0.05:
                    await anyio.lowlevel.checkpoint()
            figures = store.journal_figures()
            assert not outcome.done()
            other.execute("ROLLBACK")
        assert (first["waiting"], figures["waiting"]) == (1, 1)
        assert figures["oldest"] - 0.05 >= first["oldest"] > 0
        assert await outcome is None
        figures = store.journal_figures()
        assert (figures["waiting"], figures["oldest"]) == (0, 0)
        assert await store.run("run") is not None


# --- how large it gets ------------------------------------------------------------------------------------------------


async def test_a_run_costs_a_kib_and_its_payloads(tmp_path: Path) -> None:
    runs, file = 10_000, tmp_path / "portico.db"
    async with opened(tmp_path):
        pass
    empty = file.stat().st_size
    payload, output = {"text": "x" * 189}, {"text": "y" * 189}
    async with opened(tmp_path) as store:
        for number in range(runs):
            keyed = accepted(
                f"{number:032x}",
                payload=payload,
                scope=os.urandom(16),
                key_until=NOW + 86400,
                principal="alice",
                created=NOW + number,
            )
            submitted(store, keyed, ended(keyed.record.run_id, NOW + number + 1, output=output))
    grown = (file.stat().st_size - empty) / runs
    assert grown <= 1024 + 1.3 * 400


@pytest.mark.parametrize("size", [100, 20_000])
async def test_the_oldest_runs_go_where_the_file_is_too_large_and_the_file_shrinks(tmp_path: Path, size: int) -> None:
    file = tmp_path / "portico.db"
    runs = 2_000_000 // (size + 500)
    async with opened(tmp_path, synchronous="normal") as store:
        for number in range(runs):
            submitted(store, accepted(f"{number:05}", payload="x" * size), ended(f"{number:05}", NOW + number))
        await stored(store, accepted("unfinished", created=NOW - 1000, payload="x" * size))
        pruned = await store.prune(Retention(runs_for=None, max_bytes=500_000), NOW + runs)
        left = await store.runs(RunQuery(everyone=True, limit=runs))
        assert pruned.runs == runs - (len(left) - 1)
        assert pruned.freed > 300_000
        assert {run.run_id for run in left} == {"unfinished", *[f"{number:05}" for number in range(pruned.runs, runs)]}
        assert len(left) > 2
        assert await store.verify() == []
    assert file.stat().st_size <= 550_000


async def test_others_are_stored_while_much_is_removed(tmp_path: Path) -> None:
    async with opened(tmp_path, synchronous="normal") as store:
        for number in range(5000):
            submitted(store, accepted(str(number)), ended(str(number)))
        await stored(store, accepted("new"))
        left = 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.prune, Retention(runs_for=1.0), NOW + 100)
            await stored(store, accepted("meanwhile"))
            left = len(await store.runs(RunQuery(everyone=True, limit=10_000)))
        assert left > 2
        assert [run.run_id for run in await store.unfinished()] == ["new", "meanwhile"]
        assert len(await store.runs(RunQuery(everyone=True, limit=10_000))) == 2
