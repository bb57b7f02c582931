"""Upload: a file in a request. The type of a member that somebody sends as a part of a form, or as an object in JSON.

    async def scan(self, photo: Upload, note: str = "") -> str: ...

A payload is data, so an upload is too: it is read whole, and where its run is stored it is stored as base64.
"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

MARK: Final = "x-upload"
"""The keyword by which a JSON Schema says that an object is one."""


class Upload(BaseModel):
    """A file. In JSON: `{"filename": "a.png", "content_type": "image/png", "content": "<base64>"}`."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={MARK: True})

    filename: str | None = Field(
        default=None, description="What its sender calls it. Never a path to write to: strangers choose it."
    )
    content_type: str | None = Field(default=None, description="The media type that its sender claims.")
    content: bytes = Field(description="The file.")
