"""What clients subscribed to is told them when it changes, in both eras, and forgotten with them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.subscriptions import ResourceUpdated
from mcp.types import ResourceUpdatedNotification

from portico.runs.call import Call
from tests.mcp_bridge.helpers import gateway, until
from tests.mcp_bridge.serving.library import Library, Waiter
from tests.mcp_bridge.serving.test_news import Heard
from tests.mcp_bridge.serving.test_resources import read
from tests.mcp_bridge.serving.test_server import client_as

if TYPE_CHECKING:
    from portico.mcp_bridge.serving.http import MCPEndpoint
    from portico.runs.run import Run

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),  # the SDK's, of the whole old era
]


SCRIPT = Path(__file__).with_name("stdio_library.py")
ROOT = Path(__file__).parents[3]


async def subscribe(client: Client, uri: str) -> None:
    await client.subscribe_resource(uri)  # pyright: ignore[reportDeprecated]  # the old era


async def unsubscribe(client: Client, uri: str) -> None:
    await client.unsubscribe_resource(uri)  # pyright: ignore[reportDeprecated]  # as above


async def next_updated(heard: Heard) -> str:
    """The address that a session of the old era is told of next."""
    while not isinstance(news := await heard.next(), ResourceUpdatedNotification):
        pass
    return str(news.params.uri)


async def begun(endpoint: MCPEndpoint, agent: str, principal: str | None = None, **payload: object) -> Run:
    dispatcher = endpoint.served.dispatcher
    return await dispatcher.submit(Call(dispatcher.catalogue.find(agent), payload, principal=principal))


async def nothing_watched(endpoint: MCPEndpoint) -> None:
    """Until no subscription of the kernel's events is left but that of the others."""
    bus = endpoint.served.dispatcher.runtime.router.bus
    with anyio.fail_after(20):
        await until(lambda: not any(one.pattern == "*" for one in bus._subscriptions))  # pyright: ignore[reportPrivateUsage]


async def test_what_an_agent_says_is_new_reaches_who_listens_and_reads_otherwise_then() -> None:
    async with gateway(Library("library")) as (url, endpoint), Client(url, mode="2026-07-28") as client:
        with anyio.fail_after(20):
            async with client.listen(resource_subscriptions=["notes://fresh", "notes://index"]) as heard:
                before = await read(client, "notes://fresh")
                await client.call_tool("library-write", {"text": "new"})
                told = await anext(heard)
                after = await read(client, "notes://fresh")
        await nothing_watched(endpoint)
    assert told == ResourceUpdated("notes://fresh")
    assert (before[1], after[1]) == ('{"version":0}', '{"version":1}')


async def test_a_session_hears_of_what_it_subscribed_to_until_it_unsubscribes() -> None:
    heard = Heard()
    async with (
        gateway(Library("library")) as (url, endpoint),
        Client(url, mode="legacy", message_handler=heard) as client,
    ):
        assert client.server_capabilities.resources is not None
        assert client.server_capabilities.resources.subscribe
        await heard.opened(endpoint)
        await subscribe(client, "notes://fresh")
        await subscribe(client, "notes://fresh")
        await client.call_tool("library-write", {"text": "new"})
        assert await next_updated(heard) == "notes://fresh"
        await unsubscribe(client, "notes://fresh")
        await nothing_watched(endpoint)
        await subscribe(client, "notes://index")
        await client.call_tool("library-write", {"text": "newer"})
        endpoint.served.news.resource_updated("notes://index")
        assert await next_updated(heard) == "notes://index", "the other is not told any more"


