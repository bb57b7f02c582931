"""Tools: `tools/list` and `tools/call`. Each operation that is served to the outside is a tool.

Above: `server.py`. Below: `served_tool.py`, which translates, and `answering.py`, which calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.types import ListToolsResult

from portico.errors import ContractViolation, UnknownTool, nearest
from portico.mcp_bridge.serving.answering import answer
from portico.mcp_bridge.serving.caller import call_of
from portico.mcp_bridge.serving.errors import error_result, protocol_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.context import ServerRequestContext
    from mcp.types import CallToolRequestParams, CallToolResult, PaginatedRequestParams

    from portico.mcp_bridge.serving.served import Served


class Tools:
    """The handlers of `tools/list` and `tools/call`."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def input_schema(self, name: str) -> Mapping[str, Any] | None:
        """What the tool of that name takes; None where there is none. Spares the SDK a listing on each call."""
        found = self._served.tools.get(name)
        return found.tool.input_schema if found is not None else None

    async def on_list(self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListToolsResult:
        """`tools/list`."""
        del context, params
        return ListToolsResult(tools=[tool.tool for tool in self._served.tools.values()])

    async def on_call(self, context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        """`tools/call`."""
        served = self._served
        tool = served.tools.get(params.name)
        if tool is None:
            raise protocol_error(UnknownTool(params.name, nearest(params.name, served.tools)))
        try:
            payload = tool.payload(params.arguments)
        except ContractViolation as error:
            return error_result(error)
        return await answer(served, tool, call_of(tool.endpoint, payload, context, timeout=served.options.run_timeout), context)
