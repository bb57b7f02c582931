"""Catalogue: what this gateway serves to the outside. Every face looks things up here, and so none can reach what is not in it.

One `Endpoint` per operation of an exposed agent. Default routes, tools, `POST /runs` and the command line all begin with one.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, cast

from portico.errors import InvalidOperation, UnknownAgent, UnknownOperation, did_you_mean, nearest
from portico.kernel.genserver import GenServer
from portico.kernel.messages import DEFAULT_TYPE
from portico.operations.operation import Operation, RouteSpec, bare

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from portico.kernel.process import AgentProcess

NOT_IN_TOOL_NAMES = re.compile(r"[^A-Za-z0-9_-]")
"""Model APIs take tool names of `[A-Za-z0-9_-]{1,64}`."""
TOOL_NAME_LIMIT = 64
"""Characters that a tool's name may have."""
DIGEST_SIZE = 4
"""Bytes of the digest in the name of a tool that would be too long, or that of another: twice as many characters."""

GATEWAY_PATHS = (
    "/.well-known/oauth-protected-resource",
    "/agents",
    "/audit",
    "/console",
    "/dead-letters",
    "/docs",
    "/events",
    "/healthz",
    "/livez",
    "/mcp",
    "/metrics",
    "/openapi.json",
    "/problems",
    "/readyz",
    "/redoc",
    "/runs",
    "/startupz",
    "/usage",
)
"""The gateway's own paths, with everything below them: no route of an agent can be there."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation of one agent, as the outside sees it."""

    agent: str
    """The agent's name."""
    operation: Operation
    """What it can be asked."""
    sole: bool
    """Whether it is the agent's only operation, or the only tool among them; then routes and tools carry the agent's name alone."""
    description: str
    """What it does, for people and models: what the topology says of an agent with one operation, else the docstring."""
    scopes: frozenset[str] = frozenset()
    """What a caller needs to be allowed: of the operation, its agent and the route together."""
    interceptors: tuple[Any, ...] = ()
    """Around each of its calls, the outermost first."""

    @property
    def path(self) -> str:
        """Its default route."""
        return f"/agents/{self.agent}" if self.sole else f"/agents/{self.agent}/{self.operation.name}"

    @property
    def tool(self) -> str:
        """Its name as an MCP tool: what such names cannot have becomes `_`; a longer one ends with a digest of the whole."""
        whole = self.tool_in_full
        name = NOT_IN_TOOL_NAMES.sub("_", whole)
        return name if len(name) <= TOOL_NAME_LIMIT else _with_digest(name, whole)

    @property
    def tool_in_full(self) -> str:
        """The same, as it would be if such names could be anything."""
        return self.agent if self.sole else f"{self.agent}-{self.operation.name}"


def endpoints_of(agent: AgentProcess) -> list[Endpoint]:
    """Every operation of a process: its decorated methods, and the bare `handle()` where it has one of its own."""
    operations = [operation for operation in agent.operations.values() if isinstance(operation, Operation)]
    if DEFAULT_TYPE not in agent.operations and _takes_bare_messages(type(agent)):
        operations.append(bare(inspect.cleandoc(type(agent).__doc__ or "")))
    tools = [operation for operation in operations if operation.is_tool]
    sole = operations[0] if len(operations) == 1 else tools[0] if len(tools) == 1 else None  # what else is offered renames no tool
    return [
        Endpoint(
            agent.name,
            operation,
            operation is sole,
            (agent.description if operation is sole else "") or operation.description,
            frozenset((*operation.scopes, *agent.scopes)),
        )
        for operation in operations
    ]


def check_completers(agent: AgentProcess) -> None:
    """Raises `InvalidOperation` where an argument is to be completed by an operation that there is not."""
    operations = [endpoint.operation for endpoint in endpoints_of(agent)]
    names = [operation.name for operation in operations]
    for operation in operations:
        for name in operation.completed_by.values():
            if name not in names:
                hint = did_you_mean(nearest(name, names))
                raise InvalidOperation(
                    f"{operation.attribute!r} of {agent.name!r} is completed by {name!r}, which it has not.{hint}"
                )


