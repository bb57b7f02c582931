"""What a call to an external tool sends of its arguments."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from portico.errors import ToolError
from tests.mcp_bridge.calling.scripted import Request, response, result, scripted
from tests.mcp_bridge.helpers import upstreams

pytestmark = pytest.mark.anyio


def echo(request: Request, _: object = None) -> bytes:
    return response(result(request, structuredContent=request.message["params"]["arguments"]))


async def sent(schema: dict[str, Any], /, **arguments: Any) -> Any:
    """What the server gets of them."""
    with anyio.fail_after(20):
        async with scripted(echo) as server:
            server.tools = [{"name": "act", "inputSchema": {"type": "object", **schema}}]
            async with upstreams(server.config()) as tools:
                return await tools.get("mcp://tests/act").execute(**arguments)


async def test_none_is_left_out_where_the_argument_is_optional_and_takes_no_null() -> None:
    members = {"a": {"type": "string"}, "b": {"type": ["string", "null"]}, "c": {"type": ["string", "integer"]}, "d": {}}
    assert await sent({"properties": members}, a=None, b=None, c=None, d=None) == {"b": None, "d": None}
    assert await sent({"properties": members}, a="", c=0) == {"a": "", "c": 0}


async def test_none_for_a_required_argument_is_refused_and_not_left_out() -> None:
    with pytest.raises(ToolError, match="/a: None is not of type 'string'"):
        await sent({"properties": {"a": {"type": "string"}}, "required": ["a"]}, a=None)


@pytest.mark.parametrize("required", [None, 5, "a"], ids=str)
async def test_a_schema_whose_list_of_required_arguments_is_none_breaks_no_call(required: Any) -> None:
    assert await sent({"properties": {"a": {"type": "string"}}, "required": required}, a=None, b=1) == {"b": 1}
