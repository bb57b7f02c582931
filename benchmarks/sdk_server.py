"""The SDK's low-level server with one echo tool, that MCP calls are measured against, over HTTP and over stdio.

It checks nothing of what it is told. `python sdk_server.py` serves stdio; `sdk_server:app` is for uvicorn: in its quickest mode,
which answers nothing but whole JSON, so that whoever leaves cancels nothing. `sdk_server:streaming` does what a gateway must.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import uvloop
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, TextContent, Tool

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


async def on_list(context: ServerRequestContext[Any], params: Any) -> ListToolsResult:
    """The one tool."""
    del context, params
    return ListToolsResult(tools=[Tool(name="echo", input_schema=SCHEMA)])


async def on_call(context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
    """What it is told."""
    del context
    said = {"echo": (params.arguments or {})["text"]}
    return CallToolResult(content=[TextContent(text=json.dumps(said))], structured_content=said)


server: Server[Any] = Server(
    "sdk", version="1", get_tool_input_schema=lambda _: SCHEMA, on_list_tools=on_list, on_call_tool=on_call
)
app = server.streamable_http_app(json_response=True, max_sessions=None)
streaming = server.streamable_http_app(max_sessions=None)


async def serve_stdio() -> None:
    """Until its client leaves."""
    async with stdio_server() as (reads, writes):
        await server.run(reads, writes, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(serve_stdio, backend_options={"loop_factory": uvloop.new_event_loop})