def _takes_bare_messages(kind: type[AgentProcess]) -> bool:
    """Whether somebody wrote what such messages come to: `GenServer` itself only sorts them."""
    if kind.handle is GenServer.handle:
        server = cast("type[GenServer]", kind)
        return server.handle_call is not GenServer.handle_call or server.handle_cast is not GenServer.handle_cast
    return kind.handle.__module__ != "portico.kernel.process"


def _through(endpoint: Endpoint, *specs: RouteSpec) -> Endpoint:
    """The endpoint with what these routes demand as well."""
    scopes = endpoint.scopes.union(*(spec.scopes for spec in specs))
    interceptors = tuple(dict.fromkeys(one for spec in specs for one in spec.interceptors))
    return replace(endpoint, scopes=scopes, interceptors=interceptors) if scopes or interceptors else endpoint


def default_routes(catalogue: Catalogue) -> Iterator[tuple[RouteSpec, Endpoint]]:
    """The routes that every exposed endpoint has: `POST` to its path asks, the same with `/cast` sends."""
    for endpoint in catalogue:
        yield RouteSpec("POST", endpoint.path), endpoint
        yield RouteSpec("POST", f"{endpoint.path}/cast", mode="send"), endpoint


class Catalogue:
    """The endpoints of a runtime's exposed agents, and the routes that were declared.

    An agent is exposed when it says so (`expose=True`), or, where nobody declared a route, unless it says no. Processes of the
    gateway itself never are. A declared route serves its operation even if its agent is not exposed otherwise.
    """

    def __init__(
        self,
        agents: Iterable[AgentProcess],
        routes: Sequence[tuple[RouteSpec, str, str | None]] = (),
        *,
        exposed_by_default: bool | None = None,
    ) -> None:
        """See above.

        Args:
            agents: of the runtime.
            routes: declared outside the classes, each with its agent and operation (None for the only one).
            exposed_by_default: whether an agent that says nothing is exposed; None for whether no route is declared.

        Raises:
            UnknownAgent, UnknownOperation: a route that leads nowhere.
        """
        self._endpoints: dict[str, list[Endpoint]] = {}
        self.resources: dict[str, Endpoint] = {}
        """What can be read, by the address that it declares; of several with one address, the first in tree order."""
        self.prompts: dict[str, Endpoint] = {}
        """What gives words for a model, by name."""
        self.routes: list[tuple[RouteSpec, Endpoint]] = []
        everything = {agent.name: endpoints_of(agent) for agent in agents if not agent.internal}
        routed: list[tuple[RouteSpec, Endpoint]] = []
        for endpoints in everything.values():
            routed += [(spec, endpoint) for endpoint in endpoints for spec in endpoint.operation.routes]
        for spec, agent_name, operation in routes:
            routed.append((spec, _find(everything, agent_name, operation)))
        self._prompt_names: dict[Endpoint, str] = {}
        self.routes = [(spec, _through(endpoint, spec)) for spec, endpoint in routed]
        # What one of its routes demands, its default route, its tool and `POST /runs` demand too: there is no way around.
        whole = {
            endpoint: _through(endpoint, *(spec for spec, other in routed if other == endpoint))
            for endpoints in everything.values()
            for endpoint in endpoints
        }
        self.exposed_by_default = not routed if exposed_by_default is None else exposed_by_default
        """Whether an agent that says nothing is exposed."""
        for agent in agents:
            if agent.name in everything and (self.exposed_by_default if agent.expose is None else agent.expose):
                self._endpoints[agent.name] = [whole[endpoint] for endpoint in everything[agent.name]]
        offered = dict.fromkeys([*self, *(whole[endpoint] for _, endpoint in routed)])
        self._tools = _named([endpoint for endpoint in offered if endpoint.operation.is_tool])
        self._tool_names = {endpoint: name for name, endpoint in self._tools.items()}
        for endpoint in offered:
            if endpoint.operation.resource is not None:
                self.resources.setdefault(endpoint.operation.resource.uri, endpoint)
            if endpoint.operation.prompt is not None:
                self._add_prompt(endpoint.operation.prompt.name, endpoint)

    def _add_prompt(self, name: str, endpoint: Endpoint) -> None:
        """The first of a name has it; of others it begins with their agent's."""
        while name in self.prompts:
            name = f"{endpoint.agent}-{name}"
        self.prompts[name] = endpoint
        self._prompt_names.setdefault(endpoint, name)

    def __iter__(self) -> Iterator[Endpoint]:
        """The exposed endpoints, in tree order."""
        for endpoints in self._endpoints.values():
            yield from endpoints

    @property
    def agents(self) -> list[str]:
        """The names of the exposed agents, in tree order."""
        return list(self._endpoints)

    @property
    def tools(self) -> dict[str, Endpoint]:
        """Everything that can be called as a tool, by tool name: exposed endpoints and those of declared routes."""
        return self._tools

    def tool_of(self, endpoint: Endpoint) -> str | None:
        """The name of the tool that an endpoint of this catalogue is; None where it is none."""
        return self._tool_names.get(endpoint)

    def prompt_of(self, endpoint: Endpoint) -> str | None:
        """The name of the prompt that an endpoint of this catalogue is; None where it is none."""
        return self._prompt_names.get(endpoint)

    def of(self, agent: str) -> Sequence[Endpoint]:
        """The endpoints of an agent, in the order in which it declares them; none where it is not exposed."""
        return self._endpoints.get(agent, ())

    def find(self, agent: str, operation: str | None = None) -> Endpoint:
        """The endpoint of an exposed agent; without `operation`, its only one, else that of its bare `handle()`.

        Raises:
            UnknownAgent, UnknownOperation: not there, or not exposed: the outside cannot tell.
        """
        return _find(self._endpoints, agent, operation)

    def check(self, agent: str) -> None:
        """Raises `UnknownAgent` where no agent of that name is exposed."""
        if agent not in self._endpoints:
            raise UnknownAgent(agent, nearest(agent, self._endpoints))

    def has(self, agent: str) -> bool:
        """Whether an agent of that name is exposed."""
        return agent in self._endpoints


