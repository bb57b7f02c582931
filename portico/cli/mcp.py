"""`portico mcp`: a topology as an MCP server over stdio, the form that Claude Desktop starts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from portico.cli.arguments import DEFAULT_TOPOLOGY, LogLevel, TopologyArgument, log_to_stderr

if TYPE_CHECKING:
    from pathlib import Path


def mcp(
    topology: TopologyArgument = DEFAULT_TOPOLOGY,
    data: Annotated[
        str | None, typer.Option(help="The directory to store runs and states in. [default: what the topology says, else memory]")
    ] = None,
    log_level: LogLevel = "warning",
) -> None:
    """Serve a topology as an MCP server over standard input and output; logs go to standard error."""
    import asyncio

    log_to_stderr(log_level)
    asyncio.run(_serve(topology, data))


async def _serve(path: Path, data: str | None) -> None:
    from portico.app.door import open_door
    from portico.app.loading import load_topology, server_settings
    from portico.app.mcp import serving_options
    from portico.app.settings import GatewayConfig
    from portico.mcp_bridge.serving.stdio import serve_stdio
    from portico.mcp_bridge.wire import claimed_wire
    from portico.topology.runtime import Runtime

    with claimed_wire() as wire:  # first of all: a module that prints at import would speak on the wire
        topology = load_topology(path)
        settings = GatewayConfig.from_environ(os.environ, server_settings(topology))
        async with Runtime.from_topology(topology, data=data) as runtime:
            dispatcher = open_door(runtime, topology.routes, settings)
            await dispatcher.recover()
            await serve_stdio(dispatcher, wire, options=serving_options(settings))
