"""`portico mcp --url`: a real process between the SDK's own client and a gateway that is a process too, in both eras."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.types import ElicitResult

from tests.cli.programs import environment
from tests.mcp_bridge.helpers import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

GATEWAY = Path(__file__).with_name("gateway.py")
ERAS = ["2026-07-28", "legacy"]
INITIALIZE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
META: dict[str, Any] = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


@pytest.fixture(params=[*ERAS, "auto"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return request.param


@asynccontextmanager
async def process(*command: str, **more: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    one = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment(more)
    )
    try:
        yield one
    finally:
        if one.returncode is None:
            one.kill()
        await one.communicate()


@asynccontextmanager
async def gateway(port: int, *arguments: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A gateway that listens."""
    async with process(str(GATEWAY), str(port), *arguments) as one:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                assert one.returncode is None
                await asyncio.sleep(0.02)
                continue
            writer.close()
            await writer.wait_closed()
            break
        yield one


def relay(port: int, **more: str) -> StdioServerParameters:
    arguments = ["-m", "portico", "mcp", "--url", f"http://127.0.0.1:{port}/mcp"]
    return StdioServerParameters(command=sys.executable, args=arguments, env=environment(more))


@asynccontextmanager
async def client(port: int, era: str, **more: Any) -> AsyncGenerator[Client]:
    with anyio.fail_after(60):
        async with Client(stdio_client(relay(port)), mode=era, **more) as one:
            yield one


async def lines(stream: asyncio.StreamReader | None) -> dict[str, Any]:
    assert stream is not None
    with anyio.fail_after(30):
        return json.loads(await stream.readline())


def say(one: asyncio.subprocess.Process, message: Any) -> None:
    assert one.stdin is not None
    one.stdin.write((message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n")


async def test_tools_are_listed_and_called_in_every_era(mode: str) -> None:
    port = free_port()
    async with gateway(port), client(port, mode) as one:
        names = [tool.name for tool in (await one.list_tools()).tools]
        results = [await one.call_tool("echo", {"text": "ü" * size}) for size in (1, 200_000)]
        missing = await one.call_tool("echo", {})
        with pytest.raises(MCPError, match="none"):
            await one.call_tool("none", {})
    assert {"echo", "slow-count", "slow-wait", "who"} <= set(names)
    assert [result.structured_content for result in results] == [{"echo": "ü"}, {"echo": "ü" * 200_000}]
    assert missing.is_error


async def test_calls_go_on_side_by_side(era: str) -> None:
    port = free_port()
    async with gateway(port), client(port, era) as one:
        results: dict[int, Any] = {}

        async def call(number: int) -> None:
            results[number] = (await one.call_tool("echo", {"text": str(number)})).structured_content

        async with anyio.create_task_group() as tasks:
            for number in range(32):
                tasks.start_soon(call, number)
    assert results == {number: {"echo": str(number)} for number in range(32)}


async def test_progress_comes_through(era: str) -> None:
    port = free_port()
    told: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async with gateway(port), client(port, era) as one:
        await one.call_tool("slow-count", {"to": 3}, progress_callback=note)
    assert told[-1] == (3, 3, "step 3")


async def test_a_call_that_is_cancelled_is_cancelled_in_the_agent(era: str) -> None:
    port = free_port()
    async with gateway(port) as server, client(port, era) as one:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.call_tool, "slow-wait", dict[str, Any]())
            assert server.stdout is not None
            assert await server.stdout.readline() == b"began\n"
            tasks.cancel_scope.cancel()
        assert server.stdout is not None
        with anyio.fail_after(20):
            assert await server.stdout.readline() == b"cancelled\n"
        assert (await one.call_tool("echo", {"text": "a"})).structured_content == {"echo": "a"}


async def test_a_gateway_that_is_restarted_is_found_again(era: str) -> None:
    port = free_port()
    async with (
        gateway(port) as first,
        process(str(GATEWAY), str(port), WAIT="1") as second,
        client(port, era) as one,
    ):
        await one.call_tool("echo", {"text": "a"})
        assert second.stdout is not None
        assert await second.stdout.readline() == b"ready\n"
        first.kill()
        await first.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.call_tool, "echo", {"text": "waits for it"})
            say(second, b"serve")
        assert (await one.call_tool("echo", {"text": "b"})).structured_content == {"echo": "b"}
        assert (await one.list_tools()).tools


async def test_a_call_under_way_when_the_gateway_dies_ends_with_a_sentence_and_is_not_sent_again(era: str) -> None:
    port = free_port()
    async with gateway(port) as first, client(port, era) as one:
        ended: list[str] = []

        async def call() -> None:
            try:
                await one.call_tool("slow-wait", {})
            except MCPError as error:
                ended.append(error.error.message)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            assert first.stdout is not None
            assert await first.stdout.readline() == b"began\n"
            first.kill()
        assert len(ended) == 1
        assert "answer" in ended[0]
        assert str(port) in ended[0]


@pytest.mark.parametrize("mode_", ["2026-07-28", "legacy"])
async def test_a_gateway_that_is_not_there_is_a_clear_sentence_and_not_the_end(mode_: str) -> None:
    port = free_port()
    asked: dict[str, Any] = (
        INITIALIZE if mode_ == "legacy" else {**INITIALIZE, "method": "server/discover", "params": {"_meta": META}}
    )
    async with process("-m", "portico", "mcp", "--url", f"http://127.0.0.1:{port}/mcp") as one:
        say(one, asked)
        answer = await lines(one.stdout)
        assert answer["id"] == 1
        assert f"http://127.0.0.1:{port}/mcp cannot be reached" in answer["error"]["message"]
        async with gateway(port):
            say(one, {**asked, "id": "again"})
            assert "result" in await lines(one.stdout)
        assert one.stdin is not None
        one.stdin.close()
        out, err = await one.communicate()
    assert (out, one.returncode) == (b"", 0)
    assert b"Traceback" not in err