def _named(endpoints: Collection[Endpoint]) -> dict[str, Endpoint]:
    """Endpoints by tool name.

    Where several names come to the same (`a.b` and `a_b`), the one that needed no change has it, and each other one a digest at its
    end: of what it stands for, so that it does not depend on which agents are there beside it, or in which order.
    """
    wanted = Counter(endpoint.tool for endpoint in endpoints)
    unchanged = [endpoint for endpoint in endpoints if endpoint.tool_in_full == endpoint.tool]
    taken = {endpoint.tool: endpoint for endpoint in sorted(unchanged, key=_identity, reverse=True)}
    named: dict[str, Endpoint] = {}
    for endpoint in endpoints:
        name = endpoint.tool
        unique = wanted[name] == 1 or taken.get(name) is endpoint
        named[name if unique else _with_digest(name, "/".join(_identity(endpoint)))] = endpoint
    return named


def _identity(endpoint: Endpoint) -> tuple[str, str]:
    return endpoint.agent, endpoint.operation.name


def _with_digest(name: str, of: str) -> str:
    digest = blake2b(of.encode(), digest_size=DIGEST_SIZE).hexdigest()
    return f"{name[: TOOL_NAME_LIMIT - len(digest) - 1]}-{digest}"


def _find(endpoints: Mapping[str, Sequence[Endpoint]], agent: str, operation: str | None) -> Endpoint:
    found = endpoints.get(agent)
    if found is None:
        raise UnknownAgent(agent, nearest(agent, endpoints))
    if operation is None:
        for endpoint in found:
            if endpoint.sole:
                return endpoint
        operation = DEFAULT_TYPE
    for endpoint in found:
        if endpoint.operation.name == operation:
            return endpoint
    raise UnknownOperation(agent, operation, nearest(operation, [endpoint.operation.name for endpoint in found]))
