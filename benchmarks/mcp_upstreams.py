"""Many external MCP servers at once: how long until all are connected, and what each costs on our side.

The servers are tiny programs of the standard library, so that it is our side that is measured. `mcp_upstreams.py [SERVERS]`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from pathlib import Path

import uvloop
from memory import resident
from rounds import Bounds, print_table

from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.calling.wiring import build_upstreams
from portico.mcp_bridge.config import MCPServerConfig

TINY = Path(__file__).parents[1] / "tests" / "mcp_bridge" / "calling" / "tiny_server.py"


async def measured(servers: int, era: str) -> tuple[float, float]:
    """Seconds until all are connected, and KiB of each in this process. Every one of them is called."""
    names = [f"server-{number}" for number in range(servers)]
    args = [str(TINY), *(["--old"] if era == "old" else [])]
    configs = [MCPServerConfig(name, command="python", args=["-S", "-E", *args], timeout=120.0, required=True) for name in names]
    gc.collect()
    before, began = resident(os.getpid()), time.perf_counter()
    supervisor, tools = build_upstreams(configs)
    async with Runtime(Supervisor("root", children=[supervisor]), tool_registry=tools):
        seconds = time.perf_counter() - began
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(tools.get(f"mcp://{name}/echo").execute(text="hello"))
        gc.collect()
        return seconds, (resident(os.getpid()) - before) / servers


def main(servers: int = 100) -> bool:
    """Measure, and print. Whether the targets are met."""
    met = True
    for era in ("new", "old"):
        # A program for each: memory that was freed before would flatter the second.
        command = [sys.executable, __file__, str(servers), era]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # our own command
        seconds, memory = map(float, printed.split())
        title = f"{servers} servers over stdio, {era} era"
        met &= print_table(title, {"until all are connected": [seconds]}, None, {}, " s")
        met &= print_table(
            title, {"memory of each, on our side": [memory]}, None, {"memory of each, on our side": Bounds(most=2048)}, " KiB"
        )
    return met


if __name__ == "__main__":
    if sys.argv[2:]:
        uvloop.run(measured(2, sys.argv[2]))  # what every program pays once
        print(*uvloop.run(measured(int(sys.argv[1]), sys.argv[2])))
        sys.exit(0)
    sys.exit(0 if main(*map(int, sys.argv[1:])) else 1)
