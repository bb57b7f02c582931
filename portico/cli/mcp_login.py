"""`portico mcp-login`: log in once at a remote MCP server, by a browser; the gateway uses and refreshes what comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from portico.cli.arguments import DEFAULT_TOPOLOGY, TopologyArgument, log_to_stderr
from portico.cli.display import echo
from portico.errors import ConfigurationError, did_you_mean, nearest

if TYPE_CHECKING:
    from portico.mcp_bridge.config import MCPServerConfig
    from portico.topology.topology import Topology


def mcp_login(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="The server's name.")],
    topology: TopologyArgument = DEFAULT_TOPOLOGY,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to log in.")] = 300.0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the address in a browser, too.")] = True,
) -> None:
    """Log in at a remote MCP server whose `auth` is an authorization_code, and keep its tokens."""
    import asyncio

    from portico.app.loading import load_topology
    from portico.mcp_bridge.calling.logging_in import log_in

    log_to_stderr("error")
    config = _config(load_topology(topology), server)

    def show(address: str) -> None:
        typer.echo("Open this address, and log in there:", err=True)
        echo(address)
        if browser:
            import webbrowser

            webbrowser.open(address)

    tools = asyncio.run(log_in(config, show, timeout))
    typer.echo(f"Logged in at {server}, which has {tools} tools. Its tokens are kept in {config.state_dir}.", err=True)


def _config(loaded: Topology, server: str) -> MCPServerConfig:
    """The server's settings. Raises `ConfigurationError` where nobody can log in there."""
    from portico.mcp_bridge.authorization import AUTHORIZATION_CODE
    from portico.topology.parts import server_config

    names = [one.name for one in loaded.tool_servers]
    if server not in names:
        known = did_you_mean(nearest(server, names)) or f" There are: {', '.join(names) or 'none'}."
        raise ConfigurationError(f"There is no MCP server {server!r}.{known}")
    mcp = loaded.settings.mcp
    found = server_config(
        loaded.tool_servers[names.index(server)], loaded.directory, loaded.data_directory, mcp.secret_key if mcp else None
    )
    if found.authorization is None or found.authorization.type != AUTHORIZATION_CODE:
        raise ConfigurationError(f"Nobody logs in at {server!r}: its 'auth' is not of the type {AUTHORIZATION_CODE!r}.")
    if found.state_dir is None:
        raise ConfigurationError("There is no data directory to keep its tokens in: give the topology a store (type: sqlite).")
    return found
