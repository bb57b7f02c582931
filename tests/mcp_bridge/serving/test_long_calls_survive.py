"""Long calls outlive the program: real gateways with a data directory, killed or told to stop, and started again."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from mcp import Client

from tests.cli.programs import serving
from tests.mcp_bridge.helpers import until
from tests.mcp_bridge.serving.test_still_running import run_of
from tests.mcp_bridge.serving.wire import WireError, accepted, wire

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

AGENTS = """
import asyncio
from pathlib import Path
from pydantic import BaseModel
from portico import AgentProcess, operation
from portico.kernel.protocols import Context
from portico.kernel.questions import Question


class Named(BaseModel):
    name: str


class Jobs(AgentProcess):
    async def work(self, ctx: Context) -> str:
        def log():
            with Path("steps").open("a") as file:
                file.write("step\\n")

        await ctx.step("once", log)
        with Path("handlings").open("a") as file:
            file.write("begun\\n")
        while not Path("gate").exists():
            await asyncio.sleep(0.02)
        return "worked"

    @operation(task=True)
    async def marked(self, ctx: Context) -> dict[str, str]:
        return {"said": await self.work(ctx)}

    @operation
    async def plain(self, ctx: Context) -> dict[str, str]:
        return {"said": await self.work(ctx)}

    @operation(idempotent=False)
    async def once(self, ctx: Context) -> dict[str, str]:
        return {"said": await self.work(ctx)}

    @operation(task=True)
    async def two(self, ctx: Context) -> str:
        names = await ctx.wait_inputs({"first": Question.input("Who?", Named), "second": Question.input("And who?", Named)})
        return f"{names['first'].name} and {names['second'].name}"
"""

TOPOLOGY = """
supervision:
  name: root
  children:
    - {type: agents.Jobs, name: jobs, concurrency: 8}
server: {mcp_client_limit: 0.2, mcp_task_after: 0.2, drain_timeout: 1}
"""


class House:
    """A folder with a topology, and the gateways that one after the other serve it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "agents.py").write_text(AGENTS)
        (folder / "topology.yaml").write_text(TOPOLOGY)

    def open_the_gate(self) -> None:
        """Let every job end."""
        (self.folder / "gate").touch()

    def lines(self, name: str) -> int:
        """How often something was noted."""
        path = self.folder / name
        return len(path.read_text().splitlines()) if path.exists() else 0

    @asynccontextmanager
    async def life(self, *, data: bool = True, ends_by: int = signal.SIGKILL) -> AsyncGenerator[str]:
        """One life of the gateway: its address. It ends by that signal."""
        more = ("--data", "data") if data else ()
        with serving("topology.yaml", *more, folder=self.folder) as (process, address):
            yield address
            process.send_signal(ends_by)
            await anyio.to_thread.run_sync(_wait, process)


def _wait(process: subprocess.Popen[str]) -> None:
    process.wait(40)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.mark.parametrize(
    ("tool", "ends_by"), [("jobs-marked", signal.SIGKILL), ("jobs-plain", signal.SIGKILL), ("jobs-plain", signal.SIGTERM)]
)
async def test_a_task_is_found_after_the_end_of_the_program_and_completes(house: House, tool: str, ends_by: int) -> None:
    async with house.life(ends_by=ends_by) as address, wire(f"{address}/mcp") as client:
        task = (await client.call(tool))["taskId"]
        await until(lambda: house.lines("handlings") == 1)
    async with house.life() as address, wire(f"{address}/mcp") as client:
        working = await client.get(task)
        await until(lambda: house.lines("handlings") == 2)
        house.open_the_gate()
        done = await client.until(task, "completed", "failed", "cancelled")
    assert working["status"] == "working"
    assert done["status"] == "completed"
    assert done["result"]["structuredContent"] == {"said": "worked"}
    assert house.lines("steps") == 1
    assert house.lines("handlings") == 2


@pytest.mark.parametrize(("tool", "mode"), [("jobs-marked", "2026-07-28"), ("jobs-plain", "legacy")])
async def test_what_was_told_to_be_still_running_is_fetched_from_the_next_life(house: House, tool: str, mode: str) -> None:
    async with house.life() as address, Client(f"{address}/mcp", mode=mode) as client:
        run_id = run_of(await client.call_tool(tool, {}))
    house.open_the_gate()
    async with house.life() as address, Client(f"{address}/mcp", mode=mode) as client:
        fetched = await client.call_tool("fetch_result", {"run_id": run_id, "wait": 20})
        while fetched.structured_content == {"run_id": run_id, "status": "running"}:
            fetched = await client.call_tool("fetch_result", {"run_id": run_id})
    assert fetched.structured_content == {"said": "worked"}


