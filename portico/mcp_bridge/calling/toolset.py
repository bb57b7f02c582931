"""MCPToolSet: the tools of every external server, addressed `mcp://server/tool`. What agents find as `self.tools`.

It looks at the connections at the moment of the question: tools come and go with their servers. Above: agents. Below: connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from mcp.shared.exceptions import MCPError

from portico.errors import ConfigurationError, DuplicateName, MCPServerUnavailable, MCPToolError, PorticoError, UnknownTool, nearest
from portico.mcp_bridge.calling.connection import Connection
from portico.mcp_bridge.calling.oversize import is_oversized
from portico.mcp_bridge.calling.refusing import refuse, refuse_if_refused
from portico.mcp_bridge.calling.result_size import size_of
from portico.mcp_bridge.calling.results import ToolAnswer, answer_of
from portico.mcp_bridge.calling.upstream import MCPUpstream, process_name
from portico.mcp_bridge.config import MCPServerConfig
from portico.mcp_bridge.schemas import ANY_OBJECT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from portico.kernel.protocols import Tool
    from portico.kernel.router import Router
    from portico.mcp_bridge.calling.remote_tool import RemoteTool

SCHEME: Final = "mcp://"


class UpstreamTool:
    """One tool of one external server. It can be kept: it asks the connection for the tool as it is now."""

    def __init__(self, connection: Connection, tool: str) -> None:
        self._connection = connection
        self._tool = tool

    @property
    def name(self) -> str:
        """`mcp://server/tool`."""
        return f"{SCHEME}{self._connection.name}/{self._tool}"

    @property
    def description(self) -> str:
        """What the server says that it does; empty until the server was connected once. A stranger's text."""
        remote = self._connection.tools.get(self._tool)
        return (remote.tool.description or remote.tool.title or "") if remote is not None else ""

    @property
    def input_schema(self) -> Mapping[str, Any]:
        """What it takes; anything until the server was connected once."""
        remote = self._connection.tools.get(self._tool)
        return remote.tool.input_schema if remote is not None else ANY_OBJECT

    async def execute(self, /, **arguments: Any) -> Any:
        """Call it, from this task. Returns the structured content, else the text, else the `Parts`. Raises as `answer`."""
        return (await self.answer(**arguments)).value

    async def answer(self, /, **arguments: Any) -> ToolAnswer:
        """Call it, from this task, for everything that it answers: an image beside structured content, for instance.

        Raises:
            ToolError: the arguments do not satisfy the schema; nothing was sent.
            UnknownTool: the server has no such tool.
            ToolRefused: it has, and it is not trusted, or its answer is too large.
            MCPServerUnavailable: the server is not connected, or the connection broke meanwhile.
            MCPServerBusy: it has as many calls as it is given, and as many wait.
            MCPToolError: the server answered with an error.
        """
        remote = await self._remote()
        arguments = remote.given(arguments)
        remote.check(arguments)
        try:
            result = await self._connection.call(remote, arguments)
        except PorticoError as error:
            if is_oversized(error.__cause__):
                refuse(self._connection, self.name, f"{error.__cause__}")
            raise
        except MCPError as error:
            raise MCPToolError(self.name, error.message) from error
        except Exception as error:  # the border to a stranger's server: a result that breaks the protocol, or its own schema
            raise MCPToolError(self.name, f"its answer cannot be used ({type(error).__name__})") from error
        most = self._connection.config.max_result
        if size_of(result, most) > most:
            refuse(self._connection, self.name, f"its answer has more than {most} bytes (max_result)")
        return answer_of(self.name, result)

    async def _remote(self) -> RemoteTool:
        connection = self._connection
        if not connection.listed:
            await connection.ready()
        remote = connection.tools.get(self._tool)
        if remote is None:
            connection.reconsider()
            remote = connection.tools.get(self._tool)
        if remote is None:
            refuse_if_refused(connection, self._tool)
            raise UnknownTool(self.name, nearest(self.name, _names(connection)))
        return remote


