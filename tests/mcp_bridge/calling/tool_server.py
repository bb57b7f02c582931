"""A small external MCP server for the tests: `python tool_server.py [--http PORT] [--notes FILE]`. Not a test."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ImageContent, TextContent, ToolAnnotations
from pydantic import BaseModel

parser = argparse.ArgumentParser()
parser.add_argument("--http", type=int)
parser.add_argument("--sse", type=int)
parser.add_argument("--old", action="store_true")
parser.add_argument("--notes", type=Path)
options = parser.parse_args()

server = MCPServer("tests", log_level="ERROR")


def note(line: str) -> None:
    if options.notes is not None:
        with options.notes.open("a", encoding="utf-8") as notes:
            notes.write(line + "\n")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def pid() -> int:
    """The number of the server's process."""
    return os.getpid()


@server.tool()
def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


@server.tool(structured_output=False)
def greet(name: str) -> str:
    """A greeting."""
    sys.stderr.write(f"greeting {name}\n")
    sys.stderr.flush()
    return f"Hello, {name}!"


@server.tool(structured_output=False)
def picture() -> Any:
    """A text and an image."""
    return CallToolResult(content=[TextContent(text="look"), ImageContent(data="aGk=", mime_type="image/png")])


@server.tool()
def fail(why: str) -> str:
    """Answers an error."""
    raise ToolError(why)


@server.tool(structured_output=False)
def big(size: int) -> str:
    """A text of that many characters."""
    return "x" * size


@server.tool()
def environment() -> dict[str, str]:
    """The environment of the server."""
    return dict(os.environ)


@server.tool()
async def wait_writing() -> str:
    """Takes long, and is not to be called twice."""
    note("writing")
    await asyncio.sleep(60)
    return "late"


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def wait_reading() -> str:
    """Takes long the first time, and may be called twice."""
    note("reading")
    if options.notes is not None and options.notes.read_text().count("reading") > 1:
        return "read"
    await asyncio.sleep(60)
    return "late"


@server.tool()
async def wait_cancelled() -> str:
    """Takes long, and notes that it was cancelled."""
    note("began")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        note("cancelled")
        raise
    return "late"


@server.tool()
async def climb(to: int, context: Context[Any]) -> int:
    """Tells of each step."""
    for step in range(1, to + 1):
        await context.report_progress(step, to, f"step {step}")
    return to


@server.tool()
async def complain(of: str, context: Context[Any]) -> str:
    """Writes a log message for the client."""
    with warnings.catch_warnings(action="ignore"):
        await context.error(f"I cannot stand {of}")  # pyright: ignore[reportDeprecated]
    return "said"


@server.tool()
def leave_a_child() -> int:
    """Starts a process that outlives its parent and holds its pipes."""
    return subprocess.Popen(["sleep", "60"]).pid


@server.tool()
async def grow(context: Context[Any]) -> str:
    """Gives the server one more tool, and tells so."""
    server.add_tool(lambda: "new", name="grown", description="A later tool.")
    await context.notify_tools_changed()
    await context.request_context.session.send_tool_list_changed()
    return "grown"


class Colour(BaseModel):
    color: str


@server.tool(structured_output=False)
async def elicit(about: str, context: Context[Any]) -> str:
    """Asks for a colour."""
    answer = await context.elicit(f"Which colour, about {about}?", Colour)
    return f"{about}: {answer.action} {answer.data.color if answer.action == 'accept' else ''}"


if options.old:
    del server._lowlevel_server._request_handlers["server/discover"]  # pyright: ignore[reportPrivateUsage]  # no other way to be old

if options.http is not None:
    server.run("streamable-http", port=options.http)
elif options.sse is not None:
    server.run("sse", port=options.sse)
else:
    server.run("stdio")
