"""Replies that are text, images, audio and resources: blocks of content over MCP, JSON over HTTP."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest
from mcp import Client
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from portico import AgentProcess, Audio, Content, Image, Text, operation
from portico import EmbeddedResource as Embedded
from portico import ResourceLink as Link
from tests.app.serving import is_problem, served
from tests.mcp_bridge.helpers import gateway

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\xfb\xff\xfe"
"""Its base64 has both letters in which the two alphabets differ."""


class Painter(AgentProcess):
    @operation
    async def mixed(self) -> list[Content]:
        """A row of everything."""
        return [
            Text(text="Here it is."),
            Image(data=PNG, media_type="image/png"),
            Audio(data=b"RIFF", media_type="audio/wav"),
            Embedded(uri="portico:a", text="all of it", media_type="text/plain"),
            Embedded(uri="portico:b", data=PNG),
            Link(uri="https://example.com/c", name="c", title="See", size=3),
        ]

    @operation
    async def picture(self) -> Image:
        return Image(data=PNG, media_type="image/png")

    @operation
    async def maybe(self, there: int) -> Text | None:
        return Text(text="there") if there else None

    @operation
    async def plain(self) -> list[Content]:
        return [{"type": "text", "text": "from a mapping"}]  # pyright: ignore[reportReturnType]  # as JSON has it

    @operation
    async def wrong(self) -> list[Content]:
        return ["no content"]  # pyright: ignore[reportReturnType]  # the point of it

    @operation
    async def look(self, picture: Image) -> int:
        """How long a picture is."""
        return len(picture.data)


@pytest.mark.parametrize("era", ["2026-07-28", "legacy"])
async def test_content_becomes_blocks_without_structured_content(era: str) -> None:
    async with gateway(Painter("painter")) as (url, _), Client(url, mode=era) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        mixed = await client.call_tool("painter-mixed")
        picture = await client.call_tool("painter-picture")
        nothing = await client.call_tool("painter-maybe", {"there": 0})
        plain = await client.call_tool("painter-plain")
        wrong = await client.call_tool("painter-wrong")
    assert tools["painter-mixed"].output_schema is None
    text, image, audio, whole, binary, link = mixed.content
    assert (mixed.structured_content, mixed.is_error) == (None, False)
    assert isinstance(text, TextContent)
    assert text.text == "Here it is."
    assert isinstance(image, ImageContent)
    assert (b64decode(image.data, validate=True), image.mime_type) == (PNG, "image/png")
    assert isinstance(audio, AudioContent)
    assert (b64decode(audio.data), audio.mime_type) == (b"RIFF", "audio/wav")
    assert isinstance(whole, EmbeddedResource)
    assert isinstance(whole.resource, TextResourceContents)
    assert (str(whole.resource.uri), whole.resource.text, whole.resource.mime_type) == ("portico:a", "all of it", "text/plain")
    assert isinstance(binary, EmbeddedResource)
    assert isinstance(binary.resource, BlobResourceContents)
    assert b64decode(binary.resource.blob, validate=True) == PNG
    assert isinstance(link, ResourceLink)
    assert (str(link.uri), link.name, link.title, link.size) == ("https://example.com/c", "c", "See", 3)
    assert [type(block) for block in picture.content] == [ImageContent]
    assert nothing.content == []
    assert isinstance(plain.content[0], TextContent)
    assert plain.content[0].text == "from a mapping"
    assert wrong.is_error


async def test_over_http_it_is_json_with_base64_and_the_document_describes_it() -> None:
    async with served(Painter("painter")) as one:
        mixed = (await one.client.post("/agents/painter/mixed")).json()
        length = await one.client.post("/agents/painter/look", json=mixed[1])
        both = await one.client.post("/agents/painter/look", json={"type": "text", "text": "a"})
        document = (await one.client.get("/openapi.json")).json()
    assert [item["type"] for item in mixed] == ["text", "image", "audio", "resource", "resource", "resource_link"]
    assert (b64decode(mixed[1]["data"], validate=True), mixed[1]["media_type"]) == (PNG, "image/png")
    assert length.json() == len(PNG)
    assert is_problem(both, 422, "contract-violated")
    reply: dict[str, Any] = document["paths"]["/agents/painter/mixed"]["post"]["responses"]["200"]["content"]["application/json"]
    assert reply["schema"]["items"]["discriminator"]["propertyName"] == "type"
    image = next(schema for name, schema in document["components"]["schemas"].items() if name.startswith("Image"))
    assert image["properties"]["data"]["contentEncoding"] == "base64"


@pytest.mark.parametrize("said", [{}, {"text": "a", "data": b"a"}])
def test_a_resource_has_either_text_or_data(said: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="either text or data"):
        Embedded(uri="portico:a", **said)
