"""A syslog server gets each entry as one message of RFC 5424, over whatever it listens on."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.audit.chain import shown
from portico.audit.syslog import SyslogSink
from portico.errors import ConfigurationError
from tests.app.certificates import HERE, Authority
from tests.audit.entries import a_chain, an_entry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio

NASTY = 'a"b\\c]d\ne\u2028\x7f\x1b[31m'
CHAIN = a_chain(an_entry(1), an_entry(2, agent=NASTY, outcome="agent-crashed", action="own action"), an_entry(3))
MESSAGE = re.compile(
    rb'<(\d+)>1 (\S+) (\S+) portico (\d+) (\S+) (\[portico@32473(?: [a-z_]+="(?:[^"\\\]]|\\["\\\]])*")*\]) (\{[ -~]*\})'
)


def check(messages: list[bytes]) -> None:
    """Each is one entry of the chain, in order."""
    assert len(messages) == len(CHAIN)
    for message, sealed in zip(messages, CHAIN, strict=True):
        found = MESSAGE.fullmatch(message)
        assert found is not None, message
        assert json.loads(found[7]) == shown(sealed)
        assert found[2].decode() == shown(sealed)["at"]
    assert messages[0].startswith(b"<109>1 2027-01-15T08:00:01.000000Z ")  # log audit, notice
    assert messages[1].startswith(b"<108>1 ")  # warning
    assert b" own_action [" in messages[1]
    assert rb'agent="a\"b\\c\]d\\ne' in messages[1]
    assert b'seq="2"' in messages[1]


class Lines:
    """A server of a stream that keeps what it is sent, by the length before each message."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.connections = 0
        self.news = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writer = writer
        try:
            while True:
                length = int(await reader.readuntil(b" "))
                self.messages.append(await reader.readexactly(length))
                self.news.set()
        except asyncio.IncompleteReadError:
            writer.close()

    async def until(self, count: int) -> None:
        while len(self.messages) < count:
            self.news.clear()
            await self.news.wait()


@asynccontextmanager
async def streaming(**options: Any) -> AsyncGenerator[tuple[Lines, int]]:
    lines = Lines()
    with anyio.fail_after(20):
        server = await asyncio.start_server(lines.serve, "127.0.0.1", 0, **options)
        async with server:
            yield lines, server.sockets[0].getsockname()[1]
            lines.writer.close()


async def test_over_a_local_socket(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server, anyio.fail_after(10):
        server.bind(str(path))
        sink = SyslogSink(f"unix://{path}")
        await sink.open()
        await sink.write(CHAIN)
        await sink.close()
        check([server.recv(65536) for _ in CHAIN])


async def test_over_udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, anyio.fail_after(10):
        server.bind(("127.0.0.1", 0))
        sink = SyslogSink(f"udp://127.0.0.1:{server.getsockname()[1]}")
        await sink.open()
        await sink.write(CHAIN)
        await sink.close()
        check([server.recv(65536) for _ in CHAIN])


async def test_over_tcp_and_again_after_the_server_has_closed_the_connection() -> None:
    async with streaming() as (lines, port):
        sink = SyslogSink(f"tcp://127.0.0.1:{port}")
        await sink.open()
        await sink.write(CHAIN[:1])
        await lines.until(1)
        lines.writer.close()
        while not sink._is_gone():  # noqa: ASYNC110  # pyright: ignore[reportPrivateUsage]  # it shows nowhere else
            await asyncio.sleep(0)
        await sink.write(CHAIN[1:])
        await lines.until(3)
        await sink.close()
        assert lines.connections == 2
        check(lines.messages)


async def test_a_server_that_hangs_is_left_and_what_it_has_not_taken_is_not_kept_for_it() -> None:
    class Hanging(Lines):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self.connections:
                await super().serve(reader, writer)
            else:
                self.connections, self.hangs, self.ends = 1, writer, asyncio.Event()
                await self.ends.wait()

    large = a_chain(*(an_entry(number, agent="x" * 1_000_000) for number in range(8)))  # more than sockets hold
    lines = Hanging()
    with anyio.fail_after(20):
        async with await asyncio.start_server(lines.serve, "127.0.0.1", 0) as server:
            sink = SyslogSink(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await sink.open()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await sink.write(large)
            await sink.write(CHAIN)
            await lines.until(3)
            await sink.close()
            lines.ends.set()
            lines.hangs.transport.abort()
            lines.writer.close()
    assert lines.connections == 2
    check(lines.messages)


async def test_over_tls_with_an_authority_of_its_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.signed("localhost", *HERE, file="server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    async with streaming(ssl=context) as (lines, port):
        stranger = SyslogSink(f"tls://localhost:{port}")
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            await stranger.open()
        sink = SyslogSink(f"tls://localhost:{port}", ca_cert=str(tmp_path / "authority.pem"))
        await sink.open()
        await sink.write(CHAIN)
        await lines.until(3)
        await sink.close()
        check(lines.messages)


async def test_where_nobody_listens_it_raises_and_goes_on_later(tmp_path: Path) -> None:
    path = tmp_path / "log"
    sink = SyslogSink(f"unix://{path}")
    with pytest.raises(OSError):  # whichever it is
        await sink.open()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        await sink.open()
    with pytest.raises(OSError):  # whichever it is
        await sink.write(CHAIN)
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        await sink.write(CHAIN)
        check([server.recv(65536) for _ in CHAIN])
    await sink.close()


@pytest.mark.parametrize(
    "address",
    ["", "unix:", "unix://host/dev/log", "http://host", "udp://", "udp://h:x", "tcp://h/path", "tls://u@h", "tcp://h:99999"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="syslog address"):
        SyslogSink(address)
