"""The access log: a line of JSON for every request, whatever the request is."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from tests.app.serving import head, raw, served
from tests.cli.programs import serving, topology
from tests.routes.agents import Crashing, Echo
from tests.routes.sockets import connected

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

FIELDS = [
    "time",
    "request_id",
    "run_id",
    "trace_id",
    "method",
    "path",
    "route",
    "status",
    "duration_ms",
    "bytes_in",
    "bytes_out",
    "client",
    "principal",
    "agent",
    "operation",
    "user_agent",
    "protocol",
]


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(record.getMessage()))

    async def until(self, count: int) -> None:
        """Until there are so many: a line may come after its response."""
        with anyio.fail_after(10):
            while len(self.lines) < count:
                await anyio.lowlevel.checkpoint()


@pytest.fixture
def log() -> Generator[Lines]:
    lines, logger = Lines(), logging.getLogger("portico.access")
    before = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(lines)
    logger.setLevel(before)


@pytest.mark.anyio
async def test_an_ask_is_told_with_its_run_its_agent_and_its_sizes(log: Lines) -> None:
    async with served(Echo("echo"), access_log=True, api_key="secret") as gateway:
        headers = {"Authorization": "Bearer secret", "X-Request-ID": "mine", "User-Agent": "test/1"}
        body = b'{"text": "hello"}'
        response = await gateway.client.post("/agents/echo", content=body, headers={**headers, "Content-Type": "application/json"})
        await gateway.client.get("/agents?api_key=hidden", headers=headers)
        runs = (await gateway.client.get("/runs", headers=headers)).json()["runs"]
        await log.until(3)

    line = log.lines[0]
    assert list(line) == FIELDS
    assert line["request_id"] == "mine"
    assert line["run_id"] in [run["run_id"] for run in runs]
    assert (line["method"], line["path"], line["route"]) == ("POST", "/agents/echo", "/agents/echo")
    assert (line["agent"], line["operation"]) == ("echo", "echo")
    assert (line["bytes_in"], line["bytes_out"]) == (len(body), len(response.content))
    assert (line["client"], line["user_agent"], line["protocol"]) == ("127.0.0.1", "test/1", "HTTP/1.1")
    assert line["principal"]
    assert line["duration_ms"] > 0
    assert "secret" not in json.dumps(log.lines)
    assert "hidden" not in json.dumps(log.lines)


@pytest.mark.anyio
async def test_refusals_and_failures_are_told_as_the_client_sees_them(log: Lines) -> None:
    async with served(Echo("echo"), Crashing("crashing"), access_log=True) as gateway:
        await gateway.client.post("/agents/echo", content=b"{")
        await gateway.client.get("/nowhere")
        await gateway.client.post("/agents/crashing/once")
        await gateway.client.get("/runs/none", headers={"Host": "elsewhere.example"})
        await gateway.client.get("/runs/none")
        await log.until(5)

    assert [line["status"] for line in log.lines] == [415, 404, 502, 421, 404]
    assert [line["route"] for line in log.lines] == ["/agents/echo", None, "/agents/crashing/once", None, "/runs/{run_id}"]
    assert [line["agent"] for line in log.lines] == ["echo", None, "crashing", None, None]
    assert [line["run_id"] is None for line in log.lines] == [True, True, False, True, False]
    assert all(line["request_id"] for line in log.lines)


@pytest.mark.anyio
async def test_a_stream_is_told_when_it_has_ended(log: Lines) -> None:
    async with served(Echo("echo"), access_log=True) as gateway:
        response = await gateway.client.post("/agents/echo", json={"text": "a"}, headers={"Accept": "text/event-stream"})
        await log.until(1)

    assert log.lines[0]["bytes_out"] == len(response.content)
    assert log.lines[0]["status"] == 200


@pytest.mark.anyio
async def test_a_websocket_is_one_line_and_each_of_its_asks_is_counted(log: Lines) -> None:
    async with served(Echo("echo"), access_log=True) as gateway:
        async with connected(gateway, "echo") as frames:
            for number in range(3):
                await frames.ask(id=number, type="ask", payload={"text": "a"})
        await log.until(1)
        text = (await gateway.client.get("/metrics")).text

    line = log.lines[0]
    assert (line["protocol"], line["status"], line["path"]) == ("WebSocket", 101, "/agents/echo/ws")
    assert line["request_id"]
    assert line["bytes_in"] > 0
    assert line["bytes_out"] > 0
    assert 'portico_call_duration_seconds_count{agent="echo",kind="ask",operation="echo",outcome="ok"} 3.0' in text


@pytest.mark.anyio
async def test_without_the_setting_there_is_no_log(log: Lines) -> None:
    async with served(Echo("echo")) as gateway:
        await gateway.client.post("/agents/echo", json={"text": "a"})

    assert log.lines == []


@pytest.mark.anyio
async def test_no_path_and_no_user_agent_breaks_a_line(log: Lines) -> None:
    hostile = "\x85\x9b31m\xff\tline\u00ad"
    async with served(Echo("echo"), access_log=True) as gateway:
        await raw(gateway.port, head("GET", "/a%0Ab%22%5C%00%E2%80%A8%1B%5B31m%FF", f"User-Agent: {hostile}", "Connection: close"))
        await raw(gateway.port, head("GET", "/" + "x" * 5000, f"User-Agent: {'y' * 5000}", "Connection: close"))
        await log.until(2)

    assert log.lines[0]["path"] == '/a\nb"\\\x00\u2028\x1b[31m\ufffd'
    assert log.lines[0]["user_agent"] == hostile
    assert (len(log.lines[1]["path"]), len(log.lines[1]["user_agent"])) == (1024, 1024)


def test_the_log_of_a_process_is_json_line_by_line_and_on_standard_error_alone(tmp_path: Path) -> None:
    path = topology(tmp_path, "Echo", "Kinds")
    with serving(path, "--access-log", "--log-format", "json", folder=tmp_path) as (process, url):
        httpx.post(f"{url}/agents/echo", json={"a": 1}, trust_env=False)
        httpx.get(f"{url}/a%0Ab%E2%80%A8c", headers=[(b"User-Agent", b"\x85\xff")], trust_env=False)
        httpx.post(f"{url}/agents/kinds/crash", trust_env=False)
        process.terminate()
        stdout, stderr = process.communicate(timeout=20)

    lines = [json.loads(line) for line in stderr.split("\n") if line]
    accesses = [line for line in lines if "status" in line]
    others = [line for line in lines if "status" not in line]
    assert stdout == ""
    assert len(stderr.splitlines()) == len(lines)
    assert [line["status"] for line in accesses] == [200, 404, 502]
    assert others
    assert all({"time", "level", "logger", "message"} <= set(line) for line in others)


def test_the_settings_do_the_same_as_the_options(tmp_path: Path) -> None:
    path = topology(tmp_path, "Echo")
    environ = {"PORTICO_ACCESS_LOG": "true", "PORTICO_LOG_FORMAT": "json"}
    with serving(path, folder=tmp_path, env=environ) as (process, url):
        httpx.post(f"{url}/agents/echo", json={"a": 1}, trust_env=False)
        process.terminate()
        _, stderr = process.communicate(timeout=20)

    assert [json.loads(line)["status"] for line in stderr.splitlines()] == [200]
