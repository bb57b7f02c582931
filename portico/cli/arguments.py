"""The arguments that several commands share, and the logging of all."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from portico.cli.json_lines import JsonLines

DEFAULT_TOPOLOGY = Path("topology.yaml")

TopologyArgument = Annotated[Path, typer.Argument(help="The topology file.", show_default=True)]
TopologyOption = Annotated[Path, typer.Option("--topology", "-t", help="The topology file.", show_default=True)]
LogLevel = Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")]


def log_to_stderr(level: str, *, as_json: bool = False) -> None:
    """Log lines on standard error, from `level` on. Standard output is for what was asked for."""
    names = ("debug", "info", "warning", "error")
    if level.lower() not in names:
        raise typer.BadParameter(f"{level!r} is not a log level: {', '.join(names)}.", param_hint="--log-level")
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True
    )
    if as_json:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonLines())
    for name in ("httpx", "httpx2"):  # they print whole addresses, with the keys that stand in some
        logging.getLogger(name).setLevel(logging.WARNING)


def log_accesses() -> None:
    """The lines of `portico.access` on standard error as they are, whatever the level and the form of the rest."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    access = logging.getLogger("portico.access")
    access.handlers, access.propagate = [handler], False
    access.setLevel(logging.INFO)
