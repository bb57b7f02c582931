"""TLS through real sockets: what is spoken, which files are refused, and who a client's certificate speaks for."""

from __future__ import annotations

import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography import x509
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from portico.app.peer_protocol import peer_name
from portico.app.server import GatewayServer, bind, check_server
from portico.app.settings import GatewayConfig
from portico.auth.shared_key import SHARED
from portico.errors import ConfigurationError
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context  # type hints become contracts
from portico.operations.decorators import operation
from portico.routes.exchange import PEER
from tests.app.certificates import HERE, HOUR, Authority, Pair
from tests.app.serving import is_problem, raw, served
from tests.routes.agents import Echo

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

pytestmark = pytest.mark.anyio


class TellPeer:
    """Answers every request with who the client's certificate speaks for."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": repr(scope.get(PEER)).encode()})


def config(pair: Pair, **more: Any) -> GatewayConfig:
    return GatewayConfig(port=0, tls_cert=pair.cert, tls_key=pair.key, **more)


# --- what is spoken ---------------------------------------------------------------------------------------------------


async def test_an_ask_comes_by_tls_and_the_browser_is_told_to_stay(authority: Authority, pair: Pair) -> None:
    async with served(Echo("echo"), trust=authority.trusting(), tls_cert=pair.cert, tls_key=pair.key) as one:
        response = await one.client.post("/agents/echo", json={"text": "a"})

    assert response.json() == {"echo": "a"}
    assert response.headers["strict-transport-security"] == "max-age=31536000"


async def test_without_tls_nothing_is_said_of_it() -> None:
    async with served(Echo("echo")) as one:
        assert "strict-transport-security" not in (await one.client.get("/livez")).headers


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_two_versions_of_today_are_spoken(authority: Authority, pair: Pair, version: ssl.TLSVersion) -> None:
    trust = authority.trusting()
    trust.minimum_version = trust.maximum_version = version
    async with served(Echo("echo"), trust=trust, tls_cert=pair.cert, tls_key=pair.key) as one:
        assert (await one.client.get("/livez")).status_code == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
async def test_older_versions_are_not_spoken_even_to_who_insists(authority: Authority, pair: Pair) -> None:
    trust = authority.trusting()
    trust.minimum_version = trust.maximum_version = ssl.TLSVersion.TLSv1_1
    trust.set_ciphers("ALL:@SECLEVEL=0")
    async with served(Echo("echo"), trust=trust, tls_cert=pair.cert, tls_key=pair.key) as one:
        with pytest.raises(httpx.ConnectError):
            await one.client.get("/livez")


async def test_plain_http_on_a_tls_port_is_no_answer_and_others_are_served_on(authority: Authority, pair: Pair) -> None:
    async with served(Echo("echo"), trust=authority.trusting(), tls_cert=pair.cert, tls_key=pair.key) as one:
        with pytest.raises((EOFError, ConnectionError)):
            await raw(one.port, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await one.client.get("/livez")).status_code == 200


# --- files that cannot be ---------------------------------------------------------------------------------------------


def test_a_pair_that_can_be_is_passed(pair: Pair) -> None:
    check_server(config(pair))


def refused(settings: GatewayConfig) -> str:
    """The sentence with which the server refuses its settings; the check says the same."""
    with pytest.raises(ConfigurationError) as checked:
        check_server(settings)
    app: Any = None  # it is not come to
    with bind(settings) as listener, pytest.raises(ConfigurationError) as started:
        GatewayServer(app, settings, listener)
    assert checked.value.detail == started.value.detail
    return checked.value.detail


def test_a_key_with_a_password_is_refused_with_the_way_out(authority: Authority) -> None:
    locked = authority.signed("localhost", *HERE, password=b"secret")

    text = refused(config(locked))
    assert "the key has a password" in text
    assert f"openssl pkey -in {locked.key}" in text


def test_the_key_of_another_certificate_is_refused(authority: Authority, pair: Pair) -> None:
    other = authority.signed("localhost", *HERE, file="other")

    assert refused(config(replace(pair, key=other.key))).endswith("the key belongs to another certificate.")


def test_a_certificate_that_has_expired_is_refused_with_the_day(authority: Authority) -> None:
    assert "the certificate has expired, on 20" in refused(
        config(authority.signed("localhost", *HERE, begins=-3 * HOUR, ends=-HOUR))
    )


def test_a_certificate_of_tomorrow_is_refused(authority: Authority) -> None:
    assert "is not valid before 20" in refused(config(authority.signed("localhost", *HERE, begins=HOUR, ends=2 * HOUR)))


def test_files_in_the_wrong_place_are_told_apart(tmp_path: Path, pair: Pair) -> None:
    other = tmp_path / "other.txt"
    other.write_text("no PEM")

    assert refused(config(Pair(pair.key, pair.cert))).endswith("server-key.pem holds no certificate in PEM form.")
    assert refused(config(replace(pair, key=pair.cert))).endswith("server-cert.pem holds no private key in PEM form.")
    assert refused(config(replace(pair, key=str(other)))).endswith("other.txt holds no private key in PEM form.")
    assert "it holds no certificate in PEM form" in refused(config(pair, client_cert_mode="optional", tls_ca_cert=str(other)))
    assert "No such file" in refused(config(pair, client_cert_mode="optional", tls_ca_cert=str(tmp_path / "none.pem")))
    assert "Is a directory" in refused(config(replace(pair, cert=str(tmp_path))))


def test_a_damaged_certificate_is_refused(tmp_path: Path, pair: Pair) -> None:
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")

    assert "one of them is damaged" in refused(config(replace(pair, cert=str(damaged))))


def test_an_authority_that_has_expired_is_refused(authority: Authority, pair: Pair) -> None:
    old = authority.signed("old", begins=-3 * HOUR, ends=-HOUR, file="old").cert

    assert f"tls_ca_cert {old} cannot be used: the certificate has expired" in refused(
        config(pair, client_cert_mode="required", tls_ca_cert=old)
    )


# --- certificates of clients ------------------------------------------------------------------------------------------


def wanting(pair: Pair, authority: Authority, mode: str) -> dict[str, Any]:
    return {"tls_cert": pair.cert, "tls_key": pair.key, "tls_ca_cert": authority.cert, "client_cert_mode": mode}


async def test_who_must_show_a_certificate_and_has_none_is_not_let_in(authority: Authority, pair: Pair) -> None:
    async with served(Echo("echo"), trust=authority.trusting(), **wanting(pair, authority, "required")) as one:
        with pytest.raises(httpx.TransportError):
            await one.client.get("/livez")


async def test_the_certificate_of_another_authority_is_not_taken(tmp_path: Path, authority: Authority, pair: Pair) -> None:
    stranger = Authority(tmp_path, "stranger").signed("me", file="stranger-signed")
    for mode in ("optional", "required"):
        async with served(Echo("echo"), trust=authority.trusting(stranger), **wanting(pair, authority, mode)) as one:
            with pytest.raises(httpx.TransportError):
                await one.client.get("/livez")


async def test_a_client_certificate_that_has_expired_is_not_taken(authority: Authority, pair: Pair) -> None:
    old = authority.signed("me", begins=-3 * HOUR, ends=-HOUR, file="old")
    async with served(Echo("echo"), trust=authority.trusting(old), **wanting(pair, authority, "required")) as one:
        with pytest.raises(httpx.TransportError):
            await one.client.get("/livez")


@pytest.mark.parametrize("mode", ["optional", "required"])
@pytest.mark.parametrize(
    ("common_name", "names", "who"),
    [
        ("a common name", (), "a common name"),
        ("x", (x509.DNSName("a.example"), x509.DNSName("b.example")), "a.example"),
        ("x", (x509.DNSName("a.example"), x509.UniformResourceIdentifier("spiffe://example/billing")), "spiffe://example/billing"),
        ("x", (x509.RFC822Name("me@a.example"),), "x"),
    ],
)
async def test_the_server_knows_who_has_shown_one(
    authority: Authority, pair: Pair, mode: str, common_name: str | None, names: tuple[x509.GeneralName, ...], who: str
) -> None:
    client = authority.signed(common_name, *names, file="client")
    settings = wanting(pair, authority, mode)
    async with served(Echo("echo"), trust=authority.trusting(client), middleware=[TellPeer], **settings) as one:
        for _ in range(2):  # the second on the same connection
            assert (await one.client.get("/")).text == repr(who)


async def test_a_certificate_without_a_name_is_nobodys(authority: Authority, pair: Pair) -> None:
    trust = authority.trusting(authority.signed(None, x509.RFC822Name("me@a.example"), file="client"))
    async with served(Echo("echo"), trust=trust, **wanting(pair, authority, "required")) as one:
        is_problem(await one.client.get("/agents"), 401, "unauthenticated")


async def test_who_need_not_show_one_needs_a_key(authority: Authority, pair: Pair) -> None:
    settings = wanting(pair, authority, "optional")
    async with served(Echo("echo"), trust=authority.trusting(), api_key="secret", **settings) as one:
        is_problem(await one.client.get("/agents"), 401, "unauthenticated")
        assert (await one.client.get("/livez")).status_code == 200
        assert (await one.client.get("/agents", headers={"authorization": "Bearer secret"})).status_code == 200


class Caller(AgentProcess):
    """Says who calls."""

    @operation
    async def who(self, ctx: Context) -> str:
        return str(ctx.principal)

    @operation(scopes=["billing"])
    async def bill(self) -> str:
        return "billed"


async def test_who_has_shown_one_is_the_principal_with_the_scopes_of_the_settings(authority: Authority, pair: Pair) -> None:
    trust = authority.trusting(authority.signed("x", x509.DNSName("billing.example"), file="client"))
    for scopes, status in (((), 403), (("billing",), 200)):
        settings: dict[str, Any] = {**wanting(pair, authority, "required"), "client_cert_scopes": scopes}
        async with served(Caller("caller"), trust=trust, **settings) as one:
            assert (await one.client.post("/agents/caller/who")).json() == "billing.example"
            assert (await one.client.post("/agents/caller/bill")).status_code == status
            wrong = await one.client.get("/agents", headers={"authorization": "Bearer wrong"})
            is_problem(wrong, 401, "unauthenticated")


async def test_a_page_of_another_origin_cannot_use_its_visitors_certificate(authority: Authority, pair: Pair) -> None:
    trust = authority.trusting(authority.signed("me", file="client"))
    settings: dict[str, Any] = {"host": "0.0.0.0", "cors_origins": ("https://app.example",), **wanting(pair, authority, "optional")}
    async with served(Echo("echo"), trust=trust, **settings) as one:
        own = f"https://127.0.0.1:{one.port}"

        async def asked(origin: str) -> httpx.Response:
            return await one.client.post("/agents/echo", json={"text": "a"}, headers={"origin": origin})

        for origin in ("https://evil.example", "null", "https://127.0.0.1", f"https://127.0.0.1:{one.port}.evil.example"):
            is_problem(await asked(origin), 403, "foreign-host")
            with pytest.raises(InvalidStatus) as refusal:
                async with connect(f"wss://127.0.0.1:{one.port}/agents/echo/ws", ssl=trust, origin=Origin(origin), proxy=None):
                    pass
            assert refusal.value.response.status_code == 403
        for origin in (own, "https://app.example"):
            assert (await asked(origin)).status_code == 200
        assert (await one.client.get("/livez", headers={"host": "any.example"})).status_code == 200


async def test_no_certificate_speaks_for_who_has_the_shared_key(authority: Authority, pair: Pair) -> None:
    trust = authority.trusting(authority.signed(SHARED.name, file="client"))
    async with served(Echo("echo"), trust=trust, api_key="secret", **wanting(pair, authority, "required")) as one:
        is_problem(await one.client.get("/runs"), 401, "unauthenticated")
        assert (await one.client.get("/runs", headers={"authorization": "Bearer secret"})).status_code == 200


async def test_where_nobody_is_asked_nobody_is_known(authority: Authority, pair: Pair) -> None:
    trust = authority.trusting(authority.signed("me", file="client"))
    async with served(Echo("echo"), trust=trust, middleware=[TellPeer], tls_cert=pair.cert, tls_key=pair.key) as one:
        assert (await one.client.get("/")).text == "None"


def test_a_certificate_without_a_name_speaks_for_nobody() -> None:
    assert peer_name(None) is None
    assert peer_name({}) is None
    assert peer_name({"subject": ((("commonName", ""),),)}) is None


@pytest.mark.parametrize("mode", ["optional", "required"])
async def test_certificates_are_as_good_as_a_key_for_an_address_that_others_reach(
    authority: Authority, pair: Pair, mode: str
) -> None:
    settings: dict[str, Any] = {"host": "0.0.0.0", "allowed_hosts": ("127.0.0.1",), **wanting(pair, authority, mode)}
    GatewayConfig(**settings).refuse_exposure()
    trust = authority.trusting(authority.signed("me", file="client"))
    async with served(Echo("echo"), trust=trust, **settings) as one:
        assert (await one.client.post("/agents/echo", json={"text": "a"})).json() == {"echo": "a"}
