"""create_app: from what, who owns the runtime, and what a request passes."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import HTTPException
from starlette.testclient import TestClient

from portico.app.factory import create_app
from portico.app.loading import load_topology
from portico.errors import ConfigurationError, TopologyError
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from tests.app.middlewares import Failing, First, Second
from tests.app.serving import ANY_PORT, is_problem, listening, served
from tests.routes.agents import Echo, Mirror

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

TOPOLOGY = """
supervision:
  children:
    - {type: tests.routes.agents.Echo, name: echo, expose: true}
routes:
  - {method: GET, path: "/say/{text}", agent: echo}
"""


# --- sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["path", "text", "topology"])
async def test_a_topology_becomes_an_application_with_its_routes(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "topology.yaml"
    path.write_text(TOPOLOGY)
    source: Any = {"path": path, "text": str(path), "topology": load_topology(path)}[kind]
    app = create_app(source)
    assert not app.state.gateway.runtime.started

    async with listening(app) as gateway:
        assert (await gateway.client.get("/say/hello")).json() == {"echo": "hello"}
    assert not app.state.gateway.runtime.started


def test_a_mistaken_topology_is_no_application(tmp_path: Path) -> None:
    path = tmp_path / "topology.yaml"
    path.write_text(TOPOLOGY.replace("agent: echo", "agent: ecko"))

    with pytest.raises(TopologyError, match="echo"):
        create_app(path)


async def test_a_runtime_that_is_not_started_is_started_and_stopped() -> None:
    runtime = Runtime(Supervisor("root", children=[Echo("echo")]))
    async with listening(create_app(runtime, ANY_PORT)) as gateway:
        assert (await gateway.client.post("/agents/echo", json={"text": "a"})).status_code == 200

    assert not runtime.started


async def test_a_runtime_that_is_started_is_left_alone() -> None:
    async with Runtime(Supervisor("root", children=[Echo("echo")])) as runtime:
        async with listening(create_app(runtime, ANY_PORT)) as gateway:
            assert (await gateway.client.post("/agents/echo", json={"text": "a"})).status_code == 200

        assert (await runtime.ask("echo", {"text": "b"}, message_type="echo")).payload == {"echo": "b"}


async def test_an_application_can_be_started_again() -> None:
    app = create_app(Runtime(Supervisor("root", children=[Echo("echo")])), ANY_PORT)
    for _ in range(2):
        async with listening(app) as gateway:
            assert (await gateway.client.post("/agents/echo", json={"text": "a"})).status_code == 200
            assert (await gateway.client.get("/readyz")).status_code == 200


async def test_two_gateways_live_in_one_process_and_know_nothing_of_each_other() -> None:
    async with served(Echo("echo")) as one, served(Mirror("mirror")) as other:
        assert (await one.client.post("/agents/echo", json={"text": "a"})).status_code == 200
        assert (await other.client.post("/agents/mirror")).status_code == 200
        is_problem(await one.client.post("/agents/mirror"), 404, "agent-not-found")
        assert (await other.client.get("/runs")).json()["runs"][0]["agent"] == "mirror"
        assert [run["agent"] for run in (await one.client.get("/runs")).json()["runs"]] == ["echo"]


async def test_two_gateways_can_serve_one_runtime() -> None:
    runtime = Runtime(Supervisor("root", children=[Mirror("mirror")]))
    async with runtime, listening(create_app(runtime, ANY_PORT)) as one:
        async with listening(create_app(runtime, ANY_PORT)) as other:
            assert (await other.client.post("/agents/mirror")).status_code == 200
        assert (await one.client.post("/agents/mirror")).status_code == 200


def test_a_test_client_can_be_used_where_its_host_is_allowed() -> None:
    settings = replace(ANY_PORT, allowed_hosts=("testserver",))
    with TestClient(create_app(Runtime(Supervisor("root", children=[Echo("echo")])), settings)) as client:
        assert client.post("/agents/echo", json={"text": "a"}).json() == {"echo": "a"}


async def test_a_start_that_fails_leaves_nothing_running() -> None:
    class Stillborn(AgentProcess):
        async def on_start(self) -> None:
            raise RuntimeError("no")

    runtime = Runtime(Supervisor("root", children=[Echo("echo"), Stillborn("stillborn")]))
    with pytest.raises(Exception, match="'stillborn' did not start"):
        async with listening(create_app(runtime, ANY_PORT)):
            pass

    assert not runtime.started


# --- pages ------------------------------------------------------------------------------------------------------------


async def test_the_pages_can_be_moved_and_switched_off() -> None:
    async with served(Echo("echo"), docs_path="/help") as gateway:
        assert (await gateway.client.get("/help")).status_code == 200
        is_problem(await gateway.client.get("/docs"), 404, "not-found")
    async with served(Echo("echo"), docs_enabled=False) as gateway:
        is_problem(await gateway.client.get("/docs"), 404, "not-found")
        is_problem(await gateway.client.get("/redoc"), 404, "not-found")
        assert (await gateway.client.get("/openapi.json")).status_code == 200


async def test_the_mcp_endpoint_can_be_moved_and_switched_off() -> None:
    async with served(Echo("echo"), mcp_path="/tools") as gateway:
        assert (await gateway.client.post("/tools", json={})).status_code == 400
        is_problem(await gateway.client.post("/mcp", json={}), 404, "not-found")
    async with served(Echo("echo"), mcp_path=None) as gateway:
        is_problem(await gateway.client.post("/mcp", json={}), 404, "not-found")


async def test_the_document_has_every_route_and_the_title(tmp_path: Path) -> None:
    path = tmp_path / "topology.yaml"
    path.write_text(TOPOLOGY)
    async with listening(create_app(path, replace(ANY_PORT, title="Echoes"))) as gateway:
        document = (await gateway.client.get("/openapi.json")).json()

    assert (document["openapi"], document["info"]["title"]) == ("3.1.0", "Echoes")
    assert {"/say/{text}", "/agents/echo", "/agents/echo/cast", "/runs", "/runs/{run_id}/events", "/readyz"} <= document[
        "paths"
    ].keys()
    assert "requestBody" in document["paths"]["/runs"]["post"]


# --- middlewares ------------------------------------------------------------------------------------------------------


async def test_middlewares_come_by_class_or_dotted_path_the_first_outermost() -> None:
    async with served(Echo("echo"), middleware=[First, "tests.app.middlewares.Second"]) as gateway:
        for path in ("/agents", "/nowhere", "/livez"):
            response = await gateway.client.get(path)
            assert response.headers.get_list("x-passed") == ["second", "first"], path
        asked = await gateway.client.post("/agents/echo", json={"text": "a"})

    assert asked.headers.get_list("x-passed") == ["second", "first"]


async def test_middlewares_stand_inside_the_guards() -> None:
    async with served(Echo("echo"), middleware=[First], api_key="secret") as gateway:
        refused = await gateway.client.get("/agents")
        foreign = await gateway.client.get("/agents", headers={"host": "evil.example"})

    assert "x-passed" not in refused.headers
    assert foreign.status_code == 421


@pytest.mark.parametrize(
    "name",
    [
        "tests.app.middlewares.Thrid",
        "no.such.module.First",
        "First",
        "",
        "tests.app.middlewares.",
        "tests.app.middlewares.NOT_CALLABLE",
        "tests.app.middlewares.NotAnApplication",
        "tests.app.middlewares.Demanding",
        5,
    ],
)
def test_a_middleware_that_is_not_there_is_refused_and_not_skipped(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="The middleware"):
        create_app(Runtime(), replace(ANY_PORT, middleware=[name]))


async def test_a_middleware_that_a_host_adds_stands_before_the_agents_too() -> None:
    app = create_app(Runtime(Supervisor("root", children=[Echo("echo")])), ANY_PORT)
    app.add_middleware(Second)
    async with listening(app) as gateway:
        response = await gateway.client.post("/agents/echo", json={"text": "a"})

    assert response.headers["x-passed"] == "second"


async def test_what_goes_wrong_inside_is_a_problem_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    async with served(Echo("echo"), middleware=[Failing]) as gateway:
        response = await gateway.client.post("/agents/echo", json={"text": "a"})

    is_problem(response, 500, "internal-error")
    assert "secret" not in response.text


# --- routes of a host -------------------------------------------------------------------------------------------------


async def test_a_route_that_a_host_adds_keeps_its_own_errors() -> None:
    app = create_app(Runtime(Supervisor("root", children=[Echo("echo")])), ANY_PORT)

    @app.get("/payments/{number}")
    async def payment(number: int) -> None:  # pyright: ignore[reportUnusedFunction]
        raise HTTPException(number, "Ask your bank.", headers={"X-Bank": "closed"})

    @app.get("/broken")
    async def broken() -> None:  # pyright: ignore[reportUnusedFunction]
        raise RuntimeError("the secret of the house")

    async with listening(app) as gateway:
        answers = {number: await gateway.client.get(f"/payments/{number}") for number in (402, 404, 405, 499)}
        crashed = await gateway.client.get("/broken")

    for number, response in answers.items():
        assert response.status_code == number
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["x-bank"] == "closed"
        assert (response.json()["detail"], response.json()["type"]) == ("Ask your bank.", "about:blank")
    is_problem(crashed, 500, "internal-error")
    assert "secret" not in crashed.text


async def test_the_application_speaks_to_any_asgi_client() -> None:
    app = create_app(Runtime(Supervisor("root", children=[Echo("echo")])), ANY_PORT)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.post("/agents/echo", json={"text": "a"})).json() == {"echo": "a"}