async def test_answers_come_before_and_after_the_kill(house: House) -> None:
    async with house.life() as address, wire(f"{address}/mcp") as client:
        task = (await client.call("jobs-two"))["taskId"]
        await client.until(task, "input_required")
        await client.update(task, first=accepted(name="Ada"))
    async with house.life() as address, wire(f"{address}/mcp") as client:
        waiting = await client.until(task, "input_required")
        await client.update(task, second=accepted(name="Grace"))
        done = await client.until(task, "completed", "failed")
    async with house.life() as address, wire(f"{address}/mcp") as client:
        later = await client.get(task)
    assert set(waiting["inputRequests"]) == {"second"}
    assert done["result"]["content"][0]["text"] == "Ada and Grace"
    assert later["result"] == done["result"]


async def test_a_call_that_must_not_be_handled_twice_fails_instead(house: House) -> None:
    async with house.life() as address, wire(f"{address}/mcp") as client:
        task = (await client.call("jobs-once"))["taskId"]
    house.open_the_gate()
    async with house.life() as address, wire(f"{address}/mcp") as client:
        failed = await client.until(task, "completed", "failed")
    assert failed["status"] == "failed"
    assert failed["error"]["data"]["slug"] == "interrupted"
    assert house.lines("handlings") == 1


async def test_a_cancelled_task_stays_cancelled(house: House) -> None:
    async with house.life() as address, wire(f"{address}/mcp") as client:
        task = (await client.call("jobs-plain"))["taskId"]
        await client.request("tasks/cancel", {"taskId": task})
    async with house.life() as address, wire(f"{address}/mcp") as client:
        again = await client.get(task)
    assert again["status"] == "cancelled"
    assert house.lines("handlings") == 1


async def test_a_marked_call_that_its_client_still_waits_for_goes_on_in_the_next_life(house: House) -> None:
    said: list[str] = []

    async def call(url: str) -> None:
        async with wire(url, {}) as client:
            try:
                await client.call("jobs-marked")
            except (WireError, httpx.HTTPError) as error:  # the gateway stops
                said.append(str(error))

    (house.folder / "topology.yaml").write_text(TOPOLOGY.replace("mcp_client_limit: 0.2", "mcp_client_limit: 60"))
    async with asyncio.TaskGroup() as tasks, house.life(ends_by=signal.SIGTERM) as address:
        tasks.create_task(call(f"{address}/mcp"))
        await until(lambda: house.lines("handlings") == 1)
    house.open_the_gate()
    async with house.life() as address, httpx.AsyncClient(base_url=address) as http:
        (run,) = (await http.get("/runs")).json()["runs"]
        ended = (await http.get(f"/runs/{run['run_id']}?wait=20")).json()
    assert said
    assert ended["status"] == "succeeded"
    assert house.lines("steps") == 1


async def test_without_a_data_directory_tasks_end_with_the_program(house: House) -> None:
    async with house.life(data=False, ends_by=signal.SIGTERM) as address, wire(f"{address}/mcp") as client:
        task = (await client.call("jobs-marked"))["taskId"]
        await until(lambda: house.lines("handlings") == 1)
    house.open_the_gate()
    async with house.life(data=False) as address, wire(f"{address}/mcp") as client:
        with pytest.raises(WireError) as caught:
            await client.get(task)
    assert caught.value.code == -32602
    assert house.lines("handlings") == 1


async def test_a_kept_run_is_listed_once_and_has_its_events(house: House) -> None:
    async with house.life() as address, wire(f"{address}/mcp") as client, httpx.AsyncClient(base_url=address) as http:
        task = (await client.call("jobs-plain"))["taskId"]
        house.open_the_gate()
        await client.until(task, "completed")
        runs: list[dict[str, Any]] = (await http.get("/runs")).json()["runs"]
        stream = (await http.get(f"/runs/{task}/events", headers={"accept": "text/event-stream"})).text
    assert [(run["run_id"], run["stored"], run["status"]) for run in runs] == [(task, True, "succeeded")]
    for name in ("run.started", "step.started", "step.completed", "run.succeeded"):
        assert stream.count(f"event: {name}") == 1
