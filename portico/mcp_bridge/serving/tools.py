"""Tools: `tools/list` and `tools/call`. Each operation that is served to the outside is a tool.

Above: `server.py`. Below: `served_tool.py`, which translates, and `answering.py`, which calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.types import ListToolsResult

from portico.errors import ContractViolation, InsufficientScope, UnknownTool, nearest
from portico.mcp_bridge.serving.answering import answer
from portico.mcp_bridge.serving.caller import call_of, scopes_of
from portico.mcp_bridge.serving.errors import error_result, protocol_error
from portico.mcp_bridge.serving.pages import cursor_of, hints, page_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.context import ServerRequestContext
    from mcp.types import CallToolRequestParams, CallToolResult, InputRequiredResult, PaginatedRequestParams

    from portico.mcp_bridge.serving.served import Served


class Tools:
    """The handlers of `tools/list` and `tools/call`."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def input_schema(self, name: str) -> Mapping[str, Any] | None:
        """What the tool of that name takes; None where there is none. Spares the SDK a listing on each call."""
        found = self._served.tools.get(name)
        if found is None and name == self._served.fetch_result.name:
            return self._served.fetch_result.input_schema
        return found.tool.input_schema if found is not None else None

    async def on_list(self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListToolsResult:
        """`tools/list`: what this caller may call. Raises `MCPError` (-32602) for a cursor that is none of ours."""
        served = self._served
        listed = {name: tool.tool for name, tool in served.tools_for(scopes_of(context)).items()}
        if listed:  # what it fetches is the result of another
            listed[served.fetch_result.name] = served.fetch_result.tool
        page, following = page_of(dict(sorted(listed.items())), cursor_of(params), served.options.page_size)
        return ListToolsResult(tools=page, next_cursor=following, **hints(context))

    async def on_call(
        self, context: ServerRequestContext[Any], params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult | dict[str, Any]:
        """`tools/call`. Raises `MCPError` (-32602) for a tool that there is not."""
        served = self._served
        tool = served.tools.get(params.name)
        if tool is None and params.name == served.fetch_result.name:
            return await served.fetch_result.call(context, params)
        if tool is None:
            raise protocol_error(UnknownTool(params.name, nearest(params.name, served.tools_for(scopes_of(context)))))
        call = call_of(tool.endpoint, None, context, timeout=served.options.run_timeout)
        try:
            # Before its arguments are looked at: what they should be is nothing to tell who may not call.
            served.dispatcher.authorise(call)
            call.payload = tool.payload(params.arguments)
        except (ContractViolation, InsufficientScope) as error:
            return error_result(error)
        return await answer(served, tool, call, context, params)
