"""The demo as its users meet it: a real process, real sockets, real MCP clients; what crashes is really killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

pytestmark = pytest.mark.anyio

REPOSITORY = Path(__file__).parents[2]
TOPOLOGY = REPOSITORY / "examples" / "demo" / "topology.yaml"
ARGUMENTS: dict[str, dict[str, Any]] = {
    "echo": {"text": "hello"},
    "counter": {"add": 1},
    "worker": {"steps": 2, "pause": 0},
    "flaky": {"number": 21},
    "clerk": {"item": "a pen", "price": 3},
    "notebook": {"visitor": "ada", "text": "hello"},
    "librarian": {"message": "When is the library open on Saturdays?"},
}
"""Every agent of the demo, with something to ask it."""


@contextlib.contextmanager
def serving() -> Generator[tuple[str, int]]:
    """`portico serve` of the demo on a free port: its address and process id."""
    command = [sys.executable, "-m", "portico", "serve", str(TOPOLOGY), "--port", "0", "--log-level", "error"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            announced = re.match(r"Portico serves (\S+),", server.stdout.readline())
            assert announced is not None
            yield announced[1], server.pid
        finally:
            server.terminate()
        server.wait(20)
    assert server.returncode == 0


@pytest.fixture(scope="module")
def gateway() -> Iterator[tuple[str, int]]:
    with serving() as address_and_pid:
        yield address_and_pid


def descendants(pid: int) -> list[int]:
    """The child processes of a process, and theirs."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


async def check_tools(client: Client) -> None:
    """List the tools of the demo, and call each."""
    assert {tool.name for tool in (await client.list_tools()).tools} == {*ARGUMENTS, "fetch_result"}
    for name, arguments in ARGUMENTS.items():
        result = await client.call_tool(name, arguments)
        assert not result.is_error, (name, result.content)
        assert result.structured_content, name
    answer = await client.call_tool("librarian", ARGUMENTS["librarian"])
    assert answer.structured_content is not None
    assert "closes at noon" in answer.structured_content["reply"]


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_an_mcp_client_lists_and_calls_every_agent_over_http(gateway: tuple[str, int], mode: Any) -> None:
    with anyio.fail_after(30):
        async with Client(f"{gateway[0]}/mcp", mode=mode) as client:
            await check_tools(client)


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_an_mcp_client_lists_and_calls_every_agent_over_stdio(mode: Any) -> None:
    server = StdioServerParameters(command=sys.executable, args=["-m", "portico", "mcp", str(TOPOLOGY)], cwd="/")
    with anyio.fail_after(40):
        async with Client(server, mode=mode) as client:
            await check_tools(client)


async def test_a_thousand_asks_of_an_agent_that_crashes_in_one_handling_of_ten_are_all_answered(gateway: tuple[str, int]) -> None:
    limiter = anyio.CapacityLimiter(20)
    statuses: list[int] = []
    doubles: list[tuple[int, int]] = []
    attempts: list[int] = []

    async with httpx.AsyncClient(base_url=gateway[0], timeout=30, limits=httpx.Limits(max_connections=20)) as client:
        before = (await client.get("/agents/flaky")).json()["restarts"]

        async def ask(number: int) -> None:
            async with limiter:
                response = await client.post("/agents/flaky", json={"number": number})
            statuses.append(response.status_code)
            attempts.append(int(response.headers["agent-attempt"]))
            doubles.append((number, response.json()["double"]))

        with anyio.fail_after(50):
            async with anyio.create_task_group() as tasks:
                for number in range(1000):
                    tasks.start_soon(ask, number)
        status = (await client.get("/agents/flaky")).json()

    assert statuses == [200] * 1000
    assert sorted(doubles) == [(number, 2 * number) for number in range(1000)]
    crashes = status["restarts"] - before
    assert crashes == sum(attempts)  # each crash is one further attempt of one ask
    assert 60 < crashes < 170
    assert status["status"] == "running"
    assert status["incarnation"] == status["restarts"] + 1


async def test_after_kill_9_of_the_mcp_server_the_next_question_is_answered(gateway: tuple[str, int]) -> None:
    url, pid = gateway
    question = {"message": "Which documents are there?"}
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        assert "supervision.md" in (await client.post("/agents/librarian", json=question)).json()["reply"]
        for _ in range(3):
            (victim,) = descendants(pid)
            os.kill(victim, signal.SIGKILL)
            answer = await client.post("/agents/librarian", json=question)
            assert answer.status_code == 200, answer.text
            assert "supervision.md" in answer.json()["reply"]
            assert answer.json()["tool_calls"][0]["error"] is None
            assert descendants(pid) != [victim]


async def test_the_counter_keeps_its_count_when_its_agent_is_restarted(gateway: tuple[str, int]) -> None:
    async with httpx.AsyncClient(base_url=gateway[0], timeout=20) as client:
        first = (await client.post("/agents/counter", json={"add": 5})).json()["count"]
        broken = await client.post("/agents/counter", json={"add": "five"})
        assert broken.status_code == 502  # it has no contract: what does not fit crashes it, attempt after attempt
        assert (await client.get("/agents/counter")).json()["restarts"] > 0
        assert (await client.post("/agents/counter", json={})).json() == {"count": first}


def test_nothing_is_left_when_the_gateway_has_stopped() -> None:
    with serving() as (url, pid):
        assert httpx.get(f"{url}/readyz").json() == {"status": "ok"}
        children = descendants(pid)
        assert children
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
