"""A human in the loop, in two ways.

A handler can wait for somebody's input, with `ctx.wait_input`: its run is `waiting` then, and its agent goes on with other
messages. Whoever is to decide finds the run, reads what it asks, and posts an answer. Or an agent can suspend itself: then it takes
no message until somebody resumes it; asks are refused with its reason, sends wait.

    python examples/human_in_the_loop.py
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

import httpx
from pydantic import BaseModel

from portico import AgentProcess, Context, GatewayConfig, HTTPGateway, Runtime, Supervisor, operation
from portico.errors import Suspended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHEAP = 100


class Verdict(BaseModel):
    """What a person decides."""

    approved: bool
    by: str


class Expenses(AgentProcess):
    """Pays at once what is cheap. What is dear, a person has to approve."""

    @operation
    async def claim(self, item: str, price: int, ctx: Context, patience: float = 60) -> str:
        if price <= CHEAP:
            return "paid"
        question = f"{item} for {price} francs?"
        verdict: Verdict | None = await ctx.wait_input(question, Verdict, timeout=patience, default=None)
        if verdict is None:
            return "declined, nobody decided in time"
        return f"{'approved' if verdict.approved else 'declined'} by {verdict.by}"


class Deployer(AgentProcess):
    """Prepares a release, and sends it out when somebody has allowed it."""

    @operation
    async def prepare(self, release: str) -> str:
        self.state["release"] = release
        await self.suspend(f"release {release} wants approval")
        return f"release {release} is prepared"

    async def on_resume(self, approver: str) -> None:
        print(f"release {self.state['release']} goes out, {approver} allowed it")


CLAIMS: list[dict[str, Any]] = [
    {"item": "tea", "price": 5},
    {"item": "book", "price": 120},
    {"item": "boat", "price": 90_000},
    {"item": "piano", "price": 8_000, "patience": 0.1},
]


async def events(client: httpx.AsyncClient, run: str) -> AsyncIterator[tuple[str, Any]]:
    """The events of a run as they come: their types and data."""
    kind = ""
    async with client.stream("GET", f"/runs/{run}/events") as response:
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield kind, json.loads(line.removeprefix("data: "))["data"]


async def expenses(client: httpx.AsyncClient) -> None:
    runs: dict[str, str] = {}
    for claim in CLAIMS:
        accepted = await client.post("/runs", json={"agent": "expenses", "payload": claim})
        runs[claim["item"]] = accepted.json()["run_id"]

    print("somebody has to decide:")
    for item, run in runs.items():
        async for kind, data in events(client, run):
            if kind == "run.waiting":
                print(f"  {data['prompt']}")
                break
            if kind == "run.succeeded":
                print(f"  not on {item}")

    wrong = await client.post(f"/runs/{runs['book']}/input", json={"approved": "perhaps"})
    print(f"{wrong.status_code} {wrong.json()['detail']}")
    await client.post(f"/runs/{runs['book']}/input", json={"approved": True, "by": "Ada"})
    await client.post(f"/runs/{runs['boat']}/input", json={"approved": False, "by": "Ada"})

    for item, run in runs.items():
        ended = await client.get(f"/runs/{run}", params={"wait": 10})
        print(f"  {item}: {ended.json()['output']}")


async def releases(runtime: Runtime) -> None:
    print((await runtime.ask("deployer", {"release": "1.4"}, message_type="prepare")).payload)
    try:
        await runtime.ask("deployer", {"release": "1.5"}, message_type="prepare")
    except Suspended as refused:
        print(refused)
    await runtime.resume("deployer", approver="Ada")
    print((await runtime.ask("deployer", {"release": "1.5"}, message_type="prepare")).payload)


async def main() -> None:
    gateway = HTTPGateway("api", config=GatewayConfig(port=0))
    async with Runtime(supervisor=Supervisor("root", [Expenses("expenses"), Deployer("deployer"), gateway])) as runtime:
        port = cast("HTTPGateway", runtime.get_agent("api")).port
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client:
            await expenses(client)
        await releases(runtime)


if __name__ == "__main__":
    asyncio.run(main())
