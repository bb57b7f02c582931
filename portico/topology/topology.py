"""Topology: a whole document, checked, from which a runtime's parts are built.

`load` reads a file or a mapping and tells every mistake at once, before anything starts. It reads no environment: the
caller gives the variables. Above: the app and the command line. Below: the files of this room, one step each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portico.topology.checks import Checks, DeclaredRoute
from portico.topology.classes import Classes, Maker, importable
from portico.topology.mistakes import Mistakes
from portico.topology.model import ModelSettings, ServerOfTools, ServerSettings, StoreSettings, TopologySettings
from portico.topology.parts import Parts, build_models, build_prices, build_tools
from portico.topology.source import adopt, parse, read
from portico.topology.validation import UNNAMED, validated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.topology.tree import SupervisorSpec


@dataclass(frozen=True, slots=True)
class Topology:
    """A checked topology. Nothing of it runs."""

    source: str
    """The file's name as it was given, for messages."""
    directory: Path | None
    """Where the file is; None for a mapping."""
    tree: SupervisorSpec
    """The supervisors and processes."""
    routes: tuple[DeclaredRoute, ...]
    """The declared routes, as `Catalogue` takes them."""
    settings: TopologySettings
    """The whole document."""

    @property
    def server(self) -> ServerSettings:
        """What it says about the HTTP server; None where it says nothing."""
        return self.settings.server

    @property
    def store(self) -> StoreSettings:
        """Where runs and states are kept."""
        return self.settings.store

    @property
    def data_directory(self) -> Path | None:
        """The directory of the store's file, whether it is there or not; None where all is kept in memory.

        A relative `path` is taken from the topology's directory, as a tool server's `cwd` is; for a mapping, from the working one.
        """
        if self.store.type == "memory":
            return None
        return (self.directory or Path()).joinpath(self.store.path).resolve()

    @property
    def tool_servers(self) -> list[ServerOfTools]:
        """The external MCP servers."""
        return self.settings.mcp.servers if self.settings.mcp is not None else []

    @property
    def models(self) -> ModelSettings | None:
        """The model providers' settings: `models:`, else the seed's `plugins.models`."""
        return self.settings.models or self.settings.plugins.models

    def build(self) -> Parts:
        """Fresh parts for one runtime. Raises `ConfigurationError` where a provider or a server cannot be made."""
        tools_supervisor, tools = build_tools(self.settings.mcp, self.directory, self.data_directory)
        first = (tools_supervisor,) if tools_supervisor is not None else ()
        prices = build_prices(self.settings.prices, self.directory)
        return Parts(self.tree.build(first=first), build_models(self.models), tools, prices)

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """JSON Schema (2020-12) of a topology file, for editors."""
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **TopologySettings.model_json_schema()}


def load(
    source: Path | str | Mapping[str, Any],
    *,
    env: Mapping[str, str] | None = None,
    node_types: Mapping[str, Maker] | None = None,
    agent_classes: Mapping[str, Maker] | None = None,
) -> Topology:
    """Read and check a topology.

    Args:
        source: the path of a YAML file, or its content as a mapping.
        env: the variables for `${NAME}`; none unless given.
        node_types: types beside the house's own, such as `http_gateway`.
        agent_classes: classes under the names that the topology uses as types.

    Raises:
        TopologyError: with every mistake.
    """
    if isinstance(source, str | Path):
        mistakes, directory = Mistakes(str(source)), Path(source).parent
        data = read(Path(source), env or {}, mistakes)
    else:
        mistakes, directory = Mistakes("topology"), None
        data = adopt(source, env or {}, mistakes)
    return _checked(data, Classes(mistakes, directory, node_types or {}, agent_classes or {}))


def load_text(
    text: str,
    *,
    name: str = "topology.yaml",
    directory: Path | None = None,
    env: Mapping[str, str] | None = None,
    node_types: Mapping[str, Maker] | None = None,
    agent_classes: Mapping[str, Maker] | None = None,
) -> Topology:
    """The same for YAML text that is at hand. Raises `TopologyError` with every mistake."""
    mistakes = Mistakes(name)
    return _checked(parse(text, env or {}, mistakes), Classes(mistakes, directory, node_types or {}, agent_classes or {}))


def _checked(data: Any, classes: Classes) -> Topology:
    mistakes = classes.mistakes
    settings = validated(data, mistakes)
    servers = settings.mcp.servers if settings.mcp is not None else []
    checks = Checks(mistakes, classes, [server.name for server in servers if server.name != UNNAMED])
    with importable(classes.directory):
        tree = checks.tree(settings)
        routes = checks.routes(settings.routes)
    checks.store(settings.store)
    checks.audit(settings)
    checks.tool_servers(servers)
    checks.models(settings)
    checks.prices(settings.prices, classes.directory)
    mistakes.check()
    assert tree is not None  # noqa: S101  # a missing tree is a mistake
    return Topology(mistakes.source, classes.directory, tree, routes, settings)
