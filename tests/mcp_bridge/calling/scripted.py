"""A server of MCP 2026-07-28 whose answers to `tools/call` a test writes byte by byte. Not a test."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from portico.mcp_bridge.config import MCPServerConfig

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

LIMITS: Final = {"ttlMs": 0, "cacheScope": "private"}
TOOLS: Final[list[dict[str, Any]]] = [
    {"name": "act", "inputSchema": {"type": "object"}},
    {"name": "look", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
    {
        "name": "count",
        "inputSchema": {"type": "object"},
        "outputSchema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    },
]


@dataclass(frozen=True, slots=True)
class Request:
    """One request that the server got."""

    headers: dict[str, str]
    message: dict[str, Any]
    by_sdk: bool
    """Whether the SDK's client sent it; the direct one names no user agent."""

    @property
    def id(self) -> Any:
        return self.message["id"]


@dataclass(slots=True)
class Scripted:
    """What a test knows of the server."""

    port: int = 0
    calls: list[Request] = field(default_factory=list[Request])
    methods: list[str] = field(default_factory=list[str])
    connections: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client closed a connection while its call was open."""
    tools: list[dict[str, Any]] = field(default_factory=lambda: list(TOOLS))
    about_list: dict[str, Any] = field(default_factory=lambda: dict(LIMITS))

    def config(self, **settings: Any) -> MCPServerConfig:
        return MCPServerConfig("tests", transport="streamable_http", url=f"http://127.0.0.1:{self.port}/mcp", **settings)


def response(body: bytes, status: str = "200 OK", media_type: str = "application/json", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def result(request: Request, **content: Any) -> bytes:
    """The JSON of a complete result."""
    about: dict[str, Any] = {"resultType": "complete", "content": [], **content}
    return json.dumps({"jsonrpc": "2.0", "id": request.id, "result": about}).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(message: dict[str, Any] | bytes) -> bytes:
    data = message if isinstance(message, bytes) else json.dumps({"jsonrpc": "2.0", **message}).encode()
    return chunk(b"event: message\r\ndata: " + data + b"\r\n\r\n")


EVENTS: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(headers, json.loads(body) if body else {}, "user-agent" in headers)


def _known(server: Scripted, message: dict[str, Any]) -> bytes:
    about: dict[str, Any] = {"tools": server.tools, **server.about_list}
    if message["method"] == "server/discover":
        about = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **LIMITS}
    return response(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"resultType": "complete", **about}}).encode())


@asynccontextmanager
async def scripted(answer: Callable[[Request, asyncio.StreamWriter], bytes | None]) -> AsyncGenerator[Scripted]:
    """The server; `answer` is given each `tools/call`. It returns the answer; or None, and writes what it likes itself."""
    server = Scripted()
    writers: set[asyncio.StreamWriter] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        writers.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                request = await _read(reader)
                server.methods.append(request.message["method"])
                if request.message["method"] != "tools/call":
                    writer.write(_known(server, request.message))
                    continue
                server.calls.append(request)
                given = answer(request, writer)
                if given is not None:
                    writer.write(given)
                elif not await reader.read(1):
                    server.gone.set()
                    break
        writers.discard(writer)
        writer.close()

    listener = await asyncio.start_server(carry, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for writer in list(writers):
            writer.transport.abort()
        await listener.wait_closed()
