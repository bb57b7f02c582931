"""How connections come and go: forgotten sessions, servers that are none, eras and lists that are remembered, rests."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.app.factory import create_app
from portico.errors import MCPServerUnavailable
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.calling import upstream
from portico.mcp_bridge.calling.connection import ConnectionStatus
from portico.mcp_bridge.calling.wiring import build_upstreams
from portico.mcp_bridge.config import MCPServerConfig
from tests.app.serving import ANY_PORT, listening
from tests.mcp_bridge.calling.scripted import LIMITS, Request, response, result, scripted
from tests.mcp_bridge.helpers import free_port, serving, until, upstreams

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.anyio


class OldServer:
    """A server of the old era that forgets its sessions once, and says so in its own way."""

    def __init__(self, status: int, error: dict[str, Any] | None) -> None:
        self.status = status
        self.error = error
        self.sessions = 0
        self.current = ""
        self.begun = 0
        self.forgets = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while (part := await receive())["type"] == "http.request":
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        session = dict(scope["headers"]).get(b"mcp-session-id", b"").decode()
        status, answer = self._answer(json.loads(body) if body else {}, session)
        headers = [(b"content-type", b"application/json")]
        if answer is not None and "protocolVersion" in answer.get("result", {}):
            headers.append((b"mcp-session-id", self.current.encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if answer is None else json.dumps(answer).encode()})

    def _answer(self, message: dict[str, Any], session: str) -> tuple[int, dict[str, Any] | None]:
        method, about = message.get("method"), {"jsonrpc": "2.0", "id": message.get("id")}
        if method == "initialize":
            self.sessions += 1
            self.current = f"session-{self.sessions}"
            info = {"name": "old", "version": "1"}
            return 200, {**about, "result": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}}
        if method == "tools/list":
            return 200, {**about, "result": {"tools": [{"name": "act", "inputSchema": {"type": "object"}}]}}
        if method == "tools/call":
            if self.forgets and session == "session-1":
                return self.status, None if self.error is None else {**about, "error": self.error}
            self.begun += 1
            return 200, {**about, "result": {"content": [{"type": "text", "text": session}]}}
        if method == "server/discover":
            return 404, {**about, "error": {"code": -32601, "message": "no such method"}}
        return 202 if method else 405, None


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, None),
        (404, {"code": -32001, "message": "Session not found"}),
        (400, {"code": -32000, "message": "Bad Request: No valid session ID provided"}),
        (400, {"code": -32600, "message": "Session not found"}),
        (400, {"code": -32600, "message": "Server not initialized"}),
    ],
    ids=["404", "404-32001", "400-32000", "400-32600-session", "400-32600-initialized"],
)
async def test_a_forgotten_session_is_opened_anew_and_the_call_begun_once(status: int, error: dict[str, Any] | None) -> None:
    server, port = OldServer(status, error), free_port()
    config = MCPServerConfig("tests", transport="streamable_http", url=f"http://127.0.0.1:{port}/mcp")
    with anyio.fail_after(20):
        async with serving(server, port), upstreams(config) as tools:
            assert await tools.get("mcp://tests/act").execute() == "session-2"
            assert (server.sessions, server.begun) == (2, 1)
            assert tools.connections["tests"].figures.reconnects == 1


async def test_a_request_that_is_wrong_in_itself_ends_no_session() -> None:
    server, port = OldServer(400, {"code": -32600, "message": "Arguments are odd"}), free_port()
    config = MCPServerConfig("tests", transport="streamable_http", url=f"http://127.0.0.1:{port}/mcp")
    with anyio.fail_after(20):
        async with serving(server, port), upstreams(config) as tools:
            with pytest.raises(Exception, match="Arguments are odd"):
                await tools.get("mcp://tests/act").execute()
            assert server.sessions == 1


@asynccontextmanager
async def raw_server(answer: bytes) -> AsyncGenerator[int]:
    """Says the same to everybody, and then nothing."""
    writers: list[asyncio.StreamWriter] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read(1)
        writer.write(answer)

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


ELSEWHERE = b"event: endpoint\r\ndata: http://elsewhere.invalid/messages\r\n\r\n"
NO_SERVERS = {
    "sse-endpoint-elsewhere": (
        "sse",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%s\r\n" % (len(ELSEWHERE), ELSEWHERE),
    ),
    "sse-silence": ("sse", b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "http-silence": ("streamable_http", b""),
    "http-nonsense": ("streamable_http", b"SSH-2.0-OpenSSH_9.2\r\n"),
    "http-html": ("streamable_http", response(b"<html>hello</html>", media_type="text/html", more="Connection: close\r\n")),
    "http-wrong-json": ("streamable_http", response(b"[1, 2]", more="Connection: close\r\n")),
}


@pytest.mark.parametrize("form", NO_SERVERS)
async def test_what_is_no_server_is_given_up_in_time_and_shown_with_its_reason(form: str) -> None:
    transport, answer = NO_SERVERS[form]
    with anyio.fail_after(20):
        async with raw_server(answer) as port:
            url = f"http://127.0.0.1:{port}/mcp"
            config = MCPServerConfig("tests", transport=transport, url=url, timeout=10.0, connect_timeout=0.5)
            async with upstreams(config) as tools:
                shown = tools.connections["tests"].readiness()
                assert shown["ready"] is False
                assert shown["error"]
                with pytest.raises(MCPServerUnavailable):
                    await tools.get("mcp://tests/act").execute()


async def test_a_process_that_writes_nonsense_is_given_up_in_time() -> None:
    script = "import sys\nfor line in sys.stdin: print('hello', flush=True)"
    config = MCPServerConfig("tests", command="python", args=["-c", script], connect_timeout=2.0)
    with anyio.fail_after(20):
        async with upstreams(config) as tools:
            assert tools.connections["tests"].last_error == "it did not answer within 2 s"


def echo(request: Request, _: asyncio.StreamWriter) -> bytes:
    return response(result(request))


async def lose(tools: Any) -> None:
    """The connection is lost, and comes back."""
    connection = tools.connections["tests"]
    before = connection.figures.connects
    connection._life.end("a test")
    await until(lambda: connection.figures.connects > before and connection.status is ConnectionStatus.CONNECTED)


async def test_a_server_that_comes_back_is_not_asked_for_its_era_again_but_for_its_tools() -> None:
    with anyio.fail_after(20):
        async with scripted(echo) as server, upstreams(server.config()) as tools:
            server.tools = [{"name": "other", "inputSchema": {"type": "object"}}]
            await lose(tools)
            assert tools.names() == ["mcp://tests/other"]
            assert server.methods == ["server/discover", "tools/list", "tools/list"]


async def test_a_list_of_tools_is_asked_for_again_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "SHORTEST_TTL", 0.05)
    with anyio.fail_after(20):
        async with scripted(echo) as server:
            server.about_list = {**LIMITS, "ttlMs": 50}
            async with upstreams(server.config()) as tools:
                server.tools = [{"name": "other", "inputSchema": {"type": "object"}}]
                await until(lambda: tools.names() == ["mcp://tests/other"])
                server.about_list = LIMITS
                assert tools.connections["tests"].figures.connects == 1


async def test_a_server_that_fails_too_often_is_left_alone_and_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "REST", 3.0)
    with anyio.fail_after(40):
        async with scripted(echo) as server:
            port = free_port()
            config = MCPServerConfig("tests", transport="streamable_http", url=f"http://127.0.0.1:{port}/mcp", max_restarts=2)
            async with upstreams(config) as tools:
                connection = tools.connections["tests"]
                await until(lambda: connection.status is ConnectionStatus.RESTING)
                attempts = connection.failed_attempts
                assert attempts == 3
                with pytest.raises(MCPServerUnavailable, match="tried too often") as refusal:
                    await tools.get("mcp://tests/act").execute()
                assert 0 < (refusal.value.retry_after or 0) <= 3
                assert connection.failed_attempts == attempts
                assert connection.readiness()["connection"] == "resting"
                assert connection.readiness()["retry_in"] > 0

                async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    there, back = await asyncio.open_connection("127.0.0.1", server.port)
                    async with asyncio.TaskGroup() as tasks:
                        for source, target in ((reader, back), (there, writer)):
                            tasks.create_task(pump(source, target))

                listener = await asyncio.start_server(forward, "127.0.0.1", port)
                await until(lambda: connection.status is ConnectionStatus.CONNECTED)
            listener.close()
            await listener.wait_closed()


async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
    finally:
        target.close()


async def test_the_state_of_every_server_is_shown_on_agents_readyz_and_metrics() -> None:
    async with scripted(echo) as server:
        gone = MCPServerConfig("gone", command="python", args=["-c", "raise SystemExit(3)"], max_restarts=0)
        supervisor, tools = build_upstreams([server.config(), gone])
        runtime = Runtime(Supervisor("root", children=[supervisor]), tool_registry=tools)
        async with asyncio.timeout(30), listening(create_app(runtime, ANY_PORT)) as gateway:
            await tools.get("mcp://tests/act").execute()
            await lose(tools)
            tree = (await gateway.client.get("/agents")).json()
            ready = await gateway.client.get("/readyz?verbose")
            metrics = (await gateway.client.get("/metrics")).text
    bridge = next(child for child in tree["children"] if child["name"] == "mcp")
    nodes = {child["name"]: child for child in bridge["children"]}
    assert nodes["mcp://tests"]["connection"] == "connected"
    assert nodes["mcp://tests"]["reconnects"] == 1
    assert nodes["mcp://gone"]["connection"] == "resting"
    assert "exit code 3" in nodes["mcp://gone"]["error"]
    assert ready.status_code == 200  # no server that the whole depends on
    assert ready.json()["processes"]["mcp://gone"]["ready"] is False
    assert ready.json()["processes"]["mcp://tests"]["era"] == "2026-07-28"
    for line in (
        'portico_mcp_upstream_connected{server="tests"} 1.0',
        'portico_mcp_upstream_connected{server="gone"} 0.0',
        'portico_mcp_upstream_reconnects_total{server="tests"} 1.0',
        'mcp_client_operation_duration_seconds_count{error_type="",mcp_method_name="tools/call",server="tests"} 1.0',
        'portico_mcp_upstream_tools{server="tests"} 3.0',
    ):
        assert line in metrics
