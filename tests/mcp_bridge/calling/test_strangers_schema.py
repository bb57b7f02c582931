"""A schema that a server wrote is applied as the standard says, and holds nobody up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp.types import Tool

from portico.errors import MCPToolError
from portico.mcp_bridge.calling.remote_tool import RemoteTool
from portico.mcp_bridge.calling.strangers_schema import StrangersSchema, UnusableSchemaError
from tests.mcp_bridge.calling.scripted import TOOLS, Request, response, result, scripted
from tests.mcp_bridge.helpers import upstreams

if TYPE_CHECKING:
    import asyncio

EMPTY: dict[str, Any] = {}
TEXT = {"type": "string"}
BACKTRACKS = "^(a+)+$"
DOUBLING: dict[str, Any] = {f"a{level}": {"allOf": [{"$ref": f"#/$defs/a{level + 1}"}] * 2} for level in range(60)} | {"a60": TEXT}
META = "https://json-schema.org/draft/2020-12/schema"


def paths(schema: dict[str, Any], value: Any) -> list[str]:
    return [fault["path"] for fault in StrangersSchema(schema).faults(value)]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": BACKTRACKS}, "a" * 60 + "!"),
        ({"patternProperties": {BACKTRACKS: EMPTY}, "additionalProperties": False}, {"a" * 60 + "!": 1}),
        ({"unevaluatedProperties": False, "patternProperties": {BACKTRACKS: EMPTY}}, {"a" * 60 + "!": 1}),
        ({"uniqueItems": True}, [[number, "a"] if number % 2 else {"n": number} for number in range(40_000)]),
        ({"$ref": "#/$defs/a0", "$defs": DOUBLING}, "x"),
        ({"$ref": "#/$defs/a0", "$defs": DOUBLING, "unevaluatedItems": False}, ["x"]),
        ({"allOf": [EMPTY] * 60_000}, 1),
        ({"$ref": META}, {"allOf": [EMPTY] * 60_000}),
        ({"items": {"$schema": META, "allOf": [TEXT] * 5000}}, ["x"] * 50_000),
        ({"contains": {"enum": list(range(20_000))}}, [-1] * 50_000),
    ],
    ids=["pattern", "keys", "left", "unique", "doubling", "doubling-left", "wide", "meta", "dialect", "contains"],
)
def test_a_schema_that_would_take_for_ever_ends_within_seconds(schema: dict[str, Any], value: Any) -> None:
    began = time.thread_time()
    try:
        StrangersSchema(schema).faults(value)
    except UnusableSchemaError as error:
        assert "it takes more than 1 s" in str(error)  # noqa: PT017  # it may also have an answer in time
    assert time.thread_time() - began < 5


def test_what_took_too_long_is_not_tried_again() -> None:
    schema = StrangersSchema({"$ref": "#/$defs/a0", "$defs": DOUBLING})
    began = 0.0
    for _ in range(2):
        began = time.thread_time()
        with pytest.raises(UnusableSchemaError):
            schema.faults("x")
    assert time.thread_time() - began < 0.5


def test_patterns_count_as_far_as_they_can_be_matched_in_linear_time() -> None:
    assert paths({"properties": {"x": {"pattern": "^a+$"}}}, {"x": "b"}) == ["/x"]
    assert paths({"properties": {"x": {"pattern": "a"}}}, {"x": "bab"}) == []
    assert paths({"pattern": "^(?=a)b$"}, "c") == []  # looks ahead: the server sees to it
    assert paths({"pattern": "("}, "c") == []
    assert paths({"pattern": "a"}, 1) == []
    known: dict[str, Any] = {"properties": {"n": {}}, "patternProperties": {"^x-": TEXT}, "additionalProperties": False}
    assert paths(known, {"n": 1, "x-a": "b"}) == []
    assert paths(known, {"n": 1, "x-a": 2}) == ["/x-a"]
    assert paths(known, {"n": 1, "y": 2}) == [""]
    assert paths({**known, "additionalProperties": {"type": "integer"}}, {"y": "z"}) == ["/y"]


def test_every_other_keyword_counts_as_ever() -> None:
    assert paths({"uniqueItems": True}, [1, 1]) == [""]
    assert paths({"$ref": "#/$defs/t", "$defs": {"t": TEXT}}, 1) == [""]
    draft7 = {"$schema": "http://json-schema.org/draft-07/schema#", "items": [TEXT], "additionalItems": False}
    assert paths(draft7, ["a", 1]) == [""]


@pytest.mark.parametrize("schema", [{"type": "nothing"}, {"$ref": "http://127.0.0.1/x"}, {"$ref": "#/$defs/none"}, {"$ref": "#"}])
def test_a_schema_that_is_broken_or_leads_elsewhere_says_so(schema: dict[str, Any]) -> None:
    with pytest.raises(UnusableSchemaError):
        StrangersSchema(schema).faults({})


@pytest.mark.anyio
@pytest.mark.parametrize("mirrored", [False, True], ids=["direct", "sdk"])
async def test_a_server_cannot_hold_up_everybody_by_its_output_schema_and_an_answer_that_fits(*, mirrored: bool) -> None:
    properties = {"n": {"type": "string", "x-mcp-header": "N"}} if mirrored else {}
    trap: dict[str, Any] = {
        "name": "act",
        "inputSchema": {"type": "object", "properties": properties},
        "outputSchema": {"type": "object", "properties": {"x": {"pattern": BACKTRACKS}}},
    }

    def answer(request: Request, _: asyncio.StreamWriter) -> bytes:
        return response(result(request, structuredContent={"x": "a" * 60 + "!"}))

    with anyio.fail_after(30):
        async with scripted(answer) as server:
            server.tools = [trap, *TOOLS[1:]]
            async with upstreams(server.config()) as tools:
                with pytest.raises(MCPToolError, match="structured content"):
                    await tools.get("mcp://tests/act").execute()
        assert server.calls[0].by_sdk is mirrored


@pytest.mark.parametrize("required", [5, True, "x", None])
def test_a_schema_whose_required_is_no_list_makes_no_call_fail(required: Any) -> None:
    remote = RemoteTool("mcp://tests/act", Tool(name="act", input_schema={"type": "object", "required": required}))
    remote.check(remote.given({"x": None}))
