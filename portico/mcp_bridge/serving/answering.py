"""Answering: one call of a tool, from its `Call` to the result that its client is told.

Above: `tools.py`, which has checked what is asked. Below: `following.py`, the dispatcher, and the run that it makes.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError

from portico.errors import PorticoError
from portico.kernel.messages import Message
from portico.mcp_bridge.serving.errors import RUN_ID, error_result
from portico.mcp_bridge.serving.following import outcome_of
from portico.mcp_bridge.serving.long_call import LongCall

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.types import CallToolRequestParams, CallToolResult, InputRequiredResult

    from portico.mcp_bridge.serving.served import Served
    from portico.mcp_bridge.serving.served_tool import ServedTool
    from portico.runs.call import Call

logger = logging.getLogger("portico.mcp")


async def answer(
    served: Served, tool: ServedTool, call: Call, context: ServerRequestContext[Any], params: CallToolRequestParams
) -> CallToolResult | InputRequiredResult | dict[str, Any]:
    """Make the call, and tell its end, or what its client is to be asked first, or that it takes long.

    Raises:
        MCPError: the request's state leads nowhere, or the client lacks a capability.
    """
    try:
        long_call = LongCall(served, tool, call, context)
        if long_call.is_task_at_once and params.request_state is None:
            return await long_call.as_task()
        reply = await long_call.within_patience(partial(outcome_of, served, call, context, params, long_call))
        if not isinstance(reply, Message):
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
