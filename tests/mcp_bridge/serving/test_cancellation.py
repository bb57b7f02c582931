"""Who takes back a call cancels its run and whatever that asked, in both eras and over every transport."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from mcp import Client, MCPError

from portico.errors import PorticoError
from portico.kernel.process import AgentProcess
from portico.operations.decorators import operation
from portico.runs.status import RunStatus
from portico.runs.store import RunQuery
from tests.mcp_bridge.helpers import Slow, gateway

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp.shared.dispatcher import ProgressFnT

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

ERAS = ["2026-07-28", "legacy"]
OLD = "2025-11-25"
SCRIPT, ROOT = Path(__file__).with_name("stdio_server.py"), Path(__file__).parents[3]


class Front(AgentProcess):
    """Lets another agent do the work."""

    @operation
    async def delegate(self) -> str:
        return (await self.ask("slow", {}, message_type="wait")).payload


async def run_status(endpoint: Any) -> RunStatus:
    """The status of the one run, at its end."""
    (run,) = await endpoint.served.dispatcher.book.page(RunQuery(limit=10))
    await run.wait()
    assert isinstance(run.error, PorticoError)
    return run.status


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("with_progress", [False, True])
@pytest.mark.parametrize("how", ["cancels", "loses patience"])
async def test_who_takes_back_a_call_cancels_what_it_asked(era: str, how: str, *, with_progress: bool) -> None:
    slow = Slow("slow")

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        pass

    callback: ProgressFnT | None = on_progress if with_progress else None
    with anyio.fail_after(30):
        async with gateway(slow, Front("front")) as (url, endpoint), Client(url, mode=era) as client:
            async with anyio.create_task_group() as tasks:

                async def call() -> None:
                    if how == "cancels":
                        await client.call_tool("front", progress_callback=callback)
                    else:
                        with pytest.raises(MCPError):
                            await client.call_tool("front", progress_callback=callback, read_timeout_seconds=1.0)

                tasks.start_soon(call)
                await slow.began.wait()
                if how == "cancels":
                    tasks.cancel_scope.cancel()
            await slow.cancelled.wait()
            assert await run_status(endpoint) is RunStatus.CANCELLED
            assert not (await client.call_tool("slow-count")).is_error  # the connection goes on


def request(name: str, *, modern: bool, **meta: Any) -> dict[str, Any]:
    if modern:
        meta |= {"io.modelcontextprotocol/protocolVersion": ERAS[0], "io.modelcontextprotocol/clientCapabilities": {}}
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": name, "arguments": {}, "_meta": meta}}


@pytest.mark.parametrize("wants", [{}, {"progressToken": 1}, {"io.modelcontextprotocol/logLevel": "debug"}])
async def test_a_client_of_the_new_era_that_hangs_up_cancels_what_its_call_asked(wants: dict[str, Any]) -> None:
    slow = Slow("slow")
    head = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": ERAS[0],
        "mcp-method": "tools/call",
        "mcp-name": "front",
    }
    with anyio.fail_after(30):
        async with gateway(slow, Front("front")) as (url, endpoint), httpx2.AsyncClient() as http:
            async with asyncio.TaskGroup() as tasks:
                call = tasks.create_task(http.post(url, json=request("front", modern=True, **wants), headers=head))
                await slow.began.wait()
                call.cancel()
            await slow.cancelled.wait()
            assert await run_status(endpoint) is RunStatus.CANCELLED


async def test_a_notification_cancels_a_call_of_the_old_era_and_a_hang_up_does_not() -> None:
    slow = Slow("slow")
    with anyio.fail_after(30):
        async with gateway(slow, Front("front")) as (url, endpoint), httpx2.AsyncClient() as http:
            head = await session(http, url)
            async with asyncio.TaskGroup() as tasks:
                call = tasks.create_task(http.post(url, json=request("front", modern=False), headers=head))
                await slow.began.wait()
                call.cancel()
            (run,) = await endpoint.served.dispatcher.book.page(RunQuery(limit=10))
            assert not run.done
            cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
            assert (await http.post(url, json=cancel, headers=head)).status_code == 202
            await slow.cancelled.wait()
            assert await run_status(endpoint) is RunStatus.CANCELLED


async def session(http: httpx2.AsyncClient, url: str) -> dict[str, str]:
    """The headers of a session of the old era."""
    head = {"accept": "application/json, text/event-stream"}
    about = {"protocolVersion": OLD, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about}
    opened = await http.post(url, json=hello, headers=head)
    head |= {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": OLD}
    await http.post(url, json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=head)
    return head


async def lines_of(reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
    while line := await reader.readline():
        yield line


@pytest.mark.parametrize("modern", [True, False])
async def test_a_notification_cancels_a_call_over_stdio(*, modern: bool) -> None:
    pipe = asyncio.subprocess.PIPE
    with anyio.fail_after(60):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(SCRIPT), stdin=pipe, stdout=pipe, stderr=pipe, env={"PYTHONPATH": str(ROOT)}
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        if not modern:
            about = {"protocolVersion": OLD, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
            process.stdin.write(_line({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about}))
            await process.stdout.readline()
            process.stdin.write(_line({"jsonrpc": "2.0", "method": "notifications/initialized"}))
        process.stdin.write(_line(request("patient", modern=modern)))
        told = [line async for line in _until(process.stderr, b"it waits")]
        cancel: dict[str, Any] = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
        if modern:
            cancel["params"]["_meta"] = request("patient", modern=True)["params"]["_meta"]
        process.stdin.write(_line(cancel))
        told += [line async for line in _until(process.stderr, b"it was cancelled")]
        process.stdin.close()
        await process.wait()
    assert told


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


async def _until(reader: asyncio.StreamReader, words: bytes) -> AsyncGenerator[bytes]:
    async for line in lines_of(reader):
        yield line
        if words in line:
            return
    raise AssertionError(words)
