"""`make bench`: every benchmark, in one run. The exit code is 0 when every target was met."""

from __future__ import annotations

import sys

import asks
import console
import crashes
import disconnects
import durable
import erlang
import half_load
import http_asks
import idle
import keyed
import mcp_calls
import mcp_relay
import mcp_sessions
import mcp_stdio
import mcp_upstreams
import sends
import streams
import telemetry
import watching

if __name__ == "__main__":
    parts = (
        asks,
        erlang,
        sends,
        keyed,
        crashes,
        idle,
        http_asks,
        half_load,
        telemetry,
        streams,
        disconnects,
        durable,
        mcp_calls,
        mcp_stdio,
        mcp_sessions,
        mcp_relay,
        mcp_upstreams,
        watching,
        console,
    )
    results = [benchmark.main() for benchmark in parts]
    sys.exit(0 if all(results) else 1)
