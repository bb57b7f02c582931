"""`portico check`: everything that can be known before starting: the topology, the routes, the settings, the external servers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico.cli.arguments import DEFAULT_TOPOLOGY, TopologyArgument, log_to_stderr
from portico.errors import StartError

if TYPE_CHECKING:
    from portico.runs.book import RunBook
    from portico.topology.topology import Topology


def check(
    topology: TopologyArgument = DEFAULT_TOPOLOGY,
    offline: Annotated[bool, typer.Option("--offline", help="Do not connect to the external MCP servers.")] = False,
) -> None:
    """Check a topology without serving it; the exit code is 0 when it is sound."""
    import asyncio

    from portico.app.loading import load_topology, server_settings
    from portico.app.settings import GatewayConfig

    log_to_stderr("error")
    loaded = load_topology(topology)
    settings = GatewayConfig.from_environ(os.environ, server_settings(loaded)).with_keys_of(loaded.data_directory)
    settings.refuse_exposure()
    from portico.app.factory import create_app  # only now: a mistake is told without waiting for a web framework
    from portico.app.server import check_server

    check_server(settings)
    gateway = create_app(loaded, settings).state.gateway
    for line in _missing_programs(loaded) if offline else []:  # whoever connects hears of it from there
        typer.echo(f"{topology}: warning: {line}", err=True)
    dead = [] if offline or not loaded.tool_servers else asyncio.run(_dead_servers(loaded))
    for line in dead:
        typer.echo(f"{topology}: {line}", err=True)
    if dead:
        raise typer.Exit(1)
    agents = sum(not agent.internal for agent in gateway.runtime.addressed_agents())
    servers = f", {len(loaded.tool_servers)} MCP servers" if loaded.tool_servers else ""
    kept = _kept(gateway.dispatcher.book)
    typer.echo(f"{topology} is sound: {agents} agents, {sum(1 for _ in gateway.table)} routes{servers}. {kept}")


def _kept(book: RunBook) -> str:
    where = book.store.where
    return f"Runs and states are stored in {where}." if book.store.durable else "Runs and states are kept in memory."


def _missing_programs(loaded: Topology) -> list[str]:
    """External servers that could not be started on this machine; they may be on another one."""
    if not loaded.tool_servers:
        return []
    from portico.mcp_bridge.calling.command import CommandError, found_program
    from portico.topology.parts import server_config

    lines: list[str] = []
    for server in loaded.tool_servers:
        config = server_config(server, loaded.directory, loaded.data_directory)
        try:
            if config.transport == "stdio":
                found_program(config)
        except CommandError as error:
            lines.append(f"MCP server {server.name!r} cannot be started here: {error}")
    return lines


async def _dead_servers(loaded: Topology) -> list[str]:
    """Start nothing but the external servers, and hear how each of them does."""
    from portico.kernel.runtime import Runtime
    from portico.mcp_bridge.calling.upstream import MCPUpstream

    root = loaded.build().supervisor
    servers: Any = root.children[0]
    try:
        async with Runtime(servers) as runtime:
            upstreams = [agent for agent in runtime.all_agents() if isinstance(agent, MCPUpstream)]
            return [
                f"MCP server {one.name!r} is down: {one.readiness().get('error')}"
                for one in upstreams
                if not one.readiness()["ready"]
            ]
    except StartError as error:
        return [str(error)]
