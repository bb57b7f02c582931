"""`portico ask AGENT JSON`: start a topology, ask one agent through the one door, print the reply, stop."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico.cli.arguments import TopologyOption, log_to_stderr
from portico.errors import InvalidReply, MalformedBody

if TYPE_CHECKING:
    from pathlib import Path

from portico.cli.arguments import DEFAULT_TOPOLOGY


def ask(
    agent: Annotated[str, typer.Argument(help="The agent's name.")],
    payload: Annotated[str, typer.Argument(help="The request as JSON; - reads it from standard input.")] = "{}",
    operation: Annotated[
        str | None, typer.Option("--operation", "-o", help="What it is asked; its only operation unless given.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds to wait for the reply.")] = 30.0,
    topology: TopologyOption = DEFAULT_TOPOLOGY,
) -> None:
    """Ask an agent of a topology and print its reply as JSON."""
    import asyncio

    from pydantic_core import from_json, to_json

    text = sys.stdin.buffer.read() if payload == "-" else payload
    try:
        data = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedBody(f"The request is not JSON: {error}.") from None
    log_to_stderr("error")
    reply = asyncio.run(_ask(topology, agent, operation, data, timeout))
    try:
        typer.echo(to_json(reply, indent=2, inf_nan_mode="null", bytes_mode="base64").decode())
    except ValueError as error:
        raise InvalidReply.not_json(agent, operation or "its operation", error) from None


async def _ask(path: Path, agent: str, operation: str | None, payload: Any, timeout: float) -> Any:  # handed on
    from portico.app.auditing import auditing, open_trail
    from portico.app.door import open_door
    from portico.app.loading import load_topology, server_settings
    from portico.app.settings import GatewayConfig
    from portico.app.traced import traced
    from portico.runs.call import Call
    from portico.telemetry.outlets import Outlets
    from portico.topology.runtime import Runtime

    topology = load_topology(path)
    settings = GatewayConfig.from_environ(os.environ, server_settings(topology))
    runtime, outlets = Runtime.from_topology(topology), Outlets(os.environ)
    async with traced(runtime, outlets) as observers, runtime:
        dispatcher = open_door(runtime, topology.routes, settings, observers=observers)
        endpoint = dispatcher.catalogue.find(agent, operation)
        async with auditing(open_trail(dispatcher, settings, outlets, topology.directory), dispatcher):
            return (await dispatcher.ask(Call(endpoint, payload, timeout=timeout, face="cli"))).payload
