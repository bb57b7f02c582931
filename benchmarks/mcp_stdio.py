"""MCP calls over stdio, 32 in flight: the SDK's low-level server, and `portico mcp`, in turn.

The client writes as many lines as it has had answers, so that 32 calls are in flight all the time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from http_asks import HERE, pinned
from mcp_calls import META, Cost, processor_time
from rounds import compared, print_table

if TYPE_CHECKING:
    import io

SDK, PORTICO, WITHOUT = "SDK, low-level server", "portico mcp", "portico mcp without the direct path"
IN_FLIGHT = 32
COMMANDS = {
    SDK: [str(HERE / "sdk_server.py")],
    PORTICO: ["-m", "portico", "mcp", str(HERE / "topology.yaml")],
    WITHOUT: ["-m", "portico", "mcp", str(HERE / "topology.yaml")],
}
VERSION = "2025-11-25"


def line(request_id: int, method: str, params: dict[str, Any]) -> bytes:
    """A request."""
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}).encode() + b"\n"


def measure(name: str, era: str, calls: int) -> Cost:
    """Start a server, open the era, and make so many calls."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE), os.environ.get("PYTHONPATH", "")))}
    if name == WITHOUT:
        environment["PORTICO_MCP_DIRECT"] = "false"
    command = pinned(0, [sys.executable, *COMMANDS[name]])
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment
    ) as server:  # our own command
        assert server.stdin is not None
        assert server.stdout is not None
        params: dict[str, Any] = {"name": "echo", "arguments": {"text": "hello"}}
        if era == VERSION:
            client = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
            server.stdin.write(line(0, "initialize", client))
        else:
            params["_meta"] = META
            server.stdin.write(line(0, "tools/list", {"_meta": META}))
        server.stdin.flush()
        server.stdout.readline()
        if era == VERSION:
            server.stdin.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        before, begun, sent, had = processor_time(server.pid), time.perf_counter(), 0, 0
        while had < calls:
            more = min(IN_FLIGHT - (sent - had), calls - sent)
            server.stdin.write(b"".join(line(sent + n + 1, "tools/call", params) for n in range(more)))
            server.stdin.flush()
            sent += more
            while had < sent:
                answers = cast("io.BufferedReader", server.stdout).read1(65536).count(b"\n")
                had += answers
                if answers:
                    break
        taken = time.perf_counter() - begun
        processor = processor_time(server.pid) - before
        server.stdin.close()
        server.stdout.read()
    return Cost(calls / taken, processor / calls * 1e6)


def main(rounds: int = 5, calls: int = 10_000) -> bool:
    """Print the tables. Returns whether the target was met."""
    met = True
    for era in ("2026-07-28", VERSION):
        costs = compared({name: partial(measure, name, era, calls) for name in COMMANDS}, rounds)
        title = f"MCP calls over stdio, {era}, {IN_FLIGHT} in flight"
        met &= print_table(title, {name: [cost.rate for cost in found] for name, found in costs.items()}, SDK, {PORTICO: 2})
        times = {name: [cost.processor for cost in found] for name, found in costs.items()}
        print_table(f"{title}: processor time", times, SDK, {}, " µs")
    return met


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:])) else 1)
