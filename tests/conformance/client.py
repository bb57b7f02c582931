"""The client that the conformance suite of MCP drives: an agent that calls every tool of one server, as ordinary agents do.

    python client.py URL         with MCP_CONFORMANCE_SCENARIO, MCP_CONFORMANCE_CONTEXT and MCP_CONFORMANCE_PROTOCOL_VERSION

What the server wants to know meanwhile is answered as a person would who takes every default: the run waits, and gets its input.
Where somebody has to log in, the browser is a GET that follows redirects, and the tools are called on the connection of that login.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from mcp import Client

from portico.errors import PorticoError
from portico.kernel.clock import SystemClock
from portico.kernel.inbox import Inbox
from portico.kernel.process import AgentProcess
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.authorization import AUTHORIZATION_CODE, CLIENT_CREDENTIALS, WORKLOAD
from portico.mcp_bridge.calling.connection import Life
from portico.mcp_bridge.calling.login import waiting_for_login
from portico.mcp_bridge.calling.remote import remote
from portico.mcp_bridge.calling.wiring import build_upstreams
from portico.mcp_bridge.config import MCPServerConfig
from portico.operations.decorators import operation
from portico.runs.call import Call
from portico.runs.dispatcher import Dispatcher
from portico.topology.runtime import Runtime

SERVER = "suite"
ARGUMENTS = {"add_numbers": {"a": 5, "b": 3}}
"""What a tool is called with whose arguments the suite looks at."""
ABOUT_US = "https://conformance-test.local/client-metadata.json"
"""The address of a document about us, which the suite wants to be our id."""
PATIENCE = 20.0
"""Seconds that a login, or one step of it, may take."""


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
    auth = await asyncio.to_thread(_authorization, scenario, context, url) if scenario.startswith("auth/") else None
    state = tempfile.mkdtemp(prefix="conformance-client-")
    config = MCPServerConfig(SERVER, transport="streamable_http", url=url, required=True, auth=auth, state_dir=state)
    if auth is not None and auth["type"] == AUTHORIZATION_CODE:
        return await _logged_in(config)
    supervisor, tools = build_upstreams([config])
    async with Runtime(Supervisor("root", children=[supervisor, Caller("caller")]), tool_registry=tools) as runtime:
        dispatcher = Dispatcher(runtime)
        asked = [(f"mcp://{SERVER}/{call['name']}", call["arguments"]) for call in context.get("toolCalls", [])]
        if scenario == "json-schema-2020-12-preservation":
            focal, echo = (tools.get(name) for name in tools.names())
            asked = [(echo.name, {"schema": dict(focal.input_schema)})]
        for tool, arguments in asked or [(tool.name, _arguments(tool.name, tool.input_schema)) for tool in tools]:
            await _call(dispatcher, tool, arguments)
    return 0


async def _logged_in(config: MCPServerConfig) -> int:
    """Log in, and call every tool on that connection, so that a server can ask for more scopes meanwhile."""
    loop = asyncio.get_running_loop()
    async with (
        waiting_for_login(0, lambda address: cast("None", loop.run_in_executor(None, _visit, address)), PATIENCE) as login,
        Client(remote(config, Life(Inbox(SystemClock())), login), cache=None) as client,
    ):
        for tool in (await client.list_tools()).tools:
            await client.call_tool(tool.name, _arguments(tool.name, tool.input_schema))
    return 0


def _visit(address: str) -> None:
    """The browser, and somebody who says yes."""
    with suppress(OSError), urllib.request.urlopen(address, timeout=PATIENCE) as answer:  # of the suite
        answer.read()


def _authorization(scenario: str, context: dict[str, Any], url: str) -> dict[str, Any]:
    """The setting `auth` that a person would write who has been given this."""
    known = {key: context[key] for key in ("client_id", "client_secret") if key in context}
    if "wif" in scenario:
        token = Path(tempfile.mkdtemp(prefix="conformance-token-")) / "token"
        token.write_text(context["valid_jwt"])
        return {"type": WORKLOAD, **known, "issuer": _issuer(url), "assertion_file": str(token)}
    if "client-credentials" in scenario:
        signs = {"private_key": context["private_key_pem"], "algorithm": context["signing_algorithm"]} if "jwt" in scenario else {}
        return {"type": CLIENT_CREDENTIALS, **known, **signs, "issuer": _issuer(url)}
    if known:
        return {"type": AUTHORIZATION_CODE, **known, "issuer": context["issuer"]}
    return {"type": AUTHORIZATION_CODE, "client_metadata_url": ABOUT_US, "dpop": "dpop" in scenario}


def _issuer(url: str) -> str:
    """The authorisation server of a server, which the suite does not tell: its metadata do (RFC 9728)."""
    parsed = urlsplit(url)
    where = f"{parsed.scheme}://{parsed.netloc}/.well-known/oauth-protected-resource{parsed.path}"
    try:
        urllib.request.urlopen(urllib.request.Request(url, b"{}", {"Content-Type": "application/json"}), timeout=PATIENCE)
    except urllib.error.HTTPError as refused:
        if told := re.search(r'resource_metadata="([^"]+)"', refused.headers.get("www-authenticate", "")):
            where = told[1]
    with urllib.request.urlopen(where, timeout=PATIENCE) as answer:  # of the suite
        return cast("str", json.load(answer)["authorization_servers"][0])


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
    return {name: _value(about) for name, about in properties.items()}


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
