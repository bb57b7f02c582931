"""`portico connect`: tells a client of MCP of a topology or of a running gateway: prints its configuration, or writes it.

Below: `mcp_clients.py` (whose file is where, in which form), `config_file.py` (how it is changed), `server_json.py`.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from portico.cli.arguments import DEFAULT_TOPOLOGY
from portico.cli.config_file import ConfigFile, written
from portico.cli.display import as_json, echo
from portico.cli.mcp_clients import CLIENTS, KEY, Entry, Machine
from portico.errors import ConfigurationError
from portico.loopback import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.cli.mcp_clients import MCPClient

app = typer.Typer(name="connect", help="Tell clients of MCP where the agents are.", no_args_is_help=True)

TopologyArgument = Annotated[
    Path | None, typer.Argument(help=f"The topology file. [default: {DEFAULT_TOPOLOGY}]", show_default=False)
]
UrlOption = Annotated[str | None, typer.Option("--url", help="The MCP endpoint of a running gateway, instead of a topology.")]
NameOption = Annotated[str | None, typer.Option("--name", help="What the client calls it. [default: from the file or the address]")]
EnvOption = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        metavar="NAME[=VALUE]",
        help=f"A variable for the server; without a value, the client's own. With --url: {KEY}, its key.",
    ),
]
ProjectOption = Annotated[bool, typer.Option("--project", help="In the file of the project in this directory, not the user's.")]
WriteOption = Annotated[bool, typer.Option("--write", help="Change the file; the old one is kept beside it.")]


def _command(client: MCPClient) -> Callable[..., None]:
    def connect(  # options of a command
        topology: TopologyArgument = None,
        url: UrlOption = None,
        name: NameOption = None,
        env: EnvOption = None,
        project: ProjectOption = False,  # typer's form
        write: WriteOption = False,  # typer's form
    ) -> None:
        entry = _entry(topology, url, env or [])
        called = _checked_name(name) if name is not None else _name_of(topology or DEFAULT_TOPOLOGY, url)
        server = client.form(entry)
        path = _file(client, project=project)
        if not write:
            echo(written(client.format, client.key, called, server).rstrip("\n"))
            typer.echo(f"This belongs into {path}. With --write it is put there.", err=True)
            return
        file = ConfigFile(path)
        text, changed = file.with_server(client.format, client.key, called, server)
        if not changed:
            echo(f"{path} has {called} already.")
            return
        backup = file.write(text)
        kept = f" What was there before is in {backup}." if backup is not None else ""
        echo(f"{path} has {called} now.{kept} {client.title}: {client.then}")

    connect.__doc__ = f"Connect {client.title}: print what belongs into its configuration, or write it."
    return connect


for _name, _client in CLIENTS.items():
    app.command(_name)(_command(_client))


@app.command()
def registry(  # options of a command
    name: Annotated[str, typer.Option("--name", help="In the form io.github.somebody/thing.")],
    description: Annotated[str, typer.Option(help="At most 100 characters.")],
    version: Annotated[str, typer.Option(help="Of the server, exactly.")],
    url: Annotated[str | None, typer.Option(help="Where it runs, for everybody: https://….")] = None,
    package: Annotated[str | None, typer.Option(metavar="NAME==VERSION", help="What starts it, on PyPI.")] = None,
    keyed: Annotated[bool, typer.Option("--keyed", help="It asks for a key or a token.")] = False,  # typer's form
    write: WriteOption = False,  # typer's form
) -> None:
    """Print the server.json for the registry of MCP servers, or write it into this directory."""
    from portico.cli.server_json import server_json

    document = server_json(name=name, description=description, version=version, url=url, package=package, keyed=keyed)
    if not write:
        echo(as_json(document))
        return
    path = Path("server.json")
    text = as_json(document) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        echo("server.json says so already.")
        return
    backup = ConfigFile(path).write(text)
    echo("server.json is written." + (f" What was there before is in {backup}." if backup is not None else ""))


# --- inside -----------------------------------------------------------------------------------------------------------


def _entry(topology: Path | None, url: str | None, env: list[str]) -> Entry:
    variables = dict(_variable(line) for line in env)
    start = [sys.executable, "-m", "portico", "mcp"]
    if url is None:
        path = (topology or DEFAULT_TOPOLOGY).absolute()
        if not path.is_file():
            raise ConfigurationError(f"There is no topology {path}. Give its path, or --url for a running gateway.")
        return Entry([*start, str(path)], None, variables)
    if topology is not None:
        raise typer.BadParameter("Give a topology or --url, not both.", param_hint="--url")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        from portico.mcp_bridge.relaying.link import shown

        raise ConfigurationError(f"{shown(url)!r} is no address of an MCP endpoint: such as http://127.0.0.1:8080/mcp.")
    return Entry([*start, "--url", url], url, variables)


def _variable(line: str) -> tuple[str, str | None]:
    name, equals, value = line.partition("=")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise typer.BadParameter("Write it as NAME=VALUE, or NAME.", param_hint="--env")
    return name, value if equals else None


def _file(client: MCPClient, *, project: bool) -> Path:
    if not project:
        return Path(client.file(Machine(sys.platform, os.environ, str(Path.home()))))
    if client.project is None:
        raise typer.BadParameter(f"{client.title} knows no projects.", param_hint="--project")
    return Path.cwd() / client.project


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise typer.BadParameter("Letters, digits, - and _ alone, at most 64.", param_hint="--name")
    return name


def _name_of(topology: Path, url: str | None) -> str:
    """What to call it: after the file, its directory where the file has the usual name, or the host."""
    if url is not None:
        host = urlsplit(url).hostname or ""
        found = "" if is_loopback(host) else host
    else:
        path = topology.absolute()
        found = path.parent.name if path.stem == DEFAULT_TOPOLOGY.stem else path.stem
    return re.sub(r"[^A-Za-z0-9_-]+", "-", found).strip("-")[:64] or "portico"
