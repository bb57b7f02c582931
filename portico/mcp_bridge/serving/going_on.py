"""Going on: a call that was begun directly and takes long, from then on as the SDK's way has it: its waits, its limit, its end.

Above: the direct paths, which have taken the run over from the dispatcher. Below: `answering.py`, which cannot tell the difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.types import CallToolRequestParams
from starlette.requests import Request

from portico.mcp_bridge.serving.answering import answer
from portico.mcp_bridge.serving.plain_call import METHOD

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from mcp.server.connection import Connection
    from mcp.types import CallToolResult, InputRequiredResult

    from portico.mcp_bridge.serving.back_channel import BackChannel
    from portico.mcp_bridge.serving.plain_call import Asked
    from portico.mcp_bridge.serving.served import Served


async def rest_of(
    served: Served, asked: Asked, connection: Connection, channel: BackChannel, scope: MutableMapping[str, Any] | None
) -> CallToolResult | InputRequiredResult | dict[str, Any]:
    """The result of a call whose run is under way.

    Args:
        served: what is served.
        asked: the call, with its run.
        connection: what is known of the client.
        channel: how it can be asked.
        scope: of its HTTP request; None over stdio.

    Raises:
        MCPError: as `answer`.
    """
    plain = asked.plain
    context: ServerRequestContext[Any] = ServerRequestContext(
        session=ServerSession(channel, connection),
        lifespan_context={},
        protocol_version=connection.protocol_version,
        method=METHOD,
        request_id=plain.request_id,
        request=Request(scope) if scope is not None else None,
    )
    return await answer(served, asked.tool, asked.call, context, CallToolRequestParams(name=plain.name, arguments=plain.arguments))
