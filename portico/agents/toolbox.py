"""Toolbox: the tools that agents of one runtime share; the in-memory twin of the port `ToolSet`.

Below it may stand a bridge: another tool set, which also connects MCP servers. A toolbox shows the bridge's tools beside its own.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from portico.agents.tool import Tool
from portico.errors import ConfigurationError, ToolError, UnknownTool, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from portico.kernel import protocols


class Toolbox:
    """A `ToolSet` of functions and other tools.

    Args:
        tools: functions, or anything that implements the port `Tool`.
        bridge: a tool set whose tools belong to this one too, and which connects MCP servers.

    Raises:
        ConfigurationError: a function that cannot be a tool, or a name twice.
    """

    def __init__(
        self, tools: Iterable[protocols.Tool | Callable[..., Any]] = (), *, bridge: protocols.ToolSet | None = None
    ) -> None:
        self._tools: dict[str, protocols.Tool] = {}
        self._bridge = bridge
        for tool in tools:
            self.add(tool)

    def add(self, tool: protocols.Tool | Callable[..., Any]) -> protocols.Tool:
        """Put a tool, or a function, into the box. Raises `ConfigurationError`."""
        made = Tool.from_function(tool) if callable(tool) else tool
        if made.name in self._tools:
            raise ConfigurationError(f"Two tools are named {made.name!r}. Give one another name: Tool.from_function(…, name=…).")
        self._tools[made.name] = made
        return made

    def get(self, name: str) -> protocols.Tool:
        """See `ToolSet.get`."""
        own = self._tools.get(name)
        if own is not None:
            return own
        if self._bridge is not None and name in self._bridge.names():
            return self._bridge.get(name)
        if self._bridge is not None and name.startswith("mcp://"):
            return self._bridge.get(name)  # it knows what is wrong
        raise UnknownTool(name, nearest(name, self.names()))

    def names(self) -> list[str]:
        """See `ToolSet.names`."""
        return sorted({*self._tools, *(self._bridge.names() if self._bridge is not None else ())})

    def __iter__(self) -> Iterator[protocols.Tool]:
        return iter([self.get(name) for name in self.names()])

    async def connect_mcp(self, config: Any) -> list[str]:
        """See `ToolSet.connect_mcp`. Raises `ConfigurationError` where no bridge was given."""
        if self._bridge is None:
            raise ConfigurationError(
                "This tool set connects no MCP servers. Declare them in the topology (mcp.servers), or give a bridge."
            )
        return await self._bridge.connect_mcp(config)


def select(tools: protocols.ToolSet, pattern: str) -> list[protocols.Tool]:
    """The tools that a name or a glob (`mcp://files/*`) means.

    Raises:
        UnknownTool: no tool of that name.
        ToolError: a glob that fits none.
    """
    if not any(sign in pattern for sign in "*?["):
        return [tools.get(pattern)]
    found = [tools.get(name) for name in tools.names() if fnmatchcase(name, pattern)]
    if not found:
        raise ToolError(f"No tool fits {pattern!r}: there is none, or its MCP server is not connected.")
    return found
