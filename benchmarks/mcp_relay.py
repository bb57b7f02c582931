"""Calls to an external MCP server at a URL (2026-07-28): the SDK's client, our tools, and an agent that relays, in turn.

The server is a bare ASGI application on the other core, so that the client is the limit. `mcp_relay.py [ROUNDS]`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import uvloop
from http_asks import UVICORN, served
from machine import pace
from mcp import Client
from rounds import Bounds, compared, print_table

from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.calling.wiring import build_upstreams
from portico.mcp_bridge.config import MCPServerConfig

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

SECONDS = 2.0
SDK, TOOL, AGENT, RAW = "the SDK's client", "execute() of our tool", "an agent that relays", "the same POST by hand"


class Relay(AgentProcess):
    """Hands on."""

    async def handle(self, message: Any) -> Any:
        """One call."""
        return await self.tools.get("mcp://upstream/echo").execute(text=message.payload["text"])


@asynccontextmanager
async def by_sdk(port: int) -> AsyncGenerator[Callable[[], Awaitable[Any]]]:
    async with Client(f"http://127.0.0.1:{port}/mcp") as client:
        await client.list_tools()
        yield partial(client.call_tool, "echo", {"text": "hello"})


@asynccontextmanager
async def by_tool(port: int, *, relayed: bool = False) -> AsyncGenerator[Callable[[], Awaitable[Any]]]:
    config = MCPServerConfig("upstream", transport="streamable_http", url=f"http://127.0.0.1:{port}/mcp")
    supervisor, tools = build_upstreams([config])
    async with Runtime(Supervisor("root", children=[supervisor, Relay("relay", concurrency=64)]), tool_registry=tools) as runtime:
        ask = partial(runtime.ask, "relay", {"text": "hello"})
        yield ask if relayed else partial(tools.get("mcp://upstream/echo").execute, text="hello")


@asynccontextmanager
async def by_hand(port: int) -> AsyncGenerator[Callable[[], Awaitable[Any]]]:
    """A bare stream, one call at a time: what the way there and back costs anybody."""
    params = {"name": "echo", "arguments": {"text": "hello"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    request = b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def call() -> None:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        json.loads(await reader.readexactly(int(length.split(b":")[1])))

    try:
        yield call
    finally:
        writer.close()


WAYS = {SDK: by_sdk, TOOL: by_tool, AGENT: partial(by_tool, relayed=True), RAW: by_hand}


async def calls(way: str, port: int, callers: int) -> tuple[float, float]:
    """Calls a second, and the median of one in milliseconds."""
    took: list[float] = []
    async with AsyncExitStack() as stack:
        call = await stack.enter_async_context(WAYS[way](port))
        until = time.perf_counter() + SECONDS

        async def caller() -> None:
            while (began := time.perf_counter()) < until:
                await call()
                took.append(time.perf_counter() - began)

        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(caller())
    return len(took) / SECONDS, median(took) * 1000


def measured(way: str, port: int, callers: int) -> tuple[float, float]:
    """The same, in an event loop of its own."""
    return uvloop.run(calls(way, port, callers))


def main(rounds: int = 5) -> bool:
    """Measure, and print. Whether the targets are met."""
    met = True
    with served([*UVICORN, "mcp_upstream:app"]) as port:
        if (os.cpu_count() or 1) > 1:
            os.sched_setaffinity(0, {1})
        for callers in (1, 32):
            ways = [SDK, TOOL, AGENT, *([RAW] if callers == 1 else [])]
            figures = compared({way: partial(measured, way, port, callers) for way in ways}, rounds)
            rates = {way: [rate for rate, _ in values] for way, values in figures.items()}
            met &= print_table(f"Calls to an MCP server at a URL, {callers} at a time", rates, SDK, {TOOL: 3.0, AGENT: 3.0})
            if callers == 1:
                over = [mine - bare for (_, mine), (_, bare) in zip(figures[AGENT], figures[RAW], strict=True)]
                met &= print_table(
                    "What relaying adds to one call, p50", {AGENT: over}, None, {AGENT: Bounds(most=1.0 / pace())}, " ms"
                )
    return met


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:])) else 1)
