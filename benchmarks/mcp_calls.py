"""MCP calls over HTTP, both eras: bare ASGI, the SDK's low-level server, and Portico as `portico serve` runs it, in turn.

What is compared is requests per second and, since the machine has other work too, the server's processor time per request.
"""

from __future__ import annotations

import contextlib
import http.client as http_client
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wrk
from http_asks import HERE, PORTICO, UVICORN, pinned, serving
from rounds import compared, print_table

BARE, SDK, STREAMING = (
    "bare ASGI that parses and prints",
    "SDK, low-level server, JSON alone",
    "SDK, low-level server, its default mode",
)
ONE, MANY = "Portico", "Portico, 200 tools"
WITHOUT, ASK = "Portico without the direct path", "Portico, the same call by HTTP alone"
MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "wrk", "version": "1"},
}
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
ENDPOINT = "/mcp"
FIRST_ID = 10_000_000
NUMBERED = f"""
local head, tail, number = nil, nil, {FIRST_ID}
function init()
  local text = wrk.format()
  local at = text:find(number, 1, true)
  if at then head, tail = text:sub(1, at - 1), text:sub(at + #tostring(number)) else head = text end
end
function request()
  number = number + 1
  return tail and head .. number .. tail or head
end
"""
"""Counts the ids up: those in flight in a session must differ. The request is put together once."""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent, again and again."""

    port: int
    pid: int
    body: str
    headers: dict[str, str]
    path: str = ENDPOINT

    def measure(self, seconds: int) -> Cost:
        """Send it over 32 connections. Raises `RuntimeError` where one was answered with anything but a 2xx."""
        with tempfile.TemporaryDirectory() as directory:
            script = Path(directory) / "post.lua"
            lines = [f'wrk.method = "POST"; wrk.body = {json.dumps(self.body)}']
            lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in self.headers.items()]
            script.write_text("\n".join(lines) + NUMBERED)
            command = ["wrk", "-t1", "-c32", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{self.port}{self.path}"]
            before = processor_time(self.pid)
            printed = subprocess.run(pinned(1, command), check=True, capture_output=True, text=True).stdout  # our own command
            answers = wrk.read(printed)
        if answers.refused:
            raise RuntimeError(printed)
        return Cost(answers.rate, (processor_time(self.pid) - before) / answers.count * 1e6)


@dataclass(frozen=True, slots=True)
class Cost:
    """What came of it."""

    rate: float
    """Answers per second."""
    processor: float
    """Microseconds of the server's processor for each."""


def processor_time(pid: int) -> float:
    """Seconds of the processor that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def call(meta: dict[str, Any] | None) -> str:
    """A call of the echo."""
    params: dict[str, Any] = {"name": "echo", "arguments": {"text": "hello"}}
    if meta is not None:
        params["_meta"] = meta
    return json.dumps({"jsonrpc": "2.0", "id": FIRST_ID, "method": "tools/call", "params": params})


def modern(port: int, pid: int) -> Load:
    """Calls of the new era."""
    headers = {**HEADERS, "MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "echo"}
    return Load(port, pid, call(META), headers)


def http(port: int, pid: int) -> Load:
    """The same call without MCP."""
    return Load(port, pid, '{"text": "hello"}', {"Content-Type": "application/json"}, "/agents/echo")


def legacy(port: int, pid: int) -> Load:
    """Calls in one session of the old era, which is opened."""
    version = "2025-11-25"
    opening = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "wrk", "version": "1"}}
    connection = http_client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": opening}
        connection.request("POST", ENDPOINT, json.dumps(message), HEADERS)
        response = connection.getresponse()
        response.read()
        session = response.getheader("Mcp-Session-Id") or ""
        headers = {**HEADERS, "Mcp-Session-Id": session, "MCP-Protocol-Version": version}
        connection.request("POST", ENDPOINT, json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}), headers)
        connection.getresponse().read()
    finally:
        connection.close()
    return Load(port, pid, call(None), headers)


def many_agents(directory: Path) -> Path:
    """A topology with 200 agents."""
    path = directory / "many.yaml"
    lines = ["supervision:", "  name: root", "  children:"]
    lines += [f"    - {{type: contracts.Echo, name: {name}}}" for name in ("echo", *(f"echo-{n}" for n in range(199)))]
    path.write_text("\n".join(lines))
    shutil.copy(HERE / "contracts.py", directory)
    return path


def main(rounds: int = 5, seconds: int = 2) -> bool:
    """Print the tables. Returns whether the targets were met."""
    if not wrk.there_is_wrk("MCP calls"):
        return True
    met = True
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        many = ["-m", "portico", "serve", str(many_agents(directory)), "--log-level", "warning"]
        servers = {
            BARE: stack.enter_context(serving([*UVICORN, "bare_mcp:app"])),
            SDK: stack.enter_context(serving([*UVICORN, "sdk_server:app"])),
            STREAMING: stack.enter_context(serving([*UVICORN, "sdk_server:streaming"])),
            ONE: stack.enter_context(serving(PORTICO)),
            MANY: stack.enter_context(serving(many)),
            WITHOUT: stack.enter_context(serving(PORTICO, PORTICO_MCP_DIRECT="false")),
        }
        for era, load in (("2026-07-28", modern), ("a session of 2025-11-25", legacy)):
            loads = {name: load(*server) for name, server in servers.items()}
            loads[ASK] = http(*servers[ONE])
            costs = compared({name: lambda one=one: one.measure(seconds) for name, one in loads.items()}, rounds)
            title = f"MCP calls, {era}, 32 connections"
            rates = {name: [cost.rate for cost in found] for name, found in costs.items()}
            times = {name: [cost.processor for cost in found] for name, found in costs.items()}
            met &= print_table(f"{title}: against the SDK", rates, SDK, {ONE: 5, MANY: 5})
            met &= print_table(f"{title}: against bare ASGI", rates, BARE, {ONE: 0.6} if load is modern else {})
            met &= print_table(f"{title}: 200 tools against one", {name: rates[name] for name in (ONE, MANY)}, ONE, {MANY: 0.97})
            print_table(f"{title}: processor time", times, BARE, {}, " µs")
            print_table(f"{title}: processor time", times, SDK, {}, " µs")
    return met


if __name__ == "__main__":
    sys.exit(0 if main(*map(int, sys.argv[1:])) else 1)
