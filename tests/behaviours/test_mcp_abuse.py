"""What no honest client would send to the MCP endpoint: it answers a clean 4xx, never hangs, tells nothing, and serves others on.

The requests are data (`tests/mcp_bridge/serving/abuse.py`); `ATTACKS` says which test stands against which known attack.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from portico.auth.api_key import new_key
from portico.auth.key_file import KeyFile
from portico.auth.principal import Principal
from tests.app.serving import Served, raw, served
from tests.behaviours.test_raw_sockets import DEMO, connection, everything, resident, statuses
from tests.cli.programs import environment
from tests.mcp_bridge.serving.abuse import ABUSE, GOOD_LEGACY, GOOD_MODERN, LIMIT, Abuse, At, call, modern, opening, post
from tests.routes.agents import Echo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
PATIENCE = 0.3
"""Seconds that the server of these tests waits for the rest of a request."""
LEAKS = re.compile(rb"Traceback|pydantic|validation error|site-packages|\.py\b|uvicorn|starlette|input_value", re.IGNORECASE)
"""What no answer may have in it."""


HERE, SERVING, CALLING = "tests/behaviours/test_mcp_abuse.py", "tests/mcp_bridge/serving", "tests/mcp_bridge/calling"
CORPUS = (HERE, "test_abuse_is_refused_and_tells_nothing")
ATTACKS: dict[int, tuple[str, list[tuple[str, str]]]] = {
    1: (
        "DNS rebinding: foreign Host, foreign Origin",
        [CORPUS, (f"{SERVING}/test_access.py", "test_it_accepts_the_hosts_that_it")],
    ),
    2: ("hosts that begin like allowed ones", [CORPUS]),
    3: ("somebody else's session", [CORPUS, (f"{SERVING}/test_access.py", "test_a_session_is_for_who_opened_it")]),
    4: ("a flood of sessions", [(HERE, "test_a_flood_of_initialize_takes_sessions_from_who_floods_alone")]),
    5: ("bodies that are too large, or become so", [CORPUS]),
    6: ("bodies that do not come", [(HERE, "test_a_body_that_stops_is_not_waited_for")]),
    7: ("what is no message", [CORPUS, (f"{SERVING}/test_sse.py", "test_messages_that_are_none")]),
    8: ("headers that say something else than the body", [CORPUS]),
    9: (
        "tokens for others, and tokens that are passed on",
        [
            (f"{SERVING}/test_access.py", "test_a_token_for_somebody_else_or_of_yesterday_is_refused"),
            (f"{SERVING}/test_access.py", "test_a_token_that_allows_too_little_is_told_what_it_needs"),
            (f"{SERVING}/test_access.py", "test_no_credential_of_a_caller_is_passed_on_to_an_external_server"),
        ],
    ),
    10: (
        "a request state that was tampered with",
        [(f"{SERVING}/test_rounds.py", "test_a_state_that_was_tampered_with_is_refused")],
    ),
    11: (
        "discovery that leads to internal addresses",
        [(f"{CALLING}/test_authorization.py", "test_discovery_of_a_remote_server_leads_to_nothing_internal")],
    ),
    12: ("redirects that take credentials along", [(f"{CALLING}/test_authorization.py", "test_credentials_go_to_no_other_issuer")]),
    13: ("a stream whose messages go elsewhere", [(f"{CALLING}/test_connecting.py", "test_what_is_no_server_is_given_up_in_time")]),
    14: ("schemas that lead elsewhere", [(f"{CALLING}/test_trust.py", "test_schema_that_leads_elsewhere_is_never_fetched")]),
    15: ("answers without end", [(f"{CALLING}/test_trust.py", "test_answer_that_is_too_large_over_http_is_refused")]),
    16: (
        "tools that take another's name, or change",
        [
            (f"{CALLING}/test_trust.py", "test_two_different_tools_of_one_name_are_both_refused"),
            (f"{CALLING}/test_trust.py", "test_changed_and_new_tools_of_a_pinned_server_are_refused"),
        ],
    ),
    17: ("what a started server can see and run", [(f"{CALLING}/test_sandbox.py", "test_server_inherits_the_allow_list")]),
    18: ("errors that tell too much", [CORPUS, (f"{SERVING}/test_server.py", "test_errors_of_the_agent_are_tool_errors")]),
    19: ("requests that a page can send without asking", [CORPUS]),
}
"""The known attacks on servers and clients of MCP, each with the tests that stand against it (file, how the name begins)."""


@pytest.mark.parametrize("number", ATTACKS)
def test_every_known_attack_has_its_tests(number: int) -> None:
    _, tests = ATTACKS[number]
    for file, name in tests:
        assert f"def {name}" in (ROOT / file).read_text(encoding="utf-8"), (file, name)
    if CORPUS in tests and number != 18:
        assert any(case.attack == number for case in ABUSE)


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


# --- all of it, at a real process -------------------------------------------------------------------------------------


def test_a_server_that_was_abused_for_long_has_its_memory_and_serves_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "portico", "serve", str(DEMO), "--port", "0", "--log-level", "error"]
    env = environment({"PORTICO_READ_TIMEOUT": "0.5", "PORTICO_BODY_LIMIT": str(LIMIT), "PORTICO_MCP_SESSIONS_PER_CALLER": "20"})
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r":(\d+)", server.stdout.readline().split("serves", 1)[1])
            assert found is not None
            port, at = int(found[1]), At(f"127.0.0.1:{found[1]}")
            abuse = [case.request(at) for case in ABUSE]
            abuse += [opening(at), GOOD_MODERN(at), GOOD_MODERN(at)[:-3], opening(at)[:-3]]

            def once() -> None:
                for request in abuse:
                    if len(request) < 200_000:
                        with socket.create_connection(("127.0.0.1", port), 10) as one, suppress(OSError):
                            one.sendall(request)

            for _ in range(4):
                once()
            first = resident(server.pid)
            for _ in range(8):
                once()
            status, body = asyncio.run(whole(port, GOOD_MODERN(at)))
            assert status == 200
            assert b"hello" in body
            assert resident(server.pid) < first + 16 * 1024, "KiB"
        finally:
            server.kill()
        assert server.stderr is not None
        assert "Traceback" not in server.stderr.read()
