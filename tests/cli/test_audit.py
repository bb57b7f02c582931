"""`portico audit`: what it prints, how it ends, and the sentences for what cannot be."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest
from typer.testing import CliRunner

from portico.audit.chain import head_of, line
from portico.cli import app, audit
from portico.errors import CallError, PorticoError
from portico.runs.audit_entry import AuditAction
from portico.stores.sqlite import SqliteStore
from tests.app.serving import served
from tests.audit.entries import a_chain, an_entry
from tests.cli.programs import environment, portico
from tests.routes.agents import Echo

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

    from portico.runs.audit_entry import SealedEntry
    from portico.runs.audit_store import AuditQuery

CHAIN = a_chain(*(an_entry(number, agent=f"agent-{number % 2}") for number in range(1, 7)))


def command(*arguments: str | Path, key: str = "") -> Result:
    return CliRunner(env={"PORTICO_API_KEY": key}).invoke(app, ["audit", *map(str, arguments)])


async def _append(directory: Path, entries: list[SealedEntry], forget_through: int = 0) -> None:
    store = SqliteStore(directory)
    await store.open()
    await store.append_audit(entries, forget_through)
    await store.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with a trail."""

    asyncio.run(_append(tmp_path / "data", CHAIN))
    return tmp_path / "data"


def test_a_trail_is_listed_the_newest_first(data: Path) -> None:
    listed = command("list", "--data", data, "--agent", "agent-1", "--limit", "2").output.splitlines()
    assert [row.split()[0] for row in listed] == ["SEQ", "5", "3"]
    assert "2027-01-15 08:00:05" in listed[1]
    assert json.loads(command("list", "--data", data, "--limit", "1", "--json").output)[0]["seq"] == 6
    assert command("list", "--data", data, "--principal", "nobody").output == "No entries.\n"


def test_a_whole_trail_is_told_with_its_head(data: Path) -> None:
    done = command("verify", "--data", data, "--head", CHAIN[2].hash)
    assert (done.exit_code, done.output) == (0, f"whole: 6 entries, 1 to 6\nhead: {CHAIN[-1].hash}\n")


