"""Remote servers that want OAuth: tokens are fetched, kept encrypted, refreshed, and in nobody's sight; a discovery has walls."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import stat
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from portico.errors import ConfigurationError, MCPServerUnavailable
from portico.mcp_bridge.authorization import AuthorizationSettings
from portico.mcp_bridge.calling.discovery_guard import CLOSED, DiscoveryGuard
from portico.mcp_bridge.calling.logging_in import log_in
from portico.mcp_bridge.calling.sealed_file import SealedFile
from portico.mcp_bridge.config import MCPServerConfig
from tests.mcp_bridge.calling.authorization_server import Authorities, authorities
from tests.mcp_bridge.helpers import free_port, serving, upstreams

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from starlette.requests import Request

pytestmark = pytest.mark.anyio


def guarded(known: Authorities, kept_in: Path | None = None, /, **auth: Any) -> MCPServerConfig:
    return MCPServerConfig("guarded", transport="streamable_http", url=known.url, auth=auth, state_dir=kept_in)


async def treasure(config: MCPServerConfig) -> str:
    with anyio.fail_after(30):
        async with upstreams(config) as tools:
            return await tools.get("mcp://guarded/secret").execute()


async def refusal(config: MCPServerConfig) -> str:
    """Why a server is not connected."""
    with anyio.fail_after(40):
        async with upstreams() as tools:
            with pytest.raises(MCPServerUnavailable) as refused:
                await tools.connect_mcp(config)
            return str(refused.value)


def browser(address: str) -> asyncio.Task[None]:
    """Somebody who opens the address, and is sent back."""

    async def follow() -> None:
        async with httpx.AsyncClient(follow_redirects=True) as client:
            assert "close this page" in (await client.get(address)).text

    return asyncio.get_running_loop().create_task(follow())  # it ends with the login that waits for it


def files_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


async def logged_in(config: MCPServerConfig) -> int:
    tasks: list[asyncio.Task[None]] = []
    with anyio.fail_after(30):
        count = await log_in(config, lambda address: tasks.append(browser(address)), 20)
        await asyncio.gather(*tasks)
    return count


# --- client credentials -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_client_credentials_fetch_a_token_for_the_issuer_they_are_for(method: str) -> None:
    async with authorities() as known:
        auth: dict[str, Any] = {
            "type": "client_credentials",
            "client_id": "me",
            "client_secret": "secret-of-mine",
            "method": method,
        }
        assert await treasure(guarded(known, issuer=known.issuer, **auth)) == "the treasure"
        assert known.seen[0]["resource"] == known.url
        said = await refusal(guarded(known, issuer="http://127.0.0.1:1", **auth))
        assert "not authorised" in said
        assert "secret-of-mine" not in said


async def test_client_can_sign_with_its_key_instead_of_a_secret() -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    async with authorities(key=key.public_key()) as known:
        config = guarded(known, type="client_credentials", client_id="me", private_key=pem, issuer=known.issuer)
        assert await treasure(config) == "the treasure"
        assert pem not in repr(config) + repr(config.authorization)


async def test_token_of_the_platform_is_exchanged_and_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("token-of-the-platform\n")
    async with authorities() as known:
        auth: dict[str, Any] = {"type": "workload", "client_id": "me", "assertion_file": str(file), "issuer": known.issuer}
        assert await treasure(guarded(known, **auth)) == "the treasure"
        file.write_text("another one")
        assert "refused the platform's token (400)" in await refusal(guarded(known, **auth))


async def test_many_calls_at_once_fetch_one_token_and_a_lost_one_is_fetched_again() -> None:
    async with authorities() as known:
        auth: dict[str, Any] = {"type": "client_credentials", "client_id": "me", "client_secret": "secret-of-mine"}
        auth["issuer"] = known.issuer
        with anyio.fail_after(30):
            async with upstreams(guarded(known, **auth)) as tools:
                tool = tools.get("mcp://guarded/secret")
                assert set(await asyncio.gather(*(tool.execute() for _ in range(10)))) == {"the treasure"}
                assert len(known.seen) == 1
                known.tokens.clear()
                assert await tool.execute() == "the treasure"
                assert len(known.seen) == 2


# --- authorisation code -----------------------------------------------------------------------------------------------


async def test_login_keeps_encrypted_tokens_that_the_gateway_uses_and_refreshes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with authorities() as known:
        config = guarded(known, tmp_path, type="authorization_code")
        said = await refusal(config)
        assert "nobody is logged in there: portico mcp-login guarded" in said
        assert known.registered == 0
        assert await logged_in(config) == 1
        assert await treasure(config) == "the treasure"
        files = files_in(tmp_path)
        assert {path.name for path in files} >= {"guarded", "key"}
        assert b"secret-" not in b"".join(path.read_bytes() for path in files)
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        # A later life of the program: the token has ended, and is refreshed without anybody.
        held = SealedFile(config).read()
        known.tokens.clear()
        SealedFile(config).write({**held, "ends_at": 1.0})
        assert await treasure(config) == "the treasure"
        assert [one["grant_type"] for one in known.seen] == ["authorization_code", "refresh_token"]
        assert known.registered == 1
        # Nobody can refresh any more: somebody has to log in, and the gateway says so.
        SealedFile(config).write({**held, "ends_at": 1.0})
        assert "portico mcp-login guarded" in await refusal(config)
        assert await logged_in(config) == 1
    told = caplog.text + said + repr(config)
    assert "secret-token" not in told
    assert "secret-refresh" not in told


async def test_login_uses_a_client_metadata_document_where_there_is_one(tmp_path: Path) -> None:
    async with authorities() as known:
        cimd = "https://portico.example/client.json"
        assert await logged_in(guarded(known, tmp_path, type="authorization_code", client_metadata_url=cimd)) == 1
        assert known.registered == 0
        assert known.seen[0]["client_id"] == cimd


async def test_only_an_answer_with_the_state_of_the_login_counts(tmp_path: Path) -> None:
    statuses: list[int] = []

    async def attacked(address: str) -> None:
        back = re.search(r"redirect_uri=([^&]+)", address)
        assert back is not None
        callback = httpx.URL("http://x/?" + "u=" + back[1]).params["u"]
        async with httpx.AsyncClient() as client:
            queries = ("?code=evil&state=wrong", "?code=evil", "?error=access_denied", "/../x")
            statuses.extend([(await client.get(callback + query)).status_code for query in queries])
        await browser(address)

    async with authorities() as known, asyncio.TaskGroup() as tasks:
        config = guarded(known, tmp_path, type="authorization_code")

        def show(address: str) -> None:
            tasks.create_task(attacked(address))

        with anyio.fail_after(30):
            assert await log_in(config, show, 20) == 1
        assert statuses[:3] == [400, 400, 400]
        assert statuses[3] == 404


async def test_login_ends_where_nobody_comes_or_the_server_refuses(tmp_path: Path) -> None:
    async with authorities() as known:
        config = guarded(known, tmp_path, type="authorization_code")
        with pytest.raises(MCPServerUnavailable, match="nobody has logged in within"):
            await log_in(config, lambda _: None, 0.2)
        known.broken = True
        with pytest.raises(MCPServerUnavailable) as failed:
            await logged_in(config)
        assert "not authorised" in str(failed.value)
        assert "code_verifier" not in str(failed.value)


async def test_mcp_login_is_a_command(tmp_path: Path) -> None:
    async with authorities() as known:
        topology = tmp_path / "portico.yaml"
        server = {"name": "guarded", "url": known.url, "auth": {"type": "authorization_code"}}
        mcp = {"servers": [server], "secret_key": "a key that is long enough"}
        document: dict[str, Any] = {"store": {"type": "sqlite", "path": "data"}, "supervision": {"children": []}, "mcp": mcp}
        topology.write_text(json.dumps(document))
        with anyio.fail_after(50):
            program = await anyio.open_process(
                [sys.executable, "-m", "portico", "mcp-login", "guarded", str(topology), "--no-browser"]
            )
            async with program:
                assert program.stdout is not None
                address = (await program.stdout.receive()).decode().strip()
                await browser(address)
                assert await program.wait() == 0
        assert (tmp_path / "data" / "mcp" / "tokens" / "guarded").exists()
        assert not (tmp_path / "data" / "mcp" / "key").exists()


# --- at rest ----------------------------------------------------------------------------------------------------------


def sealed(state: Path, **options: Any) -> SealedFile:
    defaults: dict[str, Any] = {"url": "https://a.example/mcp", "transport": "streamable_http", "state_dir": state}
    return SealedFile(MCPServerConfig(options.pop("name", "a"), **{**defaults, **options}))


def test_sealed_file_opens_with_its_key_for_its_server_only(tmp_path: Path) -> None:
    sealed(tmp_path).write({"tokens": "t"})
    assert sealed(tmp_path).read() == {"tokens": "t"}
    (tmp_path / "tokens" / "b").write_bytes((tmp_path / "tokens" / "a").read_bytes())
    for other in ({"name": "b"}, {"url": "https://evil.example/mcp"}, {"secret_key": "another key"}):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            sealed(tmp_path, **other).read()
    whole = (tmp_path / "tokens" / "a").read_bytes()
    (tmp_path / "tokens" / "a").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        sealed(tmp_path).read()


@pytest.mark.parametrize(
    ("auth", "sentence"),
    [
        ({"type": "client_credential"}, "Did you mean 'client_credentials'?"),
        ({"type": "client_credentials", "client_id": "a", "client_secret": "b"}, "has no 'issuer'"),
        ({"type": "client_credentials", "client_id": "a", "issuer": "https://i.example"}, "one of both"),
        ({"type": "workload", "client_id": "a", "issuer": "http://i.example", "assertion_file": "/t"}, "not https"),
        ({"type": "authorization_code", "clientid": "a"}, "Did you mean 'client_id'?"),
        ({"type": "authorization_code", "client_metadata_url": "http://a.example/x"}, "begins with https"),
        ("token", "no mapping"),
    ],
)
def test_auth_that_cannot_be_is_refused_with_a_sentence(auth: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        MCPServerConfig("a", transport="streamable_http", url="https://a.example/mcp", auth=auth)
    with pytest.raises(ConfigurationError, match="not https"):
        MCPServerConfig("a", transport="streamable_http", url="http://a.example/mcp", auth={"type": "authorization_code"})


# --- the walls of a discovery -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://as.example/token",
        "https://127.0.0.1/token",
        "https://localhost/token",
        "https://169.254.169.254/latest",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://2130706433/",
    ],
)
async def test_discovery_of_a_remote_server_leads_to_nothing_internal_and_nothing_in_the_clear(url: str) -> None:
    guard = DiscoveryGuard("https://mcp.example/mcp", AuthorizationSettings("authorization_code"))
    passed = await guard.passed(httpx2.Request("GET", url))
    assert isinstance(passed, httpx2.Response)
    assert "its authorisation leads to" in passed.extensions[CLOSED]


async def test_discovery_leads_to_what_is_public_at_the_address_that_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 443))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    settings = AuthorizationSettings("authorization_code", issuer="https://issuer.example", trusted_hosts=["inside.example"])
    guard = DiscoveryGuard("https://mcp.example/mcp", settings)
    asked = httpx2.Request("POST", "https://as.example/token", data={"grant_type": "x"})
    passed = await guard.passed(asked)
    assert isinstance(passed, httpx2.Request)
    assert asked.url.host == "as.example"  # it is sent again where a proof wants a nonce (RFC 9449 §8)
    assert await passed.aread() == b"grant_type=x"
    assert (passed.url.host, passed.headers["host"], passed.extensions["sni_hostname"]) == (
        "93.184.216.34",
        "as.example",
        "as.example",
    )
    for url in ("https://mcp.example/x", "https://issuer.example/token", "https://inside.example/token"):
        assert isinstance(await guard.passed(httpx2.Request("GET", url)), httpx2.Request)


@asynccontextmanager
async def leading(to: str) -> AsyncGenerator[tuple[str, list[str]]]:
    """An MCP server whose metadata lead elsewhere, and which notes what reaches it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    seen: list[str] = []

    async def anything(request: Request) -> Response:
        seen.append(f"{request.method} {request.url.path} {request.headers.get('authorization', '')}")
        if request.url.path.startswith("/.well-known/oauth-protected-resource"):
            return JSONResponse({"resource": f"{url}/mcp", "authorization_servers": [to]})
        if request.url.path == "/mcp":
            challenge = f'Bearer resource_metadata="{url}/.well-known/oauth-protected-resource/mcp"'
            return Response(status_code=401, headers={"www-authenticate": challenge})
        return Response(status_code=307, headers={"location": f"{to}/elsewhere"})

    async with serving(Starlette(routes=[Route("/{path:path}", anything, methods=["GET", "POST", "DELETE"])]), port):
        yield f"{url}/mcp", seen


async def test_credentials_go_to_no_other_issuer_and_follow_no_redirect_to_another_origin() -> None:
    async with leading("http://127.0.0.1:9") as (url, _), leading("http://127.0.0.1:9") as (other, seen):
        issuer = other.removesuffix("/mcp")
        auth = {"type": "client_credentials", "client_id": "me", "client_secret": "secret-of-mine", "issuer": issuer}
        said = await refusal(MCPServerConfig("guarded", transport="streamable_http", url=url, auth=auth))
        assert "not authorised" in said
        assert not any("Basic" in line for line in seen)


async def test_discovery_that_leads_inside_is_told_and_nothing_reaches_what_is_there() -> None:
    async with leading("https://169.254.169.254") as (url, _):
        auth = {"type": "client_credentials", "client_id": "me", "client_secret": "x", "issuer": "https://elsewhere.example"}
        said = await refusal(MCPServerConfig("guarded", transport="streamable_http", url=url, auth=auth))
    assert "leads to '169.254.169.254', an address of this machine or of a network behind it" in said
