"""What the tests of this room share: agents that are served, a gateway on a real socket, external servers as real processes."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.routing import Route

from portico.errors import AgentError
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.calling.wiring import build_upstreams
from portico.mcp_bridge.config import MCPServerConfig
from portico.mcp_bridge.serving.http import MCPEndpoint
from portico.operations.decorators import operation
from portico.runs.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from portico.mcp_bridge.calling.toolset import MCPToolSet
    from portico.mcp_bridge.serving.options import ServingOptions

HERE = Path(__file__).parent
TOOL_SERVER = HERE / "calling" / "tool_server.py"
RAW_SERVER = HERE / "calling" / "raw_server.py"


# --- agents -----------------------------------------------------------------------------------------------------------


class Greeting(BaseModel):
    name: str = Field(min_length=1)
    times: int = Field(default=1, ge=1, le=3)


class Greeted(BaseModel):
    text: str


class Greeter(AgentProcess):
    """Greets."""

    @operation(title="Greet somebody", read_only=True, idempotent=True)
    async def greet(self, request: Greeting) -> Greeted:
        """Greets somebody, up to three times."""
        return Greeted(text=" ".join([f"Hello, {request.name}!"] * request.times))


class Sums(AgentProcess):
    @operation
    async def total(self, numbers: list[int]) -> int:
        """The sum of a list."""
        return sum(numbers)

    @operation(destructive=True)
    async def forget(self) -> None:
        """Forgets everything."""

    @operation(errors={"too-much": 409})
    async def refuse(self) -> str:
        raise AgentError("too-much", "I have enough.", limit=3)

    @operation(idempotent=False)
    async def crash(self) -> str:
        raise RuntimeError("the secret of the house")

    @operation
    async def break_contract(self) -> int:
        return "no number"  # pyright: ignore[reportReturnType]  # the point of it


class Bare(AgentProcess):
    """Takes anything."""

    async def handle(self, message: Any) -> Any:
        if message.payload.get("want") == "bytes":
            return self.reply(b"\x89PNG", media_type="image/png")
        if message.payload.get("want") == "text":
            return "just text"
        if message.payload.get("want") == "missing":
            return self.reply({"nothing": "here"}, status=404)
        return {"got": message.payload}


class Who(AgentProcess):
    @operation
    async def who(self, ctx: Context) -> dict[str, str | None]:
        """Who asks."""
        return {"principal": ctx.principal}


class Slow(AgentProcess):
    """Tells when it began, and when it was cancelled."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()

    @operation
    async def wait(self) -> str:
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "never"

    @operation
    async def count(self, ctx: Context, to: int = 3) -> int:
        for done in range(1, to + 1):
            ctx.progress(done, to, f"step {done}")
            ctx.progress(done, to, "not further")
        return to


class Scripted(AgentProcess):
    """Does what its test says."""

    def __init__(self, name: str, script: Callable[[Context], Awaitable[Any]]) -> None:
        super().__init__(name)
        self.script = script

    @operation
    async def act(self, ctx: Context) -> Any:
        """Does it."""
        return await self.script(ctx)


# --- a gateway on a real socket ---------------------------------------------------------------------------------------


class Principal:
    """In place of authentication: who calls, and what it may do, is what the headers say."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            scope["portico.principal"] = headers[b"x-who"].decode() if b"x-who" in headers else None
            if b"x-scopes" in headers:
                scope["portico.scopes"] = frozenset(headers[b"x-scopes"].decode().split())
        await self._app(scope, receive, send)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def until(condition: Callable[[], bool]) -> None:
    """Until another process, which cannot tell us, has come so far."""
    while not condition():  # noqa: ASYNC110  # there is no event across processes
        await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(app: ASGIApp, port: int) -> AsyncGenerator[None]:
    """An ASGI application on that port, in this event loop."""
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, timeout_graceful_shutdown=5))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(server.serve())
        await until(lambda: server.started or task.done())
        try:
            yield
        finally:
            server.should_exit = True


@asynccontextmanager
async def gateway(
    *agents: AgentProcess | Supervisor,
    allowed_hosts: Iterable[str] | None = None,
    port: int | None = None,
    options: ServingOptions | None = None,
) -> AsyncGenerator[tuple[str, MCPEndpoint]]:
    """Agents served at `/mcp`. Yields the URL and the endpoint."""
    port = port or free_port()
    async with Runtime(Supervisor("root", children=list(agents))) as runtime:
        endpoint = MCPEndpoint(Dispatcher(runtime), allowed_hosts=allowed_hosts, options=options)
        app = Starlette(routes=[Route("/mcp", endpoint=endpoint)], lifespan=lambda _: endpoint.lifespan())
        async with serving(Principal(app), port):
            yield f"http://127.0.0.1:{port}/mcp", endpoint


# --- external servers -------------------------------------------------------------------------------------------------


def tool_server(name: str = "tests", *args: str, **settings: Any) -> MCPServerConfig:
    """The configuration of the test server over stdio."""
    return MCPServerConfig(name, command="python", args=[str(TOOL_SERVER), *args], **settings)


@asynccontextmanager
async def upstreams(*configs: MCPServerConfig, agents: Iterable[AgentProcess] = ()) -> AsyncGenerator[MCPToolSet]:
    """A runtime whose tools are those servers'."""
    supervisor, tools = build_upstreams(configs)
    async with Runtime(Supervisor("root", children=[supervisor, *agents]), tool_registry=tools):
        yield tools


@asynccontextmanager
async def external_server(*arguments: str, port: int) -> AsyncGenerator[asyncio.subprocess.Process]:
    """The test server as a process that listens on that port."""
    process = await asyncio.create_subprocess_exec(sys.executable, str(TOOL_SERVER), *arguments)
    try:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            await writer.wait_closed()
            break
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
