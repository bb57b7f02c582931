"""Answering: one call, from its `Call` to the result that its client is told, with what is told meanwhile.

Above: `tools.py`, which has checked what is asked. Below: the dispatcher and the run that it makes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from portico.errors import PorticoError
from portico.mcp_bridge.serving.errors import error_result
from portico.runs.event import EventName

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.server.session import ServerSession
    from mcp.types import CallToolResult

    from portico.kernel.messages import Message
    from portico.mcp_bridge.serving.served import Served
    from portico.mcp_bridge.serving.served_tool import ServedTool
    from portico.runs.call import Call

logger = logging.getLogger("portico.mcp")


async def answer(served: Served, tool: ServedTool, call: Call, context: ServerRequestContext[Any]) -> CallToolResult:
    """Make the call, and tell its end. A client that cancels, or of the new era goes away, cancels this task, and so the run."""
    try:
        wants_progress = bool(context.meta and "progress_token" in context.meta)
        reply = await (_ask_with_progress(served, call, context.session) if wants_progress else served.dispatcher.ask(call))
        return tool.result(reply)
    except PorticoError as error:
        return error_result(error, below=tool.below)
    except Exception as error:
        logger.exception("the call of tool %r failed unexpectedly", tool.tool.name)
        return error_result(error)


async def _ask_with_progress(served: Served, call: Call, session: ServerSession) -> Message:
    run = await served.dispatcher.start(call)
    reported: float | None = None
    try:
        async for event in run.follow():
            done = _progress(event.data) if event.type == EventName.PROGRESS else None
            if done is not None and (reported is None or done[0] > reported):  # it must grow, also after a second attempt
                reported = done[0]
                await session.report_progress(*done)
    finally:
        run.cancel("The client cancelled the call.")  # does nothing when it has ended
    return await run.outcome()


def _progress(data: Any) -> tuple[float, float | None, str | None] | None:
    """How far the work is, as the protocol has it; None for an event of that name that tells no number."""
    if not isinstance(data, dict):
        return None
    said = cast("dict[str, Any]", data)
    done, total, note = said.get("done"), said.get("total"), said.get("note")
    if not _is_number(done):
        return None
    return done, total if _is_number(total) else None, note if isinstance(note, str) and note else None


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
