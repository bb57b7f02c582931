"""ServedTool: one endpoint of the catalogue as an MCP tool. Arguments in, payload out; reply in, result out.

Above: `server.py`, which speaks the protocol. Below: operations. It neither calls anything nor knows who calls.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from mcp.shared.inbound import X_MCP_HEADER_KEY
from mcp.types import CallToolResult, TextContent, Tool, ToolAnnotations
from pydantic_core import PydanticSerializationError, from_json, to_json

from portico.errors import ContractViolation, InvalidReply
from portico.mcp_bridge.schemas import ANY_OBJECT, object_schema
from portico.mcp_bridge.serving.content_blocks import block_of_bytes, blocks_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.kernel.messages import Message
    from portico.operations.catalogue import Endpoint
    from portico.operations.operation import Operation

REQUEST_MEMBER: Final = "payload"
"""The argument that holds a request which is no object."""
REPLY_MEMBER: Final = "result"
"""The member that holds a reply which is no object, as the SDK's own servers name it."""


@dataclass(frozen=True, slots=True)
class ServedTool:
    """What `tools/list` shows of an endpoint, and how `tools/call` translates."""

    endpoint: Endpoint
    """What is called."""
    tool: Tool
    """As it is listed."""
    wraps_request: bool
    """Whether the request stands under `payload`."""
    wraps_reply: bool
    """Whether the reply stands under `result`."""
    gives_content: bool
    """Whether the reply is content (`portico.operations.content`), which becomes blocks and no structured content."""
    mirrored: bool = False
    """Whether an argument of it stands in a header too (`x-mcp-header`), and the two must agree."""

    @property
    def below(self) -> str:
        """The JSON Pointer from the arguments to the payload."""
        return f"/{REQUEST_MEMBER}" if self.wraps_request else ""

    def payload(self, arguments: Mapping[str, Any] | None) -> Any:
        """The payload that the arguments stand for. Raises `ContractViolation` where `payload` is missing or not alone."""
        given = dict(arguments or {})
        if not self.wraps_request:
            return given
        faults = [{"path": f"/{name}", "message": "Unknown argument", "type": "extra"} for name in given if name != REQUEST_MEMBER]
        if REQUEST_MEMBER not in given:
            faults.append({"path": self.below, "message": "Field required", "type": "missing"})
        if faults:
            raise ContractViolation(self.endpoint.operation.name, faults)
        return given[REQUEST_MEMBER]

    def result(self, reply: Message) -> CallToolResult:
        """The result that a reply becomes. Raises `InvalidReply` for one that is not JSON-able."""
        hints, payload = reply.meta or {}, reply.payload
        failed = hints.get("status", HTTPStatus.OK) >= HTTPStatus.BAD_REQUEST
        typed = self.tool.output_schema is not None
        if self.gives_content:
            return CallToolResult(content=blocks_of(payload), is_error=failed)
        if isinstance(payload, bytes) and not typed:
            return CallToolResult(content=[block_of_bytes(payload, hints.get("media_type"))], is_error=failed)
        if payload is None and not typed:
            return CallToolResult(content=[], is_error=failed)
        if isinstance(payload, bytes):
            payload = b64encode(payload).decode()  # as the schema has it
        text = self.json(payload)
        value: Any = from_json(text)
        if self.wraps_reply:
            value = {REPLY_MEMBER: value}
        shown = payload if isinstance(payload, str) else text.decode()
        structured = value if typed or text.startswith(b"{") else None
        return CallToolResult(content=[TextContent(text=shown)], structured_content=structured, is_error=failed)

    def json(self, payload: Any) -> bytes:
        """A reply as JSON. Raises `InvalidReply` where it is none."""
        try:
            return to_json(payload, inf_nan_mode="null")
        except PydanticSerializationError as error:
            raise InvalidReply.not_json(self.endpoint.agent, self.endpoint.operation.name, error) from error


def served_tool(name: str, endpoint: Endpoint) -> ServedTool:
    """The tool of an endpoint, under this name. Raises `InvalidOperation` for types that cannot become a contract."""
    operation = endpoint.operation
    request, reply = operation.request_schema, operation.response_schema
    input_schema, wraps_request = object_schema(request, REQUEST_MEMBER) if request else (dict(ANY_OBJECT), False)
    gives_content = operation.contract.replies_content
    output_schema, wraps_reply = object_schema(reply, REPLY_MEMBER) if reply and not gives_content else (None, False)
    tool = Tool(
        name=name,
        title=operation.title or None,
        description=endpoint.description or None,
        input_schema=input_schema,
        output_schema=output_schema,
        annotations=_annotations(operation),
    )
    mirrored = X_MCP_HEADER_KEY.encode() in to_json(input_schema)
    return ServedTool(endpoint, tool, wraps_request, wraps_reply, gives_content, mirrored)


def _annotations(operation: Operation) -> ToolAnnotations | None:
    if operation.read_only is None and operation.destructive is None and operation.idempotent is None:
        return None
    return ToolAnnotations(
        read_only_hint=operation.read_only,
        destructive_hint=operation.destructive,
        idempotent_hint=operation.idempotent,
    )
