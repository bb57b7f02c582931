"""Upstreams that are killed in the middle of calls, fifty times each way: nobody hangs, nothing is left, nothing is done twice."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import MCPServerUnavailable
from portico.mcp_bridge.config import MCPServerConfig
from tests.mcp_bridge.calling.cutting import cutting
from tests.mcp_bridge.helpers import free_port, until, upstreams

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from portico.mcp_bridge.calling.toolset import MCPToolSet

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(300)]

TINY = Path(__file__).parent / "tiny_server.py"
TIMES = 50
PATIENT: dict[str, Any] = {"timeout": 60.0, "max_restarts": 10_000}
"""A server that is killed by a test is not left alone for it."""


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def children() -> set[str]:
    return {child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()}


@asynccontextmanager
async def nothing_left() -> AsyncGenerator[None]:
    """After the block there are no more processes, tasks and descriptors than before."""
    gc.collect()
    before = children(), len(asyncio.all_tasks()), descriptors()
    yield
    await until(lambda: len(asyncio.all_tasks()) <= before[1])
    gc.collect()
    await until(lambda: descriptors() <= before[2])
    assert children() <= before[0]


def eras_asked(notes: Path) -> int:
    return notes.read_text().count("asked for the era")


def struck(notes: Path) -> Counter[str]:
    """The calls that arrived, and how often each."""
    return Counter(line for line in notes.read_text().splitlines() if line.startswith("strike"))


async def strike_and_kill(tools: MCPToolSet, notes: Path, kill: Callable[[], Awaitable[None]]) -> None:
    """Fifty rounds: a call that may not be doubled is under way, the upstream is killed, the caller is told at once."""
    strike, echo = tools.get("mcp://tests/strike"), tools.get("mcp://tests/echo")
    for number in range(TIMES):
        async with anyio.create_task_group() as tasks:

            async def expect_failure(number: int = number) -> None:
                with pytest.raises(MCPServerUnavailable, match="not known"):
                    await strike.execute(id=number, wait=30)

            tasks.start_soon(expect_failure)
            await until(lambda number=number: notes.exists() and f"strike {number}\n" in notes.read_text())
            with anyio.fail_after(20):
                await kill()
        assert await echo.execute(text=str(number)) == {"text": str(number)}
    assert struck(notes) == Counter(f"strike {number}" for number in range(TIMES))


@pytest.mark.parametrize("era", ["--old", "new"])
async def test_a_process_that_is_killed_in_the_middle_of_calls(tmp_path: Path, era: str) -> None:
    notes = tmp_path / "notes"
    args = [str(TINY), "--notes", str(notes), *([era] if era == "--old" else [])]
    async with nothing_left(), upstreams(MCPServerConfig("tests", command="python", args=args, **PATIENT)) as tools:
        pid = tools.get("mcp://tests/pid")
        now: list[int] = [(await pid.execute())["pid"]]

        async def kill() -> None:
            os.kill(now[0], signal.SIGKILL)
            now[0] = (await pid.execute())["pid"]

        await strike_and_kill(tools, notes, kill)
        assert tools.connections["tests"].figures.reconnects == TIMES
        assert eras_asked(notes) == (era == "new")


@asynccontextmanager
async def tiny_http_server(port: int, notes: Path) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, str(TINY), "--http", str(port), "--notes", str(notes))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def listens(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.005)
            continue
        writer.close()
        await writer.wait_closed()
        return


def at(port: int, **settings: Any) -> MCPServerConfig:
    return MCPServerConfig("tests", transport="streamable_http", url=f"http://127.0.0.1:{port}/mcp", **{**PATIENT, **settings})


async def test_a_server_at_a_url_that_is_killed_and_started_again_in_the_middle_of_calls(tmp_path: Path) -> None:
    notes, port = tmp_path / "notes", free_port()
    async with nothing_left(), AsyncExitStack() as stack:
        life = await stack.enter_async_context(AsyncExitStack())
        process = await life.enter_async_context(tiny_http_server(port, notes))
        await listens(port)
        tools = await stack.enter_async_context(upstreams(at(port)))
        assert tools.connections["tests"].era == "2026-07-28"
        killed = [process]

        async def kill() -> None:
            killed[0].kill()
            await killed[0].wait()
            killed[0] = await life.enter_async_context(tiny_http_server(port, notes))
            await listens(port)

        await strike_and_kill(tools, notes, kill)


async def test_a_connection_that_is_cut_in_the_middle_of_calls(tmp_path: Path) -> None:
    notes, port = tmp_path / "notes", free_port()
    async with nothing_left(), tiny_http_server(port, notes):
        await listens(port)
        async with cutting(port) as proxy, upstreams(at(proxy.port)) as tools:

            async def cut() -> None:
                proxy.cut()

            await strike_and_kill(tools, notes, cut)
            assert tools.connections["tests"].figures.reconnects == 0
