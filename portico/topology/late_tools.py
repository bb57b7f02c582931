"""LateTools: the tool set of a runtime that was given none. Empty, until an agent connects an external MCP server.

The bridge is loaded at that moment (half a second of imports), and its supervisor runs beside the runtime's root.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from portico.errors import UnknownTool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.kernel.protocols import Tool, ToolSet
    from portico.kernel.runtime import Runtime
    from portico.kernel.supervisor import Supervisor


class LateTools:
    """See `protocols.ToolSet`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._made: ToolSet | None = None
        self._servers: Supervisor | None = None
        self._making = asyncio.Lock()

    @property
    def _tools(self) -> ToolSet | None:
        """The bridge's tools; None before the first server, and after the runtime has stopped."""
        return self._made if self._servers in self._runtime.roots else None

    def get(self, name: str) -> Tool:
        """See `ToolSet.get`."""
        if self._tools is None:
            raise UnknownTool(name)
        return self._tools.get(name)

    def names(self) -> list[str]:
        """See `ToolSet.names`."""
        return [] if self._tools is None else self._tools.names()

    def __iter__(self) -> Iterator[Tool]:
        """See `ToolSet.__iter__`."""
        return iter(()) if self._tools is None else iter(self._tools)

    async def connect_mcp(self, config: Any) -> list[str]:
        """See `ToolSet.connect_mcp`. Raises `RuntimeNotStarted` before the runtime's start."""
        async with self._making:
            tools = self._tools
            if tools is None:
                from portico.mcp_bridge.calling.wiring import build_upstreams  # noqa: PLC0415  # only where a server is connected

                servers, tools = build_upstreams([])
                await self._runtime.attach(servers)
                self._servers, self._made = servers, tools
        return await tools.connect_mcp(config)