def test_what_a_server_removes_for_its_age_while_it_is_read_is_no_break(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = {"through": 4, "hash": CHAIN[3].hash, "count": 4}
    pruned = a_chain(an_entry(7, action=AuditAction.PRUNED, details=about), head=head_of(CHAIN[-1]))
    read, pages = audit._stored, list[Any]()  # pyright: ignore[reportPrivateUsage]  # between two pages

    def page(directory: Path, query: AuditQuery) -> list[dict[str, Any]]:
        found = read(directory, query)
        if not pages:
            asyncio.run(_append(data, pruned, 4))
        pages.append(found)
        return found

    monkeypatch.setattr(audit, "PAGE", 2)
    monkeypatch.setattr(audit, "_stored", page)
    done = command("verify", "--data", data)
    assert pages[1][0]["seq"] == 5
    assert (done.exit_code, done.output) == (0, f"whole: 3 entries, 5 to 7\nhead: {pruned[-1].hash}\n")


def test_what_is_put_before_a_chain_whose_beginning_was_removed_is_found(data: Path) -> None:
    about = {"through": 4, "hash": CHAIN[3].hash, "count": 4}
    asyncio.run(_append(data, a_chain(an_entry(7, action=AuditAction.PRUNED, details=about), head=head_of(CHAIN[-1])), 4))
    assert command("verify", "--data", data).exit_code == 0
    asyncio.run(_append(data, a_chain(an_entry(1, principal="mallory"))))
    assert command("verify", "--data", data).output.startswith("broken at entry 5, after 1 entries: It follows number 1")


def test_a_head_that_is_not_there_is_told(data: Path) -> None:
    done = command("verify", "--data", data, "--head", "0123456789abcdef" * 4)
    assert done.exit_code == 1
    assert done.output.startswith("broken at the end, after 6 entries: No entry has the hash 0123")


def test_an_export_is_verified_as_a_whole_and_in_parts(data: Path, tmp_path: Path) -> None:
    whole, part, late = tmp_path / "whole.jsonl", tmp_path / "part.jsonl", tmp_path / "late.jsonl"
    command("export", "--data", data, "-o", whole)
    command("export", "--data", data, "-o", part, "--after", "3")
    command("export", "--data", data, "-o", late, "--since", "2027-01-15T08:00:04Z")
    assert whole.read_bytes() == b"".join(map(line, CHAIN))
    assert part.read_bytes() == late.read_bytes() == b"".join(map(line, CHAIN[3:]))
    assert command("verify", "--file", whole).exit_code == 0
    missing = command("verify", "--file", part)
    assert missing.exit_code == 1
    assert missing.output.startswith("broken at entry 4, after 0 entries: The entries before number 4 are missing")
    assert command("verify", "--file", part, "--part").exit_code == 0
    whole.write_bytes(whole.read_bytes().replace(b"agent-1", b"agent-9", 1))
    assert (
        command("verify", "--file", whole).output == "broken at entry 1, after 0 entries: It was changed: its hash does not fit.\n"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        ["verify"],
        ["verify", "--data", ".", "--file", "x"],
        ["verify", "--file", "none.jsonl"],
        ["verify", "--data", "."],
        ["verify", "--data", ".", "--head", "x"],
        ["export"],
        ["export", "--data", ".", "--format", "xml"],
        ["export", "--data", ".", "--since", "yesterday"],
        ["list", "--url", "http://127.0.0.1:1"],
        ["list", "--url", "nowhere"],
    ],
)
def test_what_cannot_be_is_a_sentence(wrong: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = command(*wrong)
    assert done.exit_code != 0
    assert isinstance(done.exception, SystemExit | PorticoError)


@pytest.mark.parametrize("since", ["9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00"])
def test_a_time_beyond_the_calendar_is_no_time_of_an_entry(data: Path, since: str) -> None:
    done = command("export", "--data", data, "--since", since)
    assert done.exit_code == 2
    assert "2026-01-31T09:30:00Z" in done.output


def test_an_export_that_fails_leaves_the_file_that_was_there(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    archive = folder / "audit.jsonl"
    archive.write_bytes(b"the year before\n")
    assert command("export", "--url", "http://127.0.0.1:1", "-o", archive).exit_code != 0

    def broken(directory: Path, query: AuditQuery) -> list[dict[str, Any]]:
        if query.after:
            raise CallError("the connection broke")
        return read(directory, query)

    read = audit._stored  # pyright: ignore[reportPrivateUsage]  # between two pages
    monkeypatch.setattr(audit, "PAGE", 2)
    monkeypatch.setattr(audit, "_stored", broken)
    for place in (archive, folder / "new.jsonl"):
        assert command("export", "--data", data, "-o", place).exit_code != 0
    assert archive.read_bytes() == b"the year before\n"
    assert list(folder.iterdir()) == [archive]


def test_an_export_takes_the_place_of_a_file_with_its_mode_and_behind_a_link(data: Path, tmp_path: Path) -> None:
    archive, link = tmp_path / "audit.jsonl", tmp_path / "latest"
    archive.write_bytes(b"the year before\n")
    archive.chmod(0o640)
    link.symlink_to(archive)
    assert command("export", "--data", data, "-o", link).exit_code == 0
    assert link.is_symlink()
    assert archive.read_bytes() == b"".join(map(line, CHAIN))
    assert archive.stat().st_mode & 0o777 == 0o640


def test_an_export_goes_into_what_is_no_file_as_it_is(data: Path, tmp_path: Path) -> None:
    done = portico("audit", "export", "--data", data, "-o", "/dev/stdout", folder=tmp_path)
    assert done.stdout.encode() == b"".join(map(line, CHAIN))


def test_whoever_reads_no_further_ends_an_export_quietly(data: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    run = [sys.executable, "-m", "portico", "audit", "export", "--data", str(data)]
    try:
        done = subprocess.run(run, cwd=tmp_path, env=environment(), stdout=writing, stderr=subprocess.PIPE, timeout=40, check=False)
    finally:
        os.close(writing)
    assert done.stderr == b""


@pytest.mark.anyio
async def test_a_running_server_is_asked_the_same() -> None:
    async with served(Echo("echo"), api_key="right") as one:
        for _ in range(3):
            await one.client.get("/agents/echo/state", headers={"x-api-key": "right"})
        url = f"http://127.0.0.1:{one.port}"

        def ask() -> list[Result]:
            every = [command(name, "--url", url, key="right") for name in ("list", "verify", "export")]
            return [*every, command("list", "--url", url)]

        listed, verified, exported, refused = await anyio.to_thread.run_sync(ask)
    assert listed.output.count("agent.state_read") == 3
    assert verified.output.startswith("whole: 5 entries, 1 to 5\n")
    assert '"action":"audit.read"' in exported.output
    assert "API key" in str(refused.exception)
