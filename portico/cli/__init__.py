"""The command line: one file per command. Commands print and exit; what they do is done by the rooms below."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from portico.cli import (
    ask,
    audit,
    check,
    connect,
    init,
    keys,
    mcp,
    mcp_approve,
    mcp_login,
    openapi,
    routes,
    runs,
    serve,
    soak,
    store,
    top,
    tree,
    usage,
)
from portico.errors import PorticoError
from portico.version import __version__

app = typer.Typer(
    name="portico",
    help="Puts agents behind HTTP and MCP, and keeps them alive.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help as plain text: loading what draws boxes takes longer than everything else of `--help`
)
app.command("serve")(serve.serve)
app.command("run", hidden=True)(serve.serve)
app.command("check")(check.check)
app.command("tree")(tree.tree)
app.command("routes")(routes.routes)
app.command("openapi")(openapi.openapi)
app.command("ask")(ask.ask)
app.command("mcp")(mcp.mcp)
app.command("mcp-approve")(mcp_approve.mcp_approve)
app.command("mcp-login")(mcp_login.mcp_login)
app.command("usage")(usage.usage)
app.command("init")(init.init)
app.command("soak")(soak.soak)
app.command("top")(top.top)
app.add_typer(runs.app)
app.add_typer(store.app)
app.add_typer(audit.app)
app.add_typer(keys.app)
app.add_typer(connect.app)


def _version(asked: bool) -> None:  # noqa: FBT001  # typer's callback form
    if asked:
        typer.echo(f"portico {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """The entry point. A mistake is a sentence on standard error and an exit code other than 0, never a traceback."""
    try:
        app()
    except PorticoError as error:
        typer.echo(f"portico: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
