"""`make soak`: the demo under load for minutes, with crashes and kills. `soak.py [SECONDS]`, five minutes unless given.

Twenty clients ask the echo, the counter, the flaky agent and the librarian; now and then the librarian's MCP server is killed with
SIGKILL. At the end: every ask was answered, the count is exact, nothing leaked, memory is flat. The exit code says so. Runs of a
minute or less judge memory too early: it grows until the gateway remembers its 10,000 runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
from memory import resident

TOPOLOGY = Path(__file__).parents[1] / "examples" / "demo" / "topology.yaml"
CLIENTS = 20
KILL_EVERY = 7.0
"""Seconds between two kills of the MCP server."""
GROWTH = 1.05
"""How much larger the memory at the end may be than after the first third."""
ASKS = {
    "echo": {"text": "hello"},
    "counter": {"add": 1},
    "flaky": {"number": 21},
    "librarian": {"message": "When is the library open on Saturdays?"},
}


def children(pid: int) -> list[int]:
    """The child processes of a process."""
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


class Soak:
    """One run against one gateway."""

    def __init__(self, url: str, pid: int, seconds: float) -> None:
        self.url = url
        self.pid = pid
        self.until = time.monotonic() + seconds
        self.answers: Counter[tuple[str, int]] = Counter()
        self.kills = 0
        self.memory: list[int] = []

    async def ask(self, client: httpx.AsyncClient) -> None:
        """One client: ask, at random, until the time is up."""
        while time.monotonic() < self.until:
            agent = random.choice([*ASKS])
            response = await client.post(f"{self.url}/agents/{agent}", json=ASKS[agent])
            self.answers[agent, response.status_code] += 1

    async def kill(self) -> None:
        """Kill the MCP server now and then."""
        while time.monotonic() + KILL_EVERY < self.until:
            await asyncio.sleep(KILL_EVERY)
            for child in children(self.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                    self.kills += 1

    async def watch(self) -> None:
        """Look at the memory ten times, and print where things are."""
        pause = (self.until - time.monotonic()) / 10
        for _ in range(9):
            await asyncio.sleep(pause)
            self.memory.append(resident(self.pid))
            print(f"{sum(self.answers.values()):>9,} asks, {self.kills} kills, {self.memory[-1] / 1024:.1f} MiB", flush=True)

    async def run(self) -> list[str]:
        """Run it. Returns what went wrong."""
        async with httpx.AsyncClient(timeout=30) as client:
            async with asyncio.TaskGroup() as group:
                for _ in range(CLIENTS):
                    group.create_task(self.ask(client))
                group.create_task(self.kill())
                group.create_task(self.watch())
            count = (await client.post(f"{self.url}/agents/counter", json={})).json()["count"]
            restarts = (await client.get(f"{self.url}/agents/flaky")).json()["restarts"]
        print(f"answers: {dict(self.answers)}; the flaky agent was restarted {restarts} times")
        failed = {key: number for key, number in self.answers.items() if key[1] != 200}
        wrong = [f"{number} asks of {agent} were answered {status}" for (agent, status), number in failed.items()]
        if count != self.answers["counter", 200]:
            wrong.append(f"the counter counted {count} of {self.answers['counter', 200]}")
        if restarts == 0:
            wrong.append("the flaky agent never crashed")
        if len(children(self.pid)) != 1:
            wrong.append(f"{len(children(self.pid))} MCP servers run instead of one")
        if self.memory[-1] > GROWTH * max(self.memory[:3]):
            wrong.append(f"memory grew from {max(self.memory[:3])} to {self.memory[-1]} KiB")
        return wrong


def main() -> int:
    """Serve the demo, run, and tell."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    command = [sys.executable, "-m", "portico", "serve", str(TOPOLOGY), "--port", "0", "--log-level", "error"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            announced = re.match(r"Portico serves (\S+),", server.stdout.readline() if server.stdout else "")
            if announced is None:
                print("the demo did not start: run `portico serve examples/demo/topology.yaml`")
                return 1
            wrong = asyncio.run(Soak(announced[1], server.pid, seconds).run())
        finally:
            server.terminate()
    print("\n".join(wrong) if wrong else f"sound after {seconds:g} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
