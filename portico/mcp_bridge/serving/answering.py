"""Answering: one call of a tool, from its `Call` to the result that its client is told.

Above: `tools.py`, which has checked what is asked. Below: `following.py`, the dispatcher, and the run that it makes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError
from mcp.types import InputRequiredResult

from portico.errors import PorticoError
from portico.mcp_bridge.serving.errors import RUN_ID, error_result
from portico.mcp_bridge.serving.following import outcome_of

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.types import CallToolRequestParams, CallToolResult

    from portico.mcp_bridge.serving.served import Served
    from portico.mcp_bridge.serving.served_tool import ServedTool
    from portico.runs.call import Call

logger = logging.getLogger("portico.mcp")


async def answer(
    served: Served, tool: ServedTool, call: Call, context: ServerRequestContext[Any], params: CallToolRequestParams
) -> CallToolResult | InputRequiredResult:
    """Make the call, and tell its end, or what its client is to be asked first.

    Raises:
        MCPError: the request's state leads nowhere, or the client lacks a capability.
    """
    try:
        reply = await outcome_of(served, call, context, params)
        if isinstance(reply, InputRequiredResult):
            return reply
        result = tool.result(reply)
    except MCPError:
        raise
    except PorticoError as error:
        return error_result(error, below=tool.below, run_id=_run_id(call))
    except Exception as error:
        logger.exception("the call of tool %r failed unexpectedly", tool.tool.name)
        return error_result(error, run_id=_run_id(call))
    result.meta = {**(result.meta or {}), RUN_ID: _run_id(call)}
    return result


def _run_id(call: Call) -> str | None:
    """The run of a call; None where it was refused."""
    return call.run.run_id if call.run is not None else None
