"""A gateway inside a FastAPI application of yours: mounted under a path, with the lifespan handed on.

A mounted application's lifespan does not run by itself: the host's starts and stops it. By default the program asks itself once,
in process, and ends; with `--serve` uvicorn serves it on port 8000.

    python examples/embed_fastapi.py
    python examples/embed_fastapi.py --serve
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import uvicorn
from fastapi import FastAPI

from portico import AgentProcess, GatewayConfig, Runtime, Supervisor, create_app, operation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Greeter(AgentProcess):
    @operation(read_only=True)
    async def greet(self, name: str = "world") -> str:
        """Greet somebody."""
        return f"Hello, {name}!"


gateway = create_app(Runtime(supervisor=Supervisor("root", [Greeter("greeter")])), GatewayConfig(title="Agents"))


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    async with gateway.router.lifespan_context(gateway):  # starts the runtime before the first request, stops it after the last
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/ai", gateway)


@app.get("/")
async def index() -> dict[str, str]:
    return {"agents": "/ai/agents", "docs": "/ai/docs", "mcp": "/ai/mcp"}


async def ask_once() -> None:
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        print((await client.get("/")).json())
        print((await client.post("/ai/agents/greeter", json={"name": "Ada"})).json())
        print((await client.post("/ai/agents/nobody", json={})).json()["detail"])


if __name__ == "__main__":
    if "--serve" in sys.argv[1:]:
        uvicorn.run(app, host="127.0.0.1", port=8000)
    else:
        asyncio.run(ask_once())
