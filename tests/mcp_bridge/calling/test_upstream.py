"""External MCP servers as tools: real processes, killed for real."""

from __future__ import annotations

import logging
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from portico.errors import (
    DeadlineExceeded,
    DuplicateName,
    MCPServerUnavailable,
    MCPToolError,
    StartError,
    ToolError,
    UnknownTool,
)
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.calling.connection import ConnectionStatus
from portico.mcp_bridge.calling.upstream import MCPUpstream
from portico.mcp_bridge.calling.wiring import build_upstreams
from portico.mcp_bridge.config import MCPServerConfig
from tests.mcp_bridge.helpers import Greeter, Sums, external_server, free_port, gateway, tool_server, until, upstreams

if TYPE_CHECKING:
    from portico.mcp_bridge.calling.toolset import MCPToolSet

pytestmark = pytest.mark.anyio

DEAD = MCPServerConfig("dead", command="python", args=["-c", "raise SystemExit(3)"])


async def call(tools: MCPToolSet, name: str, /, **arguments: Any) -> Any:
    return await tools.get(f"mcp://tests/{name}").execute(**arguments)


async def pid_of(tools: MCPToolSet) -> int:
    return (await call(tools, "pid"))["result"]


def lives(pid: int) -> bool:
    """Whether it runs; one that only waits to be reaped by whoever adopted it does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def noted(notes: Path, line: str) -> None:
    """Until the server has written that line."""
    await until(lambda: notes.exists() and line in notes.read_text())


async def test_tools_are_listed_by_their_address_when_the_runtime_has_started() -> None:
    with anyio.fail_after(20):
        async with upstreams(tool_server()) as tools:
            assert "mcp://tests/add" in tools.names()
            assert tools.names() == sorted(tools.names()) == [tool.name for tool in tools]
            add = tools.get("mcp://tests/add")
            assert add.description == "The sum."
            assert add.input_schema["required"] == ["a", "b"]
            connection = tools.connections["tests"]
            assert (connection.status, connection.last_error) == (ConnectionStatus.CONNECTED, None)
            assert connection.era == "2026-07-28"


async def test_results_are_structured_content_else_text_else_typed_parts() -> None:
    with anyio.fail_after(20):
        async with upstreams(tool_server()) as tools:
            assert await call(tools, "add", a=1, b=2) == {"result": 3}
            assert await call(tools, "greet", name="Ada") == "Hello, Ada!"
            assert await call(tools, "picture") == [
                {"type": "text", "text": "look"},
                {"type": "image", "data": "aGk=", "mimeType": "image/png"},
            ]


async def test_an_error_of_the_tool_carries_the_servers_text() -> None:
    with anyio.fail_after(20):
        async with upstreams(tool_server()) as tools:
            with pytest.raises(MCPToolError, match="no more paper"):
                await call(tools, "fail", why="no more paper")


async def test_arguments_are_checked_before_anything_is_sent(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with upstreams(tool_server()) as tools:
            with pytest.raises(ToolError, match="/a") as refusal:
                await call(tools, "add", a="one", b=2)
            assert not isinstance(refusal.value, MCPToolError)
            assert [fault["path"] for fault in refusal.value.extra["errors"]] == ["/a"]


async def test_wrong_names_are_answered_with_the_nearest_right_ones() -> None:
    with anyio.fail_after(20):
        async with upstreams(tool_server()) as tools:
            for wrong in ("mcp://tests/ad", "mcp://test/add", "mcp://tests/add/x"):
                with pytest.raises(UnknownTool, match="'mcp://tests/add'"):
                    tools.get(wrong)
            with pytest.raises(UnknownTool):
                tools.get("add")


async def test_many_calls_run_at_once_over_one_connection(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with anyio.fail_after(20):
        async with upstreams(tool_server("tests", "--notes", str(notes))) as tools, anyio.create_task_group() as tasks:
            tasks.start_soon(call, tools, "wait_writing")
            await noted(notes, "writing")
            results = [await call(tools, "add", a=number, b=1) for number in range(20)]
            assert [result["result"] for result in results] == list(range(1, 21))
            tasks.cancel_scope.cancel()


async def test_the_child_gets_a_small_environment_and_its_stderr_goes_to_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_GATEWAY", "x")
    caplog.set_level(logging.INFO, "portico.mcp.tests")
    with anyio.fail_after(20):
        async with upstreams(tool_server(env={"GIVEN": "yes"})) as tools:
            environment = await call(tools, "environment")
            await call(tools, "greet", name="Ada")
    assert environment["GIVEN"] == "yes"
    assert "SECRET_OF_THE_GATEWAY" not in environment
    assert "greeting Ada" in [record.message for record in caplog.records if record.name == "portico.mcp.tests"]


async def test_after_a_kill_the_next_call_is_answered_by_a_new_process() -> None:
    with anyio.fail_after(30):
        async with upstreams(tool_server()) as tools:
            for _ in range(3):
                killed = await pid_of(tools)
                os.kill(killed, signal.SIGKILL)
                assert await call(tools, "add", a=1, b=1) == {"result": 2}
                assert await pid_of(tools) != killed


def stopped(pid: int) -> bool:
    """Whether every thread of a process is stopped (proc_pid_stat(5))."""
    return all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in Path(f"/proc/{pid}/task").iterdir())


async def test_a_call_that_a_dead_server_never_read_is_sent_to_the_next_one() -> None:
    results: list[Any] = []
    with anyio.fail_after(30):
        async with upstreams(tool_server()) as tools:
            pid = await pid_of(tools)
            os.kill(pid, signal.SIGSTOP)
            while not stopped(pid):  # until then it may still read
                await anyio.lowlevel.checkpoint()
            async with anyio.create_task_group() as tasks:

                async def add() -> None:
                    results.append(await call(tools, "add", a=1, b=1))

                tasks.start_soon(add)
                await anyio.wait_all_tasks_blocked()
                os.kill(pid, signal.SIGKILL)
    assert results == [{"result": 2}]


async def test_a_call_in_flight_when_the_server_is_killed_fails_and_is_not_doubled(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with anyio.fail_after(30):
        async with upstreams(tool_server("tests", "--notes", str(notes))) as tools:
            pid = await pid_of(tools)
            async with anyio.create_task_group() as tasks:

                async def expect_failure() -> None:
                    with pytest.raises(MCPServerUnavailable, match="not known"):
                        await call(tools, "wait_writing")

                tasks.start_soon(expect_failure)
                await noted(notes, "writing")
                os.kill(pid, signal.SIGKILL)
            assert await call(tools, "add", a=1, b=1) == {"result": 2}
    assert notes.read_text().count("writing") == 1


async def test_a_call_in_flight_of_a_read_only_tool_is_sent_again_once(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    results: list[Any] = []
    with anyio.fail_after(30):
        async with upstreams(tool_server("tests", "--notes", str(notes))) as tools:
            pid = await pid_of(tools)
            async with anyio.create_task_group() as tasks:

                async def read() -> None:
                    results.append(await call(tools, "wait_reading"))

                tasks.start_soon(read)
                await noted(notes, "reading")
                os.kill(pid, signal.SIGKILL)
    assert results == [{"result": "read"}]


async def test_no_process_is_left_behind_by_a_stop_or_by_a_kill() -> None:
    with anyio.fail_after(30):
        async with upstreams(tool_server()) as tools:
            killed = await pid_of(tools)
            orphan = (await call(tools, "leave_a_child"))["result"]
            assert lives(orphan)
            os.kill(killed, signal.SIGKILL)
            stopped = await pid_of(tools)
            assert not lives(orphan)
            second = (await call(tools, "leave_a_child"))["result"]
            assert lives(second)
        await until(lambda: not lives(second))  # it was killed, and has yet to notice
    assert not lives(killed)
    assert not lives(stopped)


async def test_a_cancelled_caller_cancels_the_tool(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with anyio.fail_after(20):
        async with upstreams(tool_server("tests", "--notes", str(notes))) as tools:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call, tools, "wait_cancelled")
                await noted(notes, "began")
                tasks.cancel_scope.cancel()
            await noted(notes, "cancelled")


async def test_a_call_ends_with_the_servers_timeout(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with upstreams(tool_server(timeout=3.0, connect_timeout=30.0)) as tools:
            with pytest.raises(MCPToolError, match="no answer within 3 s"):
                await call(tools, "wait_writing")
            assert await call(tools, "add", a=1, b=1) == {"result": 2}


async def test_a_call_ends_with_the_deadline_of_the_message_in_hand(tmp_path: Path) -> None:
    class Asks(AgentProcess):
        async def handle(self, message: Any) -> Any:
            await self.tools.get("mcp://tests/wait_cancelled").execute()

    notes = tmp_path / "notes"
    supervisor, tools = build_upstreams([tool_server("tests", "--notes", str(notes))])
    with anyio.fail_after(20):
        async with Runtime(Supervisor("root", children=[supervisor, Asks("asks")]), tool_registry=tools) as runtime:
            with pytest.raises(DeadlineExceeded):
                await runtime.ask("asks", {}, timeout=0.5)
            await noted(notes, "cancelled")
            assert await call(tools, "add", a=1, b=1) == {"result": 2}


async def test_tools_are_listed_again_when_the_server_says_so() -> None:
    with anyio.fail_after(20):
        async with upstreams(tool_server()) as tools:
            assert "mcp://tests/grown" not in tools.names()
            await call(tools, "grow")
            await until(lambda: "mcp://tests/grown" in tools.names())
            assert await call(tools, "grown") == "new"


async def test_a_dead_server_does_not_stop_the_start_and_its_tools_answer_an_error() -> None:
    with anyio.fail_after(20):
        async with upstreams(DEAD, tool_server()) as tools:
            assert tools.connections["dead"].status is not ConnectionStatus.CONNECTED
            about = tools.connections["dead"].readiness()
            assert (about["ready"], about["required"]) == (False, False)
            with pytest.raises(MCPServerUnavailable, match="exit code 3"):
                await tools.get("mcp://dead/anything").execute()
            assert await call(tools, "add", a=1, b=1) == {"result": 2}


async def test_a_command_that_there_is_not_is_told_by_name() -> None:
    with anyio.fail_after(20):
        async with upstreams(MCPServerConfig("none", command="no-such-program")) as tools:
            assert "no-such-program" in str(tools.connections["none"].last_error)


async def test_a_required_server_that_is_dead_stops_the_start() -> None:
    required = MCPServerConfig("dead", command=DEAD.command, args=DEAD.args, required=True)
    supervisor, _ = build_upstreams([tool_server(), required])
    with anyio.fail_after(20), pytest.raises(StartError, match=r"'mcp://dead' did not start: .*exit code 3"):
        await Runtime(Supervisor("root", children=[supervisor])).start()


async def test_a_server_that_never_answers_is_given_up_after_its_timeout() -> None:
    mute = MCPServerConfig("mute", command="sleep", args=["60"], timeout=0.3)
    with anyio.fail_after(20):
        async with upstreams(mute) as tools:
            assert tools.connections["mute"].last_error == "it did not answer within 0.3 s"


async def test_a_server_is_connected_at_run_time_and_supervised_as_the_others() -> None:
    class Connects(AgentProcess):
        async def handle(self, message: Any) -> Any:
            return await self.connect_mcp(tool_server())

    supervisor, tools = build_upstreams([])
    with anyio.fail_after(30):
        async with Runtime(Supervisor("root", children=[supervisor, Connects("connects")]), tool_registry=tools) as runtime:
            names = (await runtime.ask("connects", {})).payload
            assert "mcp://tests/add" in names
            assert names == tools.names()
            os.kill(await pid_of(tools), signal.SIGKILL)
            assert await call(tools, "add", a=1, b=1) == {"result": 2}
            with pytest.raises(DuplicateName):
                await tools.connect_mcp(tool_server())
            with pytest.raises(MCPServerUnavailable, match="exit code 3"):
                await tools.connect_mcp(DEAD)
            assert list(tools.connections) == ["tests"]
            assert runtime.get_agent("mcp://dead") is None


@pytest.mark.parametrize(("option", "transport", "path"), [("--http", "streamable_http", "/mcp"), ("--sse", "sse", "/sse")])
async def test_a_server_at_a_url_is_reconnected_when_it_comes_back(option: str, transport: str, path: str) -> None:
    port = free_port()
    config = MCPServerConfig("tests", transport=transport, url=f"http://127.0.0.1:{port}{path}", timeout=10.0)
    with anyio.fail_after(50):
        async with external_server(option, str(port), port=port) as process, upstreams(config) as tools:
            assert await pid_of(tools) == process.pid
            process.kill()
            await process.wait()
            async with external_server(option, str(port), port=port) as successor:
                assert await call(tools, "add", a=1, b=1) == {"result": 2}
                assert await pid_of(tools) == successor.pid
                successor.kill()
                await successor.wait()
            with pytest.raises(MCPServerUnavailable):
                await call(tools, "add", a=1, b=1)


async def test_our_own_gateway_is_an_external_server_like_any_other() -> None:
    with anyio.fail_after(20):
        async with (
            gateway(Greeter("greeter")) as (url, _),
            upstreams(MCPServerConfig("tests", transport="streamable_http", url=url)) as tools,
        ):
            assert await call(tools, "greeter", name="Ada") == {"text": "Hello, Ada!"}
            assert tools.connections["tests"].era == "2026-07-28"


async def test_a_session_that_the_server_has_forgotten_is_opened_again_and_the_call_sent() -> None:
    port = free_port()
    supervisor, tools = build_upstreams([MCPServerConfig("tests", transport="streamable_http", url=f"http://127.0.0.1:{port}/mcp")])
    upstream = supervisor.children[0]
    assert isinstance(upstream, MCPUpstream)
    upstream.mode = "legacy"
    with anyio.fail_after(30):
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(AsyncExitStack())
            await first.enter_async_context(gateway(Sums("sums"), port=port))
            await stack.enter_async_context(Runtime(Supervisor("root", children=[supervisor])))
            assert tools.connections["tests"].era == "2025-11-25"
            assert await call(tools, "sums-total", payload=[1, 2]) == {"result": 3}
            await first.aclose()
            async with gateway(Sums("sums"), port=port):
                assert await call(tools, "sums-total", payload=[3, 4]) == {"result": 7}


async def test_the_processes_of_the_bridge_are_never_served_to_the_outside() -> None:
    supervisor, tools = build_upstreams([tool_server()])
    with anyio.fail_after(20):
        async with Runtime(Supervisor("root", children=[supervisor]), tool_registry=tools) as runtime:
            assert all(agent.internal for agent in runtime.all_agents())
            assert "mcp://tests" in [agent.name for agent in runtime.all_agents()]
