"""Results: what an external tool answered, as plain data that an agent or a model can use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.types import TextContent

from portico.errors import MCPToolError

if TYPE_CHECKING:
    from mcp.types import CallToolResult


def value_of(uri: str, result: CallToolResult) -> Any:
    """The value of a result: its structured content, else its text, else its parts (text, image, audio, resource) as mappings.

    Raises:
        MCPToolError: the tool answered an error; with its text.
    """
    if result.is_error:
        raise MCPToolError(uri, _text(result) or "it answered an error without a text")
    if result.structured_content is not None:
        return result.structured_content
    if not result.content:
        return None
    if all(isinstance(part, TextContent) for part in result.content):
        return _text(result)
    return [part.model_dump(mode="json", by_alias=True, exclude_none=True) for part in result.content]


def _text(result: CallToolResult) -> str:
    return "\n".join(part.text for part in result.content if isinstance(part, TextContent))