async def test_lines_that_are_no_messages_are_refused_one_by_one() -> None:
    port = free_port()
    async with gateway(port), process("-m", "portico", "mcp", "--url", f"http://127.0.0.1:{port}/mcp") as one:
        codes: list[int] = []
        for line in (
            b"rubbish",
            b"[]",
            b"7",
            b'{"jsonrpc":"2.0","id":null,"method":"ping"}',
            b"\xff\xfe",
            b'{"a":NaN}',
            b"[" * 100_000,
        ):
            say(one, line)
            codes.append((await lines(one.stdout))["error"]["code"])
        say(one, b"")
        say(one, b"x" * (33 * 1024 * 1024))
        codes.append((await lines(one.stdout))["error"]["code"])
        say(one, INITIALIZE)
        assert (await lines(one.stdout))["result"]["serverInfo"]
    assert codes == [-32700, -32600, -32600, -32600, -32700, -32700, -32700, -32600]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, None])
async def test_it_ends_with_its_client_and_ends_the_session(end: signal.Signals | None) -> None:
    port = free_port()
    async with gateway(port), process("-m", "portico", "mcp", "--url", f"http://127.0.0.1:{port}/mcp") as one:
        say(one, INITIALIZE)
        await lines(one.stdout)
        if end is None:
            assert one.stdin is not None
            one.stdin.close()
        else:
            one.send_signal(end)
        with anyio.fail_after(20):
            out, err = await one.communicate()
    assert (out, one.returncode) == (b"", 0)
    assert b"Traceback" not in err


async def test_a_client_that_no_longer_reads_ends_it() -> None:
    port = free_port()
    command = f"{shlex.quote(sys.executable)} -m portico mcp --url http://127.0.0.1:{port}/mcp | head -c 1; echo ended"
    async with gateway(port):
        shell = await asyncio.create_subprocess_shell(
            command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
        assert shell.stdin is not None
        with anyio.fail_after(30):
            say(shell, INITIALIZE)
            await shell.stdin.drain()
            assert shell.stdout is not None
            first = await shell.stdout.readexactly(1)
            assert first == b"{", (await shell.communicate())[1]
            say(shell, {**INITIALIZE, "id": 2, "method": "ping", "params": {}})
            out, err = await shell.communicate()
    assert out == b"ended\n"
    assert b"Traceback" not in err


@pytest.mark.parametrize(("key", "principal"), [("sesame", "shared"), ("wrong", None), ("", None)])
async def test_the_key_of_the_environment_is_sent(key: str, principal: str | None) -> None:
    port = free_port()
    asked: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "who", "arguments": {}, "_meta": META},
    }
    command = ("-m", "portico", "mcp", "--url", f"http://127.0.0.1:{port}/mcp")
    async with gateway(port, "sesame"), process(*command, PORTICO_API_KEY=key) as one:
        say(one, asked)
        answer = await lines(one.stdout)
    if principal is None:
        assert "answered 401" in answer["error"]["message"]
    else:
        assert answer["result"]["structuredContent"]["principal"]


async def test_news_of_lists_come_through_and_go_on_after_a_restart() -> None:
    port = free_port()
    listen: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": "news",
        "method": "subscriptions/listen",
        "params": {"_meta": META, "notifications": {"toolsListChanged": True}},
    }
    async with process("-m", "portico", "mcp", "--url", f"http://127.0.0.1:{port}/mcp") as one:
        async with gateway(port) as first:
            say(one, listen)
            acknowledged = await lines(one.stdout)
            first.send_signal(signal.SIGTERM)
            await first.wait()
        async with gateway(port):
            news = await lines(one.stdout)
    assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
    assert news["method"] == "notifications/tools/list_changed"
    assert news["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "news"


async def test_questions_of_an_agent_come_through_and_so_do_the_answers(era: str) -> None:
    port = free_port()
    asked: list[str] = []

    async def answer(_: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"answer": "Ada"})

    async with gateway(port), client(port, era, elicitation_callback=answer) as one:
        result = await one.call_tool("asking", {})
    assert "Hello, Ada!" in str(result.content)
    assert asked == ["Who are you?"]


async def test_a_session_that_nobody_uses_is_opened_again_after_a_restart_and_the_client_is_told() -> None:
    port = free_port()
    async with process("-m", "portico", "mcp", "--url", f"http://127.0.0.1:{port}/mcp") as one:
        async with gateway(port) as first:
            say(one, INITIALIZE)
            assert "result" in await lines(one.stdout)
            say(one, {"jsonrpc": "2.0", "method": "notifications/initialized"})
            say(one, {"jsonrpc": "2.0", "id": 2, "method": "ping"})
            assert (await lines(one.stdout))["id"] == 2
            first.send_signal(signal.SIGTERM)
            await first.wait()
        async with gateway(port):
            news = {(await lines(one.stdout))["method"] for _ in range(3)}
            say(one, {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "a"}}})
            answer = await lines(one.stdout)
    assert news == {f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources")}
    assert answer["result"]["structuredContent"] == {"echo": "a"}


async def test_arguments_that_belong_into_headers_are_repeated_there_also_where_the_client_has_listed_nothing() -> None:
    port = free_port()
    async with gateway(port), process("-m", "portico", "mcp", "--url", f"http://127.0.0.1:{port}/mcp") as one:
        for number, region in enumerate(["eu", " Zürich "]):
            params = {"name": "regional", "arguments": {"region": region}, "_meta": META}
            say(one, {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})
            answer = await lines(one.stdout)
            assert answer["id"] == number
            assert region in str(answer["result"]["content"])
