"""A client that floods an agent with calls that crash it, beside one that asks what it should: through a real socket.

The two come from different addresses of this machine, since the gateway here knows no principals.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest

from portico import AgentProcess, Message, pool
from portico.kernel.events import EventKind
from portico.testing import collect_events
from tests.app.serving import served

pytestmark = pytest.mark.anyio

GOOD, BAD = 200, 60


class Parser(AgentProcess):
    """Crashes on what it cannot parse."""

    async def handle(self, message: Message) -> Any:
        await asyncio.sleep(0)
        return {"parsed": int(message.payload["number"])}


async def statuses(base: str, address: str, agent: str, numbers: list[str]) -> Counter[int]:
    """The statuses of these calls, eight at a time, from that address."""
    counted: Counter[int] = Counter()
    transport = httpx.AsyncHTTPTransport(local_address=address)
    async with httpx.AsyncClient(base_url=base, transport=transport, timeout=20, trust_env=False) as client:
        queue = list(numbers)

        async def caller() -> None:
            while queue:
                response = await client.post(f"/agents/{agent}", json={"number": queue.pop()})
                counted[response.status_code] += 1
                if response.status_code == 429:
                    assert float(response.headers["retry-after"]) >= 1

        async with asyncio.TaskGroup() as callers:
            for _ in range(8):
                callers.create_task(caller())
    return counted


@pytest.mark.parametrize("agent", ["parser", "crew"])
async def test_every_good_call_is_answered_the_window_is_untouched_and_the_flooder_gets_429(agent: str) -> None:
    async with served(Parser("parser"), pool(Parser, "crew", size=2, backoff_base=0.001)) as gateway:
        base = f"http://127.0.0.1:{gateway.port}"
        with collect_events(gateway.runtime, "supervisor.report") as reports:
            async with asyncio.TaskGroup() as clients:
                good = clients.create_task(statuses(base, "127.0.0.1", agent, [str(number) for number in range(GOOD)]))
                bad = clients.create_task(statuses(base, "127.0.0.2", agent, ["not a number"] * BAD))
        assert good.result() == {200: GOOD}
        refused = bad.result()
        assert refused[502] + refused[429] == BAD
        assert 10 <= refused[502] < 20  # those under way when the tenth had crashed are still handled
        assert gateway.runtime.alive
        assert not any(event.data["report"].context == "shutdown" for event in reports)
        supervision = gateway.runtime.router.supervisions["root" if agent == "parser" else "crew"]
        assert supervision.restarts_in_window == 0
        again = await gateway.client.post(f"/agents/{agent}", json={"number": "7"})
        assert again.json() == {"parsed": 7}
        assert EventKind.SUPERVISOR_REPORT in {event.kind for event in reports}  # the crashes were told
