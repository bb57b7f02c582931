"""RemoteTool: a tool as an external server listed it. Checks arguments against its schema before anything is sent, and its results.

The schema comes from a stranger: one that cannot be applied checks no arguments; the server checks then. See `strangers_schema.py`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from portico.errors import ToolError
from portico.mcp_bridge.calling.strangers_schema import StrangersSchema, UnusableSchemaError
from portico.mcp_bridge.calling.wire import NoAnswerError

if TYPE_CHECKING:
    from mcp.types import CallToolResult, Tool

logger = logging.getLogger("portico.mcp")

MIRRORED = "x-mcp-header"
"""The keyword of a schema that asks for a value in a header."""


class RemoteTool:
    """One tool of one listing."""

    __slots__ = ("_answers", "_takes", "_told", "mirrored", "tool", "uri")

    def __init__(self, uri: str, tool: Tool) -> None:
        self.uri = uri
        self.tool = tool
        self.mirrored = MIRRORED in str(tool.input_schema)
        """Whether values of its arguments may stand in headers as well, which the SDK's client sees to."""
        self._takes = StrangersSchema(tool.input_schema)
        self._answers = StrangersSchema(tool.output_schema) if tool.output_schema is not None else None
        self._told = False

    @property
    def repeatable(self) -> bool:
        """Whether the server says that calling it twice does no harm."""
        hints = self.tool.annotations
        return hints is not None and bool(hints.read_only_hint or hints.idempotent_hint)

    def given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments without those that are None and optional, where null is nothing that the schema takes.

        That is how Python leaves something out; a server would refuse it, or mirror it into a header.
        """
        if None not in arguments.values():
            return arguments
        schema = self.tool.input_schema
        listed: Any = schema.get("properties")
        members = cast("dict[str, Any]", listed) if isinstance(listed, dict) else {}
        required: Any = schema.get("required")
        needed = cast("list[Any]", required) if isinstance(required, list) else []
        return {
            name: value
            for name, value in arguments.items()
            if value is not None or name in needed or _takes_null(members.get(name))
        }

    def check(self, arguments: dict[str, Any]) -> None:
        """Raises `ToolError` with the path of every fault."""
        try:
            faults = self._takes.faults(arguments)
        except UnusableSchemaError as error:
            if not self._told:
                self._told = True
                logger.warning("the input schema of %s cannot be applied, so its arguments go out unchecked: %s", self.uri, error)
            return
        if faults:
            lines = [f"- {fault['path'] or 'the arguments'}: {fault['message']}" for fault in faults]
            raise ToolError("\n".join([f"The arguments of {self.uri} are not valid:", *lines]), errors=faults)

    def check_result(self, result: CallToolResult) -> None:
        """Raises `NoAnswerError` where a result is not what the tool's own output schema says."""
        if self._answers is None or result.is_error:
            return
        if result.structured_content is None and "structured_content" not in result.model_fields_set:
            raise NoAnswerError("it has an output schema, and answered without structured content")
        try:
            faults = self._answers.faults(result.structured_content)
        except UnusableSchemaError as error:
            raise NoAnswerError(f"its output schema cannot be applied: {error}") from None
        if faults:
            first = faults[0]
            raise NoAnswerError(f"its structured content breaks its output schema: {first['path']} {first['message']}")


def _takes_null(schema: Any) -> bool:
    """Whether null may satisfy it: unless it says plainly that something else is wanted."""
    kind = cast("dict[str, Any]", schema).get("type") if isinstance(schema, dict) else None
    return not (isinstance(kind, str) and kind != "null") and not (isinstance(kind, list) and "null" not in kind)
