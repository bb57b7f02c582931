"""Sessions of the old era: whose they are, how many there may be, and when they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from tests.mcp_bridge.helpers import Greeter, Slow
from tests.mcp_bridge.serving.twins import COMPARED, HEADERS, old_call, twins

if TYPE_CHECKING:
    from tests.mcp_bridge.serving.twins import Answer, Twin

pytestmark = pytest.mark.anyio

CALL = old_call("greeter", {"name": "Ada"})
OPENING = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


async def attempt(twin: Twin, **headers: str) -> Answer:
    """Try to open a session."""
    return await twin.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": OPENING}, {**HEADERS, **headers})


@pytest.mark.parametrize("way", [0, 1], ids=["direct", "by the SDK"])
async def test_a_session_is_there_for_its_owner_alone(way: int) -> None:
    async with twins(Greeter("greeter")) as both:
        twin = both[way]
        alices = await twin.session(who="alice")
        answers = [await twin.post(CALL, {**alices, "x-who": who}) for who in ("alice", "bob")]
        anonymous = await twin.post(CALL, {key: value for key, value in alices.items() if key != "x-who"})
        foreign = await twin.client.delete(twin.url, headers={**alices, "x-who": "bob"})
        unknown = await twin.post(CALL, {**alices, "mcp-session-id": "0" * 32})
        still = await twin.post(CALL, alices)
    assert [answer.status for answer in (*answers, anonymous, unknown, still)] == [200, 404, 404, 404, 200]
    assert foreign.status_code == 404
    assert answers[1].message == unknown.message


async def test_who_opens_too_many_loses_its_own_that_was_idle_for_longest() -> None:
    async with twins(Greeter("greeter"), sessions_per_caller=3) as (twin, _):
        bobs = await twin.session(who="bob")
        first, second, third = [await twin.session(who="alice") for _ in range(3)]
        assert (await twin.post(CALL, first)).status == 200  # now the second is the least recently used
        for _ in range(5):
            await twin.session(who="alice")
        statuses = [(await twin.post(CALL, session)).status for session in (first, second, third, bobs)]
    assert statuses == [404, 404, 404, 200]


async def test_a_session_in_use_gives_way_to_nobody() -> None:
    slow, refused, other = Slow("slow"), None, None
    async with twins(slow, sessions_per_caller=1) as (twin, _), anyio.create_task_group() as tasks:
        session = await twin.session(who="alice")
        tasks.start_soon(twin.post, old_call("slow-wait"), session)
        with anyio.fail_after(20):
            await slow.began.wait()
        refused = await attempt(twin, **{"x-who": "alice"})
        other = await attempt(twin, **{"x-who": "bob"})
        tasks.cancel_scope.cancel()
    assert refused is not None
    assert other is not None
    assert (refused.status, other.status) == (429, 200)
    assert refused.headers[COMPARED.index("retry-after")] == "30"
    assert "sessions" in refused.message["error"]["message"]


async def test_a_flood_of_many_callers_is_refused_and_nobody_is_thrown_out() -> None:
    async with twins(Greeter("greeter"), max_sessions=5) as (twin, _):
        first = await twin.session(who="caller-0")
        answers = [await attempt(twin, **{"x-who": f"caller-{number}"}) for number in range(1, 10)]
        still = await twin.post(CALL, first)
    assert [answer.status for answer in answers] == [200] * 4 + [503] * 5
    assert still.status == 200


async def test_what_opens_nothing_takes_no_room() -> None:
    async with twins(Greeter("greeter"), sessions_per_caller=1) as (twin, _):
        session = await twin.session()
        refused = [await twin.post(body, HEADERS) for body in (CALL, b"{", {"jsonrpc": "2.0", "id": 1, "method": "ping"})]
        refused.append(await attempt(twin, accept="text/plain"))
        again = await twin.session()
        last = await twin.post(CALL, again)
    assert [answer.status for answer in refused] == [400, 400, 400, 406]
    assert last.status == 200
    assert session != again


async def test_a_session_that_nobody_uses_ends_and_one_in_use_does_not() -> None:
    async with twins(Greeter("greeter"), session_idle_timeout=0.5) as (twin, _):
        idle, used = await twin.session(), await twin.session()
        until = anyio.current_time() + 2.5
        while anyio.current_time() < until:
            assert (await twin.post(CALL, used)).status == 200
            await anyio.sleep(0.05)
        assert (await twin.post(CALL, idle)).status == 404
