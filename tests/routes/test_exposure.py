"""Which agents are served, and at which routes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from portico.app.factory import create_app
from portico.app.settings import GatewayConfig
from portico.errors import ConfigurationError, InvalidOperation, UnknownAgent, UnknownOperation
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.genserver import GenServer
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation, route
from tests.app.serving import is_problem, served
from tests.routes.agents import Echo, Mirror

pytestmark = pytest.mark.anyio


class Shop(AgentProcess):
    @route("GET", "/orders/{order}")
    @operation
    async def look(self, order: str) -> str:
        return order

    @operation
    async def close(self) -> str:
        return "closed"


class Counter(GenServer):
    async def handle_call(self, payload: Any, from_: Any) -> int:
        self.state["n"] = self.state.get("n", 0) + 1
        return self.state["n"]


def app_with(*routes: dict[str, Any], **settings: Any) -> Any:
    """An application with these declared routes."""
    runtime = Runtime(Supervisor("root", children=[Echo("echo"), Shop("shop")]))
    return create_app(runtime, GatewayConfig(routes=routes, **settings))


async def test_without_declared_routes_every_plain_agent_is_served() -> None:
    async with served(Echo("echo"), Counter("counter"), Supervisor("inner", children=[Mirror("mirror")])) as gateway:
        statuses = {
            name: (await gateway.client.post(f"/agents/{name}", json={"text": "a"})).status_code
            for name in ("echo", "counter", "mirror", "root", "inner")
        }

    assert statuses == {"echo": 200, "counter": 200, "mirror": 200, "root": 404, "inner": 404}


async def test_with_a_declared_route_only_what_says_expose_has_default_routes() -> None:
    async with served(Shop("shop"), Echo("echo"), Mirror("mirror", expose=True)) as gateway:
        assert (await gateway.client.get("/orders/7")).json() == "7"
        assert (await gateway.client.post("/agents/mirror")).status_code == 200
        is_problem(await gateway.client.post("/agents/echo", json={"text": "a"}), 404, "agent-not-found")
        is_problem(await gateway.client.post("/agents/shop/close"), 404, "agent-not-found")


async def test_routes_of_the_settings_are_declared_routes_too() -> None:
    routes = [
        {"method": "GET", "path": "/say/{text}", "agent": "echo"},
        {"method": "post", "path": "/closing", "agent": "shop", "operation": "close", "mode": "cast", "timeout": 3},
    ]
    async with served(Echo("echo"), Shop("shop"), routes=routes) as gateway:
        assert (await gateway.client.get("/say/hi?times=2")).json() == {"echo": "hi hi"}
        assert (await gateway.client.post("/closing")).status_code == 202


async def test_a_fixed_path_wins_over_a_template_and_each_method_is_its_own() -> None:
    routes = [
        {"method": "GET", "path": "/words/{text}", "agent": "echo"},
        {"method": "GET", "path": "/words/mirror", "agent": "mirror"},
        {"method": "POST", "path": "/words/{text}", "agent": "mirror"},
    ]
    async with served(Echo("echo"), Mirror("mirror"), routes=routes) as gateway:
        assert (await gateway.client.get("/words/a")).json() == {"echo": "a"}
        assert "sender" in (await gateway.client.get("/words/mirror")).json()
        assert (await gateway.client.post("/words/mirror")).json()["payload"] == {"text": "mirror"}
        response = await gateway.client.delete("/words/mirror")

    is_problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_several_operations_have_a_path_each_and_one_has_the_agents_own() -> None:
    async with served(Shop("shop", expose=True), Echo("echo", expose=True)) as gateway:
        assert (await gateway.client.post("/agents/shop/close")).json() == "closed"
        assert (await gateway.client.post("/agents/shop/look", json={"order": "1"})).json() == "1"
        assert (await gateway.client.post("/agents/echo", json={"text": "a"})).status_code == 200


async def test_the_status_of_an_agent_tells_where_it_is_served() -> None:
    async with served(Shop("shop", expose=True), Echo("echo", expose=True)) as gateway:
        shop = (await gateway.client.get("/agents/shop")).json()
        echo = (await gateway.client.get("/agents/echo")).json()

    assert {one["name"]: one["path"] for one in shop["operations"]} == {"look": "/agents/shop/look", "close": "/agents/shop/close"}
    assert echo["operations"] == [{"name": "echo", "path": "/agents/echo", "tool": "echo"}]
    assert (echo["status"], echo["incarnation"], echo["restarts"]) == ("running", 1, 0)
    assert echo["mailbox"] == {"depth": 0, "size": 1000, "expired": 0}


async def test_the_tree_shows_supervisors_and_processes() -> None:
    async with served(Supervisor("inner", strategy="ONE_FOR_ALL", children=[Echo("echo")]), Counter("counter")) as gateway:
        tree = (await gateway.client.get("/agents")).json()

    assert (tree["name"], tree["strategy"]) == ("root", "one_for_one")
    assert [child["name"] for child in tree["children"]] == ["inner", "counter"]
    assert tree["children"][0]["strategy"] == "one_for_all"
    assert tree["children"][0]["children"][0]["name"] == "echo"


async def test_an_agents_state_is_what_it_committed() -> None:
    async with served(Counter("counter")) as gateway:
        await gateway.client.post("/agents/counter")
        assert (await gateway.client.get("/agents/counter/state")).json() == {"n": 1}


@pytest.mark.parametrize("address", ["127.0.0.2", "::ffff:127.0.0.1", "::1"])
async def test_an_agents_state_is_shown_to_every_address_of_this_machine(address: str) -> None:
    async with served(Counter("counter")) as gateway:
        transport = httpx.ASGITransport(gateway.app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.get("/agents/counter/state")).status_code == 200


@pytest.mark.parametrize("address", ["10.0.0.1", "2001:db8::1", "localhost.example", ""])
async def test_an_agents_state_is_not_there_for_other_machines(address: str) -> None:
    async with served(Counter("counter")) as gateway:
        transport = httpx.ASGITransport(gateway.app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.get("/agents/counter/state")).status_code == 404


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["/a/{text}", "/a/{word}"])
def test_two_routes_of_one_method_and_shape_are_refused(other: str) -> None:
    with pytest.raises(ConfigurationError, match="Two routes are GET /a/"):
        app_with(
            {"method": "GET", "path": "/a/{text}", "agent": "echo"},
            {"method": "GET", "path": other, "agent": "shop", "operation": "look"},
        )


@pytest.mark.parametrize(
    "path", ["/agents", "/agents/x", "/runs", "/runs/x", "/mcp", "/docs", "/docs/assets/x", "/openapi.json", "/readyz", "/metrics"]
)
def test_a_route_that_would_hide_one_of_the_gateways_own_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="would hide a path of the gateway itself"):
        app_with({"method": "POST", "path": path, "agent": "echo"})


@pytest.mark.parametrize("settings", [{"docs_path": "/help"}, {"mcp_path": "/help"}])
def test_a_route_that_would_hide_a_page_that_was_moved_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="would hide a path of the gateway itself"):
        app_with({"method": "POST", "path": "/help", "agent": "echo"}, **settings)


@pytest.mark.parametrize("path", ["/agentsmith", "/mcp2", "/docs-of-ours", "/runsheet"])
def test_a_route_that_only_begins_alike_is_not(path: str) -> None:
    assert path in [one.spec.path for one in app_with({"method": "POST", "path": path, "agent": "echo"}).state.gateway.table]


@pytest.mark.parametrize(
    ("route_", "error", "text"),
    [
        ({"path": "/x", "agent": "echo"}, ConfigurationError, "lacks method"),
        ({"method": "GET", "path": "/x", "agent": "echo", "agnet": "x"}, ConfigurationError, "unknown keys: agnet"),
        ({"method": "FETCH", "path": "/x", "agent": "echo"}, InvalidOperation, "'FETCH'"),
        ({"method": "GET", "path": "x", "agent": "echo"}, InvalidOperation, "must begin with '/'"),
        ({"method": "GET", "path": "/x/{", "agent": "echo"}, InvalidOperation, "braces"),
        ({"method": "GET", "path": "/x", "agent": "echo", "mode": "sned"}, InvalidOperation, "'send'"),
        ({"method": "GET", "path": "/x", "agent": "echo", "on_disconnect": "x"}, InvalidOperation, "'cancel' or 'continue'"),
        ({"method": "GET", "path": "/x", "agent": "ecko"}, UnknownAgent, "Did you mean 'echo'"),
        ({"method": "GET", "path": "/x", "agent": "shop", "operation": "lok"}, UnknownOperation, "Did you mean 'look'"),
        ({"method": "GET", "path": "/x", "agent": "shop"}, UnknownOperation, "'shop' has no operation"),
    ],
)
def test_a_route_that_cannot_be_is_refused_before_anything_starts(
    route_: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        app_with(route_)


async def test_agents_that_come_at_run_time_have_routes_until_they_leave() -> None:
    async with served(Echo("echo"), DynamicSupervisor("crew")) as gateway:
        ask = gateway.client.post
        before = await ask("/agents/late", json={})
        await gateway.runtime.spawn("crew", Mirror, "late")
        between = await ask("/agents/late", json={})
        still = await ask("/agents/echo", json={"text": "a"})
        await gateway.runtime.despawn("crew", "late")
        after = await ask("/agents/late", json={})
        assert is_problem(before, 404, "agent-not-found")
        assert (between.status_code, still.status_code) == (200, 200)
        assert is_problem(after, 404, "agent-not-found")


async def test_a_newcomer_takes_no_path_from_others_and_changes_nobodys_exposure(caplog: pytest.LogCaptureFixture) -> None:
    class Thief(AgentProcess):
        @route("GET", "/orders/{order}")
        @route("GET", "/mine")
        async def look(self) -> str:
            return "stolen"

    async with served(Shop("shop"), Mirror("mirror", expose=True), DynamicSupervisor("crew")) as gateway:
        await gateway.runtime.spawn("crew", Thief, "thief")
        assert (await gateway.client.get("/orders/7")).json() == "7"
        assert (await gateway.client.get("/mine")).json() == "stolen"
        assert (await gateway.client.post("/agents/mirror")).status_code == 200
    assert "a route of 'thief' is not served: Two routes are GET /orders/{order}" in caplog.text

    async with served(Mirror("mirror"), DynamicSupervisor("crew")) as gateway:
        await gateway.runtime.spawn("crew", Thief, "thief")
        assert (await gateway.client.post("/agents/mirror")).status_code == 200
