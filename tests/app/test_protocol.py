"""GatewayProtocol: a client that sends requests ahead of their answers, and one that leaves while they wait."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING

import anyio
import pytest

from portico.app.protocol import AHEAD, LATE, MAX_HEAD, PIECE, GatewayProtocol
from tests.app.serving import head, served
from tests.mcp_bridge.helpers import until
from tests.routes.agents import Echo, Slow

if TYPE_CHECKING:
    from tests.app.serving import Served

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

BODY = b'{"text": "hello"}'
ASK = head("POST", "/agents/echo", "Content-Type: application/json", f"Content-Length: {len(BODY)}") + BODY
WAIT = head("POST", "/agents/slow/wait", "Content-Length: 0")


def connections_of(gateway: Served) -> list[GatewayProtocol]:
    return [one for one in gateway.server.server_state.connections if isinstance(one, GatewayProtocol) and not one.silent]


@pytest.mark.parametrize("behind", [WAIT, ASK * 3, ASK[:50], ASK * 500], ids=len)
@pytest.mark.parametrize("accept", ["*/*", "text/event-stream", "application/jsonl"])
async def test_a_client_that_leaves_with_requests_behind_cancels_the_one_in_hand(accept: str, behind: bytes) -> None:
    slow = Slow("slow", expose=True)
    async with served(slow, Echo("echo", expose=True)) as gateway:
        client = socket.create_connection(("127.0.0.1", gateway.port))
        client.sendall(head("POST", "/agents/slow/wait", "Content-Length: 0", f"Accept: {accept}") + behind)
        await slow.began.wait()
        client.close()
        with anyio.fail_after(5):
            await slow.cancelled.wait()
        await until(lambda: gateway.gateway.dispatcher.in_flight == 0 and not gateway.gateway.face.streams)
        assert len(gateway.gateway.dispatcher.book.plain) == 1  # what waited was not begun


async def test_of_what_a_client_sends_ahead_little_is_taken_before_it_is_answered() -> None:
    slow = Slow("slow", expose=True)
    async with served(slow, Echo("echo", expose=True)) as gateway:
        with socket.create_connection(("127.0.0.1", gateway.port)) as client:
            client.sendall(WAIT)
            await slow.began.wait()
            client.setblocking(False)
            flood = ASK * 50_000
            with anyio.move_on_after(2):
                await asyncio.get_running_loop().sock_sendall(client, flood)
            [connection] = connections_of(gateway)
            assert len(connection.pipeline) <= PIECE // len(ASK) + 1
            assert len(connection._held) < AHEAD + 1024 * 1024  # pyright: ignore[reportPrivateUsage]  # one read may come above it
            assert connection.flow.read_paused
            slow.go_on.set()


async def test_all_that_is_sent_ahead_is_answered_in_its_order_however_it_is_cut() -> None:
    def ask(number: int) -> bytes:
        text = f"{number} {'x' * (number % 300)}"
        body = b'{"text": "%s"}' % text.encode()
        lines = ("Content-Type: application/json", f"Content-Length: {len(body)}")
        return head("POST", "/agents/echo", *lines) + body

    count = 2000  # several times what a head may have, in one connection
    data = b"".join(map(ask, range(count)))
    assert len(data) > 4 * MAX_HEAD
    async with served(Echo("echo", expose=True), patience=60) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)

        async def send() -> None:
            for at in range(0, len(data), 10_007):
                writer.write(data[at : at + 10_007])
                await writer.drain()

        answers = b""
        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            while answers.count(b'{"echo"') < count:
                more = await reader.read(65536)
                assert more, answers[-500:]
                answers += more
        writer.close()
    assert re.findall(rb'\{"echo":"(\d+) x*"\}', answers) == [b"%d" % number for number in range(count)]


async def test_a_request_that_waits_for_its_turn_is_not_late() -> None:
    slow, patience = Slow("slow", expose=True), 0.2
    big = b'{"text": "%s"}' % (b"y" * 3 * PIECE)
    whole = head("POST", "/agents/echo", "Content-Type: application/json", f"Content-Length: {len(big)}") + big
    async with served(slow, Echo("echo", expose=True), read_timeout=patience) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(WAIT + whole + ASK[:30])  # the second in pieces, of the third only the beginning
        await slow.began.wait()
        await asyncio.sleep(4 * patience)  # the point of it: that nothing happens meanwhile
        slow.go_on.set()
        assert b'"done"' in await reader.readuntil(b'"done"')
        assert b"yyy" in await reader.readuntil(b'yyy"}')
        writer.close()


async def test_a_websocket_does_not_begin_while_a_request_before_it_is_in_hand() -> None:
    slow = Slow("slow", expose=True)
    upgrade = head(
        "GET",
        "/agents/slow/ws",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    async with served(slow) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(WAIT)
        await slow.began.wait()
        writer.write(upgrade)
        with anyio.fail_after(5):
            assert await reader.read() == b""
            await slow.cancelled.wait()
        writer.close()


async def test_a_stop_answers_what_a_client_has_sent_ahead_and_closes() -> None:
    slow, count = Slow("slow", expose=True), LATE // 2 // len(ASK)
    async with served(slow, Echo("echo", expose=True), patience=60) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(WAIT + ASK * count)
        await slow.began.wait()
        gateway.server.should_exit = True
        await gateway.gateway.face.drained.wait()
        slow.go_on.set()
        answers = await reader.read()
        writer.close()
    statuses = re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)
    assert len(statuses) == count + 1
    assert statuses[0] == b"200"
    assert set(statuses[1:]) == {b"503"}
    assert answers.count(b"connection: close") == 1
