"""A client that goes away: what becomes of its ask."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from tests.app.serving import head, served
from tests.routes.agents import Slow

if TYPE_CHECKING:
    from tests.app.serving import Served

pytestmark = pytest.mark.anyio


async def ask_and_leave(gateway: Served, slow: Slow, path: str) -> None:
    """Ask, and close the connection once the handler has begun."""
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head("POST", path, "Content-Length: 0"))
    await slow.began.wait()
    writer.close()
    await writer.wait_closed()


async def test_an_ask_is_cancelled_within_a_moment_when_its_client_leaves() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        await ask_and_leave(gateway, slow, "/agents/slow/wait")
        with anyio.fail_after(0.3):  # 0.15 s, and a noisy machine
            await slow.cancelled.wait()
        runs = (await gateway.client.get("/runs")).json()["runs"]
        slow.go_on.set()
        assert (await gateway.client.post("/agents/slow/wait")).json() == "done"

    assert [run["status"] for run in runs] == ["cancelled"]
    assert "went away" in runs[0]["error"]["detail"]


async def test_where_the_route_says_continue_the_run_goes_on_without_its_client() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        await ask_and_leave(gateway, slow, "/patient")
        slow.go_on.set()
        run = (await gateway.client.get("/runs")).json()["runs"][0]
        run = (await gateway.client.get(f"/runs/{run['run_id']}", params={"wait": 5})).json()

    assert (run["status"], run["output"]) == ("succeeded", "done")
    assert not slow.cancelled.is_set()


async def test_many_that_leave_at_once_leave_nothing_behind() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:

        async def leave() -> None:
            with pytest.raises(httpx.ReadTimeout):  # only the reply may be late: on a busy machine, connecting may be as well
                await gateway.client.post("/agents/slow/wait", timeout=httpx.Timeout(15, read=1.0))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(leave)
        for run in (await gateway.client.get("/runs")).json()["runs"]:
            assert (await gateway.client.get(f"/runs/{run['run_id']}", params={"wait": 5})).json()["status"] == "cancelled"
        slow.go_on.set()
        assert (await gateway.client.post("/agents/slow/wait")).json() == "done"
        runs = (await gateway.client.get("/runs")).json()["runs"]

    assert len(runs) == 21


async def test_an_ask_that_is_answered_late_is_answered_on_the_same_connection() -> None:
    slow = Slow("slow", expose=True)
    answers: list[str] = []
    async with served(slow) as gateway:

        async def ask() -> None:
            answers.extend([(await gateway.client.post("/agents/slow/wait")).json(), (await gateway.client.get("/livez")).text])

        async with asyncio.TaskGroup() as group:
            group.create_task(ask())
            await slow.began.wait()
            await asyncio.sleep(0.15)  # until its client is watched
            slow.go_on.set()

    assert answers == ["done", '{"status":"ok"}']
