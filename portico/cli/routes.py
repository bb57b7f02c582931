"""`portico routes`: every route of a topology, and what a request passes on its way there, without starting it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from portico.cli.arguments import DEFAULT_TOPOLOGY, TopologyArgument, log_to_stderr
from portico.cli.display import as_json, columns, echo
from portico.cli.openapi import unserved

if TYPE_CHECKING:
    from portico.app.route_list import RouteRow

HEAD = ("METHOD", "PATH", "AGENT", "OPERATION", "MODE", "TIMEOUT", "SCOPES", "INTERCEPTORS", "KIND")


def routes(
    topology: TopologyArgument = DEFAULT_TOPOLOGY,
    json: Annotated[bool, typer.Option("--json", help="One JSON object, for a program.")] = False,
) -> None:
    """Print every route: the declared ones, the default ones, the gateway's own; and the middlewares in their order."""
    log_to_stderr("error")
    app = unserved(topology)
    from portico.app.route_list import middleware_of, routes_of

    rows, middlewares = routes_of(app), middleware_of(app)
    if json:
        echo(as_json({"routes": [asdict(row) for row in rows], "middleware": middlewares}))
        return
    for line in columns(HEAD, map(_cells, rows)):
        echo(line)
    echo()
    echo("A request passes, from the outermost to the innermost:")
    for number, name in enumerate([*middlewares, "the route, with its interceptors"], 1):
        echo(f"{number:>3}. {name}")


def _cells(row: RouteRow) -> tuple[str, ...]:
    return (
        row.method,
        row.path,
        row.agent or "",
        row.operation or "",
        row.mode or "",
        "" if row.timeout is None else f"{row.timeout:g} s",
        " ".join(row.scopes),
        str(len(row.interceptors) or ""),
        row.kind,
    )
