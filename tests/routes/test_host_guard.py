"""Host and Origin: who a request claims to be for, and where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from portico.routes.host_guard import HostGuard
from tests.app.serving import is_problem, raw, served
from tests.routes.agents import Echo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.app.serving import Served

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def named(anyio_backend: object) -> AsyncGenerator[Served]:
    """Bound to loopback, but for others too: behind a proxy of this machine."""
    async with served(Echo("echo"), patience=None, allowed_hosts=("Portico.example", "api.example:8443")) as one:
        yield one


@pytest.mark.parametrize("path", ["/livez", "/agents", "/mcp", "/docs", "/nowhere"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "localhost:1.evil.example",
        "127.0.0.1:80@evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8080",
        "127.0.0.1:",
        "localhost:port",
        "localhost:123456",
        "[::1",
        "",
    ],
)
async def test_a_request_for_somebody_else_is_refused_whatever_its_path(gateway: Served, host: str, path: str) -> None:
    response = await raw(gateway.port, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

    is_problem(response, 421, "foreign-host")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:80"])
async def test_this_machine_has_three_names_on_every_port(gateway: Served, host: str) -> None:
    assert (await gateway.client.get("/livez", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://evil.example",
        "http://localhost.evil.example",
        "http://localhost:1.evil.example",
        "http://localhost:80@evil",
        "file://",
    ],
)
async def test_a_page_of_somebody_else_is_refused(gateway: Served, origin: str) -> None:
    response = await gateway.client.post("/agents/echo", json={"text": "a"}, headers={"origin": origin})

    is_problem(response, 403, "foreign-host")


@pytest.mark.parametrize("origin", ["http://localhost:8080", "https://127.0.0.1", "http://[::1]:3000"])
async def test_a_page_of_this_machine_is_not(gateway: Served, origin: str) -> None:
    response = await gateway.client.post("/agents/echo", json={"text": "a"}, headers={"origin": origin})

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("portico.example", 200),
        ("PORTICO.example:9000", 200),
        ("api.example:8443", 200),
        ("api.example", 421),
        ("api.example:443", 421),
        ("localhost", 421),
        ("www.portico.example", 421),
    ],
)
async def test_who_is_allowed_is_what_the_settings_say(named: Served, host: str, status: int) -> None:
    assert (await named.client.get("/livez", headers={"host": host})).status_code == status


async def test_own_pages_may_call_where_hosts_are_named(named: Served) -> None:
    headers = {"host": "portico.example", "origin": "https://portico.example"}
    response = await named.client.post("/agents/echo", json={"text": "a"}, headers=headers)

    assert response.status_code == 200


async def test_what_a_stranger_calls_the_gateway_is_not_remembered_whatever_its_length() -> None:
    guard = HostGuard(_nothing, ["localhost"])
    for host in ("h.example", "h" * 256, "h" * 60_000):
        scope: Any = {"type": "http", "headers": [(b"host", host.encode())]}
        await guard(scope, _nothing, _nothing)

    assert list(guard._seen) == ["h.example"]  # pyright: ignore[reportPrivateUsage]


async def _nothing(*_: Any) -> Any: ...


async def test_many_strange_hosts_do_not_make_the_guard_forget_who_is_who(gateway: Served) -> None:
    for number in range(1100):
        assert (await gateway.client.get("/livez", headers={"host": f"h{number}.example"})).status_code == 421
    assert (await gateway.client.get("/livez")).status_code == 200
