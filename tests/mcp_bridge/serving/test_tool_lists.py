"""Which tools a client is shown: those of the agents that are there, chosen and renamed by the settings, by its own scopes."""

from __future__ import annotations

import sys
from collections.abc import Callable  # a contract reads it
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ToolsListChanged
from mcp.types import INVALID_PARAMS, CallToolResult, TextContent, ToolListChangedNotification

from portico.app.factory import create_app
from portico.errors import ConfigurationError
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.process import AgentProcess
from portico.mcp_bridge.serving.options import ServingOptions
from portico.mcp_bridge.serving.tool_choice import ToolChoice
from portico.operations.decorators import operation
from tests.mcp_bridge.helpers import Greeter, Sums, free_port, gateway, serving
from tests.mcp_bridge.serving.test_news import Heard

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio

ERAS = ["2026-07-28", "legacy"]
STDIO = """
import asyncio
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.serving.stdio import serve_stdio
from portico.operations.decorators import operation
from portico.runs.dispatcher import Dispatcher

class Late(AgentProcess):
    @operation
    async def late(self) -> str:
        return "late"

class Spawner(AgentProcess):
    @operation
    async def spawn(self) -> str:
        return await self.router.runtime.spawn("crew", Late, "late")

async def main() -> None:
    async with Runtime(Supervisor("root", children=[Spawner("spawner"), DynamicSupervisor("crew")])) as runtime:
        await serve_stdio(Dispatcher(runtime))

asyncio.run(main())
"""


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return request.param


class Guarded(AgentProcess):
    @operation(scopes=["vault"])
    async def open(self, number: int) -> int:
        """Opens the vault."""
        return number


async def names(client: Client) -> list[str]:
    """The tools of agents."""
    return [tool.name for tool in (await client.list_tools(cache_mode="refresh")).tools if tool.name != "fetch_result"]


def text(result: CallToolResult) -> str:
    return "\n".join(part.text for part in result.content if isinstance(part, TextContent))


@asynccontextmanager
async def client_with(scopes: str, url: str, era: str) -> AsyncGenerator[Client]:
    async with (
        httpx2.AsyncClient(headers={"x-who": "ada", "x-scopes": scopes}) as http,
        Client(streamable_http_client(url, http_client=http), mode=era) as client,
    ):
        yield client


# --- agents come and go -----------------------------------------------------------------------------------------------


async def test_a_client_of_the_new_era_hears_of_agents_that_come_and_go_and_finds_them_listed() -> None:
    async with gateway(Greeter("greeter"), DynamicSupervisor("crew")) as (url, endpoint):
        runtime = endpoint.served.dispatcher.runtime
        async with Client(url, mode="2026-07-28") as client:
            with anyio.fail_after(20):
                async with client.listen(tools_list_changed=True) as heard:
                    before = await names(client)
                    await runtime.spawn("crew", Guarded, "late")
                    assert await anext(heard) == ToolsListChanged()
                    between = await names(client)
                    answer = await client.call_tool("late", {"number": 3})
                    await runtime.despawn("crew", "late")
                    assert await anext(heard) == ToolsListChanged()
                    after = await names(client)
                    with pytest.raises(MCPError) as refused:
                        await client.call_tool("late", {"number": 3})
    assert (before, between, after) == (["greeter"], ["greeter", "late"], ["greeter"])
    assert answer.structured_content == {"result": 3}
    assert refused.value.code == INVALID_PARAMS


async def test_a_session_of_the_old_era_hears_of_them_too() -> None:
    heard = Heard()
    async with (
        gateway(Greeter("greeter"), DynamicSupervisor("crew")) as (url, endpoint),
        Client(url, mode="legacy", message_handler=heard) as client,
    ):
        await heard.opened(endpoint)
        endpoint.served.news.prompts_changed()
        await heard.next_after_tools()  # and so what `opened` has said is over
        await endpoint.served.dispatcher.runtime.spawn("crew", Greeter, "late")
        assert isinstance(await heard.next(), ToolListChangedNotification)
        assert await names(client) == ["greeter", "late"]


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_a_client_over_stdio_hears_of_them_too(mode: str) -> None:
    heard = Heard()
    parameters = StdioServerParameters(command=sys.executable, args=["-c", STDIO], env={"PYTHONPATH": ":".join(sys.path)})
    with anyio.fail_after(30):
        async with Client(stdio_client(parameters), mode=mode, message_handler=heard) as client:
            if mode == "legacy":
                await client.call_tool("spawner")
                assert isinstance(await heard.next(), ToolListChangedNotification)
            else:
                async with client.listen(tools_list_changed=True) as news:
                    await client.call_tool("spawner")
                    assert await anext(news) == ToolsListChanged()
            assert await names(client) == ["late", "spawner"]


