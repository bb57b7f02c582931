"""A client that goes away: what becomes of its ask."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from portico.agents.model_agent import ModelAgent
from portico.app.factory import create_app
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.llm.scripted import ScriptedModel
from portico.mcp_bridge.calling.wiring import build_upstreams
from tests.app.serving import head, listening, served
from tests.mcp_bridge.helpers import tool_server, until
from tests.routes.agents import Chain, Slow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from portico.runs.call import Call
    from tests.app.serving import Served

pytestmark = pytest.mark.anyio

MOMENT = 2
"""Seconds for what takes at most 100 ms where nobody else uses the machine: `benchmarks/disconnects.py` has the figures."""


class Hanging(ScriptedModel):
    """A model that does not answer."""

    def __init__(self) -> None:
        super().__init__([])
        self.began, self.cancelled = asyncio.Event(), asyncio.Event()

    async def chat(self, *_: Any, **__: Any) -> Any:
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def closed(client: socket.socket) -> None:
    """As a program does that ends: FIN."""
    client.close()


def half_closed(client: socket.socket) -> None:
    """It will send nothing more, and might still read. HTTP has no word for that: it counts as leaving."""
    client.shutdown(socket.SHUT_WR)


def reset(client: socket.socket) -> None:
    """As a machine does that has lost the connection: RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def asking(gateway: Served, path: str, *lines: str, body: bytes = b"") -> socket.socket:
    """A connection on which an ask is in flight."""
    client = socket.create_connection(("127.0.0.1", gateway.port))
    about = (f"Content-Length: {len(body)}", "Content-Type: application/json", *lines)
    client.sendall(head("POST", path, *about) + body)
    return client


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
        with anyio.fail_after(MOMENT):
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


@pytest.mark.parametrize("leave", [closed, half_closed, reset])
@pytest.mark.parametrize("age", ["new", "watched"])
async def test_however_and_whenever_the_client_leaves_its_ask_is_cancelled(
    leave: Callable[[socket.socket], None], age: str
) -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        with asking(gateway, "/agents/slow/wait") as client:
            await slow.began.wait()
            if age == "watched":
                await asyncio.sleep(0.15)
            leave(client)
            with anyio.fail_after(MOMENT):
                await slow.cancelled.wait()
        run = (await gateway.client.get("/runs")).json()["runs"][0]

    assert run["status"] == "cancelled"


async def test_an_ask_that_waits_in_the_mailbox_is_never_handled_when_its_client_left() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:

        async def statuses() -> list[str]:
            return [run["status"] for run in (await gateway.client.get("/runs")).json()["runs"]]

        with asking(gateway, "/agents/slow/wait"):
            await slow.began.wait()
            with asking(gateway, "/agents/slow/wait"):
                while len(await statuses()) < 2:
                    pass
            with anyio.fail_after(MOMENT):
                while await statuses() != ["cancelled", "running"]:
                    pass
            slow.go_on.set()
            while await statuses() != ["cancelled", "succeeded"]:
                pass

    assert slow.count == 1


@pytest.mark.parametrize("lines", [(), ("Accept: text/event-stream",), ("Idempotency-Key: a-key",)])
async def test_where_the_route_says_cancel_streams_and_keyed_asks_are_cancelled_too(lines: tuple[str, ...]) -> None:
    slow = Slow("slow", expose=True)
    async with served(slow) as gateway:
        with asking(gateway, "/impatient", *lines):
            await slow.began.wait()
        with anyio.fail_after(MOMENT):
            await slow.cancelled.wait()


async def test_what_the_handler_asked_another_agent_is_cancelled_with_it() -> None:
    slow, chain = Slow("slow", expose=False), Chain("chain", expose=True)
    async with served(slow, chain) as gateway:
        with asking(gateway, "/agents/chain/nested"):
            await slow.began.wait()
        with anyio.fail_after(MOMENT):
            await chain.cancelled.wait()
            await slow.cancelled.wait()


async def test_a_model_call_in_progress_is_cancelled_with_its_ask() -> None:
    model = Hanging()
    async with served(ModelAgent("helper", provider=model)) as gateway:
        with asking(gateway, "/agents/helper", body=b'{"message": "Hello"}'):
            await model.began.wait()
        with anyio.fail_after(MOMENT):
            await model.cancelled.wait()


async def test_a_tool_call_at_an_external_server_is_cancelled_with_its_ask(tmp_path: Path) -> None:
    notes, chain = tmp_path / "notes", Chain("chain", expose=True)
    supervisor, tools = build_upstreams([tool_server("tests", "--notes", str(notes))])
    runtime = Runtime(Supervisor("root", children=[supervisor, chain]), tool_registry=tools)
    async with asyncio.timeout(30), listening(create_app(runtime)) as gateway:
        with asking(gateway, "/agents/chain/tool", body=b'{"name": "mcp://tests/wait_cancelled"}'):
            await until(lambda: notes.exists() and "began" in notes.read_text())
        with anyio.fail_after(MOMENT):
            await chain.cancelled.wait()
        await until(lambda: "cancelled" in notes.read_text())


async def test_an_interceptor_that_waits_is_cancelled_when_the_client_leaves() -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def waiting(call: Call, following: Any) -> Any:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return await following(call)

    async with served(Slow("slow", expose=True), interceptors=[waiting]) as gateway:
        with asking(gateway, "/agents/slow/wait"):
            await began.wait()
        with anyio.fail_after(MOMENT):
            await cancelled.wait()
