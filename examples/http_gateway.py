"""The HTTP gateway as a child of the tree, beside the agents that it serves.

By default it takes any free port, asks itself once over HTTP, and ends. With `--serve` it stays until Ctrl-C:

    python examples/http_gateway.py
    python examples/http_gateway.py 8080 --serve
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import suppress
from typing import cast

import httpx
from pydantic import BaseModel, Field

from portico import AgentProcess, GatewayConfig, HTTPGateway, Runtime, Supervisor, operation


class Order(BaseModel):
    """What is ordered."""

    item: str
    count: int = Field(1, ge=1, le=100)


class Receipt(BaseModel):
    """What was sold."""

    order: str
    left: int


class Shop(AgentProcess):
    """Sells what is in stock; the stock survives crashes."""

    @operation(idempotent=False)
    async def buy(self, request: Order) -> Receipt:
        """Buy something."""
        left = self.state.get("left", 100) - request.count
        self.state["left"] = left
        return Receipt(order=f"{request.count} {request.item}", left=left)


async def main(port: int, *, serve: bool) -> None:
    routes = [{"method": "POST", "path": "/shop/{item}", "agent": "shop"}]
    gateway = HTTPGateway("api", config=GatewayConfig(port=port, routes=routes))
    async with Runtime(supervisor=Supervisor("root", children=[Shop("shop"), gateway])) as runtime:
        bound = cast("HTTPGateway", runtime.get_agent("api"))
        url = f"http://127.0.0.1:{bound.port}"
        if serve:
            print(f"serving {url}, docs at {url}/docs; try POST {url}/shop/tea", flush=True)
            await runtime.wait()
            return
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            bought = await client.post("/shop/tea", json={"count": 3})
            print(bought.status_code, bought.json())
            refused = await client.post("/shop/tea", json={"count": 1000})
            print(refused.status_code, refused.json()["detail"])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", nargs="?", type=int, default=0, help="the port; 0 for any free one")
    parser.add_argument("--serve", action="store_true", help="stay until Ctrl-C")
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    with suppress(KeyboardInterrupt):
        asyncio.run(main(given.port, serve=given.serve))
