"""`portico openapi`: the OpenAPI document of a topology, without starting it."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003  # typer reads the type hints
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from portico.cli.arguments import DEFAULT_TOPOLOGY, TopologyArgument, log_to_stderr
from portico.errors import ConfigurationError

if TYPE_CHECKING:
    from fastapi import FastAPI

Format = Literal["json", "yaml"]


def openapi(
    topology: TopologyArgument = DEFAULT_TOPOLOGY,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file to write. [default: standard output]")] = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="json or yaml. [default: as the file's name says, else json]")
    ] = None,
) -> None:
    """Write the OpenAPI document that a topology would serve at /openapi.json."""
    log_to_stderr("error")
    said = format_ or ("yaml" if output is not None and output.suffix in (".yaml", ".yml") else "json")
    text = _written(unserved(topology).openapi(), said)
    if output is None:
        typer.echo(text.encode(), nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written: {error.strerror or error}.") from error


def unserved(topology: Path) -> FastAPI:
    """The application of a topology, with the settings that `portico serve` would take; nothing of it is started."""
    from portico.app.loading import load_topology, server_settings
    from portico.app.settings import GatewayConfig

    loaded = load_topology(topology)
    settings = GatewayConfig.from_environ(os.environ, server_settings(loaded))
    from portico.app.factory import create_app  # only now: a mistake is told without waiting for a web framework

    return create_app(loaded, settings)


def _written(document: Any, format_: Format) -> str:
    """The same text for the same document."""
    import json

    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if format_ == "json":
        return text
    import yaml

    # Read back from JSON, the document shares no part with itself that YAML would write as an alias.
    return yaml.safe_dump(json.loads(text), sort_keys=False, allow_unicode=True, width=120)