async def test_a_restart_is_no_news() -> None:
    async with gateway(Sums("sums"), DynamicSupervisor("crew")) as (url, endpoint):
        runtime = endpoint.served.dispatcher.runtime
        async with Client(url, mode="2026-07-28") as client:
            with anyio.fail_after(20):
                async with client.listen(tools_list_changed=True, prompts_list_changed=True) as heard:
                    await runtime.restart_agent("sums")
                    await client.call_tool("sums-total", {"payload": [1]})
                    endpoint.served.news.prompts_changed()
                    assert await anext(heard) != ToolsListChanged()


async def test_another_class_under_the_same_name_is_another_tool() -> None:
    async with gateway(Greeter("one")) as (url, endpoint), Client(url, mode="2026-07-28") as client:
        with anyio.fail_after(20):
            async with client.listen(tools_list_changed=True) as heard:
                await endpoint.served.dispatcher.runtime.replace("one", Guarded)
                assert await anext(heard) == ToolsListChanged()
        tool = (await client.list_tools(cache_mode="refresh")).tools[-1]
    assert (tool.name, tool.description) == ("one", "Opens the vault.")


async def test_a_newcomer_whose_types_make_no_contract_is_left_out_and_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(AgentProcess):
        @operation
        async def odd(self, thing: Callable[[], int]) -> str:
            return str(thing)

    async with gateway(Greeter("greeter"), DynamicSupervisor("crew")) as (url, endpoint):
        runtime = endpoint.served.dispatcher.runtime
        async with Client(url, mode="2026-07-28") as client:
            with anyio.fail_after(20):
                async with client.listen(tools_list_changed=True) as heard:
                    await runtime.spawn("crew", Odd, "odd")
                    await runtime.spawn("crew", Greeter, "second")
                    assert await anext(heard) == ToolsListChanged()
            assert await names(client) == ["greeter", "second"]
    assert "'odd' is not served as a tool" in caplog.text


# --- allow, deny, rename ----------------------------------------------------------------------------------------------


async def test_settings_choose_tools_and_what_is_not_chosen_cannot_be_called(era: str) -> None:
    choice = ToolChoice(
        allow=["sums-*", "greeter"], deny=["*-crash", "sums-forget"], rename={"sums-total": "add", "greeter": "hello"}
    )
    async with (
        gateway(Sums("sums"), Greeter("greeter"), Greeter("other"), options=ServingOptions(choice=choice)) as (url, _),
        Client(url, mode=era) as client,
    ):
        listed = await names(client)
        total = await client.call_tool("add", {"payload": [1, 2]})
        refusals: dict[str, MCPError] = {}
        for name in ("sums-crash", "other", "sums-total", "greeter"):
            with pytest.raises(MCPError) as refused:
                await client.call_tool(name, {})
            refusals[name] = refused.value
    assert listed == ["add", "hello", "sums-break_contract", "sums-refuse"]
    assert total.structured_content == {"result": 3}
    assert {error.code for error in refusals.values()} == {INVALID_PARAMS}
    assert all("There is no tool" in error.message for error in refusals.values())


