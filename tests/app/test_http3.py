"""HTTP/3 through a real QUIC client, beside HTTP/1.1 on TCP."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.app.server import bind, check_server
from portico.app.settings import GatewayConfig
from portico.errors import ConfigurationError, MissingExtra
from tests.app.serving import served
from tests.routes.agents import Echo, Slow

pytest.importorskip("hypercorn", reason="pip install 'portico[http3]' to test HTTP/3")
pytest.importorskip("aioquic", reason="pip install 'portico[http3]' to test HTTP/3")

from aioquic.asyncio.client import connect  # pyright: ignore[reportUnknownVariableType]
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aioquic.quic.events import QuicEvent

    from tests.app.certificates import Authority, Pair
    from tests.app.serving import Served

pytestmark = pytest.mark.anyio


class Response:
    """What comes back on one stream."""

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.headers: dict[str, str] = {}
        self.body = b""
        self.changed = asyncio.Event()
        self.ended = False

    @property
    def status(self) -> int:
        return int(self.headers[":status"])

    async def whole(self) -> Response:
        """Until the end of the stream."""
        while not self.ended:
            self.changed.clear()
            await self.changed.wait()
        return self

    def json(self) -> Any:
        return json.loads(self.body)


class Client(QuicConnectionProtocol):
    """A small HTTP/3 client."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.responses: dict[int, Response] = {}
        self.ended: ConnectionTerminated | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            self.ended = event
            for response in self.responses.values():
                response.ended = True
                response.changed.set()
        for one in self.http.handle_event(event):
            if not isinstance(one, HeadersReceived | DataReceived):
                continue
            response = self.responses[one.stream_id]
            if isinstance(one, HeadersReceived):
                response.headers |= {name.decode(): value.decode() for name, value in one.headers}
            else:
                response.body += one.data
            response.ended = one.stream_ended
            response.changed.set()

    def begin(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        """Send a request."""
        stream = self._quic.get_next_available_stream_id()
        response = self.responses[stream] = Response(stream)
        pseudo = {":method": method, ":scheme": "https", ":authority": "localhost", ":path": path}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [(name.encode(), value.encode("latin-1")) for name, value in (pseudo | named).items()]
        self.http.send_headers(stream, lines, end_stream=not body)
        if body:
            self.http.send_data(stream, body, end_stream=True)
        self.transmit()
        return response

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        """A request, and its whole response."""
        return await self.begin(method, path, body, **headers).whole()

    def reset(self, response: Response) -> None:
        """Give a request up."""
        self._quic.reset_stream(response.stream, ErrorCode.H3_REQUEST_CANCELLED)
        self._quic.stop_stream(response.stream, ErrorCode.H3_REQUEST_CANCELLED)
        self.transmit()


@asynccontextmanager
async def speaking(authority: Authority, port: int) -> AsyncGenerator[Client]:
    """A client of a gateway."""
    about = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="localhost")
    about.load_verify_locations(authority.cert)
    async with connect("127.0.0.1", port, configuration=about, create_protocol=Client) as client:
        assert isinstance(client, Client)
        yield client


@asynccontextmanager
async def both(authority: Authority, pair: Pair, *agents: Any, **more: Any) -> AsyncGenerator[tuple[Served, Client]]:
    """A gateway that speaks both, and a client of HTTP/3 that came by its `Alt-Svc`."""
    settings: dict[str, Any] = {"tls_cert": pair.cert, "tls_key": pair.key, "enable_http3": True, **more}
    async with served(*agents, trust=authority.trusting(), **settings) as one:
        told = (await one.client.get("/livez")).headers["alt-svc"]
        port = int(told.removeprefix('h3=":').partition('"')[0])
        assert told == f'h3=":{port}"; ma=86400'
        async with speaking(authority, port) as client:
            yield one, client


async def test_a_client_of_tcp_is_told_of_http3_and_asks_there(authority: Authority, pair: Pair) -> None:
    async with both(authority, pair, Echo("echo")) as (one, client):
        response = await client.ask("POST", "/agents/echo", b'{"text": "over QUIC"}', content_type="application/json")

        assert (response.status, response.json()) == (200, {"echo": "over QUIC"})
        assert response.headers["x-request-id"]
        assert response.headers["strict-transport-security"]
        assert "server" not in response.headers
        assert (await one.client.get("/livez")).headers["alt-svc"] == f'h3=":{one.port}"; ma=86400'


async def test_the_port_can_be_another(authority: Authority, pair: Pair) -> None:
    async with both(authority, pair, Echo("echo"), port_quic=0) as (_, client):
        assert (await client.ask("GET", "/livez")).json() == {"status": "ok"}


async def test_the_guards_are_the_same(authority: Authority, pair: Pair) -> None:
    async with both(authority, pair, Echo("echo"), api_key="secret") as (_, client):
        right = "Bearer secret"
        assert (await client.ask("GET", "/agents")).status == 401
        assert (await client.ask("GET", "/agents", authorization=right)).status == 200
        assert (await client.ask("GET", "/agents", authorization=right, origin="https://evil.example")).status == 403
        wrong = await client.ask("GET", "/nowhere", authorization=right)
        assert (wrong.status, wrong.json()["type"]) == (404, "/problems/not-found")


