"""Sessions of the old era: what each holds in the gateway, opened by `mcp_sessions.py [SESSIONS]` over plain sockets."""

from __future__ import annotations

import http.client
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from http_asks import PORTICO, serving
from mcp_calls import ENDPOINT, HEADERS
from memory import resident
from rounds import Bounds, compared, print_table

SESSIONS = "a session of 2025-11-25"
WARMING = 200
"""Sessions before those that count."""
MORE = {"PORTICO_MCP_SESSIONS_PER_CALLER": "100000", "PORTICO_MCP_MAX_SESSIONS": "100000"}


def opened(port: int, count: int) -> int:
    """Open so many. Returns how many were."""
    client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
    message = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": client})
    done = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"})
    connection, found = http.client.HTTPConnection("127.0.0.1", port, timeout=60), 0
    for _ in range(count):
        connection.request("POST", ENDPOINT, message, HEADERS)
        response = connection.getresponse()
        response.read()
        session = response.getheader("Mcp-Session-Id")
        if session is None:
            raise RuntimeError(f"no session was opened: {response.status}")
        connection.request("POST", ENDPOINT, done, {**HEADERS, "Mcp-Session-Id": session})
        connection.getresponse().read()
        found += 1
    connection.close()
    return found


def measure(sessions: int) -> float:
    """KiB of each."""
    with serving(PORTICO, **MORE) as (port, pid), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(opened, port, WARMING).result()
        before = resident(pid)
        pool.submit(opened, port, sessions).result()
        return (resident(pid) - before) / sessions


def main(rounds: int = 3, sessions: int = 2000) -> bool:
    """Print the table. Returns whether the target was met."""
    figures = compared({SESSIONS: lambda: measure(sessions)}, rounds)
    return print_table(f"MCP sessions, {sessions:,} of them: memory of each", figures, None, {SESSIONS: Bounds(most=40)}, " KiB")


if __name__ == "__main__":
    sys.exit(0 if main(sessions=int(sys.argv[1]) if len(sys.argv) > 1 else 2000) else 1)
