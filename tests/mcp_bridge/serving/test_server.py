"""Agents as MCP tools over HTTP, asked by the SDK's own client in both eras."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import INVALID_PARAMS, EmbeddedResource, ImageContent, TextContent

from portico.errors import ConfigurationError
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.serving.http import MCPEndpoint
from portico.mcp_bridge.serving.served import Served
from portico.mcp_bridge.serving.server import build_server
from portico.runs.dispatcher import Dispatcher
from tests.mcp_bridge.helpers import Bare, Greeter, Slow, Sums, Who, free_port, gateway

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp.types import CallToolResult

pytestmark = pytest.mark.anyio

ERAS = ["2026-07-28", "legacy"]


@pytest.fixture(params=[*ERAS, "auto"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return request.param


def text(result: CallToolResult) -> str:
    return "\n".join(part.text for part in result.content if isinstance(part, TextContent))


def problem(result: CallToolResult) -> dict[str, Any]:
    assert result.is_error
    assert result.meta is not None
    return result.meta["portico/error"]


@asynccontextmanager
async def client_as(who: str, url: str, era: str) -> AsyncGenerator[Client]:
    async with (
        httpx2.AsyncClient(headers={"x-who": who}) as http,
        Client(streamable_http_client(url, http_client=http), mode=era) as client,
    ):
        yield client


async def test_every_operation_is_a_tool_in_the_order_of_names(mode: str) -> None:
    async with gateway(Sums("sums"), Greeter("greeter")) as (url, _), Client(url, mode=mode) as client:
        tools = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == [
        "fetch_result",
        "greeter",
        "sums-break_contract",
        "sums-crash",
        "sums-forget",
        "sums-refuse",
        "sums-total",
    ]
    greet = tools[1]
    assert (greet.title, greet.description) == ("Greet somebody", "Greets somebody, up to three times.")
    assert greet.annotations is not None
    assert (greet.annotations.read_only_hint, greet.annotations.idempotent_hint) == (True, True)
    assert greet.annotations.destructive_hint is None
    assert greet.input_schema["properties"]["times"]["maximum"] == 3
    assert greet.output_schema is not None
    assert greet.output_schema["properties"]["text"]["type"] == "string"


async def test_a_typed_reply_is_structured_and_text(mode: str) -> None:
    async with gateway(Greeter("greeter")) as (url, _), Client(url, mode=mode) as client:
        result = await client.call_tool("greeter", {"name": "Ada", "times": 2})
    assert result.structured_content == {"text": "Hello, Ada! Hello, Ada!"}
    assert json.loads(text(result)) == result.structured_content


async def test_what_is_no_object_stands_under_a_member_of_one(era: str) -> None:
    async with gateway(Sums("sums")) as (url, _), Client(url, mode=era) as client:
        tool = next(tool for tool in (await client.list_tools()).tools if tool.name == "sums-total")
        result = await client.call_tool("sums-total", {"payload": [1, 2, 3]})
        missing = await client.call_tool("sums-total", {"numbers": [1]})
        wrong = await client.call_tool("sums-total", {"payload": ["x"]})
    assert tool.input_schema["properties"]["payload"]["type"] == "array"
    assert result.structured_content == {"result": 6}
    assert {fault["path"] for fault in problem(missing)["errors"]} == {"/numbers", "/payload"}
    assert problem(wrong)["errors"][0]["path"] == "/payload/0"


async def test_an_agent_without_a_contract_takes_any_object(era: str) -> None:
    async with gateway(Bare("bare")) as (url, _), Client(url, mode=era) as client:
        (tool,) = [tool for tool in (await client.list_tools()).tools if tool.name != "fetch_result"]
        reply = await client.call_tool("bare", {"a": [1]})
        just_text = await client.call_tool("bare", {"want": "text"})
        image = await client.call_tool("bare", {"want": "bytes"})
        missing = await client.call_tool("bare", {"want": "missing"})
    assert tool.input_schema == {"type": "object", "additionalProperties": True}
    assert tool.output_schema is None
    assert reply.structured_content == {"got": {"a": [1]}}
    assert (text(just_text), just_text.structured_content) == ("just text", None)
    assert isinstance(image.content[0], ImageContent)
    assert not isinstance(image.content[0], EmbeddedResource)
    assert missing.is_error


async def test_an_operation_that_returns_nothing_has_an_empty_result(era: str) -> None:
    async with gateway(Sums("sums")) as (url, _), Client(url, mode=era) as client:
        result = await client.call_tool("sums-forget", {})
    assert (result.is_error, result.content, result.structured_content) == (False, [], None)


async def test_a_broken_contract_is_an_error_that_names_every_fault(era: str) -> None:
    async with gateway(Greeter("greeter")) as (url, _), Client(url, mode=era) as client:
        result = await client.call_tool("greeter", {"name": "", "times": 9})
    assert problem(result)["slug"] == "contract-violated"
    assert {fault["path"] for fault in problem(result)["errors"]} == {"/name", "/times"}
    assert "/name" in text(result)
    assert "/times" in text(result)


async def test_errors_of_the_agent_are_tool_errors_with_their_slug(era: str) -> None:
    async with gateway(Sums("sums")) as (url, _), Client(url, mode=era) as client:
        refused = await client.call_tool("sums-refuse", {})
        broken = await client.call_tool("sums-break_contract", {})
        crashed = await client.call_tool("sums-crash", {})
    assert (problem(refused)["slug"], problem(refused)["limit"], text(refused)) == ("too-much", 3, "I have enough.")
    assert problem(broken)["slug"] == "invalid-reply"
    assert problem(crashed)["slug"] == "agent-crashed"
    assert "the secret of the house" not in crashed.model_dump_json()


async def test_an_unknown_tool_is_refused_with_the_nearest_name(era: str) -> None:
    async with gateway(Greeter("greeter")) as (url, _), Client(url, mode=era) as client:
        with pytest.raises(MCPError, match=r"no tool 'greter'.*'greeter'") as refusal:
            await client.call_tool("greter", {})
    assert refusal.value.code == INVALID_PARAMS


async def test_progress_of_the_run_reaches_a_client_that_asked_for_it_and_only_grows(era: str) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async with gateway(Slow("slow")) as (url, _), Client(url, mode=era) as client:
        result = await client.call_tool("slow-count", {"to": 3}, progress_callback=on_progress)
    assert result.structured_content == {"result": 3}
    assert told == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]


@pytest.mark.parametrize("with_progress", [False, True])
async def test_a_client_that_cancels_cancels_the_handler(era: str, *, with_progress: bool) -> None:
    slow = Slow("slow")

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        pass

    with anyio.fail_after(10):
        async with gateway(slow) as (url, _), Client(url, mode=era) as client, anyio.create_task_group() as tasks:

            async def call() -> None:
                await client.call_tool("slow-wait", {}, progress_callback=on_progress if with_progress else None)

            tasks.start_soon(call)
            await slow.began.wait()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await slow.cancelled.wait()


async def test_a_client_of_the_new_era_that_goes_away_cancels_the_handler() -> None:
    slow = Slow("slow")
    body: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": "slow-wait",
            "arguments": {},
            "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}},
        },
    }
    head = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "slow-wait",
    }
    with anyio.fail_after(10):
        async with gateway(slow) as (url, _), httpx2.AsyncClient() as http:
            async with asyncio.TaskGroup() as tasks:
                request = tasks.create_task(http.post(url, json=body, headers=head))
                await slow.began.wait()
                request.cancel()
            await slow.cancelled.wait()


async def test_the_principal_of_the_request_is_the_principal_of_the_call(era: str) -> None:
    async with gateway(Who("who")) as (url, _), client_as("ada", url, era) as client:
        result = await client.call_tool("who", {})
    assert result.structured_content == {"principal": "ada"}


async def test_a_session_of_somebody_else_does_not_exist() -> None:
    initialize = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }
    accept = {"accept": "application/json, text/event-stream"}
    async with gateway(Who("who")) as (url, _), httpx2.AsyncClient() as http:
        opened = await http.post(url, json=initialize, headers={**accept, "x-who": "ada"})
        session = {**accept, "mcp-session-id": opened.headers["mcp-session-id"]}
        listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        hers = await http.post(url, json=listing, headers={**session, "x-who": "ada"})
        his = await http.post(url, json=listing, headers={**session, "x-who": "bob"})
        nobodys = await http.post(url, json=listing, headers=session)
    assert (opened.status_code, hers.status_code, his.status_code, nobodys.status_code) == (200, 200, 404, 404)


@pytest.mark.parametrize("version", [None, "2026-07-28"])
async def test_foreign_hosts_and_origins_are_refused_by_exact_comparison(version: str | None) -> None:
    port = free_port()
    ours = f"127.0.0.1:{port}"
    accept = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    head = accept if version is None else {**accept, "mcp-protocol-version": version}
    async with gateway(Who("who"), allowed_hosts=[ours], port=port) as (url, _), httpx2.AsyncClient() as http:

        async def status(**headers: str) -> int:
            return (await http.post(url, content=b"{}", headers={**head, **headers})).status_code

        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"{ours}@evil", f"{ours}.evil.example"):
            assert await status(host=host) == 421, host
        for origin in ("null", "http://evil.example", f"http://{ours}.evil.example", "http://127.0.0.1:1"):
            assert await status(origin=origin) == 403, origin
        assert await status(origin=f"http://{ours}") == 400  # let in: the body is what is wrong


def test_a_wildcard_among_the_allowed_hosts_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"'localhost:\*'"):
        MCPEndpoint(Dispatcher(Runtime()), allowed_hosts=["localhost:*"])


async def test_a_body_over_the_limit_is_refused() -> None:
    async with gateway(Who("who")) as (url, _), httpx2.AsyncClient() as http:
        answer = await http.post(url, content=b" " * (4 * 1024 * 1024 + 1), headers={"content-type": "application/json"})
    assert answer.status_code == 413


async def test_draining_ends_open_streams_whole_and_takes_no_new_ones() -> None:
    initialize = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }
    accept = {"accept": "application/json, text/event-stream"}
    with anyio.fail_after(10):
        async with gateway(Who("who")) as (url, endpoint), httpx2.AsyncClient() as http:
            opened = await http.post(url, json=initialize, headers=accept)
            session = {"accept": "text/event-stream", "mcp-session-id": opened.headers["mcp-session-id"]}
            async with http.stream("GET", url, headers=session) as stream:
                assert stream.status_code == 200
                endpoint.drain()
                await stream.aread()  # ends without an error
            assert (await http.get(url, headers=session)).status_code == 503


async def test_outside_its_lifespan_it_answers_503_and_each_lifespan_is_a_fresh_one() -> None:
    async with Runtime(Supervisor("root", children=[Who("who")])) as runtime:
        endpoint = MCPEndpoint(Dispatcher(runtime), allowed_hosts=None)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=endpoint), base_url="http://t") as http:
            assert (await http.post("/mcp", json={})).status_code == 503
            for _ in range(2):
                async with endpoint.lifespan():
                    assert (await http.post("/mcp", json={})).status_code == 400  # let in: the body is what is wrong
            assert (await http.post("/mcp", json={})).status_code == 503


async def test_the_trace_of_the_caller_reaches_the_call_where_it_is_well_formed() -> None:
    seen: list[str | None] = []

    class Traced(Who):
        async def handle(self, message: Any) -> Any:
            seen.append(message.traceparent)
            return "seen"

    async with (
        Runtime(Supervisor("root", children=[Traced("traced")])) as runtime,
        Client(build_server(Served(Dispatcher(runtime)))) as client,
    ):
        for traceparent in (f"00-{'a' * 32}-{'b' * 16}-01", "nonsense"):
            await client.call_tool("traced-message", {}, meta={"traceparent": traceparent})
    assert seen == [f"00-{'a' * 32}-{'b' * 16}-01", None]
