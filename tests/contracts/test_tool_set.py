"""The contract of the ports `ToolSet` and `Tool`: tools are found by name, tell what they take, and fail with a text.

The subjects offer the same tools: as functions in a toolbox, from a real MCP server over stdio, and from that server through a
toolbox. One server serves all tests that only ask it.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from jsonschema import Draft202012Validator

from portico.agents.toolbox import Toolbox
from portico.errors import DuplicateName, MCPServerUnavailable, PorticoError, ToolError, UnknownTool
from portico.mcp_bridge.config import MCPServerConfig
from tests.mcp_bridge.helpers import tool_server, upstreams

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from portico.kernel.protocols import Tool, ToolSet

pytestmark = pytest.mark.anyio


@dataclass(frozen=True, slots=True)
class Subject:
    """A tool set, and how it addresses its tools."""

    tools: ToolSet
    prefix: str = ""

    def __getitem__(self, name: str) -> Tool:
        return self.tools.get(self.prefix + name)


def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


def greet(name: str) -> str:
    """A greeting."""
    return f"Hello, {name}!"


def fail(why: str) -> str:
    """Answers an error."""
    raise ToolError(why)


@asynccontextmanager
async def toolbox() -> AsyncGenerator[Subject]:
    yield Subject(Toolbox([greet, fail, add]))


@asynccontextmanager
async def mcp() -> AsyncGenerator[Subject]:
    async with upstreams(tool_server()) as tools:
        yield Subject(tools, "mcp://tests/")


@asynccontextmanager
async def bridged() -> AsyncGenerator[Subject]:
    async with mcp() as inner:
        yield Subject(Toolbox([greet], bridge=inner.tools), inner.prefix)


@pytest.fixture(scope="module", params=[toolbox, mcp, bridged])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    opened: Callable[[], AbstractAsyncContextManager[Subject]] = request.param
    with anyio.fail_after(50):
        async with opened() as made:
            yield made


# --- finding tools ----------------------------------------------------------------------------------------------------


async def test_names_are_sorted_and_each_stands_once(subject: Subject) -> None:
    names = subject.tools.names()
    assert {subject.prefix + name for name in ("add", "greet", "fail")} <= set(names)
    assert names == sorted(set(names))


async def test_every_tool_is_given_in_the_order_of_the_names(subject: Subject) -> None:
    assert [tool.name for tool in subject.tools] == subject.tools.names()


async def test_a_tool_is_found_by_the_name_that_it_has(subject: Subject) -> None:
    for name in subject.tools.names():
        assert subject.tools.get(name).name == name


async def test_an_unknown_tool_is_told_with_the_nearest(subject: Subject) -> None:
    with pytest.raises(UnknownTool) as caught:
        subject["gret"]
    assert repr(f"{subject.prefix}gret") in str(caught.value)
    assert repr(f"{subject.prefix}greet") in str(caught.value)


@pytest.mark.parametrize("name", ["", "/", "mcp://", "mcp://nowhere", "mcp://nowhere/at-all", "mcp://tests/", "mcp://tests"])
async def test_a_name_that_is_no_tool_s_is_unknown_whatever_it_looks_like(subject: Subject, name: str) -> None:
    with pytest.raises(UnknownTool):
        subject.tools.get(name)


# --- what a tool tells ------------------------------------------------------------------------------------------------


async def test_every_tool_describes_itself_to_a_model(subject: Subject) -> None:
    assert subject["greet"].description == "A greeting."
    assert all(tool.description for tool in subject.tools)


async def test_every_tool_takes_an_object_that_a_json_schema_describes(subject: Subject) -> None:
    for tool in subject.tools:
        schema = json.loads(json.dumps(dict(tool.input_schema)))
        Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
    assert set(subject["add"].input_schema["properties"]) == set(subject["add"].input_schema["required"]) == {"a", "b"}


# --- calling ----------------------------------------------------------------------------------------------------------


async def test_a_tool_gives_its_result(subject: Subject) -> None:
    assert await subject["greet"].execute(name="Ada") == "Hello, Ada!"


async def test_a_result_is_json_able_data(subject: Subject) -> None:
    assert "3" in json.dumps(await subject["add"].execute(a=1, b=2))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({}, "a"), ({"a": 1}, "b"), ({"a": "one", "b": 2}, "a"), ({"a": 1, "b": None}, "b"), ({"a": 1, "b": [2]}, "b")],
    ids=["none", "one-missing", "word-for-number", "null", "list-for-number"],
)
async def test_arguments_are_checked_first_and_the_wrong_one_is_named(
    subject: Subject, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(ToolError, match=rf"(?s)^The arguments of .*add.* are not valid:.*\b{named}\b"):
        await subject["add"].execute(**arguments)


async def test_a_tool_that_fails_says_why_and_can_be_called_again(subject: Subject) -> None:
    for why in ("the disk is full", "the cable is cut"):
        with pytest.raises(ToolError, match=why):
            await subject["fail"].execute(why=why)
    assert await subject["greet"].execute(name="Ada") == "Hello, Ada!"


async def test_a_tool_called_many_times_at_once_gives_each_its_own_result(subject: Subject) -> None:
    greet_tool, got = subject["greet"], dict[int, Any]()

    async def call(number: int) -> None:
        got[number] = await greet_tool.execute(name=str(number))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(call, number)
    assert got == {number: f"Hello, {number}!" for number in range(20)}


# --- connecting servers -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def no_servers() -> AsyncGenerator[ToolSet]:
    async with upstreams() as tools:
        yield tools


@asynccontextmanager
async def no_servers_bridged() -> AsyncGenerator[ToolSet]:
    async with upstreams() as tools:
        yield Toolbox([greet], bridge=tools)


over_all_that_connect = pytest.mark.parametrize("opened", [no_servers, no_servers_bridged])


@over_all_that_connect
async def test_a_server_that_is_connected_adds_its_tools_and_can_be_connected_once(
    opened: Callable[[], AbstractAsyncContextManager[ToolSet]],
) -> None:
    with anyio.fail_after(20):
        async with opened() as tools:
            own = tools.names()
            added = await tools.connect_mcp(tool_server("later"))
            assert "mcp://later/greet" in added
            assert all(name.startswith("mcp://later/") for name in added)
            assert tools.names() == sorted([*own, *added])
            assert await tools.get("mcp://later/greet").execute(name="Ada") == "Hello, Ada!"
            with pytest.raises(DuplicateName):
                await tools.connect_mcp(tool_server("later"))


@over_all_that_connect
@pytest.mark.parametrize(
    ("config", "error"),
    [
        (MCPServerConfig("dead", command="python", args=["-c", "raise SystemExit(3)"]), MCPServerUnavailable),
        ({"name": "dead", "comand": "python"}, PorticoError),
        (42, PorticoError),
    ],
    ids=["dead", "misspelt", "nonsense"],
)
async def test_a_server_that_cannot_be_connected_adds_nothing_and_keeps_no_name(
    opened: Callable[[], AbstractAsyncContextManager[ToolSet]], config: Any, error: type[PorticoError]
) -> None:
    with anyio.fail_after(20):
        async with opened() as tools:
            own = tools.names()
            with pytest.raises(error):
                await tools.connect_mcp(config)
            assert tools.names() == own
            assert "mcp://dead/greet" in await tools.connect_mcp(tool_server("dead"))
