"""Calls to servers of 2026-07-28 at a URL, which go out without the SDK: every form of answer, byte by byte, from a real socket."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
import pytest

from portico.errors import MCPServerUnavailable, MCPToolError, PorticoError, ToolError
from tests.mcp_bridge.calling.scripted import EVENTS, Request, Scripted, event, response, result, scripted
from tests.mcp_bridge.helpers import upstreams

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.mcp_bridge.calling.toolset import MCPToolSet

pytestmark = pytest.mark.anyio


Answer: TypeAlias = "Callable[[Request, asyncio.StreamWriter], bytes | None]"


async def call(tools: MCPToolSet, tool: str = "act", /, **arguments: Any) -> Any:
    return await tools.get(f"mcp://tests/{tool}").execute(**arguments)


def echo(request: Request, _: object = None) -> bytes:
    return response(result(request, structuredContent=request.message["params"]["arguments"]))


async def outcome(answer: Answer, tool: str = "act", **settings: Any) -> tuple[Any, Scripted]:
    """What one call comes to: its value or its error."""
    async with scripted(answer) as server, upstreams(server.config(timeout=10.0, **settings)) as tools:
        try:
            return await call(tools, tool), server
        except PorticoError as error:
            return error, server


async def test_calls_one_after_the_other_share_a_connection_and_calls_at_once_do_not_wait_for_each_other() -> None:
    with anyio.fail_after(20):
        async with scripted(echo) as server, upstreams(server.config(headers={"X-Key": "k"})) as tools:
            before = server.connections
            for number in range(20):
                assert await call(tools, "act", number=number) == {"number": number}
            assert server.connections == before + 1
            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(call, tools)
            assert server.connections <= before + 8
    request = server.calls[0]
    assert not any(one.by_sdk for one in server.calls)
    assert request.headers["mcp-method"] == "tools/call"
    assert request.headers["mcp-name"] == "act"
    assert request.headers["mcp-protocol-version"] == request.message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"]
    assert request.headers["x-key"] == "k"


async def test_a_server_that_closes_after_each_answer_or_has_no_lengths_is_understood() -> None:
    def closing(request: Request, _: asyncio.StreamWriter) -> bytes:
        return response(result(request, structuredContent={"n": 1}), more="Connection: close\r\n")

    with anyio.fail_after(20):
        async with scripted(closing) as server, upstreams(server.config()) as tools:
            assert [await call(tools) for _ in range(3)] == [{"n": 1}] * 3
    assert len(server.calls) == 3

    def until_the_end(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + result(request, structuredContent={"n": 2}))
        writer.write_eof()

    with anyio.fail_after(20):
        async with scripted(until_the_end) as server, upstreams(server.config()) as tools:
            assert await call(tools) == {"n": 2}


async def test_an_answer_in_pieces_and_after_an_interim_response_is_put_together() -> None:
    def in_pieces(request: Request, writer: asyncio.StreamWriter) -> bytes:
        whole = b"HTTP/1.1 100 Continue\r\n\r\n" + response(result(request, structuredContent={"text": "é" * 50}))
        for byte in whole:
            writer.write(bytes([byte]))
        return b""

    with anyio.fail_after(20):
        async with scripted(in_pieces) as server, upstreams(server.config()) as tools:
            assert await call(tools) == {"text": "é" * 50}


async def test_what_follows_an_answer_at_once_changes_it_in_nothing_and_answers_no_other_call() -> None:
    def twice(request: Request, _: asyncio.StreamWriter) -> bytes:
        early = b"HTTP/1.1 103 Early Hints\r\nContent-Type: text/event-stream\r\n\r\n"
        other = response(result(request, structuredContent={"n": 0}), "500 Oh", "text/event-stream")
        return early + response(result(request, structuredContent={"n": len(server.calls)})) + other

    with anyio.fail_after(20):
        async with scripted(twice) as server, upstreams(server.config()) as tools:
            assert [await call(tools) for _ in range(3)] == [{"n": 1}, {"n": 2}, {"n": 3}]


async def test_events_before_the_result_are_heard_and_the_result_is_what_counts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "portico.mcp.tests")

    def with_events(request: Request, _: asyncio.StreamWriter) -> bytes:
        told = {"level": "warning", "logger": "disk", "data": "nearly\nfull"}
        return (
            EVENTS
            + event({"method": "notifications/message", "params": told})
            + event({"method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}})
            + event({"method": "something/else", "params": {}})
            + event(result(request, structuredContent={"n": 1}))
            + b"0\r\n\r\n"
        )

    with anyio.fail_after(20):
        async with scripted(with_events) as server, upstreams(server.config(log_level="info")) as tools:
            before = server.connections
            assert [await call(tools) for _ in range(3)] == [{"n": 1}] * 3
            assert server.connections == before + 1
    assert server.calls[0].message["params"]["_meta"]["io.modelcontextprotocol/logLevel"] == "info"
    logged = [record for record in caplog.records if "disk" in record.getMessage()]
    assert [(record.levelname, record.getMessage()) for record in logged[:1]] == [("WARNING", "disk: nearly full")]


async def test_a_stream_that_does_not_end_after_its_result_keeps_nobody_waiting() -> None:
    def open_end(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS + event(result(request, structuredContent={"n": 1})))

    with anyio.fail_after(20):
        async with scripted(open_end) as server, upstreams(server.config()) as tools:
            assert [await call(tools) for _ in range(3)] == [{"n": 1}] * 3
            await server.gone.wait()


NO_ANSWERS: Final[dict[str, tuple[Answer, str]]] = {
    "another-protocol": (lambda _request, _writer: b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
    "html": (lambda _request, _writer: response(b"<html>"), "not JSON"),
    "a-list": (lambda _request, _writer: response(b"[1]"), "no JSON-RPC message"),
    "neither": (lambda _request, _writer: response(b'{"jsonrpc":"2.0","id":1}'), "neither a result nor an error"),
    "wrong-content": (lambda request, _: response(result(request, content="text")), "breaks the protocol"),
    "unknown-type": (lambda request, _: response(result(request, resultType="task")), "'task'"),
    "bad-gateway": (lambda _request, _writer: response(b"no", "502 Bad Gateway", "text/plain"), "502 Bad Gateway"),
    "accepted": (lambda _request, _writer: response(b"", "202 Accepted"), "not JSON"),
    "broken-event": (lambda _request, _writer: EVENTS + event(b"{") + b"0\r\n\r\n", "not JSON"),
    "empty-stream": (lambda _request, _writer: EVENTS + b"0\r\n\r\n", "ended without an answer"),
    "endless-header": (lambda _request, _writer: b"HTTP/1.1 200 OK\r\nX: " + b"x" * 3_000_000, "are no answer"),
    "endless-interim": (lambda _request, _writer: b"HTTP/1.1 102 Processing\r\n\r\n" * 10_000, "are no answer"),
    "endless-trailer": (lambda _request, _writer: EVENTS + b"0\r\nX: " + b"x" * 3_000_000, "are no answer"),
    "error": (
        lambda _request, _writer: response(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no paper"}}'),
        "no paper",
    ),
    "error-500": (
        lambda _request, _writer: response(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no ink"}}', "500 Oh"),
        "no ink",
    ),
    "tool-error": (lambda request, _: response(result(request, isError=True, content=[{"type": "text", "text": "full"}])), "full"),
}


@pytest.mark.parametrize("form", NO_ANSWERS)
async def test_an_answer_that_is_none_is_an_error_of_the_tool_and_the_call_is_sent_once(form: str) -> None:
    answer, sentence = NO_ANSWERS[form]
    with anyio.fail_after(30):
        error, server = await outcome(answer)
    assert isinstance(error, MCPToolError)
    assert sentence in str(error)
    assert len(server.calls) == 1


@pytest.mark.parametrize("structured", [{"n": "one"}, None])
async def test_a_result_that_breaks_the_tools_own_output_schema_is_an_error_with_the_reason(structured: Any) -> None:
    content = {} if structured is None else {"structuredContent": structured}
    with anyio.fail_after(20):
        error, server = await outcome(lambda request, _: response(result(request, **content)), "count")
    assert isinstance(error, MCPToolError)
    assert "cannot be used" in str(error)
    assert "structured content" in str(error)
    assert len(server.calls) == 1


@pytest.mark.parametrize("status", ["401 Unauthorized", "404 Not Found", "307 Temporary Redirect"])
async def test_what_the_server_has_not_begun_is_sent_again_by_the_sdks_client(status: str) -> None:
    def refusing(request: Request, _: asyncio.StreamWriter) -> bytes:
        if request.by_sdk:
            return echo(request)
        return response(b"", status, "text/plain", more="Location: /elsewhere\r\n" if status.startswith("3") else "")

    with anyio.fail_after(20):
        value, server = await outcome(refusing)
    assert value == {}
    assert [request.by_sdk for request in server.calls] == [False, True]


async def test_a_tool_that_mirrors_arguments_in_headers_is_called_by_the_sdks_client_alone() -> None:
    async with scripted(echo) as server:
        region = {"type": "string", "x-mcp-header": "Region"}
        server.tools = [{"name": "act", "inputSchema": {"type": "object", "properties": {"region": region}}}]
        with anyio.fail_after(20):
            async with upstreams(server.config()) as tools:
                assert await call(tools, "act", region="eu") == {"region": "eu"}
    assert [(request.by_sdk, request.headers.get("mcp-param-region")) for request in server.calls] == [(True, "eu")]


async def test_a_wish_for_input_that_nobody_can_meet_is_declined_by_the_sdks_client() -> None:
    def wishing(request: Request, _: asyncio.StreamWriter) -> bytes:
        wish = {"method": "elicitation/create", "params": {"message": "Who?", "requestedSchema": {"type": "object"}}}
        return response(result(request, resultType="input_required", inputRequests={"who": wish}, requestState="s"))

    with anyio.fail_after(20):
        error, _ = await outcome(wishing)
    assert isinstance(error, MCPToolError)


async def test_a_call_that_wants_no_input_but_another_attempt_goes_on_with_its_state() -> None:
    def twice(request: Request, _: asyncio.StreamWriter) -> bytes:
        if request.message["params"].get("requestState") == "half":
            return response(result(request, structuredContent={"done": True}))
        return response(result(request, resultType="input_required", requestState="half"))

    with anyio.fail_after(20):
        value, server = await outcome(twice)
    assert value == {"done": True}
    assert [request.by_sdk for request in server.calls] == [False, True]


@pytest.mark.parametrize(("tool", "sent"), [("act", 1), ("look", 2)])
async def test_a_connection_that_ends_before_the_answer_repeats_only_what_does_no_harm(tool: str, sent: int) -> None:
    def hang_up(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    with anyio.fail_after(20):
        async with scripted(hang_up) as server, upstreams(server.config()) as tools:
            with pytest.raises(MCPServerUnavailable, match="not known"):
                await call(tools, tool)
    assert len(server.calls) == sent


async def test_a_kept_connection_that_the_server_has_closed_is_not_used() -> None:
    writers: list[asyncio.StreamWriter] = []

    def kept(request: Request, writer: asyncio.StreamWriter) -> bytes:
        writers.append(writer)
        return echo(request)

    with anyio.fail_after(20):
        async with scripted(kept) as server, upstreams(server.config()) as tools:
            for _ in range(20):
                assert await call(tools) == {}
                # At once, so that the client's event loop has had no turn to hear of it.
                writers.pop().get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            assert len(server.calls) == 20


async def test_a_cancelled_call_closes_its_connection_and_no_other() -> None:
    begun = asyncio.Event()

    def silent(_request: Request, _writer: asyncio.StreamWriter) -> None:
        begun.set()

    with anyio.fail_after(20):
        async with scripted(silent) as server, upstreams(server.config()) as tools, anyio.create_task_group() as tasks:
            tasks.start_soon(call, tools)
            await begun.wait()
            tasks.cancel_scope.cancel()
        await server.gone.wait()


@pytest.mark.parametrize("odd", [float("nan"), object()], ids=["nan", "object"])
async def test_arguments_that_are_not_json_are_refused_and_nothing_is_sent(odd: Any) -> None:
    with anyio.fail_after(20):
        async with scripted(echo) as server, upstreams(server.config()) as tools:
            with pytest.raises(ToolError, match="not JSON"):
                await call(tools, "act", odd=odd)
            assert server.calls == []


async def test_a_call_that_gets_no_answer_in_time_says_so() -> None:
    def silent(_request: Request, _writer: asyncio.StreamWriter) -> None:
        pass

    with anyio.fail_after(20):
        async with scripted(silent) as server, upstreams(server.config(timeout=0.5, connect_timeout=10.0)) as tools:
            with pytest.raises(MCPToolError, match=r"no answer within 0.5 s"):
                await call(tools)
            await server.gone.wait()


async def test_after_a_call_whose_connection_broke_no_question_is_taken_for_the_next_calls() -> None:
    def cut(_: Request, writer: asyncio.StreamWriter) -> bytes:
        writer.transport.abort()
        return b""

    elsewhere = copy_context()  # as of a stream that belongs to no call
    with anyio.fail_after(20):
        async with scripted(cut) as server, upstreams(server.config()) as tools:
            calls = tools.connections["tests"].calls
            with calls.opened("first") as first:
                assert elsewhere.run(calls.whose) is first
            with pytest.raises(MCPServerUnavailable):
                await call(tools)
            with calls.opened("next"):
                assert elsewhere.run(calls.whose) is None
