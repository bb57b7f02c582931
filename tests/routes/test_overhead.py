"""What a response says of the time that it took, for a client that asks."""

from __future__ import annotations

import asyncio
import re

import pytest

from portico.kernel.process import AgentProcess
from portico.operations.decorators import operation
from tests.app.serving import Served, served
from tests.routes.agents import Echo

pytestmark = pytest.mark.anyio

NAP = 0.2


class Napper(AgentProcess):
    @operation
    async def nap(self) -> str:
        await asyncio.sleep(NAP)
        return "rested"

    @operation
    async def crash_once(self, attempt: int = 0) -> str:
        await asyncio.sleep(0)
        raise RuntimeError("on purpose")


async def times(gateway: Served, path: str = "/agents/napper/nap", **headers: str) -> tuple[float, dict[str, float]]:
    """The overhead, and the parts, in milliseconds."""
    response = await gateway.client.post(path, headers={"X-Overhead-Ms": "1", **headers})
    parts = dict(re.findall(r"(\w+);dur=([\d.]+)", response.headers["server-timing"]))
    return float(response.headers["x-overhead-ms"]), {name: float(value) for name, value in parts.items()}


async def test_the_time_in_the_handler_is_not_the_gateways() -> None:
    async with served(Napper("napper")) as gateway:
        overhead, parts = await times(gateway)

    assert set(parts) == {"total", "queue", "handle"}
    assert parts["handle"] >= NAP * 1000 * 0.95
    assert overhead == pytest.approx(parts["total"] - parts["handle"], abs=0.01)
    assert parts["queue"] <= overhead


async def test_the_time_in_the_mailbox_is_the_queue() -> None:
    async with served(Napper("napper")) as gateway, asyncio.TaskGroup() as group:
        first, second = group.create_task(times(gateway)), group.create_task(times(gateway))
        await asyncio.wait({first, second})

    queues = sorted(one.result()[1]["queue"] for one in (first, second))
    assert queues[1] >= NAP * 1000 * 0.5
    assert queues[0] < queues[1]


async def test_a_stored_ask_is_measured_as_well() -> None:
    async with served(Napper("napper")) as gateway:
        overhead, parts = await times(gateway, **{"Idempotency-Key": "k"})

    assert parts["handle"] >= NAP * 1000 * 0.95
    assert 0 < overhead <= parts["total"] - NAP * 1000 * 0.95


async def test_a_crash_is_measured_with_all_its_attempts() -> None:
    async with served(Napper("napper")) as gateway:
        overhead, parts = await times(gateway, "/agents/napper/crash_once")

    assert 0 < overhead <= parts["total"]
    assert 0 < parts["handle"] < parts["total"]


async def test_a_refusal_is_all_overhead() -> None:
    async with served(Echo("echo")) as gateway:
        response = await gateway.client.post("/agents/echo", json={}, headers={"X-Overhead-Ms": "1"})

    assert response.status_code == 422
    assert float(response.headers["x-overhead-ms"]) > 0
    assert "handle;dur=0.000" in response.headers["server-timing"]


@pytest.mark.parametrize("headers", [{}, {"X-Overhead-Ms": "0"}], ids=str)
async def test_who_does_not_ask_is_not_told(headers: dict[str, str]) -> None:
    async with served(Echo("echo")) as gateway:
        response = await gateway.client.post("/agents/echo", json={"text": "a"}, headers=headers)

    assert "x-overhead-ms" not in response.headers
    assert "server-timing" not in response.headers