@pytest.mark.parametrize(
    ("rename", "told"),
    [
        ({"sums-totl": "add"}, "there is no such tool. Did you mean 'sums-total'"),
        ({"sums-total": "greeter"}, "which is that of 'greeter': each needs its own"),
        ({"sums-total": "add", "greeter": "add"}, "which is that of 'sums-total': each needs its own"),
        ({"sums-total": "add up"}, "it must be 1 to 64 letters, digits, '_' or '-'"),
        ({"sums-total": "x" * 65}, "it must be 1 to 64 letters"),
    ],
)
async def test_names_that_cannot_be_given_are_told_before_anything_is_served(rename: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        async with gateway(Sums("sums"), Greeter("greeter"), options=ServingOptions(choice=ToolChoice(rename=rename))):
            pass


async def test_two_tools_may_change_their_names(era: str) -> None:
    choice = ToolChoice(rename={"one": "two", "two": "one"})
    async with (
        gateway(Greeter("one"), Guarded("two"), options=ServingOptions(choice=choice)) as (url, _),
        Client(url, mode=era) as client,
    ):
        descriptions = {tool.name: tool.description for tool in (await client.list_tools()).tools}
    assert (descriptions["one"], descriptions["two"]) == ("Opens the vault.", "Greets somebody, up to three times.")


async def test_a_topology_chooses_its_tools_too() -> None:
    topology = {
        "supervision": {"children": [{"type": "tests.mcp_bridge.helpers.Sums", "name": "sums"}]},
        "server": {"mcp_allow": "sums-*", "mcp_deny": ["*-crash"], "mcp_rename": {"sums-total": "add"}, "mcp_page_size": 2},
    }
    port = free_port()
    async with serving(create_app(topology), port), Client(f"http://127.0.0.1:{port}/mcp") as client:
        found = [page async for page, _ in pages(client)]
    assert found == [["add", "fetch_result"], ["sums-break_contract", "sums-forget"], ["sums-refuse"]]

    wrong = {**topology, "server": {"mcp_rename": {"sums-totla": "add"}}}
    with pytest.raises(ConfigurationError, match=r"mcp_rename has 'sums-totla'.*'sums-total'"):
        create_app(wrong)


# --- scopes -----------------------------------------------------------------------------------------------------------


async def test_a_caller_is_shown_what_its_scopes_allow(era: str) -> None:
    async with gateway(Guarded("vault"), Greeter("greeter")) as (url, _):
        async with client_with("vault", url, era) as allowed, client_with("other", url, era) as lacking:
            lists = [await names(allowed), await names(lacking)]
            opened = await allowed.call_tool("vault", {"number": 7})
            refused = await lacking.call_tool("vault", {"nothing": "right"})
            with pytest.raises(MCPError) as unknown:
                await lacking.call_tool("vaults")
        async with Client(url, mode=era) as anybody:
            lists.append(await names(anybody))
    assert lists == [["greeter", "vault"], ["greeter"], ["greeter", "vault"]]
    assert opened.structured_content == {"result": 7}
    assert refused.is_error
    assert refused.meta is not None
    assert refused.meta["portico/error"]["slug"] == "insufficient-scope"
    assert "needs the scope 'vault'" in text(refused)
    assert "vault'?" not in unknown.value.message


# --- pages ------------------------------------------------------------------------------------------------------------


async def pages(client: Client, cursor: str | None = None) -> AsyncGenerator[tuple[list[str], str | None]]:
    while True:
        page = await client.list_tools(cursor=cursor, cache_mode="bypass")
        yield [tool.name for tool in page.tools], page.next_cursor
        cursor = page.next_cursor
        if cursor is None:
            return


async def test_a_list_is_paged_and_every_tool_is_in_it_once(era: str) -> None:
    agents = [Greeter(f"agent-{number}") for number in range(7)]
    async with gateway(*agents, options=ServingOptions(page_size=3)) as (url, _), Client(url, mode=era) as client:
        found = [page async for page, _ in pages(client)]
    assert [len(page) for page in found] == [3, 3, 2]
    assert [name for page in found for name in page] == [*sorted(agent.name for agent in agents), "fetch_result"]


async def test_a_cursor_survives_agents_that_come_and_go(era: str) -> None:
    agents = [Greeter(name) for name in ("b", "d", "g")]
    async with gateway(*agents, DynamicSupervisor("crew"), options=ServingOptions(page_size=2)) as (url, endpoint):
        runtime = endpoint.served.dispatcher.runtime
        await runtime.spawn("crew", Greeter, "c")
        async with Client(url, mode=era) as client:
            first = await client.list_tools(cache_mode="bypass")
            await runtime.despawn("crew", "c")  # the one that the cursor stands at
            await runtime.spawn("crew", Greeter, "a")
            rest = await client.list_tools(cursor=first.next_cursor, cache_mode="bypass")
            last = await client.list_tools(cursor=rest.next_cursor, cache_mode="bypass")
    listed = [[tool.name for tool in page.tools] for page in (first, rest, last)]
    assert listed == [["b", "c"], ["d", "fetch_result"], ["g"]]
    assert last.next_cursor is None


@pytest.mark.parametrize("cursor", ["", "x", "7", "YWZ0ZXI6=", "ünïcode", "YWZ0ZXI6YQ==", "a" * 10_000])
async def test_a_cursor_of_somebody_elses_is_refused_with_a_sentence(cursor: str, era: str) -> None:
    async with gateway(Greeter("greeter")) as (url, _), Client(url, mode=era) as client:
        with pytest.raises(MCPError, match="The cursor is none that this server gave") as refused:
            await client.list_tools(cursor=cursor)
    assert refused.value.code == INVALID_PARAMS


async def test_a_list_tells_how_long_and_for_whom_it_may_be_kept() -> None:
    async with gateway(Greeter("greeter")) as (url, _):
        async with Client(url, mode="2026-07-28") as client:
            for_all = await client.list_tools()
        async with client_with("vault", url, "2026-07-28") as client:
            for_one = await client.list_tools()
    assert (for_all.ttl_ms, for_all.cache_scope) == (10_000, "public")
    assert (for_one.ttl_ms, for_one.cache_scope) == (10_000, "private")
