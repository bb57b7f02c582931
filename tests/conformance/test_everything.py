"""The reference server of MCP, over stdio and over HTTP: an agent calls every tool that it has."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

from portico.errors import PorticoError
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.llm.scripted import ScriptedModel
from portico.mcp_bridge.calling.wiring import build_upstreams
from portico.mcp_bridge.config import MCPServerConfig
from portico.operations.decorators import operation
from portico.runs.call import Call
from portico.runs.dispatcher import Dispatcher
from tests.conformance import node
from tests.mcp_bridge.helpers import free_port, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(900)]

PACKAGE = "@modelcontextprotocol/server-everything"
HELLO = "data:text/plain;base64,aGVsbG8="
CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "echo": ({"message": "hello"}, "Echo: hello"),
    "get-annotated-message": ({"messageType": "error", "includeImage": True}, "image/png"),
    "get-env": ({}, "PATH"),
    "get-resource-links": ({"count": 2}, "resource_link"),
    "get-resource-reference": ({"resourceType": "Text", "resourceId": 1}, "Resource 1"),
    "get-structured-content": ({"location": "New York"}, "temperature"),
    "get-sum": ({"a": 2, "b": 3}, "5"),
    "get-tiny-image": ({}, "image/png"),
    "gzip-file-as-resource": ({"name": "a.gz", "data": HELLO, "outputType": "resource"}, "application/gzip"),
    "simulate-research-query": ({"topic": "cats"}, "requires task augmentation"),  # the experimental tasks of 2025-11-25
    "toggle-simulated-logging": ({}, "logging"),
    "toggle-subscriber-updates": ({}, "resource updated"),
    "trigger-elicitation-request": ({}, "provided"),
    "trigger-long-running-operation": ({"duration": 0.2, "steps": 2}, "completed"),
    "trigger-sampling-request": ({"prompt": "a word", "maxTokens": 10}, "a word of the model"),
    "trigger-url-elicitation": ({"url": "https://example.com/"}, "URL"),
}
"""Every tool: what it is called with, and what the answer says."""


class Caller(AgentProcess):
    """Calls the tools of the reference server."""

    @operation
    async def tool(self, name: str, arguments: dict[str, Any]) -> str:
        """Call one; what it answered, or why not."""
        try:
            return str(await self.tools.get(f"mcp://everything/{name}").execute(**arguments))
        except PorticoError as error:
            return str(error)


@asynccontextmanager
async def over_http() -> AsyncGenerator[MCPServerConfig]:
    port = free_port()
    line = [*node.command(PACKAGE), "streamableHttp"]
    process = await asyncio.create_subprocess_exec(
        *line, env=node.environment(PORT=str(port)), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        with anyio.fail_after(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await anyio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield MCPServerConfig("everything", transport="streamable_http", url=f"http://127.0.0.1:{port}/mcp", sampling=True)
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def over_stdio() -> AsyncGenerator[MCPServerConfig]:
    command, *arguments = node.command(PACKAGE)
    yield MCPServerConfig(
        "everything", command=command, args=[*arguments, "stdio"], env=node.environment(), connect_timeout=60.0, sampling=True
    )


@pytest.mark.parametrize("transport", [over_stdio, over_http])
async def test_an_agent_calls_every_tool_of_the_reference_server(transport: Any) -> None:
    await anyio.to_thread.run_sync(node.required)
    async with transport() as config:
        supervisor, tools = build_upstreams([config])
        model = ScriptedModel(["a word of the model"])
        root = Supervisor("root", children=[supervisor, Caller("caller")])
        async with Runtime(root, tool_registry=tools, model_provider=model) as runtime:
            connection = tools.connections["everything"]
            with anyio.fail_after(60):
                await until(lambda: len(connection.tools) >= len(CALLS))  # some are listed when it has seen who calls
            dispatcher = Dispatcher(runtime)
            answers = {name: await _answer(dispatcher, name, arguments) for name, (arguments, _) in CALLS.items()}

            assert set(connection.tools) == set(CALLS)
            assert {name: text for name, text in answers.items() if CALLS[name][1].lower() not in text.lower()} == {}


async def _answer(dispatcher: Dispatcher, name: str, arguments: dict[str, Any]) -> str:
    call = Call(dispatcher.catalogue.tools["caller"], {"name": name, "arguments": arguments}, timeout=60.0)
    run = await dispatcher.start(call)
    async for event in run.follow():
        if event.type == "run.waiting":
            waiting: dict[str, Any] = dict(run.waiting or {})
            await dispatcher.book.answer(run, _filled_in(waiting.get("schema") or {}))
    return (await run.outcome()).payload


def _filled_in(schema: dict[str, Any]) -> Any:
    """What somebody answers who fills in what is required."""
    if "const" in schema or schema.get("type") == "boolean":
        return True
    members: dict[str, Any] = schema.get("properties", {})
    values: dict[str, Any] = {"string": "Ada", "integer": 1, "number": 1, "boolean": True, "array": []}
    return {name: members[name].get("default", values.get(members[name].get("type"))) for name in schema.get("required", ())}
