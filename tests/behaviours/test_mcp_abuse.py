"""What no honest client would send to the MCP endpoint: it answers a clean 4xx, never hangs, tells nothing, and serves others on.

The requests are data (`tests/mcp_bridge/serving/abuse.py`); `ATTACKS` says which test stands against which known attack.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from portico.auth.api_key import new_key
from portico.auth.key_file import KeyFile
from portico.auth.principal import Principal
from tests.app.serving import Served, raw, served
from tests.behaviours.test_raw_sockets import connection, everything, statuses
from tests.mcp_bridge.serving.abuse import ABUSE, GOOD_LEGACY, GOOD_MODERN, LIMIT, Abuse, At, call, modern, opening, post
from tests.routes.agents import Echo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

PATIENCE = 0.3
"""Seconds that the server of these tests waits for the rest of a request."""
LEAKS = re.compile(rb"Traceback|pydantic|validation error|site-packages|\.py\b|uvicorn|starlette|input_value", re.IGNORECASE)
"""What no answer may have in it."""


@pytest.fixture(scope="module")
async def gateway(anyio_backend: object) -> AsyncGenerator[Served]:
    async with served(Echo("echo"), patience=None, read_timeout=PATIENCE, body_limit=LIMIT) as one:
        yield one


@pytest.fixture(scope="module")
async def at(gateway: Served) -> At:
    """The endpoint, with a session that is open."""
    return await opened(gateway)


async def opened(gateway: Served, *lines: str) -> At:
    at = At(f"127.0.0.1:{gateway.port}", lines=lines)
    answer = await raw(gateway.port, opening(at))
    assert answer.status == 200
    return replace(at, session=answer.headers["mcp-session-id"])


async def whole(port: int, request: bytes) -> tuple[int, bytes]:
    """The status and the body of the one answer, whatever its framing. 413 where it was lost with what it refused."""
    answer = b""
    async with asyncio.timeout(30), connection(port) as (reader, writer):
        writer.write(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        try:
            await writer.drain()
            while piece := await reader.read(65536):
                answer += piece
        except ConnectionError:
            assert len(request) > LIMIT
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]), body) if head else (413, b"")


async def still_serves(gateway: Served, at: At) -> None:
    """Others are answered as ever, in both eras, and nothing is left in flight."""
    for request in (GOOD_MODERN(at), GOOD_LEGACY(at)):
        status, body = await whole(gateway.port, request)
        assert status == 200
        assert b'\\"hello\\"' in body
    while gateway.gateway.dispatcher.in_flight:  # noqa: ASYNC110  # no event tells
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("case", ABUSE, ids=[case.name for case in ABUSE])
async def test_abuse_is_refused_and_tells_nothing(gateway: Served, at: At, case: Abuse) -> None:
    status, body = await whole(gateway.port, case.request(at))
    assert case.allows(status, body) or (status, body) == (413, b""), (status, body[:500])
    assert not LEAKS.search(body), body[:500]
    if status not in (200, 202) and body:
        document: Any = json.loads(body)
        assert ("error" in document and document["jsonrpc"] == "2.0") or document["status"] == status


async def test_all_of_it_is_answered_as_without_the_direct_path(gateway: Served, at: At) -> None:
    different: list[Any] = []
    good = [Abuse("good", GOOD_MODERN, frozenset({200})), Abuse("good, old era", GOOD_LEGACY, frozenset({200}))]
    async with served(Echo("echo"), patience=None, read_timeout=PATIENCE, body_limit=LIMIT, mcp_direct=False) as plain:
        at_plain = await opened(plain)
        for case in (*ABUSE, *good):
            told, told_plainly = [
                (status, said(body.replace(b"%d" % one.port, b"PORT")))
                for one, where in ((gateway, at), (plain, at_plain))
                for status, body in (await whole(one.port, case.request(where)),)
            ]
            if told != told_plainly:
                different.append((case.name, told, told_plainly))
    assert different == []


def said(body: bytes) -> Any:
    """What a body says, apart from what differs from request to request."""
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\r\n") if line.startswith(b"data: ")]
    try:
        document: Any = json.loads(lines[-1] if lines else body)
    except ValueError:
        return body
    document.pop("request_id", None)
    about = document.get("result", {}).get("_meta", {})
    about.pop("portico/run_id", None)
    about.get("portico/error", {}).pop("run_id", None)
    return document


async def test_after_all_of_it_others_are_served_in_the_session_that_was_there(gateway: Served, at: At) -> None:
    for case in ABUSE:
        await whole(gateway.port, case.request(at))
    await still_serves(gateway, at)


# --- slow, half, pipelined --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("good", [GOOD_MODERN, GOOD_LEGACY], ids=["new era", "old era"])
async def test_a_body_that_stops_is_not_waited_for(gateway: Served, at: At, good: Any) -> None:
    answer = await everything(gateway.port, good(at)[:-5])
    assert statuses(answer) == [408]
    await still_serves(gateway, at)


@pytest.mark.parametrize("cut", [0, 1, 30, -5])
@pytest.mark.parametrize("good", [GOOD_MODERN, GOOD_LEGACY], ids=["new era", "old era"])
async def test_a_client_that_closes_in_the_middle_leaves_nothing_behind(gateway: Served, at: At, good: Any, cut: int) -> None:
    answer = await everything(gateway.port, good(at)[:cut], half_close=True)
    assert statuses(answer) in ([], [400], [408])
    await still_serves(gateway, at)


async def test_pipelined_calls_are_answered_in_their_order(gateway: Served, at: At) -> None:
    calls = b"".join(modern(call({"text": f"number {number}"}, id_=number))(at) for number in range(50))
    async with asyncio.timeout(30), connection(gateway.port) as (reader, writer):
        writer.write(calls)
        answers = b""
        while answers.count(b'"jsonrpc"') < 50:
            answers += await reader.read(65536)
    assert re.findall(rb'"id":(\d+)', answers) == [str(number).encode() for number in range(50)]


async def test_rubbish_between_pipelined_calls_ends_the_connection_and_nothing_else(gateway: Served, at: At) -> None:
    answer = await everything(gateway.port, GOOD_MODERN(at) + b"\x00 rubbish\r\n\r\n" + GOOD_MODERN(at))
    assert statuses(answer) in ([], [200], [200, 400], [400])
    await still_serves(gateway, at)


async def test_a_bad_body_between_good_ones_on_one_connection_is_refused_alone(gateway: Served, at: At) -> None:
    requests = GOOD_MODERN(at) + modern(b"{")(at) + GOOD_MODERN(at).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    assert statuses(await everything(gateway.port, requests)) == [200, 400, 200]


# --- floods -----------------------------------------------------------------------------------------------------------


async def test_a_flood_of_initialize_takes_sessions_from_who_floods_alone(tmp_path: Path) -> None:
    keys: dict[str, str] = {}
    file = tmp_path / "keys.json"
    with KeyFile(file).editing() as records:
        for name in ("alice", "bob"):
            keys[name], record = new_key(Principal(name, frozenset()), None)
            records.append(record)
    async with served(Echo("echo"), patience=None, keys_file=str(file), mcp_sessions_per_caller=5) as gateway:
        at = await opened(gateway, f"Authorization: Bearer {keys['alice']}")
        bob = At(at.host, lines=(f"Authorization: Bearer {keys['bob']}",))
        ids: list[str] = []
        for _ in range(20):
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                flood = [group.create_task(raw(gateway.port, opening(bob))) for _ in range(20)]
            assert {task.result().status for task in flood} <= {200, 429}
            ids += [task.result().headers["mcp-session-id"] for task in flood if task.result().status == 200]
        answers = [await whole(gateway.port, GOOD_LEGACY(replace(bob, session=session))) for session in ids[-30:]]
        assert [status for status, _ in answers].count(200) == 5
        await still_serves(gateway, at)


async def test_a_flood_of_bad_initializes_opens_no_session(gateway: Served, at: At) -> None:
    bad = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": 7}}
    for _ in range(50):
        status, body = await whole(gateway.port, post(At(at.host), bad))
        assert status in (200, 400)
        assert b'"error"' in body
    await still_serves(gateway, at)
