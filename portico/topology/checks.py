"""Checks: what needs more than one value to be judged. Names, constructors, routes, tool servers.

Takes the document as the schema has it, returns the specifications that are sound, and tells every mistake. It makes each
process once and throws it away, since only its constructor knows what it accepts; nothing is started.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from pydantic import PydanticUserError

from portico.audit.sinks import check_sink
from portico.errors import ConfigurationError, InvalidOperation, PorticoError
from portico.kernel.keyed import Keyed
from portico.kernel.messages import DEFAULT_TYPE
from portico.kernel.pool import Pool
from portico.kernel.process import AgentProcess, Restart
from portico.kernel.supervisor import Supervisor
from portico.operations.catalogue import GATEWAY_PATHS, check_completers, endpoints_of
from portico.operations.operation import RouteSpec
from portico.topology.classes import Classes, Maker, keywords, parameters
from portico.topology.mistakes import Location, Mistakes, dotted, nearest, shown
from portico.topology.model import AgentSettings, FlatSupervisor, NestedAgent, NestedSupervisor
from portico.topology.tree import AgentSpec, SupervisorSpec
from portico.topology.validation import UNNAMED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from portico.operations.catalogue import Endpoint
    from portico.topology.model import (
        ModelSettings,
        PriceSettings,
        RouteSettings,
        ServerOfTools,
        StoreSettings,
        SupervisorOptions,
        SupervisorSettings,
        TopologySettings,
    )

TOOLS_SUPERVISOR = "mcp"
"""The name of the supervisor over the external MCP servers; there is one where the topology has `mcp:`."""

DeclaredRoute = tuple[RouteSpec, str, str | None]
"""A route of the topology with its agent and operation (None: the only one), as `Catalogue` takes it."""

_PARAMETER = re.compile(r"\{([^{}:]*)(:path)?\}")
"""`{name}` takes one segment of a path, `{name:path}` any number."""
_TOOL_SERVER = re.compile(r"mcp://([A-Za-z0-9_-]+)(?:/|$)")


@dataclass(frozen=True, slots=True)
class _Route:
    """A route, wherever it was declared."""

    spec: RouteSpec
    endpoint: Endpoint | None
    """What it leads to, where that is known."""
    at: Location
    """Where its mistakes are told."""
    label: str
    """What others call it."""
    decorated: bool


@dataclass(slots=True)
class Checks:
    """One pass over one document."""

    mistakes: Mistakes
    """Where mistakes are told."""
    classes: Classes
    """The type names that the document may use."""
    server_names: list[str]
    """The external MCP servers that the document declares."""
    _places: dict[str, Location] = field(default_factory=dict[str, Location])
    _members: dict[str, Location] = field(default_factory=dict[str, Location])
    _endpoints: dict[str, list[Endpoint]] = field(default_factory=dict[str, "list[Endpoint]"])
    _supervisors: set[str] = field(default_factory=set[str])

    def tree(self, settings: TopologySettings) -> SupervisorSpec | None:
        """The specification of the tree; None where none is declared."""
        if settings.mcp is not None:
            self._places[TOOLS_SUPERVISOR] = ("mcp",)
            self._supervisors.add(TOOLS_SUPERVISOR)
        if settings.supervision and settings.supervisor:
            self.mistakes.add(("supervisor",), "'supervision' is there as well: they are two spellings of one thing.")
        root = settings.supervision or settings.supervisor
        if root is None:
            self.mistakes.add(("supervision",), "this key is missing: it holds the tree of agents.")
            return None
        return self._supervisor(root, ("supervision" if settings.supervision else "supervisor",))

    # --- processes ----------------------------------------------------------------------------------------------------

    def _supervisor(self, settings: SupervisorSettings, at: Location) -> SupervisorSpec:
        self._claim(settings.name, at)
        self._supervisors.add(settings.name)
        options = _said(settings)
        if isinstance(settings, FlatSupervisor):
            for key in options.keys() & _said(settings.config).keys():
                self.mistakes.add((*at, "config", key), f"{key!r} is also said outside of 'config'.")
            options |= _said(settings.config)
        children = [self._node(child, (*at, "children", index)) for index, child in enumerate(settings.children)]
        return SupervisorSpec(settings.name, options, tuple(child for child in children if child is not None))

    def _node(self, node: Any, at: Location) -> AgentSpec | SupervisorSpec | None:
        if isinstance(node, NestedSupervisor):
            return self._supervisor(node.supervisor, (*at, "supervisor"))
        if isinstance(node, FlatSupervisor):
            return self._supervisor(node, at)
        if isinstance(node, NestedAgent):
            return self._agent(node.agent, (*at, "agent"))
        return self._agent(cast("AgentSettings", node), at)

    def _agent(self, settings: AgentSettings, at: Location) -> AgentSpec | None:
        self._claim(settings.name, at)
        self._tool_references(settings.config, (*at, "config"))
        maker = self.classes.of(settings, at)
        if maker is None:
            return None
        options, many = self._options(settings, maker, at), self._many(settings, maker, at)
        spec = AgentSpec(settings.name, maker, settings.config, options, many, at)
        for number in range(1, many.get("pool", 0) + 1):
            self._claim_member(f"{settings.name}.{number}", at)
        if not self._constructor_takes(maker, settings.config, at):
            return None
        try:
            process = spec.build()
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a border: the user's constructor may raise anything
            what = error.detail if isinstance(error, PorticoError) else f"{type(error).__name__}: {error}".partition("\n")[0]
            self.mistakes.add((*at, "config"), f"{_called(maker)} cannot be made of this: {what}")
            return None
        self._look_at(process, spec)
        return spec

    def _claim(self, name: str, at: Location) -> None:
        """Note who has a name: agents and supervisors share one space."""
        taken = self._members.get(name) or self._places.setdefault(name, at)
        if taken != at:
            self.mistakes.add((*at, "name"), f"the name {name!r} is taken by {dotted(taken)}.")

    def _claim_member(self, name: str, at: Location) -> None:
        """Note the name of a member of a pool, which no route leads to."""
        taken = self._places.get(name) or self._members.setdefault(name, at)
        if taken != at:
            self.mistakes.add((*at, "pool"), f"the name {name!r} of a member is taken by {dotted(taken)}.")

    def _constructor_takes(self, maker: Maker, settings: dict[str, Any], at: Location) -> bool:
        known, config = parameters(maker), keywords(maker, settings)
        if not known.takes_name:
            self.mistakes.add((*at, "type"), f"the constructor of {_called(maker)} does not take a name first.")
            return False
        unknown = [key for key in config if key not in known.names] if not known.takes_any else []
        for key in unknown:
            hint = nearest(key, known.names) or f" It takes: {', '.join(sorted(known.names)) or 'nothing but a name'}."
            self.mistakes.add((*at, "config", key), f"the constructor of {_called(maker)} takes no {shown(key)}.{hint}")
        missing = sorted(known.required - config.keys())
        for key in missing:
            self.mistakes.add((*at, "config", key), f"this key is missing: the constructor of {_called(maker)} needs it.")
        return not unknown and not missing

    def _options(self, settings: AgentSettings, maker: Maker, at: Location) -> dict[str, Any]:
        options = {key: value for key, value in _said(settings).items() if key in AgentSettings.OPTIONS}
        if settings.restart is not None:
            options["restart"] = Restart(settings.restart)
        if isinstance(maker, type) and issubclass(maker, Supervisor):
            for key in options:
                self.mistakes.add(
                    (*at, key), f"a {maker.__name__} has no such setting; its constructor's arguments stand under 'config'."
                )
            return {}
        return options

    def _many(self, settings: AgentSettings, maker: Maker, at: Location) -> dict[str, Any]:
        """The settings of a pool or a keyed agent; empty for one process, and where they contradict each other."""
        many = {key: value for key, value in _said(settings).items() if key in AgentSettings.MANY}
        wrong = False
        for key in many:
            if isinstance(maker, type) and issubclass(maker, Supervisor):
                self.mistakes.add((*at, key), f"a {maker.__name__} has no such setting: it is for agents.")
            elif key == "pool" and "per_key" in many:
                self.mistakes.add((*at, key), "'per_key' is there as well: an agent is a pool or one process per key, not both.")
            elif key not in {"pool", "per_key"} and "per_key" not in many:
                self.mistakes.add((*at, key), f"{key!r} belongs to an agent with 'per_key'.")
            else:
                continue
            wrong = True
        return {} if wrong else many

    def _look_at(self, process: AgentProcess | Supervisor, spec: AgentSpec) -> None:
        """Check what only the made process shows: its name and its operations."""
        if process.name != spec.name:
            self.mistakes.add((*spec.location, "name"), f"{_called(spec.maker)} names itself {process.name!r} instead.")
        if isinstance(process, Pool | Keyed):
            process = process.template
        if not isinstance(process, AgentProcess):
            self._supervisors.add(spec.name)
            return
        endpoints = endpoints_of(process)
        for endpoint in endpoints:
            try:
                check_completers(process)
                endpoint.operation.prepare()
                _ = endpoint.operation.request_schema, endpoint.operation.response_schema
            except (InvalidOperation, PydanticUserError) as error:
                what = str(error).partition("\n")[0]
                self.mistakes.add((*spec.location, "type"), what)
                return
        self._endpoints[spec.name] = endpoints

    # --- routes -------------------------------------------------------------------------------------------------------

    def routes(self, settings: list[RouteSettings]) -> tuple[DeclaredRoute, ...]:
        """The document's routes. Those of decorators are looked at too, since they may collide."""
        declared = [self._declared(route, ("routes", index)) for index, route in enumerate(settings)]
        first: dict[tuple[str, str], str] = {}
        for route in [*self._decorated(), *declared]:
            fault = _path_fault(route.spec.path) or _member_fault(route)
            key = (route.spec.method, _PARAMETER.sub(r"{\2}", route.spec.path.rstrip("/")))
            if not fault and key in first:
                fault = f"{route.spec.method} {route.spec.path} is declared twice: the first is {first[key]}."
            if fault:
                self.mistakes.add(route.at, f"{route.label}: {fault}" if route.decorated else fault)
            first.setdefault(key, route.label)
        return tuple((route.spec, settings[index].agent, settings[index].operation) for index, route in enumerate(declared))

    def _declared(self, route: RouteSettings, at: Location) -> _Route:
        mode = "ask" if route.waits else "send"
        spec = RouteSpec(
            route.method,
            route.path,
            mode,
            route.timeout,
            route.on_disconnect,
            route.durable,
            tuple(route.scopes),
            tuple(route.interceptors),
            tuple(route.middleware),
        )
        return _Route(spec, self._endpoint(route, at), (*at, "path"), dotted(at), decorated=False)

    def _decorated(self) -> Iterable[_Route]:
        for name, endpoints in self._endpoints.items():
            for endpoint in endpoints:
                label = f"@route on {name}.{endpoint.operation.attribute}"
                for spec in endpoint.operation.routes:
                    yield _Route(spec, endpoint, (*self._places[name], "type"), label, decorated=True)

    def _endpoint(self, route: RouteSettings, at: Location) -> Endpoint | None:
        """What a route leads to; None where that is not known, told where it cannot be."""
        if route.agent not in self._places:
            agents = [name for name in self._places if name not in self._supervisors and name != UNNAMED]
            hint = nearest(route.agent, agents) or (f" There are: {', '.join(agents)}." if agents else "")
            self.mistakes.add((*at, "agent"), f"there is no agent {shown(route.agent)}.{hint}")
        elif route.agent in self._supervisors:
            self.mistakes.add((*at, "agent"), f"{route.agent!r} is a supervisor: it takes no calls.")
        endpoints = {endpoint.operation.name: endpoint for endpoint in self._endpoints.get(route.agent, [])}
        if not endpoints:
            return None
        if route.operation is None:
            return self._only(endpoints, route.agent, at)
        if route.operation not in endpoints:
            hint = nearest(route.operation, endpoints) or f" It has: {', '.join(endpoints)}."
            self.mistakes.add((*at, "operation"), f"agent {route.agent!r} has no operation {shown(route.operation)}.{hint}")
        return endpoints.get(route.operation)

    def _only(self, endpoints: dict[str, Endpoint], agent: str, at: Location) -> Endpoint | None:
        if len(endpoints) == 1:
            return next(iter(endpoints.values()))
        if DEFAULT_TYPE not in endpoints:
            names = ", ".join(endpoints)
            self.mistakes.add((*at, "operation"), f"this key is missing: agent {agent!r} has several operations ({names}).")
        return endpoints.get(DEFAULT_TYPE)

    # --- the store ----------------------------------------------------------------------------------------------------

    def store(self, settings: StoreSettings) -> None:
        """Memory has no settings of a file, and no payload outlives its run."""
        at: Location = ("store",)
        if settings.type == "memory" and not self.mistakes.told((*at, "type")):
            for key in ("path", "synchronous"):
                if key in settings.model_fields_set:
                    self.mistakes.add((*at, key), f"only a store of 'type: sqlite' has {key!r}.")
            if settings.retention.size is not None:
                self.mistakes.add((*at, "retention", "size"), "only a store of 'type: sqlite' has 'size'.")
        runs, payloads = settings.retention.runs, settings.retention.payloads
        if runs is not None and payloads is not None and payloads > runs:
            self.mistakes.add((*at, "retention", "payloads"), "this is longer than 'runs': no payload outlives its run.")

    def audit(self, settings: TopologySettings) -> None:
        """Each sink is one, and the trail's settings stand in one place."""
        if settings.audit is None:
            return
        for index, sink in enumerate(settings.audit.sinks):
            try:
                check_sink(sink)
            except ConfigurationError as error:
                self.mistakes.add(("audit", "sinks", index), error.detail)
        for key in settings.server.model_fields_set:
            if key == "audit" or key.startswith("audit_"):
                self.mistakes.add(("server", key), "'audit' is there as well: they are two spellings of one thing.")

    # --- tools and models ---------------------------------------------------------------------------------------------

    def tool_servers(self, servers: list[ServerOfTools]) -> None:
        """Each server has a name of its own, and what its transport needs."""
        names: dict[str, int] = {}
        for index, server in enumerate(servers):
            at = ("mcp", "servers", index)
            if names.setdefault(server.name, index) != index:
                first = dotted(("mcp", "servers", names[server.name]))
                self.mistakes.add((*at, "name"), f"the name {server.name!r} is taken by {first}.")
            self._reachable(server, at)

    def _reachable(self, server: ServerOfTools, at: Location) -> None:
        local = server.kind == "stdio"
        if server.command and server.url:
            self.mistakes.add((*at, "url"), "a server has a 'command' (stdio) or a 'url' (streamable_http, sse), not both.")
        elif local and not server.command:
            self.mistakes.add((*at, "command"), "this key is missing: a stdio server is started by a command.")
        elif not local and not server.url:
            self.mistakes.add((*at, "url"), f"this key is missing: transport {server.kind!r} needs it.")
        elif server.url and not re.match(r"https?://[^/\s]+", server.url):
            self.mistakes.add((*at, "url"), f"{shown(server.url)} is not a URL that begins with http:// or https://.")
        for key in ("args", "env", "inherit_env", "cwd", "sandbox") if not local else ("headers", "auth"):
            if getattr(server, key):
                self.mistakes.add((*at, key), f"only {'an HTTP' if local else 'a stdio'} server has {key!r}.")

    def models(self, settings: TopologySettings) -> None:
        """Every provider can be made of its settings, and the default is one of them."""
        if settings.models and settings.plugins.models:
            self.mistakes.add(("plugins", "models"), "'models' is there as well: they are two spellings of one thing.")
        for models, at in ((settings.models, ("models",)), (settings.plugins.models, ("plugins", "models"))):
            if models is not None:
                self._providers(models, at)

    def _providers(self, models: ModelSettings, at: Location) -> None:
        from portico.llm.providers import from_settings, make_provider  # noqa: PLC0415  # only where models are declared

        sound = True
        for name, said in models.providers.items():
            if said.get("api_key", "-") in {"", None}:
                continue  # left out: its key is not there
            try:
                make_provider(name, said)
            except ConfigurationError as error:
                self.mistakes.add((*at, name), error.detail)
                sound = False
        if models.default is not None and models.default not in models.providers:
            hint = nearest(models.default, models.providers) or f" There are: {', '.join(models.providers) or 'none'}."
            self.mistakes.add((*at, "default"), f"{shown(models.default)} has no settings here.{hint}")
        elif sound and models.providers:
            try:
                from_settings(models.providers, models.default)
            except ConfigurationError as error:
                self.mistakes.add(at, error.detail)

    def prices(self, settings: PriceSettings, directory: Path | None) -> None:
        """Every price is one, and the file of prices can be read."""
        from portico.llm.prices import Price  # noqa: PLC0415  # as above
        from portico.topology.parts import build_prices  # noqa: PLC0415

        at: Location = ("prices",)
        for model, price in settings.models.items():
            try:
                Price.of(model, price)
            except ConfigurationError as error:
                self.mistakes.add((*at, "models", model), error.detail)
        try:
            build_prices(settings.model_copy(update={"models": {}}), directory)
        except ConfigurationError as error:
            self.mistakes.add((*at, "file"), error.detail)

    def _tool_references(self, value: Any, at: Location) -> None:
        """Every `mcp://server/…` in a `config:` names a server of the document."""
        for where, text in _texts(value, at):
            match = _TOOL_SERVER.match(text)
            if match and match[1] not in self.server_names:
                known = f" There are: {', '.join(self.server_names)}." if self.server_names else " None is declared (mcp.servers)."
                hint = nearest(match[1], self.server_names) or known
                self.mistakes.add(where, f"{shown(text)}: there is no MCP server {match[1]!r}.{hint}")


