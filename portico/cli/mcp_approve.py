"""`portico mcp-approve`: look at tools of an external server that are new or have changed, and approve them. See `pin`."""

from __future__ import annotations

from difflib import unified_diff
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico.cli.data_directory import DataOption, StoreTopologyOption, chosen
from portico.cli.display import echo
from portico.errors import ConfigurationError, did_you_mean, nearest

if TYPE_CHECKING:
    from portico.mcp_bridge.calling.pin_file import Pins


def mcp_approve(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="The server's name.")],
    tools: Annotated[list[str] | None, typer.Argument(metavar="TOOL…", help="What to approve. [default: only show it]")] = None,
    every: Annotated[bool, typer.Option("--all", help="Approve all that is shown.")] = False,
    data: DataOption = None,
    topology: StoreTopologyOption = None,
) -> None:
    """Show what an external server's tools say of themselves that is not approved, and approve it by name."""
    from portico.mcp_bridge.calling.pin_file import PinFile
    from portico.topology.parts import MCP_STATE

    file = PinFile(chosen(data, topology) / MCP_STATE, server)
    if file.read() is None:
        raise ConfigurationError(f"Nothing is pinned for a server {server!r}: there is no {file.path}.")
    with file.editing() as pins:
        assert pins is not None  # noqa: S101  # just read
        wanted = list(pins.waiting) if every else tools or []
        for name in wanted:
            if name not in pins.waiting:
                raise ConfigurationError(f"No tool {name!r} waits for approval.{did_you_mean(nearest(name, pins.waiting))}")
        for name in sorted(wanted or pins.waiting):
            _show(name, pins)
        for name in wanted:
            pins.approved[name] = pins.waiting.pop(name)
    left = len(pins.waiting)
    typer.echo(f"{len(wanted)} approved, {left} waiting." if wanted or left else "Nothing waits for approval.", err=True)


def _show(name: str, pins: Pins) -> None:
    """What would be approved, beside what was."""
    before, now = _lines(pins.approved.get(name)), _lines(pins.waiting[name])
    for line in unified_diff(before, now, f"{name} (approved)", f"{name} (now)", lineterm="", n=2):
        echo(line)


def _lines(definition: Any) -> list[str]:
    import json

    return [] if definition is None else json.dumps(definition, indent=1, ensure_ascii=True, sort_keys=True).splitlines()
