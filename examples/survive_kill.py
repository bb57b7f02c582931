"""What survives a kill: a server with a data directory, killed with SIGKILL while it works, and started again.

The server is a process of its own (`portico serve … --data DIR`). It is asked for a ticket, under an idempotency key, and told to
write a letter, line by line. In the middle of the letter it is killed. When it has been started again, it goes on with the letter
where it was, since each line is a step; and whoever asks for the ticket again, under the same key, gets the same one and no second.

    python examples/survive_kill.py
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tempfile
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import httpx

from portico import AgentProcess, Context, operation

if TYPE_CHECKING:
    from asyncio import StreamReader
    from asyncio.subprocess import Process
    from collections.abc import AsyncGenerator, AsyncIterator

TOPOLOGY = """
supervision:
  children:
    - {type: survive_kill.Tickets, name: tickets}
    - {type: survive_kill.Writer, name: writer}
"""
PAUSE = 0.4
"""Seconds for a line: long enough to be killed in the middle of the letter."""


class Tickets(AgentProcess):
    """Gives out numbers, each once."""

    @operation
    async def take(self) -> int:
        self.state["last"] = self.state.get("last", 0) + 1
        return self.state["last"]


class Writer(AgentProcess):
    """Writes letters, a line at a time."""

    @operation
    async def write(self, lines: list[str], name: str, ctx: Context) -> str:
        async def line(text: str) -> str:
            await asyncio.sleep(PAUSE)
            return f"{text}, {name}"

        written = [await ctx.step(f"line {number}", partial(line, text)) for number, text in enumerate(lines, 1)]
        return "; ".join(written)


# --- the server -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(folder: Path) -> AsyncGenerator[tuple[Process, httpx.AsyncClient]]:
    """A server on the data directory in `folder`, and a client of it."""
    command = ["-m", "portico", "serve", str(folder / "topology.yaml"), "--data", str(folder / "data"), "--port", "0"]
    here = Path(__file__).parent  # the agents above are imported from here
    path = os.pathsep.join(filter(None, [str(here), os.environ.get("PYTHONPATH")]))
    server = await asyncio.create_subprocess_exec(
        sys.executable, *command, "--log-level", "error", env={**os.environ, "PYTHONPATH": path}, stdout=asyncio.subprocess.PIPE
    )
    try:
        announced = re.search(r"http://[\d.:]+", (await cast("StreamReader", server.stdout).readline()).decode())
        if announced is None:
            raise SystemExit("the server did not start")
        async with httpx.AsyncClient(base_url=announced[0], timeout=20, trust_env=False) as client:
            yield server, client
    finally:
        if server.returncode is None:
            server.terminate()
        await server.wait()


# --- its client -------------------------------------------------------------------------------------------------------


async def take_a_ticket(client: httpx.AsyncClient) -> None:
    reply = await client.post("/agents/tickets", json={}, headers={"idempotency-key": "ada-1"})
    print(f"ticket {reply.json()}{', replayed' if 'idempotency-replayed' in reply.headers else ''}")


async def events(client: httpx.AsyncClient, run: str, after: int = 0) -> AsyncIterator[tuple[str, str]]:
    """The events of a run as they come, behind one of them: their types and the names of their steps."""
    kind = ""
    async with client.stream("GET", f"/runs/{run}/events", headers={"last-event-id": str(after)}) as response:
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield kind, json.loads(line.removeprefix("data: "))["data"].get("name", "")


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "topology.yaml").write_text(TOPOLOGY)

        async with serving(folder) as (server, client):
            await take_a_ticket(client)
            letter = {"lines": ["Dear friend", "it rains", "it still rains", "write soon"], "name": "Ada"}
            accepted = await client.post("/runs", json={"agent": "writer", "payload": letter})
            run = accepted.json()["run_id"]
            print(f"the letter is accepted: {accepted.status_code} {accepted.json()['status']}")
            async for kind, name in events(client, run):
                if kind == "step.completed":
                    print(f"  {name}")
                if (kind, name) == ("step.completed", "line 2"):
                    break
            server.kill()
            print(f"the server has ended: {await server.wait()}")

        async with serving(folder) as (_, client):
            print("the server is started again")
            await take_a_ticket(client)
            record = (await client.get(f"/runs/{run}", params={"wait": 20})).json()
            steps = [(kind, name) async for kind, name in events(client, run)]
            for kind in ("step.skipped", "step.completed"):
                print(f"{kind}: {', '.join(name for found, name in steps if found == kind)}")
            print(f"the letter has {record['status']} at attempt {record['attempts']}: {record['output']}")


if __name__ == "__main__":
    asyncio.run(main())
