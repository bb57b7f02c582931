"""What goes along with a call, and what it may cost: progress, trace, log, limits; in both eras, over every transport."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.app.factory import create_app
from portico.errors import MCPServerBusy
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.calling.turnstile import FullError, Turnstile
from portico.mcp_bridge.calling.upstream import MCPUpstream
from portico.mcp_bridge.calling.wiring import build_upstreams
from portico.mcp_bridge.config import MCPServerConfig
from tests.app.serving import ANY_PORT, Served, listening
from tests.mcp_bridge.calling.scripted import EVENTS, Request, event, response, result, scripted
from tests.mcp_bridge.helpers import external_server, free_port, tool_server, until, upstreams

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from portico.mcp_bridge.calling.toolset import MCPToolSet

pytestmark = pytest.mark.anyio

WAYS = ["stdio, new era", "stdio, old era", "http, new era", "http, old era", "sse, new era", "sse, old era"]


@asynccontextmanager
async def server(way: str, notes: Path) -> AsyncGenerator[MCPServerConfig]:
    """The test server, reached that way."""
    if way.startswith("stdio"):
        yield tool_server("tests", "--notes", str(notes))
        return
    port, option = free_port(), "--sse" if way.startswith("sse") else "--http"
    transport, path = ("sse", "/sse") if way.startswith("sse") else ("streamable_http", "/mcp")
    async with external_server(option, str(port), "--notes", str(notes), port=port):
        yield MCPServerConfig("tests", transport=transport, url=f"http://127.0.0.1:{port}{path}")


class Works(AgentProcess):
    """Calls the tool that the message names."""

    async def handle(self, message: Any) -> Any:
        return await self.tools.get(f"mcp://tests/{message.payload['tool']}").execute(**message.payload.get("with", {}))


@asynccontextmanager
async def served(supervisor: Supervisor, tools: MCPToolSet) -> AsyncGenerator[Served]:
    """An agent that uses those tools, behind a gateway."""
    runtime = Runtime(Supervisor("root", children=[supervisor, Works("works")]), tool_registry=tools)
    async with asyncio.timeout(50), listening(create_app(runtime, ANY_PORT)) as gateway:
        yield gateway


async def start(gateway: Served, tool: str, **arguments: Any) -> str:
    """A run of that agent: its path."""
    return (await gateway.client.post("/agents/works/cast", json={"tool": tool, "with": arguments})).headers["location"]


async def progress_of(gateway: Served, run: str) -> list[Any]:
    """When it has ended: the data of its `progress` events."""
    lines = await gateway.client.get(f"{run}/events", headers={"accept": "application/jsonl"})
    return [one["data"] for one in map(json.loads, lines.text.splitlines()) if one["type"] == "progress"]


def in_its_era(way: str, config: MCPServerConfig) -> tuple[Supervisor, MCPToolSet]:
    supervisor, tools = build_upstreams([config])
    upstream = supervisor.children[0]
    assert isinstance(upstream, MCPUpstream)
    upstream.mode = "legacy" if "old" in way else "auto"
    return supervisor, tools


@pytest.mark.parametrize("way", WAYS)
async def test_progress_of_the_server_is_progress_of_the_run_and_a_cancelled_run_cancels_the_tool(way: str, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    async with server(way, notes) as config:
        supervisor, tools = in_its_era(way, config)
        async with served(supervisor, tools) as gateway:
            assert ("2026" in (tools.connections["tests"].era or "")) == ("old" not in way)
            run = await start(gateway, "climb", to=3)
            assert (await gateway.client.get(run, params={"wait": 20})).json()["output"] == {"result": 3}
            steps = [{"done": step, "total": 3, "note": f"step {step}"} for step in (1, 2, 3)]
            assert await progress_of(gateway, run) == steps

            run = await start(gateway, "wait_cancelled")
            await until(lambda: notes.exists() and "began" in notes.read_text())
            await gateway.client.post(f"{run}/cancel")
            await until(lambda: "cancelled" in notes.read_text())


@pytest.mark.parametrize("way", ["stdio, old era", "http, old era", "stdio, new era"])
async def test_log_messages_of_the_server_stand_in_the_log_under_its_name(
    way: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "portico.mcp.tests")
    async with server(way, tmp_path / "notes") as plain:
        supervisor, tools = in_its_era(way, replace(plain, log_level="debug"))
        with anyio.fail_after(30):
            async with Runtime(Supervisor("root", children=[supervisor]), tool_registry=tools):
                await tools.get("mcp://tests/complain").execute(of="the heat")
                await until(lambda: any("the heat" in record.getMessage() for record in caplog.records))
    said = next(record for record in caplog.records if "the heat" in record.getMessage())
    assert (said.name, said.levelno) == ("portico.mcp.tests", logging.ERROR)


async def test_the_trace_of_the_message_in_hand_reaches_the_server() -> None:
    def answer(request: Request, _: asyncio.StreamWriter) -> bytes:
        return response(result(request))

    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with scripted(answer) as upstream:
        supervisor, tools = build_upstreams([upstream.config()])
        async with served(supervisor, tools) as gateway:
            await gateway.client.post("/agents/works", json={"tool": "act"}, headers={"traceparent": trace})
    assert upstream.calls[0].message["params"]["_meta"]["traceparent"].split("-")[1] == trace.split("-")[1]


async def test_progress_after_the_result_or_of_nonsense_is_no_progress() -> None:
    def answer(request: Request, _: asyncio.StreamWriter) -> bytes:
        token = request.message["params"]["_meta"]["progressToken"]
        told = [{"progress": "much"}, {"progress": True}, {}, {"progress": 1, "total": "all", "message": 7}]
        events = [event({"method": "notifications/progress", "params": {"progressToken": token, **one}}) for one in told]
        late = event({"method": "notifications/progress", "params": {"progressToken": token, "progress": 2}})
        return EVENTS + b"".join(events) + event(result(request, structuredContent={})) + late + b"0\r\n\r\n"

    async with scripted(answer) as upstream:
        supervisor, tools = build_upstreams([upstream.config()])
        async with served(supervisor, tools) as gateway:
            steps = await progress_of(gateway, await start(gateway, "act"))
    assert steps == [{"done": 1, "total": None, "note": ""}]


async def test_a_server_is_given_no_more_calls_than_it_takes_and_the_queue_has_an_end() -> None:
    waiting: list[tuple[Request, asyncio.StreamWriter]] = []
    results: list[Any] = []

    def answer(request: Request, writer: asyncio.StreamWriter) -> bytes:
        waiting.append((request, writer))
        return b""

    async def call(tools: MCPToolSet, number: int) -> None:
        results.append(await tools.get("mcp://tests/act").execute(number=number))

    with anyio.fail_after(20):
        async with scripted(answer) as upstream, upstreams(upstream.config(max_calls=2, max_waiting=3)) as tools:
            connection = tools.connections["tests"]
            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(call, tools, number)
                await until(lambda: len(waiting) == 2)
                assert connection.readiness()["calls"] == {"in_flight": 2, "waiting": 3}
                with pytest.raises(MCPServerBusy, match="2 calls in flight") as refusal:
                    await call(tools, 9)
                assert refusal.value.retry_after > 0
                answered = 0
                while len(results) < 5:
                    await until(lambda answered=answered: len(waiting) > answered)
                    assert connection.readiness()["calls"]["in_flight"] <= 2
                    request, writer = waiting[answered]
                    writer.write(response(result(request, structuredContent=request.message["params"]["arguments"])))
                    answered += 1
                    if answered == 5:
                        await until(lambda: len(results) == 5)
            assert [one["number"] for one in results] == [0, 1, 2, 3, 4]
            assert connection.readiness()["calls"] == {"in_flight": 0, "waiting": 0}
            assert {outcome: calls.count for outcome, calls in connection.figures.calls.items()} == {"ok": 5, "mcp-server-busy": 1}


async def test_a_turn_is_passed_on_by_those_who_are_cancelled_while_they_wait() -> None:
    turnstile, inside = Turnstile(1, 2), asyncio.Event()

    async def enter() -> None:
        async with turnstile:
            inside.set()

    async with anyio.create_task_group() as tasks:
        async with turnstile:
            leaving = anyio.CancelScope()

            async def leave() -> None:
                with leaving:
                    await enter()

            tasks.start_soon(leave)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(enter)
            await anyio.wait_all_tasks_blocked()
            assert (turnstile.inside, turnstile.waiting) == (1, 2)
            with pytest.raises(FullError):
                await enter()
            leaving.cancel()
            await anyio.wait_all_tasks_blocked()
            assert turnstile.waiting == 1
        await inside.wait()
    assert (turnstile.inside, turnstile.waiting) == (0, 0)
