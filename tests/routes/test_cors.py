"""CORS: pages of named origins may call, in a way that a browser believes; nobody else's may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from portico.app.settings import GatewayConfig
from portico.errors import ConfigurationError
from portico.routes.cors import EXPOSED
from tests.app.serving import is_problem, served
from tests.routes.agents import Echo, Errors, Slow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import httpx

    from tests.app.serving import Served

pytestmark = pytest.mark.anyio

PAGE = "https://app.example"
KEY = {"authorization": "Bearer secret"}


class Broken:
    """A middleware with a mistake in it."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/broken":
            raise RuntimeError("on purpose")
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
async def opened(anyio_backend: object) -> AsyncGenerator[Served]:
    """A gateway on loopback, with a key, for the pages of two origins."""
    agents = (Echo("echo", expose=True), Errors("errors", expose=True), Slow("slow", expose=True))
    routes = [{"method": "PUT", "path": "/say/{text}", "agent": "echo"}]
    async with served(
        *agents, patience=None, api_key="secret", cors_origins=(PAGE, "http://localhost:3000"), middleware=[Broken], routes=routes
    ) as one:
        yield one


async def preflight(one: Served, path: str, origin: str = PAGE, method: str = "POST", **headers: str) -> httpx.Response:
    asked = {"origin": origin, "access-control-request-method": method, **headers}
    return await one.client.request("OPTIONS", path, headers=asked)


@pytest.mark.parametrize(
    "path", ["/agents/echo", "/say/hello", "/patient", "/mcp", "/runs", "/runs/x/events", "/agents", "/openapi.json", "/nowhere"]
)
async def test_a_preflight_of_every_route_is_answered_without_a_key(opened: Served, path: str) -> None:
    response = await preflight(opened, path, **{"access-control-request-headers": "authorization,content-type,mcp-session-id"})

    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["access-control-allow-origin"] == PAGE
    assert response.headers["access-control-allow-headers"] == "authorization,content-type,mcp-session-id"
    assert set(response.headers["access-control-allow-methods"].split(", ")) >= {"GET", "POST", "PUT", "PATCH", "DELETE"}
    assert int(response.headers["access-control-max-age"]) > 60
    assert "Origin" in response.headers["vary"]
    assert "access-control-allow-credentials" not in response.headers


async def test_a_preflight_that_asks_for_no_header_hears_which_there_are(opened: Served) -> None:
    allowed = (await preflight(opened, "/mcp")).headers["access-control-allow-headers"]

    assert {"Authorization", "Content-Type", "Idempotency-Key", "Mcp-Session-Id", "MCP-Protocol-Version", "Last-Event-ID"} <= set(
        allowed.split(", ")
    )


@pytest.mark.parametrize("odd", ["a b", "x\x7f", "a: b", "é"])
async def test_what_is_no_list_of_headers_is_not_said_back(opened: Served, odd: str) -> None:
    request = opened.client.build_request(
        "OPTIONS",
        "/mcp",
        headers=[
            (b"origin", PAGE.encode()),
            (b"access-control-request-method", b"POST"),
            (b"access-control-request-headers", odd.encode("latin-1")),
        ],
    )
    response = await opened.client.send(request)

    assert response.status_code in (204, 400)
    assert odd not in response.headers.get("access-control-allow-headers", "")


async def test_a_page_reads_the_reply_and_its_headers(opened: Served) -> None:
    response = await opened.client.post("/agents/echo", json={"text": "a"}, headers={**KEY, "origin": PAGE})

    assert response.json() == {"echo": "a"}
    assert response.headers["access-control-allow-origin"] == PAGE
    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert set(exposed) == set(EXPOSED)
    assert {"X-Request-ID", "Location", "Retry-After", "Mcp-Session-Id", "Agent-Incarnation"} <= set(exposed)
    assert "Origin" in response.headers["vary"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "slug"),
    [
        ("GET", "/agents", {}, 401, "unauthenticated"),
        ("GET", "/nowhere", KEY, 404, "not-found"),
        ("POST", "/agents/echo", KEY, 422, "contract-violated"),
        ("GET", "/broken", KEY, 500, "internal-error"),
        ("GET", "/agents", {"host": "evil.example"}, 421, "foreign-host"),
    ],
)
async def test_a_page_reads_problems_too(
    opened: Served, method: str, path: str, headers: dict[str, str], status: int, slug: str
) -> None:
    response = await opened.client.request(method, path, headers={**headers, "origin": PAGE})

    is_problem(response, status, slug)
    assert response.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://app.example.evil", "https://app.example:8443", "null", "http://app.example"]
)
async def test_pages_of_others_are_refused_as_ever(opened: Served, origin: str) -> None:
    for response in (
        await opened.client.post("/agents/echo", json={"text": "a"}, headers={**KEY, "origin": origin}),
        await preflight(opened, "/agents/echo", origin),
    ):
        is_problem(response, 403, "foreign-host")
        assert "access-control-allow-origin" not in response.headers


async def test_the_second_origin_gets_its_own_name(opened: Served) -> None:
    response = await opened.client.get("/livez", headers={"origin": "http://localhost:3000"})

    assert response.headers["access-control-allow-origin"] == "http://localhost:3000"


async def test_who_comes_from_no_page_is_served_and_caches_are_warned(opened: Served) -> None:
    response = await opened.client.get("/livez")

    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["vary"] == "Origin"


async def test_options_without_a_page_stays_what_it_was(opened: Served) -> None:
    response = await opened.client.request("OPTIONS", "/agents/echo", headers={"origin": PAGE})

    is_problem(response, 401, "unauthenticated")


async def test_an_event_stream_is_readable_too(opened: Served) -> None:
    headers = {**KEY, "origin": PAGE, "prefer": "respond-async"}
    sent = await opened.client.post("/agents/echo", json={"text": "a"}, headers=headers)
    response = await opened.client.get(f"{sent.headers['location']}/events", headers={**KEY, "origin": PAGE})

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["access-control-allow-origin"] == PAGE


async def test_every_origin_can_be_let_in_but_never_with_credentials() -> None:
    async with served(Echo("echo"), cors_origins=("*",)) as one:
        response = await one.client.post("/agents/echo", json={"text": "a"}, headers={"origin": "https://anywhere.example"})
        asked = await preflight(one, "/agents/echo", "https://anywhere.example")

    for got in (response, asked):
        assert got.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in got.headers
    assert response.json() == {"echo": "a"}


async def test_without_the_setting_nothing_is_said() -> None:
    async with served(Echo("echo")) as one:
        response = await one.client.get("/livez", headers={"origin": "http://localhost:3000"})
        asked = await preflight(one, "/agents/echo", "http://localhost:3000")

    assert not [name for got in (response, asked) for name in got.headers if name.startswith("access-control") or name == "vary"]


@pytest.mark.parametrize(
    "origin",
    ["app.example", "https://app.example/", "https://app.example/x", "https://*.example", "", "null", "https://a:99999999"],
)
def test_what_no_browser_sends_is_refused_with_what_one_does(origin: str) -> None:
    with pytest.raises(ConfigurationError, match=r"cors_origins has .*such as https://app\.example"):
        GatewayConfig(cors_origins=(origin,))


def test_every_origin_and_client_certificates_cannot_be_had_together() -> None:
    certificates: dict[str, Any] = {"tls_cert": "a", "tls_key": "b", "tls_ca_cert": "c", "client_cert_mode": "optional"}
    with pytest.raises(ConfigurationError, match="any page could use its visitors' certificates"):
        GatewayConfig(cors_origins=("*",), **certificates)
    GatewayConfig(cors_origins=(PAGE,), **certificates)
