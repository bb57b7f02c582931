"""Printing: the JSON-RPC message that answers a `tools/call`, with the members and the values of the SDK's.

Above: the direct path. The usual success is put together from bytes; every other result is dumped by the SDK's own functions.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from mcp.types import INTERNAL_ERROR, SERVER_INFO_META_KEY
from mcp_types.methods import serialize_server_result
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError
from pydantic_core import to_json

from portico.errors import PorticoError
from portico.mcp_bridge.serving.errors import error_result
from portico.mcp_bridge.serving.plain_call import METHOD

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server
    from mcp.types import CallToolResult

    from portico.kernel.messages import Message
    from portico.mcp_bridge.serving.served_tool import ServedTool

logger = logging.getLogger("portico.mcp")

INVALID_RESULT: Final = "Handler returned an invalid result"
"""What the SDK says of a result that the protocol does not allow."""


class Printer:
    """Prints for one server."""

    def __init__(self, server: Server[Any]) -> None:
        self._stamp = server.server_info_stamp
        self._modern_tail = b',"isError":false,"resultType":"complete","_meta":%b}}' % to_json({SERVER_INFO_META_KEY: self._stamp})

    def reply(self, request_id: int | str, version: str, tool: ServedTool, reply: Message) -> bytes:
        """What answers with a reply. Raises `InvalidReply` for one that is not JSON-able."""
        payload = reply.payload
        if reply.meta is None and (type(payload) is dict or (tool.wraps_reply and type(payload) is not bytes)):
            text = tool.json(payload)
            shown = text if type(payload) is str else to_json(text.decode())
            structured = b'{"result":%b}' % text if tool.wraps_reply else text
            tail = self._modern_tail if version in MODERN_PROTOCOL_VERSIONS else b',"isError":false}}'
            return b'{"jsonrpc":"2.0","id":%b,"result":{"content":[{"type":"text","text":%b}],"structuredContent":%b%b' % (
                b"%d" % request_id if type(request_id) is int else to_json(request_id),
                shown,
                structured,
                tail,
            )
        return self.result(request_id, version, tool.result(reply))

    def result(self, request_id: int | str, version: str, result: CallToolResult) -> bytes:
        """What answers with any result, errors of tools among them."""
        dumped = result.model_dump(by_alias=True, mode="json", exclude_none=True)
        try:
            dumped = serialize_server_result(METHOD, version, dumped)
        except ValidationError:
            logger.exception("a tool's result is none that the protocol allows")
            return self.error(request_id, INTERNAL_ERROR, INVALID_RESULT)
        if version in MODERN_PROTOCOL_VERSIONS:
            dumped.setdefault("resultType", "complete")
            dumped["_meta"] = {**(dumped.get("_meta") or {}), SERVER_INFO_META_KEY: self._stamp}
        return to_json({"jsonrpc": "2.0", "id": request_id, "result": dumped})

    def failure(self, request_id: int | str, version: str, tool: ServedTool, error: Exception) -> bytes:
        """What answers where the call ended so."""
        if isinstance(error, PorticoError):
            return self.result(request_id, version, error_result(error, below=tool.below))
        logger.error("the call of tool %r failed unexpectedly", tool.tool.name, exc_info=error)
        return self.result(request_id, version, error_result(error))

    def error(self, request_id: int | str, code: int, message: str) -> bytes:
        """What answers with an error of the protocol."""
        return to_json({"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}})
