"""Printing: the JSON-RPC message that answers a `tools/call`, with the members and the values of the SDK's.

Above: the direct path. The usual success is put together from bytes; every other result is dumped by the SDK's own functions.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, SERVER_INFO_META_KEY
from mcp.types.methods import serialize_server_result
from mcp.types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from portico.errors import PorticoError
from portico.mcp_bridge.serving.errors import RUN_ID, error_result
from portico.mcp_bridge.serving.plain_call import METHOD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.lowlevel import Server

    from portico.kernel.messages import Message
    from portico.mcp_bridge.serving.plain_call import Asked
    from portico.mcp_bridge.serving.served_tool import ServedTool

logger = logging.getLogger("portico.mcp")

LEGACY_TAIL: Final = b',"isError":false,"_meta":{"%b":' % RUN_ID.encode("ascii")
INVALID_RESULT: Final = "Handler returned an invalid result"
"""What the SDK says of a result that the protocol does not allow."""


class Printer:
    """Prints for one server."""

    def __init__(self, server: Server[Any]) -> None:
        self._stamp = server.server_info_stamp
        stamp = to_json({SERVER_INFO_META_KEY: self._stamp})[1:-1]
        self._modern_tail = b',"isError":false,"resultType":"complete","_meta":{%b,"%b":' % (stamp, RUN_ID.encode("ascii"))

    def reply(self, asked: Asked, version: str, reply: Message) -> bytes:
        """What answers with a reply. Raises `InvalidReply` for one that is not JSON-able."""
        tool, request_id, payload = asked.tool, asked.plain.request_id, reply.payload
        if reply.meta is None and self._is_usual(tool, payload):
            text = tool.json(payload)
            return b'{"jsonrpc":"2.0","id":%b,"result":{"content":[{"type":"text","text":%b}],"structuredContent":%b%b%b' % (
                b"%d" % request_id if type(request_id) is int else to_json(request_id),
                text if type(payload) is str else to_json(text.decode()),
                b'{"result":%b}' % text if tool.wraps_reply else text,
                self._modern_tail if version in MODERN_PROTOCOL_VERSIONS else LEGACY_TAIL,
                b'"%b"}}}' % (asked.run_id or "").encode("ascii"),
            )
        result = tool.result(reply)
        result.meta = {**(result.meta or {}), RUN_ID: asked.run_id}
        return self.result(request_id, version, result)

    @staticmethod
    def _is_usual(tool: ServedTool, payload: Any) -> bool:
        """Whether a reply is an object, or what a schema puts under a member of one: it is its own structured content."""
        return not tool.gives_content and (type(payload) is dict or (tool.wraps_reply and type(payload) is not bytes))

    def result(self, request_id: int | str, version: str, result: BaseModel | Mapping[str, Any]) -> bytes:
        """What answers with any result, errors of tools among them."""
        dumped = result.model_dump(by_alias=True, mode="json", exclude_none=True) if isinstance(result, BaseModel) else dict(result)
        try:
            dumped = serialize_server_result(METHOD, version, dumped)
        except ValidationError:
            logger.exception("a tool's result is none that the protocol allows")
            return self.error(request_id, INTERNAL_ERROR, INVALID_RESULT)
        if version in MODERN_PROTOCOL_VERSIONS:
            dumped.setdefault("resultType", "complete")
            dumped["_meta"] = {**(dumped.get("_meta") or {}), SERVER_INFO_META_KEY: self._stamp}
        return to_json({"jsonrpc": "2.0", "id": request_id, "result": dumped})

    def failure(self, asked: Asked, version: str, error: Exception) -> bytes:
        """What answers where the call ended so."""
        if isinstance(error, MCPError):
            about = error.error
            return self.error(asked.plain.request_id, about.code, about.message, about.data)
        tool = asked.tool
        if isinstance(error, PorticoError):
            result = error_result(error, below=tool.below, run_id=asked.run_id)
        else:
            logger.error("the call of tool %r failed unexpectedly", tool.tool.name, exc_info=error)
            result = error_result(error, run_id=asked.run_id)
        return self.result(asked.plain.request_id, version, result)

    def error(self, request_id: int | str, code: int, message: str, data: Any = None) -> bytes:
        """What answers with an error of the protocol."""
        about = {"code": code, "message": message} if data is None else {"code": code, "message": message, "data": data}
        return to_json({"jsonrpc": "2.0", "id": request_id, "error": about})
