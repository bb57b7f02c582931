"""Input rounds: a call of the new era whose first answer was a wish for input goes on, by the SDK's client.

The server's requests are answered as all its requests are, by the callbacks that the client was given. Above: `connection.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.client import ClientRequestContext
from mcp.client._input_required import run_input_required_driver  # the loop that `Client.call_tool` has inside

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult, ErrorData, InputRequest, InputRequiredResult, InputResponse, InputResponses

    from portico.mcp_bridge.calling.envelope import Envelope


async def go_on(
    client: Client, first: InputRequiredResult, name: str, arguments: dict[str, Any], envelope: Envelope
) -> CallToolResult:
    """The call's result, when the server has what it wants. Raises `MCPError` where it does not get it."""
    session = client.session
    meta: Any = envelope.meta or None

    async def answer(key: str, request: InputRequest) -> InputResponse | ErrorData:
        return await session.dispatch_input_request(ClientRequestContext(session=session, request_id=key), request)

    async def retry(responses: InputResponses | None, state: str | None) -> CallToolResult | InputRequiredResult:
        return await session.call_tool(
            name,
            arguments,
            progress_callback=envelope.progress,
            input_responses=responses,
            request_state=state,
            meta=meta,
            allow_input_required=True,
        )

    return await run_input_required_driver(first, dispatch=answer, retry=retry, max_rounds=client.input_required_max_rounds)
