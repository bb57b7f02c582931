"""Content blocks: content as agents reply it (`portico.operations.content`), in the form in which MCP has it.

Above: whatever answers with content. Pure: plain data in, the SDK's models out.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any, cast

from mcp.types import (
    AudioContent,
    BlobResourceContents,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.types import ContentBlock


def blocks_of(payload: Any) -> list[ContentBlock]:
    """The blocks of a reply whose contract is content: one, a row of them, or none."""
    if payload is None:
        return []
    if isinstance(payload, list | tuple):
        return [block for item in cast("list[Any]", payload) for block in blocks_of(item)]
    return [_block(payload)]


def block_of_bytes(data: bytes, media_type: str | None) -> ContentBlock:
    """The block of a reply that is bytes and nothing else."""
    kind, encoded = media_type or "application/octet-stream", b64encode(data).decode()
    if kind.startswith("image/"):
        return ImageContent(data=encoded, mime_type=kind)
    if kind.startswith("audio/"):
        return AudioContent(data=encoded, mime_type=kind)
    return EmbeddedResource(resource=BlobResourceContents(uri="portico:reply", blob=encoded, mime_type=kind))


def _block(said: Mapping[str, Any]) -> ContentBlock:
    match said["type"]:
        case "text":
            return TextContent(text=said["text"])
        case "image":
            return ImageContent(data=said["data"], mime_type=said["media_type"])
        case "audio":
            return AudioContent(data=said["data"], mime_type=said["media_type"])
        case "resource":
            return EmbeddedResource(resource=_contents(said))
        case _:
            return ResourceLink(
                uri=said["uri"],
                name=said["name"],
                title=said["title"],
                description=said["description"],
                mime_type=said["media_type"],
                size=said["size"],
            )


def _contents(said: Mapping[str, Any]) -> TextResourceContents | BlobResourceContents:
    if said["text"] is not None:
        return TextResourceContents(uri=said["uri"], text=said["text"], mime_type=said["media_type"])
    return BlobResourceContents(uri=said["uri"], blob=said["data"], mime_type=said["media_type"])
