from __future__ import annotations

import pytest

from portico.agents.tool import Tool
from portico.agents.toolbox import Toolbox, select
from portico.errors import ConfigurationError, ToolError, UnknownTool

pytestmark = pytest.mark.anyio


def add(a: int) -> int:
    return a


def read() -> str:
    return ""


class Bridge(Toolbox):
    """Stands for the tools of MCP servers."""

    async def connect_mcp(self, config: str) -> list[str]:
        self.add(Tool.from_function(read, name=f"mcp://{config}/read"))
        return [f"mcp://{config}/read"]


def test_tools_are_found_by_name_and_listed_sorted() -> None:
    box = Toolbox([read, add, Tool.from_function(add, name="plus")])
    assert box.names() == ["add", "plus", "read"]
    assert [tool.name for tool in box] == ["add", "plus", "read"]
    assert box.get("plus").name == "plus"


def test_an_unknown_tool_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownTool, match=r"There is no tool 'ad'\. Did you mean 'add' or 'read'\?"):
        Toolbox([add, read]).get("ad")


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Two tools are named 'add'"):
        Toolbox([add, add])


async def test_mcp_servers_need_a_bridge() -> None:
    with pytest.raises(ConfigurationError, match="This tool set connects no MCP servers"):
        await Toolbox().connect_mcp({})


async def test_the_bridge_s_tools_stand_beside_its_own() -> None:
    box = Toolbox([add], bridge=Bridge())
    assert await box.connect_mcp("files") == ["mcp://files/read"]
    assert box.names() == ["add", "mcp://files/read"]
    assert [tool.name for tool in box] == ["add", "mcp://files/read"]
    with pytest.raises(UnknownTool, match="mcp://files/read"):
        box.get("mcp://files/reed")


async def test_a_glob_means_every_tool_that_fits() -> None:
    box = Toolbox([add], bridge=Bridge())
    await box.connect_mcp("files")
    assert [tool.name for tool in select(box, "mcp://files/*")] == ["mcp://files/read"]
    assert [tool.name for tool in select(box, "add")] == ["add"]
    with pytest.raises(ToolError, match=r"No tool fits 'mcp://web/\*'"):
        select(box, "mcp://web/*")
