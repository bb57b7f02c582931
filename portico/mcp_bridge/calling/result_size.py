"""ResultSize: how large a tool's answer is, without printing it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from mcp.types import CallToolResult

DEEPEST: Final = 200
"""Levels of a structured answer; what is deeper counts as too large."""


def size_of(result: CallToolResult, most: int) -> int:
    """About how many bytes it has; counting stops beyond `most`."""
    size, level = 0, 0
    here: list[Any] = [result.structured_content, *(part.model_dump(exclude_none=True) for part in result.content)]
    while here and size <= most:
        level += 1
        if level > DEEPEST:
            return most + 1
        below: list[Any] = []
        for value in here:
            if isinstance(value, str):
                size += len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
            elif isinstance(value, dict):
                members = cast("dict[str, Any]", value)
                size += sum(map(len, members)) + 4 * len(members)
                below += members.values()
            elif isinstance(value, list):
                items = cast("list[Any]", value)
                size += len(items)
                below += items
            elif value is not None:
                size += 4
        here = below
    return size