class MCPToolSet:
    """The tools of external servers. Implements `kernel.protocols.ToolSet`.

    Args:
        connections: the servers that are declared.
        supervisor: the name of the `DynamicSupervisor` for those that are added at run time.
    """

    def __init__(self, connections: Iterable[Connection], supervisor: str) -> None:
        self._connections = {connection.name: connection for connection in connections}
        self._supervisor = supervisor
        self._router: Router | None = None
        for connection in self._connections.values():
            self._introduce(connection)

    def _introduce(self, connection: Connection) -> None:
        """Show a server's admission the names that the others have."""
        connection.admission.neighbours = lambda: [
            name for other in self._connections.values() if other is not connection for name in _names(other)
        ]

    def open(self, router: Router) -> None:
        """The tree has started: servers can be added."""
        self._router = router

    @property
    def connections(self) -> Mapping[str, Connection]:
        """The servers by name: their status, last error, tools and era, for whoever shows readiness."""
        return self._connections

    def get(self, name: str) -> Tool:
        """The tool of that name. A server that was never connected is taken at its word until then.

        Raises:
            UnknownTool: no such server, or it has no such tool.
            ToolRefused: the server has it, and it is not trusted.
        """
        server, _, tool = name.removeprefix(SCHEME).partition("/")
        connection = self._connections.get(server) if name.startswith(SCHEME) and tool else None
        if connection is not None and connection.listed and tool not in connection.tools:
            connection.reconsider()
            refuse_if_refused(connection, tool)
        if connection is None or (connection.listed and tool not in connection.tools):
            raise UnknownTool(name, nearest(name, self._candidates(server, tool)))
        return UpstreamTool(connection, tool)

    def names(self) -> list[str]:
        """Every tool that is known, sorted; those of a server that is down stay, since calls wait for it."""
        return sorted(name for connection in self._connections.values() for name in _names(connection))

    def __iter__(self) -> Iterator[Tool]:
        """Every tool, in the order of `names()`."""
        for name in self.names():
            yield self.get(name)

    async def connect_mcp(self, config: Any) -> list[str]:
        """Connect one more server, supervised as the declared ones are. Returns the names of its tools.

        Args:
            config: an `MCPServerConfig`, or a mapping of its fields.

        Raises:
            ConfigurationError: a configuration that cannot be, or no runtime that could hold it.
            DuplicateName: there is a server of that name.
            MCPServerUnavailable: the first attempt to connect failed; nothing was kept.
        """
        settings = _config(config)
        if self._router is None:
            raise ConfigurationError("No server can be connected before the runtime has started the MCP supervisor.")
        if settings.name in self._connections:
            raise DuplicateName(process_name(settings.name))
        connection = self._connections[settings.name] = Connection(settings)
        self._introduce(connection)
        runtime = self._router.runtime
        try:
            await runtime.spawn(self._supervisor, MCPUpstream, process_name(settings.name), {"connection": connection})
            if await connection.attempted():
                return sorted(_names(connection))
        except BaseException:
            del self._connections[settings.name]
            raise
        reason = connection.last_error or "unknown"
        del self._connections[settings.name]
        await runtime.despawn(self._supervisor, process_name(settings.name))
        raise MCPServerUnavailable(settings.name, reason)

    def _candidates(self, server: str, tool: str) -> list[str]:
        """What a wrong name can have meant: every known tool, and the same tool of the server with the nearest name."""
        return [*self.names(), *(f"{SCHEME}{other}/{tool}" for other in nearest(server, self._connections) if tool)]


def _names(connection: Connection) -> list[str]:
    return [remote.uri for remote in connection.tools.values()]


def _config(given: Any) -> MCPServerConfig:
    if isinstance(given, MCPServerConfig):
        return given
    if isinstance(given, Mapping):
        try:
            return MCPServerConfig(**cast("Mapping[str, Any]", given))
        except TypeError as error:
            raise ConfigurationError(f"That is no configuration of an MCP server: {error}") from error
    raise ConfigurationError(f"An MCP server is configured by an MCPServerConfig or a mapping, not by a {type(given).__name__}.")
