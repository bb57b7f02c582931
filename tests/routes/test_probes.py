"""Probes: derived from the tree, and open to everybody."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.app.factory import create_app
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from tests.app.serving import ANY_PORT, is_problem, listening, served
from tests.routes.agents import Crashing, Echo, Slow

if TYPE_CHECKING:
    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio

PROBES = ["/livez", "/readyz", "/startupz", "/healthz"]


@pytest.mark.parametrize("path", PROBES)
async def test_a_sound_gateway_passes_every_probe(path: str) -> None:
    async with served(Echo("echo")) as gateway:
        response = await gateway.client.get(path)
        asked_by_head = await gateway.client.head(path)

    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert (asked_by_head.status_code, asked_by_head.content) == (200, b"")


async def test_verbose_lists_every_process_and_what_it_lacks() -> None:
    async with served(Echo("echo"), Crashing("crashing", restart="temporary")) as gateway:
        before = (await gateway.client.get("/readyz?verbose")).json()
        await gateway.client.post("/agents/crashing/once")
        response = await gateway.client.get("/readyz?verbose")

    assert before["processes"] == {"echo": {"status": "running", "ready": True}, "crashing": {"status": "running", "ready": True}}
    assert response.status_code == 503
    assert response.json()["processes"]["crashing"] == {"status": "failed", "ready": False}
    assert response.json()["processes"]["echo"]["ready"] is True


class Upstream(AgentProcess):
    """Stands for a connection that is down."""

    def __init__(self, name: str, *, required: bool) -> None:
        super().__init__(name)
        self.required = required

    def readiness(self) -> dict[str, Any]:
        return {"ready": False, "required": self.required, "error": "refused"}


@pytest.mark.parametrize(("required", "status"), [(True, 503), (False, 200)])
async def test_a_dead_upstream_makes_the_whole_unready_only_where_it_is_required(*, required: bool, status: int) -> None:
    async with served(Upstream("library", required=required)) as gateway:
        response = await gateway.client.get("/readyz?verbose")

    assert response.status_code == status
    assert response.json()["processes"]["library"]["error"] == "refused"


async def test_a_tree_that_gave_up_is_neither_alive_nor_ready() -> None:
    class Doomed(AgentProcess):
        async def on_start(self) -> None:
            self.start_task(self.fall(), "fall")

        async def fall(self) -> None:
            raise RuntimeError("no ground")

        async def handle(self, message: Message) -> str:
            return "never"

    async with served(Doomed("doomed")) as gateway:
        with anyio.fail_after(5):
            await gateway.runtime.wait()
        live = await gateway.client.get("/livez")
        ready = await gateway.client.get("/readyz")
        asked = await gateway.client.post("/agents/doomed")

    assert live.status_code == ready.status_code == 503
    assert "RuntimeError" in live.json()["reason"]
    assert "no ground" not in live.text  # that may quote what somebody has sent, and everybody may look here
    is_problem(asked, 503, "agent-failed")


async def test_a_draining_gateway_is_not_ready_and_takes_no_new_calls_but_lives() -> None:
    slow = Slow("slow", expose=True)
    answers: list[Any] = []
    async with served(slow) as gateway:

        async def ask() -> None:
            answers.append((await gateway.client.post("/agents/slow/wait")).json())

        async with asyncio.TaskGroup() as group:
            group.create_task(ask())
            await slow.began.wait()
            gateway.gateway.face.drain()
            ready = await gateway.client.get("/readyz?verbose")
            live = await gateway.client.get("/livez")
            refused = [
                await gateway.client.post(path, json={}) for path in ("/agents/slow/wait", "/agents/slow/wait/cast", "/patient")
            ]
            slow.go_on.set()

    assert (ready.status_code, ready.json()["draining"]) == (503, True)
    assert live.status_code == 200
    for response in refused:
        is_problem(response, 503, "draining")
        assert response.headers["retry-after"] == "1"
    assert answers == ["done"]  # what was in flight is answered


async def test_an_application_whose_lifespan_nobody_runs_says_that_it_is_not_started() -> None:
    app = create_app(Runtime(Supervisor("root", children=[Echo("echo")])), ANY_PORT)
    async with listening(app, lifespan=nullcontext()) as gateway:
        statuses = [(await gateway.client.get(path)).status_code for path in PROBES]
        asked = [await gateway.client.post(path, json={"text": "a"}) for path in ("/agents/echo", "/agents/echo/cast")]

    assert statuses == [503] * 4
    for response in asked:
        is_problem(response, 503, "runtime-not-started")
