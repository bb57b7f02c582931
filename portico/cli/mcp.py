"""`portico mcp`: an MCP server over stdio, the form that Claude Desktop starts: of a topology, or of one that runs elsewhere."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003  # typer reads the type hints
from typing import Annotated

import typer

from portico.cli.arguments import DEFAULT_TOPOLOGY, LogLevel, log_to_stderr


def mcp(
    topology: Annotated[
        Path | None, typer.Argument(help=f"The topology file. [default: {DEFAULT_TOPOLOGY}]", show_default=False)
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Serve no topology: relay to the MCP endpoint at this address, such as a running gateway's.")
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header", "-H", metavar="'NAME: VALUE'", help="With --url: a header of every request. PORTICO_API_KEY is sent."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The directory to store runs and states in. [default: what the topology says, else memory]")
    ] = None,
    log_level: LogLevel = "warning",
) -> None:
    """Serve a topology, or a running gateway, as an MCP server over standard input and output; logs go to standard error."""
    import asyncio

    log_to_stderr(log_level)
    if url is None:
        if header:
            raise typer.BadParameter("Only with --url.", param_hint="--header")
        asyncio.run(_serve(topology or DEFAULT_TOPOLOGY, data))
        return
    if topology is not None or data is not None:
        raise typer.BadParameter("Give a topology or --url, not both: a gateway that runs has its own.", param_hint="--url")
    asyncio.run(_relay(url, _headers(header or [])))


async def _serve(path: Path, data: str | None) -> None:
    from portico.app.auditing import auditing, open_trail
    from portico.app.door import open_door
    from portico.app.loading import load_topology, server_settings
    from portico.app.mcp import serving_options
    from portico.app.settings import GatewayConfig
    from portico.app.traced import traced
    from portico.mcp_bridge.serving.stdio import serve_stdio
    from portico.mcp_bridge.wire import claimed_wire
    from portico.telemetry.outlets import Outlets
    from portico.topology.runtime import Runtime

    with claimed_wire(for_good=True) as wire:  # first of all: a module that prints at import would speak on the wire
        topology = load_topology(path)
        settings = GatewayConfig.from_environ(os.environ, server_settings(topology))
        runtime, outlets = Runtime.from_topology(topology, data=data), Outlets(os.environ)
        async with traced(runtime, outlets) as observers, runtime:
            dispatcher = open_door(runtime, topology.routes, settings, observers=observers)
            trail = open_trail(dispatcher, settings, outlets, topology.directory)
            async with auditing(trail, dispatcher):
                await dispatcher.recover()
                await serve_stdio(dispatcher, wire, options=serving_options(settings))


async def _relay(url: str, headers: dict[str, str]) -> None:
    from portico.mcp_bridge.relaying.link import Link
    from portico.mcp_bridge.relaying.relay import Relay
    from portico.mcp_bridge.wire import claimed_wire

    link = Link(url, headers)
    with claimed_wire(for_good=True) as wire:
        await Relay(link, wire).run()


def _headers(given: list[str]) -> dict[str, str]:
    """What to send with every request. The key comes from the environment: a command line is seen by all users of the machine."""
    key = os.environ.get("PORTICO_API_KEY", "").strip()
    headers = {"authorization": f"Bearer {key}"} if key else {}
    for line in given:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise typer.BadParameter("Write it as 'Name: value'.", param_hint="--header")
        headers[name.strip().lower()] = value.strip()
    return headers
