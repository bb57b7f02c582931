"""Earlier calls: from a run that is stored back to the tool that was called, and to what its call would have been answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mcp.types import CallToolResult, TextContent
from pydantic_core import from_json, to_json

from portico.errors import PorticoError
from portico.mcp_bridge.serving.errors import RUN_ID, error_result

if TYPE_CHECKING:
    from portico.mcp_bridge.serving.served import Served
    from portico.mcp_bridge.serving.served_tool import ServedTool
    from portico.runs.run import Run

TOOL: Final = "portico/tool"
"""The key of a stored run's metadata under which stands what tool was called."""


def tool_of(served: Served, run: Run) -> ServedTool | None:
    """The tool whose call a run is; of one that came by another way, that of its operation; None where there is none any more."""
    tools = served.tools
    called = tools.get(run.metadata.get(TOOL, ""))
    if called is not None:
        return called
    asked = (run.agent, run.operation)
    return next((tool for tool in tools.values() if (tool.endpoint.agent, tool.endpoint.operation.name) == asked), None)


async def result_of(served: Served, run: Run) -> CallToolResult:
    """What the call of a run would have been answered. Waits for its end."""
    tool = tool_of(served, run)
    try:
        reply = await run.outcome()
        result = tool.result(reply) if tool is not None else _untyped(reply.payload)
    except PorticoError as error:
        return error_result(error, below=tool.below if tool is not None else "", run_id=run.run_id)
    result.meta = {**(result.meta or {}), RUN_ID: run.run_id}
    return result


def _untyped(payload: Any) -> CallToolResult:
    """The reply of a run whose tool is no more."""
    text = to_json(payload, inf_nan_mode="null", bytes_mode="base64", fallback=str)
    value = from_json(text)
    return CallToolResult(
        content=[TextContent(text=value if isinstance(value, str) else text.decode())],
        structured_content=value if isinstance(value, dict) else None,
    )
