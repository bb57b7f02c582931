"""Clients without tasks: "still running", and `fetch_result`; asked by the SDK's own client in both eras."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest
from mcp import Client
from mcp.types import TextContent

from portico.kernel.process import AgentProcess
from portico.mcp_bridge.serving.options import ServingOptions
from portico.operations.decorators import operation
from portico.runs.call import Call
from tests.mcp_bridge.helpers import gateway, until
from tests.mcp_bridge.serving.long_agents import Worker
from tests.mcp_bridge.serving.test_server import client_as

if TYPE_CHECKING:
    from mcp.types import CallToolResult

    from portico.mcp_bridge.serving.http import MCPEndpoint

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

IMPATIENT = ServingOptions(client_limit=0.1)


@pytest.fixture(params=["2026-07-28", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    return request.param


def text(result: CallToolResult) -> str:
    return "\n".join(part.text for part in result.content if isinstance(part, TextContent))


def run_of(result: CallToolResult) -> str:
    assert result.meta is not None
    return result.meta["portico/run_id"]


async def test_a_long_call_is_answered_before_its_client_gives_up_and_its_result_is_fetched(era: str) -> None:
    worker = Worker()
    async with gateway(worker, options=IMPATIENT) as (url, _), Client(url, mode=era) as client:
        told = await client.call_tool("worker-untyped", {})
        run_id = run_of(told)
        again = await client.call_tool("fetch_result", {"run_id": run_id, "wait": 0})
        worker.goes_on.set()
        fetched = await client.call_tool("fetch_result", {"run_id": run_id, "wait": 30})
        twice = await client.call_tool("fetch_result", {"run_id": run_id})
        short = await client.call_tool("worker-untyped", {})
    assert not told.is_error
    assert told.structured_content == {"run_id": run_id, "status": "running"}
    assert "fetch_result" in text(told)
    assert run_id in text(told)
    assert (again.is_error, again.structured_content) == (False, told.structured_content)
    assert not worker.cancelled.is_set()
    assert fetched.structured_content == twice.structured_content == short.structured_content == {"said": "worked"}
    assert fetched.content == short.content
    assert worker.calls == 2


async def test_a_tool_with_a_schema_answers_in_the_form_that_official_clients_let_through(era: str) -> None:
    worker = Worker()
    async with gateway(worker, options=IMPATIENT) as (url, _), Client(url, mode=era) as client:
        await client.list_tools()  # so that it checks what comes against the schema
        told = await client.call_tool("worker-typed", {})
        worker.goes_on.set()
        fetched = await client.call_tool("fetch_result", {"run_id": run_of(told)})
    assert told.is_error
    assert told.structured_content is None
    assert "still running" in text(told)
    assert fetched.structured_content == {"text": "worked"}


async def test_an_error_is_fetched_as_the_call_would_have_told_it(era: str) -> None:
    worker = Worker()
    async with gateway(worker, options=IMPATIENT) as (url, _), Client(url, mode=era) as client:
        told = await client.call_tool("worker-fails", {})
        worker.goes_on.set()
        fetched = await client.call_tool("fetch_result", {"run_id": run_of(told)})
        direct = await client.call_tool("worker-fails", {})
    assert fetched.is_error
    assert fetched.content == direct.content
    assert fetched.meta is not None
    assert fetched.meta["portico/error"]["slug"] == "no-luck"


async def test_the_run_goes_on_though_the_connection_ends(era: str) -> None:
    worker = Worker()
    async with gateway(worker, options=IMPATIENT) as (url, _):
        async with Client(url, mode=era) as client:
            run_id = run_of(await client.call_tool("worker-untyped", {}))
        worker.goes_on.set()
        async with Client(url, mode=era) as client:
            fetched = await client.call_tool("fetch_result", {"run_id": run_id})
    assert fetched.structured_content == {"said": "worked"}
    assert not worker.cancelled.is_set()


@pytest.mark.parametrize("tool", ["worker-untyped", "worker-job"])
async def test_a_client_that_cancels_before_the_limit_cancels_the_run(era: str, tool: str) -> None:
    worker = Worker()
    async with gateway(worker) as (url, _), Client(url, mode=era) as client, asyncio.TaskGroup() as tasks:
        calling = tasks.create_task(client.call_tool(tool, {}))
        await worker.began.wait()
        calling.cancel()
        with anyio.fail_after(20):
            await worker.cancelled.wait()


async def test_a_client_that_cancels_a_fetch_cancels_nothing_else(era: str) -> None:
    worker = Worker()
    async with gateway(worker, options=ServingOptions(client_limit=5)) as (url, endpoint), Client(url, mode=era) as client:
        run = await endpoint.served.dispatcher.submit(_call(endpoint, "worker-untyped"))
        await worker.began.wait()
        async with asyncio.TaskGroup() as tasks:
            fetching = tasks.create_task(client.call_tool("fetch_result", {"run_id": run.run_id}))
            await asyncio.sleep(0.1)  # there is no event for a request that waits on the other side
            fetching.cancel()
        worker.goes_on.set()
        fetched = await client.call_tool("fetch_result", {"run_id": run.run_id})
    assert fetched.structured_content == {"said": "worked"}


def _call(endpoint: MCPEndpoint, tool: str) -> Call:
    return Call(endpoint.served.dispatcher.catalogue.tools[tool], {})


async def test_progress_is_told_while_the_result_is_fetched(era: str) -> None:
    worker, told, fetched = Worker(), list[float](), list[float]()

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    async def heard_later(progress: float, total: float | None, message: str | None) -> None:
        fetched.append(progress)

    async with gateway(worker, options=IMPATIENT) as (url, _), Client(url, mode=era) as client:
        running = await client.call_tool("worker-untyped", {}, progress_callback=heard)
        worker.goes_on.set()
        await client.call_tool("fetch_result", {"run_id": run_of(running), "wait": 20}, progress_callback=heard_later)
    assert told == [1]
    assert fetched in ([], [1], [1, 2])  # it may have ended before it was fetched


async def test_a_run_that_waits_for_an_answer_at_the_limit_is_told_as_waiting() -> None:
    worker = Worker()
    async with gateway(worker, options=IMPATIENT) as (url, endpoint), Client(url, mode="legacy") as client:
        told = await client.call_tool("worker-works_then_asks", {})
        run = await endpoint.served.dispatcher.book.find(run_of(told), None)
        worker.goes_on.set()
        await until(lambda: run.waiting is not None)
        waiting = await client.call_tool("fetch_result", {"run_id": run.run_id})
        await endpoint.served.dispatcher.book.answer(run, {"name": "Ada"})
        fetched = await client.call_tool("fetch_result", {"run_id": run.run_id})
    assert waiting.structured_content == {"run_id": run.run_id, "status": "waiting"}
    assert "Who are you?" in text(waiting)
    assert fetched.structured_content == {"said": "worked for Ada"}
    assert worker.calls == 1


async def test_a_result_is_only_for_whoever_called(era: str) -> None:
    worker = Worker()
    async with gateway(worker, options=IMPATIENT) as (url, _), client_as("ada", url, era) as ada, client_as("eve", url, era) as eve:
        run_id = run_of(await ada.call_tool("worker-untyped", {}))
        worker.goes_on.set()
        stolen = await eve.call_tool("fetch_result", {"run_id": run_id})
        unknown = await eve.call_tool("fetch_result", {"run_id": "nothing"})
        mine = await ada.call_tool("fetch_result", {"run_id": run_id})
    assert stolen.is_error
    assert stolen.meta is not None
    assert stolen.meta["portico/error"]["slug"] == "run-not-found"
    assert text(stolen).replace(run_id, "nothing") == text(unknown)
    assert mine.structured_content == {"said": "worked"}


async def test_bad_arguments_of_fetch_result_are_named(era: str) -> None:
    async with gateway(Worker()) as (url, _), Client(url, mode=era) as client:
        bad = await client.call_tool("fetch_result", {"wait": "long", "why": 1})
    assert bad.is_error
    assert bad.meta is not None
    assert {fault["path"] for fault in bad.meta["portico/error"]["errors"]} == {"/run_id", "/wait", "/why"}


class Namesake(AgentProcess):
    @operation
    async def fetch(self, what: str) -> str:
        return f"fetched {what}"


async def test_an_agents_tool_of_the_same_name_goes_first(era: str) -> None:
    worker = Worker()
    async with gateway(worker, Namesake("fetch_result"), options=IMPATIENT) as (url, _), Client(url, mode=era) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        own = await client.call_tool("fetch_result", {"what": "it"})
        told = await client.call_tool("worker-untyped", {})
        worker.goes_on.set()
        fetched = await client.call_tool("portico-fetch_result", {"run_id": run_of(told)})
    assert {"fetch_result", "portico-fetch_result"} <= set(names)
    assert text(own) == "fetched it"
    assert "portico-fetch_result" in text(told)
    assert fetched.structured_content == {"said": "worked"}
