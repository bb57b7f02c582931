"""What changed reaches clients that want to know: over HTTP and stdio, of both eras."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.client.subscriptions import PromptsListChanged, ResourceUpdated, ToolsListChanged
from mcp.types import (
    PromptListChangedNotification,
    ResourceListChangedNotification,
    ToolListChangedNotification,
)

from tests.mcp_bridge.helpers import Greeter, gateway

if TYPE_CHECKING:
    from portico.mcp_bridge.serving.http import MCPEndpoint

pytestmark = pytest.mark.anyio


class Heard:
    """What a client of the old era is told."""

    def __init__(self) -> None:
        self._news: asyncio.Queue[Any] = asyncio.Queue()

    async def __call__(self, message: Any) -> None:
        await self._news.put(message)

    async def next(self) -> Any:
        with anyio.fail_after(20):
            return await self._news.get()

    async def next_after_tools(self) -> Any:
        """The next that is not about tools."""
        while isinstance(news := await self.next(), ToolListChangedNotification):
            pass
        return news

    async def opened(self, endpoint: MCPEndpoint) -> None:
        """Until the GET stream of the only session stands: what is told before is told to nobody."""
        while self._news.empty():
            endpoint.served.news.tools_changed()
            await asyncio.sleep(0.01)


async def test_a_client_of_the_new_era_hears_what_it_listens_for_and_nothing_else() -> None:
    async with gateway(Greeter("greeter")) as (url, endpoint), Client(url, mode="auto") as client:
        assert client.server_capabilities.tools is not None
        assert client.server_capabilities.tools.list_changed
        with anyio.fail_after(20):
            async with client.listen(tools_list_changed=True, resource_subscriptions=["portico://agents"]) as heard:
                endpoint.served.news.prompts_changed()
                endpoint.served.news.resource_updated("portico://agents/greeter")
                endpoint.served.news.resource_updated("portico://agents")
                endpoint.served.news.tools_changed()
                told = [await anext(heard), await anext(heard)]
    assert told == [ResourceUpdated("portico://agents"), ToolsListChanged()]


async def test_a_session_of_the_old_era_hears_of_every_list() -> None:
    heard = Heard()
    async with (
        gateway(Greeter("greeter")) as (url, endpoint),
        Client(url, mode="legacy", message_handler=heard) as client,
    ):
        assert client.server_capabilities.tools is not None
        assert client.server_capabilities.tools.list_changed
        await heard.opened(endpoint)
        endpoint.served.news.resource_updated("portico:nobody-asked")
        endpoint.served.news.prompts_changed()
        endpoint.served.news.resources_changed()
        endpoint.served.news.tools_changed()
        told = [await heard.next_after_tools(), await heard.next(), await heard.next()]
    assert [type(news) for news in told] == [
        PromptListChangedNotification,
        ResourceListChangedNotification,
        ToolListChangedNotification,
    ]


async def test_a_session_that_ended_is_forgotten() -> None:
    heard = Heard()
    async with gateway(Greeter("greeter")) as (url, endpoint):
        news = endpoint.served.news
        async with Client(url, mode="legacy", message_handler=heard) as client:
            await client.list_tools()
            await heard.opened(endpoint)
            assert news.sessions == 1
        assert news.sessions == 0


async def test_a_stream_of_news_ends_by_itself_when_the_gateway_drains() -> None:
    async with gateway(Greeter("greeter")) as (url, endpoint), Client(url, mode="2026-07-28") as client:
        with anyio.fail_after(20):
            async with client.listen(tools_list_changed=True) as heard:
                endpoint.served.news.tools_changed()
                endpoint.drain()
                told = [event async for event in heard]
    assert told == [ToolsListChanged()]


async def test_a_client_that_does_not_read_is_told_once_of_what_happened_often() -> None:
    async with gateway(Greeter("greeter")) as (url, endpoint), Client(url, mode="2026-07-28") as client:
        with anyio.fail_after(20):
            async with client.listen(tools_list_changed=True, prompts_list_changed=True) as heard:
                for _ in range(5000):
                    endpoint.served.news.tools_changed()
                endpoint.served.news.prompts_changed()
                told = [await anext(heard), await anext(heard)]
    assert told == [ToolsListChanged(), PromptsListChanged()]


async def test_who_wants_too_many_resources_is_refused() -> None:
    async with gateway(Greeter("greeter")) as (url, _), Client(url, mode="2026-07-28") as client:
        with anyio.fail_after(20), pytest.raises(MCPError, match="1000 resources at most"):
            async with client.listen(resource_subscriptions=[f"portico:{number}" for number in range(1001)]):
                pass
