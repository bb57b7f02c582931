"""Agents as MCP tools over stdio: a real process, as Claude Desktop starts it."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

pytestmark = pytest.mark.anyio

SCRIPT = Path(__file__).with_name("stdio_server.py")
ROOT = Path(__file__).parents[2]
INITIALIZE = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":'
    b'{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}\n'
)


async def start() -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), stdin=pipe, stdout=pipe, stderr=pipe, env={"PYTHONPATH": str(ROOT)}
    )


@pytest.mark.parametrize("mode", ["auto", "2026-07-28", "legacy"])
async def test_a_client_lists_and_calls_over_stdio_though_the_program_prints(mode: str, tmp_path: Path) -> None:
    errors = tmp_path / "stderr"
    with anyio.fail_after(20), errors.open("w") as log:
        parameters = StdioServerParameters(command=sys.executable, args=[str(SCRIPT)], env={"PYTHONPATH": str(ROOT)})
        async with Client(stdio_client(parameters, errlog=log), mode=mode) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            results = [await client.call_tool("echo", {"text": "ü" * size}) for size in (1, 100_000)]
    assert tools == ["asking", "echo", "fetch_result", "patient", "talking"]
    assert [result.structured_content for result in results] == [{"echo": "ü"}, {"echo": "ü" * 100_000}]
    told = errors.read_text()
    for line in ("printed before serving", "printed while serving", "written to descriptor 1", "stopped cleanly"):
        assert line in told


@pytest.mark.parametrize("by_signal", [signal.SIGTERM, signal.SIGINT, None])
async def test_it_ends_cleanly_and_says_nothing_but_the_protocol(by_signal: signal.Signals | None) -> None:
    with anyio.fail_after(20):
        process = await start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(INITIALIZE)
        answer = await process.stdout.readline()
        if by_signal is None:
            process.stdin.close()
        else:
            process.send_signal(by_signal)
        out, err = await process.communicate()
    assert answer.startswith(b'{"jsonrpc":"2.0","id":1,"result":')
    assert out == b""
    assert b"stopped cleanly" in err
    assert b"Traceback" not in err
    assert process.returncode == 0
