"""A gateway inside a host's own FastAPI application, below a prefix."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from mcp import Client as MCPClient
from mcp.client.sse import sse_client

from portico.app.factory import create_app
from portico.app.server import bind
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from tests.app.serving import ANY_PORT, is_problem
from tests.routes.agents import Echo, Errors

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio

PREFIX = "/gateway/v1"


@asynccontextmanager
async def host(*, hands_on: bool = True) -> AsyncGenerator[httpx.AsyncClient]:
    """A host with a page of its own and a gateway below a prefix, served by plain uvicorn."""
    settings = replace(ANY_PORT, mcp_sse=True)
    gateway = create_app(Runtime(Supervisor("root", children=[Echo("echo"), Errors("errors")])), settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with gateway.router.lifespan_context(gateway) if hands_on else nullcontext():
            yield

    app = FastAPI(lifespan=lifespan)
    app.mount(PREFIX, gateway)

    @app.get("/own")
    async def own() -> str:  # pyright: ignore[reportUnusedFunction]
        return "the host's"

    with bind(ANY_PORT) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            serving = group.create_task(server.serve([listener]))
            while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
                await asyncio.sleep(0.005)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", trust_env=False) as client:
                try:
                    yield client
                finally:
                    server.should_exit = True
            await serving


@pytest.fixture(scope="module")
async def mounted(anyio_backend: object) -> AsyncGenerator[httpx.AsyncClient]:
    async with host() as client:
        yield client


async def test_the_agents_are_served_below_the_prefix_and_the_host_beside_them(mounted: httpx.AsyncClient) -> None:
    assert (await mounted.post(f"{PREFIX}/agents/echo", json={"text": "a"})).json() == {"echo": "a"}
    assert (await mounted.get("/own")).json() == "the host's"
    assert (await mounted.post("/agents/echo", json={"text": "a"})).status_code == 404


async def test_a_location_leads_to_the_run(mounted: httpx.AsyncClient) -> None:
    for path, body in (
        (f"{PREFIX}/agents/echo/cast", {"text": "a"}),
        (f"{PREFIX}/runs", {"agent": "echo", "payload": {"text": "a"}}),
    ):
        location = (await mounted.post(path, json=body)).headers["location"]
        assert location.startswith(f"{PREFIX}/runs/")
        assert (await mounted.get(location, params={"wait": 5})).json()["status"] == "succeeded"
        assert (await mounted.get(f"{location}/events")).headers["location"] == location


async def test_the_type_of_a_problem_leads_to_its_page(mounted: httpx.AsyncClient) -> None:
    problems = [
        is_problem(await mounted.post(f"{PREFIX}/agents/echo", json={}), 422, "contract-violated", PREFIX),
        is_problem(await mounted.get(f"{PREFIX}/nowhere"), 404, "not-found", PREFIX),
        is_problem(await mounted.get(f"{PREFIX}/docs/assets/nothing"), 404, "not-found", PREFIX),
        is_problem(await mounted.post(f"{PREFIX}/agents/errors/buy", json={"item": "tea"}), 409, "sold-out", PREFIX),
    ]
    for problem in problems:
        page: Any = (await mounted.get(problem["type"])).json()
        assert (page["type"], page["status"]) == (problem["type"], problem["status"])
    assert "at /nowhere" in problems[1]["detail"]


async def test_the_last_event_of_a_stream_has_the_prefix_too(mounted: httpx.AsyncClient) -> None:
    response = await mounted.post(f"{PREFIX}/agents/errors/buy", json={"item": "tea"}, headers={"accept": "text/event-stream"})

    assert f'"type":"{PREFIX}/problems/sold-out"' in response.text


async def test_the_pages_find_their_files_and_the_document(mounted: httpx.AsyncClient) -> None:
    assert (await mounted.get(f"{PREFIX}/docs")).status_code == 200
    assert (await mounted.get(f"{PREFIX}/docs/assets/docs.js")).status_code == 200
    assert "/agents/echo" in (await mounted.get(f"{PREFIX}/openapi.json")).json()["paths"]


async def test_probes_and_methods_are_told_below_the_prefix(mounted: httpx.AsyncClient) -> None:
    assert (await mounted.get(f"{PREFIX}/readyz")).json() == {"status": "ok"}
    response = await mounted.put(f"{PREFIX}/agents/echo")
    is_problem(response, 405, "method-not-allowed", PREFIX)
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_the_mcp_endpoint_works_below_the_prefix(mounted: httpx.AsyncClient) -> None:
    async with MCPClient(str(mounted.base_url).rstrip("/") + f"{PREFIX}/mcp") as client:
        result = await client.call_tool("echo", {"text": "a"})

    assert result.structured_content == {"echo": "a"}


async def test_mcp_in_its_oldest_form_works_below_the_prefix(mounted: httpx.AsyncClient) -> None:
    async with MCPClient(sse_client(str(mounted.base_url).rstrip("/") + f"{PREFIX}/mcp/sse")) as client:
        result = await client.call_tool("echo", {"text": "a"})

    assert result.structured_content == {"echo": "a"}


async def test_a_host_that_does_not_hand_on_its_lifespan_is_told_by_a_clear_503() -> None:
    async with host(hands_on=False) as client:
        asked = await client.post(f"{PREFIX}/agents/echo", json={"text": "a"})
        sent = await client.post(f"{PREFIX}/agents/echo/cast", json={"text": "a"})
        ready = await client.get(f"{PREFIX}/readyz")
        tools = await client.post(f"{PREFIX}/mcp", json={})

    for response in (asked, sent):
        problem = is_problem(response, 503, "runtime-not-started", PREFIX)
        assert "Runtime not started" in problem["detail"]
    assert ready.status_code == tools.status_code == 503
