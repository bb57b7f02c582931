"""MCP as HTTP with SSE (2024-11-05): off unless it is asked for, behind the same guards, ended when the gateway drains."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
from mcp import Client
from mcp.client.sse import sse_client

from portico.app.settings import GatewayConfig
from portico.errors import ConfigurationError
from tests.app.serving import is_problem, raw, served
from tests.mcp_bridge.serving.abuse import ABUSE, At
from tests.routes.agents import Echo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import httpx

    from tests.app.serving import Served

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def stream_of(gateway: Served, path: str = "/mcp/sse", **headers: str) -> AsyncGenerator[tuple[httpx.Response, str]]:
    """An open stream, and where to post messages."""
    async with gateway.client.stream("GET", path, headers={"accept": "text/event-stream", **headers}) as response:
        assert response.status_code == 200
        lines = response.aiter_lines()
        while not (line := await anext(lines)).startswith("data:"):
            pass
        yield response, line.removeprefix("data:").strip()


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_of_the_oldest_form_lists_and_calls(mode: str) -> None:
    async with (
        served(Echo("echo"), mcp_sse=True) as gateway,
        Client(sse_client(f"http://127.0.0.1:{gateway.port}/mcp/sse"), mode=mode) as client,
    ):
        assert "echo" in [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool("echo", {"text": "ü"})
    assert result.structured_content == {"echo": "ü"}


async def test_it_is_off_unless_it_is_asked_for() -> None:
    async with served(Echo("echo")) as gateway:
        is_problem(await gateway.client.get("/mcp/sse"), 404, "not-found")
        is_problem(await gateway.client.post("/mcp/messages"), 404, "not-found")
    with pytest.raises(ConfigurationError, match="mcp_sse is set, but mcp_path is null"):
        GatewayConfig(mcp_path=None, mcp_sse=True)


async def test_it_is_where_the_endpoint_is_and_says_what_methods_there_are() -> None:
    async with served(Echo("echo"), mcp_sse=True, mcp_path="/tools/", compression=True) as gateway:
        async with stream_of(gateway, "/tools/sse") as (_, messages):
            assert messages.startswith("/tools/messages?session_id=")
        refused = await gateway.client.post("/tools/sse")
        is_problem(refused, 405, "method-not-allowed")
        assert refused.headers["allow"] == "GET, HEAD, OPTIONS"
        is_problem(await gateway.client.get("/tools/messages"), 405, "method-not-allowed")


async def test_behind_a_proxy_messages_go_where_the_public_address_says() -> None:
    public = "https://gw.example/agents/"
    async with served(Echo("echo"), mcp_sse=True, public_url=public) as gateway, stream_of(gateway) as (_, messages):
        assert messages.startswith("/agents/mcp/messages?")


async def test_a_stream_ends_when_the_gateway_drains_and_no_other_begins() -> None:
    async with served(Echo("echo"), mcp_sse=True) as gateway, stream_of(gateway) as (response, _):
        gateway.gateway.face.drain()
        with anyio.fail_after(10):
            assert (await response.aread() if not response.is_stream_consumed else b"") == b""
            assert (await gateway.client.get("/mcp/sse")).status_code == 503


async def test_a_key_is_asked_for_and_a_session_is_for_who_opened_it() -> None:
    async with served(Echo("echo"), mcp_sse=True, api_key="sesame") as gateway:
        is_problem(await gateway.client.get("/mcp/sse"), 401, "unauthenticated")
        is_problem(await gateway.client.post("/mcp/messages"), 401, "unauthenticated")
        async with stream_of(gateway, authorization="Bearer sesame") as (_, messages):
            is_problem(await gateway.client.post(messages, json={}), 401, "unauthenticated")


async def test_foreign_hosts_and_origins_are_refused() -> None:
    async with served(Echo("echo"), mcp_sse=True) as gateway:
        for headers in ({"host": "evil.example"}, {"origin": "null"}, {"origin": "http://localhost:1.evil.com"}):
            for method, path in (("GET", "/mcp/sse"), ("POST", "/mcp/messages")):
                response = await gateway.client.request(method, path, headers=headers)
                assert response.status_code in (403, 421)


async def test_messages_that_are_none_are_refused_and_the_session_goes_on() -> None:
    async with served(Echo("echo"), mcp_sse=True, patience=60) as gateway, stream_of(gateway) as (_, messages):
        at = At(f"127.0.0.1:{gateway.port}", path=messages)
        bodies = [case for case in ABUSE if case.attack in (7, 19) and "new era" not in case.name and 200 not in case.statuses]
        for case in bodies:
            async with asyncio.timeout(20):
                answer = await raw(gateway.port, case.request(at))
            assert case.allows(answer.status, answer.body), (case.name, answer)
        for wrong in ("", "?session_id=x", "?session_id=" + "f" * 32):
            response = await gateway.client.post(
                "/mcp/messages" + wrong, json={"jsonrpc": "2.0", "method": "notifications/initialized"}
            )
            assert response.status_code in (400, 404)
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        assert (await gateway.client.post(messages, json=ping)).status_code == 202


async def test_one_caller_has_so_many_streams_and_leaves_room_for_others() -> None:
    async with served(Echo("echo"), mcp_sse=True, mcp_sessions_per_caller=2) as gateway:
        async with stream_of(gateway), stream_of(gateway):
            assert (await gateway.client.get("/mcp/sse")).status_code == 429
        with anyio.fail_after(10):
            while True:
                async with gateway.client.stream("GET", "/mcp/sse") as response:
                    if response.status_code == 200:
                        break
