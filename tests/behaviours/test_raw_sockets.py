"""What no client library would send, on raw sockets: the server answers a 4xx or closes, never hangs, and serves others meanwhile.

In one loop with the server where a moment has to be met, and against a real process for what would show in its memory.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from portico.app.protocol import MAX_HEAD, PIECE
from tests.app.serving import Served, head, is_problem, raw, served
from tests.cli.programs import environment
from tests.routes.agents import Echo, Mirror

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "topology.yaml"
BODY = b'{"text": "hello"}'
WHOLE = head("POST", "/agents/echo", "Content-Type: application/json", f"Content-Length: {len(BODY)}") + BODY
PATIENCE = 0.3
"""Seconds that the servers of these tests wait for the rest of a request."""


@pytest.fixture(scope="module")
async def gateway(anyio_backend: object) -> AsyncGenerator[Served]:
    async with served(Echo("echo"), Mirror("mirror"), patience=None, read_timeout=PATIENCE) as one:
        yield one


@asynccontextmanager
async def connection(port: int) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def everything(port: int, *pieces: bytes, half_close: bool = False) -> bytes:
    """Send these pieces one after the other, and read until the server closes."""
    async with asyncio.timeout(20), connection(port) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if half_close:
            writer.write_eof()
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def problem_in(answer: bytes) -> dict[str, Any]:
    about, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in about.lower()
    return json.loads(body)


async def still_serves(gateway: Served) -> None:
    """Another client is answered as ever, and nothing is left in flight."""
    assert (
        await gateway.client.post("/agents/echo", content=BODY, headers={"content-type": "application/json"})
    ).status_code == 200
    while gateway.gateway.dispatcher.in_flight:  # noqa: ASYNC110  # no event tells
        await asyncio.sleep(0.01)


# --- slow -------------------------------------------------------------------------------------------------------------


async def test_a_client_that_says_nothing_is_left(gateway: Served) -> None:
    assert await everything(gateway.port) == b""


@pytest.mark.parametrize(
    "part", [b"P", b"POST /agents/echo HTTP/1.1\r\nHost: localhost\r\nX-Slow: "], ids=["a letter", "half a head"]
)
async def test_a_head_that_does_not_come_is_not_waited_for(gateway: Served, part: bytes) -> None:
    answer = await everything(gateway.port, part)
    assert statuses(answer) == [408]
    assert problem_in(answer)["type"] == "/problems/request-timeout"
    await still_serves(gateway)


async def test_a_head_that_comes_byte_by_byte_has_no_more_time_than_another(gateway: Served) -> None:
    async with asyncio.timeout(20), connection(gateway.port) as (reader, writer):
        begun = asyncio.get_running_loop().time()

        async def drip() -> None:
            for byte in WHOLE:
                writer.write(bytes([byte]))
                await asyncio.sleep(PATIENCE / 20)

        async with asyncio.TaskGroup() as group:
            dripping = group.create_task(drip())
            answer = await reader.read()
            dripping.cancel()
        assert statuses(answer) == [408]
        assert asyncio.get_running_loop().time() - begun < PATIENCE / 20 * len(WHOLE)


async def test_a_body_that_stops_is_not_waited_for_and_nothing_is_handled(gateway: Served) -> None:
    before = gateway.gateway.dispatcher.book.plain
    known = len(before)
    answer = await everything(gateway.port, WHOLE[:-5])
    assert statuses(answer) == [408]
    assert len(before) == known
    await still_serves(gateway)


async def test_a_body_that_comes_slowly_but_fast_enough_is_taken() -> None:
    async with served(Mirror("mirror"), read_timeout=0.2) as gateway, connection(gateway.port) as (reader, writer):
        text = json.dumps({"text": "x" * 4000}).encode()
        writer.write(head("POST", "/agents/mirror", "Content-Type: application/json", f"Content-Length: {len(text)}"))
        for at in range(0, len(text), 400):
            writer.write(text[at : at + 400])
            await asyncio.sleep(0.05)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")


async def test_a_slow_client_does_not_hold_up_the_others(gateway: Served) -> None:
    async with asyncio.TaskGroup() as group:
        slow = [group.create_task(everything(gateway.port, WHOLE[:30])) for _ in range(200)]
        await still_serves(gateway)
    assert {tuple(statuses(task.result())) for task in slow} <= {(408,), ()}  # nothing where it did not even come to say anything


# --- half closed, reset, pipelined ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 1, 20, len(WHOLE) - len(BODY) - 2, len(WHOLE) - len(BODY), len(WHOLE) - 1])
async def test_a_client_that_closes_in_the_middle_leaves_nothing_behind(gateway: Served, cut: int) -> None:
    answer = await everything(gateway.port, WHOLE[:cut], half_close=True)
    assert statuses(answer) in ([], [400], [408])
    await still_serves(gateway)


async def test_a_connection_that_is_reset_in_the_middle_leaves_nothing_behind(gateway: Served) -> None:
    for cut in (10, len(WHOLE) - 3, len(WHOLE)):
        with socket.create_connection(("127.0.0.1", gateway.port)) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            one.sendall(WHOLE[:cut])
    await still_serves(gateway)


async def test_pipelined_requests_are_answered_in_their_order(gateway: Served) -> None:
    def ask(text: str) -> bytes:
        body = json.dumps({"text": text}).encode()
        lines = ("Content-Type: application/json", f"Content-Length: {len(body)}")
        return head("POST", "/agents/echo", *lines) + body

    async with asyncio.timeout(20), connection(gateway.port) as (reader, writer):
        writer.write(b"".join(ask(str(number)) for number in range(50)))
        answers = b""
        while answers.count(b'"echo"') < 50:
            answers += await reader.read(65536)
        assert re.findall(rb'\{"echo":"(\d+)"\}', answers) == [str(number).encode() for number in range(50)]


async def test_rubbish_after_a_request_does_not_spoil_its_answer_s_form(gateway: Served) -> None:
    answer = await everything(gateway.port, WHOLE + b"\x00\x01\x02 rubbish\r\n\r\n")
    assert statuses(answer) in ([], [200], [200, 400], [400])
    await still_serves(gateway)


# --- heads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        [f"X-Long: {'x' * (MAX_HEAD + PIECE)}"],
        [f"X-{number}: {'y' * 100}" for number in range(1000)],
        [f"Cookie: {'z' * (MAX_HEAD * 8)}"],
    ],
    ids=["one header", "many headers", "half a megabyte"],
)
async def test_a_head_that_is_too_long_is_refused_before_it_is_read_whole(gateway: Served, lines: list[str]) -> None:
    answer = await everything(gateway.port, head("GET", "/livez", *lines))
    assert statuses(answer) in ([], [431])  # empty: the refusal was lost with what it refused
    if answer:
        assert problem_in(answer)["type"] == "/problems/head-too-large"
    await still_serves(gateway)


async def test_a_path_that_is_too_long_is_refused(gateway: Served) -> None:
    assert statuses(await everything(gateway.port, head("GET", "/" + "a" * (MAX_HEAD + PIECE)))) in ([], [431])
    answer = await raw(gateway.port, head("GET", "/agents/" + "a" * 20_000))
    is_problem(answer, 404, "agent-not-found")


NO_HTTP = {
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a null byte in the path": b"GET /agents/e\x00cho HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a null byte in a header": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: a\x00b\r\n\r\n",
    "a control character in a header's name": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX\x01A: b\r\n\r\n",
    "a blank before the colon": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A : b\r\n\r\n",
    "two lengths": b"POST /agents/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 17\r\nContent-Length: 5\r\n\r\n" + BODY,
    "a length and chunks": (
        b"POST /agents/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "a negative length": b"POST /agents/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "a length beyond 64 bits": b"POST /agents/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    "a chunk size that is none": (b"POST /agents/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "a chunk size beyond 64 bits": (
        b"POST /agents/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n"
    ),
    "another protocol's version": b"GET /livez HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "bytes beyond ASCII in the path": "GET /agents/é HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
    "only line ends": b"\r\n" * 50 + b"\x00",
}


@pytest.mark.parametrize("request_", NO_HTTP.values(), ids=NO_HTTP.keys())
async def test_what_is_no_http_is_a_problem_and_the_end_of_the_connection(gateway: Served, request_: bytes) -> None:
    answer = await everything(gateway.port, request_)
    assert statuses(answer) in ([400], [408], [404], [505])
    assert problem_in(answer)["status"] == statuses(answer)[0]
    assert b"server:" not in answer.lower()
    assert b"uvicorn" not in answer.lower()
    await still_serves(gateway)


async def test_without_a_host_there_is_no_answer_but_a_refusal(gateway: Served) -> None:
    answer = await everything(gateway.port, b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert statuses(answer) in ([400], [421])


# --- bodies -----------------------------------------------------------------------------------------------------------

BODIES: dict[str, tuple[bytes, set[int]]] = {
    "invalid UTF-8": (b'{"text": "\xff\xfe"}', {400}),
    "a lone surrogate": (b'{"text": "\\ud800"}', {400}),
    "an escaped null": (b'{"text": "a\\u0000b"}', {200}),
    "a raw null": (b'{"text": "a\x00b"}', {400}),
    "nothing but nulls": (b"\x00" * 64, {400}),
    "deeply nested": (b'{"text":' + b"[" * 100_000 + b"]" * 100_000 + b"}", {400, 422}),
    "deeply nested objects": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, {400, 422}),
    "the same key twice": (b'{"text": "one", "text": "two"}', {200}),
    "a number beyond 64 bits": (b'{"text": 123456789012345678901234567890}', {422}),
    "a number of a million digits": (b'{"text": ' + b"9" * 1_000_000 + b"}", {400, 422}),
    "an exponent beyond doubles": (b'{"text": 1e999}', {400, 422}),
    "NaN": (b'{"text": NaN}', {400}),
    "Infinity": (b'{"text": -Infinity}', {400}),
    "a byte order mark": (b'\xef\xbb\xbf{"text": "x"}', {400, 200}),
    "UTF-16": ('{"text": "x"}'.encode("utf-16"), {400}),
    "something after the end": (b'{"text": "x"} {"text": "y"}', {400}),
    "a comma too many": (b'{"text": "x",}', {400}),
    "single quotes": (b"{'text': 'x'}", {400}),
    "a prototype": (b'{"__proto__": {"text": "x"}, "text": "y"}', {200, 422}),
    "very many members": (b"{" + b",".join(b'"k%d":1' % number for number in range(100_000)) + b"}", {422}),
}


@pytest.mark.parametrize("framing", ["by length", "in chunks"])
@pytest.mark.parametrize(("body", "allowed"), BODIES.values(), ids=BODIES.keys())
async def test_odd_json_is_answered_by_the_contract_or_refused(
    gateway: Served, body: bytes, allowed: set[int], framing: str
) -> None:
    if framing == "in chunks":
        lines = ("Content-Type: application/json", "Transfer-Encoding: chunked")
        pieces = [body[at : at + 65_536] for at in range(0, len(body), 65_536)]
        sent = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        lines, sent = ("Content-Type: application/json", f"Content-Length: {len(body)}"), body
    async with asyncio.timeout(20):
        answer = await raw(gateway.port, head("POST", "/agents/echo", *lines) + sent)
    assert answer.status in allowed, answer
    if answer.status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
    assert b"Traceback" not in answer.body
    await still_serves(gateway)


# --- all of it, at a real process -------------------------------------------------------------------------------------


def test_a_server_that_was_abused_for_long_has_its_memory_and_serves_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "portico", "serve", str(DEMO), "--port", "0", "--log-level", "error"]
    env = environment({"PORTICO_READ_TIMEOUT": "0.5"})
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r":(\d+)", server.stdout.readline().split("serves", 1)[1])
            assert found is not None
            port = int(found[1])
            abuse = [*NO_HTTP.values(), WHOLE[:-3], WHOLE[:40], WHOLE + b"rubbish", head("GET", "/livez", "X: " + "x" * 70_000)]
            abuse += [
                head("POST", "/agents/echo", "Content-Type: application/json", f"Content-Length: {len(body)}") + body
                for body, _ in BODIES.values()
                if len(body) < 200_000
            ]

            def once() -> None:
                for request in abuse:
                    with socket.create_connection(("127.0.0.1", port), 10) as one:
                        try:
                            one.sendall(request)
                        except OSError:
                            continue

            for _ in range(20):
                once()
            first = resident(server.pid)
            for _ in range(60):
                once()
            httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=20).raise_for_status()
            assert resident(server.pid) < first + 16 * 1024, "KiB"
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                assert client.post("/agents/echo", json={"text": "still here"}).json() == {"echo": "still here"}
        finally:
            server.kill()


def resident(pid: int) -> int:
    """KiB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])
