"""The client that the conformance suite of MCP drives: an agent that calls every tool of one server, as ordinary agents do.

    python client.py URL         with MCP_CONFORMANCE_SCENARIO, MCP_CONFORMANCE_CONTEXT and MCP_CONFORMANCE_PROTOCOL_VERSION

What the server wants to know meanwhile is answered as a person would who takes every default: the run waits, and gets its input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any, cast

from portico.errors import PorticoError
from portico.kernel.process import AgentProcess
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.calling.wiring import build_upstreams
from portico.mcp_bridge.config import MCPServerConfig
from portico.operations.decorators import operation
from portico.runs.call import Call
from portico.runs.dispatcher import Dispatcher
from portico.topology.runtime import Runtime

SERVER = "suite"
ARGUMENTS = {"add_numbers": {"a": 5, "b": 3}}
"""What a tool is called with whose arguments the suite looks at."""


class Caller(AgentProcess):
    """Calls external tools."""

    @operation
    async def call_tool(self, tool: str, arguments: dict[str, Any]) -> Any:
        """Call one tool. A result that is no JSON comes as its text."""
        return json.loads(json.dumps(await self.tools.get(tool).execute(**arguments), default=str))


async def main(url: str) -> int:
    """Call every tool. Returns the exit code."""
    scenario = os.environ.get("MCP_CONFORMANCE_SCENARIO", "")
    context: dict[str, Any] = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    supervisor, tools = build_upstreams([MCPServerConfig(SERVER, transport="streamable_http", url=url, required=True)])
    async with Runtime(Supervisor("root", children=[supervisor, Caller("caller")]), tool_registry=tools) as runtime:
        dispatcher = Dispatcher(runtime)
        asked = [(f"mcp://{SERVER}/{call['name']}", call["arguments"]) for call in context.get("toolCalls", [])]
        if scenario == "json-schema-2020-12-preservation":
            focal, echo = (tools.get(name) for name in tools.names())
            asked = [(echo.name, {"schema": dict(focal.input_schema)})]
        for tool, arguments in asked or [(tool.name, _arguments(tool.name, tool.input_schema)) for tool in tools]:
            await _call(dispatcher, tool, arguments)
    return 0


async def _call(dispatcher: Dispatcher, tool: str, arguments: Any) -> None:
    call = Call(dispatcher.catalogue.tools["caller"], {"tool": tool, "arguments": arguments}, timeout=60.0)
    run = await dispatcher.start(call)
    async for event in run.follow():
        if event.type == "run.waiting":
            await dispatcher.book.answer(run, _answer(run.waiting or {}))
    try:
        await run.outcome()
    except PorticoError as error:
        sys.stderr.write(f"{tool}: {error}\n")


def _arguments(name: str, schema: Any) -> dict[str, Any]:
    """Something for whatever is required."""
    known = ARGUMENTS.get(name.rpartition("/")[2])
    if known is not None:
        return known
    properties: dict[str, Any] = schema.get("properties", {})
    return {name: _value(properties.get(name, {})) for name in schema.get("required", [])}


def _value(schema: dict[str, Any]) -> Any:
    if "default" in schema:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    values: dict[str, Any] = {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}
    return values.get(cast("str", schema.get("type")))


def _answer(waiting: Any) -> Any:
    """Every default, and something for what has none."""
    schema: dict[str, Any] = waiting.get("schema") or {}
    properties: dict[str, Any] = schema.get("properties", {})
    return {name: _value(schema) for name, schema in properties.items()}


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
