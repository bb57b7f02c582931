"""Results: what an external tool answered, as plain data that an agent or a model can use.

A part is a mapping, just as the protocol has it, so that a result can be replied, stored and sent on; what it holds is also there
typed, an image's bytes for instance. Above: `toolset.py`.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from mcp.types import TextContent

from portico.errors import MCPToolError

if TYPE_CHECKING:
    from mcp.types import CallToolResult


class Part(dict[str, Any]):
    """One part of a result: `type` is `text`, `image`, `audio`, `resource` (with its content) or `resource_link` (without)."""

    @property
    def kind(self) -> str:
        """Its `type`."""
        return str(self["type"])

    @property
    def text(self) -> str | None:
        """The text of a text, or of a resource that is one."""
        return self._content.get("text")

    @property
    def data(self) -> bytes | None:
        """The bytes of an image, of a sound, or of a resource that is no text. Raises `ValueError` where they are not base64."""
        content = self._content
        encoded = content.get("data", content.get("blob"))
        if encoded is None:
            return None
        try:
            return base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise ValueError(f"The data of a part of the type {self.kind!r} is not base64: {error}") from error

    @property
    def media_type(self) -> str | None:
        """Such as `image/png`, where the server says so."""
        return self._content.get("mimeType")

    @property
    def uri(self) -> str | None:
        """Of a resource, or of a link to one."""
        return self._content.get("uri")

    @property
    def name(self) -> str | None:
        """Of a link: what it is called."""
        return self.get("name")

    @property
    def _content(self) -> dict[str, Any]:
        return cast("dict[str, Any]", self["resource"]) if self.get("type") == "resource" else self

    def for_model(self) -> str:
        """Its text, or what there is instead of one: bytes say nothing to a model that reads text."""
        if self.kind == "resource_link":
            return f"[link to a resource: {' '.join(str(self[key]) for key in ('name', 'uri', 'description') if key in self)}]"
        if self.text is not None:
            return self.text if self.uri is None else f"[resource {self.uri}]\n{self.text}"
        content = self._content
        size = len(content.get("data", content.get("blob", ""))) * 3 // 4
        return f"[{' '.join(filter(None, (self.kind, self.uri, self.media_type)))}, about {size} bytes, which are not shown]"


class Parts(list[Part]):
    """The parts of a result, in the server's order."""

    def for_model(self) -> str:
        """See `kernel.protocols.ForModel`."""
        return "\n".join(part.for_model() for part in self)


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """The whole of what a tool answered."""

    parts: Parts
    """Its parts."""
    structured: dict[str, Any] | None
    """Its structured content, which satisfies the tool's output schema; None where there is none."""

    @property
    def text(self) -> str:
        """Its texts, joined by line feeds."""
        return "\n".join(part["text"] for part in self.parts if part.kind == "text")

    @property
    def value(self) -> Any:
        """The structured content, else the text, else its `Parts`; None where it answered nothing."""
        if self.structured is not None:
            return self.structured
        if not self.parts:
            return None
        return self.text if all(part.kind == "text" for part in self.parts) else self.parts


def answer_of(uri: str, result: CallToolResult) -> ToolAnswer:
    """What a result says.

    Raises:
        MCPToolError: the tool answered an error; with its text.
    """
    if result.is_error:
        said = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
        raise MCPToolError(uri, said or "it answered an error without a text")
    parts = Parts(Part(part.model_dump(mode="json", by_alias=True, exclude_none=True)) for part in result.content)
    return ToolAnswer(parts, result.structured_content)
