"""ServingMeter: who counts what MCP clients ask, and how long it took. The port; `telemetry` implements it.

Above: whoever sets `Served.meter`. Below: the two ways on which requests are answered, the direct one and the SDK's, whose
middleware stands here. Each message is counted on one of them.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol

from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult
from pydantic import ValidationError

from portico.errors import PorticoError
from portico.mcp_bridge.serving.caller import traceparent_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

    from portico.mcp_bridge.serving.served import Served

CALL_TOOL: Final = "tools/call"
TOOL_ERROR: Final = "tool_error"
"""What the conventions call a tool's result that says that it is an error."""
CANCELLED: Final = "cancelled"
INVALID_PARAMS: Final = "-32602"


class ServingMeter(Protocol):
    """Counts. Called for every message, so each takes well below a microsecond, and none may raise."""

    def answered(self, method: str, tool: str, error: str, seconds: float, traceparent: str | None) -> None:
        """A request was answered, or a notification was heard.

        Args:
            method: of the protocol; a client can name any.
            tool: the tool that was called; empty for anything else, and for one that there is not.
            error: what went wrong: `tool_error`, `cancelled`, a code of JSON-RPC; empty where nothing did.
            seconds: from its arrival to its end.
            traceparent: of the trace that it belongs to, if any.
        """
        ...


class Metered:
    """The SDK's way: a middleware of its server."""

    def __init__(self, served: Served) -> None:
        self._served = served

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Around one message."""
        meter = self._served.meter
        if meter is None:
            return await call_next(ctx)
        began, error = perf_counter(), ""
        try:
            result = await call_next(ctx)
            error = TOOL_ERROR if _says_error(result) else ""
        except (Exception, asyncio.CancelledError) as raised:
            error = error_type(raised)
            raise
        else:
            return result
        finally:
            meter.answered(ctx.method, self._tool(ctx), error, perf_counter() - began, _traceparent(ctx))

    def _tool(self, ctx: ServerRequestContext[Any, Any]) -> str:
        name = ctx.params.get("name") if ctx.params and ctx.method == CALL_TOOL else None
        return name if isinstance(name, str) and name in self._served.tools else ""


def error_type(error: BaseException | None) -> str:
    """What an error is counted as; empty for none."""
    if error is None:
        return ""
    if isinstance(error, asyncio.CancelledError):
        return CANCELLED
    if isinstance(error, MCPError):
        return str(error.error.code)
    if isinstance(error, ValidationError):
        return INVALID_PARAMS
    return TOOL_ERROR if isinstance(error, PorticoError) else type(error).__qualname__


def _says_error(result: Any) -> bool:
    if isinstance(result, CallToolResult):
        return bool(result.is_error)
    return isinstance(result, dict) and result.get("isError") is True  # pyright: ignore[reportUnknownMemberType]  # a plain mapping


def _traceparent(ctx: ServerRequestContext[Any, Any]) -> str | None:
    meta: Mapping[str, Any] | None = ctx.meta  # pyright: ignore[reportAssignmentType]  # a mapping, whatever the SDK calls it
    return traceparent_of(meta)