async def test_a_run_tells_of_its_record_its_events_and_its_output() -> None:
    waiter = Waiter("waiter")
    async with gateway(waiter) as (url, endpoint), Client(url, mode="2026-07-28") as client:
        run = await begun(endpoint, "waiter")
        record = f"portico://runs/{run.run_id}"
        with anyio.fail_after(20):
            async with client.listen(resource_subscriptions=[record, f"{record}/output", f"{record}/events"]) as heard:
                waiter.go.set()
                told: set[str] = set()
                while f"{record}/output" not in told or record not in told or f"{record}/events" not in told:
                    event = await anext(heard)
                    assert isinstance(event, ResourceUpdated)
                    told.add(event.uri)
        assert await read(client, f"{record}/output") == ("text/plain", "served")
    assert told == {record, f"{record}/output", f"{record}/events"}


async def test_nobody_subscribes_to_what_is_not_there_or_is_somebody_elses() -> None:
    waiter = Waiter("waiter")
    async with gateway(waiter, Library("library")) as (url, endpoint):
        run = await begun(endpoint, "waiter", "alice")
        uris = [f"portico://runs/{run.run_id}", "portico://runs/none", "portico://runs", "notes://none", "portico://agents/none"]
        async with client_as("bob", url, "legacy") as client:
            for uri in uris:
                with pytest.raises(MCPError) as caught:
                    await subscribe(client, uri)
                assert (caught.value.error.code, caught.value.error.data["slug"]) == (-32002, "resource-not-found")
        async with client_as("bob", url, "2026-07-28") as client, client.listen(resource_subscriptions=uris) as heard:
            assert heard.honored.resource_subscriptions is None
        async with client_as("alice", url, "2026-07-28") as client, client.listen(resource_subscriptions=uris) as heard:
            assert heard.honored.resource_subscriptions == uris[:1]
        waiter.go.set()
        await run.wait()


@pytest.mark.parametrize("uri", ["portico://agents", "portico://agents/waiter"])
async def test_the_tree_tells_when_an_agent_takes_a_step(uri: str) -> None:
    heard = Heard()
    async with (
        gateway(Waiter("waiter"), Library("library")) as (url, endpoint),
        Client(url, mode="legacy", message_handler=heard) as client,
    ):
        await heard.opened(endpoint)
        await subscribe(client, uri)
        await endpoint.served.dispatcher.runtime.suspend("waiter", "for a test")
        assert await next_updated(heard) == uri
        assert '"suspended"' in (await read(client, "portico://agents/waiter"))[1]


async def test_what_a_session_subscribed_to_is_forgotten_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portico.mcp_bridge.serving.news.MAX_RESOURCES", 3)
    heard = Heard()
    waiter = Waiter("waiter")
    async with gateway(waiter, Library("library")) as (url, endpoint):
        run = await begun(endpoint, "waiter")
        async with Client(url, mode="legacy", message_handler=heard) as client:
            await subscribe(client, "notes://fresh")
            await subscribe(client, f"portico://runs/{run.run_id}")
            await subscribe(client, "notes://topics/tea/1")
            with pytest.raises(MCPError, match="3 resources at most"):
                await subscribe(client, "notes://index")
        await nothing_watched(endpoint)
        waiter.go.set()
        await run.wait()


async def test_over_stdio_too_clients_of_both_eras_hear_what_is_new() -> None:
    library = StdioServerParameters(command=sys.executable, args=[str(SCRIPT)], env={"PYTHONPATH": str(ROOT)})
    heard = Heard()
    with anyio.fail_after(60):
        async with Client(stdio_client(library), mode="legacy", message_handler=heard) as client:
            await subscribe(client, "notes://fresh")
            await client.call_tool("library-write", {"text": "new"})
            assert await next_updated(heard) == "notes://fresh"
            assert (await read(client, "notes://fresh"))[1] == '{"version":1}'
        async with Client(stdio_client(library), mode="2026-07-28") as client:
            async with client.listen(resource_subscriptions=["notes://fresh"]) as news:
                await client.call_tool("library-write", {"text": "new"})
                assert await anext(news) == ResourceUpdated("notes://fresh")
            assert (await read(client, "notes://fresh"))[1] == '{"version":1}'