async def test_large_bodies_come_whole_or_are_refused(authority: Authority, pair: Pair) -> None:
    async with both(authority, pair, Echo("echo"), body_limit=300_000) as (_, client):
        text = "x" * 200_000
        response = await client.ask("POST", "/agents/echo", json.dumps({"text": text}).encode(), content_type="application/json")
        assert response.json() == {"echo": text}

        refused = await client.ask("POST", "/agents/echo", b"x" * 600_000, content_type="application/json")
        assert refused.status == 413
        assert (await client.ask("GET", "/livez")).status == 200


async def test_many_requests_share_one_connection(authority: Authority, pair: Pair) -> None:
    async with both(authority, pair, Echo("echo")) as (_, client):
        bodies = [json.dumps({"text": str(number)}).encode() for number in range(50)]
        responses = [client.begin("POST", "/agents/echo", body, content_type="application/json") for body in bodies]
        assert [(await one.whole()).json() for one in responses] == [{"echo": str(number)} for number in range(50)]


async def test_what_is_no_request_harms_nobody(authority: Authority, pair: Pair) -> None:
    async with both(authority, pair, Echo("echo")) as (one, client):
        assert (await client.ask("CONNECT", "/agents/echo")).status == 400
        assert (await client.ask("GET", "/agents/\xe9")).status == 400
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for junk in (b"", b"\x00", b"\xff" * 1300, b"\xc0\x00\x00\x00\x01" + b"\x08" * 1300):
                stranger.sendto(junk, ("127.0.0.1", one.port))
        assert (await client.ask("GET", "/livez")).status == 200


async def test_who_gives_a_request_up_cancels_it(authority: Authority, pair: Pair) -> None:
    async with both(authority, pair, Slow("slow", expose=True)) as (one, client):
        given_up = client.begin("POST", "/agents/slow/wait")
        await waiting(one).began.wait()
        client.reset(given_up)
        await waiting(one).cancelled.wait()
        assert (await client.ask("GET", "/livez")).status == 200


async def test_who_ends_the_connection_cancels_its_requests(authority: Authority, pair: Pair) -> None:
    async with both(authority, pair, Slow("slow", expose=True)) as (one, client):
        async with speaking(authority, one.port) as leaving:
            leaving.begin("POST", "/agents/slow/wait")
            await waiting(one).began.wait()
        await waiting(one).cancelled.wait()
        assert (await client.ask("GET", "/livez")).status == 200


def waiting(one: Served) -> Slow:
    """The agent that waits to be told to go on."""
    found = one.runtime.get_agent("slow")
    assert isinstance(found, Slow)
    return found


async def test_what_is_in_flight_is_answered_before_the_end(authority: Authority, pair: Pair) -> None:
    async with both(authority, pair, Slow("slow", expose=True)) as (one, client):
        asked = client.begin("POST", "/agents/slow/wait")
        await waiting(one).began.wait()
        one.server.should_exit = True
        await one.gateway.face.drained.wait()
        waiting(one).go_on.set()
        assert (await asked.whole()).status == 200
        await client.wait_closed()
        assert client.ended is not None
        assert client.ended.error_code == ErrorCode.H3_NO_ERROR


async def test_a_drain_has_an_end(authority: Authority, pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with both(authority, pair, Slow("slow", expose=True), drain_timeout=1.0) as (one, client):
        client.begin("POST", "/agents/slow/wait")
        await waiting(one).began.wait()
        one.server.should_exit = True
        with anyio.fail_after(15):
            await client.wait_closed()


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_without_the_extra_its_install_line_is_told(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    monkeypatch.setitem(sys.modules, "portico.app.http3", None)
    with pytest.raises(MissingExtra, match=r"pip install 'portico\[http3\]'"):
        check_server(GatewayConfig(tls_cert=pair.cert, tls_key=pair.key, enable_http3=True))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"enable_http3": True}, "enable_http3 needs TLS"),
        ({"port_quic": 1}, "enable_http3 is not"),
        ({"enable_http3": True, "tls_cert": "a", "tls_key": "b", "port_quic": 65536}, "port_quic is 65536"),
        (
            {"enable_http3": True, "tls_cert": "a", "tls_key": "b", "tls_ca_cert": "c", "client_cert_mode": "required"},
            "cannot be had together",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        GatewayConfig(**settings)


async def test_a_udp_port_that_is_taken_is_a_sentence(pair: Pair) -> None:
    from portico.app.server import bind_quic

    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        settings = GatewayConfig(port=0, tls_cert=pair.cert, tls_key=pair.key, enable_http3=True, port_quic=port)
        with bind(settings), pytest.raises(ConfigurationError, match=f"The UDP port {port} of 127.0.0.1 is taken"):
            bind_quic(settings, 1)
