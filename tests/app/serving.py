"""What the tests of the HTTP face share: gateways on real sockets, a client for each, and raw requests no client would send."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import httpx

from portico.app.factory import create_app
from portico.app.server import GatewayServer, bind
from portico.app.settings import GatewayConfig
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager

    from fastapi import FastAPI

    from portico.app.application import Gateway
    from portico.kernel.process import AgentProcess

ANY_PORT = GatewayConfig(port=0)


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway that listens."""

    app: FastAPI
    server: GatewayServer
    port: int
    client: httpx.AsyncClient

    @property
    def gateway(self) -> Gateway:
        """What stands behind it."""
        return self.app.state.gateway

    @property
    def runtime(self) -> Runtime:
        """Its runtime."""
        return self.gateway.runtime


@asynccontextmanager
async def listening(
    app: FastAPI,
    settings: GatewayConfig = ANY_PORT,
    *,
    lifespan: AbstractAsyncContextManager[object] | None = None,
    trust: ssl.SSLContext | None = None,
) -> AsyncGenerator[Served]:
    """An application of `create_app` on a real socket, in this event loop, within its own lifespan unless another is given.

    Where the settings have a certificate, the client comes by TLS, with `trust`.
    """
    with bind(settings) as listener, contextlib.closing(GatewayServer(app, settings, listener)) as server:
        port = listener.getsockname()[1]
        async with lifespan or app.router.lifespan_context(app), asyncio.TaskGroup() as group:
            serving = group.create_task(server.serve())
            await server.accepting.wait()
            scheme = "https" if settings.tls_cert else "http"
            address = f"{scheme}://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=address, verify=trust or True, timeout=20, trust_env=False) as client:
                try:
                    yield Served(app, server, port, client)
                finally:
                    server.should_exit = True
            await serving


@asynccontextmanager
async def served(
    *agents: AgentProcess | Supervisor, patience: float | None = 20, trust: ssl.SSLContext | None = None, **settings: Any
) -> AsyncGenerator[Served]:
    """Agents under one supervisor, behind a gateway with these settings, for at most `patience` seconds."""
    runtime = Runtime(Supervisor("root", children=list(agents), max_restarts=3, backoff_base=0.001))
    config = replace(ANY_PORT, **settings)
    async with asyncio.timeout(patience), listening(create_app(runtime, config), config, trust=trust) as gateway:
        yield gateway


@dataclass(frozen=True, slots=True)
class RawResponse:
    """What came back on a raw connection."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


async def raw(port: int, request: bytes, *, then_close: bool = False) -> RawResponse:
    """Send these bytes, and read one response. `then_close`: close the sending side after them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        await writer.drain()
        if then_close:
            writer.write_eof()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return RawResponse(int(first.split()[1]), headers, body)
    finally:
        writer.close()


def head(method: str, path: str, *lines: str) -> bytes:
    """The head of a raw request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode("latin-1")


def is_problem(response: httpx.Response | RawResponse, status: int, slug: str, prefix: str = "") -> dict[str, Any]:
    """Check that a response is that problem, and return it."""
    assert response.status == status if isinstance(response, RawResponse) else response.status_code == status, response
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["type"] == f"{prefix}/problems/{slug}"
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem
