"""Results of external tools: plain data that can be sent on, with their types beside."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from mcp.types import CallToolResult

from portico.errors import MCPToolError
from portico.mcp_bridge.calling.results import Part, ToolAnswer, answer_of

PNG = b"\x89PNG\r\n"
ENCODED = base64.b64encode(PNG).decode()
TEXT = {"type": "text", "text": "look"}
IMAGE = {"type": "image", "data": ENCODED, "mimeType": "image/png"}
AUDIO = {"type": "audio", "data": ENCODED, "mimeType": "audio/wav"}
FILE = {"type": "resource", "resource": {"uri": "file:///a.txt", "mimeType": "text/plain", "text": "content"}}
BLOB = {"type": "resource", "resource": {"uri": "file:///a.bin", "blob": ENCODED}}
LINK = {"type": "resource_link", "uri": "file:///b.txt", "name": "b", "description": "more"}


def answered(*content: dict[str, Any], **more: Any) -> ToolAnswer:
    return answer_of("mcp://tests/tool", CallToolResult.model_validate({"content": list(content), **more}, by_name=False))


def test_parts_are_the_mappings_of_the_protocol_and_can_be_sent_on_as_json() -> None:
    answer = answered(TEXT, IMAGE, AUDIO, FILE, BLOB, LINK)

    assert json.loads(json.dumps(answer.value)) == [TEXT, IMAGE, AUDIO, FILE, BLOB, LINK]


def test_parts_tell_their_bytes_text_type_and_address() -> None:
    text, image, audio, file, blob, link = answered(TEXT, IMAGE, AUDIO, FILE, BLOB, LINK).parts

    assert (text.kind, text.text, text.data) == ("text", "look", None)
    assert (image.kind, image.data, image.media_type, image.text) == ("image", PNG, "image/png", None)
    assert (audio.data, audio.media_type) == (PNG, "audio/wav")
    assert (file.text, file.uri, file.media_type, file.data) == ("content", "file:///a.txt", "text/plain", None)
    assert (blob.data, blob.uri, blob.text) == (PNG, "file:///a.bin", None)
    assert (link.kind, link.name, link.uri) == ("resource_link", "b", "file:///b.txt")


def test_data_that_is_not_base64_is_said_to_be_none_when_somebody_wants_the_bytes() -> None:
    (part,) = answered({**IMAGE, "data": "no base64!"}).parts

    with pytest.raises(ValueError, match="not base64"):
        _ = part.data


def test_the_value_is_the_structured_content_else_the_text_else_the_parts_else_nothing() -> None:
    both = answered(TEXT, IMAGE, structuredContent={"n": 1})

    assert both.value == {"n": 1}
    assert [part.kind for part in both.parts] == ["text", "image"]
    assert answered(TEXT, TEXT).value == "look\nlook"
    assert answered(IMAGE).value == [IMAGE]
    assert answered().value is None


def test_a_model_reads_texts_and_is_told_what_else_there_is() -> None:
    assert answered(TEXT, IMAGE, FILE, BLOB, LINK).value.for_model().splitlines() == [
        "look",
        "[image image/png, about 6 bytes, which are not shown]",
        "[resource file:///a.txt]",
        "content",
        "[resource file:///a.bin, about 6 bytes, which are not shown]",
        "[link to a resource: b file:///b.txt more]",
    ]


@pytest.mark.parametrize(("content", "sentence"), [([TEXT], "look"), ([IMAGE], "without a text"), ([], "without a text")])
def test_an_error_of_the_tool_is_raised_with_its_text(content: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(MCPToolError, match=sentence):
        answered(*content, isError=True)


def test_a_part_of_a_kind_that_nobody_knows_yet_is_told_by_its_kind() -> None:
    assert "video" in Part({"type": "video"}).for_model()
