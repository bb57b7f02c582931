"""What an admin does with both clients: acts on agents, lists everybody's runs, watches the gateway over lost connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import to_thread

from portico.client import AsyncClient, Client, ConnectionFailed, GatewayEvent, NotFound
from tests.app.serving import served
from tests.client.faces import facing
from tests.routes.agents import Crashing, Echo

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


async def watched(client: Client | AsyncClient, ends: Callable[[GatewayEvent], bool], **options: Any) -> list[GatewayEvent]:
    """The events up to the one at which it ends."""
    seen: list[GatewayEvent] = []
    if isinstance(client, AsyncClient):
        async for event in client.watch(**options):
            seen.append(event)
            if ends(event):
                break
        return seen

    def read() -> None:
        for event in client.watch(**options):
            seen.append(event)
            if ends(event):
                return

    await to_thread.run_sync(read)
    return seen


async def test_agents_are_suspended_resumed_drained_and_restarted(kind: str) -> None:
    async with served(Echo("echo")) as gateway, facing(kind, f"http://127.0.0.1:{gateway.port}") as face:
        assert (await face.call("suspend", "echo", "a look at it"))["reason"] == "a look at it"
        assert (await face.call("resume", "echo"))["intake"] == "open"
        assert (await face.call("restart", "echo"))["incarnation"] == 2
        assert (await face.call("drain", "echo"))["intake"] == "suspended"
        with pytest.raises(NotFound):
            await face.call("suspend", "eco")


async def test_everybodys_runs_are_listed(kind: str) -> None:
    async with served(Echo("echo")) as gateway, facing(kind, f"http://127.0.0.1:{gateway.port}") as face:
        started = await face.call("runs.start", "echo", {"text": "hello"})
        assert [run.run_id for run in await face.call("runs.list", everyone=True)] == [started.run_id]
        assert [run.run_id for run in await face.call("runs.list", id_prefix=started.run_id[:5])] == [started.run_id]
        assert await face.call("runs.list", id_prefix="no-such") == []
        assert await face.call("runs.list", principal="nobody") == []
        assert (await face.call("runs.get", started.run_id)).data["summary"] is None
        assert (await face.call("runs.get", started.run_id, wait=20, summary=True)).data["summary"]["attempts"] == 1


async def test_a_gateway_is_watched_and_what_was_missed_is_told_afterwards(kind: str) -> None:
    async with served(Crashing("crashing")) as gateway, facing(kind, f"http://127.0.0.1:{gateway.port}") as face:
        with anyio.fail_after(15):
            (first,) = await watched(face.client, lambda event: event.type == "hello", topics=["process"])
            assert (first.data["life"] in (first.id or ""), first.data["version"] != "") == (True, True)
            await gateway.client.post("/agents/crashing/once")
            seen = await watched(face.client, lambda event: event.type == "process.crashed", topics=["process"], after=first.id)
        assert seen[0].type == "hello"
        assert seen[-1].data["name"] == "crashing"


async def test_a_lost_connection_is_an_error_for_who_wants_to_know(kind: str) -> None:
    async with served(Echo("echo")) as gateway, facing(kind, f"http://127.0.0.1:{gateway.port}") as face:
        loop = asyncio.get_running_loop()

        def drains(event: GatewayEvent) -> bool:
            loop.call_soon_threadsafe(gateway.gateway.face.drain)
            return event.type == "never"

        with anyio.fail_after(15), pytest.raises(ConnectionFailed, match="ended"):
            await watched(face.client, drains, resume=False)


async def test_a_gateway_that_is_not_there_or_refuses_is_an_error(kind: str) -> None:
    async with served(Echo("echo")) as gateway, facing(kind, f"http://127.0.0.1:{gateway.port}") as face:
        gateway.gateway.face.newsroom = None
        with pytest.raises(NotFound):
            await watched(face.client, lambda _: True)
