"""A gateway with a key: what is behind it, what is open, and that the key shows nowhere."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from portico.app.settings import GatewayConfig
from portico.errors import ConfigurationError
from tests.app.serving import is_problem, served
from tests.routes.agents import Echo, Mirror

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.app.serving import Served

pytestmark = pytest.mark.anyio

KEY = "a-key-of-the-tests"
RIGHT = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
async def locked(anyio_backend: object) -> AsyncGenerator[Served]:
    routes = [{"method": "GET", "path": "/say/{text}", "agent": "echo"}]
    agents = (Echo("echo", expose=True), Mirror("mirror", expose=True))
    async with served(*agents, patience=None, api_key=KEY, routes=routes) as one:
        yield one


BEHIND = [
    ("GET", "/agents"),
    ("GET", "/agents/echo"),
    ("GET", "/agents/echo/state"),
    ("GET", "/say/hello"),
    ("POST", "/agents/mirror"),
    ("POST", "/agents/mirror/cast"),
    ("GET", "/runs"),
    ("GET", "/runs/x"),
    ("GET", "/runs/x/events"),
    ("POST", "/runs/x/cancel"),
    ("GET", "/openapi.json"),
    ("GET", "/problems"),
    ("GET", "/mcp"),
    ("POST", "/mcp"),
    ("DELETE", "/mcp"),
    ("GET", "/nowhere"),
    ("OPTIONS", "/agents/echo"),
    ("GET", "/livez/"),
    ("GET", "/docs/assets/../../agents"),
    ("GET", "//docs"),
]


@pytest.mark.parametrize(("method", "path"), BEHIND)
@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic YTpi", f"Token {KEY}"])
async def test_everything_is_behind_the_key(locked: Served, method: str, path: str, header: str | None) -> None:
    headers = {"authorization": header} if header is not None else {}
    response = await locked.client.request(method, path, headers=headers)

    is_problem(response, 401, "unauthenticated")
    sent = header is not None and header.startswith("Bearer")
    wrong = ', error="invalid_token", error_description="The key or token is not valid."' if sent else ""
    assert response.headers["www-authenticate"] == f'Bearer realm="portico"{wrong}'


async def test_the_key_is_for_its_headers_alone(locked: Served) -> None:
    headers = {"cookie": f"api_key={KEY}", "api-key": KEY, "proxy-authorization": f"Bearer {KEY}"}
    response = await locked.client.get("/agents", params={"api_key": KEY, "key": KEY, "access_token": KEY}, headers=headers)

    is_problem(response, 401, "unauthenticated")


@pytest.mark.parametrize(
    "path", ["/agents", "/agents/echo", "/agents/echo/state", "/say/hello", "/runs", "/openapi.json", "/problems"]
)
async def test_the_right_key_opens_it(locked: Served, path: str) -> None:
    assert (await locked.client.get(path, headers=RIGHT)).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz", "/healthz", "/docs", "/redoc", "/docs/assets/docs.js"])
async def test_probes_and_pages_are_open(locked: Served, path: str) -> None:
    assert (await locked.client.get(path)).status_code == 200


async def test_only_who_has_the_key_reads_what_the_probes_know(locked: Served) -> None:
    assert (await locked.client.get("/readyz?verbose")).json() == {"status": "ok"}
    assert "echo" in (await locked.client.get("/readyz?verbose", headers=RIGHT)).json()["processes"]


async def test_a_body_is_not_read_before_the_key_is(locked: Served) -> None:
    response = await locked.client.post("/agents/echo", content=b"{" * 5_000_000)

    is_problem(response, 401, "unauthenticated")


async def test_an_mcp_client_needs_the_key_too(locked: Served) -> None:
    url = f"http://127.0.0.1:{locked.port}/mcp"
    async with httpx2.AsyncClient(headers=RIGHT) as http, Client(streamable_http_client(url, http_client=http)) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}

    assert names == {"echo", "mirror"}


async def test_a_run_belongs_to_who_has_the_key(locked: Served) -> None:
    run = (await locked.client.post("/agents/mirror/cast", headers=RIGHT)).headers["location"]

    assert (await locked.client.get(run, headers=RIGHT)).status_code == 200
    assert (await locked.client.get(run)).status_code == 401


async def test_the_document_says_that_the_key_is_needed(locked: Served) -> None:
    document = (await locked.client.get("/openapi.json", headers=RIGHT)).json()

    assert document["security"] == [{"bearer": []}, {"apiKey": []}]
    assert document["paths"]["/livez"]["get"]["security"] == []
    assert "401" in document["paths"]["/agents/echo"]["post"]["responses"]


async def test_the_key_is_in_no_log_and_no_printed_object(locked: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await locked.client.post("/agents/echo", json={}, headers=RIGHT)
    await locked.client.get("/agents", headers={"authorization": f"Bearer {KEY}x"})
    everything = [locked.gateway, locked.gateway.settings, locked.app, locked.server.config, locked.app.user_middleware]
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]  # the client logs its own

    assert KEY not in repr(everything)
    assert KEY not in "".join(ours)


@pytest.mark.parametrize("key", ["", " ", "\n"])
def test_a_blank_key_is_refused_since_everybody_has_it(key: str) -> None:
    with pytest.raises(ConfigurationError, match="blank"):
        GatewayConfig(api_key=key)