def _said(settings: SupervisorOptions | AgentSettings) -> dict[str, Any]:
    """What the document says, without what it leaves to the class, and without the node's own keys."""
    own = {"name", "children", "type", "module", "class_", "config"}
    return {
        key: getattr(settings, key) for key in type(settings).model_fields if key not in own and getattr(settings, key) is not None
    }


def _called(maker: Maker) -> str:
    return getattr(maker, "__qualname__", repr(maker))


def _texts(value: Any, at: Location) -> Iterable[tuple[Location, str]]:
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, dict):
        for key, item in cast("dict[str, Any]", value).items():
            yield from _texts(item, (*at, key))
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[Any]", value)):
            yield from _texts(item, (*at, index))


def _path_fault(path: str) -> str:
    """What is wrong with a path template; empty where nothing is."""
    if not path.startswith("/"):
        return f"{shown(path)} must begin with '/'."
    if re.search(r"[\s?#\\]|//", path):
        return f"{shown(path)} is not a path: no spaces, '?', '#', '\\' or '//'."
    names = _parameters(path)
    for segment in path.split("/"):
        parameter = _PARAMETER.fullmatch(segment)
        if ("{" in segment or "}" in segment) and not (parameter and parameter[1].isidentifier()):
            return f"{shown(segment)} in {shown(path)} is not a parameter: a whole segment such as '{{name}}'."
    if len(set(names)) < len(names):
        return f"{shown(path)} has one parameter twice."
    reserved = next((own for own in GATEWAY_PATHS if path == own or path.startswith(f"{own}/")), None)
    return f"{shown(path)} is reserved: {reserved} and what is below it belongs to the gateway." if reserved else ""


def _parameters(path: str) -> list[str]:
    return [match[1] for match in _PARAMETER.finditer(path)]


def _member_fault(route: _Route) -> str:
    """A path parameter that the request has no place for; empty where there is none."""
    endpoint = route.endpoint
    members = endpoint.operation.request_members if endpoint is not None else None
    if endpoint is None or members is None:
        return ""
    name = next((name for name in _parameters(route.spec.path) if name not in members), None)
    if name is None:
        return ""
    hint = nearest(name, members) or f" It has: {', '.join(sorted(members))}."
    return f"the request of {endpoint.agent}.{endpoint.operation.name} has no member {name!r}, which the path names.{hint}"
