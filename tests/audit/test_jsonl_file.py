"""The file has every entry once, whoever moves it away, fills its disk, or kills the program."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import anyio
import pytest

from portico.audit.chain import head_of, line
from portico.audit.jsonl_file import BEGINNING, LAST_LINE, FileSink
from portico.audit.verification import Verdict, Verification
from portico.errors import ConfigurationError
from portico.runs.audit_entry import ChainHead
from tests.audit.entries import a_chain, an_entry
from tests.cli.programs import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

CHAIN = a_chain(*(an_entry(number) for number in range(1, 7)))


def verdict(*paths: Path) -> Verdict:
    verification = Verification()
    for path in paths:
        for one in path.read_bytes().splitlines(keepends=True):
            verification.add_line(one)
    return verification.verdict()


async def test_the_next_program_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "audit.jsonl"
    for first in (0, 3):
        sink = FileSink(path)
        assert await sink.open() == (head_of(CHAIN[first - 1]) if first else ChainHead())
        await sink.write(CHAIN[first : first + 2])
        await sink.write(CHAIN[first : first + 3])
        await sink.close()
    assert verdict(path) == Verdict(6, 1, 6, CHAIN[-1].hash, None)
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_file_that_is_moved_away_or_emptied_is_begun_anew_and_the_chain_goes_on(tmp_path: Path) -> None:
    path, moved = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    sink = FileSink(path)
    await sink.open()
    await sink.write(CHAIN[:2])
    path.rename(moved)
    await sink.write(CHAIN[2:4])
    assert verdict(moved, path) == Verdict(4, 1, 4, CHAIN[3].hash, None)
    os.truncate(path, 0)
    await sink.write(CHAIN[4:])
    await sink.close()
    assert path.read_bytes().count(b"\n") == 2


async def test_half_an_entry_that_a_kill_has_left_is_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "audit.jsonl"
    sink = FileSink(path)
    await sink.open()
    await sink.write(CHAIN[:3])
    await sink.close()
    os.truncate(path, path.stat().st_size - 10)
    assert await sink.open() == head_of(CHAIN[1])
    assert "ended within an entry" in caplog.text
    await sink.write(CHAIN[2:])
    await sink.close()
    assert verdict(path).fault is None


async def test_a_full_disk_leaves_whole_entries_and_the_next_try_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    sink = FileSink(path)
    await sink.open()
    await sink.write(CHAIN[:1])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            await sink.write(CHAIN[1:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert verdict(path).entries == 1
    await sink.write(CHAIN[1:])
    await sink.close()
    assert verdict(path) == Verdict(6, 1, 6, CHAIN[-1].hash, None)


async def test_two_programs_do_not_write_to_one_file(tmp_path: Path) -> None:
    one, other = FileSink(tmp_path / "audit.jsonl"), FileSink(tmp_path / "audit.jsonl")
    await one.open()
    with pytest.raises(ConfigurationError, match="Another program"):
        await other.open()
    await other.close()
    await one.close()


HANGING = """
import asyncio
import os
import sys
import threading

from portico.audit.jsonl_file import FileSink
from tests.audit.entries import a_chain, an_entry

os.fdatasync = lambda file: threading.Event().wait()


async def given_up(what):
    try:
        async with asyncio.timeout(0.05):
            await what
    except TimeoutError as error:
        print("given up", error)


async def main():
    sink = FileSink(sys.argv[1])
    await sink.open()
    for _ in range(12):
        await given_up(sink.write(a_chain(an_entry(1))))
    await given_up(sink.close())


asyncio.run(main())
"""


def test_a_disk_that_hangs_holds_nobody_up_and_not_the_end_of_the_program(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HANGING, str(tmp_path / "audit.jsonl")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=20, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["given up "] * 9 + ["given up the disk hangs"] * 3 + ["given up "]


async def test_what_was_given_up_is_over_before_the_next_and_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, may = tmp_path / "audit.jsonl", threading.Event()

    def hang(file: int) -> None:
        may.wait(10)

    monkeypatch.setattr(os, "fdatasync", hang)
    sink = FileSink(path)
    await sink.open()
    for count in (3, 4):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await sink.write(CHAIN[:count])
    may.set()
    with anyio.fail_after(10):
        await sink.write(CHAIN)
        may.clear()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await sink.write(a_chain(an_entry(7), head=head_of(CHAIN[-1])))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await sink.close()
    hanging = [thread for thread in threading.enumerate() if thread.name == "portico-audit-file"]
    may.set()
    for thread in hanging:
        thread.join(10)
    other = FileSink(path)  # the file was let go of
    assert (await other.open()).seq == 7
    await other.close()
    assert verdict(path).last == 7


async def test_a_disk_that_hung_in_one_life_touches_nothing_in_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, may = tmp_path / "audit.jsonl", threading.Event()

    def hang(file: int) -> None:
        may.wait(10)
        raise OSError(5, "Input/output error")

    sink = FileSink(path)
    await sink.open()
    monkeypatch.setattr(os, "fdatasync", hang)
    for given_up in (lambda: sink.write(CHAIN[:1]), sink.close):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await given_up()
    hanging = [thread for thread in threading.enumerate() if thread.name == "portico-audit-file"]
    monkeypatch.undo()
    with pytest.raises(TimeoutError, match="hangs"):
        await sink.open()
    may.set()
    for thread in hanging:
        thread.join(10)
    assert (await sink.open()).seq == 0
    await sink.write(CHAIN)
    await sink.close()
    assert verdict(path).last == len(CHAIN)


async def test_a_file_that_has_come_to_stand_there_meanwhile_is_left_alone_too(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    sink = FileSink(path)
    await sink.open()
    await sink.write(CHAIN[:2])
    path.rename(tmp_path / "audit.jsonl.1")
    path.write_bytes(b"Dear diary, not a line end")
    with pytest.raises(ConfigurationError, match="no entry"):
        await sink.write(CHAIN[2:4])
    assert path.read_bytes() == b"Dear diary, not a line end"
    path.unlink()
    await sink.write(CHAIN[2:4])
    await sink.close()
    assert verdict(tmp_path / "audit.jsonl.1", path).last == 4


@pytest.mark.parametrize(
    "content",
    [
        b"Dear diary,\n",
        b"Dear diary,\nnot a soul",
        b'{"precious": "and the only copy of it"}',
        b"x" * (LAST_LINE + 1),
        BEGINNING + b"x" * LAST_LINE,
    ],
    ids=["lines", "lines-without-end", "json", "long", "long-and-alike"],
)
async def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(content)
    sink = FileSink(path)
    with pytest.raises(ConfigurationError, match="no entry"):
        await sink.open()
    await sink.close()
    assert path.read_bytes() == content


@pytest.mark.parametrize("length", [1, len(BEGINNING), 100])
async def test_of_the_very_first_entry_too_half_is_cut_off(tmp_path: Path, length: int) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(line(CHAIN[0])[:length])
    sink = FileSink(path)
    assert await sink.open() == ChainHead()
    await sink.write(CHAIN)
    await sink.close()
    assert verdict(path) == Verdict(6, 1, 6, CHAIN[-1].hash, None)
