"""Content: text, images, audio and resources, as one reply or several in a row.

    async def draw(self, what: str) -> list[Content]:
        return [Text(text="Here it is."), Image(data=png, media_type="image/png")]

Over MCP each is a content block of its own; in JSON, over HTTP, an object with its bytes as base64 (RFC 4648 §4). Bytes alone with
a media type (`self.reply(png, media_type="image/png")`) need none of this. Above: contracts, and the faces that serve them.
"""

from __future__ import annotations

import types
import typing
from base64 import b64encode
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema, model_validator


def _encoded(data: bytes) -> str:
    return b64encode(data).decode()


Data: TypeAlias = Annotated[
    bytes,
    PlainSerializer(_encoded, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]
"""Bytes; base64 in JSON."""


class _Block(BaseModel):
    """One piece of content."""

    model_config = ConfigDict(extra="forbid", frozen=True, val_json_bytes="base64")


class Text(_Block):
    """Text, for a person or a model to read."""

    type: Literal["text"] = "text"
    text: str


class Image(_Block):
    """A picture."""

    type: Literal["image"] = "image"
    data: Data = Field(description="The picture, as a file has it.")
    media_type: str = Field(description="Such as `image/png`.")


class Audio(_Block):
    """A recording."""

    type: Literal["audio"] = "audio"
    data: Data = Field(description="The recording, as a file has it.")
    media_type: str = Field(description="Such as `audio/wav`.")


class EmbeddedResource(_Block):
    """What stands at a URI, whole: text or bytes, and exactly one of both."""

    type: Literal["resource"] = "resource"
    uri: str = Field(description="Where it stands.")
    media_type: str | None = None
    text: str | None = Field(default=None, description="What it says, where it is text.")
    data: Data | None = Field(default=None, description="What it is, where it is no text.")

    @model_validator(mode="after")
    def _has_one(self) -> EmbeddedResource:
        if (self.text is None) == (self.data is None):
            raise ValueError("a resource has either text or data")
        return self


class ResourceLink(_Block):
    """Where something can be read, without what it says."""

    type: Literal["resource_link"] = "resource_link"
    uri: str = Field(description="Where it stands.")
    name: str = Field(description="What programs call it.")
    title: str | None = Field(default=None, description="What people call it.")
    description: str | None = None
    media_type: str | None = None
    size: int | None = Field(default=None, ge=0, description="Bytes that it has.")


Content: TypeAlias = Annotated[Text | Image | Audio | EmbeddedResource | ResourceLink, Field(discriminator="type")]
"""Any of them."""

_ROWS: Final = (list, tuple)


def is_content(kind: Any) -> bool:
    """Whether a type is content: one of these, several to choose from, or a list or tuple of them. None may be one of them."""
    if isinstance(kind, type) and not typing.get_origin(kind):
        return issubclass(kind, _Block)
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return is_content(inside[0])
    if origin in _ROWS:
        inside = tuple(item for item in inside if item is not Ellipsis)
    elif origin not in (typing.Union, types.UnionType):
        return False
    some = [item for item in inside if item is not type(None)]
    return bool(some) and all(is_content(item) for item in some)
