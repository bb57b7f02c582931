"""The arguments that several commands share, and the logging of all."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from portico.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_TOPOLOGY = Path("topology.yaml")

TopologyArgument = Annotated[Path, typer.Argument(help="The topology file.", show_default=True)]
TopologyOption = Annotated[Path, typer.Option("--topology", "-t", help="The topology file.", show_default=True)]
LogLevel = Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")]


def log_to_stderr(level: str, *, as_json: bool = False, secrets: Iterable[str] = ()) -> None:
    """Log lines on standard error, from `level` on. Standard output is for what was asked for. `secrets` never come out."""
    from portico.telemetry.logs import configure_logging
    from portico.telemetry.redaction import secrets_in

    try:
        known = {*secrets, *secrets_in(os.environ)}
        configure_logging(level, "json" if as_json else "text", secrets=known, environ=os.environ)
    except ConfigurationError as error:
        raise typer.BadParameter(error.detail, param_hint="--log-level") from None


def log_accesses() -> None:
    """The lines of `portico.access` on standard error as they are, whatever the level and the form of the rest."""
    from portico.telemetry.log_lines import PlainLines
    from portico.telemetry.redaction import Redaction, secrets_in

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainLines(Redaction(secrets_in(os.environ))))
    access = logging.getLogger("portico.access")
    access.handlers, access.propagate = [handler], False
    access.setLevel(logging.INFO)
