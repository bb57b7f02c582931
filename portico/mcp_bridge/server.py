"""The MCP server over one dispatcher: lists the catalogue as tools, turns `tools/call` into a `Call`, and its run into a result.

Above: `http.py` and `stdio.py`, which carry it. Below: the dispatcher, which validates, limits and records. It decides nothing; the
SDK's low-level `Server` speaks both protocol eras.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from mcp.server.lowlevel import Server
from mcp.types import ListToolsResult

from portico.errors import ContractViolation, PorticoError, UnknownTool, nearest
from portico.mcp_bridge.errors import error_result, protocol_error
from portico.mcp_bridge.served_tool import served_tool
from portico.runs.call import Call
from portico.runs.dispatcher import RUN_TIMEOUT
from portico.runs.event import EventName
from portico.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.context import ServerRequestContext
    from mcp.server.session import ServerSession
    from mcp.types import CallToolRequestParams, CallToolResult, PaginatedRequestParams

    from portico.kernel.messages import Message
    from portico.mcp_bridge.served_tool import ServedTool
    from portico.operations.catalogue import Catalogue
    from portico.runs.dispatcher import Dispatcher

logger = logging.getLogger("portico.mcp")

PRINCIPAL = "portico.principal"
"""The ASGI scope key under which authentication leaves who calls: a string, or None."""
SCOPES = "portico.scopes"
"""The ASGI scope key of what the caller may do: a frozenset of strings, or None where the gateway knows no callers."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def build_server(dispatcher: Dispatcher, *, name: str = "portico", run_timeout: float = RUN_TIMEOUT) -> Server[Any]:
    """A server for one dispatcher. It starts nothing and keeps no connection.

    Args:
        dispatcher: the one door.
        name: what it calls itself to clients.
        run_timeout: seconds that a call may take.
    """
    tools = ServedTools(dispatcher, run_timeout)
    return Server(
        name,
        version=__version__,
        get_tool_input_schema=tools.input_schema,
        on_list_tools=tools.on_list,
        on_call_tool=tools.on_call,
    )


class ServedTools:
    """The handlers of `tools/list` and `tools/call`."""

    def __init__(self, dispatcher: Dispatcher, run_timeout: float) -> None:
        self._dispatcher = dispatcher
        self._run_timeout = run_timeout
        self._made_from: Catalogue | None = None
        self._tools: dict[str, ServedTool] = {}

    @property
    def tools(self) -> Mapping[str, ServedTool]:
        """Every tool, by name and in the order of names; made anew when the catalogue is another."""
        catalogue = self._dispatcher.catalogue
        if catalogue is not self._made_from:
            self._tools = {name: served_tool(endpoint) for name, endpoint in sorted(catalogue.tools.items())}
            self._made_from = catalogue
        return self._tools

    def input_schema(self, name: str) -> Mapping[str, Any] | None:
        """What the tool of that name takes; None where there is none. Spares the SDK a listing on each call."""
        found = self.tools.get(name)
        return found.tool.input_schema if found is not None else None

    async def on_list(self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListToolsResult:
        """`tools/list`."""
        del context, params
        return ListToolsResult(tools=[served.tool for served in self.tools.values()])

    async def on_call(self, context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        """`tools/call`. A client that cancels, or of the new era goes away, cancels this task, and with it the run."""
        served = self.tools.get(params.name)
        if served is None:
            raise protocol_error(UnknownTool(params.name, nearest(params.name, self.tools)))
        try:
            payload = served.payload(params.arguments)
        except ContractViolation as error:
            return error_result(error)
        try:
            call = self._call(served, payload, context)
            wants_progress = bool(context.meta and "progress_token" in context.meta)
            reply = await (self._ask_with_progress(call, context.session) if wants_progress else self._dispatcher.ask(call))
            return served.result(reply)
        except PorticoError as error:
            return error_result(error, below=served.below)
        except Exception as error:
            logger.exception("the call of tool %r failed unexpectedly", params.name)
            return error_result(error)

    def _call(self, served: ServedTool, payload: Any, context: ServerRequestContext[Any]) -> Call:
        scope: Mapping[str, Any] = context.request.scope if context.request is not None else {}
        client = scope.get("client")
        return Call(
            served.endpoint,
            payload,
            timeout=self._run_timeout,
            principal=scope.get(PRINCIPAL),
            scopes=scope.get(SCOPES),
            address=client[0] if client else None,
            traceparent=_traceparent(cast("Mapping[str, Any] | None", context.meta)),
        )

    async def _ask_with_progress(self, call: Call, session: ServerSession) -> Message:
        run = await self._dispatcher.start(call)
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


def _traceparent(meta: Mapping[str, Any] | None) -> str | None:
    """The caller's trace context, where it is well formed."""
    value = (meta or {}).get("traceparent")
    return value if isinstance(value, str) and _TRACEPARENT.fullmatch(value) else None
