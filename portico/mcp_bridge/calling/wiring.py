"""Wiring: from configurations to the supervisor that the topology puts first, and the tool set that the agents use.

    mcp                  one_for_one
    ├── mcp://files      one process per declared server, all connecting at once
    ├── mcp/added        those that `connect_mcp` adds
    └── mcp/gate         holds the start until the others had their chance

Above: the topology. It starts nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portico.errors import DuplicateName
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.calling.connection import Connection
from portico.mcp_bridge.calling.toolset import MCPToolSet
from portico.mcp_bridge.calling.upstream import MCPGate, MCPUpstream, process_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portico.mcp_bridge.config import MCPServerConfig

SUPERVISOR: Final = "mcp"
ADDED: Final = "mcp/added"
GATE: Final = "mcp/gate"


def build_upstreams(configs: Iterable[MCPServerConfig]) -> tuple[Supervisor, MCPToolSet]:
    """The supervisor over external servers (to stand first under the root) and their tools. Nothing is started.

    Without any configuration it holds what `connect_mcp` adds.

    Raises:
        DuplicateName: two servers of one name.
    """
    connections: dict[str, Connection] = {}
    for config in configs:
        if config.name in connections:
            raise DuplicateName(process_name(config.name))
        connections[config.name] = Connection(config)
    tools = MCPToolSet(connections.values(), ADDED)
    upstreams = [MCPUpstream(process_name(name), connection) for name, connection in connections.items()]
    gate = MCPGate(GATE, list(connections.values()), tools.open)
    return Supervisor(SUPERVISOR, [*upstreams, DynamicSupervisor(ADDED), gate]), tools
