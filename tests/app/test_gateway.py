"""HTTPGateway: the HTTP face as a process of the tree."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from mcp import Client

from portico import GatewayConfig, HTTPGateway, Runtime, Supervisor, create_app
from portico.errors import ConfigurationError, StartError
from tests.app.serving import ANY_PORT, is_problem, served
from tests.routes.agents import Echo, Mirror, Slow

if TYPE_CHECKING:
    from pathlib import Path

    from tests.app.certificates import Authority, Pair

pytestmark = pytest.mark.anyio

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def gateway_of(runtime: Runtime, name: str = "api") -> HTTPGateway:
    """The present incarnation of the gateway."""
    found = runtime.get_agent(name)
    assert isinstance(found, HTTPGateway)
    return found


def client_of(runtime: Runtime, name: str = "api") -> httpx.AsyncClient:
    """A client of it."""
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway_of(runtime, name).port}", timeout=20, trust_env=False)


def tree(*agents: Any, **settings: Any) -> Runtime:
    """A runtime with a gateway on any port as its last child."""
    config = GatewayConfig(port=0, **settings)
    return Runtime(Supervisor("root", children=[*agents, HTTPGateway("api", config=config)], backoff_base=0.001))


async def test_it_accepts_connections_when_the_start_returns_and_serves_the_agents_beside_it() -> None:
    routes = [{"method": "GET", "path": "/say/{text}", "agent": "echo"}]
    async with tree(Echo("echo"), Mirror("mirror", expose=True), routes=routes) as runtime, client_of(runtime) as client:
        assert (await client.get("/say/hello")).json() == {"echo": "hello"}
        assert (await client.post("/agents/mirror")).status_code == 200
        assert (await client.get("/readyz?verbose")).json()["processes"]["api"]["status"] == "running"


async def test_it_is_no_agent_itself() -> None:
    async with tree(Echo("echo")) as runtime, client_of(runtime) as client:
        is_problem(await client.post("/agents/api"), 404, "agent-not-found")
        assert [child["kind"] for child in (await client.get("/agents")).json()["children"]] == ["agent", "http"]


async def test_it_serves_mcp_too() -> None:
    async with tree(Echo("echo")) as runtime, Client(f"http://127.0.0.1:{gateway_of(runtime).port}/mcp") as client:
        result = await client.call_tool("echo", {"text": "a"})

    assert result.structured_content == {"echo": "a"}


async def test_its_settings_may_be_a_mapping() -> None:
    runtime = Runtime(Supervisor("root", children=[Echo("echo"), HTTPGateway("api", {"port": 0, "title": "Echoes"})]))
    async with runtime, client_of(runtime) as client:
        assert (await client.get("/openapi.json")).json()["info"]["title"] == "Echoes"


async def test_a_topology_can_have_one(tmp_path: Path) -> None:
    path = tmp_path / "topology.yaml"
    path.write_text(
        "supervision:\n  children:\n    - {type: tests.routes.agents.Echo, name: echo}\n"
        "    - {type: http_gateway, name: api, config: {port: 0, docs_path: /help}}\n"
    )
    app = create_app(path, ANY_PORT)
    runtime = app.state.gateway.runtime
    async with app.router.lifespan_context(app), client_of(runtime) as client:
        assert (await client.get("/help")).status_code == 200
        assert (await client.post("/agents/echo", json={"text": "a"})).json() == {"echo": "a"}


async def test_a_busy_port_fails_the_start_with_a_sentence() -> None:
    async with tree() as runtime:
        port = gateway_of(runtime).port
        other = Runtime(Supervisor("root", children=[HTTPGateway("api", GatewayConfig(port=port or 0))]))
        with pytest.raises(StartError, match=f"'api' did not start: .*The port {port} of 127.0.0.1 is taken"):
            await other.start()


async def test_a_route_that_leads_nowhere_fails_the_start_and_leaves_the_port_free() -> None:
    async with tree() as first:
        port = gateway_of(first).port or 0
    broken = GatewayConfig(port=port, routes=[{"method": "GET", "path": "/x", "agent": "nobody"}])
    with pytest.raises(StartError, match="nobody"):
        await Runtime(Supervisor("root", children=[HTTPGateway("api", broken)])).start()

    async with Runtime(Supervisor("root", children=[HTTPGateway("api", GatewayConfig(port=port))])) as again:
        assert gateway_of(again).port == port


async def test_certificates_that_are_not_there_fail_the_start_at_once(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.pem")
    config = GatewayConfig(port=0, tls_cert=missing, tls_key=missing)
    with anyio.fail_after(5), pytest.raises(StartError, match="TLS files"):
        await Runtime(Supervisor("root", children=[HTTPGateway("api", config)])).start()


async def test_it_refuses_to_be_reached_by_others_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    exposed = Runtime(Supervisor("root", children=[HTTPGateway("api", GatewayConfig(host="0.0.0.0", port=0))]))
    with pytest.raises(StartError, match="PORTICO_API_KEY"):
        await exposed.start()

    monkeypatch.setenv("PORTICO_API_KEY", "secret")
    again = Runtime(Supervisor("root", children=[HTTPGateway("api", GatewayConfig(host="0.0.0.0", port=0))]))
    async with again, client_of(again) as client:
        is_problem(await client.get("/agents"), 401, "unauthenticated")
        assert (await client.get("/agents", headers={"authorization": "Bearer secret"})).status_code == 200


async def test_the_key_of_the_environment_counts_where_the_settings_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_API_KEY", "secret")
    async with tree() as runtime, client_of(runtime) as client:
        assert (await client.get("/agents")).status_code == 401
    async with tree(api_key="own") as runtime, client_of(runtime) as client:
        assert (await client.get("/agents", headers={"authorization": "Bearer own"})).status_code == 200


async def test_signals_stay_with_the_host() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    async with tree(Echo("echo")) as runtime, client_of(runtime) as client:
        await client.get("/livez")
        during = [signal.getsignal(number) for number in SIGNALS]

    assert before == during == [signal.getsignal(number) for number in SIGNALS]


async def test_a_stop_ends_the_streams_and_answers_what_is_in_flight() -> None:
    slow = Slow("slow", expose=True)
    runtime = tree(slow)
    await runtime.start()
    answers: list[str] = []
    lines: list[str] = []
    with anyio.fail_after(10):
        async with client_of(runtime) as client, anyio.create_task_group() as group:

            async def ask() -> None:
                answers.append((await client.post("/agents/slow/wait")).text)

            group.start_soon(ask)
            await slow.began.wait()
            run = (await client.get("/runs")).json()["runs"][0]["run_id"]
            async with client.stream("GET", f"/runs/{run}/events") as stream:
                group.start_soon(runtime.stop)
                lines += [line async for line in stream.aiter_lines()]
            slow.go_on.set()

    assert "event: stream.draining" in lines
    assert answers == ['"done"']
    assert not runtime.started


async def test_it_is_restarted_like_any_process() -> None:
    async with tree(Echo("echo")) as runtime:
        old = gateway_of(runtime)
        await runtime.restart_agent("api")
        new = gateway_of(runtime)
        async with client_of(runtime) as client:
            assert (await client.post("/agents/echo", json={"text": "a"})).json() == {"echo": "a"}

    assert new is not old
    assert old.port is None


async def test_it_speaks_tls(authority: Authority, pair: Pair) -> None:
    client = httpx.AsyncClient(verify=authority.trusting(), trust_env=False)
    async with tree(Echo("echo"), tls_cert=pair.cert, tls_key=pair.key) as runtime, client:
        response = await client.get(f"https://localhost:{gateway_of(runtime).port}/livez")

    assert response.json() == {"status": "ok"}


async def test_who_has_connected_before_the_end_is_answered_after_it_began() -> None:
    async with served(Echo("echo")) as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        writer.write(b"GET /livez HT")  # the rest is on its way
        with anyio.fail_after(10):
            while not one.server.server_state.connections:  # noqa: ASYNC110  # uvicorn tells nobody
                await asyncio.sleep(0.01)
            one.server.should_exit = True
            while one.server.servers[0].is_serving():  # noqa: ASYNC110  # the same
                await asyncio.sleep(0.01)
            writer.write(b"TP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


def test_settings_that_cannot_be_are_refused_when_it_is_made() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'port'"):
        HTTPGateway("api", {"prot": 8080})
    with pytest.raises(ConfigurationError, match="port is '8080'"):
        HTTPGateway("api", {"port": "8080"})
